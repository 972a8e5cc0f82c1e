//! What a waiting visitor takes in memory, and a queue of many millions written straight into the journal.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use sqlx::{PgPool, SqlitePool};
use stagedoor::{
    demo::client::paths,
    kernel::{Clock, Entropy, SeededEntropy, SystemClock},
};
use tokio::task::JoinSet;

use super::{
    fixture::{DECLARED, Fixture},
    paired::Server,
    table::{Row, Table},
};
use crate::{http1::HttpRequest, process::Usage};

/// Joins of one journal record.
const GROUP: u64 = 10_000;

/// Writes so many joins into the journal, encoded as `waiting_room/journal/encoding.rs` specifies. The service must
/// have created the databases, and must not be running.
pub(crate) async fn write_joins(
    data: &Path,
    database_url: Option<&str>,
    sale: &str,
    fans: u64,
) -> anyhow::Result<()> {
    match database_url {
        None => write_to_sqlite(data, sale, fans).await,
        Some(url) => write_to_postgres(url, sale, fans).await,
    }
}

/// `(first number, count)` of each record.
fn groups(fans: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..fans.div_ceil(GROUP)).map(move |n| (n * GROUP + 1, GROUP.min(fans - n * GROUP)))
}

async fn write_to_sqlite(data: &Path, sale: &str, fans: u64) -> anyhow::Result<()> {
    let entropy = SeededEntropy::new(fans);
    let url = format!("sqlite:{}", data.join("data/queue.db").display());
    let pool = SqlitePool::connect(&url).await?;
    let mut transaction = pool.begin().await?;
    for (first, count) in groups(fans) {
        sqlx::query("INSERT INTO journal (sale, kind, body) VALUES (?, 'joins', ?)")
            .bind(sale)
            .bind(encoded(&entropy, first, count)?)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO join_group (sale, first_number) VALUES (?, ?)")
            .bind(sale)
            .bind(i64::try_from(first)?)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await.context("the journal's file")?;
    pool.close().await;
    Ok(())
}

async fn write_to_postgres(url: &str, sale: &str, fans: u64) -> anyhow::Result<()> {
    let entropy = SeededEntropy::new(fans);
    let pool = PgPool::connect(url).await?;
    // Records of the first start stay; the joins follow them.
    let last: i64 = sqlx::query_scalar("SELECT last_seq FROM stagedoor_queue.journal_head WHERE sale = $1")
        .bind(sale)
        .fetch_one(&pool)
        .await?;
    for ((first, count), seq) in groups(fans).zip(last + 1..) {
        sqlx::query("INSERT INTO stagedoor_queue.journal VALUES ($1, $2, 'joins', $3)")
            .bind(sale)
            .bind(seq)
            .bind(encoded(&entropy, first, count)?)
            .execute(&pool)
            .await?;
    }
    let head = "UPDATE stagedoor_queue.journal_head SET \
                last_seq = (SELECT max(seq) FROM stagedoor_queue.journal j WHERE j.sale = $1), \
                max_number = $2, \
                bucket_count = CASE WHEN bucket_count = 0 THEN 16384 ELSE bucket_count END \
                WHERE sale = $1";
    sqlx::query(head).bind(sale).bind(i64::try_from(fans)?).execute(&pool).await?;
    sqlx::query("INSERT INTO stagedoor_queue.join_group VALUES ($1, 1, $2)")
        .bind(sale)
        .bind(i64::try_from(fans)?)
        .execute(&pool)
        .await?;
    Ok(())
}

fn encoded(entropy: &SeededEntropy, first: u64, count: u64) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(16 + usize::try_from(count)? * 12);
    body.extend(u32::try_from(first)?.to_be_bytes());
    body.extend(u32::try_from(count)?.to_be_bytes());
    body.extend(SystemClock::new().now().as_millis().to_be_bytes());
    for _ in 0..count {
        let mut subject = [0; 8];
        entropy.fill(&mut subject);
        // The highest bit marks anonymous visitors.
        subject[0] &= 0x7f;
        body.extend(subject);
        body.extend([0; 4]);
    }
    Ok(body)
}

/// Adds what a waiting visitor takes in the store's memory. Anonymous visitors join over HTTP. Customers, whom the store
/// must also find by subject, are in the journal that a service starts with.
pub(super) async fn add_memory(fixture: &Fixture, fans: u32, table: &mut Table) -> anyhow::Result<()> {
    let backend = fixture.backend.name();
    let mut push = |who: &str, count: u32, bytes: u64, goal: f64| {
        let figure = format!("memory per waiting fan, {who}");
        let row = Row::lower_is_better(figure, backend, bytes_each(bytes, count), "B", Some(goal));
        table.push(Row { baseline: format!("{count} fans"), ..row });
    };
    let before = used_bytes(fixture).await?;
    let joined = join_many(&fixture.service, &paths::queue(DECLARED), fans).await;
    let added = used_bytes(fixture).await?.saturating_sub(before);
    if fixture.servers.is_none() {
        push("anonymous", joined, added, 40.0);
        return Ok(());
    }
    push("anonymous", joined, added, 20.0);
    // The sale's index is sized for a million entries, however many visitors come.
    for (times, goal) in [(1, 20.0), (4, 24.0)] {
        let customers = fans.saturating_mul(times);
        let (filled, empty) = fixture.with_waiting(DECLARED, customers).await?;
        let who = format!("{customers} customers where {fans} were declared");
        push(&who, customers, used_bytes(&filled).await?.saturating_sub(empty), goal);
    }
    Ok(())
}

/// Bytes for each of `count`.
pub(crate) fn bytes_each(bytes: u64, count: u32) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / f64::from(count.max(1))
}

/// The memory of the store: of the service's process, or of Redis.
pub(crate) async fn used_bytes(fixture: &Fixture) -> anyhow::Result<u64> {
    // Buffers of the last requests are freed by then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    match &fixture.servers {
        Some(servers) => Ok(servers.redis.info("used_memory").await?.parse()?),
        None => Ok(Usage::of(fixture.service.pid).context("the service's memory")?.rss_kib * 1_024),
    }
}

/// Sends so many joins to `path`; how many were acknowledged.
pub(crate) async fn join_many(server: &Server, path: &str, fans: u32) -> u32 {
    const WORKERS: u32 = 64;
    let request: Arc<[u8]> = server.client.encode(&HttpRequest::post(path)).into();
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (client, request) = (Arc::clone(&server.client), Arc::clone(&request));
        let share = fans / WORKERS + u32::from(worker < fans % WORKERS);
        workers.spawn(async move {
            let mut joined = 0;
            for _ in 0..share {
                joined += u32::from(client.send_bytes(&request).await.is_ok_and(|reply| reply.is_ok()));
            }
            joined
        });
    }
    workers.join_all().await.into_iter().sum()
}
