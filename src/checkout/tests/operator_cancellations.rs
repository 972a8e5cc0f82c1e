//! An operator cancels orders, also after the doors opened. On every ledger.

use std::sync::Arc;

use super::{
    at_the_gateway::{at_the_gateway, manual_clock, payment_key, worlds},
    world::{DOORS_OPEN_IN, World, buyer, request, sale_id},
};
use crate::{
    checkout::{
        CancelOutcome, OperatorCancellation, OrderState, OrderView, PlaceOutcome, payment::PaymentState,
    },
    kernel::{OrderId, OsEntropy},
};

pub(super) fn by_kim() -> OperatorCancellation {
    OperatorCancellation {
        operator: "kim".into(),
        reason: "the artist is ill".into(),
    }
}

async fn cancel(world: &World, id: OrderId) -> CancelOutcome {
    let sale = sale_id();
    let canceled = world.checkout.cancel_by_operator(&sale, id, by_kim());
    canceled.await.unwrap()
}

async fn paid(world: &World) -> OrderView {
    let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
    match world.pay(1, hold, "tok_ok", "k").await {
        PlaceOutcome::Paid(order) => order,
        other => panic!("{other:?}"),
    }
}

async fn history_keys(world: &World, id: OrderId) -> Vec<&'static str> {
    let history = world.checkout.history(id, &buyer(1)).await.unwrap().unwrap();
    history.iter().map(|entry| entry.text_key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_doors_only_an_operator_refunds_a_paid_order() {
    let clock = manual_clock();
    let mut sold = Vec::new();
    for world in worlds(&clock).await {
        let order = paid(&world).await;
        world.wait_until_settled().await;
        sold.push((world, order));
    }
    clock.advance(DOORS_OPEN_IN);
    for (world, order) in sold {
        let by_buyer = world.checkout.cancel(order.id, &buyer(1)).await.unwrap();
        assert!(matches!(by_buyer, CancelOutcome::DoorsOpen(_)), "{by_buyer:?}");

        let canceled = cancel(&world, order.id).await;
        let CancelOutcome::Canceled(view) = &canceled else {
            panic!("{canceled:?}")
        };
        let told = (view.state, view.reason.as_deref());
        assert_eq!(told, (OrderState::Canceled, Some("canceled_by_operator")));
        assert_eq!(cancel(&world, order.id).await, canceled, "the same answer");
        let by_buyer = world.checkout.cancel(order.id, &buyer(1)).await.unwrap();
        assert_eq!(by_buyer, canceled, "also for the buyer");

        let key = payment_key(&world, order.id).await;
        assert_eq!(world.gateway.state(&key), Some(PaymentState::Refunded));
        assert_eq!(world.gateway.payments.lock()[&key].refunds, 1);
        let tickets = world.checkout.tickets(order.id, &buyer(1)).await.unwrap();
        assert_eq!(tickets, Some(vec![]));
        // The order is canceled before its last step, which frees the seats, is done.
        world.wait_until_settled().await;
        assert!(world.seats.hold(&buyer(2), &["A-1"]).is_some(), "free");
        let history = history_keys(&world, order.id).await;
        assert_eq!(
            history[history.len() - 4..],
            ["canceled_by_operator", "tickets_voided", "refunded", "released"]
                .map(|key| format!("history.{key}"))
        );
        world.check_invariants().await;
        world.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_keeps_its_answer_after_an_operators_refund() {
    let world = World::new().await;
    let hold = world.seats.hold(&buyer(1), &["A-1"]).unwrap();
    let PlaceOutcome::Paid(order) = world.pay(1, hold, "tok_ok", "k").await else {
        panic!("not paid")
    };
    cancel(&world, order.id).await;
    let replayed = world.pay(1, hold, "tok_ok", "k").await;
    assert!(matches!(&replayed, PlaceOutcome::Paid(view) if view.state == OrderState::Canceled));
    world.wait_until_settled().await;
    assert_eq!(world.checkout.stats()[&sale_id()].refunded, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_voids_a_payment_at_the_gateway() {
    for world in worlds(&manual_clock()).await {
        let (_, waiting) = at_the_gateway(&world).await;
        let canceled = cancel(&world, waiting.id).await;
        let CancelOutcome::Canceled(view) = &canceled else {
            panic!("{canceled:?}")
        };
        let told = (view.state, view.reason.as_deref());
        let reason = Some("canceled_by_operator_before_payment");
        assert_eq!(told, (OrderState::Canceled, reason));
        assert_eq!(cancel(&world, waiting.id).await, canceled, "the same answer");
        let key = payment_key(&world, waiting.id).await;
        assert_eq!(world.gateway.state(&key), Some(PaymentState::Voided));
        assert!(world.seats.hold(&buyer(2), &["A-1"]).is_some(), "free at once");
        let history = history_keys(&world, waiting.id).await;
        assert!(history.contains(&"history.canceled_by_operator"), "{history:?}");
        assert!(!history.contains(&"history.payment_canceled"), "{history:?}");
        world.wait_until_settled().await;
        assert_eq!(world.checkout.stats()[&sale_id()].unpaid, 1);
        world.check_invariants().await;
        world.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_cancels_no_order_that_is_unknown_or_not_paid() {
    let world = World::new().await;
    let order = paid(&world).await;
    let other_sale = "autumn".parse().unwrap();
    let elsewhere = world.checkout.cancel_by_operator(&other_sale, order.id, by_kim());
    assert_eq!(elsewhere.await.unwrap(), CancelOutcome::NotFound);
    let unknown = OrderId::new(order.created_at, &OsEntropy);
    assert_eq!(cancel(&world, unknown).await, CancelOutcome::NotFound);

    let hold = world.seats.hold(&buyer(1), &["A-2"]).unwrap();
    let PlaceOutcome::Declined { order: declined, .. } = world.pay(1, hold, "tok_declined", "k2").await
    else {
        panic!("not declined")
    };
    let outcome = cancel(&world, declined.id).await;
    assert!(matches!(outcome, CancelOutcome::NotCancelable(_)), "{outcome:?}");

    world.gateway.set_silent(true);
    let (checkout, hold) = (
        Arc::clone(&world.checkout),
        world.seats.hold(&buyer(2), &["A-3"]).unwrap(),
    );
    let paying = tokio::spawn(async move { checkout.place_order(request(2, hold, "tok_ok", "k")).await });
    let settling = loop {
        let orders = world.checkout.orders_of(&sale_id(), &buyer(2)).await.unwrap();
        if let Some(order) = orders.first() {
            break order.id;
        }
        tokio::task::yield_now().await;
    };
    for outcome in [
        cancel(&world, settling).await,
        world.checkout.cancel(settling, &buyer(2)).await.unwrap(),
    ] {
        assert!(matches!(outcome, CancelOutcome::NotCancelable(_)), "{outcome:?}");
    }
    world.gateway.set_silent(false);
    paying.await.unwrap().unwrap();
    assert_eq!(
        world
            .checkout
            .order(order.id, &buyer(1))
            .await
            .unwrap()
            .unwrap()
            .state,
        OrderState::Paid
    );
    world.wait_until_settled().await;
    world.check_invariants().await;
}
