//! The lifecycles of a process.

use crate::platform::{process::Process, shutdown::Lifecycle};

/// The lifecycles of a process, in the order in which they end.
#[derive(Clone, Debug)]
pub(super) struct Lifecycles {
    /// Public connections and their requests.
    pub(super) visitors: Lifecycle,
    /// Stores, recovery loops, and orders in progress.
    pub(super) background: Lifecycle,
    /// Writers of ledger leases and progress, which must outlast both.
    pub(super) writers: Lifecycle,
}

impl Lifecycles {
    pub(super) fn of(process: &Process) -> Self {
        Self {
            visitors: Lifecycle::of(process),
            background: Lifecycle::of(process),
            writers: Lifecycle::of(process),
        }
    }
}
