//! Error responses: `application/problem+json` (RFC 9457) with a stable `type`.
//!
//! Every outcome that is not a success becomes a response here. Its `detail` names the caller's field or the
//! remedy; what failed inside goes to the log, once.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};

/// The content type of a problem document.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// An error response.
#[derive(Debug)]
pub struct Problem {
    kind: ProblemType,
    detail: Option<String>,
    retry_after_s: Option<u64>,
    members: Map<String, Value>,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $slug:literal, $title:literal;)*) => {
        /// Every problem this service answers with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ProblemType { $($(#[$doc])* $name,)* }

        impl ProblemType {
            /// All of them, for the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The status code of the response.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// The stable `type`: `/problems/...`.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => concat!("/problems/", $slug),)* }
            }

            /// The `title`: one sentence for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

kinds! {
    /// The body is not JSON of the expected form.
    MalformedRequest = BAD_REQUEST, "malformed-request", "The request cannot be read";
    /// `field` names the field.
    InvalidField = UNPROCESSABLE_ENTITY, "invalid-field", "A field has an invalid value";
    /// The body is not `application/json`.
    NotJson = UNSUPPORTED_MEDIA_TYPE, "not-json", "The body must be application/json";
    /// The body exceeds `server.body_bytes_max`.
    BodyTooLarge = PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large";
    /// The body did not arrive within `server.body_timeout_ms`.
    BodyTooSlow = REQUEST_TIMEOUT, "body-too-slow", "The body did not arrive in time";
    /// The request's headers exceed `server.header_bytes_max`, or are too many.
    HeadTooLarge = REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", "The request's headers are too large";
    /// The request's address is too long.
    AddressTooLong = URI_TOO_LONG, "address-too-long", "The address is too long";
    /// No such path, sale, order, hold or the like, or not the caller's.
    NotFound = NOT_FOUND, "not-found", "There is nothing here";
    /// The path exists, the method on it does not.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method-not-allowed", "This method is not allowed here";
    /// No valid session.
    SignInRequired = UNAUTHORIZED, "sign-in-required", "Please sign in";
    /// Login or password, hand-off token or operator token are wrong.
    WrongCredentials = UNAUTHORIZED, "wrong-credentials", "The credentials were not accepted";
    /// The shop stores this customer's password in a form that cannot be verified here, or no passwords are
    /// taken here. `sign_in_url` leads to the shop's own sign-in, if it is known.
    SignInAtShop = FORBIDDEN, "sign-in-at-shop", "Please sign in at the shop";
    /// The shop has closed this customer's account.
    AccountInactive = FORBIDDEN, "account-inactive", "The shop has closed this account";
    /// No valid queue token.
    QueueTokenRequired = UNAUTHORIZED, "queue-token-required", "A queue token is required";
    /// No valid admission pass.
    PassRequired = UNAUTHORIZED, "pass-required", "An admission pass is required";
    /// A webhook without a valid signature.
    NotSigned = UNAUTHORIZED, "not-signed", "The message has no valid signature";
    /// A change that a cookie authenticates came from another site.
    CrossOrigin = FORBIDDEN, "cross-origin", "The request comes from another site";
    /// The token or pass belongs to another customer.
    NotOwner = FORBIDDEN, "not-owner", "This belongs to another customer";
    /// A join without sign-in needs a proof of work; `challenge` is one to solve.
    ProofRequired = FORBIDDEN, "proof-required", "A proof of work is required";
    /// The queue takes no entries yet.
    NotOpenYet = CONFLICT, "not-open-yet", "The queue is not open yet";
    /// The sale has ended.
    Closed = CONFLICT, "closed", "The sale is closed";
    /// The queue holds `queue_entries_max` entries.
    QueueFull = SERVICE_UNAVAILABLE, "queue-full", "The queue is full";
    /// The caller does not wait in the queue: called already, inside, or gone.
    NotWaiting = CONFLICT, "not-waiting", "You are not waiting to be called";
    /// The caller's number is not called yet; `position` tells where it stands.
    NotCalledYet = CONFLICT, "not-called-yet", "It is not your turn yet";
    /// The caller is called, but every admission slot is taken for the moment.
    AtCapacity = CONFLICT, "at-capacity", "No visit is free for a moment";
    /// The caller's visit has ended.
    VisitEnded = CONFLICT, "visit-ended", "Your visit has ended";
    /// At least one of the seats is held or sold.
    SeatsTaken = CONFLICT, "seats-taken", "Seats are already taken";
    /// The seats are for people who use a wheelchair and those who come with them.
    WheelchairSpaces = CONFLICT, "wheelchair-spaces", "These seats are for wheelchair users";
    /// More seats than a customer may have.
    LimitReached = CONFLICT, "limit-reached", "That is more than one customer may have";
    /// No free seats match the request.
    NoMatchingSeats = CONFLICT, "no-matching-seats", "No matching seats are left";
    /// The hold was extended as often as allowed.
    NoMoreExtensions = CONFLICT, "no-more-extensions", "The hold cannot be extended again";
    /// The hold is being paid for and cannot change.
    HoldInPayment = CONFLICT, "hold-in-payment", "The hold is being paid";
    /// The hold has expired or was released.
    HoldGone = CONFLICT, "hold-gone", "The hold has ended";
    /// The order is in a state that cannot be canceled.
    NotCancelable = CONFLICT, "not-cancelable", "The order cannot be canceled now";
    /// The plan has no such seat.
    UnknownSeat = UNPROCESSABLE_ENTITY, "unknown-seat", "The plan has no such seat";
    /// The key came with a different request before.
    IdempotencyKeyReused = UNPROCESSABLE_ENTITY, "idempotency-key-reused",
        "The Idempotency-Key was used with another request";
    /// The gateway declined the payment.
    PaymentDeclined = PAYMENT_REQUIRED, "payment-declined", "The payment was declined";
    /// A rate limit of an address, an account or a visit.
    TooManyRequests = TOO_MANY_REQUESTS, "too-many-requests",
        "Too many requests; please try again in a moment";
    /// Shed, or not answered in time.
    Overloaded = SERVICE_UNAVAILABLE, "overloaded", "Too many requests at once; please try again in a moment";
    /// A failure that is expected to pass.
    TemporarilyUnavailable = SERVICE_UNAVAILABLE, "temporarily-unavailable", "Not possible at this moment";
    /// The store of queue or seats does not answer.
    StoreUnavailable = SERVICE_UNAVAILABLE, "store-unavailable",
        "Queue and seats are unavailable at this moment";
    /// The store lost its data and is being restored from journal and ledger.
    StoreRecovering = SERVICE_UNAVAILABLE, "store-recovering",
        "Queue and seats are being restored; please try again in a moment";
    /// The queue's journal cannot be written.
    JournalUnavailable = SERVICE_UNAVAILABLE, "journal-unavailable",
        "The queue cannot record changes at this moment";
    /// The ledger of orders cannot be read or written.
    LedgerUnavailable = SERVICE_UNAVAILABLE, "ledger-unavailable", "Orders are unavailable at this moment";
    /// The shop's customer database does not answer.
    ShopUnreachable = SERVICE_UNAVAILABLE, "shop-unreachable",
        "The shop's customer list cannot be reached now";
    /// A bug, or a broken promise of a dependency; the log says which.
    Internal = INTERNAL_SERVER_ERROR, "internal", "Something went wrong here";
}

impl Problem {
    /// A field of the request that does not fit; `what` says what would.
    #[must_use]
    pub fn invalid_field(field: &str, what: impl Into<String>) -> Self {
        Self::new(ProblemType::InvalidField)
            .with("field", &field)
            .detail(what)
    }

    /// A problem of this kind, without detail.
    #[must_use]
    pub fn new(kind: ProblemType) -> Self {
        Self {
            kind,
            detail: None,
            retry_after_s: None,
            members: Map::new(),
        }
    }

    /// The kind of problem.
    #[must_use]
    pub fn kind(&self) -> ProblemType {
        self.kind
    }

    /// Sets the `detail`: one sentence for the caller's developers and logs.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Sets `Retry-After`, at least one second.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds.max(1));
        self
    }

    /// Adds a member beyond the standard ones.
    #[must_use]
    pub fn with<T: Serialize>(mut self, name: &str, value: &T) -> Self {
        let value = serde_json::to_value(value).expect("wire types are JSON");
        self.members.insert(name.to_owned(), value);
        self
    }

    /// The members of the response's body.
    #[must_use]
    pub fn body(&self) -> Map<String, Value> {
        let mut body = self.members.clone();
        body.insert("type".into(), self.kind.slug().into());
        body.insert("title".into(), self.kind.title().into());
        body.insert("status".into(), self.kind.status().as_u16().into());
        if let Some(detail) = &self.detail {
            body.insert("detail".into(), detail.as_str().into());
        }
        body
    }

    /// `internal`, after `what` failed for a reason that the caller must not see: the reason is logged here.
    #[must_use]
    pub fn internal(what: &'static str, error: &dyn std::fmt::Display) -> Self {
        tracing::error!(what, error = %error, "a request failed with an internal error");
        Self::new(ProblemType::Internal)
    }

    /// `temporarily-unavailable`, for a failure of `what` that is expected to pass: the reason is logged
    /// here.
    #[must_use]
    pub fn unavailable(what: &'static str, error: &dyn std::fmt::Display) -> Self {
        tracing::warn!(what, error = %error, "a request could not be served; the client is told to retry");
        Self::new(ProblemType::TemporarilyUnavailable).retry_after_s(2)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        metrics::counter!("stagedoor_http_problems_total", "type" => self.kind.slug()).increment(1);
        let bytes = serde_json::to_vec(&self.body()).expect("a map is JSON");
        let mut response = (self.kind.status(), bytes).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
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
    fn every_problem_type_is_unique() {
        let slugs: BTreeSet<_> = ProblemType::ALL.iter().map(|kind| kind.slug()).collect();
        assert_eq!(slugs.len(), ProblemType::ALL.len());
    }

    #[test]
    fn retry_after_is_at_least_one_second() {
        let response = Problem::new(ProblemType::Overloaded)
            .retry_after_s(0)
            .into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
    }
}
