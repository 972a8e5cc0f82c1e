//! A TCP proxy with a stable address whose upstream changes, as a service name behaves in a failover.

use std::{io, sync::Arc};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Forwards connections on 127.0.0.1 until dropped. A change of the upstream closes every open connection.
pub struct TcpProxy {
    port: u16,
    upstream: Arc<watch::Sender<Option<u16>>>,
    acceptor: JoinHandle<()>,
}

impl TcpProxy {
    /// Starts a proxy to this port of 127.0.0.1.
    ///
    /// # Errors
    /// No port is free.
    pub async fn forward_to(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own_port = listener.local_addr()?.port();
        let upstream = Arc::new(watch::Sender::new(Some(port)));
        let acceptor = tokio::spawn(accept(listener, Arc::clone(&upstream)));
        Ok(Self {
            port: own_port,
            upstream,
            acceptor,
        })
    }

    /// The proxy's address as a Redis URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port that the proxy listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Forwards new connections to another port and closes the open ones.
    pub fn switch_to(&self, port: u16) {
        self.upstream.send_replace(Some(port));
    }

    /// Closes every connection and drops each new one at once.
    pub fn refuse_connections(&self) {
        self.upstream.send_replace(None);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.refuse_connections();
    }
}

async fn accept(listener: TcpListener, upstream: Arc<watch::Sender<Option<u16>>>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let mut changes = upstream.subscribe();
        let Some(port) = *changes.borrow_and_update() else {
            continue;
        };
        tokio::spawn(async move {
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
                return;
            };
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => {}
                _ = changes.changed() => {}
            }
        });
    }
}
