//! What operators decide: dead letters and replays.

use super::{LedgerWithOutbox, accept, book, id_of, lease_one, pay, sale};
use crate::{
    checkout::{
        ledger::conformance::fixtures::at,
        outbox::{
            event::{VisitorEvent, visitor_called},
            port::{AfterFailure, ReplayRange},
        },
    },
    kernel::SaleId,
};

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

pub(crate) async fn all_dead_letters_of_a_sale_are_sent_again(ledger: &dyn LedgerWithOutbox) {
    for buyer in 1..=3 {
        book(ledger, buyer, 0).await;
    }
    for leased in ledger.lease_streams(at(0), at(1_000), 8).await.unwrap() {
        let dead = ledger.record_failure(&leased.lease, "answered 410", AfterFailure::Dead, at(1));
        dead.await.unwrap();
    }
    let autumn: SaleId = "autumn".parse().unwrap();
    let resend = async |sale: Option<&SaleId>, limit| {
        let resent = ledger.resend_dead_letters(sale, limit, at(2)).await;
        resent.unwrap()
    };
    assert_eq!(resend(Some(&autumn), 8).await, 0);
    assert_eq!(resend(Some(&sale()), 2).await, 2);
    assert_eq!(ledger.outbox_counts().await.unwrap().dead, 1);
    assert_eq!(resend(None, 8).await, 1);
    let again = ledger.lease_streams(at(2), at(1_002), 8).await.unwrap();
    assert_eq!(again.len(), 3);
    assert!(again.iter().all(|leased| leased.failing_since.is_none()));
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

/// A failure of the event that was being sent is not held against the one that comes before it now.
pub(crate) async fn a_replay_forgets_failures_and_ends_leases(ledger: &dyn LedgerWithOutbox) {
    let order = book(ledger, 1, 0).await;
    let first = lease_one(ledger, 0).await.unwrap();
    assert_eq!(accept(ledger, &first, 1).await, None);
    pay(ledger, order, 2).await;
    let second = lease_one(ledger, 2).await.unwrap();
    let failed = ledger.record_failure(
        &second.lease,
        "answered 500",
        AfterFailure::RetryAt(at(500)),
        at(3),
    );
    failed.await.unwrap();
    let second = lease_one(ledger, 500).await.unwrap();
    ledger.number_events().await.unwrap();
    let range = ReplayRange {
        sale: None,
        from: at(0),
        until: at(1),
    };
    assert_eq!(ledger.replay(&range, 0, 9, at(600)).await.unwrap().events, 1);
    let dead = ledger.record_failure(&second.lease, "answered 500", AfterFailure::Dead, at(601));
    dead.await.unwrap();
    assert_eq!(
        ledger.outbox_counts().await.unwrap().dead,
        0,
        "the lease had ended"
    );
    let again = lease_one(ledger, 601).await.unwrap();
    assert_eq!(
        (again.event.id.clone(), again.attempts, again.failing_since),
        (id_of(order, 1), 0, None)
    );
    let next = accept(ledger, &again, 602).await.unwrap();
    assert_eq!(next.event.id, id_of(order, 2));
}

/// Nothing of a call stays to be sent, and a replay does not repeat it.
pub(crate) async fn a_call_expires_and_is_not_replayed(ledger: &dyn LedgerWithOutbox) {
    let called = |arrival| {
        let visitor = VisitorEvent {
            sale: sale(),
            customer: "4711".to_owned(),
            enter_by: None,
        };
        visitor_called(&visitor, arrival, at(0))
    };
    for _ in 0..2 {
        let events = vec![called(1), called(2), called(1)];
        ledger.record_events(&sale(), events).await.unwrap();
    }
    let leased = ledger.lease_streams(at(0), at(1_000), 8).await.unwrap();
    let [first, second] = &leased[..] else {
        panic!("two calls: {leased:?}");
    };
    assert_eq!((&first.event.sale, first.event.order()), (&sale(), None));
    let expired = ledger.record_failure(&first.lease, "answered 500", AfterFailure::Expired, at(1));
    expired.await.unwrap();
    let late = ledger.record_failure(&first.lease, "answered 500", AfterFailure::Dead, at(2));
    late.await.unwrap();
    assert_eq!(accept(ledger, second, 2).await, None);
    let counts = ledger.outbox_counts().await.unwrap();
    assert_eq!((counts.undelivered, counts.dead), (0, 0));
    assert_eq!(lease_one(ledger, 99_000).await, None);
    ledger.number_events().await.unwrap();
    let range = ReplayRange {
        sale: None,
        from: at(0),
        until: at(99_000),
    };
    assert_eq!(ledger.replay(&range, 0, 9, at(99_000)).await.unwrap().events, 0);
}
