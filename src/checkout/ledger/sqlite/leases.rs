//! Sagas and their leases.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{journal, rows::parse};
use crate::{
    checkout::ledger::port::{
        FencedLease, LeaseRequest, LeasedSaga, LedgerError, Position, Progress, SagaStart,
    },
    kernel::{OrderId, Timestamp},
};

/// Fails with [`LedgerError::LeaseLost`] unless this is the order's latest lease.
pub(super) async fn check_lease(db: &mut SqliteConnection, lease: FencedLease) -> Result<(), LedgerError> {
    let held = sqlx::query("SELECT 1 FROM saga WHERE order_id = ?1 AND fence = ?2")
        .bind(lease.order.to_string())
        .bind(lease.fence)
        .fetch_optional(db)
        .await?;
    held.map(|_| ()).ok_or(LedgerError::LeaseLost)
}

pub(super) async fn record_progress(
    db: &mut SqliteConnection,
    lease: FencedLease,
    progress: Progress,
) -> Result<(), LedgerError> {
    let position = &progress.position;
    let kept = sqlx::query(
        "UPDATE saga SET saga = $3, step = $4, undoing = $5, attempts = $6, step_started_at = $7,
         ended = $8, lease_until = $9
         WHERE order_id = $1 AND fence = $2;
         UPDATE orders SET stuck = $10, reason = COALESCE($11, reason)
         WHERE id = $1 AND (stuck != $10 OR $11 IS NOT NULL) AND EXISTS (SELECT 1 FROM saga
         WHERE order_id = $1 AND fence = $2);
         INSERT INTO saga_log (order_id, sequence, at, saga, step, state)
         SELECT $1, (SELECT COALESCE(MAX(sequence), 0) FROM saga_log
         WHERE order_id = $1) + 1 + key, $12, $3, value ->> 0, value ->> 1
         FROM json_each($13) WHERE EXISTS (SELECT 1 FROM saga WHERE order_id = $1 AND fence = $2)",
    )
    .bind(lease.order.to_string())
    .bind(lease.fence)
    .bind(&position.saga)
    .bind(&position.step)
    .bind(position.undoing)
    .bind(position.attempts)
    .bind(position.step_started_at.as_millis())
    .bind(progress.ended)
    .bind(progress.lease_until.as_millis())
    .bind(progress.stuck)
    .bind(progress.reason.map(|reason| reason.to_string()))
    .bind(progress.at.as_millis())
    .bind(serde_json::to_string(&progress.log).expect("entries are JSON"))
    .execute(db)
    .await?;
    if kept.rows_affected() == 0 {
        Err(LedgerError::LeaseLost)
    } else {
        Ok(())
    }
}

pub(super) async fn start_saga(
    db: &mut SqliteConnection,
    order: OrderId,
    start: SagaStart,
    request: LeaseRequest,
) -> Result<Option<LeasedSaga>, LedgerError> {
    let id = order.to_string();
    let changed = sqlx::query(
        "UPDATE orders SET state = ?3, reason = ?4, payment_check_at = NULL, updated_at = ?5 WHERE id = ?1
         AND state = ?2 RETURNING visit, sale",
    )
    .bind(&id)
    .bind(start.from.as_str())
    .bind(start.to.as_str())
    .bind(start.reason.to_string())
    .bind(request.now.as_millis())
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = changed else { return Ok(None) };
    let (visit, sale) = (parse(&row, "visit")?, parse(&row, "sale")?);
    // Earlier leases are fenced off below, so the mark that kept them from claiming is no longer needed.
    sqlx::query("DELETE FROM closed_attempt WHERE order_id = ?1")
        .bind(&id)
        .execute(&mut *db)
        .await?;
    let fence: i64 = sqlx::query_scalar(
        "UPDATE saga SET saga = ?2, step = ?3, undoing = ?7, attempts = 0, step_started_at = ?4, ended = 0,
         lease_owner = ?5, lease_until = ?6,
                         fence = fence + 1
         WHERE order_id = ?1 RETURNING fence",
    )
    .bind(&id)
    .bind(&start.position.saga)
    .bind(&start.position.step)
    .bind(request.now.as_millis())
    .bind(&request.owner)
    .bind(request.until.as_millis())
    .bind(start.position.undoing)
    .fetch_one(&mut *db)
    .await?;
    sqlx::query(
        "INSERT INTO saga_log (order_id, sequence, at, saga, step, state)
         SELECT ?1, COALESCE(MAX(sequence), 0) + 1, ?2, ?3, ?4, ?5 FROM saga_log WHERE order_id = ?1",
    )
    .bind(&id)
    .bind(request.now.as_millis())
    .bind(&start.position.saga)
    .bind(&start.position.step)
    .bind(start.log_state())
    .execute(&mut *db)
    .await?;
    for change in start.journal_changes() {
        journal::append(db, &id, &change, request.now).await?;
    }
    Ok(Some(LeasedSaga {
        lease: FencedLease { order, fence },
        visit,
        sale,
        position: start.position,
    }))
}

pub(super) async fn lease_due_sagas(
    db: &mut SqliteConnection,
    request: LeaseRequest,
    include_own: bool,
    limit: u32,
) -> Result<Vec<LeasedSaga>, LedgerError> {
    let rows = sqlx::query(
        "UPDATE saga SET fence = fence + 1, lease_owner = ?1, lease_until = ?2
         WHERE order_id IN (SELECT order_id FROM saga
                            WHERE ended = 0 AND (lease_until < ?3 OR (?4 AND lease_owner = ?1))
                            ORDER BY lease_until LIMIT ?5)
         RETURNING order_id, fence, saga, step, undoing, attempts, step_started_at,
                   (SELECT visit FROM orders WHERE orders.id = saga.order_id) AS visit,
                   (SELECT sale FROM orders WHERE orders.id = saga.order_id) AS sale",
    )
    .bind(&request.owner)
    .bind(request.until.as_millis())
    .bind(request.now.as_millis())
    .bind(include_own)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter().map(leased).collect()
}

fn leased(row: &SqliteRow) -> Result<LeasedSaga, LedgerError> {
    Ok(LeasedSaga {
        lease: FencedLease {
            order: parse(row, "order_id")?,
            fence: row.try_get("fence")?,
        },
        visit: parse(row, "visit")?,
        sale: parse(row, "sale")?,
        position: Position {
            saga: row.try_get("saga")?,
            step: row.try_get("step")?,
            undoing: row.try_get("undoing")?,
            attempts: row.try_get("attempts")?,
            step_started_at: Timestamp::from_millis(row.try_get("step_started_at")?),
        },
    })
}
