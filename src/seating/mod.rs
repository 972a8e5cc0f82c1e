//! Seats of a performance: the plan, who holds or owns each seat, and what is free.
//!
//! A [`Plan`] is a venue's immutable list of seats. A [`Performance`] is one event on a plan: its
//! [`SeatStore`] decides atomically which subject gets which seats, and its availability snapshots and deltas
//! are what customers see. [`Seating`] holds all performances of all sales.
//!
//! Invariants:
//! - A seat has at most one live holder.
//! - A hold has all its seats or does not exist.
//! - A hold ends at its deadline unless a checkout has taken it over.
//! - A customer never has more seats than the limit, however many requests run in parallel.

pub(crate) mod allocation;
mod availability;
mod background;
mod gzip;
mod hold;
mod hold_requests;
mod performance;
pub(crate) mod plan;
mod pricing;
mod request_hash;
mod seat;
mod service;
mod store;
#[cfg(test)]
mod tests;
mod types;

pub(crate) use self::plan::document::Document as SeatingPlan;
pub use self::{
    availability::{EncodedSnapshot, SeatSubscription, ZoneStock},
    hold::{
        BeginOutcome, ChangeOutcome, ExtendOutcome, Hold, HoldOutcome, HoldSpec, HoldState, ReleaseOutcome,
        RestoredClaim, SeatingError,
    },
    performance::Performance,
    plan::{Attribute, Plan, PlanError, PlanErrors, SeatLabel, VenueKind, generate},
    seat::{SeatIx, SeatState, SeatStates},
    service::Seating,
    store::{
        BookReply, ChangeReply, DatasetStatus, ExtendReply, HoldRecord, HoldReply, IdempotencyKey,
        MemoryStore, RebuildOutcome, RedisStore, SeatChange, SeatStore, StoreHold,
    },
    types::{Config, Deps, HoldTerms, OpenError, StoreBackend, StoreError},
};
