//! Requests with an idempotency key that were done, so that sending one again does nothing new.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::kernel::Timestamp;

use crate::seating::store::port::{HoldRecord, IdempotencyKey};

const REQUESTS_MAX: usize = 1 << 16;
const RETENTION: Duration = Duration::from_mins(10);

/// The requests of the last ten minutes, the oldest discarded first when there are too many.
#[derive(Default)]
pub(super) struct CompletedRequests {
    by_key: HashMap<[u8; 16], CompletedRequest>,
    by_age: VecDeque<(Timestamp, [u8; 16])>,
}

pub(super) struct CompletedRequest {
    at: Timestamp,
    pub(super) request_hash: [u8; 16],
    /// The hold as it was made.
    pub(super) record: HoldRecord,
}

impl CompletedRequests {
    pub(super) fn get(&self, key: &IdempotencyKey, now: Timestamp) -> Option<&CompletedRequest> {
        self.by_key
            .get(&key.key_hash)
            .filter(|request| request.at >= now.minus(RETENTION))
    }

    pub(super) fn insert(&mut self, key: &IdempotencyKey, record: HoldRecord, now: Timestamp) {
        let oldest = now.minus(RETENTION);
        while let Some((at, hash)) = self.by_age.front()
            && (*at < oldest || self.by_age.len() >= REQUESTS_MAX)
        {
            // The same key may have been used again later; then only that use counts.
            if self.by_key.get(hash).is_some_and(|request| request.at == *at) {
                self.by_key.remove(hash);
            }
            self.by_age.pop_front();
        }
        self.by_age.push_back((now, key.key_hash));
        self.by_key.insert(
            key.key_hash,
            CompletedRequest {
                at: now,
                request_hash: key.request_hash,
                record,
            },
        );
    }
}
