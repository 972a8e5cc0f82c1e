//! Clients of the status event stream: one connection each, and an exact count of what arrives.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What all streams of a process have carried.
#[derive(Default)]
pub struct StreamStats {
    clients: Mutex<Vec<Arc<ClientStats>>>,
    /// Every status version that any client received.
    versions: Mutex<BTreeSet<u64>>,
    open: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
    bytes: AtomicU64,
}

/// What one client has received.
#[derive(Default)]
struct ClientStats {
    /// The first version; 0 before it.
    first: AtomicU64,
    received: AtomicU64,
}

/// The sums over all streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamFigures {
    /// Clients.
    pub clients: u64,
    /// Streams that are open now.
    pub open: u64,
    /// Replies 503 and 429 to opening a stream.
    pub refused: u64,
    /// Streams that ended or could not be opened.
    pub broken: u64,
    /// Status versions that were published while any client was connected.
    pub versions: u64,
    /// Events that all clients together received.
    pub received: u64,
    /// Events that they should have received: for each client from its first version to the last one.
    pub due: u64,
    /// Clients that missed at least one version.
    pub incomplete: u64,
    /// Bytes received.
    pub bytes: u64,
}

impl StreamStats {
    /// Counts up to the version `last`, or up to the newest one that any client has. A later cut would count
    /// clients that are about to receive the newest version as incomplete.
    pub fn figures(&self, last: Option<u64>) -> StreamFigures {
        let versions = self.versions.lock();
        let last = last.or_else(|| versions.last().copied()).unwrap_or(0);
        let clients = self.clients.lock();
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut figures = StreamFigures {
            clients: clients.len() as u64,
            open: load(&self.open),
            refused: load(&self.refused),
            broken: load(&self.broken),
            versions: versions.range(..=last).count() as u64,
            bytes: load(&self.bytes),
            ..StreamFigures::default()
        };
        for client in clients.iter() {
            let first = load(&client.first);
            let is_counted = first != 0 && first <= last;
            let due = if is_counted {
                versions.range(first..=last).count() as u64
            } else {
                0
            };
            // The client may have versions after `last` already.
            let received = load(&client.received).min(due);
            figures.received += received;
            figures.due += due;
            figures.incomplete += u64::from(first == 0 || received < due);
        }
        figures
    }

    /// The newest version that any client received.
    pub fn newest(&self) -> Option<u64> {
        self.versions.lock().last().copied()
    }
}

/// Finds the event ids in a stream, wherever it is cut into reads.
#[derive(Default)]
struct EventIds {
    line: Vec<u8>,
}

/// No `id:` line is longer; the rest of a longer line is skipped.
const LINE_BYTES_MAX: usize = 64;

impl EventIds {
    fn read(&mut self, bytes: &[u8], mut found: impl FnMut(u64)) {
        for &byte in bytes {
            if byte == b'\n' {
                if let Some(version) = parse_id(&self.line) {
                    found(version);
                }
                self.line.clear();
            } else if self.line.len() < LINE_BYTES_MAX {
                self.line.push(byte);
            }
        }
    }
}

fn parse_id(line: &[u8]) -> Option<u64> {
    std::str::from_utf8(line.strip_prefix(b"id: ")?)
        .ok()?
        .trim_end()
        .parse()
        .ok()
}

/// Follows the stream until it is aborted; a stream that ends is opened again a moment later.
pub async fn follow(server: SocketAddr, path: &str, stats: &StreamStats) {
    let client = Arc::new(ClientStats::default());
    stats.clients.lock().push(Arc::clone(&client));
    loop {
        if let Some(Refused) = follow_once(server, path, stats, &client).await {
            stats.refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(5)).await;
        } else {
            stats.broken.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// The server asks to come again.
struct Refused;

/// Returns when the stream was refused or, with `None`, broke.
async fn follow_once(
    server: SocketAddr,
    path: &str,
    stats: &StreamStats,
    client: &ClientStats,
) -> Option<Refused> {
    let mut socket = TcpStream::connect(server).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {server}\r\naccept: text/event-stream\r\n\r\n");
    socket.write_all(request.as_bytes()).await.ok()?;
    let mut bytes = [0; 2_048];
    let mut ids = EventIds::default();
    let mut open = None::<OpenStream<'_>>;
    loop {
        let read = socket.read(&mut bytes).await.ok().filter(|n| *n > 0)?;
        if open.is_none() {
            // The status code in `HTTP/1.1 200`.
            match bytes.get(9..12) {
                Some(b"200") => open = Some(OpenStream::new(&stats.open)),
                Some(b"503" | b"429") => return Some(Refused),
                _ => return None,
            }
        }
        stats.bytes.fetch_add(read as u64, Ordering::Relaxed);
        ids.read(&bytes[..read], |version| {
            stats.versions.lock().insert(version);
            let _ = client
                .first
                .compare_exchange(0, version, Ordering::Relaxed, Ordering::Relaxed);
            client.received.fetch_add(1, Ordering::Relaxed);
        });
    }
}

/// Counts an open stream until it is dropped.
struct OpenStream<'a>(&'a AtomicU64);

impl<'a> OpenStream<'a> {
    fn new(open: &'a AtomicU64) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open)
    }
}

impl Drop for OpenStream<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_ids_are_found_wherever_reads_are_cut() {
        let stream = b"HTTP/1.1 200 OK\r\n\r\n1f\r\nretry: 1000\n\nid: 41\nevent: status\n\
                       data: {\"id: 7\\n\":1}\n\n\r\n9\r\nid: 42\nevent: status\n\n";
        for cut in 1..stream.len() {
            let (mut ids, mut found) = (EventIds::default(), Vec::new());
            for part in [&stream[..cut], &stream[cut..]] {
                ids.read(part, |version| found.push(version));
            }
            assert_eq!(found, [41, 42], "cut at {cut}");
        }
    }

    #[test]
    fn a_client_that_misses_a_version_is_incomplete() {
        let stats = StreamStats::default();
        *stats.versions.lock() = BTreeSet::from([1, 2, 3, 4]);
        for (first, received) in [(1, 4), (3, 2), (1, 3), (0, 0)] {
            let client = ClientStats {
                first: AtomicU64::new(first),
                received: AtomicU64::new(received),
            };
            stats.clients.lock().push(Arc::new(client));
        }
        let figures = stats.figures(None);
        assert_eq!(
            (figures.due, figures.received, figures.incomplete),
            (10, 9, 2),
            "one client missed a version, one has none, one came later"
        );
        assert_eq!(
            stats.figures(Some(3)).incomplete,
            1,
            "version 4 was still on its way"
        );
    }
}
