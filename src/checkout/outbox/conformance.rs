//! The conformance suite that every outbox must pass. Each case runs on a ledger of its own.

mod decisions;

pub(crate) use self::decisions::*;

use crate::{
    checkout::{
        ledger::{
            conformance::fixtures::{Request, at, event, open, tickets},
            port::{FencedLease, Ledger},
        },
        order::OrderState,
        outbox::{
            event::{ORDER_BOOKED, ORDER_CANCELED, ORDER_PAID, SALE_OPENED, SaleMilestone},
            port::{AfterFailure, EventId, LeasedEvent, Outbox},
        },
    },
    kernel::SaleId,
};

/// A ledger that has an outbox.
pub(crate) trait LedgerWithOutbox: Ledger + Outbox {}

impl<L: Ledger + Outbox> LedgerWithOutbox for L {}

fn sale() -> SaleId {
    "spring".parse().unwrap()
}

fn id_of(order: FencedLease, sequence: i64) -> EventId {
    EventId {
        stream: order.order.to_string(),
        sequence,
    }
}

/// A booked order, with the first event of its stream.
pub(crate) async fn book(ledger: &dyn LedgerWithOutbox, buyer: u32, ms: i64) -> FencedLease {
    let seat = format!("E-{buyer}");
    let lease = open(ledger, &Request::new(buyer, &[&seat])).await;
    ledger.claim(lease, 4, at(ms)).await.unwrap();
    assert!(ledger.lock_claims(lease).await.unwrap());
    let (tickets, booked) = (tickets(&[&seat]), event(ORDER_BOOKED));
    assert!(ledger.book(lease, tickets, booked, at(ms)).await.unwrap());
    lease
}

pub(crate) async fn pay(ledger: &dyn LedgerWithOutbox, order: FencedLease, ms: i64) {
    ledger
        .record_capture(order, event(ORDER_PAID), at(ms))
        .await
        .unwrap();
}

async fn lease_one(outbox: &dyn Outbox, ms: i64) -> Option<LeasedEvent> {
    let mut leased = outbox.lease_streams(at(ms), at(ms + 1_000), 8).await.unwrap();
    assert!(leased.len() <= 1, "{leased:?}");
    leased.pop()
}

async fn accept(outbox: &dyn Outbox, leased: &LeasedEvent, ms: i64) -> Option<LeasedEvent> {
    let sequence = leased.event.id.sequence;
    outbox
        .record_accepted(&leased.lease, sequence, at(ms), at(ms + 1_000))
        .await
        .unwrap()
}

pub(crate) async fn events_of_a_stream_are_leased_in_order(ledger: &dyn LedgerWithOutbox) {
    let order = book(ledger, 1, 0).await;
    pay(ledger, order, 1).await;
    let first = lease_one(ledger, 2).await.unwrap();
    assert_eq!((first.event.id.clone(), first.attempts), (id_of(order, 1), 0));
    assert_eq!(
        (first.event.sale.clone(), first.event.order()),
        (sale(), Some(order.order))
    );
    assert_eq!(lease_one(ledger, 900).await, None, "leased");
    let second = accept(ledger, &first, 900).await.unwrap();
    assert_eq!(second.event.id, id_of(order, 2));
    assert_eq!(lease_one(ledger, 1_800).await, None, "the lease was renewed");
    assert_eq!(accept(ledger, &second, 1_800).await, None);
    assert_eq!(lease_one(ledger, 99_000).await, None, "nothing is left");
    ledger
        .close_order(
            order,
            OrderState::Canceled,
            Some(event(ORDER_CANCELED)),
            None,
            at(99_000),
        )
        .await
        .unwrap();
    let third = lease_one(ledger, 99_001).await.unwrap();
    assert_eq!(third.event.id, id_of(order, 3));
}

pub(crate) async fn a_lease_passes_on_when_it_ends(ledger: &dyn LedgerWithOutbox) {
    let order = book(ledger, 1, 0).await;
    let dead = lease_one(ledger, 0).await.unwrap();
    assert_eq!(lease_one(ledger, 999).await, None);
    let heir = lease_one(ledger, 1_000).await.unwrap();
    assert_eq!(heir.event.id, id_of(order, 1));
    assert_eq!(accept(ledger, &dead, 1_001).await, None, "its lease is lost");
    ledger
        .record_failure(&dead.lease, "late", AfterFailure::Dead, at(1_001))
        .await
        .unwrap();
    ledger.release_stream(&dead.lease, at(1_001)).await.unwrap();
    assert_eq!(lease_one(ledger, 1_001).await, None, "the heir's lease goes on");
    assert_eq!(ledger.outbox_counts().await.unwrap().undelivered, 1);
    assert_eq!(accept(ledger, &heir, 1_002).await, None);
    assert_eq!(ledger.outbox_counts().await.unwrap().undelivered, 0);
}

pub(crate) async fn a_released_stream_is_due_at_once(ledger: &dyn LedgerWithOutbox) {
    book(ledger, 1, 0).await;
    let leased = lease_one(ledger, 0).await.unwrap();
    ledger.release_stream(&leased.lease, at(1)).await.unwrap();
    assert!(lease_one(ledger, 1).await.is_some());
}

/// An event that is written while its stream is leased, failing or dead does not overtake the earlier ones.
pub(crate) async fn a_failing_event_delays_the_later_ones(ledger: &dyn LedgerWithOutbox) {
    let order = book(ledger, 1, 0).await;
    let first = lease_one(ledger, 0).await.unwrap();
    pay(ledger, order, 1).await;
    assert_eq!(lease_one(ledger, 1).await, None);
    ledger
        .record_failure(
            &first.lease,
            "answered 500",
            AfterFailure::RetryAt(at(5_000)),
            at(2),
        )
        .await
        .unwrap();
    assert_eq!(lease_one(ledger, 4_999).await, None);
    let again = lease_one(ledger, 5_000).await.unwrap();
    assert_eq!(
        (again.event.id.clone(), again.attempts, again.failing_since),
        (id_of(order, 1), 1, Some(at(2)))
    );
    let next = accept(ledger, &again, 5_001).await.unwrap();
    assert_eq!(
        (next.event.id, next.attempts, next.failing_since),
        (id_of(order, 2), 0, None)
    );
}

pub(crate) async fn a_sales_event_is_recorded_once(ledger: &dyn LedgerWithOutbox) {
    for ms in 0..3 {
        for milestone in [SaleMilestone::Closed, SaleMilestone::Opened] {
            let event = milestone.event(&sale(), at(ms));
            ledger.record_events(&sale(), vec![event]).await.unwrap();
        }
    }
    let opened = lease_one(ledger, 9).await.unwrap();
    assert_eq!(
        (opened.event.kind.as_str(), opened.event.at),
        (SALE_OPENED, at(0))
    );
    assert_eq!(
        (opened.event.order(), opened.event.id.stream.as_str()),
        (None, "spring")
    );
    let closed = accept(ledger, &opened, 9).await.unwrap();
    assert_eq!(closed.event.id.sequence, 3);
    assert_eq!(accept(ledger, &closed, 9).await, None);
    let again = SaleMilestone::Opened.event(&sale(), at(10));
    ledger.record_events(&sale(), vec![again]).await.unwrap();
    assert_eq!(lease_one(ledger, 99_000).await, None, "it was told before");
}

pub(crate) async fn the_feed_gives_every_event_once_in_order(ledger: &dyn LedgerWithOutbox) {
    let mut orders = Vec::new();
    for buyer in 0..3 {
        orders.push(book(ledger, buyer, 0).await);
    }
    let (mut after, mut seen) = (0, Vec::new());
    for round in 0..4 {
        ledger.number_events().await.unwrap();
        loop {
            let page = ledger.events_after(after, 2).await.unwrap();
            assert!(page.len() <= 2);
            let Some((last, _)) = page.last() else { break };
            assert!(*last > after);
            after = *last;
            seen.extend(page.into_iter().map(|(_, event)| event.id));
        }
        if let Some(order) = orders.get(round) {
            pay(ledger, *order, 1).await;
        }
    }
    assert_eq!(seen.len(), 6);
    for order in orders {
        let place = |sequence| seen.iter().position(|id| *id == id_of(order, sequence)).unwrap();
        assert!(place(1) < place(2));
    }
    assert_eq!(ledger.number_events().await.unwrap(), 0, "all are numbered");
}

/// Runs every case, each on a ledger that `$open` makes.
macro_rules! outbox_conformance {
    ($open:expr) => {
        $crate::checkout::outbox::conformance::outbox_conformance!($open;
            events_of_a_stream_are_leased_in_order
            a_lease_passes_on_when_it_ends
            a_released_stream_is_due_at_once
            a_failing_event_delays_the_later_ones
            a_dead_letter_stops_its_stream_only
            all_dead_letters_of_a_sale_are_sent_again
            a_skipped_last_event_leaves_nothing_to_send
            a_sales_event_is_recorded_once
            a_range_is_sent_again
            a_replay_forgets_failures_and_ends_leases
            a_call_expires_and_is_not_replayed
            the_feed_gives_every_event_once_in_order
        );
    };
    ($open:expr; $($case:ident)*) => {
        $({
            let ledger = $open;
            $crate::checkout::outbox::conformance::$case(&ledger).await;
        })*
    };
}
pub(crate) use outbox_conformance;
