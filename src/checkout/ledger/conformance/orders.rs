//! Orders: idempotency, leases, webhooks, late payments, and the epochs of seat stores.

use std::time::Duration;

use super::fixtures::{
    Request, at, event, lease_request, open, performance_key, position, progress, tickets, try_open,
};
use crate::{
    checkout::{
        ledger::port::{FencedLease, Ledger, LedgerError, OpenOutcome, Position, SagaStart, SeatStoreEpoch},
        order::{OrderState, Reason},
        outbox::event::ORDER_BOOKED,
        outcomes::OperatorCancellation,
        types::PerformanceKey,
    },
    kernel::{Subject, Timestamp},
};

pub(super) async fn one_idempotency_key_is_one_order(ledger: &dyn Ledger) {
    let request = Request::new(1, &["K-1"]);
    let opened = futures_util::future::join_all(
        (0..8).map(|_| ledger.open_order(request.order(), lease_request("a", 0))),
    )
    .await;
    let new: Vec<_> = opened
        .iter()
        .filter_map(|outcome| {
            if let Ok(OpenOutcome::New(lease)) = outcome {
                Some(lease.order)
            } else {
                None
            }
        })
        .collect();
    assert_eq!(new.len(), 1);
    assert!(opened.iter().all(
        |outcome| matches!(outcome, Ok(OpenOutcome::New(lease)) if lease.order == new[0])
            || matches!(outcome, Ok(OpenOutcome::Existing(id)) if *id == new[0])
    ));
    let other_body = Request {
        hash: "other".into(),
        ..request.clone()
    };
    assert_eq!(
        ledger
            .open_order(other_body.order(), lease_request("a", 0))
            .await
            .unwrap(),
        OpenOutcome::KeyReused
    );
    assert_eq!(
        ledger
            .idempotency_record(&request.buyer, &request.key)
            .await
            .unwrap()
            .map(|record| record.order),
        Some(new[0])
    );
    let other_buyer = Subject::customer("other").unwrap();
    assert_eq!(
        ledger
            .idempotency_record(&other_buyer, &request.key)
            .await
            .unwrap(),
        None,
        "a key belongs to its buyer"
    );
}

pub(super) async fn one_hold_has_one_open_attempt(ledger: &dyn Ledger) {
    let request = Request::new(2, &["H-1"]);
    let first = open(ledger, &request).await;
    let second_click = Request {
        key: "second".into(),
        ..request.clone()
    };
    assert_eq!(
        ledger
            .open_order(second_click.order(), lease_request("a", 0))
            .await
            .unwrap(),
        OpenOutcome::Existing(first.order)
    );
    assert_eq!(ledger.first_failure_at(request.hold).await.unwrap(), None);
    ledger
        .close_order(first, OrderState::Declined, None, None, at(1))
        .await
        .unwrap();
    let other_card = open(ledger, &request.with_key("third")).await;
    ledger
        .close_order(other_card, OrderState::Declined, None, None, at(3))
        .await
        .unwrap();
    let failed_at = ledger.first_failure_at(request.hold).await.unwrap();
    assert_eq!(failed_at, Some(at(1)), "the first, whatever fails later");
}

/// An order whose buyer is at the gateway's page until the given time.
async fn awaiting(ledger: &dyn Ledger, request: &Request, until: Timestamp) -> FencedLease {
    let lease = open(ledger, request).await;
    ledger.claim(lease, 4, at(0)).await.unwrap();
    ledger.lock_claims(lease).await.unwrap();
    let page = "https://bank/page";
    ledger.await_payment(lease, page, until, at(1)).await.unwrap();
    lease
}

pub(super) async fn an_order_that_awaits_its_buyer_is_not_joined(ledger: &dyn Ledger) {
    let request = Request::new(14, &["B-1"]);
    let waiting = awaiting(ledger, &request, at(9_000)).await;
    let other_card = request.with_key("another card");
    for _ in 0..2 {
        let opened = ledger.open_order(other_card.order(), lease_request("a", 2)).await;
        assert_eq!(opened.unwrap(), OpenOutcome::AwaitingBuyer(waiting.order));
    }
    let record = ledger.idempotency_record(&request.buyer, &other_card.key).await;
    assert_eq!(record.unwrap(), None, "nothing was written");
    assert_eq!(
        try_open(ledger, &request).await.unwrap(),
        OpenOutcome::Existing(waiting.order),
        "its own key finds it"
    );
    let claims = ledger.claims(None, at(7)).await.unwrap();
    let claim = claims.iter().find(|claim| claim.hold == request.hold).unwrap();
    assert_eq!(claim.until, at(9_000), "until its own deadline");

    ledger.release_claims(waiting, at(3)).await.unwrap();
    ledger
        .close_order(waiting, OrderState::Canceled, None, None, at(3))
        .await
        .unwrap();
    let opened = ledger.open_order(other_card.order(), lease_request("a", 4)).await;
    assert!(matches!(opened.unwrap(), OpenOutcome::New(_)));
}

pub(super) async fn an_order_that_awaits_its_buyer_is_undone_for_good(ledger: &dyn Ledger) {
    let waiting = awaiting(ledger, &Request::new(15, &["B-2"]), at(9_000)).await;
    let undone = Position {
        undoing: true,
        ..position("authorize")
    };
    let start = SagaStart {
        from: OrderState::AwaitingPayment,
        to: OrderState::Refunding,
        reason: Reason::CanceledBeforePayment,
        position: undone.clone(),
        canceled_by: None,
    };
    let cancel = || ledger.start_saga(waiting.order, start.clone(), lease_request("b", 2));
    assert_eq!(cancel().await.unwrap().unwrap().position, undone);
    assert!(cancel().await.unwrap().is_none(), "once");
    let booked = ledger.book(waiting, tickets(&["B-2"]), event(ORDER_BOOKED), at(3));
    assert!(matches!(booked.await, Err(LedgerError::LeaseLost)));
    let due = ledger
        .lease_due_sagas(lease_request("c", 5_000), false, 1_000)
        .await;
    let due = due.unwrap();
    let resumed = due.iter().find(|saga| saga.lease.order == waiting.order).unwrap();
    assert!(resumed.position.undoing, "also in the process that resumes it");
    let log = ledger.saga_log(waiting.order).await.unwrap();
    assert_eq!(log.last().unwrap().state, "canceled");
    ledger.release_claims(resumed.lease, at(4)).await.unwrap();
}

pub(super) async fn an_old_lease_changes_nothing(ledger: &dyn Ledger) {
    let old = open(ledger, &Request::new(10, &["O-1"])).await;
    let due = ledger
        .lease_due_sagas(lease_request("b", 500), false, 1_000)
        .await
        .unwrap();
    assert!(
        due.iter().all(|saga| saga.lease.order != old.order),
        "its lease has not expired"
    );
    let due = ledger
        .lease_due_sagas(lease_request("b", 5_000), false, 1_000)
        .await
        .unwrap();
    let new = due.iter().find(|saga| saga.lease.order == old.order).unwrap();
    assert_eq!(
        (new.position.step.as_str(), new.lease.fence),
        ("begin", old.fence + 1)
    );
    assert!(matches!(
        ledger.claim(old, 4, at(0)).await,
        Err(LedgerError::LeaseLost)
    ));
    assert!(matches!(
        ledger
            .close_order(old, OrderState::Declined, None, None, at(0))
            .await,
        Err(LedgerError::LeaseLost)
    ));
    let progress = progress("claim");
    assert!(matches!(
        ledger.record_progress(old, progress.clone()).await,
        Err(LedgerError::LeaseLost)
    ));
    ledger.record_progress(new.lease, progress).await.unwrap();
    let order = ledger.order(old.order).await.unwrap().unwrap();
    assert!(order.stuck && order.reason == Some(Reason::HoldGone));
    let log = ledger.saga_log(old.order).await.unwrap();
    let listed: Vec<_> = log
        .iter()
        .map(|entry| (entry.step.as_str(), entry.state.as_str()))
        .collect();
    assert_eq!(
        listed,
        [("begin", "started"), ("begin", "done"), ("claim", "started")]
    );
    let own = ledger
        .lease_due_sagas(lease_request("b", 6_001), true, 1_000)
        .await
        .unwrap();
    assert!(
        own.iter()
            .any(|saga| saga.lease.order == old.order && saga.position.step == "claim"),
        "after a restart a node finds its own sagas"
    );
    let start = SagaStart {
        from: OrderState::Paid,
        to: OrderState::Refunding,
        reason: Reason::CanceledByBuyer,
        position: position("x"),
        canceled_by: None,
    };
    let started = ledger.start_saga(old.order, start, lease_request("b", 0));
    assert!(started.await.unwrap().is_none(), "it is not paid");
}

pub(super) async fn a_cancellation_by_an_operator_is_logged_as_such(ledger: &dyn Ledger) {
    let waiting = awaiting(ledger, &Request::new(16, &["B-3"]), at(9_000)).await;
    let start = SagaStart {
        from: OrderState::AwaitingPayment,
        to: OrderState::Refunding,
        reason: Reason::CanceledByOperatorBeforePayment,
        position: Position {
            undoing: true,
            ..position("authorize")
        },
        canceled_by: Some(OperatorCancellation {
            operator: "kim".into(),
            reason: "the artist is ill".into(),
        }),
    };
    let started = ledger.start_saga(waiting.order, start, lease_request("b", 2));
    let saga = started.await.unwrap().unwrap();
    let order = ledger.order(waiting.order).await.unwrap().unwrap();
    assert_eq!(order.reason, Some(Reason::CanceledByOperatorBeforePayment));
    let log = ledger.saga_log(waiting.order).await.unwrap();
    let last = log.last().unwrap();
    let told = (last.step.as_str(), last.state.as_str());
    assert_eq!(told, ("authorize", "canceled_by_operator"));
    ledger.release_claims(saga.lease, at(4)).await.unwrap();
}

pub(super) async fn webhooks_are_recorded_once(ledger: &dyn Ledger) {
    assert!(ledger.record_webhook("sandbox", "msg_1", at(0)).await.unwrap());
    assert!(!ledger.record_webhook("sandbox", "msg_1", at(0)).await.unwrap());
    assert!(ledger.record_webhook("other", "msg_1", at(0)).await.unwrap());
}

pub(super) async fn payments_are_checked_when_due(ledger: &dyn Ledger) {
    let lease = open(ledger, &Request::new(13, &["P-1"])).await;
    ledger
        .close_order(lease, OrderState::Declined, None, Some(at(100)), at(1))
        .await
        .unwrap();
    assert_eq!(ledger.payments_to_check(at(99), 10).await.unwrap(), []);
    assert_eq!(
        ledger.payments_to_check(at(100), 10).await.unwrap(),
        [lease.order]
    );
    ledger.schedule_payment_check(lease.order, None).await.unwrap();
    assert_eq!(
        ledger
            .payments_to_check(at(100).plus(Duration::from_secs(9)), 10)
            .await
            .unwrap(),
        []
    );
}

pub(super) async fn a_seat_store_epoch_is_advanced_once(ledger: &dyn Ledger) {
    let epoch_of = |epoch, identity: &str| SeatStoreEpoch {
        epoch,
        identity: identity.into(),
    };
    assert_eq!(
        ledger.seat_store_epoch(&performance_key()).await.unwrap(),
        epoch_of(0, "")
    );
    let key = performance_key();
    let advancing = ["one", "two", "three"].map(|identity| ledger.advance_epoch(&key, 0, identity));
    let listed: Vec<_> = futures_util::future::join_all(advancing)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(
        listed
            .iter()
            .all(|current| current.epoch == 1 && *current == listed[0]),
        "one advances, and all learn of it: {listed:?}"
    );
    assert_eq!(
        ledger.advance_epoch(&performance_key(), 1, "four").await.unwrap(),
        epoch_of(2, "four")
    );
    assert_eq!(
        ledger.advance_epoch(&performance_key(), 1, "one").await.unwrap(),
        epoch_of(2, "four"),
        "it saw an earlier epoch"
    );
    assert_eq!(
        ledger.advance_epoch(&performance_key(), 7, "one").await.unwrap(),
        epoch_of(2, "four"),
        "it saw an epoch that never was"
    );
    assert_eq!(
        ledger.seat_store_epoch(&performance_key()).await.unwrap(),
        epoch_of(2, "four")
    );
    let other = PerformanceKey {
        performance: "saturday".parse().unwrap(),
        ..performance_key()
    };
    assert_eq!(
        ledger.seat_store_epoch(&other).await.unwrap(),
        epoch_of(0, ""),
        "each performance has its own epoch"
    );
}
