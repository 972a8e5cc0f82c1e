//! How long a saga pauses before it tries a step again, and how long its lease lasts.

use std::time::Duration;

use crate::kernel::Entropy;

const LEDGER_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Timeouts and pauses of a saga, all derived from two configured times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryPolicy {
    retry_base: Duration,
    retry_max: Duration,
    /// How often a payment is looked up while its buyer is on the gateway's page.
    pub(super) poll_interval: Duration,
    lease_duration: Duration,
    /// A step that takes longer is reported.
    pub(super) stuck_after: Duration,
    /// How often the reconciler runs.
    pub(crate) reconcile_interval: Duration,
}

impl RetryPolicy {
    pub(crate) fn from_timeouts(gateway_timeout: Duration, payment_timeout: Duration) -> Self {
        let retry_base = (gateway_timeout / 50).max(Duration::from_millis(1));
        Self {
            retry_base,
            retry_max: gateway_timeout * 6,
            poll_interval: gateway_timeout,
            lease_duration: gateway_timeout * 6,
            stuck_after: payment_timeout * 2,
            reconcile_interval: (gateway_timeout / 4)
                .clamp(Duration::from_millis(20), Duration::from_secs(1)),
        }
    }

    /// How long a lease lasts, not counting pauses.
    pub(crate) fn lease_duration(&self) -> Duration {
        self.lease_duration
    }

    /// The backoff after failures of the ledger: as [`RetryPolicy::backoff`], but short, because orders go on
    /// as soon as the ledger does.
    pub(super) fn ledger_backoff(&self, failures: u32, entropy: &dyn Entropy) -> Duration {
        self.backoff(failures, entropy).min(LEDGER_BACKOFF_MAX)
    }

    /// The pause before the reconciler runs again after so many failures in a row.
    pub(crate) fn reconcile_pause(&self, failures: u32) -> Duration {
        self.reconcile_interval.max(
            self.reconcile_interval
                .saturating_mul(1 << failures.min(8))
                .min(LEDGER_BACKOFF_MAX),
        )
    }

    /// Exponential backoff with full jitter: uniform between zero and the doubled pause, which is capped.
    pub(super) fn backoff(&self, attempts: u32, entropy: &dyn Entropy) -> Duration {
        let longest = self
            .retry_base
            .saturating_mul(1 << attempts.min(20))
            .min(self.retry_max);
        longest.mul_f64(entropy.unit())
    }
}
