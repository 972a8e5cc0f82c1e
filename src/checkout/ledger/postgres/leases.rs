//! Sagas and the right to drive them.

use sqlx::{PgConnection, Row, postgres::PgRow};

use crate::checkout::ledger::postgres::{Work, audit, open_order::parse_order_id};
use crate::{
    checkout::{
        ledger::{LeaseRequest, LeasedSaga, LedgerError, Position, Progress, FencedLease},
        order::{OrderState, Reason},
    },
    kernel::{OrderId, Timestamp},
};

pub(super) async fn record_progress(db: &mut PgConnection, lease: FencedLease, progress: Progress) -> Work<()> {
    let id = lease.order.to_string();
    let position = &progress.position;
    let kept = sqlx::query(
        "UPDATE saga SET saga = $3, step = $4, back = $5, attempts = $6, since = $7, ended = $8, lease_until = $9
         WHERE order_id = $1 AND fence = $2",
    )
    .bind(&id)
    .bind(lease.fence)
    .bind(&position.saga)
    .bind(&position.step)
    .bind(position.back)
    .bind(i64::from(position.attempts))
    .bind(position.since.as_millis())
    .bind(progress.ended)
    .bind(progress.lease_until.as_millis())
    .execute(&mut *db)
    .await?;
    if kept.rows_affected() == 0 {
        return Err(LedgerError::LeaseLost.into());
    }
    sqlx::query("UPDATE orders SET stuck = $2, reason = COALESCE($3, reason) WHERE id = $1 AND (stuck != $2 OR $3 IS NOT NULL)")
        .bind(&id)
        .bind(progress.stuck)
        .bind(progress.reason.map(|it| it.to_string()))
        .execute(&mut *db)
        .await?;
    log(db, &id, &position.saga, &progress.log, progress.at).await
}

/// Appends to the order's story. Its saga row is locked, so nobody else counts its lines now.
async fn log(
    db: &mut PgConnection,
    id: &str,
    saga: &str,
    entries: &[(String, &'static str)],
    at: Timestamp,
) -> Work<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let (steps, states): (Vec<&str>, Vec<&str>) = entries
        .iter()
        .map(|(step, state)| (step.as_str(), *state))
        .unzip();
    sqlx::query(
        "INSERT INTO saga_log (order_id, n, at, saga, step, state)
         SELECT $1, (SELECT COALESCE(MAX(n), 0) FROM saga_log WHERE order_id = $1) + place, $2, $3, step, state
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
    from: OrderState,
    to: OrderState,
    reason: Reason,
    position: Position,
    lease_request: LeaseRequest,
) -> Work<Option<LeasedSaga>> {
    let id = order.to_string();
    // The saga's row before the order's, as everybody does.
    sqlx::query("SELECT 1 FROM saga WHERE order_id = $1 FOR NO KEY UPDATE")
        .bind(&id)
        .execute(&mut *db)
        .await?;
    let changed = sqlx::query(
        "UPDATE orders SET state = $3, reason = $4, check_at = NULL, updated_at = $5 WHERE id = $1 AND state = $2 RETURNING visit",
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
    sqlx::query("DELETE FROM closed_attempt WHERE order_id = $1")
        .bind(&id)
        .execute(&mut *db)
        .await?;
    let fence: i64 = sqlx::query_scalar(
        "UPDATE saga SET saga = $2, step = $3, back = FALSE, attempts = 0, since = $4, ended = FALSE, lease_owner = $5, lease_until = $6,
                         fence = fence + 1
         WHERE order_id = $1 RETURNING fence",
    )
    .bind(&id)
    .bind(&position.saga)
    .bind(&position.step)
    .bind(lease_request.now.as_millis())
    .bind(&lease_request.owner)
    .bind(lease_request.until.as_millis())
    .fetch_one(&mut *db)
    .await?;
    log(
        db,
        &id,
        &position.saga,
        &[(position.step.clone(), "started")],
        lease_request.now,
    )
    .await?;
    audit::append(db, &id, &format!("saga {}", position.saga), lease_request.now).await?;
    let visit = visit
        .parse()
        .map_err(|_| LedgerError::Unavailable("a stored visit id".into()))?;
    Ok(Some(LeasedSaga {
        lease: FencedLease { order, fence },
        visit,
        position,
    }))
}

/// Rows that another node leases, or that a driver is writing to, at this moment are passed over.
pub(super) async fn lease_due_sagas(
    db: &mut PgConnection,
    lease_request: LeaseRequest,
    include_own: bool,
    limit: u32,
) -> Work<Vec<LeasedSaga>> {
    let rows = sqlx::query(
        "WITH due AS (SELECT order_id FROM saga
                      WHERE NOT ended AND (lease_until < $3 OR ($4 AND lease_owner = $1))
                      ORDER BY lease_until LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED)
         UPDATE saga s SET fence = s.fence + 1, lease_owner = $1, lease_until = $2
         FROM due JOIN orders o ON o.id = due.order_id
         WHERE s.order_id = due.order_id
         RETURNING s.order_id, s.fence, s.saga, s.step, s.back, s.attempts, s.since, o.visit",
    )
    .bind(&lease_request.owner)
    .bind(lease_request.until.as_millis())
    .bind(lease_request.now.as_millis())
    .bind(include_own)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await?;
    rows.iter().map(leased).collect()
}

fn leased(row: &PgRow) -> Work<LeasedSaga> {
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
            attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(u32::MAX),
            since: Timestamp::from_millis(row.try_get("since")?),
        },
    })
}
