//! A small HTTP client: plain HTTP/1.1 with a deadline on every call and a bound on every answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

/// Keeps connections; cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    deadline: Duration,
    answer_bytes_max: usize,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// What `serde_json` says when it is not.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// No answer. Whether the call had its effect is known only for [`CallError::NotSent`].
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("no connection: nothing was sent")]
    NotSent,
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    #[error("the connection broke before the whole answer was there")]
    Broken,
}

impl HttpClient {
    #[must_use]
    pub fn new(deadline: Duration, answer_bytes_max: usize) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(deadline.min(Duration::from_secs(3))));
        connector.set_nodelay(true);
        let client =
            Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(20)).build(connector);
        Self { client, deadline, answer_bytes_max }
    }

    /// The same connections under another deadline.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// One call. Never retried here: only the caller knows what may be sent twice.
    ///
    /// # Errors
    /// [`CallError`] when there is no whole answer; an answer with an error status is an answer.
    pub async fn call(&self, method: Method, uri: Uri, headers: &[(HeaderName, HeaderValue)], body: Bytes) -> Result<Answer, CallError> {
        let mut request = http::Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        request.headers_mut().extend(headers.iter().cloned());
        let exchange = async {
            let response =
                self.client.request(request).await.map_err(|e| if e.is_connect() { CallError::NotSent } else { CallError::Broken })?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, self.answer_bytes_max).collect().await.map_err(|_| CallError::Broken)?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(self.deadline, exchange).await.unwrap_or(Err(CallError::Deadline(self.deadline)))
    }

    /// `POST` of a JSON body.
    ///
    /// # Errors
    /// As [`HttpClient::call`].
    pub async fn post_json<T: serde::Serialize>(
        &self,
        uri: Uri,
        headers: &[(HeaderName, HeaderValue)],
        body: &T,
    ) -> Result<Answer, CallError> {
        let body = serde_json::to_vec(body).expect("our own wire types are JSON");
        let mut all = Vec::with_capacity(headers.len() + 1);
        all.extend_from_slice(headers);
        all.push((http::header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
        self.call(Method::POST, uri, &all, body.into()).await
    }
}
