//! The state that requests and the webhook sender share.

use tokio::sync::Notify;

use super::{config::SandboxConfig, store::PaymentStore};
use crate::platform::shutdown::Lifecycle;

pub(super) struct Gateway {
    pub(super) config: SandboxConfig,
    pub(super) store: PaymentStore,
    /// Wakes the webhook sender.
    pub(super) webhooks_due: Notify,
    pub(super) life: Lifecycle,
}
