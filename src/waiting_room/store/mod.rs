//! The store: the fast state of one sale's queue, and the one place where an entry slot is reserved.

#[cfg(test)]
pub(super) mod conformance;
mod entries;
mod memory;
pub(crate) mod port;
mod redis;
pub(crate) mod settings;

pub(crate) use self::{
    memory::MemoryStore,
    port::{
        Counts, DrawnStore, EndedVisit, EntryAsk, Finished, Found, Heard, JoinGroup, Moment, Numbered,
        PassGrant, QueueStore, Reservation, SharedBoard, Standing, Stock, StoreError,
    },
    redis::RedisStore,
    settings::Settings,
};
