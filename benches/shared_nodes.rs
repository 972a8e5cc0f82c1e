//! Joins and holds over HTTP on Redis and PostgreSQL, each beside a floor that answers as many bytes, in the same run and
//! from the same client; and what a queue weighs in Redis.
//!
//! `cargo bench --bench shared_nodes [-- memory|join|growth|hold ...]`; needs redis-server and PostgreSQL installed, and
//! starts its own. The client, the
//! house, Redis and PostgreSQL share the machine's cores, so a ratio says what the whole way costs. Rounds of the two
//! sides are interleaved; the ratio is that of the medians, beside the least and the most of the pairs.

use std::{
    env, fs,
    future::Future,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{delete, post},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use sqlx::PgPool;
use stagedoor::{
    kernel::{Clock, Entropy, OsEntropy, SeededEntropy, SystemClock},
    platform::http_client::HttpClient,
    simulation::servers::{Postgres, RedisServer},
};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(1_500);
const WORKERS: usize = 256;
const HOLDERS: usize = 64;
/// Holds that each holder makes before they are taken back.
const HOLDS_EACH: usize = 20;
/// Fans whom a sale declares, and who come: as many, and four times as many.
const DECLARED: u64 = 1_000_000;
const FLOOR: &str = "STAGEDOOR_BENCH_FLOOR";
/// Four seats are free, and then they are a hold's: nothing but what all-or-none asks for.
const MINIMAL: &str = "local s=redis.call('HMGET',KEYS[1],unpack(ARGV,2)) for _,v in ipairs(s) do if v then return 0 end end \
                       for i=2,#ARGV do redis.call('HSET',KEYS[1],ARGV[i],ARGV[1]) end return 1";

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match env::var(FLOOR) {
        Ok(redis) => runtime.block_on(floor(&redis)),
        Err(_) if env::args().any(|arg| arg == "--test") => println!("nothing to test here: this only measures"),
        Err(_) => runtime.block_on(measure()),
    }
}

/// A house of one node, or a floor: a child that is stopped with its owner.
struct Server {
    child: Child,
    base: String,
}

impl Server {
    /// Seconds of a core that the process has used so far.
    fn cpu_s(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the process runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("ticks");
        // utime and stime, in the hundredths of a second that Linux counts for programs (proc(5)).
        (ticks(11) + ticks(12)) / 100.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port()
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
            fill(&books, sale, fans).await;
        }
        weigh(&folder, &redis, &client).await;
    }
    for (durability, file) in [("acknowledged", "acknowledged.toml"), ("journaled", "journaled.toml")] {
        let house = start_house(&folder, file, &client).await;
        let bytes = client_join(&client, &house.base, "empty").await.len();
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
        hold(&house, &floor, &client).await;
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

async fn start_house(folder: &Folder, config: &str, client: &HttpClient) -> Server {
    let (port, ops) = (free_port(), free_port());
    let child = Command::new(env!("CARGO_BIN_EXE_stagedoor"))
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--ops-listen", &format!("127.0.0.1:{ops}"), "--config"])
        .arg(folder.0.join(config))
        .stdin(Stdio::null())
        .spawn()
        .expect("the house starts");
    let mut server = Server { child, base: format!("http://127.0.0.1:{port}") };
    until_ready(&mut server, &format!("http://127.0.0.1:{ops}/health/ready"), client).await;
    server
}

async fn start_floor(redis: &str, client: &HttpClient) -> Server {
    let port = free_port();
    let child = Command::new(env::current_exe().expect("a bench has a file"))
        .env(FLOOR, format!("{port} {redis}"))
        .stdin(Stdio::null())
        .spawn()
        .expect("the floor starts");
    let mut server = Server { child, base: format!("http://127.0.0.1:{port}") };
    until_ready(&mut server, &format!("http://127.0.0.1:{port}/bare/9"), client).await;
    server
}

async fn until_ready(server: &mut Server, url: &str, client: &HttpClient) {
    let uri: Uri = url.parse().expect("a URL");
    for _ in 0..1_200 {
        if let Ok(answer) = client.call(Method::GET, uri.clone(), &[], Bytes::new()).await
            && answer.status != StatusCode::SERVICE_UNAVAILABLE
        {
            return;
        }
        assert!(matches!(server.child.try_wait(), Ok(None)), "{url}: the process ended");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{url} does not become ready");
}

/// Two routes of an axum server with nothing around them.
async fn floor(args: &str) {
    let (port, redis) = args.split_once(' ').expect("a port and a URL");
    let client = redis::Client::open(redis).expect("a URL");
    let connection = client.get_multiplexed_async_connection().await.expect("Redis answers");
    let bare =
        |Path(bytes): Path<usize>| async move { (StatusCode::CREATED, Json(json!({ "token": "x".repeat(bytes.saturating_sub(12)) }))) };
    let app = Router::new()
        .route("/bare/{bytes}", post(bare).get(bare))
        .route("/holds", post(floor_hold))
        .route("/holds/{id}", delete(floor_release))
        .with_state(connection);
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("the port is free");
    axum::serve(listener, app).await.expect("it serves");
}

async fn floor_hold(State(mut redis): State<MultiplexedConnection>, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
    static SCRIPT: std::sync::LazyLock<redis::Script> = std::sync::LazyLock::new(|| redis::Script::new(MINIMAL));
    let seats: Vec<&str> = body["seats"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut call = SCRIPT.key("floor");
    call.arg(seats.join("+"));
    for seat in &seats {
        call.arg(*seat);
    }
    let held: i64 = call.invoke_async(&mut redis).await.unwrap_or(0);
    let status = if held == 1 { StatusCode::CREATED } else { StatusCode::CONFLICT };
    (
        status,
        Json(
            json!({ "id": seats.join("+"), "seats": seats, "expires_at": "2026-01-01T00:00:00.000Z", "total": { "amount": 4, "currency": "KRW" } }),
        ),
    )
}

async fn floor_release(State(mut redis): State<MultiplexedConnection>, Path(id): Path<String>) -> StatusCode {
    let mut cmd = redis::cmd("HDEL");
    cmd.arg("floor");
    for seat in id.split('+') {
        cmd.arg(seat);
    }
    let freed: Result<i64, _> = cmd.query_async(&mut redis).await;
    if freed.is_ok() { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Writes so many joins into the journal as if they had been made: packed as `waiting_room/journal/encoding.rs` says.
async fn fill(books: &str, sale: &str, fans: u64) {
    const GROUP: u64 = 10_000;
    let pool = PgPool::connect(books).await.expect("PostgreSQL answers");
    let entropy = SeededEntropy::new(fans);
    let base = SystemClock::new().now().as_millis();
    // What its opening wrote stays.
    let last: i64 =
        sqlx::query_scalar("SELECT seq FROM stagedoor_queue.head WHERE sale = $1").bind(sale).fetch_one(&pool).await.expect("a head");
    for (seq, first) in (last + 1..).zip((1..=fans).step_by(usize::try_from(GROUP).expect("small"))) {
        let count = GROUP.min(fans + 1 - first);
        let mut body = Vec::with_capacity(16 + usize::try_from(count).expect("small") * 12);
        body.extend(u32::try_from(first).expect("numbers are 32 bits").to_be_bytes());
        body.extend(u32::try_from(count).expect("small").to_be_bytes());
        body.extend(base.to_be_bytes());
        for _ in 0..count {
            let mut subject = [0; 8];
            entropy.fill(&mut subject);
            body.extend(subject);
            body.extend(0_u32.to_be_bytes());
        }
        let row = sqlx::query("INSERT INTO stagedoor_queue.journal VALUES ($1, $2, 'joins', $3)").bind(sale).bind(seq).bind(body);
        row.execute(&pool).await.expect("a row is written");
    }
    let fans = i64::try_from(fans).expect("small");
    let head = "UPDATE stagedoor_queue.head SET seq = (SELECT max(seq) FROM stagedoor_queue.journal j WHERE j.sale = $1), ceiling = $2, buckets = 16384 WHERE sale = $1";
    sqlx::query(head).bind(sale).bind(fans).execute(&pool).await.expect("the head is written");
    let group = "INSERT INTO stagedoor_queue.join_group VALUES ($1, 1, $2)";
    sqlx::query(group).bind(sale).bind(fans).execute(&pool).await.expect("the group is written");
}

/// An emptied Redis is given back what it needs; what that weighs, and how long it takes.
async fn weigh(folder: &Folder, redis: &RedisServer, client: &HttpClient) {
    redis.flush_all().await.expect("Redis answers");
    let used = async || redis.info("used_memory").await.expect("Redis answers").parse::<u64>().expect("a number");
    let (before, clock) = (used().await, SystemClock::new());
    let started = clock.monotonic();
    let house = start_house(folder, "journaled.toml", client).await;
    println!("5,000,000 fans replayed and Redis rebuilt: {:.1} s", clock.monotonic().saturating_sub(started).as_secs_f64());
    let both = used().await - before;
    drop(house);
    let of = async |sale: &str| {
        let script = "local n=0 for i=0,16383 do n=n+(redis.call('MEMORY','USAGE',KEYS[1]..i) or 0) end return n";
        let bytes = redis.run(&["EVAL", script, "1", &format!("{{{sale}}}:b:")]).await.expect("Redis answers");
        redis::from_redis_value::<u64>(bytes).expect("a number")
    };
    #[expect(clippy::cast_precision_loss, reason = "bytes of some megabytes")]
    let each = |bytes: u64, fans: u64| bytes as f64 / fans as f64;
    println!("Redis used_memory, all sales: {:.1} B a fan", each(both, 5 * DECLARED));
    println!("  1,000,000 fans, as declared (MEMORY USAGE of the map): {:.1} B a fan; goal <= 20", each(of("declared").await, DECLARED));
    println!("  4,000,000 fans, four times as many: {:.1} B a fan; goal <= 24", each(of("fourfold").await, 4 * DECLARED));
}

async fn client_join(client: &HttpClient, base: &str, sale: &str) -> Bytes {
    let uri: Uri = format!("{base}/v1/sales/{sale}/queue").parse().expect("a URL");
    let answer = client.call(Method::POST, uri, &[], Bytes::new()).await.expect("the house answers");
    assert_eq!(answer.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&answer.body));
    answer.body
}

/// What one side did in one round.
#[derive(Clone, Copy)]
struct Round {
    done: f64,
    seconds: f64,
    cpu_s: f64,
}

impl Round {
    fn rate(&self) -> f64 {
        self.done / self.seconds
    }
}

/// `work` by so many at once, again and again for one round.
async fn round<F, W>(server: &Server, workers: usize, work: W) -> Round
where
    W: Fn(usize) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let (done, clock) = (Arc::new(AtomicU64::new(0)), Arc::new(SystemClock::new()));
    let (started, work, cpu_s) = (clock.monotonic(), Arc::new(work), server.cpu_s());
    let running: Vec<_> = (0..workers)
        .map(|worker| {
            let (done, clock, work) = (Arc::clone(&done), Arc::clone(&clock), Arc::clone(&work));
            tokio::spawn(async move {
                while clock.monotonic().saturating_sub(started) < ROUND {
                    work(worker).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for worker in running {
        worker.await.expect("no call fails");
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of some thousands")]
    let done = done.load(Ordering::Relaxed) as f64;
    Round { done, seconds: clock.monotonic().saturating_sub(started).as_secs_f64(), cpu_s: server.cpu_s() - cpu_s }
}

fn report(name: &str, mut pairs: Vec<(Round, Round)>) {
    // The first pair warms both sides up.
    pairs.remove(0);
    let median = |of: fn(&(Round, Round)) -> f64| {
        let mut values: Vec<f64> = pairs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (ours, floor) = (median(|it| it.0.rate()), median(|it| it.1.rate()));
    let cpu = (median(|it| it.0.cpu_s / it.0.done), median(|it| it.1.cpu_s / it.1.done));
    let ratios: Vec<f64> = pairs.iter().map(|(ours, floor)| ours.rate() / floor.rate()).collect();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    println!(
        "{name}: {:.2} ({least:.2} to {most:.2}); {ours:.0} over {floor:.0} a second; {:.1} over {:.1} us of the server's own CPU each",
        ours / floor,
        cpu.0 * 1e6,
        cpu.1 * 1e6
    );
}

async fn compare(name: &str, client: &HttpClient, ours: (&Server, &str), floor: (&Server, &str)) {
    let mut pairs = Vec::new();
    let side = async |(server, path): (&Server, &str)| {
        let uri: Uri = format!("{}{path}", server.base).parse().expect("a URL");
        let client = client.with_deadline(Duration::from_secs(10));
        round(server, WORKERS, move |_| {
            let (uri, client) = (uri.clone(), client.clone());
            async move {
                let answer = client.call(Method::POST, uri, &[], Bytes::new()).await.expect("an answer");
                assert_eq!(answer.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&answer.body));
            }
        })
        .await
    };
    for _ in 0..=ROUNDS {
        pairs.push((side(ours).await, side(floor).await));
    }
    report(name, pairs);
}

/// Four seats held, each holder her own ones, and given back: once with the giving back outside the time, once within.
async fn hold(house: &Server, floor: &Server, client: &HttpClient) {
    let passes = visitors(house, client).await;
    let pass_header = HeaderName::from_static("admission-pass");
    let token_header = HeaderName::from_static("queue-token");
    let value = |text: &str| HeaderValue::from_str(text).expect("a header");
    let header = |(token, pass): &(String, String)| vec![(pass_header.clone(), value(pass)), (token_header.clone(), value(token))];
    let seats_url: Uri = format!("{}/v1/sales/open/performances/night/seats", house.base).parse().expect("a URL");
    let answer = client.call(Method::GET, seats_url, &header(&passes[0]), Bytes::new()).await.expect("an answer");
    let all: Value = answer.json().expect("seats are JSON");
    let seats: Vec<String> = all["seats"].as_object().expect("seats").keys().take(4 * HOLDERS * HOLDS_EACH).cloned().collect();
    let bodies: Vec<Bytes> = seats.chunks(4).map(|four| json!({ "seats": four }).to_string().into()).collect();
    let json = (http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let holders = |proofs: Vec<Vec<(HeaderName, HeaderValue)>>, base: &str, path: &str| -> Arc<Vec<Holder>> {
        let holds: Uri = format!("{base}{path}").parse().expect("a URL");
        let releases = format!("{base}{}/", if path == "/holds" { path } else { "/v1/holds" });
        let each = proofs.into_iter().zip(bodies.chunks(HOLDS_EACH)).map(|(mut headers, bodies)| {
            headers.push(json.clone());
            Holder { client: client.clone(), headers, bodies: bodies.to_vec(), holds: holds.clone(), releases: releases.clone() }
        });
        Arc::new(each.collect())
    };
    let ours = holders(passes.iter().map(header).collect(), &house.base, "/v1/sales/open/performances/night/holds");
    let theirs = holders(vec![Vec::new(); HOLDERS], &floor.base, "/holds");
    let (mut holds, mut cycles) = (Vec::new(), Vec::new());
    for _ in 0..=ROUNDS {
        holds.push((holds_only(house, &ours).await, holds_only(floor, &theirs).await));
        cycles.push((cycle(house, &ours).await, cycle(floor, &theirs).await));
    }
    report("hold of 4 seats over HTTP, over a minimal handler around a minimal script", holds);
    report("hold and release of 4 seats, over the same", cycles);
}

/// Somebody inside, with the seats that she goes for.
struct Holder {
    client: HttpClient,
    headers: Vec<(HeaderName, HeaderValue)>,
    bodies: Vec<Bytes>,
    holds: Uri,
    releases: String,
}

impl Holder {
    async fn hold(&self, which: usize) -> String {
        let answer =
            self.client.call(Method::POST, self.holds.clone(), &self.headers, self.bodies[which].clone()).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&answer.body));
        let held: Value = answer.json().expect("a hold is JSON");
        held["id"].as_str().expect("an id").to_owned()
    }

    async fn release(&self, id: &str) {
        let uri = format!("{}{id}", self.releases).parse().expect("a URL");
        let answer = self.client.call(Method::DELETE, uri, &self.headers, Bytes::new()).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", String::from_utf8_lossy(&answer.body));
    }
}

async fn cycle(server: &Server, holders: &Arc<Vec<Holder>>) -> Round {
    let holders = Arc::clone(holders);
    round(server, HOLDERS, move |holder| {
        let holders = Arc::clone(&holders);
        async move {
            let id = holders[holder].hold(0).await;
            holders[holder].release(&id).await;
        }
    })
    .await
}

/// All holders hold all that they go for, then the clock stops until all is free again; until a round's time is used.
async fn holds_only(server: &Server, holders: &Arc<Vec<Holder>>) -> Round {
    let clock = SystemClock::new();
    let mut sum = Round { done: 0.0, seconds: 0.0, cpu_s: 0.0 };
    while sum.seconds < ROUND.as_secs_f64() {
        let (started, cpu_s) = (clock.monotonic(), server.cpu_s());
        let running: Vec<_> = (0..HOLDERS)
            .map(|holder| {
                let holders = Arc::clone(holders);
                tokio::spawn(async move {
                    let mut ids = Vec::new();
                    for which in 0..HOLDS_EACH {
                        ids.push(holders[holder].hold(which).await);
                    }
                    ids
                })
            })
            .collect();
        let ids = futures_util::future::join_all(running).await;
        sum.seconds += clock.monotonic().saturating_sub(started).as_secs_f64();
        sum.cpu_s += server.cpu_s() - cpu_s;
        for (holder, ids) in holders.iter().zip(ids) {
            for id in ids.expect("no call fails") {
                holder.release(&id).await;
                sum.done += 1.0;
            }
        }
    }
    sum
}

/// The queue token and the pass of each.
async fn visitors(house: &Server, client: &HttpClient) -> Vec<(String, String)> {
    let token_header = HeaderName::from_static("queue-token");
    let door: Uri = format!("{}/v1/sales/open/admission", house.base).parse().expect("a URL");
    let mut passes = Vec::new();
    for _ in 0..HOLDERS {
        let joined: Value = serde_json::from_slice(&client_join(client, &house.base, "open").await).expect("a place is JSON");
        let shown = joined["token"].as_str().expect("a token").to_owned();
        let token = HeaderValue::from_str(&shown).expect("a header");
        let pass = loop {
            let answer = client.call(Method::POST, door.clone(), &[(token_header.clone(), token.clone())], Bytes::new()).await;
            let answer = answer.expect("an answer");
            if answer.status == StatusCode::OK {
                let entered: Value = answer.json().expect("a pass is JSON");
                break entered["pass"].as_str().expect("a pass").to_owned();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        passes.push((shown, pass));
    }
    passes
}
