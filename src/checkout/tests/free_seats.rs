//! Free seats need neither a card nor the payment gateway.

use super::world::{World, buyer, request};
use crate::checkout::{CancelOutcome, OrderState, PlaceOrder, PlaceOutcome};

#[tokio::test(flavor = "multi_thread")]
async fn free_seats_are_ordered_and_canceled_without_the_gateway() {
    let world = World::new().await;
    world.gateway.set_silent(true);
    for token in [None, Some("tok_declined".to_owned())] {
        let hold = world.seats.hold(&buyer(1), &["Free-1", "Free-2"]).unwrap();
        let order = PlaceOrder {
            token: token.clone(),
            ..request(1, hold, "", &format!("{token:?}"))
        };
        let PlaceOutcome::Paid(order) = world.checkout.place_order(order).await.unwrap() else {
            panic!("no tickets")
        };
        let tickets = world.checkout.tickets(order.id, &buyer(1)).await.unwrap();
        assert_eq!(tickets.unwrap().len(), 2);
        world.wait_until_settled().await;
        world.check_invariants().await;
        let canceled = world.checkout.cancel(order.id, &buyer(1)).await.unwrap();
        assert!(matches!(canceled, CancelOutcome::Canceled(_)), "{canceled:?}");
        let history = world.checkout.history(order.id, &buyer(1)).await.unwrap();
        let is_money = |key: &str| key.contains("captur") || key.contains("refund") || key.contains("author");
        let history = history.unwrap();
        assert!(
            history.iter().all(|entry| !is_money(entry.text_key)),
            "{history:?}"
        );
    }
    assert_eq!(world.gateway.authorize_calls(), 0);
    world.check_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_that_are_not_free_need_a_card() {
    let world = World::new().await;
    let hold = world.seats.hold(&buyer(1), &["Free-1", "A-1"]).unwrap();
    let order = PlaceOrder {
        token: None,
        ..request(1, hold, "", "k")
    };
    let outcome = world.checkout.place_order(order).await.unwrap();
    assert_eq!(outcome, PlaceOutcome::PaymentRequired);
    assert!(world.orders().await.is_empty());
    let PlaceOutcome::Paid(order) = world.pay(1, hold, "tok_ok", "k").await else {
        panic!("not paid")
    };
    assert_eq!((order.state, order.total.amount), (OrderState::Paid, 100));
    world.wait_until_settled().await;
    world.check_invariants().await;
}
