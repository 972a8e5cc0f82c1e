//! Conversion of rows.

use std::{fmt::Display, str::FromStr};

use sqlx::{Row, sqlite::SqliteRow};

use crate::{
    checkout::{
        ledger::port::LedgerError,
        order::{Order, OrderState, Reason},
        types::{PerformanceKey, SeatInfo},
    },
    kernel::{Money, Subject, Timestamp},
};

pub(super) fn parse<T: FromStr<Err: Display>>(row: &SqliteRow, column: &str) -> Result<T, LedgerError> {
    row.try_get::<String, _>(column)?
        .parse()
        .map_err(|e| LedgerError::Unavailable(format!("the stored {column}: {e}")))
}

pub(super) fn time(row: &SqliteRow, column: &str) -> Result<Timestamp, LedgerError> {
    Ok(Timestamp::from_millis(row.try_get(column)?))
}

pub(super) fn subject(row: &SqliteRow) -> Result<Subject, LedgerError> {
    Subject::from_stored(row.try_get("buyer")?)
        .map_err(|e| LedgerError::Unavailable(format!("the stored buyer: {e}")))
}

pub(super) fn order_of(row: &SqliteRow) -> Result<Order, LedgerError> {
    let state: String = row.try_get("state")?;
    let seats: String = row.try_get("seats")?;
    let seats: Vec<SeatInfo> = serde_json::from_str(&seats)
        .map_err(|e| LedgerError::Unavailable(format!("the stored seats of an order: {e}")))?;
    Ok(Order {
        id: parse(row, "id")?,
        performance_key: PerformanceKey {
            sale: parse(row, "sale")?,
            performance: parse(row, "performance")?,
        },
        buyer: subject(row)?,
        visit: parse(row, "visit")?,
        hold: parse(row, "hold")?,
        state: OrderState::from_stored(&state)
            .ok_or_else(|| LedgerError::Unavailable(format!("the stored state {state}")))?,
        reason: row
            .try_get::<Option<String>, _>("reason")?
            .as_deref()
            .and_then(Reason::from_stored),
        stuck: row.try_get("stuck")?,
        seats,
        total: Money::new(row.try_get("amount")?, parse(row, "currency")?),
        payment_key: row.try_get("payment_key")?,
        payment_url: row.try_get("payment_url")?,
        payment_deadline: time(row, "payment_deadline")?,
        created_at: time(row, "created_at")?,
    })
}
