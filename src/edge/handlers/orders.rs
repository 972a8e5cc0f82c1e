//! Orders: paying for a hold, and what became of it.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequestParts, Path, Query, State},
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::edge::handlers::{HandlerResult, task_failed, private_json};
use crate::{
    checkout::{
        self, CancelOutcome, HistoryEntry, OrderState, OrderView, PlaceOrder, PlaceOutcome, Ticket,
        WebhookOutcome,
    },
    edge::{auth::extractors::{IdempotencyKey, Json, Owners, AdmittedOrExpired, read_body}, errors::problem::{Kind, Problem}, state::{BoxOfficeState}},
    kernel::{HoldId, OrderId, Subject},
};

/// What is paid for, and with what.
#[derive(Deserialize, ToSchema)]
pub struct OrderRequest {
    #[schema(value_type = String)]
    hold: HoldId,
    payment: PaymentRequest,
}

#[derive(Deserialize, ToSchema)]
pub struct PaymentRequest {
    /// `card`
    method: String,
    /// The gateway's name for the card; the card itself never comes here.
    token: String,
}

#[derive(Serialize)]
struct OrderList {
    orders: Vec<OrderView>,
}

#[derive(Serialize)]
struct History {
    history: Vec<HistoryEntry>,
}

#[derive(Serialize)]
struct TicketList {
    tickets: Vec<TicketView>,
}

#[derive(Serialize)]
struct TicketView {
    #[serde(flatten)]
    ticket: Ticket,
    qr_svg_url: String,
    qr_png_url: String,
}

const PAYMENT_TOKEN_CHARS_MAX: usize = 200;

pub async fn create(
    State(office): State<BoxOfficeState>,
    was: AdmittedOrExpired,
    IdempotencyKey(key): IdempotencyKey,
    Json(new): Json<OrderRequest>,
) -> HandlerResult {
    let idempotency_key = key.ok_or_else(|| {
        Problem::new(Kind::InvalidField)
            .with("field", &"Idempotency-Key")
            .detail("this header is needed: it makes a retry safe")
    })?;
    if new.payment.method != "card" {
        return Err(Problem::new(Kind::InvalidField)
            .with("field", &"payment.method")
            .detail("`card` is what this sale takes"));
    }
    if new.payment.token.is_empty() || new.payment.token.len() > PAYMENT_TOKEN_CHARS_MAX {
        return Err(Problem::new(Kind::InvalidField)
            .with("field", &"payment.token")
            .detail(format!("1 to {PAYMENT_TOKEN_CHARS_MAX} characters")));
    }
    let AdmittedOrExpired { sale, pass, who } = was;
    // Whoever was let in before and still holds seats may pay for them; without seats only a live pass opens this call.
    let visit = match &pass {
        Some(pass) => pass.visit,
        None => match office
            .seating
            .find_hold(new.hold, &who)
            .await
            .map_err(|e| office.app.seating_problem("a hold", &e))?
        {
            Some((_, hold)) => hold.visit,
            None => return Err(Problem::new(Kind::PassRequired).detail("the pass has expired")),
        },
    };
    let order = PlaceOrder {
        sale: sale.id.clone(),
        buyer: who,
        visit,
        hold: new.hold,
        method: new.payment.method,
        token: new.payment.token,
        idempotency_key,
    };
    let (checkout, ended, limit) = (
        Arc::clone(&office.checkout),
        office.ended_visits.clone(),
        usize::from(sale.seats_per_customer_max),
    );
    let bought = async move {
        let buyer = (order.sale.clone(), order.buyer.clone());
        let outcome = checkout.place_order(order).await;
        // Whoever may buy nothing more is done: her slot goes to the next, once the door hears of it.
        if let (Ok(PlaceOutcome::Paid(_)), Some(pass)) = (&outcome, &pass) {
            let orders = checkout.orders_of(&buyer.0, &buyer.1).await.unwrap_or_default();
            let owned: usize = orders
                .iter()
                .filter(|it| it.state == OrderState::Paid)
                .map(|it| it.seats.len())
                .sum();
            if owned >= limit {
                ended.add(&buyer.0, pass.visit);
            }
        }
        outcome
    };
    let outcome = office.app.lifecycle.spawn_uncancellable(bought).await.map_err(task_failed)?;
    order_response(outcome.map_err(|e| office.app.checkout_problem("order", &e))?)
}

#[derive(Deserialize)]
pub struct OrdersQuery {
    sale: Option<String>,
}

pub async fn list(
    State(office): State<BoxOfficeState>,
    Owners(names): Owners,
    Query(asked): Query<OrdersQuery>,
) -> HandlerResult {
    let mut orders = Vec::new();
    for sale in office
        .app
        .sales
        .keys()
        .filter(|id| asked.sale.as_deref().is_none_or(|wanted| wanted == id.as_str()))
    {
        for who in &names {
            orders.extend(
                office
                    .checkout
                    .orders_of(sale, who)
                    .await
                    .map_err(|e| office.app.checkout_problem("orders", &e))?,
            );
        }
    }
    Ok(private_json(StatusCode::OK, &OrderList { orders }))
}

pub async fn show(own: OwnedOrder) -> Response {
    private_json(StatusCode::OK, &own.order)
}

pub async fn history(State(office): State<BoxOfficeState>, own: OwnedOrder) -> HandlerResult {
    let history = office
        .checkout
        .history(own.order.id, &own.who)
        .await
        .map_err(|e| office.app.checkout_problem("history", &e))?;
    Ok(private_json(
        StatusCode::OK,
        &History {
            history: history.unwrap_or_default(),
        },
    ))
}

pub async fn tickets(State(office): State<BoxOfficeState>, own: OwnedOrder) -> HandlerResult {
    let view = |ticket: Ticket| {
        let base = format!("/v1/orders/{}/tickets/{}", own.order.id, ticket.id);
        TicketView {
            qr_svg_url: format!("{base}.svg"),
            qr_png_url: format!("{base}.png"),
            ticket,
        }
    };
    let tickets = own_tickets(&office, &own).await?.into_iter().map(view).collect();
    Ok(private_json(StatusCode::OK, &TicketList { tickets }))
}

/// One ticket's QR code, `{ticket}.svg` or `{ticket}.png`.
pub async fn ticket_code(
    State(office): State<BoxOfficeState>,
    own: OwnedOrder,
    Path((_, file)): Path<(String, String)>,
) -> HandlerResult {
    let nothing = || Problem::new(Kind::NotFound);
    let (id, form) = file.rsplit_once('.').ok_or_else(nothing)?;
    let tickets = own_tickets(&office, &own).await?;
    let ticket = tickets
        .iter()
        .find(|ticket| ticket.id == id)
        .ok_or_else(nothing)?;
    let (content_type, bytes) = match form {
        "svg" => ("image/svg+xml", checkout::qr_svg(&ticket.code).into_bytes()),
        "png" => ("image/png", checkout::qr_png(&ticket.code)),
        _ => return Err(nothing()),
    };
    let mut response = Response::new(Body::from(bytes));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, max-age=3600"),
    );
    Ok(response)
}

/// The buyer is back from her bank: asks the gateway now instead of at the next round.
pub async fn confirm(State(office): State<BoxOfficeState>, own: OwnedOrder) -> HandlerResult {
    let (checkout, id, who) = (Arc::clone(&office.checkout), own.order.id, own.who);
    let outcome = office
        .app
        .lifecycle
        .spawn_uncancellable(async move { checkout.confirm(id, &who).await })
        .await
        .map_err(task_failed)?;
    order_response(
        outcome
            .map_err(|e| office.app.checkout_problem("confirm", &e))?
            .ok_or_else(no_such_order)?,
    )
}

pub async fn cancel(State(office): State<BoxOfficeState>, own: OwnedOrder) -> HandlerResult {
    let (checkout, id, who) = (Arc::clone(&office.checkout), own.order.id, own.who);
    let outcome = office
        .app
        .lifecycle
        .spawn_uncancellable(async move { checkout.cancel(id, &who).await })
        .await
        .map_err(task_failed)?;
    match outcome.map_err(|e| office.app.checkout_problem("cancel", &e))? {
        CancelOutcome::Canceled(order) => Ok(private_json(StatusCode::OK, &order)),
        CancelOutcome::InProgress(order) => Ok(private_json(StatusCode::ACCEPTED, &order)),
        CancelOutcome::NotPaid(order) => Err(Problem::new(Kind::NotCancellable).with("order", &order)),
        CancelOutcome::NotFound => Err(no_such_order()),
    }
}

/// Where the gateway sends the browser back to. The browser's word proves nothing, so the page asks what the gateway's
/// own book says.
pub async fn payment_return(Path(order): Path<OrderId>) -> Redirect {
    Redirect::to(&format!("/orders/{order}"))
}

pub async fn webhook(
    State(office): State<BoxOfficeState>,
    Path(gateway): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> HandlerResult {
    let body = read_body(body, &office.app).await?;
    let headers: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect();
    let checkout = Arc::clone(&office.checkout);
    let outcome = office
        .app
        .lifecycle
        .spawn_uncancellable(async move { checkout.webhook(&gateway, &headers, &body).await })
        .await
        .map_err(task_failed)?;
    match outcome.map_err(|e| office.app.checkout_problem("webhook", &e))? {
        WebhookOutcome::Accepted | WebhookOutcome::Ignored => Ok(StatusCode::NO_CONTENT.into_response()),
        WebhookOutcome::Refused => Err(Problem::new(Kind::NotSigned)),
    }
}

/// An order that the path names and the caller owns; somebody else's does not exist for her.
pub struct OwnedOrder {
    order: OrderView,
    who: Subject,
}

impl FromRequestParts<BoxOfficeState> for OwnedOrder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, office: &BoxOfficeState) -> Result<Self, Problem> {
        let Owners(names) = Owners::from_request_parts(parts, office).await?;
        let params = axum::extract::RawPathParams::from_request_parts(parts, office)
            .await
            .map_err(|_| no_such_order())?;
        let id = params
            .iter()
            .find(|(key, _)| *key == "order")
            .and_then(|(_, value)| value.parse::<OrderId>().ok())
            .ok_or_else(no_such_order)?;
        for who in names {
            if let Some(order) = office
                .checkout
                .order(id, &who)
                .await
                .map_err(|e| office.app.checkout_problem("order", &e))?
            {
                return Ok(Self { order, who });
            }
        }
        Err(no_such_order())
    }
}

/// What became of the order, in the contract's words.
fn order_response(outcome: PlaceOutcome) -> HandlerResult {
    match outcome {
        PlaceOutcome::Paid(order) | PlaceOutcome::AwaitingPayment(order) => {
            Ok(order_with_location(StatusCode::CREATED, &order))
        }
        PlaceOutcome::InProgress(order) => Ok(order_with_location(StatusCode::ACCEPTED, &order)),
        PlaceOutcome::Declined { order, reason } => Err(Problem::new(Kind::PaymentDeclined)
            .with("order", &order)
            .with("reason", &reason)),
        PlaceOutcome::HoldGone { alternatives } => {
            Err(Problem::new(Kind::HoldGone).with("alternatives", &alternatives))
        }
        PlaceOutcome::KeyReused => Err(Problem::new(Kind::IdempotencyKeyReused)),
        PlaceOutcome::QuotaReached { limit } => Err(Problem::new(Kind::LimitReached).with("limit", &limit)),
    }
}

async fn own_tickets(office: &BoxOfficeState, own: &OwnedOrder) -> Result<Vec<Ticket>, Problem> {
    let tickets = office
        .checkout
        .tickets(own.order.id, &own.who)
        .await
        .map_err(|e| office.app.checkout_problem("tickets", &e))?;
    Ok(tickets.unwrap_or_default())
}

fn order_with_location(status: StatusCode, order: &OrderView) -> Response {
    let mut response = private_json(status, order);
    let place = HeaderValue::from_str(&format!("/v1/orders/{}", order.id)).expect("a UUID is visible ASCII");
    response.headers_mut().insert(header::LOCATION, create);
    response
}

fn no_such_order() -> Problem {
    Problem::new(Kind::NotFound).detail("there is no such order")
}
