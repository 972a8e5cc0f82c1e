//! The one place where an outcome that is not a success becomes an answer: `application/problem+json` (RFC 9457) with
//! a stable `type`. Details name the caller's field or what to do; what happened inside goes to the log, once.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};

/// An answer that says why not.
#[derive(Debug)]
pub struct Problem {
    kind: Kind,
    detail: Option<String>,
    retry_after_s: Option<u64>,
    more: Map<String, Value>,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $slug:literal, $title:literal;)*) => {
        /// Every problem this service answers with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// All of them, for the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// The stable name: `/problems/{slug}`.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => concat!("/problems/", $slug),)* }
            }

            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

kinds! {
    MalformedRequest = BAD_REQUEST, "malformed-request", "The request cannot be read";
    InvalidField = UNPROCESSABLE_ENTITY, "invalid-field", "A field has no possible value";
    NotJson = UNSUPPORTED_MEDIA_TYPE, "not-json", "The body must be application/json";
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large";
    BodyTooSlow = REQUEST_TIMEOUT, "body-too-slow", "The body did not come in time";
    NotFound = NOT_FOUND, "not-found", "There is nothing here";
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method-not-allowed", "This address does not take that method";
    SignInRequired = UNAUTHORIZED, "sign-in-required", "Please sign in";
    WrongCredentials = UNAUTHORIZED, "wrong-credentials", "The sign-in was not accepted";
    QueueTokenRequired = UNAUTHORIZED, "queue-token-required", "A queue token is needed";
    PassRequired = UNAUTHORIZED, "pass-required", "An admission pass is needed";
    NotSigned = UNAUTHORIZED, "not-signed", "The message is not signed by its sender";
    CrossOrigin = FORBIDDEN, "foreign-origin", "The request does not come from this site";
    NotOwner = FORBIDDEN, "not-yours", "This belongs to somebody else";
    /// A place in a sale without sign-in costs a moment of computing.
    ProofRequired = FORBIDDEN, "proof-required", "A proof of work is needed";
    NotOpenYet = CONFLICT, "not-open-yet", "The sale does not take places yet";
    Closed = CONFLICT, "closed", "The sale is closed";
    QueueFull = SERVICE_UNAVAILABLE, "queue-full", "The queue takes nobody more";
    NotCalledYet = CONFLICT, "not-called-yet", "It is not your turn yet";
    AtCapacity = CONFLICT, "full-for-a-moment", "The house is full for a moment";
    VisitEnded = CONFLICT, "visit-ended", "Your visit has ended";
    SeatsTaken = CONFLICT, "seats-taken", "Somebody else was faster";
    LimitReached = CONFLICT, "limit-reached", "That is more than one fan may have";
    NoMatchingSeats = CONFLICT, "nothing-left", "Nothing like that is left";
    NoMoreExtensions = CONFLICT, "no-more-extensions", "The hold cannot be extended again";
    HoldInPayment = CONFLICT, "hold-in-payment", "The hold is being paid";
    HoldGone = CONFLICT, "hold-gone", "The hold is gone";
    NotCancellable = CONFLICT, "not-cancellable", "The order cannot be cancelled now";
    UnknownSeat = UNPROCESSABLE_ENTITY, "unknown-seat", "The plan has no such seat";
    IdempotencyKeyReused = UNPROCESSABLE_ENTITY, "key-reused", "The Idempotency-Key was used with another request";
    PaymentDeclined = PAYMENT_REQUIRED, "payment-declined", "The payment was declined";
    TooManyRequests = TOO_MANY_REQUESTS, "too-many-requests", "Too many requests from this address";
    Overloaded = SERVICE_UNAVAILABLE, "overloaded", "Too much at once; please try again in a moment";
    TemporarilyUnavailable = SERVICE_UNAVAILABLE, "temporarily-unavailable", "Not possible at this moment";
    /// The memory of queue or seats does not answer.
    StoreUnavailable = SERVICE_UNAVAILABLE, "engine-away", "Places and seats cannot be looked up at this moment";
    /// It has lost what it knew and is being taught again.
    StoreRecovering = SERVICE_UNAVAILABLE, "engine-rebuilding", "Places and seats are being restored; please try again in a moment";
    /// The queue's book cannot be written.
    JournalUnavailable = SERVICE_UNAVAILABLE, "journal-away", "Nobody can be written down at this moment";
    /// The book of orders cannot be read or written.
    LedgerUnavailable = SERVICE_UNAVAILABLE, "ledger-away", "Orders cannot be taken down at this moment";
    ShopUnreachable = SERVICE_UNAVAILABLE, "shop-unreachable", "The shop's customer list cannot be reached now";
    Internal = INTERNAL_SERVER_ERROR, "internal", "Something went wrong here";
}

impl Problem {
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            detail: None,
            retry_after_s: None,
            more: Map::new(),
        }
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// One sentence for the developer or the log of the caller.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// When to come again.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds.max(1));
        self
    }

    /// A member beyond the standard ones.
    #[must_use]
    pub fn with<T: Serialize>(mut self, name: &str, value: &T) -> Self {
        let value = serde_json::to_value(value).expect("wire types are JSON");
        self.more.insert(name.to_owned(), value);
        self
    }

    /// The members of the response's body.
    #[must_use]
    pub fn body(&self) -> Map<String, Value> {
        let mut body = self.more.clone();
        body.insert("type".into(), self.kind.slug().into());
        body.insert("title".into(), self.kind.title().into());
        body.insert("status".into(), self.kind.status().as_u16().into());
        if let Some(detail) = &self.detail {
            body.insert("detail".into(), detail.as_str().into());
        }
        body
    }

    /// Something inside failed: it is logged here, and the caller learns only that it did.
    #[must_use]
    pub fn internal(what: &'static str, error: &dyn std::fmt::Display) -> Self {
        tracing::error!(what, error = %error, "a request failed inside");
        Self::new(Kind::Internal)
    }

    /// As [`Problem::internal`], for what is expected to pass by itself.
    #[must_use]
    pub fn unavailable(what: &'static str, error: &dyn std::fmt::Display) -> Self {
        tracing::warn!(what, error = %error, "a request could not be served now");
        Self::new(Kind::TemporarilyUnavailable).retry_after_s(2)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        metrics::counter!("edge_problems_total", "type" => self.kind.slug()).increment(1);
        let bytes = serde_json::to_vec(&self.body()).expect("a map is JSON");
        let mut response = (self.kind.status(), bytes).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_problem_has_a_name_of_its_own() {
        let slugs: BTreeSet<_> = Kind::ALL.iter().map(|k| k.slug()).collect();
        assert_eq!(slugs.len(), Kind::ALL.len());
    }

    #[test]
    fn what_says_come_again_says_when() {
        let response = Problem::new(Kind::Overloaded).retry_after_s(0).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
    }
}
