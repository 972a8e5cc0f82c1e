//! The audit chain: rows are appended by each transaction for itself and linked afterwards, by whichever node comes.

use sqlx::{PgConnection, Row};

use super::Work;
use crate::{kernel::Timestamp, platform::signing::sha256};

/// Links made in one transaction; what is left is linked the next time.
const LINKS_MAX: i64 = 2_000;
/// Of the lock under which links are made, within this database; "audit" in letters.
const LINK_LOCK: i64 = 0x0061_7564_6974;

pub(super) async fn append(db: &mut PgConnection, order: &str, what: &str, at: Timestamp) -> Work<()> {
    sqlx::query("INSERT INTO audit (at, order_id, what) VALUES ($1, $2, $3)")
        .bind(at.as_millis())
        .bind(order)
        .bind(what)
        .execute(db)
        .await?;
    Ok(())
}

/// Links what is visible by now. Nothing, when another node is at it.
pub(super) async fn link(db: &mut PgConnection) -> Work<u64> {
    let is_mine: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
        .bind(LINK_LOCK)
        .fetch_one(&mut *db)
        .await?;
    if !is_mine {
        return Ok(0);
    }
    // After the lock, so that it sees what the one before committed.
    let rows = sqlx::query("SELECT id, at, order_id, what FROM audit WHERE n IS NULL ORDER BY id LIMIT $1")
        .bind(LINKS_MAX)
        .fetch_all(&mut *db)
        .await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let last = sqlx::query("SELECT n, hash FROM audit WHERE n IS NOT NULL ORDER BY n DESC LIMIT 1")
        .fetch_optional(&mut *db)
        .await?;
    let (mut n, mut hash) = match &last {
        Some(row) => (row.try_get::<i64, _>("n")?, row.try_get::<Vec<u8>, _>("hash")?),
        None => (0, Vec::new()),
    };
    let (mut ids, mut numbers, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let (at, order, what): (i64, &str, &str) =
            (row.try_get("at")?, row.try_get("order_id")?, row.try_get("what")?);
        hash.extend_from_slice(format!("{at}|{order}|{what}").as_bytes());
        hash = sha256(&hash).to_vec();
        n += 1;
        ids.push(row.try_get::<i64, _>("id")?);
        numbers.push(n);
        hashes.push(hash.clone());
    }
    let linked = sqlx::query(
        "UPDATE audit a SET n = it.n, hash = it.hash
         FROM UNNEST($1::bigint[], $2::bigint[], $3::bytea[]) AS it (id, n, hash) WHERE a.id = it.id",
    )
    .bind(ids)
    .bind(numbers)
    .bind(hashes)
    .execute(db)
    .await?;
    Ok(linked.rows_affected())
}
