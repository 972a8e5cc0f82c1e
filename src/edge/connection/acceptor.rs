//! The accept loop, and the life of one connection.
//!
//! `axum::serve` sets no timers and sleeps for a second when file descriptors run out; a public listener
//! needs both solved.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{HeaderValue, Method, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

use crate::{
    edge::{
        connection::{
            hijack::{self, Hijack},
            refusal,
            spare_files::{SpareFiles, is_out_of_files},
            timeouts::{ConnectionTimeouts, InFlight, InFlightGuard, TimeoutStream},
        },
        dispatch::Dispatcher,
        overload::client_slot::ClientSlots,
    },
    platform::shutdown::Lifecycle,
};

/// Limits of a listener.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Connections at once. Beyond it new ones wait in the kernel's queue.
    pub connections_max: usize,
    /// Files that the listener keeps open and gives up one by one when the process has used up its limit of
    /// open files.
    pub spare_files: usize,
    /// Connections from one address (an IPv6 /64 counts as one); 0 means no limit. Beyond it new ones are
    /// closed.
    pub connections_per_ip_max: u32,
    /// Largest request head, in bytes.
    pub header_bytes_max: usize,
    /// How long a connection may be idle, slow or stalled.
    pub timeouts: ConnectionTimeouts,
}

const HEADERS_MAX: usize = 64;
const STREAMS_MAX: u32 = 64;

/// The first pause after a failed accept; it doubles up to the last.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_millis(320);

/// A connection accepted during shutdown has its first request on the way; it is awaited for this long.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// Accepts connections until the process stops, then lets each finish the responses it has begun.
///
/// From [`Lifecycle::begin_drain`] on every response asks its client to close the connection, so that a
/// balancer opens the next one elsewhere. No connection is refused before [`Lifecycle::stop`], and those that
/// the kernel had queued by then are still answered.
pub async fn serve(
    listener: TcpListener,
    dispatcher: Dispatcher,
    limits: ConnectionLimits,
    lifecycle: Lifecycle,
) {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let mut spare = SpareFiles::open(limits.spare_files);
    let mut pause = ACCEPT_PAUSE;
    let acceptor = Acceptor {
        dispatcher,
        limits,
        lifecycle,
        connections: ClientSlots::default(),
    };
    loop {
        // Beyond the limit new connections wait in the kernel's queue, not in this process's memory.
        let accepting = async {
            let permit = Arc::clone(&permits)
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            listener.accept().await.map(|accepted| (accepted, permit))
        };
        match acceptor.lifecycle.until_stopping(accepting).await {
            Some(Ok(((socket, peer), permit))) => {
                acceptor.spawn_connection(socket, peer, permit);
                spare.refill();
                pause = ACCEPT_PAUSE;
            }
            Some(Err(e)) if is_connection_error(&e) => {}
            Some(Err(e)) => {
                // Out of files or memory: the waiting connection stays in the kernel's queue, so an immediate
                // retry would spin.
                metrics::counter!("stagedoor_connection_accept_errors_total").increment(1);
                if is_out_of_files(&e) && spare.give_up_one() {
                    continue;
                }
                if pause == ACCEPT_PAUSE {
                    tracing::warn!(error = %e, "cannot accept connections; they wait until it is possible");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
            None => break,
        }
    }
    if let Err(error) = acceptor.close(listener, &permits) {
        tracing::warn!(%error, "connections waiting in the kernel's queue were cut off at shutdown");
    }
}

struct Acceptor {
    dispatcher: Dispatcher,
    limits: ConnectionLimits,
    lifecycle: Lifecycle,
    /// Open connections of each client.
    connections: ClientSlots,
}

impl Acceptor {
    fn spawn_connection(&self, socket: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let limit = self.limits.connections_per_ip_max;
        let Some(slot) = self.connections.take(peer.ip(), limit) else {
            metrics::counter!("stagedoor_connections_rejected_total").increment(1);
            return;
        };
        let dispatcher = self.dispatcher.clone();
        let limits = self.limits.clone();
        let lifecycle = self.lifecycle.clone();
        self.lifecycle.spawn(async move {
            serve_connection(socket, peer.ip(), dispatcher, &limits, &lifecycle).await;
            drop((permit, slot));
        });
    }

    /// Accepts what waits in the kernel's queue, which closing the socket would cut off, and closes it right
    /// after the last. Asks the kernel itself: the runtime's readiness may be outdated.
    fn close(&self, listener: TcpListener, permits: &Arc<Semaphore>) -> io::Result<()> {
        let listener = listener.into_std()?;
        while let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
            match listener.accept() {
                Ok((socket, peer)) => {
                    socket.set_nonblocking(true)?;
                    self.spawn_connection(TcpStream::from_std(socket)?, peer, permit);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if is_connection_error(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Whether an accept error concerns only the connection that was to be accepted.
fn is_connection_error(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// Answers a connection's requests until it ends.
async fn serve_connection(
    socket: TcpStream,
    peer: IpAddr,
    dispatcher: Dispatcher,
    limits: &ConnectionLimits,
    lifecycle: &Lifecycle,
) {
    // Responses are small and whole: waiting for more bytes only delays them. A socket that refuses the
    // option still works.
    let _ = socket.set_nodelay(true);
    let in_flight = InFlight::default();
    let mut socket = TimeoutStream::new(socket, limits.timeouts, in_flight.clone());
    // hyper-util's own detection hands on the first bytes apart, and hyper's buffer doubles for the rest.
    let is_http2 = tokio::select! {
        detected = socket.speaks_http2() => match detected {
            Ok(is_http2) => is_http2,
            Err(_) => return,
        },
        () = stopped_for(lifecycle, FIRST_REQUEST_TIMEOUT) => return,
    };
    let (hijack, hijacked) = Hijack::new();
    let app = dispatcher.app();
    let has_requested = Arc::new(watch::Sender::new(false));
    let context = Arc::new(ConnectionContext {
        peer,
        dispatcher,
        lifecycle: lifecycle.clone(),
        hijack,
        in_flight,
        is_first_request: AtomicBool::new(true),
        has_requested: Arc::clone(&has_requested),
    });
    // The service alone owns the context: an event stream that takes the connection over must not keep its
    // memory.
    let service = service_fn(move |request| {
        let guard = context.begin_request();
        Arc::clone(&context).respond(request, guard)
    });
    let io = TokioIo::new(socket);
    if is_http2 {
        let connection = pin!(http2_builder(limits).serve_connection(io, service));
        // GOAWAY announces the end, so a client loses nothing and draining can begin at once.
        run_until(connection, once_signaled(lifecycle.draining())).await;
    } else {
        // An idle HTTP/1 client would find its connection cut, so the next response announces the end, and
        // the connection is cut only when the process stops.
        let stopped = async {
            once_signaled(lifecycle.stopping()).await;
            let mut has_requested = has_requested.subscribe();
            let first_request = has_requested.wait_for(|has_requested| *has_requested);
            let _ = tokio::time::timeout(FIRST_REQUEST_TIMEOUT, first_request).await;
        };
        // Boxed, so that an event stream that takes the connection over does not keep its memory.
        let mut connection = Box::new(http1_builder(limits).serve_connection(io, service));
        tokio::select! {
            Ok(stream) = hijacked => {
                let socket = connection.into_parts().io.into_inner();
                if !socket.is_stalled() {
                    // A connection that breaks is the client's concern.
                    let _ = hijack::send(socket, stream, app.map(|app| app.clock.now())).await;
                }
            }
            () = run_until(Pin::new(&mut *connection), stopped) => {
                let parts = connection.into_parts();
                Box::pin(refusal::answer(parts.io.into_inner(), &parts.read_buf, app.as_deref())).await;
            }
        }
    }
}

/// What the requests of one connection share.
struct ConnectionContext {
    peer: IpAddr,
    dispatcher: Dispatcher,
    lifecycle: Lifecycle,
    hijack: Hijack<TrackedBody>,
    in_flight: InFlight,
    is_first_request: AtomicBool,
    /// Tells a stopping process that the connection's first request has arrived.
    has_requested: Arc<watch::Sender<bool>>,
}

impl ConnectionContext {
    fn begin_request(&self) -> InFlightGuard {
        if self.is_first_request.load(Ordering::Relaxed) {
            self.is_first_request.store(false, Ordering::Relaxed);
            self.has_requested.send_replace(true);
        }
        self.in_flight.begin()
    }

    async fn respond(
        self: Arc<Self>,
        request: Request<Incoming>,
        guard: InFlightGuard,
    ) -> Result<Response<TrackedBody>, Infallible> {
        let version = request.version();
        let is_get = *request.method() == Method::GET;
        let mut response = self.dispatcher.respond(self.peer, request.map(Body::new)).await;
        if self.lifecycle.is_draining() && version < Version::HTTP_2 {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let response = response.map(|body| TrackedBody { body, _guard: guard });
        match self.hijack.offer(is_get, version, response) {
            Some(response) => Ok(response),
            // The connection is taken from hyper before it polls this again.
            None => std::future::pending().await,
        }
    }
}

fn http1_builder(limits: &ConnectionLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `TimeoutStream` enforces the deadline of the request head.
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes_max.max(8 * 1024))
        .max_headers(HEADERS_MAX);
    builder
}

fn http2_builder(limits: &ConnectionLimits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

/// Answers until the client closes the connection or `end` resolves; then no further requests are read.
async fn run_until(mut connection: Pin<&mut impl GracefulConnection>, end: impl Future<Output = ()>) {
    tokio::select! {
        // A connection that breaks is the client's concern.
        _ = connection.as_mut() => return,
        () = end => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Waits for a signal that all connections share, and polls it only when it wakes: a connection wakes with
/// each of its requests, and each poll takes a lock of the signal.
async fn once_signaled(signal: impl Future<Output = ()>) {
    let _ = FuturesUnordered::from_iter([signal]).next().await;
}

async fn stopped_for(lifecycle: &Lifecycle, time: Duration) {
    lifecycle.stopping().await;
    tokio::time::sleep(time).await;
}

/// A body that keeps its request in flight until it is sent.
struct TrackedBody {
    body: Body,
    _guard: InFlightGuard,
}

impl HttpBody for TrackedBody {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
