//! Joins and holds over HTTP on Redis and PostgreSQL, each beside a floor that answers as many bytes, in the same run and
//! from the same client; and what a queue weighs in Redis.
//!
//! `cargo bench --bench shared_nodes [-- memory|join|growth|hold|waiting ...]`; needs redis-server and PostgreSQL installed, and
//! starts its own. The client, the
//! house, Redis and PostgreSQL share the machine's cores, so a ratio says what the whole way costs. Rounds of the two
//! sides are interleaved; the ratio is that of the medians, beside the least and the most of the pairs.

mod holds;
mod house;
mod memory;
mod rounds;
mod waiting;

use std::{env, fs, time::Duration};

use stagedoor::{
    kernel::{Clock, Entropy, OsEntropy, SystemClock},
    platform::http_client::HttpClient,
    simulation::servers::{Postgres, RedisServer},
};

use self::{
    house::{Folder, floor, join, start_floor, start_house},
    rounds::{ROUND, compare},
};

const WORKERS: usize = 256;
/// Fans whom a sale declares, and who come: as many, and four times as many.
const DECLARED: u64 = 1_000_000;
const FLOOR: &str = "STAGEDOOR_BENCH_FLOOR";

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match env::var(FLOOR) {
        Ok(redis) => runtime.block_on(floor(&redis)),
        Err(_) if env::args().any(|arg| arg == "--test") => println!("nothing to test here: this only measures"),
        Err(_) => runtime.block_on(measure()),
    }
}

async fn measure() {
    let (redis, postgres) = match (RedisServer::start().await, Postgres::start().await) {
        (Ok(redis), Ok(postgres)) => (redis, postgres),
        (Err(error), _) | (_, Err(error)) => return println!("not measured: {error}"),
    };
    let folder = Folder(env::temp_dir().join(format!("stagedoor-bench-{:016x}", OsEntropy.below(u64::MAX))));
    fs::create_dir(&folder.0).expect("a folder for the run");
    let books = postgres.create_database("bench").await.expect("a database");
    println!("Redis: appendonly yes, appendfsync everysec; PostgreSQL: synchronous_commit on; {WORKERS} clients, rounds of {ROUND:?}");
    for (durability, file) in [("acknowledged", "acknowledged.toml"), ("journaled", "journaled.toml")] {
        fs::write(folder.0.join(file), config(&folder, durability, &redis.url(), &books)).expect("a file is written");
    }
    let client = HttpClient::new(Duration::from_secs(10), 32 << 20);
    let floor = start_floor(&redis.url(), &client).await;

    drop(start_house(&folder, "acknowledged.toml", &client).await);
    if asked("memory") || asked("growth") {
        for (sale, fans) in [("declared", DECLARED), ("fourfold", 4 * DECLARED)] {
            memory::fill(&books, sale, fans).await;
        }
        memory::weigh(&folder, &redis, &client).await;
    }
    for (durability, file) in [("acknowledged", "acknowledged.toml"), ("journaled", "journaled.toml")] {
        let house = start_house(&folder, file, &client).await;
        let bytes = join(&client, &house.base, "empty").await.len();
        let (bare, empty, fourfold) = (format!("/bare/{bytes}"), "/v1/sales/empty/queue", "/v1/sales/fourfold/queue");
        if asked("join") {
            compare(&format!("join, {durability}, over a bare route"), &client, (&house, empty), (&floor, &bare)).await;
        }
        if asked("growth") {
            compare(&format!("join, {durability}, 4,000,000 wait, over none"), &client, (&house, fourfold), (&house, empty)).await;
        }
    }
    if asked("hold") {
        let house = start_house(&folder, "journaled.toml", &client).await;
        holds::hold(&house, &floor, &client).await;
    }
    if asked("waiting") {
        let house = start_house(&folder, "journaled.toml", &client).await;
        for fans in [1_000, 10_000, 100_000] {
            waiting::wait(&house, fans, &client).await;
        }
    }
}

/// Whether this figure was named on the command line, or none was.
fn asked(figure: &str) -> bool {
    let mut named = env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
    named.peek().is_none() || named.any(|arg| arg == figure)
}

fn config(folder: &Folder, durability: &str, redis: &str, books: &str) -> String {
    let now = SystemClock::new().now();
    let (later, end) = (now.plus(Duration::from_hours(1)), now.plus(Duration::from_hours(3)));
    let dir = folder.0.display();
    let sale = |id: &str, opens: String, fans: u64| {
        format!(
            "[[sales]]\nid = \"{id}\"\ntitle = {{ en = \"Bench\" }}\nartist = \"Nobody\"\nsign_in = \"none\"\nprequeue_at = \"{now}\"\n\
             opens_at = \"{opens}\"\ncloses_at = \"{end}\"\nrate_per_minute = 60000\ncapacity = 5000\nmax_fans = {fans}\nseats_per_fan = 80\npass_life_s = 1200\n\
             [[sales.performances]]\nid = \"night\"\ntitle = {{ en = \"Night\" }}\nstarts_at = \"{end}\"\nvenue = \"Hall\"\n\
             plan = \"generate:arena:15000\"\nprices = {{ VIP = 4, R = 3, S = 2, A = 1 }}\n"
        )
    };
    let sales = [
        sale("empty", later.to_string(), 20_000_000),
        sale("declared", later.to_string(), DECLARED),
        // Declared as one million: what it weighs when four come is asked for.
        sale("fourfold", later.to_string(), DECLARED).replace("max_fans = 1000000", "max_fans = 20000000"),
        sale("open", now.to_string(), 20_000),
        // Its doors stay closed while they are watched.
        sale("closed", later.to_string(), 200_000),
    ];
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nops_listen = \"127.0.0.1:0\"\nlame_duck_ms = 0\nconnections_per_address_max = 0\n\
         [data]\ndir = \"{dir}/data\"\n[keys]\nmaster = \"only for this bench\"\n[log]\nlevel = \"warn\"\n\
         [limits]\nsign_in_per_address_per_minute = 0\njoins_per_address_per_minute = 0\nrequests_per_address_per_second = 0\n\
         [shop]\ndatabase_url = \"sqlite:{dir}/shop.db\"\n[engine]\nkind = \"redis\"\n[engine.redis]\nurl = \"{redis}\"\ncall_deadline_ms = 2000\n\
         [waiting_room]\ndurability = \"{durability}\"\n[ledger]\nurl = \"{books}\"\n[gateway]\nurl = \"http://127.0.0.1:9\"\nwebhook_secret = \"whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0\"\n{}",
        sales.concat()
    )
}
