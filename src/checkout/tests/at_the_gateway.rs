//! A buyer at the gateway's page: the time limit, a way back at once, and another card. On every ledger.

use std::{sync::Arc, time::Duration};

use testkit::Postgres;

use super::world::{PAYMENT_PAGE_TIMEOUT, World, buyer, request, sale_id};
use crate::{
    checkout::{CancelOutcome, OrderState, OrderView, PlaceOutcome, WebhookOutcome, payment::PaymentState},
    kernel::{Clock, HoldId, ManualClock, OrderId, Timestamp},
};

const A_MOMENT: Duration = Duration::from_millis(1);

pub(super) fn manual_clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_millis(1_795_464_000_000)))
}

/// A world on each kind of ledger, which share a clock.
pub(super) async fn worlds(clock: &Arc<ManualClock>) -> [World; 2] {
    let server = Arc::new(Postgres::start().await.unwrap());
    let clock = || Arc::clone(clock) as Arc<dyn Clock>;
    [
        World::by_clock(clock(), None).await,
        World::by_clock(clock(), Some(&server)).await,
    ]
}

/// The first buyer's hold on one seat, and the order that waits at the gateway's page for it.
pub(super) async fn at_the_gateway(world: &World) -> (HoldId, OrderView) {
    let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
    let PlaceOutcome::AwaitingPayment(order) = world.pay(1, hold, "tok_redirect", "k").await else {
        panic!("no redirect")
    };
    (hold, order)
}

pub(super) async fn payment_key(world: &World, id: OrderId) -> String {
    let order = world.checkout.context.ledger.order(id).await.unwrap();
    order.unwrap().payment_key.unwrap()
}

async fn order(world: &World, id: OrderId) -> OrderView {
    world.checkout.order(id, &buyer(1)).await.unwrap().unwrap()
}

/// The gateway breaks its word: the payment succeeds after it was voided.
async fn late_success(world: &World, id: OrderId) {
    let key = payment_key(world, id).await;
    let reference = "late".into();
    world.gateway.set(&key, PaymentState::Authorized { reference });
    let headers = [("signed-by-fake".to_owned(), "e1".to_owned())];
    let told = world.checkout.webhook("fake", &headers, key.as_bytes()).await;
    assert_eq!(told.unwrap(), WebhookOutcome::Accepted);
    world.wait_until_settled().await;
    assert_eq!(world.gateway.state(&key), Some(PaymentState::Voided));
}

#[tokio::test(flavor = "multi_thread")]
async fn canceling_at_the_gateway_frees_the_seats_at_once() {
    for world in worlds(&manual_clock()).await {
        let (_, waiting) = at_the_gateway(&world).await;
        let canceled = world.checkout.cancel(waiting.id, &buyer(1)).await.unwrap();
        let CancelOutcome::Canceled(canceled) = canceled else {
            panic!("{canceled:?}")
        };
        let told = (
            canceled.reason.as_deref(),
            canceled.action,
            canceled.payment_deadline,
        );
        assert_eq!(told, (Some("canceled_before_payment"), None, None));
        let key = payment_key(&world, waiting.id).await;
        assert_eq!(world.gateway.state(&key), Some(PaymentState::Voided));
        let next = world.seats.hold(&buyer(2), &["A-1"]).expect("free at once");
        assert!(matches!(
            world.checkout.cancel(waiting.id, &buyer(1)).await.unwrap(),
            CancelOutcome::Canceled(_)
        ));
        assert!(matches!(
            world
                .pay(
                    1,
                    world.seats.hold(&buyer(1), &["A-2"]).unwrap(),
                    "tok_redirect",
                    "k"
                )
                .await,
            PlaceOutcome::KeyReused
        ));

        let sold = world.pay(2, next, "tok_ok", "k").await;
        assert!(matches!(sold, PlaceOutcome::Paid(_)), "{sold:?}");
        late_success(&world, waiting.id).await;
        assert_eq!(order(&world, waiting.id).await.state, OrderState::Canceled);
        assert_eq!(world.checkout.stats()[&sale_id()].late_money, 1);
        world.check_invariants().await;
        world.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_before_the_cancellation_is_voided_or_paid() {
    for world in worlds(&manual_clock()).await {
        let (_, waiting) = at_the_gateway(&world).await;
        let key = payment_key(&world, waiting.id).await;
        let reference = "r".into();
        world.gateway.set(&key, PaymentState::Authorized { reference });
        let owner = buyer(1);
        let (_, canceled) = tokio::join!(
            world.checkout.confirm(waiting.id, &owner),
            world.checkout.cancel(waiting.id, &owner)
        );
        world.wait_until_settled().await;
        let ended = order(&world, waiting.id).await.state;
        let is_canceled = matches!(canceled.unwrap(), CancelOutcome::Canceled(_));
        assert_eq!(is_canceled, ended == OrderState::Canceled, "{ended:?}");
        world.check_invariants().await;
        world.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_order_frees_its_seats_at_its_deadline() {
    let clock = manual_clock();
    for world in worlds(&clock).await {
        let began = clock.now();
        let (_, waiting) = at_the_gateway(&world).await;
        let deadline = waiting.payment_deadline.unwrap();
        assert_eq!(deadline, began.plus(PAYMENT_PAGE_TIMEOUT), "as configured");

        clock.advance(PAYMENT_PAGE_TIMEOUT.saturating_sub(A_MOMENT));
        let confirmed = world.checkout.confirm(waiting.id, &buyer(1)).await.unwrap();
        assert!(matches!(confirmed, Some(PlaceOutcome::AwaitingPayment(_))));
        assert_eq!(order(&world, waiting.id).await.payment_deadline, Some(deadline));
        assert_eq!(world.seats.hold(&buyer(2), &["A-1"]), None);

        clock.advance(A_MOMENT);
        world.wait_until_settled().await;
        let ended = order(&world, waiting.id).await;
        let told = (ended.state, ended.reason.as_deref());
        assert_eq!(told, (OrderState::Canceled, Some("payment_page_timed_out")));
        assert!(world.seats.hold(&buyer(2), &["A-1"]).is_some(), "free");
        late_success(&world, waiting.id).await;
        assert_eq!(order(&world, waiting.id).await.state, OrderState::Canceled);
        world.check_invariants().await;
        world.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_card_replaces_the_payment_at_the_gateway() {
    for world in worlds(&manual_clock()).await {
        let (hold, waiting) = at_the_gateway(&world).await;
        let again = world.pay(1, hold, "tok_redirect", "k").await;
        assert!(matches!(&again, PlaceOutcome::AwaitingPayment(order) if order.id == waiting.id));

        let PlaceOutcome::AwaitingPayment(second) = world.pay(1, hold, "tok_redirect", "k2").await else {
            panic!("no second page")
        };
        assert_ne!(second.id, waiting.id);
        let PlaceOutcome::Paid(paid) = world.pay(1, hold, "tok_ok", "k3").await else {
            panic!("not paid")
        };
        assert_eq!(paid.seats, waiting.seats);
        for former in [waiting.id, second.id] {
            let former = order(&world, former).await;
            assert_eq!(former.reason.as_deref(), Some("replaced"));
        }
        let replayed = world.pay(1, hold, "tok_redirect", "k").await;
        assert!(matches!(replayed, PlaceOutcome::Declined { .. }), "{replayed:?}");

        late_success(&world, waiting.id).await;
        world.check_invariants().await;
        world.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_second_payment_begins_before_the_first_is_voided() {
    for world in worlds(&manual_clock()).await {
        let (hold, waiting) = at_the_gateway(&world).await;
        world.gateway.set_silent(true);
        let checkout = Arc::clone(&world.checkout);
        let second = request(1, hold, "tok_ok", "k2");
        let paying = tokio::spawn(async move { checkout.place_order(second).await.unwrap() });
        while order(&world, waiting.id).await.state != OrderState::Refunding {
            tokio::time::sleep(A_MOMENT).await;
        }
        tokio::time::sleep(A_MOMENT * 100).await;
        assert_eq!(world.gateway.authorize_calls(), 1);
        world.gateway.set_silent(false);
        let outcome = paying.await.unwrap();
        assert!(matches!(outcome, PlaceOutcome::Paid(_)), "{outcome:?}");
        world.wait_until_settled().await;
        world.check_invariants().await;
        world.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decline_at_the_gateway_leaves_the_hold() {
    for world in worlds(&manual_clock()).await {
        let (hold, waiting) = at_the_gateway(&world).await;
        let key = payment_key(&world, waiting.id).await;
        let reason = "declined_by_buyer".into();
        world.gateway.set(&key, PaymentState::Declined { reason });
        world.checkout.confirm(waiting.id, &buyer(1)).await.unwrap();
        world.wait_until_settled().await;
        assert_eq!(order(&world, waiting.id).await.state, OrderState::Declined);
        assert_eq!(world.seats.deadline(hold), waiting.payment_deadline);
        assert!(matches!(
            world.pay(1, hold, "tok_ok", "k2").await,
            PlaceOutcome::Paid(_)
        ));
        world.check_invariants().await;
        world.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn declined_cards_do_not_keep_seats_for_ever() {
    let clock = manual_clock();
    for world in worlds(&clock).await {
        let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
        let first = world.pay(1, hold, "tok_declined", "k1").await;
        assert!(
            matches!(
                first,
                PlaceOutcome::Declined {
                    is_hold_over: false,
                    ..
                }
            ),
            "{first:?}"
        );
        let end = clock.now().plus(PAYMENT_PAGE_TIMEOUT);
        assert_eq!(world.seats.deadline(hold), Some(end), "time for another card");

        clock.advance(PAYMENT_PAGE_TIMEOUT.saturating_sub(A_MOMENT));
        let second = world.pay(1, hold, "tok_declined", "k2").await;
        assert!(
            matches!(
                second,
                PlaceOutcome::Declined {
                    is_hold_over: false,
                    ..
                }
            ),
            "{second:?}"
        );
        assert_eq!(world.seats.deadline(hold), Some(end), "no more than before");

        // Begun in time, declined after it.
        let PlaceOutcome::AwaitingPayment(third) = world.pay(1, hold, "tok_redirect", "k3").await else {
            panic!("no redirect")
        };
        clock.advance(A_MOMENT);
        let other_card = world.pay(1, hold, "tok_ok", "k4").await;
        assert!(
            matches!(&other_card, PlaceOutcome::AwaitingPayment(order) if order.id == third.id),
            "the payment that can still succeed goes on: {other_card:?}"
        );
        let key = payment_key(&world, third.id).await;
        let reason = "insufficient_funds".into();
        world.gateway.set(&key, PaymentState::Declined { reason });
        let confirmed = world.checkout.confirm(third.id, &buyer(1)).await.unwrap();
        assert!(
            matches!(
                confirmed,
                Some(PlaceOutcome::Declined {
                    is_hold_over: true,
                    ..
                })
            ),
            "{confirmed:?}"
        );
        assert!(world.seats.hold(&buyer(2), &["A-1"]).is_some(), "free at once");
        let late = world.pay(1, hold, "tok_ok", "k5").await;
        assert!(matches!(late, PlaceOutcome::HoldGone { .. }), "{late:?}");
        world.check_invariants().await;
        world.shut_down().await;
    }
}
