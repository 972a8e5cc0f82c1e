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

/// Bytes of a connection that the kernel takes before it has sent them. By default it takes megabytes of a
/// large response, for each client that asks for one and reads nothing. The rest stays in shared buffers.
/// Bytes that are on their way are not limited, so a fast client loses nothing.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 64 * 1024;

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
    // Accepted connections inherit it.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&socket)
        .set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
        .context("cannot set a socket's options")?;
    socket
        .bind(address)
        .and_then(|()| socket.listen(ACCEPT_QUEUE))
        .with_context(|| format!("cannot listen on {address}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn the_kernel_takes_little_for_a_client_that_reads_nothing() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(4_096).unwrap();
        let address = listener.local_addr().unwrap();
        let (_client, accepted) = tokio::join!(client.connect(address), listener.accept());
        let (mut server, _) = accepted.unwrap();
        let mut taken = 0;
        let block = [0; 16 * 1024];
        while let Ok(written) = tokio::time::timeout(Duration::from_millis(500), server.write(&block)).await {
            taken += written.unwrap();
            assert!(taken < 512 * 1024, "{taken} bytes");
        }
        assert!(taken > 0);
    }
}
