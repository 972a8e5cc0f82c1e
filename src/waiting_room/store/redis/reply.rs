//! What scripts return, and how their arguments are written.

use std::time::Duration;

use redis::{FromRedisValue, Value};

use crate::{platform::redis::CallError, waiting_room::store::port::StoreError};

impl From<CallError> for StoreError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unavailable | CallError::Rejected(_) => Self::Away,
            CallError::Recovering => Self::Rebuilding,
        }
    }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The answer of one of our own scripts; anything else is a slip in it, and nothing can be relied on.
pub(super) fn read<T: FromRedisValue>(value: Value) -> Result<T, StoreError> {
    redis::from_redis_value(value).map_err(|error| {
        tracing::error!(%error, "a script answered what was not expected");
        StoreError::Away
    })
}
