//! The store: the fast state of one sale's queue, and the one place where an entry slot is reserved.

#[cfg(test)]
pub(super) mod conformance;
mod entries;
pub(crate) mod memory;
pub(crate) mod port;
pub(crate) mod redis;
pub(crate) mod settings;

pub use self::port::StoreError;
pub(crate) use self::{
    memory::MemoryStore,
    port::{
        DrawnStore, EndedVisit, EntryAsk, Finished, Found, JoinGroup, Moment, Numbered,
        PassGrant, QueueStore, Reservation, SharedBoard, Standing, Stock,
    },
    redis::RedisStore,
};
