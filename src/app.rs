//! The composition root: builds the house from its settings, serves it, drains it. No decisions of any kind.

pub mod audit;
mod box_office_feed;
mod build;
pub mod demo;
mod directory;
mod gateway;
mod metrics_loop;
pub mod rehearse;

use std::{future::Future, net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use tokio::net::{TcpListener, TcpSocket};

use self::build::Lifecycles;
pub use self::gateway::sandbox_gateway;
use crate::{
    edge::{self, Dispatcher, ConnectionTimeouts, connection::acceptor::ConnectionLimits},
    ops::{
        admin::{
            listener::{self, Readiness},
            operators::OperatorApi,
        },
        config::Settings,
        reports::BoxOfficeFeed,
        telemetry,
    },
    platform::shutdown::Lifecycle,
};

/// What a process does. The two parts may run apart, each with its own limits, so that a storm at the door takes nothing
/// from those who are choosing seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roles {
    All,
    WaitingRoom,
    BoxOffice,
}

impl Roles {
    fn has_waiting_room(self) -> bool {
        self != Self::BoxOffice
    }

    fn has_box_office(self) -> bool {
        self != Self::WaitingRoom
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (self.has_waiting_room(), "waiting-room"),
            (self.has_box_office(), "box-office"),
        ]
        .into_iter()
        .filter_map(|(has, name)| has.then_some(name))
    }
}

/// Sockets that are open before anything else is done, so that a taken port is said at once.
pub struct Listeners {
    pub public: TcpListener,
    pub admin: TcpListener,
}

/// Work that begins when the house has opened.
pub type OnOpen = Box<dyn FnOnce(&Lifecycle) + Send>;

/// What the demo adds to a house.
#[derive(Default)]
pub struct DemoHooks {
    pub demo_login: Option<edge::handlers::sales::DemoLogin>,
    /// Started once the house is open.
    pub on_open: Option<OnOpen>,
}

const ACCEPT_QUEUE: u32 = 16_384;

/// So many tasks run before it is looked which sockets have something to read. With tokio's 61 a request that is to be refused
/// would wait for some four milliseconds in a busy house before anybody knew of it.
const EVENT_INTERVAL: u32 = 16;

/// Runs `work` on a runtime of its own.
pub fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // A soft limit of 1024 files is common and far below what a sale needs; what the machine refuses, it refuses.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}

/// Serves the sales of a configuration until SIGTERM or SIGINT.
pub async fn serve(settings: Settings, roles: Roles) -> anyhow::Result<()> {
    if settings.sales.is_empty() {
        bail!("the configuration has no [[sales]]; config/stagedoor.toml shows one");
    }
    if settings.shares_state() && settings.gateway.url.is_empty() {
        bail!(
            "gateway.url: nodes that share a sale must share its gateway too; the built-in sandbox belongs to one process"
        );
    }
    let listeners = Listeners {
        public: listen(settings.server.listen)?,
        admin: listen(settings.server.admin_listen)?,
    };
    open(settings, roles, listeners, DemoHooks::default()).await
}

/// Opens a socket with a queue long enough for a flash of arrivals.
pub fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
    .context("cannot make a socket")?;
    socket
        .set_reuseaddr(true)
        .context("cannot set a socket's options")?;
    socket
        .bind(address)
        .and_then(|()| socket.listen(ACCEPT_QUEUE))
        .with_context(|| format!("cannot listen on {address}"))
}

/// Builds, serves and drains the house.
pub async fn open(
    settings: Settings,
    roles: Roles,
    listeners: Listeners,
    extras: DemoHooks,
) -> anyhow::Result<()> {
    telemetry::init_logs(&settings.log.level, settings.log.format);
    let metrics = telemetry::init_metrics();
    let lives = Lifecycles::default();
    let (readiness, desk, operators) = (
        Readiness::default(),
        BoxOfficeFeed::default(),
        OperatorApi::default(),
    );
    lives.background.spawn(edge::connection::acceptor::serve(
        listeners.admin,
        Dispatcher::private(listener::router(
            readiness.clone(),
            metrics.clone(),
            desk.clone(),
            operators.clone(),
        )),
        connection_limits(&settings),
        lives.background.clone(),
    ));

    let parts = build::build(&settings, roles, &listeners.public, extras.demo_login, &lives).await?;
    let public = lives.visitors.spawn(edge::connection::acceptor::serve(
        listeners.public,
        Dispatcher::public(parts.house.clone(), parts.waiting_room.clone(), parts.box_office.clone()),
        connection_limits(&settings),
        lives.visitors.clone(),
    ));
    if let Some(door) = &parts.waiting_room {
        desk.open(&door.rooms, parts.open_keys.internal.clone());
        operators.publish_rooms(&door.rooms, &settings.operators);
    }
    box_office_feed::start(&parts, &settings, &lives.background)?;
    metrics_loop::start(&parts, metrics, &lives.background);
    readiness.set(true);
    tracing::info!(node = settings.node_name(), address = %settings.server.public_base, ?roles, "open");
    if let Some(on_open) = extras.on_open {
        on_open(&lives.background);
    }

    stop_signal().await?;
    readiness.set(false);
    drain(&settings, &lives).await;
    let _ = public.await;
    Ok(())
}

/// Visitors first, then what served them, then what wrote it down.
async fn drain(settings: &Settings, lives: &Lifecycles) {
    let lame_duck = Duration::from_millis(u64::from(settings.server.shutdown_notice_ms));
    tracing::info!(
        ?lame_duck,
        "stopping: whoever comes is served, and sent elsewhere from then on"
    );
    lives.visitors.begin_drain();
    tokio::time::sleep(lame_duck).await;
    tracing::info!("no new visitors, the present ones are served to their ends");
    lives.visitors.stop();
    if !lives
        .visitors
        .wait_idle(Duration::from_secs(u64::from(settings.server.shutdown_timeout_s)))
        .await
    {
        tracing::warn!("some visitors were not served to their ends in time");
    }
    for (life, what) in [(&lives.background, "background work"), (&lives.writers, "writing")] {
        life.stop();
        if !life.wait_idle(Duration::from_secs(5)).await {
            tracing::warn!("some {what} did not end in time; it is taken up at the next start");
        }
    }
}

fn connection_limits(settings: &Settings) -> ConnectionLimits {
    let server = &settings.server;
    ConnectionLimits {
        connections_max: server.connections_max,
        connections_per_ip_max: u32::try_from(server.connections_per_ip_max).unwrap_or(u32::MAX),
        header_bytes_max: server.header_bytes_max,
        timeouts: ConnectionTimeouts {
            idle: Duration::from_secs(u64::from(server.idle_timeout_s)),
            head: Duration::from_millis(u64::from(server.header_timeout_ms)),
            stalled: Duration::from_secs(30),
        },
    }
}

async fn stop_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
