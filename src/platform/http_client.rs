//! A small HTTP client: HTTP/1.1, plain or over TLS, with a deadline on every call and a bound on every answer.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::CertificateDer};

/// Whose word for a server is believed: certificates at the root of others.
#[derive(Clone)]
pub struct TrustStore(Arc<RootCertStore>);

impl fmt::Debug for TrustStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}

impl TrustStore {
    /// Nobody's: enough for plain HTTP.
    #[must_use]
    pub fn empty() -> Self {
        Self(Arc::new(RootCertStore::empty()))
    }

    /// Those that this machine trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` name others. What cannot be read is passed over,
    /// with a word in the log.
    #[must_use]
    pub fn system() -> Self {
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::warn!(%error, "some of the certificates that this machine trusts cannot be read");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::error!("this machine trusts no certificates: no server can be asked over https");
        }
        Self(Arc::new(roots))
    }

    /// These alone, in DER; `None` when one of them is no certificate.
    #[must_use]
    pub fn from_der(certificates: impl IntoIterator<Item = Vec<u8>>) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(CertificateDer::from(certificate)).ok()?;
        }
        Some(Self(Arc::new(roots)))
    }
}

/// Keeps connections; cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Arc<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>,
    timeout: Duration,
    response_bytes_max: usize,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Response {
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
    Timeout(Duration),
    #[error("the connection broke before the whole answer was there")]
    ConnectionLost,
}

impl HttpClient {
    /// For plain HTTP.
    #[must_use]
    pub fn new(deadline: Duration, answer_bytes_max: usize) -> Self {
        Self::with_trust_store(deadline, answer_bytes_max, &TrustStore::empty())
    }

    /// For HTTPS too, with those servers for whom one of the roots speaks.
    ///
    /// # Panics
    /// Never: the cryptography has the protocol's versions.
    #[must_use]
    pub fn with_trust_store(deadline: Duration, answer_bytes_max: usize, roots: &TrustStore) -> Self {
        let mut plain = HttpConnector::new();
        plain.set_connect_timeout(Some(deadline.min(Duration::from_secs(3))));
        plain.set_nodelay(true);
        plain.enforce_http(false);
        // Named here: the tree holds two of them, so there is none by default.
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3 are built in")
            .with_root_certificates(Arc::clone(&roots.0))
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

    /// The same connections under another deadline.
    #[must_use]
    pub fn with_timeout(&self, deadline: Duration) -> Self {
        Self {
            timeout: deadline,
            ..self.clone()
        }
    }

    /// One call. Never retried here: only the caller knows what may be sent twice.
    ///
    /// # Errors
    /// [`CallError`] when there is no whole answer; an answer with an error status is an answer.
    pub async fn send(
        &self,
        method: Method,
        uri: Uri,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Response, CallError> {
        let mut request = http::Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        request.headers_mut().extend(headers.iter().cloned());
        let exchange = async {
            let response = self.client.request(request).await.map_err(|e| {
                if e.is_connect() {
                    CallError::NotSent
                } else {
                    CallError::ConnectionLost
                }
            })?;
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

    /// `POST` of a JSON body.
    ///
    /// # Errors
    /// As [`HttpClient::call`].
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
