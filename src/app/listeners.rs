//! Listening sockets.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket};

/// The two listening sockets. They are opened before anything else, so that a port in use is reported at
/// once.
pub struct Listeners {
    /// For browsers, usually behind a proxy.
    pub public: TcpListener,
    /// For operations, and for reports of other processes.
    pub admin: TcpListener,
}

/// Connections that the operating system queues before they are accepted.
const ACCEPT_QUEUE: u32 = 16_384;

/// Opens a listening socket, with an accept queue that is long enough for a burst of arrivals.
///
/// # Errors
/// When the port is in use, or the address is not this machine's.
pub fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
    .context("cannot create a socket")?;
    socket
        .set_reuseaddr(true)
        .context("cannot set a socket's options")?;
    socket
        .bind(address)
        .and_then(|()| socket.listen(ACCEPT_QUEUE))
        .with_context(|| format!("cannot listen on {address}"))
}
