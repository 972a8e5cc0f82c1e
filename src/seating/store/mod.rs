//! Where seats change hands: the [`SeatStore`] port, its embedded implementation and the one on Redis.

mod change_log;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod fixture;
mod memory;
#[cfg(test)]
mod model_check;
mod port;
mod redis;
#[cfg(test)]
mod reference_model;

pub use self::{
    memory::MemoryStore,
    port::{
        BookReply, ChangeReply, ExtendReply, HoldRecord, HoldReply, IdempotencyKey, SeatChange, SeatStore,
        StoreHold,
    },
    redis::{DatasetStatus, RebuildOutcome, RedisStore},
};
