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

use crate::edge::handlers::{Answer, broken, private_json};
use crate::{
    checkout::{
        self, CancelOutcome, HistoryEntry, OrderState, OrderView, PlaceOrder, PlaceOutcome, Ticket,
        WebhookOutcome,
    },
    edge::{
        BoxOffice,
        auth::extractors::{IdempotencyKey, Json, Owners, WasAdmitted, read_body},
        errors::problem::{Kind, Problem},
    },
    kernel::{HoldId, OrderId, Subject},
};

/// What is paid for, and with what.
#[derive(Deserialize, ToSchema)]
pub struct NewOrder {
    #[schema(value_type = String)]
    hold: HoldId,
    payment: Payment,
}

#[derive(Deserialize, ToSchema)]
pub struct Payment {
    /// `card`
    method: String,
    /// The gateway's name for the card; the card itself never comes here.
    token: String,
}

#[derive(Serialize)]
struct Orders {
    orders: Vec<OrderView>,
}

#[derive(Serialize)]
struct History {
    history: Vec<HistoryEntry>,
}

#[derive(Serialize)]
struct Tickets {
    tickets: Vec<TicketView>,
}

#[derive(Serialize)]
struct TicketView {
    #[serde(flatten)]
    ticket: Ticket,
    qr_svg_url: String,
    qr_png_url: String,
}

const TOKEN_LENGTH_MAX: usize = 200;

#[utoipa::path(post, path = "/v1/orders", tag = "orders", request_body = NewOrder, params(("Idempotency-Key" = String, Header)),
    responses((status = 201, description = "paid, or awaiting_payment with an action"), (status = 202, description = "in progress"), (status = 401), (status = 402, description = "declined"),
        (status = 409, description = "hold-gone with alternatives, limit-reached"), (status = 422)))]
pub async fn place(
    State(office): State<BoxOffice>,
    was: WasAdmitted,
    IdempotencyKey(key): IdempotencyKey,
    Json(new): Json<NewOrder>,
) -> Answer {
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
    if new.payment.token.is_empty() || new.payment.token.len() > TOKEN_LENGTH_MAX {
        return Err(Problem::new(Kind::InvalidField)
            .with("field", &"payment.token")
            .detail(format!("1 to {TOKEN_LENGTH_MAX} characters")));
    }
    let WasAdmitted { sale, pass, who } = was;
    // Whoever was let in before and still holds seats may pay for them; without seats only a live pass opens this call.
    let visit = match &pass {
        Some(pass) => pass.visit,
        None => match office
            .seating
            .find_hold(new.hold, &who)
            .await
            .map_err(|e| office.house.no_seats("a hold", &e))?
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
        office.ended.clone(),
        usize::from(sale.seats_per_fan),
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
    let outcome = office.house.life.run_to_end(bought).await.map_err(broken)?;
    told(outcome.map_err(|e| office.house.no_till("order", &e))?)
}

#[derive(Deserialize)]
pub struct OfSale {
    sale: Option<String>,
}

#[utoipa::path(get, path = "/v1/orders", tag = "orders", params(("sale" = Option<String>, Query)), responses((status = 200, description = "{orders: [...]}: the caller's own"), (status = 401)))]
pub async fn list(
    State(office): State<BoxOffice>,
    Owners(names): Owners,
    Query(asked): Query<OfSale>,
) -> Answer {
    let mut orders = Vec::new();
    for sale in office
        .house
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
                    .map_err(|e| office.house.no_till("orders", &e))?,
            );
        }
    }
    Ok(private_json(StatusCode::OK, &Orders { orders }))
}

#[utoipa::path(get, path = "/v1/orders/{order}", tag = "orders", params(("order" = String, Path)), responses((status = 200), (status = 404)))]
pub async fn show(own: OwnOrder) -> Response {
    private_json(StatusCode::OK, &own.order)
}

#[utoipa::path(get, path = "/v1/orders/{order}/history", tag = "orders", params(("order" = String, Path)), responses((status = 200, description = "{history: [...]}: every step of the saga"), (status = 404)))]
pub async fn history(State(office): State<BoxOffice>, own: OwnOrder) -> Answer {
    let history = office
        .checkout
        .history(own.order.id, &own.who)
        .await
        .map_err(|e| office.house.no_till("history", &e))?;
    Ok(private_json(
        StatusCode::OK,
        &History {
            history: history.unwrap_or_default(),
        },
    ))
}

#[utoipa::path(get, path = "/v1/orders/{order}/tickets", tag = "orders", params(("order" = String, Path)), responses((status = 200, description = "{tickets: [...]}"), (status = 404)))]
pub async fn tickets(State(office): State<BoxOffice>, own: OwnOrder) -> Answer {
    let view = |ticket: Ticket| {
        let base = format!("/v1/orders/{}/tickets/{}", own.order.id, ticket.id);
        TicketView {
            qr_svg_url: format!("{base}.svg"),
            qr_png_url: format!("{base}.png"),
            ticket,
        }
    };
    let tickets = own_tickets(&office, &own).await?.into_iter().map(view).collect();
    Ok(private_json(StatusCode::OK, &Tickets { tickets }))
}

/// One ticket's QR code, `{ticket}.svg` or `{ticket}.png`.
#[utoipa::path(get, path = "/v1/orders/{order}/tickets/{ticket}", tag = "orders", params(("order" = String, Path), ("ticket" = String, Path, description = "`{id}.svg` or `{id}.png`")),
    responses((status = 200, description = "QR code"), (status = 404)))]
pub async fn ticket_code(
    State(office): State<BoxOffice>,
    own: OwnOrder,
    Path((_, file)): Path<(String, String)>,
) -> Answer {
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
#[utoipa::path(post, path = "/v1/orders/{order}/confirm", tag = "orders", params(("order" = String, Path)), responses((status = 200), (status = 404)))]
pub async fn confirm(State(office): State<BoxOffice>, own: OwnOrder) -> Answer {
    let (checkout, id, who) = (Arc::clone(&office.checkout), own.order.id, own.who);
    let outcome = office
        .house
        .life
        .run_to_end(async move { checkout.confirm(id, &who).await })
        .await
        .map_err(broken)?;
    told(
        outcome
            .map_err(|e| office.house.no_till("confirm", &e))?
            .ok_or_else(no_such_order)?,
    )
}

#[utoipa::path(post, path = "/v1/orders/{order}/cancel", tag = "orders", params(("order" = String, Path)), responses((status = 200), (status = 202, description = "money and seats are on their way back"), (status = 404), (status = 409, description = "not-cancellable")))]
pub async fn cancel(State(office): State<BoxOffice>, own: OwnOrder) -> Answer {
    let (checkout, id, who) = (Arc::clone(&office.checkout), own.order.id, own.who);
    let outcome = office
        .house
        .life
        .run_to_end(async move { checkout.cancel(id, &who).await })
        .await
        .map_err(broken)?;
    match outcome.map_err(|e| office.house.no_till("cancel", &e))? {
        CancelOutcome::Cancelled(order) => Ok(private_json(StatusCode::OK, &order)),
        CancelOutcome::InProgress(order) => Ok(private_json(StatusCode::ACCEPTED, &order)),
        CancelOutcome::NotPaid(order) => Err(Problem::new(Kind::NotCancellable).with("order", &order)),
        CancelOutcome::NotFound => Err(no_such_order()),
    }
}

/// Where the gateway sends the browser back to. The browser's word proves nothing, so the page asks what the gateway's
/// own book says.
#[utoipa::path(get, path = "/v1/orders/{order}/return", tag = "orders", params(("order" = String, Path)), responses((status = 303, description = "to the order's page")))]
pub async fn come_back(Path(order): Path<OrderId>) -> Redirect {
    Redirect::to(&format!("/orders/{order}"))
}

#[utoipa::path(post, path = "/v1/webhooks/{gateway}", tag = "orders", params(("gateway" = String, Path)), responses((status = 204), (status = 401), (status = 404)))]
pub async fn webhook(
    State(office): State<BoxOffice>,
    Path(gateway): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let body = read_body(body, &office.house).await?;
    let headers: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect();
    let checkout = Arc::clone(&office.checkout);
    let outcome = office
        .house
        .life
        .run_to_end(async move { checkout.webhook(&gateway, &headers, &body).await })
        .await
        .map_err(broken)?;
    match outcome.map_err(|e| office.house.no_till("webhook", &e))? {
        WebhookOutcome::Accepted | WebhookOutcome::Ignored => Ok(StatusCode::NO_CONTENT.into_response()),
        WebhookOutcome::Refused => Err(Problem::new(Kind::NotSigned)),
    }
}

/// An order that the path names and the caller owns; somebody else's does not exist for her.
pub struct OwnOrder {
    order: OrderView,
    who: Subject,
}

impl FromRequestParts<BoxOffice> for OwnOrder {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, office: &BoxOffice) -> Result<Self, Problem> {
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
                .map_err(|e| office.house.no_till("order", &e))?
            {
                return Ok(Self { order, who });
            }
        }
        Err(no_such_order())
    }
}

/// What became of the order, in the contract's words.
fn told(outcome: PlaceOutcome) -> Answer {
    match outcome {
        PlaceOutcome::Paid(order) | PlaceOutcome::AwaitingPayment(order) => {
            Ok(created(StatusCode::CREATED, &order))
        }
        PlaceOutcome::InProgress(order) => Ok(created(StatusCode::ACCEPTED, &order)),
        PlaceOutcome::Declined { order, reason } => Err(Problem::new(Kind::PaymentDeclined)
            .with("order", &order)
            .with("reason", &reason)),
        PlaceOutcome::HoldGone { alternatives } => {
            Err(Problem::new(Kind::HoldGone).with("alternatives", &alternatives))
        }
        PlaceOutcome::KeyReused => Err(Problem::new(Kind::KeyReused)),
        PlaceOutcome::QuotaReached { limit } => Err(Problem::new(Kind::LimitReached).with("limit", &limit)),
    }
}

async fn own_tickets(office: &BoxOffice, own: &OwnOrder) -> Result<Vec<Ticket>, Problem> {
    let tickets = office
        .checkout
        .tickets(own.order.id, &own.who)
        .await
        .map_err(|e| office.house.no_till("tickets", &e))?;
    Ok(tickets.unwrap_or_default())
}

fn created(status: StatusCode, order: &OrderView) -> Response {
    let mut response = private_json(status, order);
    let place = HeaderValue::from_str(&format!("/v1/orders/{}", order.id)).expect("a UUID is visible ASCII");
    response.headers_mut().insert(header::LOCATION, place);
    response
}

fn no_such_order() -> Problem {
    Problem::new(Kind::NotFound).detail("there is no such order")
}
