//! An HTTP/1.1 client, plain or over TLS, with a time limit on every call and a size limit on every response.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::CertificateDer};

/// The root certificates that servers are verified against.
#[derive(Clone)]
pub struct TrustStore(Arc<RootCertStore>);

impl fmt::Debug for TrustStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}

impl TrustStore {
    /// No certificates: enough for plain HTTP.
    #[must_use]
    pub fn empty() -> Self {
        Self(Arc::new(RootCertStore::empty()))
    }

    /// The operating system's certificates, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    /// Certificates that cannot be read are logged and skipped.
    #[must_use]
    pub fn system() -> Self {
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::warn!(%error, "cannot read some of the system's root certificates; skipping them");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::error!("the system has no root certificates: every HTTPS request will fail");
        }
        Self(Arc::new(roots))
    }

    /// What a client of this URL needs: nothing for plain HTTP, whose certificates would be read for nothing.
    #[must_use]
    pub fn for_url(url: &str) -> Self {
        if url.starts_with("https:") {
            Self::system()
        } else {
            Self::empty()
        }
    }

    /// Only these certificates, in DER; `None` when one of them is not a certificate.
    #[must_use]
    pub fn from_der(certificates: impl IntoIterator<Item = Vec<u8>>) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(CertificateDer::from(certificate)).ok()?;
        }
        Some(Self(Arc::new(roots)))
    }
}

/// How long a body that nothing depends on may take, so that its connection can be used again.
const UNUSED_BODY_TIMEOUT: Duration = Duration::from_millis(250);

/// A client with a connection pool. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Arc<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>,
    timeout: Duration,
    response_bytes_max: usize,
}

/// A complete response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status, whatever its class.
    pub status: StatusCode,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Response {
    /// Parses the body as JSON.
    ///
    /// # Errors
    /// `serde_json`'s error.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// Where a redirect leads; empty without one.
    #[must_use]
    pub fn location(&self) -> &str {
        let location = self.headers.get(http::header::LOCATION);
        location.and_then(|it| it.to_str().ok()).unwrap_or_default()
    }
}

/// Whether a request could be sent there.
#[must_use]
pub fn is_url(text: &str) -> bool {
    text.parse::<Uri>()
        .is_ok_and(|uri| uri.scheme().is_some() && uri.host().is_some())
}

/// Why there is no response. Only after [`CallError::NotSent`] is it certain that the request had no effect.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Connecting failed.
    #[error("no connection: nothing was sent")]
    NotSent,
    /// No complete response within the time limit.
    #[error("no response within {0:?}")]
    Timeout(Duration),
    /// The connection was lost, or the response is larger than the limit.
    #[error("the connection was lost before the response was complete")]
    ConnectionLost,
}

impl HttpClient {
    /// A client for plain HTTP.
    #[must_use]
    pub fn new(deadline: Duration, answer_bytes_max: usize) -> Self {
        Self::with_trust_store(deadline, answer_bytes_max, &TrustStore::empty())
    }

    /// A client for plain HTTP, and for HTTPS with servers that the trust store verifies.
    ///
    /// # Panics
    /// Never: the crypto provider supports TLS 1.2 and 1.3.
    #[must_use]
    pub fn with_trust_store(deadline: Duration, answer_bytes_max: usize, trust_store: &TrustStore) -> Self {
        let mut plain = HttpConnector::new();
        plain.set_connect_timeout(Some(deadline.min(Duration::from_secs(3))));
        plain.set_nodelay(true);
        plain.enforce_http(false);
        // The provider must be explicit: two are linked in, so rustls has no default.
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3 are built in")
            .with_root_certificates(Arc::clone(&trust_store.0))
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(plain);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .build(connector);
        Self {
            client: Arc::new(client),
            timeout: deadline,
            response_bytes_max: answer_bytes_max,
        }
    }

    /// The same connection pool with another time limit.
    #[must_use]
    pub fn with_timeout(&self, deadline: Duration) -> Self {
        Self {
            timeout: deadline,
            ..self.clone()
        }
    }

    /// Sends a `GET`.
    ///
    /// # Errors
    /// As [`HttpClient::send`]; a text that is no URL is [`CallError::NotSent`].
    pub async fn get(&self, url: &str) -> Result<Response, CallError> {
        let uri = url.parse().map_err(|_| CallError::NotSent)?;
        self.send(Method::GET, uri, &[], Bytes::new()).await
    }

    /// Sends a form that is encoded already. `credentials`, user and password with a colon between, are sent
    /// as `Basic`.
    ///
    /// # Errors
    /// As [`HttpClient::get`].
    ///
    /// # Panics
    /// Never: base64 is visible ASCII.
    pub async fn post_form(
        &self,
        url: &str,
        form: String,
        credentials: Option<&str>,
    ) -> Result<Response, CallError> {
        let uri = url.parse().map_err(|_| CallError::NotSent)?;
        let content_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        let mut headers = vec![(http::header::CONTENT_TYPE, content_type)];
        if let Some(credentials) = credentials {
            let basic = format!("Basic {}", STANDARD.encode(credentials));
            let mut basic = HeaderValue::from_str(&basic).expect("base64 is visible ASCII");
            basic.set_sensitive(true);
            headers.push((http::header::AUTHORIZATION, basic));
        }
        self.send(Method::POST, uri, &headers, form.into()).await
    }

    /// Sends one request. Never retries: only the caller knows whether a request may be sent twice.
    ///
    /// # Errors
    /// [`CallError`] when there is no complete response; an error status is a response.
    pub async fn send(
        &self,
        method: Method,
        uri: Uri,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Response, CallError> {
        let request = request(method, uri, headers, body);
        let exchange = async {
            let response = self.client.request(request).await.map_err(|e| not_answered(&e))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, self.response_bytes_max)
                .collect()
                .await
                .map_err(|_| CallError::ConnectionLost)?
                .to_bytes();
            Ok(Response {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        tokio::time::timeout(self.timeout, exchange)
            .await
            .unwrap_or(Err(CallError::Timeout(self.timeout)))
    }

    /// Sends a `POST` of which only the response's status counts. Redirects are not followed. A body that is
    /// larger than the limit, or slow, is not read to its end: its connection is closed.
    ///
    /// # Errors
    /// [`CallError`] when no status has arrived within the time limit.
    pub async fn post_for_status(
        &self,
        uri: Uri,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<StatusCode, CallError> {
        let response = tokio::time::timeout(
            self.timeout,
            self.client.request(request(Method::POST, uri, headers, body)),
        )
        .await
        .map_err(|_| CallError::Timeout(self.timeout))?
        .map_err(|e| not_answered(&e))?;
        let (head, body) = response.into_parts();
        let rest = Limited::new(body, self.response_bytes_max).collect();
        let _ = tokio::time::timeout(self.timeout.min(UNUSED_BODY_TIMEOUT), rest).await;
        Ok(head.status)
    }

    /// Sends a `POST` with a JSON body.
    ///
    /// # Errors
    /// As [`HttpClient::send`].
    pub async fn post_json<T: serde::Serialize>(
        &self,
        uri: Uri,
        headers: &[(HeaderName, HeaderValue)],
        body: &T,
    ) -> Result<Response, CallError> {
        let body = serde_json::to_vec(body).expect("our own wire types are JSON");
        let mut all = Vec::with_capacity(headers.len() + 1);
        all.extend_from_slice(headers);
        all.push((
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ));
        self.send(Method::POST, uri, &all, body.into()).await
    }
}

fn request(
    method: Method,
    uri: Uri,
    headers: &[(HeaderName, HeaderValue)],
    body: Bytes,
) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    request.headers_mut().extend(headers.iter().cloned());
    request
}

fn not_answered(error: &hyper_util::client::legacy::Error) -> CallError {
    if error.is_connect() {
        CallError::NotSent
    } else {
        CallError::ConnectionLost
    }
}
