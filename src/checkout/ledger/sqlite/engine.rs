//! The count of the seat engine's memories.

use sqlx::{Row, SqliteConnection, SqliteExecutor};

use crate::checkout::{
    ledger::{EngineMemory, LedgerError},
    seats::Show,
};

pub(super) async fn memory(db: impl SqliteExecutor<'_>, show: &Show) -> Result<EngineMemory, LedgerError> {
    let row = sqlx::query("SELECT epoch, identity FROM engine_memory WHERE sale = ?1 AND performance = ?2")
        .bind(show.sale.as_str())
        .bind(show.performance.as_str())
        .fetch_optional(db)
        .await?;
    let Some(row) = row else {
        return Ok(EngineMemory::default());
    };
    let epoch = u64::try_from(row.try_get::<i64, _>("epoch")?).unwrap_or(0);
    Ok(EngineMemory {
        epoch,
        identity: row.try_get("identity")?,
    })
}

pub(super) async fn raise_epoch(
    db: &mut SqliteConnection,
    show: Show,
    seen: u64,
    identity: String,
) -> Result<EngineMemory, LedgerError> {
    sqlx::query("INSERT INTO engine_memory (sale, performance, epoch, identity) VALUES (?1, ?2, 0, '') ON CONFLICT DO NOTHING")
        .bind(show.sale.as_str())
        .bind(show.performance.as_str())
        .execute(&mut *db)
        .await?;
    sqlx::query("UPDATE engine_memory SET epoch = epoch + 1, identity = ?4 WHERE sale = ?1 AND performance = ?2 AND epoch = ?3")
        .bind(show.sale.as_str())
        .bind(show.performance.as_str())
        .bind(i64::try_from(seen).unwrap_or(i64::MAX))
        .bind(identity)
        .execute(&mut *db)
        .await?;
    memory(db, &show).await
}
