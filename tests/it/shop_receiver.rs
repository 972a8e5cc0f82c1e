//! A shop's receiver that can be made to fail. It verifies signatures by itself.

use std::{
    collections::HashMap,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::hmac;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;

pub const SECRET: &str = "whsec_dGhlIHNob3AncyBvd24gc2VjcmV0IGZvciBldmVudHM=";

/// How the receiver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReceiverMode {
    Accepts,
    /// Every second request gets 500, but no event more than twice: the pauses would grow to minutes.
    FailsEverySecondTime,
    Down,
    Gone,
    /// To itself: a follower would be accepted.
    Redirects,
    NeverAnswers,
    /// Accepts, with a body of 10 MB.
    TalksTooMuch,
}

impl ReceiverMode {
    const ALL: [Self; 7] = [
        Self::Accepts,
        Self::FailsEverySecondTime,
        Self::Down,
        Self::Gone,
        Self::Redirects,
        Self::NeverAnswers,
        Self::TalksTooMuch,
    ];
}

/// A running receiver; it listens until the test ends.
pub struct Receiver {
    pub url: String,
    state: Arc<ReceiverState>,
}

struct ReceiverState {
    mode: AtomicU8,
    requests: AtomicUsize,
    file: PathBuf,
    accepted: Mutex<Vec<Value>>,
    /// Failures of each event, by its id.
    failures: Mutex<HashMap<Vec<u8>, u32>>,
    url: String,
}

impl Receiver {
    /// Starts a receiver that appends what it accepts to a file in this folder.
    pub async fn start(dir: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let state = Arc::new(ReceiverState {
            mode: AtomicU8::new(ReceiverMode::Accepts as u8),
            requests: AtomicUsize::new(0),
            file: dir.join("received"),
            accepted: Mutex::default(),
            failures: Mutex::default(),
            url: url.clone(),
        });
        let router = Router::new()
            .route("/events", post(receive))
            .route("/moved", post(moved))
            .with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, state }
    }

    /// The section of the configuration that names this receiver.
    pub fn config(&self) -> String {
        format!(
            "[shop.events]\nurl = \"{}\"\nsecret = \"{SECRET}\"\ntimeout_ms = 1000\n",
            self.url
        )
    }

    pub fn answer(&self, mode: ReceiverMode) {
        self.state.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// The file with one accepted event a line.
    pub fn file(&self) -> &Path {
        &self.state.file
    }

    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Accepted events, repetitions included.
    pub fn accepted(&self) -> Vec<Value> {
        self.state.accepted.lock().clone()
    }

    /// Waits until it has accepted an event of this type about this order.
    pub async fn wait_for(&self, kind: &str, order: &str) {
        self.wait_until_any(kind, |event| event["subject"] == order).await;
    }

    /// Waits until it has accepted an event of this type about a sale.
    pub async fn wait_for_sale_event(&self, kind: &str) {
        self.wait_until_any(kind, |event| event.get("subject").is_none())
            .await;
    }

    async fn wait_until_any(&self, kind: &str, is_meant: impl Fn(&Value) -> bool) {
        let has = || {
            self.accepted()
                .iter()
                .any(|event| event["type"] == kind && is_meant(event))
        };
        for _ in 0..1_200 {
            if has() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no {kind}: {:#?}", self.accepted());
    }
}

fn is_signed(headers: &HeaderMap, body: &[u8]) -> bool {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    };
    let key = STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let signed = [
        text("webhook-id").as_bytes(),
        b".",
        text("webhook-timestamp").as_bytes(),
        b".",
        body,
    ]
    .concat();
    let tag = text("webhook-signature").strip_prefix("v1,").unwrap_or("");
    STANDARD
        .decode(tag)
        .is_ok_and(|tag| hmac::verify(&key, &signed, &tag).is_ok())
}

async fn moved() -> StatusCode {
    panic!("a redirect was followed")
}

async fn receive(State(receiver): State<Arc<ReceiverState>>, headers: HeaderMap, body: Bytes) -> Response {
    assert!(is_signed(&headers, &body), "{headers:?}");
    assert_eq!(headers[header::CONTENT_TYPE], "application/cloudevents+json");
    let request = receiver.requests.fetch_add(1, Ordering::SeqCst);
    let mode = ReceiverMode::ALL[usize::from(receiver.mode.load(Ordering::SeqCst))];
    let accept = || {
        let event: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(headers["webhook-id"], event["id"].as_str().unwrap());
        // One lock for both, so that the file has the order of acceptance.
        let mut accepted = receiver.accepted.lock();
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&receiver.file)
            .unwrap();
        writeln!(file, "{event}").unwrap();
        accepted.push(event);
    };
    let may_fail = || {
        let mut failures = receiver.failures.lock();
        let of_event = failures
            .entry(headers["webhook-id"].as_bytes().to_vec())
            .or_default();
        *of_event += 1;
        *of_event <= 2
    };
    match mode {
        ReceiverMode::FailsEverySecondTime if request.is_multiple_of(2) && may_fail() => {
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        ReceiverMode::Accepts | ReceiverMode::FailsEverySecondTime => {
            accept();
            StatusCode::NO_CONTENT.into_response()
        }
        ReceiverMode::Down => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        ReceiverMode::Gone => StatusCode::GONE.into_response(),
        ReceiverMode::Redirects => {
            let elsewhere = receiver.url.replace("/events", "/moved");
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, elsewhere)]).into_response()
        }
        ReceiverMode::NeverAnswers => std::future::pending().await,
        ReceiverMode::TalksTooMuch => {
            accept();
            vec![b'x'; 10 << 20].into_response()
        }
    }
}
