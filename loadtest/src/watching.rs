//! Those who have the board told to them: one connection each, and an honest count of what came over it.

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

/// What all watchers of a process have seen.
#[derive(Default)]
pub struct Watched {
    stories: Mutex<Vec<Arc<Story>>>,
    /// Every board that anybody was told, by its version.
    versions: Mutex<BTreeSet<u64>>,
    open: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
    bytes: AtomicU64,
}

/// What one watcher has seen.
#[derive(Default)]
struct Story {
    first: AtomicU64,
    boards: AtomicU64,
}

/// The sum of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchFigures {
    pub watchers: u64,
    /// Connected now.
    pub open: u64,
    /// Answers 503 and 429 to opening a stream.
    pub refused: u64,
    /// Streams that ended or could not be opened.
    pub broken: u64,
    /// Boards that went out while somebody watched.
    pub boards: u64,
    /// Boards that all together received, and should have: from each one's first to the last that went out.
    pub received: u64,
    pub due: u64,
    /// Watchers who missed one or more.
    pub missed_some: u64,
    pub bytes: u64,
}

impl Watched {
    /// Counts up to the board `last`, or to the youngest that anybody has: those who get it a moment later than others
    /// must not count as having missed it.
    pub fn figures(&self, last: Option<u64>) -> WatchFigures {
        let versions = self.versions.lock();
        let last = last.or_else(|| versions.last().copied()).unwrap_or(0);
        let stories = self.stories.lock();
        let count = |it: &AtomicU64| it.load(Ordering::Relaxed);
        let mut figures = WatchFigures {
            watchers: stories.len() as u64,
            open: count(&self.open),
            refused: count(&self.refused),
            broken: count(&self.broken),
            boards: versions.range(..=last).count() as u64,
            bytes: count(&self.bytes),
            ..WatchFigures::default()
        };
        for story in stories.iter() {
            let first = count(&story.first);
            let due = if first == 0 || first > last {
                0
            } else {
                versions.range(first..=last).count() as u64
            };
            // Boards after `last` may have come to her already.
            let received = count(&story.boards).min(due);
            figures.received += received;
            figures.due += due;
            figures.missed_some += u64::from(first == 0 || received < due);
        }
        figures
    }

    /// The youngest board that anybody was told.
    pub fn last(&self) -> Option<u64> {
        self.versions.lock().last().copied()
    }
}

/// Reads lines; gives the version of each board that goes by.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
}

/// Longer than any line that matters here.
const LINE_MAX: usize = 64;

impl Lines {
    fn read(&mut self, bytes: &[u8], mut board: impl FnMut(u64)) {
        for &byte in bytes {
            if byte == b'\n' {
                if let Some(version) = self.line.strip_prefix(b"id: ")
                    && let Some(version) = std::str::from_utf8(version)
                        .ok()
                        .and_then(|it| it.trim_end().parse().ok())
                {
                    board(version);
                }
                self.line.clear();
            } else if self.line.len() < LINE_MAX {
                self.line.push(byte);
            }
        }
    }
}

/// Watches until it is dropped; a stream that ends is opened again a moment later.
pub async fn watch(to: SocketAddr, path: &str, watched: &Watched) {
    let story = Arc::new(Story::default());
    watched.stories.lock().push(Arc::clone(&story));
    loop {
        let Some(was_refused) = once(to, path, watched, &story).await else {
            watched.broken.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        if was_refused {
            watched.refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }
}

/// Whether the stream was refused; `None` when it broke.
async fn once(to: SocketAddr, path: &str, watched: &Watched, story: &Story) -> Option<bool> {
    let mut socket = TcpStream::connect(to).await.ok()?;
    let ask = format!("GET {path} HTTP/1.1\r\nhost: {to}\r\naccept: text/event-stream\r\n\r\n");
    socket.write_all(ask.as_bytes()).await.ok()?;
    let mut bytes = [0; 2_048];
    let (mut lines, mut is_open) = (Lines::default(), None::<Open<'_>>);
    loop {
        let read = socket.read(&mut bytes).await.ok().filter(|n| *n > 0)?;
        if is_open.is_none() {
            match bytes.get(9..12) {
                Some(b"200") => is_open = Some(Open::new(&watched.open)),
                Some(b"503" | b"429") => return Some(true),
                _ => return None,
            }
        }
        watched.bytes.fetch_add(read as u64, Ordering::Relaxed);
        lines.read(&bytes[..read], |version| {
            watched.versions.lock().insert(version);
            let _ = story
                .first
                .compare_exchange(0, version, Ordering::Relaxed, Ordering::Relaxed);
            story.boards.fetch_add(1, Ordering::Relaxed);
        });
    }
}

/// One open stream, counted until dropped.
struct Open<'a>(&'a AtomicU64);

impl<'a> Open<'a> {
    fn new(open: &'a AtomicU64) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_are_counted_wherever_the_bytes_are_cut() {
        let stream = b"HTTP/1.1 200 OK\r\n\r\n1f\r\nretry: 1000\n\nid: 41\nevent: board\ndata: {\"id: 7\\n\":1}\n\n\r\n9\r\nid: 42\nevent: board\n\n";
        for cut in 1..stream.len() {
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            for part in [&stream[..cut], &stream[cut..]] {
                lines.read(part, |version| seen.push(version));
            }
            assert_eq!(seen, [41, 42], "cut at {cut}");
        }
    }

    #[test]
    fn whoever_misses_a_board_is_counted_and_whoever_came_later_is_not() {
        let watched = Watched::default();
        *watched.versions.lock() = BTreeSet::from([1, 2, 3, 4]);
        for (first, boards) in [(1, 4), (3, 2), (1, 3), (0, 0)] {
            let story = Story {
                first: AtomicU64::new(first),
                boards: AtomicU64::new(boards),
            };
            watched.stories.lock().push(Arc::new(story));
        }
        let figures = watched.figures(None);
        assert_eq!(
            (figures.due, figures.received, figures.missed_some),
            (10, 9, 2),
            "one missed a board, one has none"
        );
        assert_eq!(
            watched.figures(Some(3)).missed_some,
            1,
            "the last board was still on its way"
        );
    }
}
