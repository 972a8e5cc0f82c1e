//! Orders, seats and leases for ledger tests.

use crate::{
    checkout::{
        ledger::port::{
            FencedLease, LeaseRequest, Ledger, LedgerError, NewEvent, NewOrder, NewTicket, OpenOutcome,
            Position, Progress,
        },
        order::Reason,
        outbox::port::{Outbox, OutboxEvent},
        types::{HeldSeats, PerformanceKey, SeatInfo},
    },
    kernel::{Currency, HoldId, Money, OrderId, OsEntropy, Subject, Timestamp, VisitId},
};

pub(crate) fn performance_key() -> PerformanceKey {
    PerformanceKey {
        sale: "spring".parse().unwrap(),
        performance: "friday".parse().unwrap(),
    }
}

/// Seats whose name begins like this cost nothing.
const FREE: &str = "Free-";

pub(crate) fn seat(guid: &str) -> SeatInfo {
    let text = |text: &str| text.to_owned();
    let price = Money::new(if guid.starts_with(FREE) { 0 } else { 100 }, Currency::KRW);
    SeatInfo {
        guid: guid.into(),
        zone: text("R"),
        section: text("101"),
        row: text("A"),
        number: guid.into(),
        price,
    }
}

pub(crate) fn held_seats(seats: &[&str]) -> HeldSeats {
    let seats: Vec<_> = seats.iter().map(|guid| seat(guid)).collect();
    let total = Money::new(seats.iter().map(|seat| seat.price.amount).sum(), Currency::KRW);
    HeldSeats {
        performance_key: performance_key(),
        seats,
        total,
    }
}

pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_795_464_000_000 + ms)
}

pub(crate) fn lease_request(owner: &str, now_ms: i64) -> LeaseRequest {
    LeaseRequest {
        owner: owner.into(),
        now: at(now_ms),
        until: at(now_ms + 1_000),
    }
}

pub(crate) fn position(step: &str) -> Position {
    Position {
        saga: "purchase".into(),
        step: step.into(),
        undoing: false,
        attempts: 0,
        step_started_at: at(0),
    }
}

pub(crate) fn event(kind: &'static str) -> NewEvent {
    NewEvent {
        kind,
        data: "{}".into(),
    }
}

/// The events of an order, in the order of the feed.
pub(crate) async fn events_of(outbox: &dyn Outbox, order: OrderId) -> Vec<OutboxEvent> {
    outbox.number_events().await.unwrap();
    let all = outbox.events_after(0, u32::MAX >> 1).await.unwrap();
    let of_order = |(_, event): (i64, OutboxEvent)| (event.order() == Some(order)).then_some(event);
    all.into_iter().filter_map(of_order).collect()
}

pub(crate) fn tickets(seats: &[&str]) -> Vec<NewTicket> {
    seats
        .iter()
        .map(|seat| NewTicket {
            id: format!("{}-{seat}", HoldId::random(&OsEntropy)),
            seat: (*seat).into(),
        })
        .collect()
}

/// The first step is done and this one started, with trouble.
pub(crate) fn progress(step: &str) -> Progress {
    Progress {
        position: position(step),
        ended: false,
        stuck: true,
        reason: Some(Reason::HoldGone),
        log: vec![("begin".into(), "done"), (step.into(), "started")],
        at: at(6_000),
        lease_until: at(9_000),
    }
}

/// The request of one buyer for one hold.
#[derive(Clone)]
pub(crate) struct Request {
    pub(super) buyer: Subject,
    pub(super) hold: HoldId,
    pub(super) seats: Vec<String>,
    pub(super) key: String,
    pub(super) hash: String,
}

impl Request {
    pub(crate) fn new(buyer: u32, seats: &[&str]) -> Self {
        let hold = HoldId::random(&OsEntropy);
        Self {
            buyer: Subject::customer(&buyer.to_string()).unwrap(),
            hold,
            seats: seats.iter().map(|seat| (*seat).to_owned()).collect(),
            key: hold.to_string(),
            hash: "h".into(),
        }
    }

    /// The same buyer and hold under another key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self {
            key: key.into(),
            ..self.clone()
        }
    }

    pub(crate) fn order(&self) -> NewOrder {
        let seats: Vec<&str> = self.seats.iter().map(String::as_str).collect();
        NewOrder {
            id: OrderId::new(at(0), &OsEntropy),
            buyer: self.buyer.clone(),
            visit: VisitId::random(&OsEntropy),
            hold: self.hold,
            held_seats: held_seats(&seats),
            method: "card".into(),
            idempotency_key: self.key.clone(),
            request_hash: self.hash.clone(),
            position: position("begin"),
            payment_deadline: at(60_000),
        }
    }
}

pub(crate) async fn try_open(ledger: &dyn Ledger, request: &Request) -> Result<OpenOutcome, LedgerError> {
    ledger.open_order(request.order(), lease_request("a", 0)).await
}

pub(crate) async fn open(ledger: &dyn Ledger, request: &Request) -> FencedLease {
    match try_open(ledger, request).await.unwrap() {
        OpenOutcome::New(lease) => lease,
        other => panic!("{other:?}"),
    }
}
