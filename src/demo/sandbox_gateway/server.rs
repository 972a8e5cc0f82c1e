//! The gateway's HTTP endpoints.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::StatusCode,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;
use tokio::{net::TcpListener, sync::Notify};

use super::{
    cards::{self, Operation, PaymentRequest},
    config::SandboxConfig,
    gateway::Gateway,
    store::{Decision, Payment, PaymentState, PaymentStore, StoreError},
    webhooks,
};
use crate::{
    kernel::Money,
    platform::{shutdown::Lifecycle, sql},
};

/// Why the gateway does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The payment database cannot be opened.
    #[error(transparent)]
    Database(#[from] sql::OpenError),
    /// The listener failed.
    #[error("the sandbox gateway cannot serve: {0}")]
    Serve(#[from] std::io::Error),
}

const KEY_MAX: usize = 128;
const BODY_BYTES_MAX: usize = 16 * 1024;
const STATEMENT_PAGE: u32 = 5_000;
/// An answer that "never arrives" is held back for at most this long.
const HANG_MAX: Duration = Duration::from_mins(2);

type HandlerResult = Result<Response, StoreError>;

/// Serves until the process ends.
///
/// # Errors
/// [`ServeError`]: the database cannot be opened, or the listener fails.
pub async fn serve(listener: TcpListener, config: SandboxConfig, life: Lifecycle) -> Result<(), ServeError> {
    // Its own lifecycle: requests in flight still write after the server's is stopped. The writer task ends
    // when its last handle is dropped.
    let store = PaymentStore::open(&config.database_file, &Lifecycle::of(life.process())).await?;
    let gateway = Arc::new(Gateway {
        config,
        store,
        webhooks_due: Notify::new(),
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
        .route("/v1/statement", get(statement))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
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

impl IntoResponse for StoreError {
    fn into_response(self) -> Response {
        tracing::error!(error = %self, "the sandbox gateway answers 500: its database failed");
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

async fn pay(State(gateway): State<Arc<Gateway>>, Json(request): Json<PaymentRequest>) -> HandlerResult {
    let url_is_web = request.return_url.starts_with("http://") || request.return_url.starts_with("https://");
    if !is_key(&request.key) || request.amount.amount < 0 || !url_is_web {
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, "not_understood"));
    }
    let known = gateway
        .store
        .payment(&request.key)
        .await?
        .is_some_and(|it| it.state != PaymentState::Failing);
    if request.token == "tok_slow" && !known {
        tokio::time::sleep(gateway.config.slow).await;
    }
    let hangs = request.token == "tok_timeout_after_success" && !known;
    let amount = request.amount;
    let payment = decide(&gateway, &request.key.clone(), move |gateway, before| {
        cards::pay(&gateway.config, request, before)
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
        PaymentState::Failing => return Ok(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
        PaymentState::Declined => StatusCode::PAYMENT_REQUIRED,
        PaymentState::AwaitingBuyer => StatusCode::ACCEPTED,
        _ => StatusCode::CREATED,
    };
    Ok((status, Json(payment)).into_response())
}

async fn look_up(State(gateway): State<Arc<Gateway>>, Path(key): Path<String>) -> HandlerResult {
    let payment = gateway
        .store
        .payment(&key)
        .await?
        .filter(|it| it.state != PaymentState::Failing);
    Ok(payment.map_or_else(
        || StatusCode::NOT_FOUND.into_response(),
        |it| Json(it).into_response(),
    ))
}

async fn capture(
    State(gateway): State<Arc<Gateway>>,
    Path(key): Path<String>,
    Json(body): Json<Amount>,
) -> HandlerResult {
    settle(&gateway, key, Operation::Capture, body.amount).await
}

async fn void(State(gateway): State<Arc<Gateway>>, Path(key): Path<String>) -> HandlerResult {
    settle(&gateway, key, Operation::Void, None).await
}

async fn refund(
    State(gateway): State<Arc<Gateway>>,
    Path(key): Path<String>,
    Json(body): Json<Amount>,
) -> HandlerResult {
    settle(&gateway, key, Operation::Refund, body.amount).await
}

async fn settle(
    gateway: &Arc<Gateway>,
    key: String,
    operation: Operation,
    amount: Option<Money>,
) -> HandlerResult {
    if !is_key(&key) {
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, "not_understood"));
    }
    let name = key.clone();
    let before = gateway.store.payment(&key).await?;
    if operation != Operation::Void && before.is_none() {
        return Ok(refused(StatusCode::NOT_FOUND, "no_such_payment"));
    }
    let payment = decide(gateway, &key, move |gateway, before| {
        cards::settle(&gateway.config, name, operation, amount, before)
    })
    .await?;
    if cards::is_settled(&payment, operation) {
        return Ok(Json(payment).into_response());
    }
    let reason = if operation == Operation::Capture && payment.state == PaymentState::Authorized {
        "capture_refused"
    } else {
        "not_in_this_state"
    };
    Ok(refused(StatusCode::CONFLICT, reason))
}

/// Applies a rule to the stored payment in one transaction, together with the webhook that announces the new
/// state.
async fn decide(
    gateway: &Arc<Gateway>,
    key: &str,
    rule: impl FnOnce(&Gateway, Option<Payment>) -> Payment + Send + 'static,
) -> Result<Payment, StoreError> {
    let deciding = Arc::clone(gateway);
    let payment = gateway
        .store
        .decide(key, move |before| {
            let after = rule(&deciding, before.clone());
            let changed = before.as_ref() != Some(&after);
            let is_news = changed
                && after.state != PaymentState::Failing
                && before.map(|it| it.state) != Some(after.state);
            let messages = if is_news && deciding.config.webhook.is_some() {
                vec![webhooks::message(&deciding.config, &after)]
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
    gateway.webhooks_due.notify_one();
    Ok(payment)
}

async fn page(State(gateway): State<Arc<Gateway>>, Path(key): Path<String>) -> HandlerResult {
    let Some(payment) = gateway.store.payment(&key).await? else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    let (Some(amount), PaymentState::AwaitingBuyer) = (payment.amount, payment.state) else {
        return Ok(Redirect::to(&payment.return_url).into_response());
    };
    let page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport \
         content='width=device-width'><title>Sandbox bank</title>\
         <main style='font:1.1rem system-ui;max-width:26rem;margin:4rem auto'><h1>Sandbox bank</h1><p>{} \
         asks for <strong>{} {}</strong>.</p>\
         <form method=post action='page/approve'><button>Approve</button></form>\
         <form method=post action='page/decline'><button>Decline</button></form></main>",
        escaped(&payment.description),
        amount.amount,
        amount.currency
    );
    Ok(Html(page).into_response())
}

async fn approve(gateway: State<Arc<Gateway>>, key: Path<String>) -> HandlerResult {
    decide_on_page(gateway, key, true).await
}

async fn decline(gateway: State<Arc<Gateway>>, key: Path<String>) -> HandlerResult {
    decide_on_page(gateway, key, false).await
}

async fn decide_on_page(
    State(gateway): State<Arc<Gateway>>,
    Path(key): Path<String>,
    approved: bool,
) -> HandlerResult {
    if gateway
        .store
        .payment(&key)
        .await?
        .is_none_or(|it| it.return_url.is_empty())
    {
        return Ok(StatusCode::NOT_FOUND.into_response());
    }
    let name = key.clone();
    let payment = decide(&gateway, &key, move |gateway, before| {
        cards::decide_on_page(&gateway.config, name, approved, before)
    })
    .await?;
    Ok(Redirect::to(&payment.return_url).into_response())
}

async fn statement(
    State(gateway): State<Arc<Gateway>>,
    Query(After { after }): Query<After>,
) -> HandlerResult {
    let payments = gateway.store.payments(&after, STATEMENT_PAGE).await?;
    Ok(Json(serde_json::json!({ "payments": payments })).into_response())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&#39;")
        .replace('"', "&quot;")
}
