//! A call of the contract: its request, its reply, and the transport that carries it.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{messages::ProblemDetails, observation_log::ObservationLog, rng::VisitorRng};
use crate::kernel::Timestamp;

/// The kinds of calls, by which latencies and errors are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// A sign-in by hand-off from the shop.
    SignIn,
    /// Joins the queue.
    Join,
    /// Leaves the queue.
    Leave,
    /// The visitor's own position.
    Position,
    /// The public queue status.
    Status,
    /// Asks for admission.
    Enter,
    /// Renews the admission pass.
    RenewPass,
    /// Ends the visit.
    EndVisit,
    /// The facts of the sale.
    Sale,
    /// The seating plan.
    Plan,
    /// The state of all seats.
    Seats,
    /// Holds seats.
    Hold,
    /// Places an order.
    Order,
    /// The state of an order.
    OrderState,
    /// The tickets of an order.
    Tickets,
    /// A call with a missing or forged proof.
    Forged,
}

impl Call {
    /// All calls, in declaration order: `Call::ALL[call as usize] == call`.
    pub const ALL: [Self; 16] = [
        Self::SignIn,
        Self::Join,
        Self::Leave,
        Self::Position,
        Self::Status,
        Self::Enter,
        Self::RenewPass,
        Self::EndVisit,
        Self::Sale,
        Self::Plan,
        Self::Seats,
        Self::Hold,
        Self::Order,
        Self::OrderState,
        Self::Tickets,
        Self::Forged,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::SignIn => "sign in",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Position => "position",
            Self::Status => "status",
            Self::Enter => "enter",
            Self::RenewPass => "renew pass",
            Self::EndVisit => "end visit",
            Self::Sale => "sale",
            Self::Plan => "plan",
            Self::Seats => "seats",
            Self::Hold => "hold",
            Self::Order => "order",
            Self::OrderState => "order state",
            Self::Tickets => "tickets",
            Self::Forged => "forged",
        }
    }

    /// May wait for the payment gateway, so it takes a longer timeout and connections of its own.
    pub fn is_slow(self) -> bool {
        self == Self::Order
    }
}

/// One request. Every request may be sent twice: the contract makes each idempotent, by its method, by its
/// key or by its meaning.
pub struct Request {
    /// The kind of call.
    pub call: Call,
    /// The HTTP method in capitals.
    pub method: &'static str,
    /// The path, such as `/v1/orders`.
    pub path: String,
    /// Header names in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// The JSON body.
    pub body: Option<String>,
}

impl Request {
    /// A request without headers and body.
    pub fn new(call: Call, method: &'static str, path: String) -> Self {
        Self {
            call,
            method,
            path,
            headers: Vec::new(),
            body: None,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = Some(body.to_string());
        self
    }
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, bounded to five minutes.
    pub retry_after: Option<Duration>,
    /// The entity tag.
    pub etag: Option<String>,
    /// The body.
    pub body: Bytes,
    /// The size of head and body in bytes.
    pub wire_bytes: usize,
}

impl Reply {
    /// The status is 2xx.
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The server asks to come again: 429 or 503.
    pub fn asks_to_wait(&self) -> bool {
        matches!(self.status, 429 | 503)
    }

    /// The body as JSON; `None` when it is not of this form.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The name of the problem, the last segment of its type: `seats-taken` of `/problems/seats-taken`. Empty
    /// when the body is no problem.
    pub fn problem(&self) -> String {
        let kind = self
            .json::<ProblemDetails>()
            .map(|problem| problem.kind)
            .unwrap_or_default();
        kind.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

/// Parses `Retry-After` in seconds; the contract does not use its date form.
pub fn parse_retry_after(value: &str) -> Option<Duration> {
    let seconds: u64 = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(300)))
}

/// The visitor gave up on a call. The transport has recorded why.
#[derive(Debug)]
pub struct Abandoned;

/// Carries the calls of visitors, and knows their clock and their pace.
pub trait Transport: Send + Sync {
    /// Sends the request until there is a reply other than "come again", or patience or retry budget run out.
    /// Any reply is `Ok`, whatever its status.
    fn send(
        &self,
        rng: &VisitorRng,
        request: Request,
    ) -> impl Future<Output = Result<Reply, Abandoned>> + Send;

    /// Records an error that a visitor who does nothing wrong should not meet.
    fn error(&self, kind: &str) -> Abandoned;

    /// Where the visitors' observations are recorded.
    fn observations(&self) -> &ObservationLog;

    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// The monotonic clock.
    fn monotonic(&self) -> Duration;

    /// A human pause around `median`, at the crowd's pace.
    fn pause(&self, rng: &VisitorRng, median: Duration) -> Duration;

    /// No more seats will be sold.
    fn is_over(&self) -> bool;

    /// A visitor was admitted. For time series; does nothing by default.
    fn count_entry(&self) {}

    /// So many tickets were delivered. For time series; does nothing by default.
    fn count_tickets(&self, _count: u32) {}
}

impl<T: Transport> Transport for Arc<T> {
    async fn send(&self, rng: &VisitorRng, request: Request) -> Result<Reply, Abandoned> {
        (**self).send(rng, request).await
    }

    fn error(&self, kind: &str) -> Abandoned {
        (**self).error(kind)
    }

    fn observations(&self) -> &ObservationLog {
        (**self).observations()
    }

    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }

    fn pause(&self, rng: &VisitorRng, median: Duration) -> Duration {
        (**self).pause(rng, median)
    }

    fn is_over(&self) -> bool {
        (**self).is_over()
    }

    fn count_entry(&self) {
        (**self).count_entry();
    }

    fn count_tickets(&self, count: u32) {
        (**self).count_tickets(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_listed_in_declaration_order() {
        assert!(
            Call::ALL
                .iter()
                .enumerate()
                .all(|(index, call)| *call as usize == index)
        );
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_bounded() {
        assert_eq!(parse_retry_after("3"), Some(Duration::from_secs(3)));
        assert_eq!(parse_retry_after("999999"), Some(Duration::from_mins(5)));
        assert_eq!(parse_retry_after("soon"), None);
    }
}
