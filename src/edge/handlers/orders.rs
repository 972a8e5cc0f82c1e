//! Operations of orders: pay for a hold, follow the order, get its tickets.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequestParts, RawPathParams, State},
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use serde::Serialize;
use utoipa::ToSchema;

use crate::edge::handlers::{
    HandlerResult,
    order_request::OrderRequest,
    params::{PathParams, Query, SaleFilter},
    private_json,
    purchase_admission::{admission_for, sale_of_hold, visit_of},
    task_failed,
};
use crate::{
    checkout::{
        self, CancelOutcome, Checkout, CheckoutError, HistoryEntry, OrderState, OrderView, PlaceOrder,
        PlaceOutcome, Ticket, WebhookOutcome,
    },
    edge::{
        auth::extractors::{Admissions, AdmittedOrExpired, Owners, pass_of_other_sale},
        errors::problem::{Problem, ProblemType},
        handlers::request::{IdempotencyKey, Json, NoFields, read_body},
        state::BoxOfficeState,
    },
    kernel::{OrderId, SaleId, Subject},
    platform::blocking_work::BlockingWork,
};

/// `Cache-Control` of a ticket's QR code: it never changes.
pub(crate) const TICKET_CODE_CACHE: &str = "private, max-age=3600";

/// Orders of the caller.
#[derive(Serialize, ToSchema)]
pub struct OrderList {
    /// The orders, by sale, the latest first.
    pub(crate) orders: Vec<OrderView>,
}

/// What happened to an order.
#[derive(Serialize, ToSchema)]
pub struct OrderHistory {
    /// The steps of its saga, oldest first.
    pub(crate) history: Vec<HistoryEntry>,
}

/// Tickets of an order.
#[derive(Serialize, ToSchema)]
pub struct TicketList {
    /// One ticket for each seat; empty until the order is paid.
    pub(crate) tickets: Vec<TicketView>,
}

/// Draws QR codes. Each costs ten times as much as any other answer about an order.
static QR_CODES: BlockingWork = BlockingWork::new(2);

/// A ticket, and where its QR code is.
#[derive(Serialize, ToSchema)]
pub struct TicketView {
    /// The ticket.
    #[serde(flatten)]
    pub(crate) ticket: Ticket,
    /// The QR code as SVG.
    pub(crate) qr_svg_url: String,
    /// The QR code as PNG.
    pub(crate) qr_png_url: String,
}

/// `POST /v1/orders`: buys the seats of a hold.
pub async fn create(
    State(state): State<BoxOfficeState>,
    admissions: Admissions,
    owners: Result<Owners, Problem>,
    IdempotencyKey(key): IdempotencyKey,
    Json(request): Json<OrderRequest>,
) -> HandlerResult {
    let idempotency_key = key.ok_or_else(|| {
        Problem::invalid_field(
            "Idempotency-Key",
            "this header is required: it makes a retry safe".to_owned(),
        )
    })?;
    let (hold, token) = request.checked()?;
    let visitor = admission_for(&state, admissions, owners, hold, &idempotency_key).await?;
    let visit = visit_of(&state, &visitor, hold).await?;
    let AdmittedOrExpired {
        sale,
        pass,
        subject: who,
    } = visitor;
    if !state.app.shop.may_buy(&who).await && is_first(&state, &who, &idempotency_key).await? {
        return Err(Problem::new(ProblemType::AccountInactive));
    }
    let (buyer, own_sale) = (who.clone(), sale.id.clone());
    let order = PlaceOrder {
        sale: sale.id.clone(),
        buyer: who.clone(),
        visit,
        hold,
        token,
        idempotency_key,
    };
    let checkout = Arc::clone(&state.checkout);
    let ended_visits = state.ended_visits.clone();
    let purchase = async move {
        let outcome = checkout.place_order(order).await;
        if let (Ok(PlaceOutcome::Paid(_)), Some(pass)) = (&outcome, &pass)
            && has_all_seats(&checkout, &sale.id, &who, sale.seats_per_customer_max).await
        {
            ended_visits.add(&sale.id, pass.visit);
        }
        outcome
    };
    let outcome = state
        .app
        .lifecycle
        .spawn_uncancellable(purchase)
        .await
        .map_err(task_failed)?;
    let outcome = outcome.map_err(|e| state.app.checkout_problem("order", &e))?;
    if matches!(outcome, PlaceOutcome::HoldGone { .. })
        && let Some(sale) = sale_of_hold(&state, hold, &buyer).await?
        && sale != own_sale
    {
        return Err(pass_of_other_sale(&sale));
    }
    order_response(outcome)
}

/// Whether a purchase is not the repetition of one that was accepted.
async fn is_first(state: &BoxOfficeState, who: &Subject, key: &str) -> Result<bool, Problem> {
    let known = state.checkout.sale_of_purchase(who, key).await;
    Ok(known
        .map_err(|e| state.app.checkout_problem("order", &e))?
        .is_none())
}

/// Whether a customer has as many seats as they may. Then the visit is over, and its slot goes to the next in
/// the queue.
async fn has_all_seats(checkout: &Checkout, sale: &SaleId, buyer: &Subject, limit: u8) -> bool {
    let orders = checkout.orders_of(sale, buyer).await.unwrap_or_default();
    let paid = orders.iter().filter(|order| order.state == OrderState::Paid);
    paid.map(|order| order.seats.len()).sum::<usize>() >= usize::from(limit)
}

/// `GET /v1/orders`: the caller's own orders.
pub async fn list(
    State(state): State<BoxOfficeState>,
    Owners(subjects): Owners,
    Query(SaleFilter { sale: wanted }): Query<SaleFilter>,
) -> HandlerResult {
    let mut orders = Vec::new();
    let is_wanted = |sale: &&SaleId| wanted.as_deref().is_none_or(|wanted| wanted == sale.as_str());
    for sale in state.app.sales.keys().filter(is_wanted) {
        for who in &subjects {
            let of_sale = state.checkout.orders_of(sale, who).await;
            orders.extend(of_sale.map_err(|e| state.app.checkout_problem("orders", &e))?);
        }
    }
    Ok(private_json(StatusCode::OK, &OrderList { orders }))
}

/// `GET /v1/orders/{order}`: one order.
pub async fn show(owned: OwnedOrder) -> Response {
    private_json(StatusCode::OK, &owned.order)
}

/// `GET /v1/orders/{order}/history`: what happened to the order.
pub async fn history(State(state): State<BoxOfficeState>, owned: OwnedOrder) -> HandlerResult {
    let history = state.checkout.history(owned.order.id, &owned.who).await;
    let history = history
        .map_err(|e| state.app.checkout_problem("history", &e))?
        .unwrap_or_default();
    Ok(private_json(StatusCode::OK, &OrderHistory { history }))
}

/// `GET /v1/orders/{order}/tickets`: the tickets of the order.
pub async fn tickets(State(state): State<BoxOfficeState>, owned: OwnedOrder) -> HandlerResult {
    let view = |ticket: Ticket| {
        let base = format!("/v1/orders/{}/tickets/{}", owned.order.id, ticket.id);
        let base = state.app.config.public_base.host_path(&base);
        TicketView {
            qr_svg_url: format!("{base}.svg"),
            qr_png_url: format!("{base}.png"),
            ticket,
        }
    };
    let tickets = owned.tickets(&state).await?.into_iter().map(view).collect();
    Ok(private_json(StatusCode::OK, &TicketList { tickets }))
}

/// `GET /v1/orders/{order}/tickets/{ticket}`: one ticket's QR code, `{ticket}.svg` or `{ticket}.png`.
pub async fn ticket_code(
    State(state): State<BoxOfficeState>,
    owned: OwnedOrder,
    PathParams((_, file)): PathParams<(String, String)>,
) -> HandlerResult {
    let not_found = || Problem::new(ProblemType::NotFound).detail("there is no such ticket");
    let (id, format) = file.rsplit_once('.').ok_or_else(not_found)?;
    let (content_type, draw): (_, fn(&str) -> Vec<u8>) = match format {
        "svg" => ("image/svg+xml", |code| checkout::qr_svg(code).into_bytes()),
        "png" => ("image/png", checkout::qr_png),
        _ => return Err(not_found()),
    };
    let tickets = owned.tickets(&state).await?;
    let ticket = tickets
        .into_iter()
        .find(|ticket| ticket.id == id)
        .ok_or_else(not_found)?;
    let drawing = QR_CODES.run(move || draw(&ticket.code));
    let bytes = drawing.await.map_err(task_failed)?;
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(TICKET_CODE_CACHE));
    Ok(response)
}

/// `POST /v1/orders/{order}/confirm`: the buyer is back from the bank. Asks the gateway now instead of at the
/// next poll.
pub async fn confirm(State(state): State<BoxOfficeState>, owned: OwnedOrder, _: NoFields) -> HandlerResult {
    let checkout = Arc::clone(&state.checkout);
    let OwnedOrder { order, who } = owned;
    let outcome = state
        .app
        .lifecycle
        .spawn_uncancellable(async move { checkout.confirm(order.id, &who).await })
        .await
        .map_err(task_failed)?;
    let outcome = outcome.map_err(|e| state.app.checkout_problem("confirm", &e))?;
    order_response(outcome.ok_or_else(no_such_order)?)
}

/// `POST /v1/orders/{order}/cancel`: returns all seats of a paid order and refunds it, or ends the payment of
/// an order whose buyer is at the bank.
pub async fn cancel(State(state): State<BoxOfficeState>, owned: OwnedOrder, _: NoFields) -> HandlerResult {
    let checkout = Arc::clone(&state.checkout);
    let OwnedOrder { order, who } = owned;
    let outcome = state
        .app
        .lifecycle
        .spawn_uncancellable(async move { checkout.cancel(order.id, &who).await })
        .await
        .map_err(task_failed)?;
    cancel_response(outcome.map_err(|e| state.app.checkout_problem("cancel", &e))?)
}

/// The response to the cancellation of an order, by its buyer or by an operator.
pub(crate) fn cancel_response(outcome: CancelOutcome) -> HandlerResult {
    match outcome {
        CancelOutcome::Canceled(order) => Ok(private_json(StatusCode::OK, &order)),
        CancelOutcome::InProgress(order) => Ok(private_json(StatusCode::ACCEPTED, &order)),
        CancelOutcome::NotCancelable(order) => {
            Err(Problem::new(ProblemType::NotCancelable).with("order", &order))
        }
        CancelOutcome::DoorsOpen(order) => Err(doors_open().with("order", &order)),
        CancelOutcome::NotFound => Err(no_such_order()),
    }
}

/// `GET /v1/orders/{order}/return`: where the gateway sends the browser back to. The redirect proves nothing,
/// so the page behind it asks for the gateway's own statement.
pub async fn payment_return(PathParams(order): PathParams<OrderId>) -> Redirect {
    Redirect::to(&format!("/orders/{order}"))
}

/// `POST /v1/webhooks/{gateway}`: a message of the payment gateway.
pub async fn webhook(
    State(state): State<BoxOfficeState>,
    PathParams(gateway): PathParams<String>,
    headers: HeaderMap,
    body: Body,
) -> HandlerResult {
    let body = read_body(body, &state.app).await?;
    let headers: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect();
    let checkout = Arc::clone(&state.checkout);
    let outcome = state
        .app
        .lifecycle
        .spawn_uncancellable(async move { checkout.webhook(&gateway, &headers, &body).await })
        .await
        .map_err(task_failed)?;
    match outcome.map_err(|e| state.app.checkout_problem("webhook", &e))? {
        WebhookOutcome::Accepted | WebhookOutcome::Ignored => Ok(StatusCode::NO_CONTENT.into_response()),
        WebhookOutcome::Refused => Err(Problem::new(ProblemType::NotSigned)),
    }
}

/// The order that the path names, if the caller owns it. An order of another customer does not exist for the
/// caller.
pub struct OwnedOrder {
    order: OrderView,
    who: Subject,
}

impl OwnedOrder {
    async fn tickets(&self, state: &BoxOfficeState) -> Result<Vec<Ticket>, Problem> {
        let tickets = state.checkout.tickets(self.order.id, &self.who).await;
        Ok(tickets
            .map_err(|e| state.app.checkout_problem("tickets", &e))?
            .unwrap_or_default())
    }
}

impl FromRequestParts<BoxOfficeState> for OwnedOrder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &BoxOfficeState) -> Result<Self, Problem> {
        let Owners(subjects) = Owners::from_request_parts(parts, state).await?;
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| no_such_order())?;
        let id = params
            .iter()
            .find(|(key, _)| *key == "order")
            .and_then(|(_, value)| value.parse::<OrderId>().ok())
            .ok_or_else(no_such_order)?;
        let problem = |e: CheckoutError| state.app.checkout_problem("order", &e);
        for who in subjects {
            if let Some(order) = state.checkout.order(id, &who).await.map_err(problem)? {
                return Ok(Self { order, who });
            }
        }
        Err(no_such_order())
    }
}

/// The response to an order that was placed or confirmed.
fn order_response(outcome: PlaceOutcome) -> HandlerResult {
    match outcome {
        PlaceOutcome::Paid(order) | PlaceOutcome::AwaitingPayment(order) => {
            Ok(order_with_location(StatusCode::CREATED, &order))
        }
        PlaceOutcome::InProgress(order) => Ok(order_with_location(StatusCode::ACCEPTED, &order)),
        PlaceOutcome::Declined {
            order,
            reason,
            is_hold_over,
        } => {
            let problem = Problem::new(ProblemType::PaymentDeclined)
                .with("order", &order)
                .with("reason", &reason)
                .with("hold_over", &is_hold_over);
            Err(if is_hold_over {
                problem.detail("the time for other cards is over; the seats are free again")
            } else {
                problem
            })
        }
        PlaceOutcome::HoldGone { alternatives } => {
            Err(Problem::new(ProblemType::HoldGone).with("alternatives", &alternatives))
        }
        PlaceOutcome::PaymentRequired => Err(Problem::invalid_field(
            "payment",
            "these seats are not free: say how they are paid for".to_owned(),
        )),
        PlaceOutcome::DoorsOpen => Err(doors_open()),
        PlaceOutcome::KeyReused => Err(Problem::new(ProblemType::IdempotencyKeyReused)),
        PlaceOutcome::QuotaReached { limit } => {
            Err(Problem::new(ProblemType::LimitReached).with("limit", &limit))
        }
    }
}

fn order_with_location(status: StatusCode, order: &OrderView) -> Response {
    let mut response = private_json(status, order);
    let location =
        HeaderValue::from_str(&format!("/v1/orders/{}", order.id)).expect("a UUID is visible ASCII");
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// What was sold may be in use now, so nothing is sold or returned any more.
pub(super) fn doors_open() -> Problem {
    Problem::new(ProblemType::Closed).detail("the doors of this performance are open")
}

pub(crate) fn no_such_order() -> Problem {
    Problem::new(ProblemType::NotFound).detail("there is no such order")
}
