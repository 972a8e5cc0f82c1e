//! HTTP/1.1 as lean as a load generator needs it: connections that are kept, requests that are bytes, answers read whole.
//!
//! A generator shares the machine with what it measures, so what it does not do is the point: no pool task, no header map,
//! no body stream. It reads answers with a `Content-Length`, or without a body; event streams have a reader of their own
//! ([`crate::watching`]).

use std::{
    fmt::Write,
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

/// Connections to one server.
pub struct Wire {
    to: SocketAddr,
    authority: String,
    idle: Mutex<Vec<Connection>>,
    turns: Semaphore,
    deadline: Duration,
    opened: AtomicU64,
}

/// A kept connection and what was read beyond the last answer.
struct Connection {
    socket: TcpStream,
    read: Vec<u8>,
}

/// A request that is not yet bytes.
pub struct Ask<'a> {
    pub method: &'static str,
    pub path: &'a str,
    /// Names in lower case.
    pub headers: &'a [(&'static str, &'a str)],
    /// JSON.
    pub body: Option<&'a str>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub etag: Option<String>,
    pub body: Vec<u8>,
    /// Of the whole answer, head included.
    pub bytes: usize,
}

/// No answer, and how it failed to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    NoConnection,
    Broken,
    Late,
    /// It came, and is no HTTP/1.1 answer with a length.
    Unreadable,
}

impl Lost {
    pub fn name(self) -> &'static str {
        match self {
            Self::NoConnection => "no connection",
            Self::Broken => "connection broke",
            Self::Late => "no answer in time",
            Self::Unreadable => "unreadable",
        }
    }
}

impl Reply {
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

const ANSWER_MAX: usize = 64 << 20;
const HEADERS_MAX: usize = 32;

impl Wire {
    /// `connections` at most; whoever finds all in use waits for one.
    pub fn new(to: SocketAddr, authority: impl Into<String>, connections: usize, deadline: Duration) -> Self {
        Self {
            to,
            authority: authority.into(),
            idle: Mutex::default(),
            turns: Semaphore::new(connections),
            deadline,
            opened: AtomicU64::new(0),
        }
    }

    /// Connections that were opened so far.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub fn address(&self) -> SocketAddr {
        self.to
    }

    /// The bytes of a request to this server.
    pub fn bytes(&self, ask: &Ask<'_>) -> Vec<u8> {
        let mut text = String::with_capacity(256 + ask.body.map_or(0, str::len));
        let _ = write!(
            text,
            "{} {} HTTP/1.1\r\nhost: {}\r\n",
            ask.method, ask.path, self.authority
        );
        for (name, value) in ask.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if let Some(body) = ask.body {
            let _ = write!(
                text,
                "content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
        } else if ask.method == "GET" {
            text.push_str("\r\n");
        } else {
            text.push_str("content-length: 0\r\n\r\n");
        }
        text.into_bytes()
    }

    /// Asks once.
    ///
    /// # Errors
    /// [`Lost`] when there is no whole answer; one with an error status is an answer.
    pub async fn ask(&self, ask: &Ask<'_>) -> Result<Reply, Lost> {
        self.send(&self.bytes(ask)).await
    }

    /// As [`Wire::ask`], with the request's bytes at hand.
    pub async fn send(&self, request: &[u8]) -> Result<Reply, Lost> {
        let _turn = self.turns.acquire().await.map_err(|_| Lost::NoConnection)?;
        tokio::time::timeout(self.deadline, self.exchange(request))
            .await
            .unwrap_or(Err(Lost::Late))
    }

    async fn exchange(&self, request: &[u8]) -> Result<Reply, Lost> {
        loop {
            let kept = self.idle.lock().pop();
            let is_kept = kept.is_some();
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
                // The server may close an idle connection just when it is used: nothing was answered, so another is tried.
                Err(Trouble::ClosedBefore) if is_kept => {}
                Err(Trouble::ClosedBefore | Trouble::Broken) => return Err(Lost::Broken),
                Err(Trouble::Unreadable) => return Err(Lost::Unreadable),
            }
        }
    }

    async fn open(&self) -> Result<Connection, Lost> {
        let socket = TcpStream::connect(self.to)
            .await
            .map_err(|_| Lost::NoConnection)?;
        let _ = socket.set_nodelay(true);
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Connection {
            socket,
            read: Vec::with_capacity(4_096),
        })
    }
}

enum Trouble {
    /// Not a byte of an answer came.
    ClosedBefore,
    Broken,
    Unreadable,
}

/// An answer's head: where its body begins and how long it is.
struct Head {
    reply: Reply,
    begins: usize,
    length: usize,
    is_kept: bool,
}

impl Connection {
    async fn exchange(&mut self, request: &[u8]) -> Result<(Reply, bool), Trouble> {
        self.socket
            .write_all(request)
            .await
            .map_err(|_| Trouble::ClosedBefore)?;
        let mut head = loop {
            if let Some(head) = head_of(&self.read)? {
                break head;
            }
            self.more().await?;
        };
        let whole = head.begins + head.length;
        if whole > ANSWER_MAX {
            return Err(Trouble::Unreadable);
        }
        while self.read.len() < whole {
            self.more().await?;
        }
        head.reply.body = self.read[head.begins..whole].to_vec();
        head.reply.bytes = whole;
        self.read.drain(..whole);
        Ok((head.reply, head.is_kept))
    }

    async fn more(&mut self) -> Result<(), Trouble> {
        let none_yet = self.read.is_empty();
        let closed = |_: io::Error| {
            if none_yet {
                Trouble::ClosedBefore
            } else {
                Trouble::Broken
            }
        };
        match self.socket.read_buf(&mut self.read).await.map_err(closed)? {
            0 if none_yet => Err(Trouble::ClosedBefore),
            0 => Err(Trouble::Broken),
            _ => Ok(()),
        }
    }
}

/// The head of the answer that `read` begins with; `None` when it is not there yet.
fn head_of(read: &[u8]) -> Result<Option<Head>, Trouble> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(begins) = answer.parse(read).map_err(|_| Trouble::Unreadable)? else {
        return Ok(None);
    };
    let status = answer.code.ok_or(Trouble::Unreadable)?;
    let mut head = Head {
        reply: Reply {
            status,
            retry_after: None,
            etag: None,
            body: Vec::new(),
            bytes: 0,
        },
        begins,
        length: 0,
        is_kept: true,
    };
    let mut is_told = status == 204 || status == 304;
    for header in answer.headers.iter() {
        let value = || std::str::from_utf8(header.value).unwrap_or_default().trim();
        let name = header.name;
        if name.eq_ignore_ascii_case("content-length") {
            head.length = value().parse().map_err(|_| Trouble::Unreadable)?;
            is_told = true;
        } else if name.eq_ignore_ascii_case("retry-after") {
            head.reply.retry_after = value().parse().ok().map(|s: u64| Duration::from_secs(s.min(300)));
        } else if name.eq_ignore_ascii_case("etag") {
            head.reply.etag = Some(value().to_owned());
        } else if name.eq_ignore_ascii_case("connection") && value().eq_ignore_ascii_case("close") {
            head.is_kept = false;
        }
    }
    if is_told {
        Ok(Some(head))
    } else {
        Err(Trouble::Unreadable)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each connection's requests with these, then closes it.
    async fn server(answers: &'static [&'static [&'static str]]) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for answers in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                for answer in *answers {
                    let mut request = [0; 1_024];
                    let _ = socket.read(&mut request).await.unwrap();
                    socket.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        Wire::new(to, "here", 4, Duration::from_secs(2))
    }

    const OK: &str = "HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n";
    const GET: Ask<'static> = Ask {
        method: "GET",
        path: "/",
        headers: &[],
        body: None,
    };

    #[tokio::test]
    async fn answers_are_read_whole_and_connections_kept() {
        let wire = server(&[&[
            "HTTP/1.1 503 x\r\nretry-after: 7\r\netag: \"9\"\r\ncontent-length: 2\r\n\r\nab",
            "HTTP/1.1 204 x\r\n\r\n",
            "HTTP/1.1 200 x\r\ncontent-length: 1\r\nConnection: close\r\n\r\nc",
        ]])
        .await;
        let first = wire.ask(&GET).await.unwrap();
        assert_eq!(
            (first.status, first.retry_after, first.etag.as_deref()),
            (503, Some(Duration::from_secs(7)), Some("\"9\""))
        );
        assert_eq!(first.body, b"ab");
        assert_eq!(wire.ask(&GET).await.unwrap().status, 204);
        assert_eq!(
            (wire.ask(&GET).await.unwrap().body.as_slice(), wire.opened()),
            (&b"c"[..], 1)
        );
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_is_replaced_and_one_that_breaks_is_lost() {
        let wire = server(&[
            &[OK],
            &[OK],
            &["HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\nhalf"],
            &["SSH-2.0-x\r\n\r\n"],
        ])
        .await;
        assert!(wire.ask(&GET).await.is_ok());
        assert!(wire.ask(&GET).await.is_ok(), "on another one");
        assert_eq!(wire.opened(), 2);
        assert_eq!(wire.ask(&GET).await.unwrap_err(), Lost::Broken);
        assert_eq!(wire.ask(&GET).await.unwrap_err(), Lost::Unreadable);
    }

    #[tokio::test]
    async fn nobody_there_is_no_connection() {
        let free = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        assert_eq!(
            Wire::new(free, "x", 1, Duration::from_secs(1))
                .ask(&GET)
                .await
                .unwrap_err(),
            Lost::NoConnection
        );
    }

    #[test]
    fn a_request_says_how_long_its_body_is() {
        let wire = Wire::new(([127, 0, 0, 1], 1).into(), "a:1", 1, Duration::from_secs(1));
        let ask = Ask {
            method: "POST",
            path: "/x",
            headers: &[("queue-token", "t")],
            body: Some("{}"),
        };
        let text = String::from_utf8(wire.bytes(&ask)).unwrap();
        assert_eq!(
            text,
            "POST /x HTTP/1.1\r\nhost: a:1\r\nqueue-token: t\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
        );
        assert!(
            String::from_utf8(wire.bytes(&Ask { body: None, ..ask }))
                .unwrap()
                .ends_with("content-length: 0\r\n\r\n")
        );
    }
}
