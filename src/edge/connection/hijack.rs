//! Takes a connection from hyper for an event stream, which has no use for hyper's two buffers of 8 KB: a
//! subscriber then costs a socket, a body and nothing else.
//!
//! The buffers must hold nothing of an earlier response. hyper flushes a response before it reads the next
//! request, unless the socket takes no more
//! ([`TimeoutStream::is_stalled`](super::timeouts::TimeoutStream::is_stalled)). Only a client that sends
//! requests without reading gets there, and its connection is closed.

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

/// Takes the response that is to get the whole connection.
#[derive(Debug)]
pub(crate) struct Hijack<B>(Mutex<Option<oneshot::Sender<Response<B>>>>);

/// Usual size of a stream's head.
const HEAD_BYTES: usize = 320;
/// The date format of RFC 9110, 5.6.7.
const HTTP_DATE: StaticFormatDescription =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

impl<B> Hijack<B> {
    pub(crate) fn new() -> (Self, oneshot::Receiver<Response<B>>) {
        let (sender, hijacked) = oneshot::channel();
        (Self(Mutex::new(Some(sender))), hijacked)
    }

    /// Takes an event stream, and returns every other response. A connection is taken once.
    pub(crate) fn offer(&self, is_get: bool, version: Version, response: Response<B>) -> Option<Response<B>> {
        let is_stream = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|content_type| content_type == "text/event-stream");
        if !(is_stream && is_get && version == Version::HTTP_11 && response.status() == StatusCode::OK) {
            return Some(response);
        }
        match self.0.lock().take() {
            Some(sender) => sender.send(response).err(),
            None => Some(response),
        }
    }
}

/// Sends a stream until it ends or its client is gone. The end of the body is the end of the connection (RFC
/// 9112, 6.3 and 8).
///
/// # Errors
/// The connection broke, or its client read nothing for too long.
pub(crate) async fn send<S, B>(mut socket: S, response: Response<B>, now: Option<Timestamp>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = bytes::Bytes> + Unpin,
{
    let (head, body) = response.into_parts();
    socket.write_all(&encode_head(&head, now)).await?;
    let mut frames = body.into_data_stream();
    let mut ignored = [0; 64];
    loop {
        tokio::select! {
            frame = frames.next() => match frame {
                Some(Ok(frame)) => socket.write_all(&frame).await?,
                Some(Err(_)) | None => break,
            },
            // Further requests are ignored; the read shows when the client is gone.
            read = socket.read(&mut ignored) => if read? == 0 { return Ok(()) },
        }
    }
    socket.shutdown().await
}

/// The head of a response after which the connection closes.
pub(super) fn encode_head(head: &http::response::Parts, now: Option<Timestamp>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES);
    let reason = head.status.canonical_reason().unwrap_or_default();
    let _ = write!(bytes, "HTTP/1.1 {} {reason}\r\n", head.status.as_str());
    let own_headers = head
        .headers
        .iter()
        .filter(|(name, _)| *name != header::CONNECTION);
    let date = now
        .and_then(|now| OffsetDateTime::from_unix_timestamp(now.as_secs()).ok())
        .and_then(|at| at.format(HTTP_DATE).ok());
    let date = date.and_then(|date| HeaderValue::try_from(date).ok());
    let added = date.iter().map(|date| (&header::DATE, date));
    let close = HeaderValue::from_static("close");
    for (name, value) in own_headers.chain(added).chain([(&header::CONNECTION, &close)]) {
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
            .map(|frame| Ok(Frame::data(bytes::Bytes::from_static(frame.as_bytes()))));
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
    async fn a_stream_is_sent_whole_and_its_end_closes_the_connection() {
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
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
             date: Sun, 06 Nov 1994 08:49:37 GMT\r\nconnection: close\r\n\r\n\
             data: 1\n\ndata: 2\n\n"
        );
        sending.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_closes_ends_a_silent_stream() {
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
    fn only_an_event_stream_hijacks_a_connection() {
        let (hijack, mut hijacked) = Hijack::new();
        let offer =
            |is_get: bool, version: Version, response| hijack.offer(is_get, version, response).is_none();
        let mut plain = a_stream(Vec::new());
        plain
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        assert!(!offer(true, Version::HTTP_11, plain));
        assert!(
            !offer(false, Version::HTTP_11, a_stream(Vec::new())),
            "a HEAD response has no body"
        );
        assert!(!offer(true, Version::HTTP_10, a_stream(Vec::new())));
        assert!(hijacked.try_recv().is_err());
        assert!(offer(true, Version::HTTP_11, a_stream(Vec::new())));
        assert!(hijacked.try_recv().is_ok());
        assert!(
            !offer(true, Version::HTTP_11, a_stream(Vec::new())),
            "it is hijacked already"
        );
    }
}
