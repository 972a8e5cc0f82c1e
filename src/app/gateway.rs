//! The payment gateway: the configured one, or the sandbox, inside this process or as a process of its own.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use tokio::net::TcpListener;

use crate::{
    app::{directory, listeners::listen, runtime::StopSignals},
    checkout::{gateways::sandbox::SandboxGateway, webhooks::WebhookSecret},
    demo::sandbox_gateway::{self, SandboxConfig, WebhookTarget},
    kernel::{Clock, Entropy, OsEntropy, SystemClock},
    ops::{
        config::{GatewayKind, LogFormat, Secret, Settings},
        telemetry,
    },
    platform::shutdown::Lifecycle,
};

/// Runs the sandbox gateway as a process of its own, until SIGTERM or SIGINT.
///
/// # Errors
/// When the port is in use, or its database cannot be opened.
pub async fn sandbox_gateway(
    address: SocketAddr,
    database_file: PathBuf,
    webhook_url: Option<String>,
    secret: Secret,
) -> anyhow::Result<()> {
    telemetry::init_logs("info", LogFormat::Text);
    let lifecycle = Lifecycle::new();
    let listener = listen(address)?;
    let public_url = format!("http://{}", listener.local_addr()?);
    println!("sandbox gateway: {public_url}");
    let webhook = webhook_url.map(|url| webhook_target(&url, &secret)).transpose()?;
    let config = sandbox_config(
        database_file,
        public_url,
        webhook,
        Arc::new(SystemClock::new()),
        Arc::new(OsEntropy),
    );
    let server = sandbox_gateway::serve(listener, config, lifecycle.clone());
    let mut signals = StopSignals::listen()?;
    tokio::select! {
        served = server => served?,
        () = signals.next() => {}
        reason = lifecycle.process().failed() => bail!(reason),
    }
    lifecycle.stop();
    lifecycle.wait_idle(Duration::from_secs(5)).await;
    Ok(())
}

/// A client of the configured gateway, or of the built-in sandbox, which is started on a free port.
pub(super) fn gateway(
    settings: &Settings,
    public: &TcpListener,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    background: &Lifecycle,
) -> anyhow::Result<SandboxGateway> {
    let GatewayKind::Sandbox = settings.gateway.kind;
    let timeout = Duration::from_millis(u64::from(settings.checkout.gateway_timeout_ms));
    let secret = &settings.gateway.webhook_secret;
    let url = if settings.gateway.url.is_empty() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let url = format!("http://{}", listener.local_addr()?);
        let port = public.local_addr()?.port();
        let webhook = webhook_target(&format!("http://127.0.0.1:{port}/v1/webhooks/sandbox"), secret)?;
        let database_file = settings.data.dir.join("gateway.db");
        if !directory::claim_file(&settings.data.dir.join("lock.gateway"))? {
            bail!(
                "gateway.url: another node runs the built-in sandbox in {}; start `stagedoor \
                sandbox-gateway` and give all nodes its URL",
                settings.data.dir.display()
            );
        }
        let config = sandbox_config(
            database_file,
            url.clone(),
            Some(webhook),
            Arc::clone(clock),
            Arc::clone(entropy),
        );
        let server = sandbox_gateway::serve(listener, config, background.clone());
        background.spawn(async move {
            if let Err(e) = server.await {
                tracing::error!(error = %e, "the sandbox gateway failed; payments fail until a restart");
            }
        });
        url
    } else {
        settings.gateway.url.clone()
    };
    SandboxGateway::new(&url, WebhookSecret::new(secret.expose().as_bytes()), timeout).context("gateway.url")
}

fn sandbox_config(
    database_file: PathBuf,
    public_url: String,
    webhook: Option<WebhookTarget>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> SandboxConfig {
    SandboxConfig {
        database_file,
        public_url,
        webhook,
        slow: Duration::from_secs(3),
        clock,
        entropy,
    }
}

fn webhook_target(url: &str, secret: &Secret) -> anyhow::Result<WebhookTarget> {
    let url = url.parse().with_context(|| format!("`{url}` is not a URL"))?;
    Ok(WebhookTarget {
        url,
        secret: WebhookSecret::new(secret.expose().as_bytes()),
    })
}
