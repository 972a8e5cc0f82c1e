//! What a buyer, a gateway and an operator can rely on.

use std::{sync::Arc, time::Duration};

use super::world::{CrashPoint, World, buyer, request, sale_id};
use crate::{
    checkout::{
        CancelOutcome, OrderState, PlaceOutcome, WebhookOutcome, payment::PaymentState, qr_png, qr_svg,
        verify_ticket,
    },
    platform::signing::{TokenError, VerifyingKeys},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_becomes_signed_tickets_with_a_history() {
    let world = World::new().await;
    let hold = world.seats.hold(&buyer(1), &["A-1", "A-2"]).unwrap();
    let PlaceOutcome::Paid(order) = world.pay(1, hold, "tok_ok", "k").await else {
        panic!("not paid")
    };
    assert_eq!(
        (order.state, order.total.amount, order.seats.len()),
        (OrderState::Paid, 200, 2)
    );
    world.wait_until_settled().await;
    world.check_invariants().await;

    let tickets = world
        .checkout
        .tickets(order.id, &buyer(1))
        .await
        .unwrap()
        .unwrap();
    let claims = verify_ticket(
        &VerifyingKeys::from_jwks(&world.keys().ticket.jwks()),
        &tickets[0].code,
    )
    .unwrap();
    assert_eq!(
        (claims.order, claims.seat.as_str(), claims.iss.as_str()),
        (order.id, "A-1", "https://tickets.example")
    );
    let forged = format!("{}x", tickets[0].code);
    assert!(matches!(
        verify_ticket(&VerifyingKeys::from_jwks(&world.keys().ticket.jwks()), &forged),
        Err(TokenError::Signature | TokenError::Malformed)
    ));
    assert!(qr_svg(&tickets[0].code).contains("<svg"));
    let png = qr_png(&tickets[0].code);
    assert_eq!(&png[1..4], b"PNG");

    let history = world
        .checkout
        .history(order.id, &buyer(1))
        .await
        .unwrap()
        .unwrap();
    let keys: Vec<_> = history.iter().map(|entry| entry.text_key).collect();
    let expected = [
        "begun",
        "claimed",
        "authorized",
        "booked",
        "captured",
        "delivered",
    ]
    .map(|key| format!("history.{key}"));
    assert_eq!(keys, expected, "no receiver is configured, so no shop was told");
    assert!(history.is_sorted_by_key(|entry| entry.at));

    let other = buyer(2);
    assert_eq!(world.checkout.order(order.id, &other).await.unwrap(), None);
    assert_eq!(world.checkout.tickets(order.id, &other).await.unwrap(), None);
    assert_eq!(world.checkout.history(order.id, &other).await.unwrap(), None);
    assert_eq!(
        world.checkout.cancel(order.id, &other).await.unwrap(),
        CancelOutcome::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_names_only_what_was_done() {
    let world = World::new().await;
    let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
    let PlaceOutcome::Declined { order, .. } = world.pay(1, hold, "tok_declined", "k").await else {
        panic!("not declined")
    };
    world.wait_until_settled().await;
    let history = world
        .checkout
        .history(order.id, &buyer(1))
        .await
        .unwrap()
        .unwrap();
    let keys: Vec<_> = history.iter().map(|entry| entry.text_key).collect();
    assert_eq!(
        keys,
        [
            "begun",
            "claimed",
            "authorizing",
            "refused",
            "claim_released",
            "hold_released"
        ]
        .map(|key| format!("history.{key}")),
        "a declined payment was never approved, so no approval was canceled"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_requests_are_one_order() {
    let world = World::new().await;
    let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
    let same = futures_util::future::join_all((0..6).map(|_| world.pay(1, hold, "tok_ok", "k"))).await;
    let other_keys = futures_util::future::join_all((0..3).map(|n| {
        let world = &world;
        async move { world.pay(1, hold, "tok_ok", &format!("k{n}")).await }
    }))
    .await;
    world.wait_until_settled().await;
    assert_eq!(world.orders().await.len(), 1);
    assert_eq!(world.gateway.authorize_calls(), 1);
    assert!(matches!(
        world.pay(1, hold, "tok_ok", "k").await,
        PlaceOutcome::Paid(_)
    ));
    assert_eq!(
        world.pay(1, hold, "tok_declined", "k").await,
        PlaceOutcome::KeyReused
    );
    let is_same_order = |outcome: &PlaceOutcome| {
        matches!(
            outcome,
            PlaceOutcome::Paid(_) | PlaceOutcome::InProgress(_) | PlaceOutcome::HoldGone { .. }
        )
    };
    assert!(
        same.iter().chain(&other_keys).all(is_same_order),
        "{same:?} {other_keys:?}"
    );
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_declined_card_the_hold_can_be_paid_again() {
    let world = World::new().await;
    let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
    let PlaceOutcome::Declined { order, reason, .. } = world.pay(1, hold, "tok_declined", "k1").await else {
        panic!("not declined")
    };
    assert_eq!(
        (reason.as_str(), order.state),
        ("declined:card_declined", OrderState::Declined)
    );
    assert_eq!(world.seats.is_paying(hold), Some(false), "held again");
    assert!(
        matches!(
            world.pay(1, hold, "tok_declined", "k1").await,
            PlaceOutcome::Declined { .. }
        ),
        "the same key, the same answer"
    );
    assert!(matches!(
        world.pay(1, hold, "tok_ok", "k2").await,
        PlaceOutcome::Paid(_)
    ));
    world.wait_until_settled().await;
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_granted_twice_is_refused_before_money_moves() {
    let world = World::new().await;
    let first = world.seats.hold(&buyer(1), &["A-1", "A-2"]).unwrap();
    assert!(matches!(
        world.pay(1, first, "tok_ok", "k").await,
        PlaceOutcome::Paid(_)
    ));
    world.seats.lose_data();
    let second = world
        .seats
        .hold(&buyer(2), &["A-2", "A-3"])
        .expect("the seat store has lost its data");
    let outcome = world.pay(2, second, "tok_ok", "k").await;
    assert!(
        matches!(&outcome, PlaceOutcome::HoldGone { alternatives } if !alternatives.is_empty()),
        "{outcome:?}"
    );
    assert_eq!(world.gateway.authorize_calls(), 1, "no money was requested");
    world.wait_until_settled().await;
    world.check_invariants().await;
    assert_eq!(
        world.seats.hold(&buyer(3), &["A-2"]),
        None,
        "the seat store has learned the owner"
    );
    assert!(
        world.seats.hold(&buyer(3), &["A-3"]).is_some(),
        "and which seat is free"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_counts_over_orders_and_is_restored() {
    let world = World::new().await;
    let three = world.seats.hold(&buyer(1), &["A-1", "A-2", "A-3"]).unwrap();
    let PlaceOutcome::Paid(order) = world.pay(1, three, "tok_ok", "k1").await else {
        panic!("not paid")
    };
    let two = world.seats.hold(&buyer(1), &["B-1", "B-2"]).unwrap();
    assert_eq!(
        world.pay(1, two, "tok_ok", "k2").await,
        PlaceOutcome::QuotaReached { limit: 4 }
    );
    assert!(matches!(
        world.checkout.cancel(order.id, &buyer(1)).await.unwrap(),
        CancelOutcome::Canceled(_)
    ));
    assert!(matches!(
        world.pay(1, two, "tok_ok", "k3").await,
        PlaceOutcome::Paid(_)
    ));
    world.wait_until_settled().await;
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_order_is_refunded_and_its_seats_are_free() {
    let world = World::new().await;
    let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
    let PlaceOutcome::Paid(order) = world.pay(1, hold, "tok_ok", "k").await else {
        panic!("not paid")
    };
    assert!(matches!(
        world.checkout.cancel(order.id, &buyer(1)).await.unwrap(),
        CancelOutcome::Canceled(_)
    ));
    assert!(
        matches!(
            world.checkout.cancel(order.id, &buyer(1)).await.unwrap(),
            CancelOutcome::Canceled(_)
        ),
        "idempotent"
    );
    world.wait_until_settled().await;
    world.check_invariants().await;
    let key = world.orders().await[0].payment_key.clone().unwrap();
    assert_eq!(world.gateway.state(&key), Some(PaymentState::Refunded));
    assert_eq!(
        world.checkout.tickets(order.id, &buyer(1)).await.unwrap(),
        Some(vec![])
    );
    assert!(world.seats.hold(&buyer(2), &["A-1"]).is_some());
    assert!(matches!(world.pay(1, hold, "tok_ok", "k").await,
                 PlaceOutcome::Paid(view) if view.state == OrderState::Canceled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_answer_is_looked_up() {
    let world = World::new().await;
    let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
    assert!(matches!(
        world.pay(1, hold, "tok_timeout_after_success", "k").await,
        PlaceOutcome::Paid(_)
    ));
    world.wait_until_settled().await;
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_stays_unknown_is_voided_first() {
    let world = World::new().await;
    let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
    let outcome = world.pay(1, hold, "tok_never_arrives", "k").await;
    assert!(
        matches!(&outcome, PlaceOutcome::Declined { reason, .. } if reason == "timed_out"),
        "{outcome:?}"
    );
    let key = world.orders().await[0].payment_key.clone().unwrap();
    assert_eq!(
        world.gateway.state(&key),
        Some(PaymentState::Voided),
        "confirmed, so that no money can arrive late"
    );
    world.wait_until_settled().await;
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_gateway_is_asked_until_it_answers() {
    let world = World::with(CrashPoint::never(), Duration::from_millis(100)).await;
    let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
    world.gateway.set_silent(true);
    let paying = tokio::spawn({
        let (checkout, request) = (Arc::clone(&world.checkout), request(1, hold, "tok_ok", "k"));
        async move { checkout.place_order(request).await.unwrap() }
    });
    while world.checkout.stuck_count().await.unwrap() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let order = world.orders().await.remove(0);
    assert_eq!(order.view().state, OrderState::Stuck, "operators can see it");
    assert_eq!(
        world
            .checkout
            .context
            .ledger
            .claims(None, order.created_at)
            .await
            .unwrap()
            .len(),
        1,
        "the seats are ledger_home"
    );
    world.gateway.set_silent(false);
    assert!(matches!(paying.await.unwrap(), PlaceOutcome::Declined { .. }));
    world.wait_until_settled().await;
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_capture_returns_money_and_seats() {
    let world = World::new().await;
    let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
    let outcome = world.pay(1, hold, "tok_capture_fails", "k").await;
    assert!(
        matches!(&outcome, PlaceOutcome::Declined { reason, .. } if reason.starts_with("capture_refused")),
        "{outcome:?}"
    );
    world.wait_until_settled().await;
    assert_eq!(world.orders().await[0].state, OrderState::Refunded);
    assert!(world.seats.hold(&buyer(2), &["A-1"]).is_some());
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_finished_when_the_buyer_returns() {
    let world = World::new().await;
    let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
    let PlaceOutcome::AwaitingPayment(order) = world.pay(1, hold, "tok_redirect", "k").await else {
        panic!("no redirect")
    };
    assert_eq!(order.action.unwrap().url, "https://bank/page");
    assert!(matches!(
        world.checkout.confirm(order.id, &buyer(1)).await.unwrap(),
        Some(PlaceOutcome::AwaitingPayment(_))
    ));
    let key = world.orders().await[0].payment_key.clone().unwrap();
    world.gateway.set(
        &key,
        PaymentState::Authorized {
            reference: "r".into(),
        },
    );
    while !matches!(
        world.checkout.confirm(order.id, &buyer(1)).await.unwrap(),
        Some(PlaceOutcome::Paid(_))
    ) {}
    assert_eq!(world.checkout.confirm(order.id, &buyer(2)).await.unwrap(), None);
    world.wait_until_settled().await;
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_survives_a_restart_and_times_out() {
    let mut world = World::with(CrashPoint::never(), Duration::from_millis(200)).await;
    let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
    assert!(matches!(
        world.pay(1, hold, "tok_redirect", "k").await,
        PlaceOutcome::AwaitingPayment(_)
    ));
    world.restart(CrashPoint::never()).await;
    assert_eq!(
        world.seats.hold(&buyer(2), &["A-1"]),
        None,
        "claims are restored before anything is served"
    );
    world.wait_until_settled().await;
    assert_eq!(world.orders().await[0].state, OrderState::Canceled);
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn late_money_gets_its_seats_or_is_refunded() {
    for seat_is_free in [true, false] {
        let world = World::new().await;
        let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
        assert!(matches!(
            world.pay(1, hold, "tok_never_arrives", "k").await,
            PlaceOutcome::Declined { .. }
        ));
        let order = world.orders().await.remove(0);
        let key = order.payment_key.clone().unwrap();
        if !seat_is_free {
            world.seats.lose_data();
            let rival = world.seats.hold(&buyer(2), &["A-1"]).unwrap();
            assert!(matches!(
                world.pay(2, rival, "tok_ok", "k").await,
                PlaceOutcome::Paid(_)
            ));
        }
        // The gateway breaks its word: a voided payment is authorized after all.
        world.gateway.set(
            &key,
            PaymentState::Authorized {
                reference: "late".into(),
            },
        );
        world.gateway.payments.lock().get_mut(&key).unwrap().amount = Some(order.total);
        let headers = [("signed-by-fake".to_owned(), "e1".to_owned())];
        assert_eq!(
            world
                .checkout
                .webhook("fake", &headers, key.as_bytes())
                .await
                .unwrap(),
            WebhookOutcome::Accepted
        );
        assert_eq!(
            world
                .checkout
                .webhook("fake", &headers, key.as_bytes())
                .await
                .unwrap(),
            WebhookOutcome::Ignored
        );
        world.wait_until_settled().await;
        let ended = world.checkout.order(order.id, &buyer(1)).await.unwrap().unwrap();
        assert_eq!(
            ended.state,
            if seat_is_free {
                OrderState::Paid
            } else {
                OrderState::Refunded
            }
        );
        assert_eq!(world.checkout.stats()[&sale_id()].late_money, 1);
        world.check_invariants().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_and_unknown_webhooks_change_nothing() {
    let world = World::new().await;
    assert_eq!(
        world.checkout.webhook("fake", &[], b"x").await.unwrap(),
        WebhookOutcome::Refused
    );
    assert_eq!(
        world.checkout.webhook("other", &[], b"x").await.unwrap(),
        WebhookOutcome::Refused
    );
    let headers = [("signed-by-fake".to_owned(), "e1".to_owned())];
    assert_eq!(
        world
            .checkout
            .webhook("fake", &headers, b"no such payment")
            .await
            .unwrap(),
        WebhookOutcome::Ignored
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_is_kept_alive_only_by_its_payment() {
    let world = World::new().await;
    let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
    let request = request(1, hold, "tok_redirect", "k");
    let visit = request.visit;
    assert!(!world.checkout.visits_with_payment().contains(&visit));
    assert!(matches!(
        world.checkout.place_order(request).await.unwrap(),
        PlaceOutcome::AwaitingPayment(_)
    ));
    assert!(world.checkout.visits_with_payment().contains(&visit));
    let key = world.orders().await[0].payment_key.clone().unwrap();
    world
        .gateway
        .set(&key, PaymentState::Declined { reason: "no".into() });
    world.wait_until_settled().await;
    assert!(!world.checkout.visits_with_payment().contains(&visit));
}
