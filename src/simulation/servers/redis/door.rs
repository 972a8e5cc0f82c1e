//! A door before a server: an address that stays while the server behind it changes, as a service name does in a failover.

use std::{io, sync::Arc};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Listens until dropped. Whenever it leads elsewhere, those inside are put out.
pub struct Door {
    port: u16,
    leads_to: Arc<watch::Sender<Option<u16>>>,
    porter: JoinHandle<()>,
}

impl Door {
    /// # Errors
    /// No port can be had.
    pub async fn before(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let (own, leads_to) = (
            listener.local_addr()?.port(),
            Arc::new(watch::Sender::new(Some(port))),
        );
        let porter = tokio::spawn(let_in(listener, Arc::clone(&leads_to)));
        Ok(Self {
            port: own,
            leads_to,
            porter,
        })
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn lead_to(&self, port: u16) {
        self.leads_to.send_replace(Some(port));
    }

    /// Who comes is turned away at once.
    pub fn shut(&self) {
        self.leads_to.send_replace(None);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.porter.abort();
        self.shut();
    }
}

async fn let_in(listener: TcpListener, leads_to: Arc<watch::Sender<Option<u16>>>) {
    while let Ok((mut guest, _)) = listener.accept().await {
        let mut changes = leads_to.subscribe();
        let Some(port) = *changes.borrow_and_update() else {
            continue;
        };
        tokio::spawn(async move {
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
                return;
            };
            tokio::select! {
                _ = copy_bidirectional(&mut guest, &mut server) => {}
                _ = changes.changed() => {}
            }
        });
    }
}
