//! Random schedules: few seats, many buyers, failing cards, a seat store that loses data, a process that
//! dies.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::world::{CrashPoint, World, buyer, request, sale_id};
use crate::checkout::OrderState;

const SEATS: [&str; 3] = ["A-1", "A-2", "A-3"];
const CARDS: [&str; 8] = [
    "tok_ok",
    "tok_ok",
    "tok_declined",
    "tok_timeout_after_success",
    "tok_never_arrives",
    "tok_capture_fails",
    "tok_redirect",
    "tok_redirect",
];

#[derive(Clone, Debug)]
enum Action {
    /// Holds one or two seats next to each other and pays.
    Buy {
        buyer: u32,
        first: usize,
        two: bool,
        card: usize,
    },
    /// Pays again, for the hold that was paid for last, with another card.
    PayAgain {
        card: usize,
    },
    /// Cancels everything that the buyer has paid or is at the gateway's page for.
    Cancel {
        buyer: u32,
    },
    /// The seat store loses who has which seat.
    LoseData,
    /// The process dies after so many further outward calls.
    Crash {
        after_calls: u64,
        with_effect: bool,
    },
    Pause {
        ms: u64,
    },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..4_u32, 0..SEATS.len(), any::<bool>(), 0..CARDS.len())
            .prop_map(|(buyer, first, two, card)| Action::Buy { buyer, first, two, card }),
        2 => (0..CARDS.len()).prop_map(|card| Action::PayAgain { card }),
        1 => (0..4_u32).prop_map(|buyer| Action::Cancel { buyer }),
        2 => Just(Action::LoseData),
        1 => (0..40_u64, any::<bool>())
            .prop_map(|(after_calls, with_effect)| Action::Crash { after_calls, with_effect }),
        2 => (0..30_u64).prop_map(|ms| Action::Pause { ms }),
    ]
}

async fn play(actions: Vec<Action>) {
    let mut crash_point = CrashPoint::never();
    let mut world = World::with(Arc::clone(&crash_point), Duration::from_millis(200)).await;
    let mut last = None;
    for (n, action) in actions.into_iter().enumerate() {
        if crash_point.has_crashed() {
            crash_point = CrashPoint::never();
            world.restart(Arc::clone(&crash_point)).await;
        }
        match action {
            Action::Buy {
                buyer: customer,
                first,
                two,
                card,
            } => {
                let wanted = &SEATS[first..(first + 1 + usize::from(two)).min(SEATS.len())];
                let Some(hold) = world.seats.hold(&buyer(customer), wanted) else {
                    continue;
                };
                let (checkout, request) = (
                    Arc::clone(&world.checkout),
                    request(customer, hold, CARDS[card], &n.to_string()),
                );
                last = Some((customer, hold));
                tokio::spawn(async move { checkout.place_order(request).await });
            }
            Action::PayAgain { card } => {
                let Some((customer, hold)) = last else { continue };
                let (checkout, request) = (
                    Arc::clone(&world.checkout),
                    request(customer, hold, CARDS[card], &n.to_string()),
                );
                tokio::spawn(async move { checkout.place_order(request).await });
            }
            Action::Cancel { buyer: customer } => {
                let checkout = Arc::clone(&world.checkout);
                tokio::spawn(async move {
                    for order in checkout.orders_of(&sale_id(), &buyer(customer)).await.unwrap() {
                        if matches!(order.state, OrderState::Paid | OrderState::AwaitingPayment) {
                            let _ = checkout.cancel(order.id, &buyer(customer)).await;
                        }
                    }
                });
            }
            Action::LoseData => world.seats.lose_data(),
            Action::Crash {
                after_calls,
                with_effect,
            } => {
                crash_point = CrashPoint::at(after_calls, with_effect);
                world.restart(Arc::clone(&crash_point)).await;
            }
            Action::Pause { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
    }
    // Faults stop. The seat store is rebuilt from the ledger, as after any data loss.
    world.restart(CrashPoint::never()).await;
    world.wait_until_settled().await;
    world.check_invariants().await;
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn no_schedule_breaks_an_invariant(actions in prop::collection::vec(action(), 4..24)) {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(actions));
        runtime.shutdown_background();
    }
}
