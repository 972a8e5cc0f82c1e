//! Timeouts of a connection: for the next request, for the rest of a request's head, for a client that does
//! not read.
//!
//! hyper's own header timer cannot tell an idle keep-alive connection from a head that arrives byte by byte.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// How long a connection may make the service wait.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionTimeouts {
    /// Longest time between two requests.
    pub idle: Duration,
    /// Longest time from the first byte of a request's head to the last.
    pub head: Duration,
    /// Longest time in which a client reads none of the bytes that wait for it.
    pub stalled: Duration,
}

/// Counts the requests of one connection that are being answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight(Arc<AtomicUsize>);

/// A request that is being answered, until dropped.
#[derive(Debug)]
pub(crate) struct InFlightGuard(Arc<AtomicUsize>);

impl InFlight {
    pub(crate) fn begin(&self) -> InFlightGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        InFlightGuard(Arc::clone(&self.0))
    }

    fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// The first byte of the next request.
    Request,
    /// The rest of a request's head.
    Head,
    /// The service's own response: no timeout.
    Response,
}

/// A socket that fails with [`io::ErrorKind::TimedOut`] when its client makes the service wait too long.
pub(crate) struct TimeoutStream<S> {
    socket: S,
    timeouts: ConnectionTimeouts,
    in_flight: InFlight,
    awaited: Awaited,
    /// Whether `read_timer` measures what is awaited now. It is set only when a read has to wait: most heads
    /// arrive whole.
    is_timed: bool,
    read_timer: Pin<Box<Sleep>>,
    write_timer: Pin<Box<Sleep>>,
    is_stalled: bool,
    /// The status of hyper's own response to a head that it could not read. It has no body, so it is withheld
    /// and the acceptor sends one that says something.
    refused: Option<StatusCode>,
    /// Bytes that were read to detect the protocol and are still to be handed on, and how many they are.
    detected: [u8; PREFACE_LEN],
    detected_len: usize,
}

/// The beginning of an HTTP/2 connection's preface; no HTTP/1 request begins with it (RFC 9113, 3.4).
const PREFACE: [u8; PREFACE_LEN] = *b"PRI";
const PREFACE_LEN: usize = 3;

impl<S> TimeoutStream<S> {
    pub(crate) fn new(socket: S, timeouts: ConnectionTimeouts, in_flight: InFlight) -> Self {
        // A connection that never sends a byte gets the time of a head, not of an idle keep-alive.
        let deadline = Instant::now() + timeouts.head;
        Self {
            socket,
            timeouts,
            in_flight,
            awaited: Awaited::Head,
            is_timed: true,
            read_timer: Box::pin(sleep_until(deadline)),
            write_timer: Box::pin(sleep_until(deadline)),
            is_stalled: false,
            refused: None,
            detected: [0; PREFACE_LEN],
            detected_len: 0,
        }
    }

    /// Whether its client has yet to read something that was written.
    pub(crate) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// The status of a response of hyper's own that was withheld. From then on writes go through again.
    pub(crate) fn take_refused(&mut self) -> Option<StatusCode> {
        self.refused.take()
    }

    fn wait_for(&mut self, awaited: Awaited) {
        self.awaited = awaited;
        self.is_timed = false;
    }

    /// Whether what is awaited has taken too long.
    fn is_read_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let limit = match self.awaited {
            Awaited::Response => return false,
            Awaited::Request => self.timeouts.idle,
            Awaited::Head => self.timeouts.head,
        };
        if !std::mem::replace(&mut self.is_timed, true) {
            self.read_timer.as_mut().reset(Instant::now() + limit);
        }
        self.read_timer.as_mut().poll(cx).is_ready()
    }
}

impl<S: AsyncRead + Unpin> TimeoutStream<S> {
    /// Whether the client speaks HTTP/2, by its first bytes. Later reads begin with these bytes again.
    ///
    /// # Errors
    /// The connection broke, or sent nothing for too long.
    pub(crate) async fn speaks_http2(&mut self) -> io::Result<bool> {
        let (mut first, mut len) = ([0; PREFACE_LEN], 0);
        while len < PREFACE_LEN && first[..len] == PREFACE[..len] {
            match self.read(&mut first[len..]).await? {
                0 => break,
                more => len += more,
            }
        }
        self.detected = first;
        self.detected_len = len;
        Ok(first == PREFACE)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.in_flight.is_any() {
            this.awaited = Awaited::Response;
        } else if this.awaited == Awaited::Response {
            this.wait_for(Awaited::Request);
        }
        let filled = buffer.filled().len();
        let detected_len = std::mem::take(&mut this.detected_len);
        if detected_len > 0 {
            // Together with what follows: hyper would double its buffer for the rest.
            buffer.put_slice(&this.detected[..detected_len]);
            return match Pin::new(&mut this.socket).poll_read(cx, buffer) {
                Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
            };
        }
        match Pin::new(&mut this.socket).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) if buffer.filled().len() > filled && this.awaited == Awaited::Request => {
                this.wait_for(Awaited::Head);
                Poll::Ready(Ok(()))
            }
            Poll::Pending if this.is_read_overdue(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> TimeoutStream<S> {
    /// Starts, keeps or ends the timer of a client that does not read, by the outcome of a write.
    fn check_stall<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.is_stalled = false;
            return written;
        }
        if !self.is_stalled {
            self.is_stalled = true;
            self.write_timer
                .as_mut()
                .reset(Instant::now() + self.timeouts.stalled);
        }
        if self.write_timer.as_mut().poll(cx).is_ready() {
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        } else {
            Poll::Pending
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.refused.is_some() || bytes.starts_with(OWN_RESPONSE) {
            self.refused = self.refused.or_else(|| status_of_own_response(bytes));
            if self.refused.is_some() {
                return Poll::Ready(Ok(bytes.len()));
            }
        }
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.check_stall(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = parts.iter().find(|part| !part.is_empty());
        if self.refused.is_some() || first.is_some_and(|part| part.starts_with(OWN_RESPONSE)) {
            self.refused = self.refused.or_else(|| status_of_own_response(first?));
            if self.refused.is_some() {
                return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
            }
        }
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, parts);
        self.check_stall(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = Pin::new(&mut self.socket).poll_flush(cx);
        self.check_stall(cx, written)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.refused.is_some() {
            return Poll::Ready(Ok(()));
        }
        let written = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.check_stall(cx, written)
    }
}

/// How hyper's own response to an unreadable head begins. The service's own 4xx responses have a body.
const OWN_RESPONSE: &[u8] = b"HTTP/1.1 4";

/// The status of a response that hyper made by itself: an error that closes the connection, without a body.
fn status_of_own_response(bytes: &[u8]) -> Option<StatusCode> {
    let head = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let has_line = |wanted: &str| head.lines().skip(1).any(|line| line == wanted);
    let is_own =
        [400, 414, 431].contains(&status) && has_line("content-length: 0") && has_line("connection: close");
    is_own.then(|| StatusCode::from_u16(status).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    const TIMEOUTS: ConnectionTimeouts = ConnectionTimeouts {
        idle: Duration::from_mins(1),
        head: Duration::from_secs(5),
        stalled: Duration::from_secs(30),
    };

    async fn first_error_after(
        mut stream: TimeoutStream<tokio::io::DuplexStream>,
    ) -> (Duration, io::ErrorKind) {
        let started = Instant::now();
        let mut byte = [0];
        loop {
            if let Err(e) = stream.read_exact(&mut byte).await {
                return (started.elapsed(), e.kind());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_arrives_too_slowly_is_cut_off() {
        let (mut client, server) = duplex(64);
        let drip = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let (after, kind) =
            first_error_after(TimeoutStream::new(server, TIMEOUTS, InFlight::default())).await;
        assert_eq!((after.as_secs(), kind), (5, io::ErrorKind::TimedOut));
        drip.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_read_to_detect_the_protocol_are_read_again() {
        for (parts, is_http2) in [
            (&["GET / HTTP/1.1\r\n"][..], false),
            (&["P", "OST / HTTP/1.1\r\n"], false),
            (&["P", "R", "I * HTTP/2.0\r\n"], true),
            (&["PR", "OPFIND / HTTP/1.1\r\n"], false),
            (&["PR"], false),
        ] {
            let (mut client, server) = duplex(64);
            let mut stream = TimeoutStream::new(server, TIMEOUTS, InFlight::default());
            let writes = async {
                for part in parts {
                    client.write_all(part.as_bytes()).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                client.shutdown().await.unwrap();
            };
            let reads = async {
                assert_eq!(stream.speaks_http2().await.unwrap(), is_http2, "{parts:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                let mut buffer = [0; 64];
                let got = stream.read(&mut buffer).await.unwrap();
                assert_eq!(
                    std::str::from_utf8(&buffer[..got]).unwrap(),
                    parts.concat(),
                    "at once"
                );
            };
            tokio::join!(writes, reads);
        }
        let (client, server) = duplex(64);
        drop(client);
        let silent = TimeoutStream::new(server, TIMEOUTS, InFlight::default())
            .speaks_http2()
            .await;
        assert!(!silent.unwrap(), "a connection that ends is not HTTP/2");
        let (_client, server) = duplex(64);
        let waits = TimeoutStream::new(server, TIMEOUTS, InFlight::default())
            .speaks_http2()
            .await;
        assert_eq!(waits.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_waits_longer_and_a_busy_one_forever() {
        let (_client, server) = duplex(64);
        let in_flight = InFlight::default();
        let guard = in_flight.begin();
        let mut stream = TimeoutStream::new(server, TIMEOUTS, in_flight);
        let mut byte = [0];
        assert!(
            tokio::time::timeout(Duration::from_hours(1), stream.read(&mut byte))
                .await
                .is_err(),
            "no timeout while a response is in progress"
        );
        drop(guard);
        let (after, _) = first_error_after(stream).await;
        assert_eq!(after.as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_cut_off() {
        let (_client, server) = duplex(8);
        let mut stream = TimeoutStream::new(server, TIMEOUTS, InFlight::default());
        let started = Instant::now();
        let error = stream.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(
            (started.elapsed().as_secs(), error.kind()),
            (30, io::ErrorKind::TimedOut)
        );
    }
}
