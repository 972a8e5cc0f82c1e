//! Random schedules: few seats, eager buyers, odd cards, an engine that forgets, a process that dies.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::world::{Fuse, World, buyer, wish};
use crate::checkout::OrderState;

const SEATS: [&str; 3] = ["A-1", "A-2", "A-3"];
const CARDS: [&str; 6] = [
    "tok_ok",
    "tok_ok",
    "tok_declined",
    "tok_timeout_after_success",
    "tok_never_arrives",
    "tok_capture_fails",
];

#[derive(Clone, Debug)]
enum Deed {
    /// Holds one or two seats next to each other and pays.
    Buy {
        buyer: u32,
        first: usize,
        two: bool,
        card: usize,
    },
    /// Gives back whatever she has bought.
    Cancel {
        buyer: u32,
    },
    /// The engine loses who has which seat.
    Forget,
    /// The process dies after so many outward calls from now.
    Die {
        after_calls: u64,
        with_effect: bool,
    },
    Pause {
        ms: u64,
    },
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (0..4_u32, 0..SEATS.len(), any::<bool>(), 0..CARDS.len())
            .prop_map(|(buyer, first, two, card)| Deed::Buy { buyer, first, two, card }),
        1 => (0..4_u32).prop_map(|buyer| Deed::Cancel { buyer }),
        2 => Just(Deed::Forget),
        1 => (0..40_u64, any::<bool>()).prop_map(|(after_calls, with_effect)| Deed::Die { after_calls, with_effect }),
        2 => (0..30_u64).prop_map(|ms| Deed::Pause { ms }),
    ]
}

async fn play(deeds: Vec<Deed>) {
    let mut fuse = Fuse::none();
    let mut world = World::with(Arc::clone(&fuse), Duration::from_millis(200)).await;
    for (n, deed) in deeds.into_iter().enumerate() {
        if fuse.is_blown() {
            fuse = Fuse::none();
            world.restart(Arc::clone(&fuse)).await;
        }
        match deed {
            Deed::Buy {
                buyer: who,
                first,
                two,
                card,
            } => {
                let wanted = &SEATS[first..(first + 1 + usize::from(two)).min(SEATS.len())];
                let Some(hold) = world.seats.hold(&buyer(who), wanted) else {
                    continue;
                };
                let (checkout, wish) = (
                    Arc::clone(&world.checkout),
                    wish(who, hold, CARDS[card], &n.to_string()),
                );
                tokio::spawn(async move { checkout.place_order(wish).await });
            }
            Deed::Cancel { buyer: who } => {
                let checkout = Arc::clone(&world.checkout);
                tokio::spawn(async move {
                    for order in checkout
                        .orders_of(&super::world::buyer_sale(), &buyer(who))
                        .await
                        .unwrap()
                    {
                        if order.state == OrderState::Paid {
                            let _ = checkout.cancel(order.id, &buyer(who)).await;
                        }
                    }
                });
            }
            Deed::Forget => world.seats.forget_owners(),
            Deed::Die {
                after_calls,
                with_effect,
            } => {
                fuse = Fuse::at(after_calls, with_effect);
                world.restart(Arc::clone(&fuse)).await;
            }
            Deed::Pause { ms } => tokio::time::sleep(Duration::from_millis(ms)).await,
        }
    }
    // Faults stop. The engine is rebuilt from the ledger, as after any loss.
    world.restart(Fuse::none()).await;
    world.comes_to_rest().await;
    world.is_honest().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_schedule_sells_a_seat_twice_or_keeps_money_for_nothing(deeds in prop::collection::vec(deed(), 4..24)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(deeds));
        runtime.shutdown_background();
    }
}
