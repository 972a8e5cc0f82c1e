//! A queue of many millions, written straight into the journal.

use std::path::Path;

use anyhow::Context;
use sqlx::{PgPool, SqlitePool};
use stagedoor::kernel::{Clock, Entropy, SeededEntropy, SystemClock};

/// Joins of one journal record.
const GROUP: u64 = 10_000;

/// Writes so many joins into the journal, encoded as `waiting_room/journal/encoding.rs` specifies. The
/// service must have created the databases, and must not be running.
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
    sqlx::query(head)
        .bind(sale)
        .bind(i64::try_from(fans)?)
        .execute(&pool)
        .await?;
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
