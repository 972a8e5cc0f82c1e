//! The seat store on Redis: any number of nodes share one performance, and each step is one script.
//!
//! All keys of a performance carry its hash tag, so that they are on one server of a cluster. Scripts use the
//! server's own clock. A script may run twice, because a reply may be lost: each knows by the id of the hold
//! or by the idempotency key what it has done. Redis may lose the dataset at any moment; its owner then
//! rebuilds it from the ledger under a new epoch ([`RedisStore::rebuild`]), and until then every call fails
//! with [`StoreError::Recovering`](crate::seating::StoreError::Recovering).
//!
//! | key | holds |
//! |---|---|
//! | `{sale:performance}:seats` | two bits a seat, as [`SeatStates::to_bytes`] |
//! | `{sale:performance}:holds` | hash: hold -> record (`shared.lua`), also while paying and booked |
//! | `{sale:performance}:deadlines` | sorted set: hold -> deadline; only holds that can expire |
//! | `{sale:performance}:holders` | hash: subject -> seats held, being paid and booked; blank; hold ids |
//! | `{sale:performance}:changes` | stream of seat changes; the entry id `epoch-number` is the version |
//! | `{sale:performance}:completed` | hash: requests done in the present period (`completed.lua`) |
//! | `{sale:performance}:completed_before` | the same of the period before |
//! | `{sale:performance}:ready` | the epoch whose data are complete; missing while they are not |
//! | `{sale:performance}:dataset_id` | the activated dataset: another one may be an incomplete copy |
//! | `{sale:performance}:rebuild` | epoch and token of the rebuilding node; expires when it dies |
//!
//! [`SeatStates::to_bytes`]: crate::seating::SeatStates::to_bytes

mod change_feed;
mod core;
mod feed_reader;
mod hold_batchers;
mod rebuild;
mod record;
mod reply;
mod scripts;
mod seat_words;
mod store;
#[cfg(test)]
mod tests;

pub use self::{
    rebuild::{DatasetStatus, RebuildOutcome},
    store::RedisStore,
};
