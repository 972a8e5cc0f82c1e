//! Serves a configuration: start, readiness, shutdown.

use std::time::Duration;

use anyhow::bail;

use crate::{
    app::{
        box_office_feed, build,
        descriptors::{self, ADMIN_CONNECTIONS_MAX, ADMIN_SPARE_FILES},
        lifecycles::Lifecycles,
        listeners::{Listeners, listen},
        metrics_loop,
        roles::Roles,
        runtime::StopSignals,
    },
    edge::{
        self, ConnectionTimeouts, Dispatcher, connection::acceptor::ConnectionLimits,
        overload::rate_limit::IpRateLimit,
    },
    ops::{
        admin::{listener::Readiness, openapi, operators::OperatorApi, routes},
        config::Settings,
        reports::BoxOfficeFeed,
        telemetry,
    },
    platform::{process::Process, rate_limit::Rate, shutdown::Lifecycle},
};

/// How long requests in flight may take after a second signal to stop.
const HURRIED_TIMEOUT: Duration = Duration::from_secs(1);

/// Work that starts once the process serves; it is given the background lifecycle.
pub type OnOpen = Box<dyn FnOnce(&Lifecycle) + Send>;

/// What the demo adds to a process.
#[derive(Default)]
pub struct DemoHooks {
    /// The login that the pages show.
    pub demo_login: Option<edge::DemoLogin>,
    /// Started once the process serves.
    pub on_open: Option<OnOpen>,
}

/// Serves the sales of a configuration until SIGTERM or SIGINT.
///
/// # Errors
/// When the configuration cannot be served, or as [`open`].
pub async fn serve(settings: Settings, roles: Roles) -> anyhow::Result<()> {
    if settings.sales.is_empty() {
        bail!("the configuration has no [[sales]]; config/stagedoor.toml shows one");
    }
    if settings.shares_state() && settings.gateway.url.is_empty() {
        bail!(
            "gateway.url: nodes that share a sale must share its payment gateway; the built-in sandbox \
            belongs to one process"
        );
    }
    let listeners = Listeners {
        public: listen(settings.server.listen)?,
        admin: listen(settings.server.admin_listen)?,
    };
    open(settings, roles, listeners, DemoHooks::default()).await
}

/// Builds all parts, serves until SIGTERM or SIGINT, and shuts down. When a flush fails, it returns at once.
///
/// # Errors
/// When a part cannot be built or recovered, or the process must not go on.
pub async fn open(
    settings: Settings,
    roles: Roles,
    listeners: Listeners,
    extras: DemoHooks,
) -> anyhow::Result<()> {
    let process = Process::default();
    tokio::select! {
        served = serve_process(settings, roles, listeners, extras, &process) => served,
        reason = process.failed() => bail!(reason),
    }
}

async fn serve_process(
    settings: Settings,
    roles: Roles,
    listeners: Listeners,
    extras: DemoHooks,
    process: &Process,
) -> anyhow::Result<()> {
    telemetry::init_logs(&settings.log.level, settings.log.format);
    tracing::info!(
        public = %listeners.public.local_addr()?,
        admin = %listeners.admin.local_addr()?,
        "listening"
    );
    let metrics = telemetry::init_metrics();
    let lifecycles = Lifecycles::of(process);
    let readiness = Readiness::of(process);
    let feed = BoxOfficeFeed::default();
    let operators = OperatorApi::default();
    let connections_max = descriptors::connections_max(&settings)?;
    let admin_limits = ConnectionLimits {
        spare_files: ADMIN_SPARE_FILES,
        ..connection_limits(&settings, ADMIN_CONNECTIONS_MAX)
    };
    // The admin listener serves health and metrics while the parts below recover.
    lifecycles.background.spawn(edge::connection::acceptor::serve(
        listeners.admin,
        Dispatcher::private(routes::router(
            readiness.clone(),
            metrics.clone(),
            serde_json::to_vec(&openapi::admin_document())?.into(),
            &feed,
            &operators,
        )),
        admin_limits,
        lifecycles.background.clone(),
    ));

    let parts = build::build(
        &settings,
        roles,
        &listeners.public,
        extras.demo_login,
        &lifecycles,
    )
    .await?;
    let public = lifecycles.visitors.spawn(edge::connection::acceptor::serve(
        listeners.public,
        Dispatcher::public(
            parts.state.clone(),
            parts.waiting_room.clone(),
            parts.box_office.clone(),
        ),
        connection_limits(&settings, connections_max),
        lifecycles.visitors.clone(),
    ));
    if let Some(waiting_room) = &parts.waiting_room {
        feed.open(&waiting_room.rooms, parts.keys.internal.clone());
    }
    let wrong_tokens = IpRateLimit::new(
        Rate::per_minute(settings.limits.wrong_operator_tokens_per_ip_per_minute),
        parts.state.clock.clone(),
    );
    operators.open(
        parts.waiting_room.clone(),
        parts.box_office.clone(),
        &settings.operators,
        &settings.shop.events.feed_token,
        wrong_tokens,
    );
    box_office_feed::start(&parts, &settings, &lifecycles.background)?;
    metrics_loop::start(&parts, &operators, metrics, &lifecycles.background);
    readiness.set(true);
    tracing::info!(node = settings.node_name(), address = %settings.server.public_base, ?roles, "serving");
    if let Some(on_open) = extras.on_open {
        on_open(&lifecycles.background);
    }

    let mut signals = StopSignals::listen()?;
    signals.next().await;
    readiness.set(false);
    drain(&settings, &lifecycles, &mut signals).await;
    let _ = public.await;
    Ok(())
}

/// Shuts down in the order of dependencies: visitors, then the background work that serves them, then the
/// writers that record both.
///
/// A second signal ends the notice, and leaves requests in flight one more second. Orders are safe: the next
/// start resumes them.
async fn drain(settings: &Settings, lifecycles: &Lifecycles, signals: &mut StopSignals) {
    let notice = Duration::from_millis(u64::from(settings.server.shutdown_notice_ms));
    let timeout = Duration::from_secs(u64::from(settings.server.shutdown_timeout_s));
    tracing::info!(
        ?notice,
        "stopping: still serving, clients are asked to reconnect elsewhere"
    );
    lifecycles.visitors.begin_drain();
    let mut is_hurried = tokio::select! {
        () = tokio::time::sleep(notice) => false,
        () = signals.next() => true,
    };
    tracing::info!("no new connections; finishing requests in flight");
    lifecycles.visitors.stop();
    let mut is_idle = false;
    if !is_hurried {
        tokio::select! {
            idle = lifecycles.visitors.wait_idle(timeout) => is_idle = idle,
            () = signals.next() => is_hurried = true,
        }
    }
    if is_hurried {
        tracing::info!("a second signal: stopping now");
        is_idle = lifecycles.visitors.wait_idle(timeout.min(HURRIED_TIMEOUT)).await;
    }
    if !is_idle {
        tracing::warn!("some requests did not finish in time");
    }
    for (lifecycle, what) in [
        (&lifecycles.background, "background work"),
        (&lifecycles.writers, "writers"),
    ] {
        lifecycle.stop();
        if !lifecycle.wait_idle(Duration::from_secs(5)).await {
            tracing::warn!("some {what} did not end in time; the next start recovers it");
        }
    }
}

fn connection_limits(settings: &Settings, connections_max: usize) -> ConnectionLimits {
    let server = &settings.server;
    ConnectionLimits {
        connections_max,
        spare_files: 0,
        connections_per_ip_max: u32::try_from(server.connections_per_ip_max).unwrap_or(u32::MAX),
        header_bytes_max: server.header_bytes_max,
        timeouts: ConnectionTimeouts {
            idle: Duration::from_secs(u64::from(server.idle_timeout_s)),
            head: Duration::from_millis(u64::from(server.header_timeout_ms)),
            stalled: Duration::from_secs(30),
        },
    }
}
