//! Claims: one owner per seat, the quota, and booking.

use super::fixtures::{
    Request, at, event, events_of, lease_request, open, performance_key, position, tickets,
};
use crate::checkout::{
    ledger::port::{ClaimOutcome, Ledger, SagaStart},
    order::{Order, OrderState, Reason},
    outbox::{
        event::{ORDER_BOOKED, ORDER_CANCELED, ORDER_PAID, TICKET_VOIDED},
        port::Outbox,
    },
    types::ClaimedSeats,
};

pub(super) async fn a_seat_has_one_claim_and_its_fence_grows(ledger: &dyn Ledger) {
    let one = open(ledger, &Request::new(3, &["F-1", "F-2"])).await;
    let two = open(ledger, &Request::new(4, &["F-2", "F-3"])).await;
    assert_eq!(ledger.claim(one, 4, at(0)).await.unwrap(), ClaimOutcome::Claimed);
    assert_eq!(
        ledger.claim(one, 4, at(0)).await.unwrap(),
        ClaimOutcome::Claimed,
        "idempotent"
    );
    assert_eq!(
        ledger.claim(two, 4, at(0)).await.unwrap(),
        ClaimOutcome::SeatsTaken
    );
    let key = |order: Option<Order>| order.unwrap().payment_key.unwrap();
    assert_eq!(
        key(ledger.order(one.order).await.unwrap()),
        format!("{}:1", one.order)
    );
    ledger.release_claims(one, at(1)).await.unwrap();
    ledger.release_claims(one, at(1)).await.unwrap();
    assert_eq!(
        ledger.claim(two, 4, at(2)).await.unwrap(),
        ClaimOutcome::Claimed,
        "a failed claim left F-3 free"
    );
    assert_eq!(
        key(ledger.order(two.order).await.unwrap()),
        format!("{}:2", two.order),
        "F-2 was claimed before"
    );
}

pub(super) async fn concurrent_claims_give_each_seat_once(ledger: &dyn Ledger) {
    let mut leases = Vec::new();
    for buyer in 100..140 {
        leases.push(open(ledger, &Request::new(buyer, &["M-1", "M-2"])).await);
    }
    let claimed =
        futures_util::future::join_all(leases.iter().map(|lease| ledger.claim(*lease, 4, at(0)))).await;
    assert_eq!(
        claimed
            .iter()
            .filter(|outcome| matches!(outcome, Ok(ClaimOutcome::Claimed)))
            .count(),
        1
    );
    assert_eq!(
        claimed
            .iter()
            .filter(|outcome| matches!(outcome, Ok(ClaimOutcome::SeatsTaken)))
            .count(),
        39
    );
}

pub(super) async fn the_quota_is_enforced_and_restored(ledger: &dyn Ledger) {
    let first = open(ledger, &Request::new(5, &["Q-1", "Q-2"])).await;
    let second = open(ledger, &Request::new(5, &["Q-3"])).await;
    assert_eq!(
        ledger.claim(first, 2, at(0)).await.unwrap(),
        ClaimOutcome::Claimed
    );
    assert_eq!(
        ledger.claim(second, 2, at(0)).await.unwrap(),
        ClaimOutcome::QuotaReached
    );
    ledger.release_claims(first, at(0)).await.unwrap();
    assert_eq!(
        ledger.claim(second, 2, at(0)).await.unwrap(),
        ClaimOutcome::Claimed
    );
    let too_many = open(ledger, &Request::new(6, &["Q-4", "Q-5", "Q-6"])).await;
    assert_eq!(
        ledger.claim(too_many, 2, at(0)).await.unwrap(),
        ClaimOutcome::QuotaReached,
        "also for the first claim"
    );
    let other = open(ledger, &Request::new(7, &["Q-4"])).await;
    assert_eq!(
        ledger.claim(other, 2, at(0)).await.unwrap(),
        ClaimOutcome::Claimed,
        "a refused claim leaves no row"
    );
}

pub(super) async fn booking_happens_once_with_tickets_and_events<L: Ledger + Outbox>(ledger: &L) {
    let lease = open(ledger, &Request::new(8, &["B-1", "B-2"])).await;
    ledger.claim(lease, 4, at(0)).await.unwrap();
    assert!(
        !ledger
            .book(lease, tickets(&["B-1", "B-2"]), event(ORDER_BOOKED), at(1))
            .await
            .unwrap(),
        "not before the claims are locked"
    );
    assert!(ledger.lock_claims(lease).await.unwrap());
    assert!(ledger.lock_claims(lease).await.unwrap());
    for _ in 0..2 {
        assert!(
            ledger
                .book(lease, tickets(&["B-1", "B-2"]), event(ORDER_BOOKED), at(2))
                .await
                .unwrap()
        );
    }
    assert_eq!(ledger.tickets(lease.order).await.unwrap().len(), 2);
    for _ in 0..2 {
        ledger
            .record_capture(lease, event(ORDER_PAID), at(3))
            .await
            .unwrap();
    }
    assert_eq!(
        ledger.order(lease.order).await.unwrap().unwrap().state,
        OrderState::Paid
    );
    for _ in 0..2 {
        let events = vec![event(TICKET_VOIDED), event(TICKET_VOIDED)];
        ledger.void_tickets(lease, events, at(4)).await.unwrap();
    }
    assert_eq!(ledger.tickets(lease.order).await.unwrap(), []);
    ledger
        .close_order(
            lease,
            OrderState::Canceled,
            Some(event(ORDER_CANCELED)),
            None,
            at(5),
        )
        .await
        .unwrap();
    ledger
        .close_order(
            lease,
            OrderState::Canceled,
            Some(event(ORDER_CANCELED)),
            None,
            at(5),
        )
        .await
        .unwrap();
    let events = events_of(ledger, lease.order).await;
    let kinds: Vec<_> = events
        .iter()
        .map(|event| (event.id.sequence, event.kind.as_str()))
        .collect();
    assert_eq!(
        kinds,
        [
            (1, ORDER_BOOKED),
            (2, ORDER_PAID),
            (3, TICKET_VOIDED),
            (4, TICKET_VOIDED),
            (5, ORDER_CANCELED)
        ]
    );
}

pub(super) async fn nothing_is_booked_without_claims(ledger: &dyn Ledger) {
    let lease = open(ledger, &Request::new(9, &["N-1"])).await;
    ledger.claim(lease, 4, at(0)).await.unwrap();
    ledger.lock_claims(lease).await.unwrap();
    ledger.release_claims(lease, at(0)).await.unwrap();
    assert!(!ledger.lock_claims(lease).await.unwrap());
    assert!(
        !ledger
            .book(lease, tickets(&["N-1"]), event(ORDER_BOOKED), at(1))
            .await
            .unwrap()
    );
    assert_eq!(ledger.tickets(lease.order).await.unwrap(), []);
}

pub(super) async fn a_closed_attempt_claims_nothing(ledger: &dyn Ledger) {
    let lease = open(ledger, &Request::new(11, &["C-1"])).await;
    ledger
        .close_order(lease, OrderState::Expired, None, None, at(1))
        .await
        .unwrap();
    assert_eq!(
        ledger.claim(lease, 4, at(2)).await.unwrap(),
        ClaimOutcome::AttemptClosed
    );
    let start = SagaStart {
        from: OrderState::Expired,
        to: OrderState::InProgress,
        reason: Reason::LateMoney,
        position: position("x"),
        canceled_by: None,
    };
    let started = ledger.start_saga(lease.order, start, lease_request("b", 3));
    let reopened = started.await.unwrap().unwrap();
    assert_eq!(
        ledger.claim(reopened.lease, 4, at(4)).await.unwrap(),
        ClaimOutcome::Claimed
    );
}

pub(super) async fn claims_are_listed_for_a_restart(ledger: &dyn Ledger) {
    let request = Request::new(12, &["R-1", "R-2"]);
    let lease = open(ledger, &request).await;
    ledger.claim(lease, 4, at(0)).await.unwrap();
    let of = |claims: Vec<ClaimedSeats>| claims.into_iter().find(|claim| claim.hold == request.hold);
    let claim = of(ledger.claims(None, at(7)).await.unwrap()).unwrap();
    assert_eq!((claim.seats.len(), claim.booked, claim.until), (2, false, at(7)));
    assert_eq!(claim.buyer, request.buyer);
    let only = ["R-2".to_owned()];
    let some = ledger
        .claims(Some((&performance_key(), &only)), at(7))
        .await
        .unwrap();
    assert_eq!(some.len(), 1);
    assert_eq!(some[0].seats.len(), 2, "a claim is listed with all its seats");
    ledger.lock_claims(lease).await.unwrap();
    ledger
        .book(lease, tickets(&["R-1", "R-2"]), event(ORDER_BOOKED), at(1))
        .await
        .unwrap();
    assert!(of(ledger.claims(None, at(7)).await.unwrap()).unwrap().booked);
}
