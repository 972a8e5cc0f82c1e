//! What a queue weighs, and how one of many millions is come by.

use std::{path::Path, time::Duration};

use anyhow::Context;
use sqlx::{PgPool, SqlitePool};
use stagedoor::kernel::{Clock, Entropy, SeededEntropy, SystemClock};
use tokio::task::JoinSet;

use super::{Row, Table, lab::Lab};
use crate::{process::Usage, wire::Ask};

/// Joins of one record.
const GROUP: u64 = 10_000;

/// Writes so many joins into the journal as if they had been made: packed as `waiting_room/journal/encoding.rs` says. The
/// house must have been there, and be away.
pub(super) async fn journal(data: &Path, books: Option<&str>, sale: &str, fans: u64) -> anyhow::Result<()> {
    let groups = (1..=fans)
        .step_by(usize::try_from(GROUP)?)
        .map(|first| (first, GROUP.min(fans + 1 - first)));
    let entropy = SeededEntropy::new(fans);
    match books {
        None => {
            let pool =
                SqlitePool::connect(&format!("sqlite:{}", data.join("data/queue.db").display())).await?;
            let mut all = pool.begin().await?;
            for (first, count) in groups {
                let row = sqlx::query("INSERT INTO journal (sale, kind, body) VALUES (?, 'joins', ?)")
                    .bind(sale)
                    .bind(packed(&entropy, first, count)?);
                row.execute(&mut *all).await?;
                let group = sqlx::query("INSERT INTO join_group (sale, first_number) VALUES (?, ?)")
                    .bind(sale)
                    .bind(i64::try_from(first)?);
                group.execute(&mut *all).await?;
            }
            all.commit().await.context("the journal's file")?;
            pool.close().await;
        }
        Some(url) => {
            let pool = PgPool::connect(url).await?;
            // What its opening wrote stays.
            let last: i64 = sqlx::query_scalar("SELECT seq FROM stagedoor_queue.head WHERE sale = $1")
                .bind(sale)
                .fetch_one(&pool)
                .await?;
            for ((first, count), seq) in groups.zip(last + 1..) {
                let row = sqlx::query("INSERT INTO stagedoor_queue.journal VALUES ($1, $2, 'joins', $3)");
                row.bind(sale)
                    .bind(seq)
                    .bind(packed(&entropy, first, count)?)
                    .execute(&pool)
                    .await?;
            }
            let head = "UPDATE stagedoor_queue.head SET seq = (SELECT max(seq) FROM stagedoor_queue.journal j WHERE j.sale = $1), \
                        ceiling = $2, buckets = CASE WHEN buckets IS NULL OR buckets = 0 THEN 16384 ELSE buckets END WHERE sale = $1";
            sqlx::query(head)
                .bind(sale)
                .bind(i64::try_from(fans)?)
                .execute(&pool)
                .await?;
            let group = sqlx::query("INSERT INTO stagedoor_queue.join_group VALUES ($1, 1, $2)");
            group.bind(sale).bind(i64::try_from(fans)?).execute(&pool).await?;
        }
    }
    Ok(())
}

fn packed(entropy: &SeededEntropy, first: u64, count: u64) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(16 + usize::try_from(count)? * 12);
    body.extend(u32::try_from(first)?.to_be_bytes());
    body.extend(u32::try_from(count)?.to_be_bytes());
    body.extend(SystemClock::new().now().as_millis().to_be_bytes());
    for _ in 0..count {
        let mut subject = [0; 8];
        entropy.fill(&mut subject);
        // The highest bit is a stranger's.
        subject[0] &= 0x7f;
        body.extend(subject);
        body.extend([0; 4]);
    }
    Ok(body)
}

/// What so many add to the house's memory, or to Redis's. Strangers join over HTTP; customers, whose places are to be found by
/// their names, are in the journal that a house starts with.
pub(super) async fn weigh(lab: &Lab, fans: u32, table: &mut Table) -> anyhow::Result<()> {
    let engine = lab.engine.name();
    let mut tell = |who: &str, of: u32, added: u64, goal: f64| {
        let each = f64::from(u32::try_from(added).unwrap_or(u32::MAX)) / f64::from(of.max(1));
        let row = Row::plain(
            &format!("memory per waiting fan, {who}"),
            engine,
            each,
            "B",
            Some(goal),
            false,
        );
        table.rows.push(Row {
            floor: format!("{of} fans"),
            ..row
        });
    };
    let before = used(lab).await?;
    let joined = join(lab, "declared", fans).await?;
    let added = used(lab).await?.saturating_sub(before);
    if lab.servers.is_none() {
        tell("strangers", joined, added, 40.0);
        return Ok(());
    }
    tell("strangers", joined, added, 20.0);
    // The sale counts on a million; its map is that of a million, whatever comes.
    for (times, goal) in [(1, 20.0), (4, 24.0)] {
        let customers = fans.saturating_mul(times);
        let (grown, empty) = lab.grown("declared", customers).await?;
        tell(
            &format!("{customers} customers where {fans} were declared"),
            customers,
            used(&grown).await?.saturating_sub(empty),
            goal,
        );
    }
    Ok(())
}

/// Bytes that the engine uses.
pub(super) async fn used(lab: &Lab) -> anyhow::Result<u64> {
    tokio::time::sleep(Duration::from_secs(2)).await;
    match &lab.servers {
        Some(servers) => Ok(servers.redis.info("used_memory").await?.trim().parse()?),
        None => Ok(Usage::of(lab.pid()).context("the house's memory")?.rss_kib * 1_024),
    }
}

/// How many could join.
async fn join(lab: &Lab, sale: &str, fans: u32) -> anyhow::Result<u32> {
    const WORKERS: u32 = 64;
    let request: std::sync::Arc<[u8]> = lab
        .house
        .wire
        .bytes(&Ask {
            method: "POST",
            path: &format!("/v1/sales/{sale}/queue"),
            headers: &[],
            body: None,
        })
        .into();
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (wire, request) = (
            std::sync::Arc::clone(&lab.house.wire),
            std::sync::Arc::clone(&request),
        );
        let share = fans / WORKERS + u32::from(worker < fans % WORKERS);
        workers.spawn(async move {
            let mut joined = 0;
            for _ in 0..share {
                joined += u32::from(wire.send(&request).await.is_ok_and(|it| it.is_ok()));
            }
            joined
        });
    }
    Ok(workers.join_all().await.into_iter().sum())
}
