//! Runs the same random commands on a store and on the reference model, and compares every reply.

use std::time::Duration;

use proptest::{prelude::*, test_runner::TestRunner};
use tokio::runtime::Runtime;

use crate::kernel::{Clock, ManualClock};

use crate::seating::{
    hold::HoldState,
    seat::SeatIx,
    store::{
        fixture::{Fixture, customer, hold_id, request, seats},
        port::{BookReply, ChangeReply, ExtendReply, HoldReply, IdempotencyKey, SeatStore, StoreHold},
        reference_model::{Extended, Held, ReferenceModel, Stage, Swapped},
    },
};

const SEATS: u32 = 12;

/// One step. Holds are named by the number of the command that made them.
#[derive(Clone, Debug)]
enum Command {
    Hold {
        subject: u8,
        seats: Vec<u32>,
        key: Option<u8>,
    },
    Swap {
        hold: u32,
        subject: u8,
        seats: Vec<u32>,
    },
    Extend {
        hold: u32,
        subject: u8,
    },
    Release {
        hold: u32,
        subject: u8,
    },
    BeginCheckout {
        hold: u32,
        subject: u8,
    },
    ReturnToHold {
        hold: u32,
    },
    Book {
        hold: u32,
        subject: u8,
        seats: Vec<u32>,
    },
    Free {
        hold: u32,
        seats: Vec<u32>,
    },
    SetBlocked {
        seats: Vec<u32>,
        blocked: bool,
    },
    Advance {
        secs: u64,
    },
    Compare,
}

/// Runs `cases` random lists of commands, each on a new store.
pub(crate) fn run<S: SeatStore>(cases: u32, runtime: &Runtime, make: impl AsyncFn() -> Fixture<S>) {
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let lists = prop::collection::vec(command(), 1..60);
    runner
        .run(&lists, |commands| {
            runtime.block_on(async { replies_agree(&make().await, &commands).await })
        })
        .unwrap();
}

fn command() -> impl Strategy<Value = Command> {
    let seats = || prop::sample::subsequence((0..SEATS).collect::<Vec<_>>(), 1..5).prop_shuffle();
    let owned = || (0..12_u32, 0..3_u8);
    prop_oneof![
        6 => (0..3_u8, seats(), prop::option::weighted(0.3, 0..3_u8))
            .prop_map(|(subject, seats, key)| Command::Hold { subject, seats, key }),
        3 => (owned(), seats()).prop_map(|((hold, subject), seats)| Command::Swap { hold, subject, seats }),
        2 => owned().prop_map(|(hold, subject)| Command::Extend { hold, subject }),
        2 => owned().prop_map(|(hold, subject)| Command::Release { hold, subject }),
        3 => owned().prop_map(|(hold, subject)| Command::BeginCheckout { hold, subject }),
        2 => (0..12_u32).prop_map(|hold| Command::ReturnToHold { hold }),
        2 => (owned(), seats()).prop_map(|((hold, subject), seats)| Command::Book { hold, subject, seats }),
        2 => (0..12_u32, seats()).prop_map(|(hold, seats)| Command::Free { hold, seats }),
        1 => (seats(), any::<bool>()).prop_map(|(seats, blocked)| Command::SetBlocked { seats, blocked }),
        2 => (1..500_u64).prop_map(|secs| Command::Advance { secs }),
        3 => Just(Command::Compare),
    ]
}

async fn replies_agree<S: SeatStore>(
    Fixture { store, clock }: &Fixture<S>,
    commands: &[Command],
) -> Result<(), TestCaseError> {
    let (start, mut copy) = store.load().await.unwrap();
    let mut check = Check {
        store,
        clock,
        model: ReferenceModel::default(),
    };
    for (number, command) in (0_u32..).zip(commands) {
        check.model.expire(clock.now());
        // Ids are random: a command cannot name a hold that is only made later, so such numbers name no hold
        // at all.
        let command = command
            .clone()
            .with_hold(|hold| if hold < number { hold } else { hold + 1_000 });
        check.run(number, command).await?;
    }
    let mut changes = Vec::new();
    prop_assert!(store.changes_since(start, &mut changes));
    for change in changes {
        copy.set(change.seat, change.state);
    }
    prop_assert_eq!(copy, store.load().await.unwrap().1);
    Ok(())
}

impl Command {
    fn with_hold(mut self, renumber: impl Fn(u32) -> u32) -> Self {
        match &mut self {
            Self::Swap { hold, .. }
            | Self::Extend { hold, .. }
            | Self::Release { hold, .. }
            | Self::BeginCheckout { hold, .. }
            | Self::ReturnToHold { hold }
            | Self::Book { hold, .. }
            | Self::Free { hold, .. } => *hold = renumber(*hold),
            Self::Hold { .. } | Self::SetBlocked { .. } | Self::Advance { .. } | Self::Compare => {}
        }
        self
    }
}

/// A store and the model that it must agree with.
struct Check<'a, S> {
    store: &'a S,
    clock: &'a ManualClock,
    model: ReferenceModel,
}

impl<S: SeatStore> Check<'_, S> {
    async fn run(&mut self, number: u32, command: Command) -> Result<(), TestCaseError> {
        match command {
            Command::Hold {
                subject,
                seats: wanted,
                key,
            } => self.hold(number, subject, &wanted, key).await,
            Command::Swap {
                hold,
                subject,
                seats: wanted,
            } => self.swap(hold, subject, &wanted).await,
            Command::Extend { hold, subject } => self.extend(hold, subject).await,
            Command::Release { hold, subject } => self.release(hold, subject).await,
            Command::BeginCheckout { hold, subject } => self.begin_checkout(hold, subject).await,
            Command::ReturnToHold { hold } => {
                let until = self.clock.now().plus(Duration::from_mins(1));
                self.store.return_to_hold(hold_id(hold), until).await.unwrap();
                self.model.return_to_hold(hold, until);
                Ok(())
            }
            Command::Book {
                hold,
                subject,
                seats: booked,
            } => self.book(hold, subject, &booked).await,
            Command::Free { hold, seats: freed } => {
                self.store.free(hold_id(hold), &seats(&freed)).await.unwrap();
                self.model.free(hold, &freed);
                Ok(())
            }
            Command::SetBlocked {
                seats: named,
                blocked,
            } => {
                self.store.expire_holds(100).await.unwrap();
                self.store.set_blocked(&seats(&named), blocked).await.unwrap();
                self.model.set_blocked(&named, blocked);
                Ok(())
            }
            Command::Advance { secs } => {
                self.clock.advance(Duration::from_secs(secs));
                Ok(())
            }
            Command::Compare => self.compare().await,
        }
    }

    async fn hold(
        &mut self,
        number: u32,
        subject: u8,
        wanted: &[u32],
        key: Option<u8>,
    ) -> Result<(), TestCaseError> {
        let idempotency_key = key.map(|key| IdempotencyKey {
            key_hash: [key * 16 + subject; 16],
            request_hash: set_of(wanted),
        });
        let request = StoreHold {
            idempotency_key,
            ..request(number, subject, wanted)
        };
        let reply = self.store.hold(&request).await.unwrap();
        let expected = self.model.hold(number, subject, wanted, key, self.clock.now());
        let agrees = match (&reply, &expected) {
            (HoldReply::Held { expires_at, .. }, Held::Until(deadline)) => expires_at == deadline,
            (HoldReply::Replayed(record), Held::Replayed(hold)) => record.id == hold_id(*hold),
            (HoldReply::Taken(taken), Held::Taken(expected)) => taken == expected,
            (HoldReply::IdempotencyKeyReused, Held::KeyReused)
            | (HoldReply::LimitReached, Held::LimitReached) => true,
            _ => false,
        };
        prop_assert!(agrees, "{:?}, expected {:?}", reply, expected);
        Ok(())
    }

    async fn swap(&mut self, hold: u32, subject: u8, wanted: &[u32]) -> Result<(), TestCaseError> {
        let reply = self
            .store
            .swap(hold_id(hold), &customer(subject), &seats(wanted))
            .await;
        let reply = match reply.unwrap() {
            ChangeReply::Changed(record) => Swapped::Changed(record.seats.to_vec()),
            ChangeReply::Taken(taken) => Swapped::Taken(taken),
            ChangeReply::LimitReached => Swapped::LimitReached,
            ChangeReply::Gone => Swapped::Gone,
        };
        prop_assert_eq!(reply, self.model.swap(hold, subject, wanted));
        Ok(())
    }

    async fn extend(&mut self, hold: u32, subject: u8) -> Result<(), TestCaseError> {
        let reply = self.store.extend(hold_id(hold), &customer(subject)).await;
        let reply = match reply.unwrap() {
            ExtendReply::Extended(record) => Extended::Until(record.expires_at),
            ExtendReply::NoMoreExtensions => Extended::NoMore,
            ExtendReply::Gone => Extended::Gone,
        };
        prop_assert_eq!(reply, self.model.extend(hold, subject, self.clock.now()));
        Ok(())
    }

    async fn release(&mut self, hold: u32, subject: u8) -> Result<(), TestCaseError> {
        let released = self.store.release(hold_id(hold), &customer(subject)).await;
        prop_assert_eq!(released.unwrap(), self.model.release(hold, subject));
        Ok(())
    }

    async fn begin_checkout(&mut self, hold: u32, subject: u8) -> Result<(), TestCaseError> {
        let begun = self
            .store
            .begin_checkout(hold_id(hold), &customer(subject), self.clock.now())
            .await
            .unwrap();
        let expected = self
            .model
            .begin_checkout(hold, subject)
            .then_some(HoldState::Paying);
        prop_assert_eq!(begun.map(|record| record.state), expected);
        Ok(())
    }

    async fn book(&mut self, hold: u32, subject: u8, booked: &[u32]) -> Result<(), TestCaseError> {
        self.store.expire_holds(100).await.unwrap();
        let reply = self
            .store
            .book(hold_id(hold), &customer(subject), &seats(booked))
            .await
            .unwrap();
        prop_assert_eq!(reply == BookReply::Booked, self.model.book(hold, subject, booked));
        Ok(())
    }

    /// Compares all seats and all holds.
    async fn compare(&self) -> Result<(), TestCaseError> {
        self.store.expire_holds(100).await.unwrap();
        let (_, states) = self.store.load().await.unwrap();
        for seat in 0..SEATS {
            prop_assert_eq!(states.get(SeatIx(seat)), self.model.state(seat), "seat {}", seat);
        }
        for (number, hold) in &self.model.holds {
            let found = self
                .store
                .find(hold_id(*number), &customer(hold.subject))
                .await
                .unwrap();
            prop_assert_eq!(found.is_some(), hold.stage != Stage::Booked);
            prop_assert!(
                found.is_none_or(|found| found.seats == seats(&hold.seats)
                    && found.extensions_left == hold.extensions_left)
            );
        }
        Ok(())
    }
}

/// The same for the same seats in any order.
fn set_of(wanted: &[u32]) -> [u8; 16] {
    let mut set = [0; 16];
    for seat in wanted {
        set[*seat as usize] = 1;
    }
    set
}
