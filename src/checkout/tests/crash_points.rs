//! Three families of tests, generated from the saga's own table: each step twice, a crash at each outward
//! call, each undo twice. Every case ends with a check of the invariants.

use std::{sync::Arc, time::Duration};

use testkit::Postgres;

use super::{
    operator_cancellations::by_kim,
    world::{CrashPoint, World, buyer, request, sale_id},
};
use crate::checkout::{
    ledger::port::{OpenOutcome, Progress},
    order::{OrderState, Reason},
    payment::CardToken,
    placement,
    saga::{engine::StepOutcome, purchase::PURCHASE, step_context::StepContext},
};

/// An order that is opened and leased, but not run.
async fn opened_order(world: &World) -> StepContext {
    let context = &world.checkout.context;
    let hold = world.seats.hold(&buyer(1), &["A-1", "A-2"]).unwrap();
    let request = request(1, hold, "tok_ok", "k");
    let held_seats = context.seats.held_seats(hold, &buyer(1)).await.unwrap().unwrap();
    let visit = request.visit;
    let order = placement::new_order(context, request, held_seats, "hash".into());
    let mut lease = context.lease_request();
    // The test runs the steps itself, so the reconciler must not take over.
    lease.until = lease.now.plus(Duration::from_mins(10));
    let OpenOutcome::New(lease) = context.ledger.open_order(order, lease).await.unwrap() else {
        panic!("not new")
    };
    let running = context.running_orders.insert(lease.order, visit, sale_id());
    StepContext::new(
        Arc::clone(context),
        lease,
        running,
        Some(CardToken::new("tok_ok".into())),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_is_idempotent() {
    for twice in 0..PURCHASE.steps.len() {
        let world = World::new().await;
        let order = opened_order(&world).await;
        for (n, step) in PURCHASE.steps.iter().enumerate() {
            for _ in 0..=usize::from(n == twice) {
                assert_eq!(
                    (step.action)(&order).await.unwrap(),
                    StepOutcome::Done,
                    "{} with {} twice",
                    step.name,
                    PURCHASE.steps[twice].name
                );
            }
        }
        assert_eq!(order.order().await.unwrap().state, OrderState::Paid);
        world.check_invariants().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_undo_is_idempotent() {
    let undoable = PURCHASE
        .steps
        .iter()
        .take_while(|step| step.undo.is_some())
        .count();
    assert_eq!(
        undoable, 3,
        "every step before the pivot can be undone, none after it"
    );
    for last in 0..undoable {
        for twice in 0..=last {
            let world = World::new().await;
            let order = opened_order(&world).await;
            for step in &PURCHASE.steps[..=last] {
                assert_eq!((step.action)(&order).await.unwrap(), StepOutcome::Done);
            }
            let progress = Progress {
                position: PURCHASE.start(order.now()),
                ended: false,
                stuck: false,
                reason: Some(Reason::TimedOut),
                log: Vec::new(),
                at: order.now(),
                lease_until: order.now().plus(Duration::from_mins(10)),
            };
            order
                .checkout
                .ledger
                .record_progress(order.lease, progress)
                .await
                .unwrap();
            for (n, step) in PURCHASE.steps[..=last].iter().enumerate().rev() {
                for _ in 0..=usize::from(n == twice) {
                    assert_eq!(
                        (step.undo.unwrap())(&order).await.unwrap(),
                        StepOutcome::Done,
                        "{}",
                        step.name
                    );
                }
            }
            let order = order.order().await.unwrap();
            assert_eq!(order.state, OrderState::Declined);
            assert_eq!(world.seats.is_paying(order.hold), Some(false), "held again");
            world.check_invariants().await;
        }
    }
}

/// What continues an order after its process died.
enum Successor {
    /// The same node, on its own file.
    SameNode,
    /// The same node, on a shared ledger.
    SameNodeOn(Arc<Postgres>),
    /// Another node, on a shared ledger.
    OtherNode(Arc<Postgres>),
}

/// What happens after the first payment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    Nothing,
    Cancels,
    /// Nothing: an operator cancels the order.
    IsCanceled,
    /// Pays for the same hold with another card.
    PaysAgain,
}

/// Kills the process at outward call `call` and opens the ledger again. False if the order ended before that
/// call.
async fn crash(
    successor: &Successor,
    card: &'static str,
    afterwards: Afterwards,
    call: u64,
    after: bool,
) -> bool {
    let crash_point = CrashPoint::at(call, after);
    let payment_timeout = Duration::from_millis(300);
    let mut world = match successor {
        Successor::SameNode => World::with(Arc::clone(&crash_point), payment_timeout).await,
        Successor::SameNodeOn(server) | Successor::OtherNode(server) => {
            World::shared(server, Arc::clone(&crash_point), payment_timeout).await
        }
    };
    let hold = world.seats.hold(&buyer(1), &["A-1", "A-2"]).unwrap();
    let checkout = Arc::clone(&world.checkout);
    let buying = tokio::spawn(async move {
        let first = checkout.place_order(request(1, hold, card, "k"));
        first.await.unwrap();
        match afterwards {
            Afterwards::Nothing => {}
            Afterwards::Cancels => {
                let mine = checkout.orders_of(&sale_id(), &buyer(1)).await.unwrap();
                checkout.cancel(mine[0].id, &buyer(1)).await.unwrap();
            }
            Afterwards::IsCanceled => {
                let ordered = checkout.orders_of(&sale_id(), &buyer(1)).await.unwrap();
                let sale = sale_id();
                let canceled = checkout.cancel_by_operator(&sale, ordered[0].id, by_kim());
                canceled.await.unwrap();
            }
            Afterwards::PaysAgain => {
                let second = checkout.place_order(request(1, hold, "tok_ok", "k2"));
                second.await.unwrap();
            }
        }
    });
    loop {
        let ended = buying.is_finished() && world.checkout.context.running_orders.count() == 0;
        if ended || crash_point.has_crashed() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let has_crashed = crash_point.has_crashed();
    buying.abort();
    match successor {
        Successor::SameNode | Successor::SameNodeOn(_) => world.restart(CrashPoint::never()).await,
        Successor::OtherNode(_) => world.fail_over("b", CrashPoint::never()).await,
    }
    world.wait_until_settled().await;
    world.check_invariants().await;
    // Whatever the outcome, the seats are sold to the buyer, or held again, or free.
    let sold = world
        .orders()
        .await
        .iter()
        .any(|order| order.state == OrderState::Paid);
    let held = world.seats.is_paying(hold) == Some(false);
    let for_sale = world.seats.hold(&buyer(2), &["A-1", "A-2"]).is_some();
    assert_eq!(
        u8::from(sold) + u8::from(held) + u8::from(for_sale),
        1,
        "{card} killed at {call}: {sold} {held} {for_sale}"
    );
    world.shut_down().await;
    has_crashed
}

async fn crash_everywhere(successor: &Successor, card: &'static str, afterwards: Afterwards, calls_min: u64) {
    for after in [false, true] {
        let mut call = 0;
        loop {
            let batch = futures_util::future::join_all(
                (call..call + 8).map(|n| crash(successor, card, afterwards, n, after)),
            )
            .await;
            call += 8;
            if batch.contains(&false) {
                break;
            }
        }
        assert!(call >= calls_min, "too few crash points: {call}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_a_purchase_sells_or_frees_the_seats() {
    crash_everywhere(&Successor::SameNode, "tok_ok", Afterwards::Nothing, 24).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_a_declined_purchase_frees_the_seats() {
    crash_everywhere(&Successor::SameNode, "tok_declined", Afterwards::Nothing, 16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_a_refused_capture_returns_all() {
    crash_everywhere(&Successor::SameNode, "tok_capture_fails", Afterwards::Nothing, 24).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_a_cancellation_returns_all_or_nothing() {
    crash_everywhere(&Successor::SameNode, "tok_ok", Afterwards::Cancels, 32).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_a_cancellation_at_the_gateway_frees_the_seats() {
    crash_everywhere(&Successor::SameNode, "tok_redirect", Afterwards::Cancels, 24).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_an_operators_cancellation_returns_all_or_nothing() {
    crash_everywhere(&Successor::SameNode, "tok_ok", Afterwards::IsCanceled, 32).await;
    crash_everywhere(&Successor::SameNode, "tok_redirect", Afterwards::IsCanceled, 24).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_another_card_replaces_a_payment_sells_once() {
    crash_everywhere(&Successor::SameNode, "tok_redirect", Afterwards::PaysAgain, 32).await;
}

/// Crashes before and after the call alternate: each world needs a database of its own, which is slow to
/// create.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_on_a_shared_ledger_returns_all_or_nothing() {
    let successor = Successor::SameNodeOn(Arc::new(Postgres::start().await.unwrap()));
    let mut call = 0;
    loop {
        let batch = (call..call + 8).map(|n| crash(&successor, "tok_ok", Afterwards::Cancels, n, n % 2 == 0));
        call += 8;
        if futures_util::future::join_all(batch).await.contains(&false) {
            break;
        }
    }
    assert!(call >= 32, "too few crash points: {call}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_finishes_the_replacement_of_a_dead_one() {
    let successor = Successor::OtherNode(Arc::new(Postgres::start().await.unwrap()));
    let crashes = (8..32).step_by(3).map(|call| {
        crash(
            &successor,
            "tok_redirect",
            Afterwards::PaysAgain,
            call,
            call % 2 == 0,
        )
    });
    let crashed = futures_util::future::join_all(crashes).await;
    assert!(crashed.iter().filter(|has_crashed| **has_crashed).count() > 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_finishes_the_orders_of_a_dead_one() {
    let successor = Successor::OtherNode(Arc::new(Postgres::start().await.unwrap()));
    let crashes = (3..24)
        .step_by(4)
        .map(|call| crash(&successor, "tok_ok", Afterwards::Nothing, call, call % 8 == 3));
    let crashed = futures_util::future::join_all(crashes).await;
    assert!(
        crashed.iter().filter(|has_crashed| **has_crashed).count() > 3,
        "they crashed in the middle"
    );
}
