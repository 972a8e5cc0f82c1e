//! Guards against replays: signed-out sessions and used hand-offs are not accepted a second time, neither
//! after a restart nor by another process.

mod guard;
mod postgres;
mod sqlite;
pub(super) mod store;

pub use self::store::ReplayGuardLocation;
pub(crate) use self::{guard::ReplayGuard, store::UsedToken};
