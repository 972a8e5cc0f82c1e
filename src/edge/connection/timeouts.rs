//! How long a connection may keep us waiting: for the next request, for the rest of a request's head, for reading what
//! we send. hyper's own header timer cannot tell an idle keep-alive connection from a head that drips in byte by byte.

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

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// Limits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionTimeouts {
    /// Between two requests.
    pub idle: Duration,
    /// From a head's first byte to its last.
    pub head: Duration,
    /// For a client to take any of the bytes that wait for it.
    pub stalled: Duration,
}

/// Requests of one connection that are being answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight(Arc<AtomicUsize>);

/// One of them; ends when dropped.
#[derive(Debug)]
pub(crate) struct Answering(Arc<AtomicUsize>);

impl InFlight {
    pub(crate) fn begin(&self) -> Answering {
        self.0.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(&self.0))
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Request,
    Head,
    Us,
}

/// A socket that runs out of patience.
pub(crate) struct TimeoutStream<S> {
    socket: S,
    limits: ConnectionTimeouts,
    in_flight: InFlight,
    waiting: Awaited,
    /// Whether `reading` measures what is awaited now. It is set only when a read has to wait: most heads come whole.
    is_timed: bool,
    reading: Pin<Box<Sleep>>,
    writing: Pin<Box<Sleep>>,
    stalled: bool,
    /// What was read to learn the protocol and is still to be handed on, and how much of it.
    first: [u8; FIRST],
    first_len: usize,
}

/// Of an HTTP/2 connection's preface, which no HTTP/1 request begins with (RFC 9113, 3.4).
const PREFACE: [u8; FIRST] = *b"PRI";
const FIRST: usize = 3;

impl<S> TimeoutStream<S> {
    pub(crate) fn new(socket: S, limits: ConnectionTimeouts, in_flight: InFlight) -> Self {
        // A connection that never says a word gets the time of a head, not of an idle keep-alive.
        let first = Instant::now() + limits.head;
        Self {
            socket,
            limits,
            in_flight,
            waiting: Awaited::Head,
            is_timed: true,
            reading: Box::pin(sleep_until(first)),
            writing: Box::pin(sleep_until(first)),
            stalled: false,
            first: [0; FIRST],
            first_len: 0,
        }
    }

    /// Whether its client has yet to take something that was written.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled
    }

    fn wait(&mut self, waiting: Awaited) {
        (self.waiting, self.is_timed) = (waiting, false);
    }

    /// Whether what is awaited has been awaited for too long.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let limit = match self.waiting {
            Awaited::Us => return false,
            Awaited::Request => self.limits.idle,
            Awaited::Head => self.limits.head,
        };
        if !std::mem::replace(&mut self.is_timed, true) {
            self.reading.as_mut().reset(Instant::now() + limit);
        }
        self.reading.as_mut().poll(cx).is_ready()
    }
}

impl<S: AsyncRead + Unpin> TimeoutStream<S> {
    /// Whether the client speaks HTTP/2, by its first bytes; reading begins with them all the same.
    ///
    /// # Errors
    /// The connection has broken, or it said nothing for too long.
    pub(crate) async fn speaks_http2(&mut self) -> io::Result<bool> {
        let (mut first, mut len) = ([0; FIRST], 0);
        while len < FIRST && first[..len] == PREFACE[..len] {
            match self.read(&mut first[len..]).await? {
                0 => break,
                more => len += more,
            }
        }
        (self.first, self.first_len) = (first, len);
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
        if this.in_flight.any() {
            this.waiting = Awaited::Us;
        } else if this.waiting == Awaited::Us {
            this.wait(Awaited::Request);
        }
        let filled = buffer.filled().len();
        let first = std::mem::take(&mut this.first_len);
        if first > 0 {
            // Together with what follows: hyper would make its buffer twice as large for the rest.
            buffer.put_slice(&this.first[..first]);
            return match Pin::new(&mut this.socket).poll_read(cx, buffer) {
                Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
            };
        }
        match Pin::new(&mut this.socket).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) if buffer.filled().len() > filled && this.waiting == Awaited::Request => {
                this.wait(Awaited::Head);
                Poll::Ready(Ok(()))
            }
            Poll::Pending if this.is_over(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> TimeoutStream<S> {
    /// Bytes were refused (`Pending`) or taken: starts, keeps or ends the clock of a client that does not read.
    fn judge<T>(&mut self, cx: &mut Context<'_>, took: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if took.is_ready() {
            self.stalled = false;
            return took;
        }
        if !self.stalled {
            self.stalled = true;
            self.writing.as_mut().reset(Instant::now() + self.limits.stalled);
        }
        if self.writing.as_mut().poll(cx).is_ready() {
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        } else {
            Poll::Pending
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let took = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.judge(cx, took)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let took = Pin::new(&mut self.socket).poll_write_vectored(cx, parts);
        self.judge(cx, took)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let took = Pin::new(&mut self.socket).poll_flush(cx);
        self.judge(cx, took)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let took = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.judge(cx, took)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    const LIMITS: ConnectionTimeouts = ConnectionTimeouts {
        idle: Duration::from_mins(1),
        head: Duration::from_secs(5),
        stalled: Duration::from_secs(30),
    };

    async fn first_error_after(mut patient: TimeoutStream<tokio::io::DuplexStream>) -> (Duration, io::ErrorKind) {
        let started = Instant::now();
        let mut byte = [0];
        loop {
            if let Err(e) = patient.read_exact(&mut byte).await {
                return (started.elapsed(), e.kind());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_in_is_cut_off() {
        let (mut client, server) = duplex(64);
        let drip = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let (after, kind) = first_error_after(TimeoutStream::new(server, LIMITS, InFlight::default())).await;
        assert_eq!((after.as_secs(), kind), (5, io::ErrorKind::TimedOut));
        drip.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_to_learn_the_protocol_is_read_again_with_what_follows() {
        for (parts, is_http2) in [
            (&["GET / HTTP/1.1\r\n"][..], false),
            (&["P", "OST / HTTP/1.1\r\n"], false),
            (&["P", "R", "I * HTTP/2.0\r\n"], true),
            (&["PR", "OPFIND / HTTP/1.1\r\n"], false),
            (&["PR"], false),
        ] {
            let (mut client, server) = duplex(64);
            let mut patient = TimeoutStream::new(server, LIMITS, InFlight::default());
            let says = async {
                for part in parts {
                    client.write_all(part.as_bytes()).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                client.shutdown().await.unwrap();
            };
            let reads = async {
                assert_eq!(patient.speaks_http2().await.unwrap(), is_http2, "{parts:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                let mut buffer = [0; 64];
                let got = patient.read(&mut buffer).await.unwrap();
                assert_eq!(
                    std::str::from_utf8(&buffer[..got]).unwrap(),
                    parts.concat(),
                    "at once"
                );
            };
            tokio::join!(says, reads);
        }
        let (client, server) = duplex(64);
        drop(client);
        let silent = TimeoutStream::new(server, LIMITS, InFlight::default())
            .speaks_http2()
            .await;
        assert!(!silent.unwrap(), "a connection that ends says nothing");
        let (_client, server) = duplex(64);
        let waits = TimeoutStream::new(server, LIMITS, InFlight::default())
            .speaks_http2()
            .await;
        assert_eq!(waits.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_it_waits_longer_and_during_an_answer_for_ever() {
        let (_client, server) = duplex(64);
        let in_flight = InFlight::default();
        let answering = in_flight.begin();
        let mut patient = TimeoutStream::new(server, LIMITS, in_flight);
        let mut byte = [0];
        assert!(
            tokio::time::timeout(Duration::from_hours(1), patient.read(&mut byte))
                .await
                .is_err(),
            "no time-out while we answer"
        );
        drop(answering);
        let (after, _) = first_error_after(patient).await;
        assert_eq!(after.as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_let_go() {
        let (_client, server) = duplex(8);
        let mut patient = TimeoutStream::new(server, LIMITS, InFlight::default());
        let started = Instant::now();
        let error = patient.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(
            (started.elapsed().as_secs(), error.kind()),
            (30, io::ErrorKind::TimedOut)
        );
    }
}
