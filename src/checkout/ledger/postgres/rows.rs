//! Conversion of rows.

use std::{fmt::Display, str::FromStr};

use sqlx::{Row, postgres::PgRow};

use super::transaction::TxResult;
use crate::{
    checkout::{
        ledger::port::LedgerError,
        order::{Order, OrderState, Reason},
        types::{ClaimedSeats, PerformanceKey, SeatInfo},
    },
    kernel::{Money, Subject, Timestamp},
};

pub(super) fn unreadable(what: &str, why: impl Display) -> LedgerError {
    LedgerError::Unavailable(format!("the stored {what}: {why}"))
}

pub(super) fn parse<T: FromStr<Err: Display>>(row: &PgRow, column: &str) -> TxResult<T> {
    Ok(row
        .try_get::<String, _>(column)?
        .parse()
        .map_err(|e| unreadable(column, e))?)
}

pub(super) fn time(row: &PgRow, column: &str) -> TxResult<Timestamp> {
    Ok(Timestamp::from_millis(row.try_get(column)?))
}

pub(super) fn subject(row: &PgRow) -> TxResult<Subject> {
    Ok(Subject::from_stored(row.try_get("buyer")?).map_err(|e| unreadable("buyer", e))?)
}

pub(super) fn order_of(row: &PgRow) -> TxResult<Order> {
    let state: String = row.try_get("state")?;
    let seats: Vec<SeatInfo> =
        serde_json::from_str(row.try_get("seats")?).map_err(|e| unreadable("seats of an order", e))?;
    Ok(Order {
        id: parse(row, "id")?,
        performance_key: PerformanceKey {
            sale: parse(row, "sale")?,
            performance: parse(row, "performance")?,
        },
        buyer: subject(row)?,
        visit: parse(row, "visit")?,
        hold: parse(row, "hold")?,
        state: OrderState::from_stored(&state).ok_or_else(|| unreadable("state", state))?,
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

pub(super) fn claimed(row: &PgRow) -> TxResult<ClaimedSeats> {
    Ok(ClaimedSeats {
        performance_key: PerformanceKey {
            sale: parse(row, "sale")?,
            performance: parse(row, "performance")?,
        },
        hold: parse(row, "hold")?,
        buyer: subject(row)?,
        visit: parse(row, "visit")?,
        seats: row.try_get("seats")?,
        booked: row.try_get("booked")?,
        until: time(row, "until")?,
    })
}
