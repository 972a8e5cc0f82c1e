//! Replies of the scripts: a list of a status word and its values.

use redis::Value;
use uuid::Uuid;

use crate::{
    kernel::HoldId,
    seating::{
        seat::SeatIx,
        store::{port::HoldRecord, redis::record},
        types::StoreError,
    },
};

/// A script's reply. What each position holds stands at the head of the script's file.
pub(super) struct ScriptReply(Vec<Value>);

impl ScriptReply {
    pub(super) fn new(value: Value) -> Result<Self, StoreError> {
        match value {
            Value::Array(parts) => Ok(Self(parts)),
            _ => Err(unreadable()),
        }
    }

    /// The first value, if the script begins its reply with a word.
    pub(super) fn status(&self) -> &[u8] {
        self.bytes(0).unwrap_or_default()
    }

    pub(super) fn bytes(&self, at: usize) -> Result<&[u8], StoreError> {
        match self.0.get(at) {
            Some(Value::BulkString(bytes)) => Ok(bytes),
            _ => Err(unreadable()),
        }
    }

    /// A number, or one written in decimal digits.
    pub(super) fn number(&self, at: usize) -> Result<i64, StoreError> {
        match self.0.get(at) {
            Some(Value::Int(number)) => Ok(*number),
            Some(Value::BulkString(digits)) => std::str::from_utf8(digits)
                .ok()
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(unreadable),
            _ => Err(unreadable()),
        }
    }

    /// The values from `from` on.
    pub(super) fn parts(self, from: usize) -> impl Iterator<Item = Value> {
        self.0.into_iter().skip(from)
    }

    /// The values from `from` on, as seats.
    pub(super) fn seats(&self, from: usize) -> Result<Vec<SeatIx>, StoreError> {
        numbers(self.0.get(from..).unwrap_or_default()).map(seats)
    }

    /// The list at `at`, as seats.
    pub(super) fn seat_list(&self, at: usize) -> Result<Vec<SeatIx>, StoreError> {
        match self.0.get(at) {
            Some(Value::Array(list)) => numbers(list).map(seats),
            _ => Err(unreadable()),
        }
    }

    /// The values from `from` on: what the script found in these words.
    pub(super) fn words(&self, words: &[(u64, u32)], from: usize) -> Result<Vec<(u64, u32)>, StoreError> {
        let found = numbers(self.0.get(from..).unwrap_or_default())?;
        if found.len() != words.len() {
            return Err(unreadable());
        }
        Ok(words.iter().map(|(offset, _)| *offset).zip(found).collect())
    }

    /// The record at `at`, of the hold with this id.
    pub(super) fn record(&self, id: HoldId, at: usize) -> Result<HoldRecord, StoreError> {
        record::parse_hold(id, self.bytes(at)?).ok_or_else(unreadable)
    }

    /// All values as holds: of each its id, then its record.
    pub(super) fn holds(&self) -> Result<Vec<HoldRecord>, StoreError> {
        (0..self.0.len()).step_by(2).map(|at| self.hold(at)).collect()
    }

    /// The hold of a `replayed` reply: its id, then its record.
    pub(super) fn replayed(&self) -> Result<HoldRecord, StoreError> {
        self.hold(1)
    }

    /// The hold whose id is at `at`, and whose record follows it.
    fn hold(&self, at: usize) -> Result<HoldRecord, StoreError> {
        let id = Uuid::from_slice(self.bytes(at)?).map_err(|_| unreadable())?;
        self.record(HoldId::from_uuid(id), at + 1)
    }
}

/// Logs that a reply cannot be understood. The call may have taken effect.
pub(super) fn unreadable() -> StoreError {
    tracing::error!(
        "reply of the seat store cannot be read; check that all nodes on this Redis run the same version"
    );
    StoreError::NoAnswer
}

fn numbers(values: &[Value]) -> Result<Vec<u32>, StoreError> {
    let number = |value: &Value| match value {
        Value::Int(number) => u32::try_from(*number).ok(),
        _ => None,
    };
    values
        .iter()
        .map(number)
        .collect::<Option<_>>()
        .ok_or_else(unreadable)
}

fn seats(numbers: Vec<u32>) -> Vec<SeatIx> {
    numbers.into_iter().map(SeatIx).collect()
}
