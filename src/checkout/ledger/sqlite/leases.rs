//! Sagas and the right to drive them.

use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{attempts::parse_order_id, audit};
use crate::{
    checkout::{
        ledger::{LeaseRequest, LeasedSaga, LedgerError, Position, Progress, FencedLease},
        order::{OrderState, Reason},
    },
    kernel::{OrderId, Timestamp},
};

pub(super) async fn record_progress(
    db: &mut SqliteConnection,
    lease: FencedLease,
    progress: Progress,
) -> Result<(), LedgerError> {
    let position = &progress.position;
    let kept = sqlx::query(
        "UPDATE saga SET saga = $3, step = $4, back = $5, attempts = $6, since = $7, ended = $8, lease_until = $9
         WHERE order_id = $1 AND fence = $2;
         UPDATE orders SET stuck = $10, reason = COALESCE($11, reason)
         WHERE id = $1 AND (stuck != $10 OR $11 IS NOT NULL) AND EXISTS (SELECT 1 FROM saga WHERE order_id = $1 AND fence = $2);
         INSERT INTO saga_log (order_id, n, at, saga, step, state)
         SELECT $1, (SELECT COALESCE(MAX(n), 0) FROM saga_log WHERE order_id = $1) + 1 + key, $12, $3, value ->> 0, value ->> 1
         FROM json_each($13) WHERE EXISTS (SELECT 1 FROM saga WHERE order_id = $1 AND fence = $2)",
    )
    .bind(lease.order.to_string())
    .bind(lease.fence)
    .bind(&position.saga)
    .bind(&position.step)
    .bind(position.back)
    .bind(position.attempts)
    .bind(position.since.as_millis())
    .bind(progress.ended)
    .bind(progress.lease_until.as_millis())
    .bind(progress.stuck)
    .bind(progress.reason.map(|it| it.to_string()))
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
    from: OrderState,
    to: OrderState,
    reason: Reason,
    position: Position,
    lease_request: LeaseRequest,
) -> Result<Option<LeasedSaga>, LedgerError> {
    let id = order.to_string();
    let changed = sqlx::query(
        "UPDATE orders SET state = ?3, reason = ?4, check_at = NULL, updated_at = ?5 WHERE id = ?1 AND state = ?2 RETURNING visit",
    )
    .bind(&id)
    .bind(from.as_str())
    .bind(to.as_str())
    .bind(reason.to_string())
    .bind(lease_request.now.as_millis())
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = changed else { return Ok(None) };
    let visit: String = row.try_get("visit")?;
    // Older drivers are fenced off below, so the mark that kept them from claiming may go.
    sqlx::query("DELETE FROM closed_attempt WHERE order_id = ?1")
        .bind(&id)
        .execute(&mut *db)
        .await?;
    let fence: i64 = sqlx::query_scalar(
        "UPDATE saga SET saga = ?2, step = ?3, back = 0, attempts = 0, since = ?4, ended = 0, lease_owner = ?5, lease_until = ?6,
                         fence = fence + 1
         WHERE order_id = ?1 RETURNING fence",
    )
    .bind(&id)
    .bind(&position.saga)
    .bind(&position.step)
    .bind(lease_request.now.as_millis())
    .bind(&lease_request.owner)
    .bind(lease_request.until.as_millis())
    .fetch_one(&mut *db)
    .await?;
    sqlx::query(
        "INSERT INTO saga_log (order_id, n, at, saga, step, state)
         SELECT ?1, COALESCE(MAX(n), 0) + 1, ?2, ?3, ?4, 'started' FROM saga_log WHERE order_id = ?1",
    )
    .bind(&id)
    .bind(lease_request.now.as_millis())
    .bind(&position.saga)
    .bind(&position.step)
    .execute(&mut *db)
    .await?;
    audit(db, &id, &format!("saga {}", position.saga), lease_request.now).await?;
    let visit = visit
        .parse()
        .map_err(|_| LedgerError::Unavailable("a stored visit id".into()))?;
    Ok(Some(LeasedSaga {
        lease: FencedLease { order, fence },
        visit,
        position,
    }))
}

pub(super) async fn lease_due_sagas(
    db: &mut SqliteConnection,
    lease_request: LeaseRequest,
    include_own: bool,
    limit: u32,
) -> Result<Vec<LeasedSaga>, LedgerError> {
    let rows = sqlx::query(
        "UPDATE saga SET fence = fence + 1, lease_owner = ?1, lease_until = ?2
         WHERE order_id IN (SELECT order_id FROM saga
                            WHERE ended = 0 AND (lease_until < ?3 OR (?4 AND lease_owner = ?1))
                            ORDER BY lease_until LIMIT ?5)
         RETURNING order_id, fence, saga, step, back, attempts, since,
                   (SELECT visit FROM orders WHERE orders.id = saga.order_id) AS visit",
    )
    .bind(&lease_request.owner)
    .bind(lease_request.until.as_millis())
    .bind(lease_request.now.as_millis())
    .bind(include_own)
    .bind(limit)
    .fetch_all(db)
    .await?;
    rows.iter().map(leased).collect()
}

fn leased(row: &SqliteRow) -> Result<LeasedSaga, LedgerError> {
    let visit: String = row.try_get("visit")?;
    Ok(LeasedSaga {
        lease: FencedLease {
            order: parse_order_id(row.try_get("order_id")?)?,
            fence: row.try_get("fence")?,
        },
        visit: visit
            .parse()
            .map_err(|_| LedgerError::Unavailable("a stored visit id".into()))?,
        position: Position {
            saga: row.try_get("saga")?,
            step: row.try_get("step")?,
            back: row.try_get("back")?,
            attempts: row.try_get("attempts")?,
            since: Timestamp::from_millis(row.try_get("since")?),
        },
    })
}
