//! The lifecycles of a process.

use crate::platform::shutdown::Lifecycle;

/// The lifecycles of a process, in the order in which they end.
#[derive(Clone, Debug, Default)]
pub(super) struct Lifecycles {
    /// Public connections and their requests.
    pub(super) visitors: Lifecycle,
    /// Stores, recovery loops, and orders in progress.
    pub(super) background: Lifecycle,
    /// Writers of ledger leases and progress, which must outlast both.
    pub(super) writers: Lifecycle,
}
