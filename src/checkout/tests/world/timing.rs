//! The time of a world: the machine's, or one that the test moves.

use std::{sync::Arc, time::Duration};

use crate::kernel::{Clock, SystemClock};

/// The clock of a world, and its limit for payments whose outcome is unknown.
#[derive(Clone)]
pub(super) struct Timing {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) payment_timeout: Duration,
}

impl Timing {
    pub(super) fn real(payment_timeout: Duration) -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            payment_timeout,
        }
    }
}

/// How long a buyer has at the gateway's page in worlds with a clock of their own.
pub(crate) const PAYMENT_PAGE_TIMEOUT: Duration = Duration::from_millis(7_500);
