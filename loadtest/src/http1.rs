//! A minimal HTTP/1.1 client for load generation: kept connections, requests encoded to bytes, whole replies.
//!
//! A generator shares the machine with what it measures, so this client leaves out what costs CPU: there is
//! no pool task, no header map, no body stream. It reads replies with a `Content-Length` or without a body.
//! Event streams have a client of their own ([`crate::sse_client`]).

use std::{
    fmt::Write,
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use stagedoor::demo::client::{Reply, call::parse_retry_after};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

/// Connections to one server.
pub struct Http1Client {
    address: SocketAddr,
    authority: String,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
    timeout: Duration,
    opened: AtomicU64,
}

/// A kept connection and what was read beyond the last reply.
struct Connection {
    socket: TcpStream,
    read: Vec<u8>,
}

/// A request before it is encoded.
#[derive(Clone, Copy)]
pub struct HttpRequest<'a> {
    /// The HTTP method in capitals.
    pub method: &'static str,
    /// The path with its query.
    pub path: &'a str,
    /// Header names in lower case, and values.
    pub headers: &'a [(&'static str, &'a str)],
    /// The JSON body.
    pub body: Option<&'a str>,
}

impl<'a> HttpRequest<'a> {
    /// A request without headers and body.
    pub const fn new(method: &'static str, path: &'a str) -> Self {
        Self {
            method,
            path,
            headers: &[],
            body: None,
        }
    }

    /// A `GET`.
    pub const fn get(path: &'a str) -> Self {
        Self::new("GET", path)
    }

    /// A `POST` without a body.
    pub const fn post(path: &'a str) -> Self {
        Self::new("POST", path)
    }

    /// Sets the headers.
    #[must_use]
    pub const fn with_headers(mut self, headers: &'a [(&'static str, &'a str)]) -> Self {
        self.headers = headers;
        self
    }

    /// Sets the JSON body.
    #[must_use]
    pub const fn with_body(mut self, body: &'a str) -> Self {
        self.body = Some(body);
        self
    }
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The server does not accept connections.
    #[error("no connection")]
    NoConnection,
    /// The connection ended before the whole reply arrived.
    #[error("connection lost")]
    ConnectionLost,
    /// No whole reply arrived in time.
    #[error("timeout")]
    Timeout,
    /// The reply is not HTTP/1.1 with a length.
    #[error("unreadable reply")]
    Unreadable,
}

const REPLY_BYTES_MAX: usize = 64 << 20;
const HEADERS_MAX: usize = 32;

impl Http1Client {
    /// A client with at most `connections` connections; further requests wait for one. `authority` is the
    /// value of `Host`.
    pub fn new(
        address: SocketAddr,
        authority: impl Into<String>,
        connections: usize,
        timeout: Duration,
    ) -> Self {
        Self {
            address,
            authority: authority.into(),
            idle: Mutex::default(),
            permits: Semaphore::new(connections),
            timeout,
            opened: AtomicU64::new(0),
        }
    }

    /// The number of connections opened so far.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The bytes of a request to this server.
    pub fn encode(&self, request: &HttpRequest<'_>) -> Vec<u8> {
        let HttpRequest {
            method,
            path,
            headers,
            body,
        } = request;
        let mut text = String::with_capacity(256 + body.map_or(0, str::len));
        let _ = write!(text, "{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.authority);
        for (name, value) in *headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if let Some(body) = body {
            let length = body.len();
            let _ = write!(
                text,
                "content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            );
        } else if *method == "GET" {
            text.push_str("\r\n");
        } else {
            text.push_str("content-length: 0\r\n\r\n");
        }
        text.into_bytes()
    }

    /// Sends one request.
    ///
    /// # Errors
    /// [`SendError`] without a whole reply. A reply with an error status is `Ok`.
    pub async fn send(&self, request: &HttpRequest<'_>) -> Result<Reply, SendError> {
        self.send_bytes(&self.encode(request)).await
    }

    /// As [`Http1Client::send`], for a request encoded before.
    ///
    /// # Errors
    /// As [`Http1Client::send`].
    pub async fn send_bytes(&self, request: &[u8]) -> Result<Reply, SendError> {
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| SendError::NoConnection)?;
        tokio::time::timeout(self.timeout, self.exchange(request))
            .await
            .unwrap_or(Err(SendError::Timeout))
    }

    async fn exchange(&self, request: &[u8]) -> Result<Reply, SendError> {
        loop {
            let kept = self.idle.lock().pop();
            let was_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.open().await?,
            };
            match connection.exchange(request).await {
                Ok((reply, true)) => {
                    self.idle.lock().push(connection);
                    return Ok(reply);
                }
                Ok((reply, false)) => return Ok(reply),
                // The server may close an idle connection just when it is used. Nothing was answered, so
                // another connection is tried.
                Err(ExchangeError::ClosedBeforeReply) if was_kept => {}
                Err(ExchangeError::ClosedBeforeReply | ExchangeError::ConnectionLost) => {
                    return Err(SendError::ConnectionLost);
                }
                Err(ExchangeError::Unreadable) => return Err(SendError::Unreadable),
            }
        }
    }

    async fn open(&self) -> Result<Connection, SendError> {
        let socket = TcpStream::connect(self.address)
            .await
            .map_err(|_| SendError::NoConnection)?;
        let _ = socket.set_nodelay(true);
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Connection {
            socket,
            read: Vec::with_capacity(4_096),
        })
    }
}

enum ExchangeError {
    /// The connection ended before the first byte of a reply.
    ClosedBeforeReply,
    ConnectionLost,
    Unreadable,
}

/// A reply's head: where its body starts and how long it is.
struct Head {
    reply: Reply,
    body_starts: usize,
    body_length: usize,
    keeps_alive: bool,
}

impl Connection {
    /// The reply, and whether the connection can be used again.
    async fn exchange(&mut self, request: &[u8]) -> Result<(Reply, bool), ExchangeError> {
        self.socket
            .write_all(request)
            .await
            .map_err(|_| ExchangeError::ClosedBeforeReply)?;
        let mut head = loop {
            if let Some(head) = parse_head(&self.read)? {
                break head;
            }
            self.read_more().await?;
        };
        let whole = head.body_starts + head.body_length;
        if whole > REPLY_BYTES_MAX {
            return Err(ExchangeError::Unreadable);
        }
        while self.read.len() < whole {
            self.read_more().await?;
        }
        head.reply.body = Bytes::copy_from_slice(&self.read[head.body_starts..whole]);
        head.reply.wire_bytes = whole;
        self.read.drain(..whole);
        Ok((head.reply, head.keeps_alive))
    }

    async fn read_more(&mut self) -> Result<(), ExchangeError> {
        let is_first = self.read.is_empty();
        let closed = || {
            if is_first {
                ExchangeError::ClosedBeforeReply
            } else {
                ExchangeError::ConnectionLost
            }
        };
        match self
            .socket
            .read_buf(&mut self.read)
            .await
            .map_err(|_: io::Error| closed())?
        {
            0 => Err(closed()),
            _ => Ok(()),
        }
    }
}

/// The head of the reply at the beginning of `read`; `None` while it is incomplete.
fn parse_head(read: &[u8]) -> Result<Option<Head>, ExchangeError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(read).map_err(|_| ExchangeError::Unreadable)?;
    let httparse::Status::Complete(body_starts) = parsed else {
        return Ok(None);
    };
    let status = response.code.ok_or(ExchangeError::Unreadable)?;
    let reply = Reply {
        status,
        retry_after: None,
        etag: None,
        body: Bytes::new(),
        wire_bytes: 0,
    };
    let mut head = Head {
        reply,
        body_starts,
        body_length: 0,
        keeps_alive: true,
    };
    let mut has_length = status == 204 || status == 304;
    for header in response.headers.iter() {
        let value = || std::str::from_utf8(header.value).unwrap_or_default().trim();
        let name = header.name;
        if name.eq_ignore_ascii_case("content-length") {
            head.body_length = value().parse().map_err(|_| ExchangeError::Unreadable)?;
            has_length = true;
        } else if name.eq_ignore_ascii_case("retry-after") {
            head.reply.retry_after = parse_retry_after(value());
        } else if name.eq_ignore_ascii_case("etag") {
            head.reply.etag = Some(value().to_owned());
        } else if name.eq_ignore_ascii_case("connection") && value().eq_ignore_ascii_case("close") {
            head.keeps_alive = false;
        }
    }
    if has_length {
        Ok(Some(head))
    } else {
        Err(ExchangeError::Unreadable)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers the requests of each connection with these replies, then closes it.
    async fn server(replies: &'static [&'static [&'static str]]) -> Http1Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for replies in replies {
                let (mut socket, _) = listener.accept().await.unwrap();
                for reply in *replies {
                    let mut request = [0; 1_024];
                    let _ = socket.read(&mut request).await.unwrap();
                    socket.write_all(reply.as_bytes()).await.unwrap();
                }
            }
        });
        Http1Client::new(address, "here", 4, Duration::from_secs(2))
    }

    const OK: &str = "HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n";
    const GET: HttpRequest<'static> = HttpRequest::get("/");

    #[tokio::test]
    async fn replies_are_read_whole_and_connections_kept() {
        let client = server(&[&[
            "HTTP/1.1 503 x\r\nretry-after: 7\r\netag: \"9\"\r\ncontent-length: 2\r\n\r\nab",
            "HTTP/1.1 204 x\r\n\r\n",
            "HTTP/1.1 200 x\r\ncontent-length: 1\r\nConnection: close\r\n\r\nc",
        ]])
        .await;
        let first = client.send(&GET).await.unwrap();
        assert_eq!(
            (first.status, first.retry_after, first.etag.as_deref()),
            (503, Some(Duration::from_secs(7)), Some("\"9\""))
        );
        assert_eq!(&first.body[..], b"ab");
        assert_eq!(client.send(&GET).await.unwrap().status, 204);
        assert_eq!(&client.send(&GET).await.unwrap().body[..], b"c");
        assert_eq!(client.opened(), 1);
    }

    #[tokio::test]
    async fn an_idle_closed_connection_is_replaced_a_cut_reply_is_not() {
        let client = server(&[
            &[OK],
            &[OK],
            &["HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\nhalf"],
            &["SSH-2.0-x\r\n\r\n"],
        ])
        .await;
        assert!(client.send(&GET).await.is_ok());
        assert!(client.send(&GET).await.is_ok(), "on another connection");
        assert_eq!(client.opened(), 2);
        assert_eq!(client.send(&GET).await.unwrap_err(), SendError::ConnectionLost);
        assert_eq!(client.send(&GET).await.unwrap_err(), SendError::Unreadable);
    }

    #[tokio::test]
    async fn an_absent_server_is_no_connection() {
        let free = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let client = Http1Client::new(free, "x", 1, Duration::from_secs(1));
        assert_eq!(client.send(&GET).await.unwrap_err(), SendError::NoConnection);
    }

    #[test]
    fn a_request_states_the_length_of_its_body() {
        let client = Http1Client::new(([127, 0, 0, 1], 1).into(), "a:1", 1, Duration::from_secs(1));
        let headers = [("queue-token", "t")];
        let request = HttpRequest::post("/x").with_headers(&headers);
        let text = String::from_utf8(client.encode(&request.with_body("{}"))).unwrap();
        assert_eq!(
            text,
            "POST /x HTTP/1.1\r\nhost: a:1\r\nqueue-token: t\r\ncontent-type: application/json\r\n\
             content-length: 2\r\n\r\n{}"
        );
        let text = String::from_utf8(client.encode(&request)).unwrap();
        assert!(text.ends_with("content-length: 0\r\n\r\n"));
    }
}
