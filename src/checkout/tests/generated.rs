//! Three families of tests, generated from the saga's own table: each step twice, a crash at each outward call, each
//! undo twice. Every case ends with the checker.

use std::{sync::Arc, time::Duration};

use super::world::{Fuse, World, buyer, wish};
use crate::{
    checkout::{
        PURCHASE, Reason,
        ledger::{OpenOutcome, Progress},
        order::OrderState,
        payment::CardToken,
        saga::{engine::StepOutcome, purchase::StepContext},
    },
};
use testkit::Postgres;

async fn attempt(world: &World) -> StepContext {
    let context = &world.checkout.context;
    let hold = world.seats.hold(&buyer(1), &["A-1", "A-2"]).unwrap();
    let wish = wish(1, hold, "tok_ok", "k");
    let held_seats = context.seats.held_seats(hold, &buyer(1)).await.unwrap().unwrap();
    let visit = wish.visit;
    let order = world.checkout.new_order(wish, held_seats, "hash".into());
    let mut lease_request = context.lease_request();
    // Driven by hand: the reconciler must keep its fingers off.
    lease_request.until = lease_request.now.plus(Duration::from_mins(10));
    let OpenOutcome::New(lease) = context.ledger.open_order(order, lease_request).await.unwrap() else {
        panic!("not new")
    };
    let run = context.running_orders.enter(lease.order, visit);
    StepContext::new(
        Arc::clone(context),
        lease,
        run,
        Some(CardToken::new("tok_ok".into())),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_twice_is_once() {
    for twice in 0..PURCHASE.steps.len() {
        let world = World::new().await;
        let attempt = attempt(&world).await;
        for (n, step) in PURCHASE.steps.iter().enumerate() {
            for _ in 0..=usize::from(n == twice) {
                assert_eq!(
                    (step.act)(&attempt).await.unwrap(),
                    StepOutcome::Done,
                    "{} with {} twice",
                    step.name,
                    PURCHASE.steps[twice].name
                );
            }
        }
        assert_eq!(attempt.order().await.unwrap().state, OrderState::Paid);
        world.is_honest().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_undo_twice_is_once() {
    let undoable = PURCHASE.steps.iter().take_while(|it| it.undo.is_some()).count();
    assert_eq!(
        undoable, 3,
        "all before the pivot can be undone, nothing after it"
    );
    for last in 0..undoable {
        for twice in 0..=last {
            let world = World::new().await;
            let attempt = attempt(&world).await;
            for step in &PURCHASE.steps[..=last] {
                assert_eq!((step.act)(&attempt).await.unwrap(), StepOutcome::Done);
            }
            let progress = Progress {
                position: PURCHASE.start(attempt.now()),
                ended: false,
                stuck: false,
                reason: Some(Reason::TimedOut),
                log: Vec::new(),
                at: attempt.now(),
                lease_until: attempt.now().plus(Duration::from_mins(10)),
            };
            attempt
                .context
                .ledger
                .record_progress(attempt.lease, progress)
                .await
                .unwrap();
            for (n, step) in PURCHASE.steps[..=last].iter().enumerate().rev() {
                for _ in 0..=usize::from(n == twice) {
                    assert_eq!(
                        (step.undo.unwrap())(&attempt).await.unwrap(),
                        StepOutcome::Done,
                        "{}",
                        step.name
                    );
                }
            }
            let order = attempt.order().await.unwrap();
            assert_eq!(order.state, OrderState::Declined);
            assert_eq!(world.seats.is_paying(order.hold), Some(false), "hers again");
            world.is_honest().await;
        }
    }
}

/// Where an order's process dies, and who goes on.
enum Heir {
    /// The same node, on its own file.
    Itself,
    /// The same node, on a ledger that nodes share.
    ItselfOn(Arc<Postgres>),
    /// Another node.
    Other(Arc<Postgres>),
}

/// Kills the process at outward call `call` and opens the ledger again. False when the order ended before that call.
async fn crash(heir: &Heir, card: &'static str, cancels: bool, call: u64, after: bool) -> bool {
    let fuse = Fuse::at(call, after);
    let payment_timeout = Duration::from_millis(300);
    let mut world = match heir {
        Heir::Itself => World::with(Arc::clone(&fuse), payment_timeout).await,
        Heir::ItselfOn(server) | Heir::Other(server) => {
            World::shared(server, Arc::clone(&fuse), payment_timeout).await
        }
    };
    let hold = world.seats.hold(&buyer(1), &["A-1", "A-2"]).unwrap();
    let (checkout, wish) = (Arc::clone(&world.checkout), wish(1, hold, card, "k"));
    let story = tokio::spawn(async move {
        let outcome = checkout.place_order(wish).await.unwrap();
        let mine = checkout
            .orders_of(&super::world::buyer_sale(), &buyer(1))
            .await
            .unwrap();
        if cancels {
            checkout.cancel(mine[0].id, &buyer(1)).await.unwrap();
        }
        outcome
    });
    loop {
        let ended = story.is_finished() && world.checkout.context.running_orders.count() == 0;
        if ended || fuse.is_blown() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let bit = fuse.is_blown();
    story.abort();
    match heir {
        Heir::Itself | Heir::ItselfOn(_) => world.restart(Fuse::none()).await,
        Heir::Other(_) => world.hand_over("b", Fuse::none()).await,
    }
    world.comes_to_rest().await;
    world.is_honest().await;
    // Whatever became of it, the seats are hers, or held for her once more, or for sale.
    let sold = world.orders().await.iter().any(|it| it.state == OrderState::Paid);
    let held = world.seats.is_paying(hold) == Some(false);
    let for_sale = world.seats.hold(&buyer(2), &["A-1", "A-2"]).is_some();
    assert_eq!(
        u8::from(sold) + u8::from(held) + u8::from(for_sale),
        1,
        "{card} killed at {call}: {sold} {held} {for_sale}"
    );
    world.end().await;
    bit
}

async fn crash_everywhere(heir: &Heir, card: &'static str, cancels: bool, calls_min: u64) {
    for after in [false, true] {
        let mut call = 0;
        loop {
            let batch = futures_util::future::join_all(
                (call..call + 8).map(|n| crash(heir, card, cancels, n, after)),
            )
            .await;
            call += 8;
            if batch.contains(&false) {
                break;
            }
        }
        assert!(call >= calls_min, "the fuse was not put everywhere: {call}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_anywhere_in_a_purchase_sells_or_frees() {
    crash_everywhere(&Heir::Itself, "tok_ok", false, 24).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_anywhere_in_a_declined_purchase_frees() {
    crash_everywhere(&Heir::Itself, "tok_declined", false, 16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_anywhere_in_a_refused_capture_returns_all() {
    crash_everywhere(&Heir::Itself, "tok_capture_fails", false, 24).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_anywhere_in_a_cancellation_returns_all_or_nothing() {
    crash_everywhere(&Heir::Itself, "tok_ok", true, 32).await;
}

/// Before and after take turns: each world here is a database of its own, which is slow to make.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_anywhere_on_a_shared_ledger_returns_all_or_nothing() {
    let heir = Heir::ItselfOn(Arc::new(Postgres::start().await.unwrap()));
    let mut call = 0;
    loop {
        let batch = (call..call + 8).map(|n| crash(&heir, "tok_ok", true, n, n % 2 == 0));
        call += 8;
        if futures_util::future::join_all(batch).await.contains(&false) {
            break;
        }
    }
    assert!(call >= 32, "the fuse was not put everywhere: {call}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_brings_to_an_end_what_a_dead_one_began() {
    let heir = Heir::Other(Arc::new(Postgres::start().await.unwrap()));
    let deaths = (3..24)
        .step_by(4)
        .map(|call| crash(&heir, "tok_ok", false, call, call % 8 == 3));
    let bit = futures_util::future::join_all(deaths).await;
    assert!(
        bit.iter().filter(|it| **it).count() > 3,
        "they died in the middle"
    );
}
