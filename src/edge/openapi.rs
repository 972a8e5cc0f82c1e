//! The contract as a document, generated from the handlers' own declarations.

use std::sync::LazyLock;

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use utoipa::OpenApi;

use crate::edge::handlers::{anonymous, draws, forward_auth, orders, queue, sales, seats, sign_in};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "stagedoor",
        version = "1",
        description = "A waiting room that can be believed and a box office that cannot sell a seat twice. \
        Times are RFC 3339 in UTC, money is in minor units, errors are application/problem+json (RFC 9457) with a stable `type`. \
        The session goes in `Authorization: Bearer` or cookie `sd_session`, the queue token in `Queue-Token` or cookie `sd_queue_{sale}`, \
        the admission pass in `Admission-Pass` or cookie `sd_pass_{sale}`."
    ),
    paths(
        sales::list,
        sales::facts,
        sign_in::sign_in,
        sign_in::handoff,
        sign_in::sign_out,
        queue::join,
        anonymous::challenge,
        queue::place,
        queue::leave,
        queue::present,
        queue::board,
        queue::board_events,
        queue::enter,
        queue::renew,
        queue::end_visit,
        draws::draw,
        draws::entries,
        draws::receipt,
        seats::plan,
        seats::snapshot,
        seats::events,
        seats::hold,
        seats::show,
        seats::swap,
        seats::release,
        seats::extend,
        orders::list,
        orders::place,
        orders::show,
        orders::history,
        orders::tickets,
        orders::ticket_code,
        orders::confirm,
        orders::cancel,
        orders::come_back,
        orders::webhook,
        forward_auth::check,
        forward_auth::jwks,
    )
)]
struct Contract;

static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| Contract::openapi().to_json().map(Bytes::from).unwrap_or_default());

/// `GET /openapi.json`
pub(super) async fn document() -> Response {
    let mut response = Response::new(DOCUMENT.clone().into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=300"),
    );
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Paths of the router's table, read from its source: a route that the document forgets turns this red.
    #[test]
    fn every_route_of_the_contract_is_documented() {
        let table = include_str!("mod.rs");
        let routed: BTreeSet<&str> = table
            .lines()
            .filter_map(|line| line.trim().strip_prefix(".route(\"")?.split('"').next())
            .filter(|path| path.starts_with("/v1/") || path.starts_with("/.well-known/"))
            .collect();
        let document = Contract::openapi();
        let documented: BTreeSet<&str> = document.paths.paths.keys().map(String::as_str).collect();
        assert_eq!(routed, documented);
        assert!(routed.len() > 25);
    }
}
