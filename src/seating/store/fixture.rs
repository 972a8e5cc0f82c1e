//! Requests, ids and terms for tests of seat stores.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use crate::kernel::{HoldId, ManualClock, Subject, Timestamp, VisitId};

use crate::seating::{seat::SeatIx, store::port::StoreHold, types::HoldTerms};

/// The terms of every store under test.
pub(crate) const TERMS: HoldTerms = HoldTerms {
    hold_ttl: Duration::from_mins(7),
    extensions_max: 1,
    seats_per_customer_max: 4,
};

/// A store under test, and the clock that its holds expire by.
pub(crate) struct Fixture<S> {
    pub(crate) store: S,
    pub(crate) clock: Arc<ManualClock>,
}

pub(crate) fn customer(n: u8) -> Subject {
    Subject::customer(&n.to_string()).unwrap()
}

pub(crate) fn hold_id(n: u32) -> HoldId {
    HoldId::from_uuid(Uuid::from_u128(
        u128::from(n) << 64 | u128::from(n).wrapping_mul(0x9e37_79b9),
    ))
}

pub(crate) fn seats(indexes: &[u32]) -> Arc<[SeatIx]> {
    indexes.iter().map(|index| SeatIx(*index)).collect()
}

pub(crate) fn request(id: u32, subject: u8, indexes: &[u32]) -> StoreHold {
    StoreHold {
        id: hold_id(id),
        subject: customer(subject),
        visit: VisitId::from_uuid(Uuid::from_u128(7)),
        seats: seats(indexes),
        idempotency_key: None,
    }
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_millis(1_795_464_000_000)))
}
