//! Responses while a dependency is unavailable or the service is overloaded: 503 with a type that names the
//! dependency, and a `Retry-After` that differs from client to client.
//!
//! An outage is logged where it is noticed, once, and not again for each request it fails.

use std::sync::LazyLock;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use crate::{
    checkout::CheckoutError,
    edge::{
        errors::problem::{PROBLEM_JSON, Problem, ProblemType},
        state::AppState,
    },
    seating::{SeatingError, StoreError as SeatStoreError},
    waiting_room::{StoreError as QueueStoreError, WaitingRoomError},
};

impl AppState {
    /// The waiting room failed at `what`.
    pub(crate) fn waiting_room_problem(&self, what: &'static str, error: &WaitingRoomError) -> Problem {
        self.unavailable_problem(kind_of_waiting_room_error(error), what, error)
    }

    /// Seating failed at `what`.
    pub(crate) fn seating_problem(&self, what: &'static str, error: &SeatingError) -> Problem {
        self.unavailable_problem(kind_of_seating_error(error), what, error)
    }

    /// Checkout failed at `what`.
    pub(crate) fn checkout_problem(&self, what: &'static str, error: &CheckoutError) -> Problem {
        let problem = self.unavailable_problem(kind_of_checkout_error(error), what, error);
        match error {
            // So many orders were rejected that an early retry would be rejected too.
            CheckoutError::Busy { retry_after } => {
                problem.retry_after_s(self.retry_after_at_least_s(*retry_after))
            }
            _ => problem,
        }
    }

    fn unavailable_problem(
        &self,
        kind: ProblemType,
        what: &'static str,
        error: &dyn std::fmt::Display,
    ) -> Problem {
        if kind == ProblemType::TemporarilyUnavailable {
            return Problem::unavailable(what, error).retry_after_s(self.retry_after_jitter_s(2, 6));
        }
        tracing::debug!(what, error = %error, "a dependency is unavailable");
        Problem::new(kind).retry_after_s(self.retry_after_jitter_s(2, 6))
    }
}

fn kind_of_waiting_room_error(error: &WaitingRoomError) -> ProblemType {
    match error {
        WaitingRoomError::Busy | WaitingRoomError::Overtaken => ProblemType::Overloaded,
        WaitingRoomError::Journal => ProblemType::JournalUnavailable,
        WaitingRoomError::Store(QueueStoreError::Unavailable) => ProblemType::StoreUnavailable,
        WaitingRoomError::Store(QueueStoreError::Recovering) => ProblemType::StoreRecovering,
        WaitingRoomError::Store(QueueStoreError::Diverged(_)) => ProblemType::TemporarilyUnavailable,
    }
}

fn kind_of_seating_error(error: &SeatingError) -> ProblemType {
    match error {
        SeatingError::Store(SeatStoreError::NoAnswer | SeatStoreError::Unavailable) => {
            ProblemType::StoreUnavailable
        }
        SeatingError::Store(SeatStoreError::Recovering) => ProblemType::StoreRecovering,
        _ => ProblemType::TemporarilyUnavailable,
    }
}

fn kind_of_checkout_error(error: &CheckoutError) -> ProblemType {
    match error {
        CheckoutError::UnknownSale => ProblemType::TemporarilyUnavailable,
        CheckoutError::Busy { .. } => ProblemType::Overloaded,
        CheckoutError::Seats(_) => ProblemType::StoreUnavailable,
        CheckoutError::Ledger(_) => ProblemType::LedgerUnavailable,
    }
}

/// `/problems/overloaded` with its bytes encoded once: refusing must cost next to nothing.
pub(crate) fn overloaded(retry_after_s: u64) -> Response {
    static BODY: LazyLock<Bytes> = LazyLock::new(|| {
        let kind = ProblemType::Overloaded;
        let body =
            serde_json::json!({"type": kind.slug(), "title": kind.title(), "status": kind.status().as_u16()});
        body.to_string().into()
    });
    let mut response = Response::new(Body::from(BODY.clone()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::checkout::seats::port::SeatsError;

    #[test]
    fn each_outage_has_its_own_503_problem() {
        for (kind, slug) in [
            (kind_of_waiting_room_error(&WaitingRoomError::Busy), "overloaded"),
            (
                kind_of_waiting_room_error(&WaitingRoomError::Journal),
                "journal-unavailable",
            ),
            (
                kind_of_waiting_room_error(&WaitingRoomError::Store(QueueStoreError::Unavailable)),
                "store-unavailable",
            ),
            (
                kind_of_waiting_room_error(&WaitingRoomError::Store(QueueStoreError::Recovering)),
                "store-recovering",
            ),
            (
                kind_of_seating_error(&SeatingError::Store(SeatStoreError::NoAnswer)),
                "store-unavailable",
            ),
            (
                kind_of_seating_error(&SeatingError::Store(SeatStoreError::Unavailable)),
                "store-unavailable",
            ),
            (
                kind_of_seating_error(&SeatingError::Store(SeatStoreError::Recovering)),
                "store-recovering",
            ),
            (
                kind_of_checkout_error(&CheckoutError::Seats(SeatsError("no answer".into()))),
                "store-unavailable",
            ),
            (
                kind_of_checkout_error(&CheckoutError::Busy {
                    retry_after: Duration::ZERO,
                }),
                "overloaded",
            ),
        ] {
            assert_eq!(
                (kind.slug(), kind.status().as_u16()),
                (format!("/problems/{slug}").as_str(), 503)
            );
        }
    }

    #[test]
    fn a_refusal_tells_when_to_retry() {
        let refusal = overloaded(3);
        assert_eq!(refusal.status().as_u16(), 503);
        assert_eq!(refusal.headers()[header::RETRY_AFTER], "3");
    }
}
