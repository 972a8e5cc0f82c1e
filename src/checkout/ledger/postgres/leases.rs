//! Sagas and their leases.

use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{journal, rows::parse, transaction::TxResult};
use crate::{
    checkout::ledger::port::{
        FencedLease, LeaseRequest, LeasedSaga, LedgerError, Position, Progress, SagaStart,
    },
    kernel::{OrderId, Timestamp},
};

/// Fails with [`LedgerError::LeaseLost`] unless this is the order's latest lease, and locks the order's saga
/// row: no one else can lease the order before this transaction ends.
pub(super) async fn check_lease(db: &mut PgConnection, lease: FencedLease) -> TxResult<()> {
    let held = sqlx::query("SELECT 1 FROM saga WHERE order_id = $1 AND fence = $2 FOR NO KEY UPDATE")
        .bind(lease.order.to_string())
        .bind(lease.fence)
        .fetch_optional(db)
        .await?;
    Ok(held.map(|_| ()).ok_or(LedgerError::LeaseLost)?)
}

pub(super) async fn record_progress(
    db: &mut PgConnection,
    lease: FencedLease,
    progress: Progress,
) -> TxResult<()> {
    let id = lease.order.to_string();
    let position = &progress.position;
    let kept = sqlx::query(
        "UPDATE saga SET saga = $3, step = $4, undoing = $5, attempts = $6, step_started_at = $7,
         ended = $8, lease_until = $9
         WHERE order_id = $1 AND fence = $2",
    )
    .bind(&id)
    .bind(lease.fence)
    .bind(&position.saga)
    .bind(&position.step)
    .bind(position.undoing)
    .bind(i64::from(position.attempts))
    .bind(position.step_started_at.as_millis())
    .bind(progress.ended)
    .bind(progress.lease_until.as_millis())
    .execute(&mut *db)
    .await?;
    if kept.rows_affected() == 0 {
        return Err(LedgerError::LeaseLost.into());
    }
    sqlx::query(
        "UPDATE orders SET stuck = $2, reason = COALESCE($3, reason) WHERE id = $1
        AND (stuck != $2 OR $3 IS NOT NULL)",
    )
    .bind(&id)
    .bind(progress.stuck)
    .bind(progress.reason.map(|reason| reason.to_string()))
    .execute(&mut *db)
    .await?;
    append_saga_log(db, &id, &position.saga, &progress.log, progress.at).await
}

/// Appends to the saga log. The order's saga row is locked, so the sequence cannot be taken by another
/// transaction.
async fn append_saga_log(
    db: &mut PgConnection,
    id: &str,
    saga: &str,
    entries: &[(String, &'static str)],
    at: Timestamp,
) -> TxResult<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let (steps, states): (Vec<&str>, Vec<&str>) = entries
        .iter()
        .map(|(step, state)| (step.as_str(), *state))
        .unzip();
    sqlx::query(
        "INSERT INTO saga_log (order_id, sequence, at, saga, step, state)
         SELECT $1, (SELECT COALESCE(MAX(sequence), 0) FROM saga_log
         WHERE order_id = $1) + place, $2, $3, step, state
         FROM UNNEST($4::text[], $5::text[]) WITH ORDINALITY AS it (step, state, place)",
    )
    .bind(id)
    .bind(at.as_millis())
    .bind(saga)
    .bind(steps)
    .bind(states)
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn start_saga(
    db: &mut PgConnection,
    order: OrderId,
    start: SagaStart,
    request: LeaseRequest,
) -> TxResult<Option<LeasedSaga>> {
    let id = order.to_string();
    // Every transaction locks the saga row before the order row.
    sqlx::query("SELECT 1 FROM saga WHERE order_id = $1 FOR NO KEY UPDATE")
        .bind(&id)
        .execute(&mut *db)
        .await?;
    let changed = sqlx::query(
        "UPDATE orders SET state = $3, reason = $4, payment_check_at = NULL, updated_at = $5 WHERE id = $1
         AND state = $2 RETURNING visit, sale",
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
    sqlx::query("DELETE FROM closed_attempt WHERE order_id = $1")
        .bind(&id)
        .execute(&mut *db)
        .await?;
    let fence: i64 = sqlx::query_scalar(
        "UPDATE saga SET saga = $2, step = $3, undoing = $7, attempts = 0, step_started_at = $4,
         ended = FALSE, lease_owner = $5, lease_until = $6,
                         fence = fence + 1
         WHERE order_id = $1 RETURNING fence",
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
    append_saga_log(
        db,
        &id,
        &start.position.saga,
        &[(start.position.step.clone(), start.log_state())],
        request.now,
    )
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

/// Skips rows that are locked: another node is leasing them, or a running saga is writing to them.
pub(super) async fn lease_due_sagas(
    db: &mut PgConnection,
    request: LeaseRequest,
    include_own: bool,
    limit: u32,
) -> TxResult<Vec<LeasedSaga>> {
    let rows = sqlx::query(
        "WITH due AS (SELECT order_id FROM saga
                      WHERE NOT ended AND (lease_until < $3 OR ($4 AND lease_owner = $1))
                      ORDER BY lease_until LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED)
         UPDATE saga s SET fence = s.fence + 1, lease_owner = $1, lease_until = $2
         FROM due JOIN orders o ON o.id = due.order_id
         WHERE s.order_id = due.order_id
         RETURNING s.order_id, s.fence, s.saga, s.step, s.undoing, s.attempts, s.step_started_at, o.visit,
                   o.sale",
    )
    .bind(&request.owner)
    .bind(request.until.as_millis())
    .bind(request.now.as_millis())
    .bind(include_own)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    rows.iter().map(leased).collect()
}

fn leased(row: &PgRow) -> TxResult<LeasedSaga> {
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
            attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
            step_started_at: Timestamp::from_millis(row.try_get("step_started_at")?),
        },
    })
}
