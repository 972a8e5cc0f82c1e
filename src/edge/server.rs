//! The accept loop. `axum::serve` sets no timers and sleeps a second when files run out; a public listener needs both.

use std::{convert::Infallible, io, net::IpAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use dashmap::DashMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower::Service;

use super::patience::{Answering, InFlight, Patience, Patient};
use crate::platform::lifecycle::Lifecycle;

/// Limits of a listener.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    pub connections_max: usize,
    /// From one address (an IPv6 /64 counts as one); 0 means no limit of its own.
    pub connections_per_address_max: u32,
    pub header_bytes_max: usize,
    pub patience: Patience,
}

/// Whose connection a request came over, before any proxy is believed.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

const HEADERS_MAX: usize = 64;
const STREAMS_MAX: u32 = 64;

/// Accepts until the process is stopping, then lets every connection finish the answers it has begun.
pub async fn serve(listener: TcpListener, router: Router, limits: ConnectionLimits, life: Lifecycle) {
    let room = Arc::new(Semaphore::new(limits.connections_max));
    let addresses = Arc::new(DashMap::<IpAddr, u32>::new());
    loop {
        // Beyond the limit new connections wait in the kernel's queue, not in our memory.
        let accepted = tokio::select! {
            accepted = async {
                let permit = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
                listener.accept().await.map(|accepted| (accepted, permit))
            } => accepted,
            () = life.stopping() => return,
        };
        let ((socket, peer), permit) = match accepted {
            Ok(accepted) => accepted,
            Err(e) if is_about_the_connection(&e) => continue,
            Err(e) => {
                // Out of files or memory: the waiting connection stays in the kernel's queue, so trying at once would spin.
                metrics::counter!("edge_accept_errors_total").increment(1);
                tracing::warn!(error = %e, "cannot accept");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let address = network(peer.ip());
        let Some(turn) = Turn::take(&addresses, address, limits.connections_per_address_max) else {
            metrics::counter!("edge_connections_refused_total").increment(1);
            continue;
        };
        let (router, limits, life_of_connection) = (router.clone(), limits.clone(), life.clone());
        life.spawn(async move {
            answer(socket, peer.ip(), router, &limits, &life_of_connection).await;
            drop((permit, turn));
        });
    }
}

/// The network that counts as one client: an IPv4 address, or an IPv6 /64, since a household has a /64 of addresses.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
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
        Some(Self { addresses: Arc::clone(addresses), address })
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
    matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

async fn answer(socket: TcpStream, peer: IpAddr, router: Router, limits: &ConnectionLimits, life: &Lifecycle) {
    // Answers are small and whole: waiting for more bytes only delays them. A socket that refuses the option still works.
    let _ = socket.set_nodelay(true);
    let in_flight = InFlight::default();
    let service = {
        let in_flight = in_flight.clone();
        service_fn(move |request: Request<Incoming>| {
            let mut router = router.clone();
            let answering = in_flight.begin();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            async move {
                let response = router.call(request).await.unwrap_or_else(|never: Infallible| match never {});
                Ok::<_, Infallible>(response.map(|body| Counted { body, _answering: answering }))
            }
        })
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes_max.max(8 * 1024))
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    let connection = builder.serve_connection(TokioIo::new(Patient::new(socket, limits.patience, in_flight)), service);
    tokio::pin!(connection);
    tokio::select! {
        // A connection that breaks is the client's affair.
        _ = connection.as_mut() => {}
        () = life.stopping() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
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
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(cx)
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
        let of = |text: &str| network(text.parse().unwrap());
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
