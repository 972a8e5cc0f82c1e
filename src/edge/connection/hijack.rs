//! An event stream takes its connection over from hyper, whose two buffers of 8 KB it has no use for: whoever watches
//! keeps a socket, a body and nothing else.
//!
//! Nothing of an earlier answer may be left in those buffers. hyper flushes an answer before it reads the next request,
//! unless the socket takes no more ([`Patient::is_stalled`](super::patience::Patient::is_stalled)): only a client that
//! asks on without reading gets there, and her connection is closed.

use std::io::{self, Write as _};

use futures_util::StreamExt;
use http::{HeaderValue, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::Body;
use parking_lot::Mutex;
use time::{OffsetDateTime, format_description::StaticFormatDescription, macros::format_description};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::oneshot,
};

use crate::kernel::Timestamp;

/// Where the answer that takes a connection over is handed in.
#[derive(Debug)]
pub(crate) struct Hijack<B>(Mutex<Option<oneshot::Sender<Response<B>>>>);

/// What comes after a stream's head, besides its own headers.
const HEAD_BYTES: usize = 320;
/// RFC 9110, 5.6.7.
const HTTP_DATE: StaticFormatDescription =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

impl<B> Hijack<B> {
    pub(crate) fn new() -> (Self, oneshot::Receiver<Response<B>>) {
        let (hands_in, taken) = oneshot::channel();
        (Self(Mutex::new(Some(hands_in))), taken)
    }

    /// Hands in what is to take the connection over, and gives back everything else.
    pub(crate) fn offer(&self, is_get: bool, version: Version, response: Response<B>) -> Option<Response<B>> {
        let is_stream = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|it| it == "text/event-stream");
        if !(is_stream && is_get && version == Version::HTTP_11 && response.status() == StatusCode::OK) {
            return Some(response);
        }
        match self.0.lock().take() {
            Some(hands_in) => hands_in.send(response).err(),
            None => Some(response),
        }
    }
}

/// Sends a stream until it ends or nobody listens. Its end is the connection's (RFC 9112, 6.3, 8).
///
/// # Errors
/// The connection broke, or its client took nothing for too long.
pub(crate) async fn send<S, B>(mut socket: S, response: Response<B>, now: Option<Timestamp>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = bytes::Bytes> + Unpin,
{
    let (head, body) = response.into_parts();
    socket.write_all(&told(&head, now)).await?;
    let mut frames = body.into_data_stream();
    let mut said = [0; 64];
    loop {
        tokio::select! {
            frame = frames.next() => match frame {
                Some(Ok(frame)) => socket.write_all(&frame).await?,
                Some(Err(_)) | None => break,
            },
            // Whatever she says comes too late; but that she is gone is to be known.
            read = socket.read(&mut said) => if read? == 0 { return Ok(()) },
        }
    }
    socket.shutdown().await
}

fn told(head: &http::response::Parts, now: Option<Timestamp>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES);
    let reason = head.status.canonical_reason().unwrap_or_default();
    let _ = write!(bytes, "HTTP/1.1 {} {reason}\r\n", head.status.as_str());
    let own = head
        .headers
        .iter()
        .filter(|(name, _)| *name != header::CONNECTION);
    let date = now
        .and_then(|now| OffsetDateTime::from_unix_timestamp(now.as_secs()).ok())
        .and_then(|at| at.format(HTTP_DATE).ok());
    let date = date.and_then(|date| HeaderValue::try_from(date).ok());
    let added = date.iter().map(|date| (&header::DATE, date));
    let close = HeaderValue::from_static("close");
    for (name, value) in own.chain(added).chain([(&header::CONNECTION, &close)]) {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use tokio::io::duplex;

    use super::*;

    fn a_stream(
        frames: Vec<&'static str>,
    ) -> Response<StreamBody<impl stream::Stream<Item = io::Result<Frame<bytes::Bytes>>> + Unpin>> {
        let frames = frames
            .into_iter()
            .map(|it| Ok(Frame::data(bytes::Bytes::from_static(it.as_bytes()))));
        let mut response = Response::new(StreamBody::new(stream::iter(frames)));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        );
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        response
    }

    #[tokio::test]
    async fn a_stream_is_told_whole_and_its_end_ends_the_connection() {
        let (mut client, server) = duplex(64);
        let sending = tokio::spawn(send(
            server,
            a_stream(vec!["data: 1\n\n", "data: 2\n\n"]),
            Some(Timestamp::from_secs(784_111_777)),
        ));
        let mut got = String::new();
        client.read_to_string(&mut got).await.unwrap();
        assert_eq!(
            got,
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nconnection: close\r\n\r\n\
             data: 1\n\ndata: 2\n\n"
        );
        sending.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_listener_who_goes_ends_a_stream_that_says_nothing() {
        let (mut client, server) = duplex(1_024);
        let silent = Response::new(StreamBody::new(
            stream::pending::<io::Result<Frame<bytes::Bytes>>>(),
        ));
        let sending = tokio::spawn(send(server, silent, None));
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(client.read(&mut [0; 64]).await.unwrap() > 0);
        drop(client);
        tokio::time::timeout(Duration::from_secs(5), sending)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    #[test]
    fn only_a_stream_takes_a_connection_over() {
        let (takeover, mut taken) = Hijack::new();
        let offer =
            |is_get: bool, version: Version, response| takeover.offer(is_get, version, response).is_none();
        let mut plain = a_stream(Vec::new());
        plain
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert!(!offer(true, Version::HTTP_11, plain));
        assert!(
            !offer(false, Version::HTTP_11, a_stream(Vec::new())),
            "a head has no stream"
        );
        assert!(!offer(true, Version::HTTP_10, a_stream(Vec::new())));
        assert!(taken.try_recv().is_err());
        assert!(offer(true, Version::HTTP_11, a_stream(Vec::new())));
        assert!(taken.try_recv().is_ok());
        assert!(
            !offer(true, Version::HTTP_11, a_stream(Vec::new())),
            "it is taken over already"
        );
    }
}
