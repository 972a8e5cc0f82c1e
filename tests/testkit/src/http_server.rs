//! An HTTP server that answers every request with one response, which a test can change.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::ServerError;

/// The server; it stops when dropped.
pub struct HttpServer {
    url: String,
    response: Arc<Mutex<String>>,
    requests: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl HttpServer {
    /// Starts on a free port of the loopback, with the response that [`HttpServer::answer`] explains.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(status: &str, body: &str) -> Result<Self, ServerError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let response = Arc::new(Mutex::new(String::new()));
        let requests = Arc::new(AtomicUsize::new(0));
        let (given, counted) = (Arc::clone(&response), Arc::clone(&requests));
        let serving = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let response = given.lock().unwrap_or_else(PoisonError::into_inner).clone();
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(connection, response));
            }
        });
        let server = Self {
            url,
            response,
            requests,
            serving,
        };
        server.answer(status, body);
        Ok(server)
    }

    /// Its address, without a path.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on answers `status`, such as `200 OK`, with this body. Further headers follow the status in
    /// lines of their own.
    pub fn answer(&self, status: &str, body: &str) {
        let response = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        *self.response.lock().unwrap_or_else(PoisonError::into_inner) = response;
    }

    /// How many requests came.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(mut connection: TcpStream, response: String) {
    let mut request = Vec::new();
    while !request.windows(4).any(|part| part == b"\r\n\r\n") {
        if !matches!(connection.read_buf(&mut request).await, Ok(1..)) {
            return;
        }
    }
    // A client may hang up before it has read everything.
    let _ = connection.write_all(response.as_bytes()).await;
    let _ = connection.shutdown().await;
}
