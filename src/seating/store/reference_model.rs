//! A naive engine that looks everything up by walking through all it has, and the same random orders given to both.

use std::{collections::BTreeMap, time::Duration};

use proptest::{prelude::*, test_runner::TestRunner};
use tokio::runtime::Runtime;

use crate::kernel::{Clock, HoldId, Timestamp};

use crate::seating::{
    hold::HoldState,
    seat::{SeatIx, SeatState},
    store::{
        BookReply, ChangeReply, ExtendReply, HoldReply, StoreHold, IdempotencyKey, SeatStore,
        conformance::{Bench, TERMS, fan, hold_id, request, seats},
    },
};

const SEATS: u32 = 12;

#[derive(Clone, Debug)]
enum Order {
    Hold {
        who: u8,
        seats: Vec<u32>,
        operation: Option<u8>,
    },
    Swap {
        hold: u32,
        who: u8,
        seats: Vec<u32>,
    },
    Extend {
        hold: u32,
        who: u8,
    },
    Release {
        hold: u32,
        who: u8,
    },
    BeginCheckout {
        hold: u32,
        who: u8,
    },
    ReturnToHold {
        hold: u32,
    },
    Book {
        hold: u32,
        who: u8,
        seats: Vec<u32>,
    },
    Free {
        hold: u32,
        seats: Vec<u32>,
    },
    Block {
        seats: Vec<u32>,
        blocked: bool,
    },
    Pass {
        secs: u64,
    },
    Compare,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Held,
    Paying,
    Booked,
}

#[derive(Clone, Debug)]
struct Kept {
    who: u8,
    seats: Vec<u32>,
    deadline: Timestamp,
    extensions: u8,
    stage: Stage,
}

#[derive(Default)]
struct Naive {
    kept: BTreeMap<u32, Kept>,
    blocked: Vec<u32>,
    operations: BTreeMap<(u8, u8), (Vec<u32>, u32, Timestamp)>,
}

/// So many random lists of orders, each for a new engine.
pub(crate) fn run<S: SeatStore>(cases: u32, runtime: &Runtime, make: impl AsyncFn() -> Bench<S>) {
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let lists = prop::collection::vec(order(), 1..60);
    runner
        .run(&lists, |orders| {
            runtime.block_on(async { same_answers(&make().await, &orders).await })
        })
        .unwrap();
}

fn order() -> impl Strategy<Value = Order> {
    let seats = || prop::sample::subsequence((0..SEATS).collect::<Vec<_>>(), 1..5).prop_shuffle();
    let (hold, who) = (0..12_u32, 0..3_u8);
    prop_oneof![
        6 => (who.clone(), seats(), prop::option::weighted(0.3, 0..3_u8)).prop_map(|(who, seats, operation)| Order::Hold { who, seats, operation }),
        3 => (hold.clone(), who.clone(), seats()).prop_map(|(hold, who, seats)| Order::Swap { hold, who, seats }),
        2 => (hold.clone(), who.clone()).prop_map(|(hold, who)| Order::Extend { hold, who }),
        2 => (hold.clone(), who.clone()).prop_map(|(hold, who)| Order::Release { hold, who }),
        3 => (hold.clone(), who.clone()).prop_map(|(hold, who)| Order::BeginCheckout { hold, who }),
        2 => hold.clone().prop_map(|hold| Order::ReturnToHold { hold }),
        2 => (hold.clone(), who, seats()).prop_map(|(hold, who, seats)| Order::Book { hold, who, seats }),
        2 => (hold, seats()).prop_map(|(hold, seats)| Order::Free { hold, seats }),
        1 => (seats(), any::<bool>()).prop_map(|(seats, blocked)| Order::Block { seats, blocked }),
        2 => (1..500_u64).prop_map(|secs| Order::Pass { secs }),
        3 => Just(Order::Compare),
    ]
}

async fn same_answers<S: SeatStore>(
    Bench { store, clock }: &Bench<S>,
    orders: &[Order],
) -> Result<(), TestCaseError> {
    let mut naive = Naive::default();
    let (start, mut copy) = store.load().await.unwrap();
    for (number, order) in (0_u32..).zip(orders) {
        naive.run_out(clock.now());
        // A hold's id is drawn anew for each: what does not exist yet is not what will.
        let order = &order
            .clone()
            .on_hold(|hold| if hold < number { hold } else { hold + 1_000 });
        match order {
            Order::Hold {
                who,
                seats: of,
                operation,
            } => {
                let key = operation.map(|it| IdempotencyKey {
                    key: [it * 16 + who; 16],
                    request_hash: wish(of),
                });
                let reply = store
                    .hold(&StoreHold {
                        operation: key,
                        ..request(number, *who, of)
                    })
                    .await
                    .unwrap();
                let expected = naive.hold(number, *who, of, *operation, clock.now());
                prop_assert_eq!(short(&reply), expected);
            }
            Order::Swap { hold, who, seats: of } => {
                let reply = match store.swap(hold_id(*hold), &fan(*who), &seats(of)).await.unwrap() {
                    ChangeReply::Changed(record) => format!("changed {:?}", record.seats),
                    ChangeReply::Taken(taken) => format!("taken {taken:?}"),
                    ChangeReply::LimitReached => "limit".into(),
                    ChangeReply::Gone => "gone".into(),
                };
                prop_assert_eq!(reply, naive.swap(*hold, *who, of));
            }
            Order::Extend { hold, who } => {
                let reply = match store.extend(hold_id(*hold), &fan(*who)).await.unwrap() {
                    ExtendReply::Extended(record) => Some(Ok(record.expires_at)),
                    ExtendReply::NoMoreExtensions => Some(Err(())),
                    ExtendReply::Gone => None,
                };
                prop_assert_eq!(reply, naive.extend(*hold, *who, clock.now()));
            }
            Order::Release { hold, who } => {
                let mine = naive.mine(*hold, *who).is_some_and(|it| it.stage == Stage::Held);
                prop_assert_eq!(store.release(hold_id(*hold), &fan(*who)).await.unwrap(), mine);
                if mine {
                    naive.kept.remove(hold);
                }
            }
            Order::BeginCheckout { hold, who } => {
                let begun = store
                    .begin_checkout(hold_id(*hold), &fan(*who), clock.now())
                    .await
                    .unwrap();
                let mine = naive.mine(*hold, *who);
                prop_assert_eq!(
                    begun.as_ref().map(|it| it.state),
                    mine.as_ref().map(|_| HoldState::Paying)
                );
                if let Some(it) = mine {
                    it.stage = Stage::Paying;
                }
            }
            Order::ReturnToHold { hold } => {
                let until = clock.now().plus(Duration::from_mins(1));
                store.return_to_hold(hold_id(*hold), until).await.unwrap();
                if let Some(it) = naive.kept.get_mut(hold).filter(|it| it.stage == Stage::Paying) {
                    (it.stage, it.deadline) = (Stage::Held, until);
                }
            }
            Order::Book { hold, who, seats: of } => {
                store.expire_holds(100).await.unwrap();
                let reply = store.book(hold_id(*hold), &fan(*who), &seats(of)).await.unwrap();
                prop_assert_eq!(reply == BookReply::Booked, naive.book(*hold, *who, of));
            }
            Order::Free { hold, seats: of } => {
                store.free(hold_id(*hold), &seats(of)).await.unwrap();
                if let Some(it) = naive.kept.get_mut(hold) {
                    it.seats.retain(|seat| !of.contains(seat));
                }
                naive.kept.retain(|_, it| !it.seats.is_empty());
            }
            Order::Block { seats: of, blocked } => {
                store.expire_holds(100).await.unwrap();
                store.set_blocked(&seats(of), *blocked).await.unwrap();
                if *blocked {
                    let free: Vec<u32> = of
                        .iter()
                        .copied()
                        .filter(|seat| naive.state(*seat) == SeatState::Free)
                        .collect();
                    naive.blocked.extend(free);
                } else {
                    naive.blocked.retain(|seat| !of.contains(seat));
                }
            }
            Order::Pass { secs } => clock.advance(Duration::from_secs(*secs)),
            Order::Compare => {
                store.expire_holds(100).await.unwrap();
                let (_, states) = store.load().await.unwrap();
                for seat in 0..SEATS {
                    prop_assert_eq!(states.get(SeatIx(seat)), naive.state(seat), "seat {}", seat);
                }
                for (hold, it) in &naive.kept {
                    let found = store.find(hold_id(*hold), &fan(it.who)).await.unwrap();
                    prop_assert_eq!(found.is_some(), it.stage != Stage::Booked);
                    prop_assert!(found.is_none_or(
                        |found| found.seats == seats(&it.seats) && found.extensions_left == it.extensions
                    ));
                }
            }
        }
    }
    let mut changes = Vec::new();
    prop_assert!(store.changes_since(start, &mut changes));
    for change in changes {
        copy.set(change.seat, change.state);
    }
    prop_assert_eq!(copy, store.load().await.unwrap().1);
    Ok(())
}

impl Order {
    fn on_hold(mut self, rename: impl Fn(u32) -> u32) -> Self {
        match &mut self {
            Self::Swap { hold, .. }
            | Self::Extend { hold, .. }
            | Self::Release { hold, .. }
            | Self::BeginCheckout { hold, .. } => {
                *hold = rename(*hold);
            }
            Self::ReturnToHold { hold } | Self::Book { hold, .. } | Self::Free { hold, .. } => {
                *hold = rename(*hold)
            }
            Self::Hold { .. } | Self::Block { .. } | Self::Pass { .. } | Self::Compare => {}
        }
        self
    }
}

impl Naive {
    fn run_out(&mut self, now: Timestamp) {
        self.kept
            .retain(|_, it| it.stage != Stage::Held || it.deadline > now);
        self.operations
            .retain(|_, it| now.since(it.2) <= Duration::from_mins(10));
    }

    fn state(&self, seat: u32) -> SeatState {
        match self
            .kept
            .values()
            .find(|it| it.seats.contains(&seat))
            .map(|it| it.stage)
        {
            Some(Stage::Booked) => SeatState::Booked,
            Some(_) => SeatState::Held,
            None if self.blocked.contains(&seat) => SeatState::Blocked,
            None => SeatState::Free,
        }
    }

    fn mine(&mut self, hold: u32, who: u8) -> Option<&mut Kept> {
        self.kept
            .get_mut(&hold)
            .filter(|it| it.who == who && it.stage != Stage::Booked)
    }

    fn has(&self, who: u8) -> usize {
        self.kept
            .values()
            .filter(|it| it.who == who)
            .map(|it| it.seats.len())
            .sum()
    }

    fn hold(&mut self, number: u32, who: u8, of: &[u32], operation: Option<u8>, now: Timestamp) -> String {
        if let Some((wish, hold, _)) = operation.and_then(|it| self.operations.get(&(it, who))) {
            let same = wish.iter().all(|it| of.contains(it)) && wish.len() == of.len();
            return if same {
                format!("again {:?}", hold_id(*hold))
            } else {
                "reused".into()
            };
        }
        if self.has(who) + of.len() > usize::from(TERMS.seats_per_customer_max) {
            return "limit".into();
        }
        let taken: Vec<SeatIx> = of
            .iter()
            .filter(|it| self.state(**it) != SeatState::Free)
            .map(|it| SeatIx(*it))
            .collect();
        if !taken.is_empty() {
            return format!("taken {taken:?}");
        }
        if let Some(operation) = operation {
            self.operations
                .insert((operation, who), (of.to_vec(), number, now));
        }
        let deadline = now.plus(TERMS.hold_ttl);
        self.kept.insert(
            number,
            Kept {
                who,
                seats: of.to_vec(),
                deadline,
                extensions: TERMS.extensions_max,
                stage: Stage::Held,
            },
        );
        format!("held until {deadline}")
    }

    fn swap(&mut self, hold: u32, who: u8, of: &[u32]) -> String {
        let Some(mine) = self.mine(hold, who).filter(|it| it.stage == Stage::Held).cloned() else {
            return "gone".into();
        };
        let free = |seat: &u32| mine.seats.contains(seat) || self.state(*seat) == SeatState::Free;
        let taken: Vec<SeatIx> = of.iter().filter(|it| !free(it)).map(|it| SeatIx(*it)).collect();
        if !taken.is_empty() {
            return format!("taken {taken:?}");
        }
        let grows = of.len() > mine.seats.len();
        if grows && self.has(who) - mine.seats.len() + of.len() > usize::from(TERMS.seats_per_customer_max) {
            return "limit".into();
        }
        self.kept.insert(
            hold,
            Kept {
                seats: of.to_vec(),
                ..mine
            },
        );
        format!("changed {:?}", seats(of))
    }

    fn extend(&mut self, hold: u32, who: u8, now: Timestamp) -> Option<Result<Timestamp, ()>> {
        let mine = self.mine(hold, who)?;
        if mine.stage == Stage::Paying || mine.extensions == 0 {
            return Some(Err(()));
        }
        mine.extensions -= 1;
        mine.deadline = mine.deadline.max(now.plus(TERMS.hold_ttl));
        Some(Ok(mine.deadline))
    }

    fn book(&mut self, hold: u32, who: u8, of: &[u32]) -> bool {
        let others = |it: &Kept| it.seats.iter().any(|seat| of.contains(seat));
        if self
            .kept
            .iter()
            .any(|(id, it)| *id != hold && it.stage == Stage::Booked && others(it))
        {
            return false;
        }
        self.kept.retain(|id, it| *id == hold || !others(it));
        self.blocked.retain(|seat| !of.contains(seat));
        let mut booked = of.to_vec();
        if let Some(before) = self.kept.get(&hold).filter(|it| it.stage == Stage::Booked) {
            booked.extend(before.seats.iter().filter(|seat| !of.contains(seat)));
        }
        let deadline = Timestamp::default();
        self.kept.insert(
            hold,
            Kept {
                who,
                seats: booked,
                deadline,
                extensions: 0,
                stage: Stage::Booked,
            },
        );
        true
    }
}

/// The wish whatever its order.
fn wish(of: &[u32]) -> [u8; 16] {
    let mut wish = [0; 16];
    for seat in of {
        wish[*seat as usize] = 1;
    }
    wish
}

fn short(reply: &HoldReply) -> String {
    let again = |id: HoldId| format!("again {id:?}");
    match reply {
        HoldReply::Held { expires_at, .. } => format!("held until {expires_at}"),
        HoldReply::Replayed(record) => again(record.id),
        HoldReply::IdempotencyKeyReused => "reused".into(),
        HoldReply::Taken(taken) => format!("taken {taken:?}"),
        HoldReply::LimitReached => "limit".into(),
    }
}
