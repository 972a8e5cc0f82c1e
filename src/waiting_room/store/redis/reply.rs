//! What scripts return, and how durations are written for them.

use std::{collections::HashMap, time::Duration};

use redis::{FromRedisValue, Value};

use crate::{
    kernel::{Timestamp, VisitId},
    platform::redis::CallError,
    waiting_room::store::port::{Reservation, StoreError},
};

impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unavailable | CallError::Rejected(_) => Self::Unavailable,
            CallError::Recovering => Self::Recovering,
        }
    }
}

/// A duration in whole milliseconds, as scripts take it.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Reads the reply of one of our own scripts. A reply of another shape is a bug in the script, so nothing of
/// it is used.
pub(super) fn parse<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    redis::from_redis_value(value).map_err(|error| {
        tracing::error!(%error, "a Redis script returned an unexpected reply; the call fails");
        StoreError::Unavailable
    })
}

/// Reads the reply of `reserve_slot.lua`.
pub(super) fn reservation_of(reply: &[Vec<u8>]) -> Result<Reservation, StoreError> {
    let reply: Vec<&[u8]> = reply.iter().map(Vec::as_slice).collect();
    match reply.as_slice() {
        [b"reserved", at_ms] => Ok(Reservation::Reserved {
            at: Timestamp::from_millis(number(at_ms)?),
        }),
        [b"admitted", visit] => Ok(Reservation::AlreadyAdmitted {
            visit: visit_of(visit).ok_or(StoreError::Unavailable)?,
        }),
        [b"being_admitted"] => Ok(Reservation::BeingAdmitted),
        [b"not_called"] => Ok(Reservation::NotCalledYet),
        [b"ended"] => Ok(Reservation::Ended),
        [b"no_room", again_ms] => Ok(Reservation::NoRoom {
            retry_after: Duration::from_millis(number(again_ms)?),
        }),
        _ => Err(StoreError::Unavailable),
    }
}

fn number<T: FromRedisValue>(text: &[u8]) -> Result<T, StoreError> {
    parse(Value::BulkString(text.to_vec()))
}

/// Reads a visit's id; `None` where it is not 16 bytes.
pub(super) fn visit_of(id: &[u8]) -> Option<VisitId> {
    uuid::Uuid::from_slice(id).ok().map(VisitId::from_uuid)
}

/// The reply of `sync_state.lua`.
pub(super) struct SyncReply {
    pub(super) now_serving: u32,
    /// The last record that Redis has applied.
    pub(super) applied_seq: u64,
    /// Slots in use.
    pub(super) active: u32,
    /// Permits available now.
    pub(super) permits: u32,
    /// Claimants of the called lane.
    pub(super) called_claimants: u32,
    /// Claimants of the late lane.
    pub(super) late_claimants: u32,
    pub(super) is_caller: bool,
    /// The stock last reported, as JSON; empty before the first report.
    pub(super) zones: String,
    pub(super) stock_age: Duration,
    /// The first claimants of the called lane by queue number.
    pub(super) first_called: Vec<u32>,
    /// The first claimants of the late lane by queue number.
    pub(super) first_late: Vec<u32>,
    /// The health of each box office that reported lately, as JSON.
    pub(super) healths: Vec<String>,
}

impl SyncReply {
    /// Reads names and values, alternating.
    pub(super) fn parse(reply: Value) -> Result<Self, StoreError> {
        let mut fields: HashMap<String, Value> = parse(reply)?;
        Ok(Self {
            now_serving: take(&mut fields, "now_serving")?,
            applied_seq: take(&mut fields, "applied_seq")?,
            active: take(&mut fields, "active")?,
            permits: take(&mut fields, "permits")?,
            called_claimants: take(&mut fields, "called_claimants")?,
            late_claimants: take(&mut fields, "late_claimants")?,
            is_caller: take(&mut fields, "is_caller")?,
            zones: take(&mut fields, "zones")?,
            stock_age: Duration::from_millis(take(&mut fields, "stock_age_ms")?),
            first_called: take(&mut fields, "first_called")?,
            first_late: take(&mut fields, "first_late")?,
            healths: take(&mut fields, "healths")?,
        })
    }
}

fn take<T: FromRedisValue>(fields: &mut HashMap<String, Value>, name: &str) -> Result<T, StoreError> {
    parse(fields.remove(name).unwrap_or(Value::Nil))
}
