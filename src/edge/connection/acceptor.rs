//! The accept loop. `axum::serve` sets no timers and sleeps a second when files run out; a public listener needs both.

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
use dashmap::DashMap;
use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{HeaderValue, Method, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{
    Request,
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

use crate::edge::{
    Dispatcher,
    connection::{
        hijack::{self, Hijack},
        timeouts::{Answering, InFlight, ConnectionTimeouts, TimeoutStream},
    },
};
use crate::platform::shutdown::Lifecycle;

/// Limits of a listener.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    pub connections_max: usize,
    /// From one address (an IPv6 /64 counts as one); 0 means no limit of its own.
    pub connections_per_ip_max: u32,
    pub header_bytes_max: usize,
    pub timeouts: ConnectionTimeouts,
}

/// Whose connection a request came over, before any proxy is believed.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

const HEADERS_MAX: usize = 64;
const STREAMS_MAX: u32 = 64;

/// A connection that is accepted while the process stops has its first request on the way; so long it is waited for.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(1);

/// Accepts until the process is stopping, then lets every connection finish the answers it has begun.
///
/// From [`Lifecycle::leave`] on every answer tells its client that the connection ends with it, so that a balancer opens
/// its next one elsewhere; nobody is refused before [`Lifecycle::stop`], and whoever has been let into the kernel's queue
/// until then is answered too.
pub async fn serve(listener: TcpListener, front: Dispatcher, limits: ConnectionLimits, life: Lifecycle) {
    let room = Arc::new(Semaphore::new(limits.connections_max));
    let entrance = Acceptor {
        front,
        limits,
        life,
        addresses: Arc::default(),
    };
    loop {
        // Beyond the limit new connections wait in the kernel's queue, not in our memory.
        let accepting = async {
            let permit = Arc::clone(&room)
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            listener.accept().await.map(|accepted| (accepted, permit))
        };
        match entrance.life.until_stopping(accepting).await {
            Some(Ok(((socket, peer), permit))) => entrance.welcome(socket, peer, permit),
            Some(Err(e)) if is_about_the_connection(&e) => {}
            Some(Err(e)) => {
                // Out of files or memory: the waiting connection stays in the kernel's queue, so trying at once would spin.
                metrics::counter!("edge_accept_errors_total").increment(1);
                tracing::warn!(error = %e, "cannot accept");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            None => break,
        }
    }
    if let Err(error) = entrance.close(listener, &room) {
        tracing::warn!(%error, "some who waited at the entrance were cut off");
    }
}

struct Acceptor {
    front: Dispatcher,
    limits: ConnectionLimits,
    life: Lifecycle,
    addresses: Arc<DashMap<IpAddr, u32>>,
}

impl Acceptor {
    fn welcome(&self, socket: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let Some(turn) = Turn::take(
            &self.addresses,
            client_network(peer.ip()),
            self.limits.connections_per_ip_max,
        ) else {
            metrics::counter!("edge_connections_refused_total").increment(1);
            return;
        };
        let (front, limits, life) = (self.front.clone(), self.limits.clone(), self.life.clone());
        self.life.spawn(async move {
            answer(socket, peer.ip(), front, &limits, &life).await;
            drop((permit, turn));
        });
    }

    /// Takes in whoever waits in the kernel's queue, which closing the socket would cut off, and closes it at once after
    /// the last. Asks the kernel itself: what the runtime knows of the queue may be a moment old.
    fn close(&self, listener: TcpListener, room: &Arc<Semaphore>) -> io::Result<()> {
        let listener = listener.into_std()?;
        while let Ok(permit) = Arc::clone(room).try_acquire_owned() {
            match listener.accept() {
                Ok((socket, peer)) => {
                    socket.set_nonblocking(true)?;
                    self.welcome(TcpStream::from_std(socket)?, peer, permit);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if is_about_the_connection(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// The network that counts as one client: an IPv4 address, or an IPv6 /64, since a household has a /64 of addresses.
#[must_use]
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

/// One connection of an address, counted until dropped.
struct Turn {
    addresses: Arc<DashMap<IpAddr, u32>>,
    address: IpAddr,
}

impl Turn {
    fn take(addresses: &Arc<DashMap<IpAddr, u32>>, address: IpAddr, limit: u32) -> Option<Self> {
        let mut open = addresses.entry(address).or_insert(0);
        if limit != 0 && *open >= limit {
            return None;
        }
        *open += 1;
        Some(Self {
            addresses: Arc::clone(addresses),
            address,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let dashmap::Entry::Occupied(mut open) = self.addresses.entry(self.address) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

fn is_about_the_connection(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

async fn answer(socket: TcpStream, peer: IpAddr, front: Dispatcher, limits: &ConnectionLimits, life: &Lifecycle) {
    // Answers are small and whole: waiting for more bytes only delays them. A socket that refuses the option still works.
    let _ = socket.set_nodelay(true);
    let in_flight = InFlight::default();
    let mut socket = TimeoutStream::new(socket, limits.timeouts, in_flight.clone());
    // Not hyper-util's own way to find out: it hands on the first bytes apart, and hyper's buffer doubles for the rest.
    let is_http2 = tokio::select! {
        it = socket.speaks_http2() => match it {
            Ok(it) => it,
            Err(_) => return,
        },
        () = stopped_for(life, FIRST_REQUEST_WITHIN) => return,
    };
    let has_spoken = Arc::new(watch::Sender::new(false));
    let (takeover, taken) = Hijack::new();
    let clock = front.clock();
    let service = {
        let (shared, has_spoken) = (Arc::new((front, life.clone(), takeover)), Arc::clone(&has_spoken));
        let is_first = AtomicBool::new(true);
        service_fn(move |request: Request<Incoming>| {
            let (shared, version) = (Arc::clone(&shared), request.version());
            let is_get = *request.method() == Method::GET;
            let answering = in_flight.begin();
            if is_first.load(Ordering::Relaxed) {
                is_first.store(false, Ordering::Relaxed);
                has_spoken.send_replace(true);
            }
            async move {
                let (front, life, takeover) = &*shared;
                let mut response = front.answer(peer, request.map(Body::new)).await;
                if life.is_leaving() && version < Version::HTTP_2 {
                    response
                        .headers_mut()
                        .insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                match takeover.offer(
                    is_get,
                    version,
                    response.map(|body| Counted {
                        body,
                        _answering: answering,
                    }),
                ) {
                    Some(response) => Ok::<_, Infallible>(response),
                    // Nothing more is heard of it here.
                    None => std::future::pending().await,
                }
            }
        })
    };
    let io = TokioIo::new(socket);
    if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        // It is told so beforehand (GOAWAY) and loses nothing.
        drive(
            pin!(builder.serve_connection(io, service)),
            when_called(life.draining()),
        )
        .await;
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(limits.header_bytes_max.max(8 * 1024))
            .max_headers(HEADERS_MAX);
        // An idle client would find its connection cut, so it is told with its next answer, and cut only in the end.
        let ended = async {
            when_called(life.stopping()).await;
            let _ =
                tokio::time::timeout(FIRST_REQUEST_WITHIN, has_spoken.subscribe().wait_for(|it| *it)).await;
        };
        // Boxed, so that what takes the connection over does not keep its room.
        let mut connection = Box::new(builder.serve_connection(io, service));
        tokio::select! {
            Ok(stream) = taken => {
                let socket = connection.into_parts().io.into_inner();
                if !socket.is_stalled() {
                    // A connection that breaks is the client's affair.
                    let _ = hijack::send(socket, stream, clock.map(|it| it.now())).await;
                }
            }
            () = drive(Pin::new(&mut *connection), ended) => {}
        }
    }
}

/// Answers until the client goes, or until it is time to go; then it takes no more requests.
async fn drive(mut connection: Pin<&mut impl GracefulConnection>, time_to_go: impl Future<Output = ()>) {
    tokio::select! {
        // A connection that breaks is the client's affair.
        _ = connection.as_mut() => return,
        () = time_to_go => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Waits for a signal that all connections share, and looks at it only when it calls: a connection wakes with each of its
/// requests, and looking takes a lock of the signal's.
async fn when_called(signal: impl Future<Output = ()>) {
    let _ = FuturesUnordered::from_iter([signal]).next().await;
}

async fn stopped_for(life: &Lifecycle, time: Duration) {
    life.stopping().await;
    tokio::time::sleep(time).await;
}

/// A body during whose sending the connection counts as busy.
struct Counted {
    body: Body,
    _answering: Answering,
}

impl HttpBody for Counted {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_household_counts_as_one() {
        let of = |text: &str| client_network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
        assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
    }

    #[test]
    fn turns_are_given_back() {
        let addresses = Arc::new(DashMap::new());
        let address = "192.0.2.1".parse().unwrap();
        let first = Turn::take(&addresses, address, 1);
        assert!(first.is_some());
        assert!(Turn::take(&addresses, address, 1).is_none());
        drop(first);
        assert!(Turn::take(&addresses, address, 1).is_some());
        assert!(addresses.is_empty());
    }
}
