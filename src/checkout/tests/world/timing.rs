//! The time of a world: the machine's, or one that the test moves.

use std::{sync::Arc, time::Duration};

use crate::kernel::{Clock, SystemClock, Timestamp};

/// The clock of a world, and its limit for payments whose outcome is unknown.
#[derive(Clone)]
pub(super) struct Timing {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) payment_timeout: Duration,
    pub(super) doors_open_at: Timestamp,
}

impl Timing {
    pub(super) fn real(payment_timeout: Duration) -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            payment_timeout,
            doors_open_at: Timestamp::from_millis(i64::MAX),
        }
    }
}

/// When the doors open in worlds with a clock of their own, from their beginning.
pub(crate) const DOORS_OPEN_IN: Duration = Duration::from_hours(24);

/// How long a buyer has at the gateway's page in worlds with a clock of their own.
pub(crate) const PAYMENT_PAGE_TIMEOUT: Duration = Duration::from_millis(7_500);
