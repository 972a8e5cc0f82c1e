//! Operations that were done, so that sending one again does nothing new.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::kernel::Timestamp;

use super::{HoldRecord, IdempotencyKey};

const KEPT: usize = 1 << 16;
const MEMORY: Duration = Duration::from_mins(10);

#[derive(Default)]
pub(super) struct Operations {
    by_key: HashMap<[u8; 16], Remembered>,
    by_age: VecDeque<(Timestamp, [u8; 16])>,
}

pub(super) struct Remembered {
    at: Timestamp,
    pub(super) wish: [u8; 16],
    /// The hold as it was made.
    pub(super) record: HoldRecord,
}

impl Operations {
    pub(super) fn get(&self, operation: &IdempotencyKey, now: Timestamp) -> Option<&Remembered> {
        self.by_key
            .get(&operation.key)
            .filter(|it| it.at >= now.minus(MEMORY))
    }

    pub(super) fn remember(&mut self, operation: &IdempotencyKey, record: HoldRecord, now: Timestamp) {
        let forget_before = now.minus(MEMORY);
        while let Some((at, key)) = self.by_age.front()
            && (*at < forget_before || self.by_age.len() >= KEPT)
        {
            if self.by_key.get(key).is_some_and(|it| it.at == *at) {
                self.by_key.remove(key);
            }
            self.by_age.pop_front();
        }
        self.by_age.push_back((now, operation.key));
        self.by_key.insert(
            operation.key,
            Remembered {
                at: now,
                wish: operation.request_hash,
                record,
            },
        );
    }
}
