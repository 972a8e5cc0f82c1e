//! What a queue weighs in Redis.

use sqlx::PgPool;
use stagedoor::{
    kernel::{Clock, Entropy, SeededEntropy, SystemClock},
    platform::http_client::HttpClient,
    simulation::servers::RedisServer,
};

use super::{
    DECLARED,
    house::{Folder, start_house},
};

/// Writes so many joins into the journal as if they had been made: packed as `waiting_room/journal/encoding.rs` says.
pub(super) async fn fill(books: &str, sale: &str, fans: u64) {
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
pub(super) async fn weigh(folder: &Folder, redis: &RedisServer, client: &HttpClient) {
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
