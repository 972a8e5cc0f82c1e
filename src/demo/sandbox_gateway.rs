//! A payment gateway that misbehaves on demand: a real HTTP service with a durable book, told by the card what to do.
//!
//! | card | what happens |
//! |---|---|
//! | `tok_ok` | authorized |
//! | `tok_declined` | declined (402) |
//! | `tok_slow` | authorized after a while |
//! | `tok_timeout_after_success` | authorized, but the answer never comes |
//! | `tok_error` | 500 and nothing booked, three times; then declined |
//! | `tok_redirect` | the buyer must visit a page of the gateway and approve or decline there |
//! | `tok_capture_fails` | authorized; capture is refused for good |
//! | `tok_webhook_storm` | authorized; every webhook comes three times, out of order |
//! | any other | declined |
//!
//! `POST /v1/payments`, `GET /v1/payments/{key}`, `POST /v1/payments/{key}/capture|void|refund`: all idempotent by key.
//! A void makes the key worthless for ever, even before its payment came. `GET /v1/book?after={key}`: all payments, for
//! auditors.

mod book;
mod cards;
#[cfg(test)]
mod tests;
mod webhooks;

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Query, State as Shared},
    http::StatusCode,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;
use tokio::{net::TcpListener, sync::Notify};

use self::{
    book::{Book, BookError, Decision},
    cards::{Verb, Wish},
};
pub use self::{
    book::{Payment, State},
    webhooks::WebhookTarget,
};
use crate::{
    kernel::{Clock, Entropy, Money},
    platform::{shutdown::Lifecycle, sql},
};

/// How the gateway is set up.
#[derive(Clone)]
pub struct SandboxConfig {
    /// Its own book; survives the process.
    pub book_file: PathBuf,
    /// How browsers reach it, for redirects: `http://127.0.0.1:8090`.
    pub public_url: String,
    /// Where webhooks go, if anywhere.
    pub webhook: Option<WebhookTarget>,
    /// How long `tok_slow` takes.
    pub slow: Duration,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Book(#[from] sql::OpenError),
    #[error("the sandbox gateway cannot serve: {0}")]
    Serve(#[from] std::io::Error),
}

const KEY_MAX: usize = 128;
const BODY_MAX: usize = 16 * 1024;
const BOOK_PAGE: u32 = 5_000;
/// How long an answer that "never" comes is held back at most.
const HANG_MAX: Duration = Duration::from_mins(2);

struct Gateway {
    config: SandboxConfig,
    book: Book,
    /// There are webhooks to send.
    ring: Notify,
    life: Lifecycle,
}

type Answer = Result<Response, BookError>;

/// Serves until the process ends.
///
/// # Errors
/// [`ServeError`]: the book cannot be opened, or the listener fails.
pub async fn serve(listener: TcpListener, config: SandboxConfig, life: Lifecycle) -> Result<(), ServeError> {
    // The book stays open until the last payment in hand is written into it, which is after the house is told to stop;
    // its writer ends with its last user.
    let book = Book::open(&config.book_file, &Lifecycle::new()).await?;
    let gateway = Arc::new(Gateway {
        config,
        book,
        ring: Notify::new(),
        life: life.clone(),
    });
    if gateway.config.webhook.is_some() {
        let sender = Arc::clone(&gateway);
        life.supervise("sandbox webhooks", Duration::from_secs(1), move || {
            webhooks::send(Arc::clone(&sender))
        });
    }
    let stopping = life.clone();
    axum::serve(listener, routes(gateway))
        .with_graceful_shutdown(async move { stopping.stopping().await })
        .await?;
    Ok(())
}

fn routes(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/v1/payments", post(pay))
        .route("/v1/payments/{key}", get(look_up))
        .route("/v1/payments/{key}/capture", post(capture))
        .route("/v1/payments/{key}/void", post(void))
        .route("/v1/payments/{key}/refund", post(refund))
        .route("/v1/payments/{key}/page", get(page))
        .route("/v1/payments/{key}/page/approve", post(approve))
        .route("/v1/payments/{key}/page/decline", post(decline))
        .route("/v1/book", get(whole_book))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(gateway)
}

#[derive(Deserialize)]
struct Amount {
    amount: Option<Money>,
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: String,
}

impl IntoResponse for BookError {
    fn into_response(self) -> Response {
        tracing::error!(error = %self, "the sandbox gateway answers an error");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

fn refused(status: StatusCode, reason: &str) -> Response {
    (
        status,
        Json(serde_json::json!({ "state": "refused", "reason": reason })),
    )
        .into_response()
}

fn is_key(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= KEY_MAX
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b":_-.".contains(&b))
}

async fn pay(Shared(gateway): Shared<Arc<Gateway>>, Json(wish): Json<Wish>) -> Answer {
    let url_is_web = wish.return_url.starts_with("http://") || wish.return_url.starts_with("https://");
    if !is_key(&wish.key) || wish.amount.amount < 0 || !url_is_web {
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, "not_understood"));
    }
    let known = gateway
        .book
        .payment(&wish.key)
        .await?
        .is_some_and(|it| it.state != State::Failing);
    if wish.token == "tok_slow" && !known {
        tokio::time::sleep(gateway.config.slow).await;
    }
    let hangs = wish.token == "tok_timeout_after_success" && !known;
    let amount = wish.amount;
    let payment = decide(&gateway, &wish.key.clone(), move |gateway, before| {
        cards::pay(gateway, wish, before)
    })
    .await?;
    if hangs {
        let _ = tokio::time::timeout(HANG_MAX, gateway.life.stopping()).await;
        return Ok(StatusCode::GATEWAY_TIMEOUT.into_response());
    }
    if payment.amount.is_some_and(|it| it != amount) {
        return Ok(refused(
            StatusCode::UNPROCESSABLE_ENTITY,
            "another_amount_under_this_key",
        ));
    }
    let status = match payment.state {
        State::Failing => return Ok(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
        State::Declined => StatusCode::PAYMENT_REQUIRED,
        State::AwaitingBuyer => StatusCode::ACCEPTED,
        _ => StatusCode::CREATED,
    };
    Ok((status, Json(payment)).into_response())
}

async fn look_up(Shared(gateway): Shared<Arc<Gateway>>, Path(key): Path<String>) -> Answer {
    let payment = gateway
        .book
        .payment(&key)
        .await?
        .filter(|it| it.state != State::Failing);
    Ok(payment.map_or_else(
        || StatusCode::NOT_FOUND.into_response(),
        |it| Json(it).into_response(),
    ))
}

async fn capture(
    Shared(gateway): Shared<Arc<Gateway>>,
    Path(key): Path<String>,
    Json(body): Json<Amount>,
) -> Answer {
    settle(&gateway, key, Verb::Capture, body.amount).await
}

async fn void(Shared(gateway): Shared<Arc<Gateway>>, Path(key): Path<String>) -> Answer {
    settle(&gateway, key, Verb::Void, None).await
}

async fn refund(
    Shared(gateway): Shared<Arc<Gateway>>,
    Path(key): Path<String>,
    Json(body): Json<Amount>,
) -> Answer {
    settle(&gateway, key, Verb::Refund, body.amount).await
}

async fn settle(gateway: &Arc<Gateway>, key: String, verb: Verb, amount: Option<Money>) -> Answer {
    if !is_key(&key) {
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, "not_understood"));
    }
    let name = key.clone();
    let before = gateway.book.payment(&key).await?;
    if verb != Verb::Void && before.is_none() {
        return Ok(refused(StatusCode::NOT_FOUND, "no_such_payment"));
    }
    let payment = decide(gateway, &key, move |gateway, before| {
        cards::settle(gateway, name, verb, amount, before)
    })
    .await?;
    if cards::is_settled(&payment, verb) {
        return Ok(Json(payment).into_response());
    }
    let reason = if verb == Verb::Capture && payment.state == State::Authorized {
        "capture_refused"
    } else {
        "not_in_this_state"
    };
    Ok(refused(StatusCode::CONFLICT, reason))
}

/// One decision in the book, with the webhook that tells of it.
async fn decide(
    gateway: &Arc<Gateway>,
    key: &str,
    rule: impl FnOnce(&Gateway, Option<Payment>) -> Payment + Send + 'static,
) -> Result<Payment, BookError> {
    let deciding = Arc::clone(gateway);
    let payment = gateway
        .book
        .decide(key, move |before| {
            let after = rule(&deciding, before.clone());
            let changed = before.as_ref() != Some(&after);
            let news =
                changed && after.state != State::Failing && before.map(|it| it.state) != Some(after.state);
            let messages = if news && deciding.config.webhook.is_some() {
                vec![webhooks::message(&deciding, &after)]
            } else {
                Vec::new()
            };
            Decision {
                payment: changed.then(|| after.clone()),
                messages,
                answer: after,
            }
        })
        .await?;
    gateway.ring.notify_one();
    Ok(payment)
}

async fn page(Shared(gateway): Shared<Arc<Gateway>>, Path(key): Path<String>) -> Answer {
    let Some(payment) = gateway.book.payment(&key).await? else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    let (Some(amount), State::AwaitingBuyer) = (payment.amount, payment.state) else {
        return Ok(Redirect::to(&payment.return_url).into_response());
    };
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>Sandbox bank</title>\
         <main style='font:1.1rem system-ui;max-width:26rem;margin:4rem auto'><h1>Sandbox bank</h1><p>{} asks for <strong>{} {}</strong>.</p>\
         <form method=post action='page/approve'><button>Approve</button></form>\
         <form method=post action='page/decline'><button>Decline</button></form></main>",
        escaped(&payment.description),
        amount.amount,
        amount.currency
    );
    Ok(Html(page).into_response())
}

async fn approve(gateway: Shared<Arc<Gateway>>, key: Path<String>) -> Answer {
    answer_page(gateway, key, true).await
}

async fn decline(gateway: Shared<Arc<Gateway>>, key: Path<String>) -> Answer {
    answer_page(gateway, key, false).await
}

async fn answer_page(
    Shared(gateway): Shared<Arc<Gateway>>,
    Path(key): Path<String>,
    approved: bool,
) -> Answer {
    if gateway
        .book
        .payment(&key)
        .await?
        .is_none_or(|it| it.return_url.is_empty())
    {
        return Ok(StatusCode::NOT_FOUND.into_response());
    }
    let name = key.clone();
    let payment = decide(&gateway, &key, move |gateway, before| {
        cards::answer_page(gateway, name, approved, before)
    })
    .await?;
    Ok(Redirect::to(&payment.return_url).into_response())
}

async fn whole_book(Shared(gateway): Shared<Arc<Gateway>>, Query(After { after }): Query<After>) -> Answer {
    let payments = gateway.book.payments(&after, BOOK_PAGE).await?;
    Ok(Json(serde_json::json!({ "payments": payments })).into_response())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&#39;")
        .replace('"', "&quot;")
}
