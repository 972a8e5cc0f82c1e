//! The conformance suite that every outbox must pass. Each case runs on a ledger of its own.

use crate::{
    checkout::{
        ledger::{
            conformance::fixtures::{Request, at, event, open, tickets},
            port::{FencedLease, Ledger},
        },
        order::OrderState,
        outbox::{
            event::{ORDER_BOOKED, ORDER_CANCELED, ORDER_PAID, SALE_OPENED, SaleMilestone},
            port::{AfterFailure, EventId, LeasedEvent, Outbox, ReplayRange},
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

pub(crate) async fn a_dead_letter_stops_its_stream_only(ledger: &dyn LedgerWithOutbox) {
    let (order, other) = (book(ledger, 1, 0).await, book(ledger, 2, 0).await);
    for leased in ledger.lease_streams(at(0), at(1_000), 8).await.unwrap() {
        if leased.event.id == id_of(other, 1) {
            assert_eq!(accept(ledger, &leased, 1).await, None);
        } else {
            let dead = ledger.record_failure(&leased.lease, "answered 410", AfterFailure::Dead, at(1));
            dead.await.unwrap();
        }
    }
    pay(ledger, order, 2).await;
    pay(ledger, other, 2).await;
    let live = lease_one(ledger, 1_000_000).await.unwrap();
    assert_eq!(live.event.id, id_of(other, 2));
    assert_eq!(accept(ledger, &live, 1_000_000).await, None);
    let letters = ledger.dead_letters("", 8).await.unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((&letter.event.id, letter.dead_at), (&id_of(order, 1), at(1)));
    assert_eq!((letter.attempts, letter.last_error.as_str()), (1, "answered 410"));
    assert_eq!(letter.waiting, 1);
    assert_eq!(ledger.dead_letters(&letter.event.id.stream, 8).await.unwrap(), []);
    let counts = ledger.outbox_counts().await.unwrap();
    assert_eq!(
        (counts.undelivered, counts.dead, counts.oldest_at),
        (2, 1, Some(at(0)))
    );

    let now = at(1_000_001);
    for wrong in [id_of(order, 2), id_of(other, 1), id_of(other, 9)] {
        assert!(!ledger.resend_dead_letter(&wrong, now).await.unwrap(), "{wrong}");
        assert!(
            !ledger.skip_dead_letter(&wrong, "kim", now).await.unwrap(),
            "{wrong}"
        );
    }
    assert!(ledger.resend_dead_letter(&id_of(order, 1), now).await.unwrap());
    let again = lease_one(ledger, 1_000_001).await.unwrap();
    assert_eq!(
        (again.event.id.clone(), again.failing_since),
        (id_of(order, 1), None)
    );
    let dead = ledger.record_failure(&again.lease, "answered 410", AfterFailure::Dead, now);
    dead.await.unwrap();
    assert!(
        ledger
            .skip_dead_letter(&id_of(order, 1), "kim", now)
            .await
            .unwrap()
    );
    let next = lease_one(ledger, 1_000_001).await.unwrap();
    assert_eq!(next.event.id, id_of(order, 2));
    assert_eq!(accept(ledger, &next, 1_000_002).await, None);
    let counts = ledger.outbox_counts().await.unwrap();
    assert_eq!((counts.undelivered, counts.dead, counts.oldest_at), (0, 0, None));
}

pub(crate) async fn a_skipped_last_event_leaves_nothing_to_send(ledger: &dyn LedgerWithOutbox) {
    let order = book(ledger, 1, 0).await;
    let leased = lease_one(ledger, 0).await.unwrap();
    let dead = ledger.record_failure(&leased.lease, "answered 410", AfterFailure::Dead, at(1));
    dead.await.unwrap();
    assert!(
        ledger
            .skip_dead_letter(&id_of(order, 1), "kim", at(2))
            .await
            .unwrap()
    );
    assert_eq!(lease_one(ledger, 99_000).await, None);
}

pub(crate) async fn a_sales_event_is_recorded_once(ledger: &dyn LedgerWithOutbox) {
    for ms in 0..3 {
        for milestone in [SaleMilestone::Closed, SaleMilestone::Opened] {
            let (sequence, event) = (milestone as i64, milestone.event(&sale()));
            ledger
                .record_sale_event(&sale(), sequence, event, at(ms))
                .await
                .unwrap();
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
    let again = SaleMilestone::Opened;
    ledger
        .record_sale_event(&sale(), again as i64, again.event(&sale()), at(10))
        .await
        .unwrap();
    assert_eq!(lease_one(ledger, 99_000).await, None, "it was told before");
}

/// A range, whatever was delivered; a stopped stream is left out.
pub(crate) async fn a_range_is_sent_again(ledger: &dyn LedgerWithOutbox) {
    let (early, order, stopped) = (
        book(ledger, 1, 0).await,
        book(ledger, 2, 100).await,
        book(ledger, 3, 100).await,
    );
    pay(ledger, order, 200).await;
    for leased in ledger.lease_streams(at(300), at(1_300), 8).await.unwrap() {
        let mut next = Some(leased);
        while let Some(leased) = next {
            next = if leased.event.id == id_of(stopped, 1) {
                let dead = ledger.record_failure(&leased.lease, "answered 410", AfterFailure::Dead, at(301));
                dead.await.unwrap();
                None
            } else {
                accept(ledger, &leased, 301).await
            };
        }
    }
    ledger.number_events().await.unwrap();
    let range = |sale: Option<&str>, from, until| ReplayRange {
        sale: sale.map(|sale| sale.parse().unwrap()),
        from: at(from),
        until: at(until),
    };
    let mut marked = 0;
    for (range, expected) in [
        (range(Some("autumn"), 0, 1_000), 0),
        (range(None, 201, 1_000), 0),
        (range(Some("spring"), 100, 201), 2),
        (range(None, 100, 200), 0),
    ] {
        let mut after = Some(0);
        let mut events = 0;
        while let Some(position) = after {
            // One event a step, so that steps are shown to go on.
            let step = ledger.replay(&range, position, 1, at(400)).await.unwrap();
            events += step.events;
            after = step.next;
        }
        assert_eq!(events, expected, "{range:?}");
        marked += events;
    }
    assert_eq!(ledger.outbox_counts().await.unwrap().undelivered, marked + 1);
    let first = lease_one(ledger, 400).await.unwrap();
    assert_eq!(first.event.id, id_of(order, 1), "not {early:?}");
    let second = accept(ledger, &first, 401).await.unwrap();
    assert_eq!(second.event.id, id_of(order, 2));
    assert_eq!(accept(ledger, &second, 402).await, None);
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
            a_skipped_last_event_leaves_nothing_to_send
            a_sales_event_is_recorded_once
            a_range_is_sent_again
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
