//! The settings of the sandbox gateway.

use std::{path::PathBuf, sync::Arc, time::Duration};

use http::Uri;

use crate::{
    checkout::webhooks::WebhookSecret,
    kernel::{Clock, Entropy},
};

/// How the gateway is set up.
#[derive(Clone)]
pub struct SandboxConfig {
    /// The SQLite file with all payments; it survives the process.
    pub database_file: PathBuf,
    /// The base URL for browsers, such as `http://127.0.0.1:8090`. Redirects lead there.
    pub public_url: String,
    /// Where webhooks are sent; none are sent when `None`.
    pub webhook: Option<WebhookTarget>,
    /// The delay of `tok_slow`.
    pub slow: Duration,
    /// The gateway's clock.
    pub clock: Arc<dyn Clock>,
    /// The source of references, message ids and jitter.
    pub entropy: Arc<dyn Entropy>,
}

/// The receiver of webhooks.
#[derive(Clone, Debug)]
pub struct WebhookTarget {
    /// The receiver's URL.
    pub url: Uri,
    /// The shared secret that signs each message.
    pub secret: WebhookSecret,
}
