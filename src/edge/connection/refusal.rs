//! Sends the response to a request head that could not be read, and closes the connection in a way that lets
//! the client read it.

use std::{io, time::Duration};

use axum::response::Response;
use http::{HeaderValue, header};
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    edge::{
        connection::{hijack::encode_head, timeouts::TimeoutStream},
        errors::page::unreadable_head,
        state::AppState,
    },
    kernel::Timestamp,
};

/// A connection that is closed while its client still sends is reset, and the response with it. So the rest
/// is read and dropped, for this long and up to so many bytes.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: u64 = 256 * 1024;

/// Answers a connection that ended with a request head that hyper refused; any other it just closes. `head`
/// is as much of the head as has arrived.
pub(super) async fn answer<S>(mut socket: TimeoutStream<S>, head: &[u8], app: Option<&AppState>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Some(status) = socket.take_refused() {
        let response = unreadable_head(app, status, head);
        // A connection that breaks is the client's concern.
        let _ = send(socket, response, app.map(|app| app.clock.now())).await;
    }
}

/// Sends `response`, and closes the connection.
///
/// # Errors
/// The connection broke.
async fn send<S>(mut socket: S, response: Response, now: Option<Timestamp>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut head, body) = response.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    head.headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    socket.write_all(&encode_head(&head, now)).await?;
    socket.write_all(&body).await?;
    socket.shutdown().await?;
    let mut rest = socket.take(LINGER_BYTES_MAX);
    let draining = async { tokio::io::copy(&mut rest, &mut tokio::io::sink()).await };
    let _ = tokio::time::timeout(LINGER, draining).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use http::StatusCode;
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn a_client_that_still_sends_reads_the_whole_response() {
        let (mut client, server) = duplex(64);
        let response = (StatusCode::BAD_REQUEST, "what is wrong").into_response();
        let sending = tokio::spawn(send(server, response, None));
        let mut got = String::new();
        client.read_to_string(&mut got).await.unwrap();
        client.write_all(&[b'x'; 300]).await.unwrap();
        drop(client);
        sending.await.unwrap().unwrap();
        assert!(got.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{got}");
        assert!(got.contains("content-length: 13\r\n"), "{got}");
        assert!(got.ends_with("connection: close\r\n\r\nwhat is wrong"), "{got}");
    }
}
