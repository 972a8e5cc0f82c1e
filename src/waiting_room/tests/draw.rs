//! A sale that draws: who is in it, in which order they are called, and what a crash at each step leaves.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::TryStreamExt;

use super::TempDir;
use crate::{
    demo::sandbox_beacon::SandboxSigner,
    kernel::{Clock, ManualClock, SeededEntropy, Subject, Timestamp},
    platform::{keys::Keys, shutdown::Lifecycle, signing::VerifyingKeys},
    waiting_room::{
        ReceiptOutcome,
        draw::{
            self,
            beacon::{Beacon, BeaconChain, BeaconRound, BeaconUnavailable},
            digest::Digest,
            merkle,
            numbering::DrawNumbering,
            progress::DrawTerms,
            publication::PublishedDraw,
            shuffle::Shuffle,
            verify::ClaimedDraw,
        },
        open::{Deps, OpenError},
        room::WaitingRoom,
        store::conformance,
        tokens::queue_token::QueueToken,
        types::{
            BoxOfficeLoad, Config, Durability, EnterOutcome, EntryState, JoinOutcome, JournalLocation, Phase,
            Position, StoreBackend,
        },
    },
};

const START: i64 = 1_795_464_000;

#[derive(Debug, Default)]
pub(super) struct TestBeacon {
    is_away: AtomicBool,
}

#[async_trait]
impl Beacon for TestBeacon {
    async fn round(&self, round: u64) -> Result<BeaconRound, BeaconUnavailable> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(BeaconUnavailable {
                round,
                why: "a test".to_owned(),
            });
        }
        let signature = SandboxSigner::of("test").sign(round).to_vec();
        Ok(BeaconRound {
            beacon: Digest(crate::platform::signing::sha256(&signature)),
            signature,
        })
    }
}

struct TestRoom {
    room: Arc<WaitingRoom>,
    clock: Arc<ManualClock>,
    life: Lifecycle,
}

pub(super) fn chain() -> BeaconChain {
    let public_key = SandboxSigner::of("test").public_key();
    BeaconChain {
        chain: "test".into(),
        genesis_at: Timestamp::from_secs(START - 300),
        period_s: 10,
        public_key,
    }
}

pub(super) fn terms() -> DrawTerms {
    DrawTerms {
        chain: chain(),
        beacon: Arc::new(TestBeacon::default()),
    }
}

fn config(beacon: &Arc<TestBeacon>) -> Config {
    let at = |s: i64| Timestamp::from_secs(START + s);
    let draw = Some(DrawTerms {
        chain: chain(),
        beacon: Arc::clone(beacon) as _,
    });
    Config {
        prequeue_starts_at: at(100),
        on_sale_starts_at: at(200),
        closes_at: at(5_000),
        admission_burst: Some(50),
        admission_rate_per_minute: 60_000,
        draw,
        ..conformance::config(30)
    }
}

fn customer(n: u32) -> Subject {
    Subject::customer(&n.to_string()).unwrap()
}

async fn try_open(
    config: Config,
    file: &Path,
    clock: &Arc<ManualClock>,
    seed: u64,
) -> Result<TestRoom, OpenError> {
    let life = Lifecycle::new();
    let deps = Deps {
        clock: Arc::clone(clock) as _,
        entropy: Arc::new(SeededEntropy::new(seed)),
        keys: Keys::ephemeral(&SeededEntropy::new(42)),
        journal: JournalLocation::File(file.to_owned()),
        store: StoreBackend::Memory,
        node_name: String::new(),
        lifecycle: life.clone(),
    };
    Ok(TestRoom {
        room: Arc::new(crate::waiting_room::open::recover(config, deps).await?),
        clock: Arc::clone(clock),
        life,
    })
}

async fn open(config: Config, file: &Path, clock: &Arc<ManualClock>, seed: u64) -> TestRoom {
    try_open(config, file, clock, seed).await.unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_secs(START)))
}

impl TestRoom {
    async fn passes(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.room.tick().await.unwrap();
        self.room.advance_draw().await;
        self.room.tick().await.unwrap();
    }

    async fn join(&self, n: u32) -> (Option<u64>, QueueToken) {
        let (JoinOutcome::Joined(joined) | JoinOutcome::Existing(joined)) =
            self.room.join(&customer(n)).await.unwrap()
        else {
            panic!("customer {n} may join")
        };
        (joined.number, self.room.verify_token(&joined.token).unwrap())
    }

    /// Without how long it will take: that is measured anew after a restart.
    fn places(&self, tokens: &[QueueToken]) -> Vec<Position> {
        tokens
            .iter()
            .map(|token| Position {
                wait: None,
                ..self.room.position(token)
            })
            .collect()
    }

    fn published(&self) -> PublishedDraw {
        self.room.published_draw().unwrap()
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_slice(&self.room.status().json).unwrap()
    }

    async fn leaves(&self) -> Vec<Digest> {
        let list = self.room.draw_leaves().unwrap().unwrap();
        let blocks = list.into_stream(|leaves, _| leaves.to_vec());
        blocks.try_collect::<Vec<_>>().await.unwrap().concat()
    }
}

fn claimed(published: &PublishedDraw, leaves: Option<Vec<Digest>>) -> ClaimedDraw {
    let mut claimed: ClaimedDraw = serde_json::from_value(serde_json::to_value(published).unwrap()).unwrap();
    claimed.leaves = leaves;
    claimed
}

#[tokio::test]
async fn early_entries_are_drawn_once_and_called_in_published_order() {
    let (dir, beacon, clock) = (TempDir::new(), Arc::new(TestBeacon::default()), clock());
    let test = open(config(&beacon), &dir.path().join("queue.db"), &clock, 1).await;
    let promised = test.published();
    assert_eq!(
        (promised.entries, promised.root, promised.seed, promised.beacon),
        (None, None, None, None)
    );
    test.passes(100).await;
    let mut tokens = Vec::new();
    for n in 1..=40 {
        let (number, token) = test.join(n).await;
        assert_eq!(
            (number, token.arrival),
            (None, u64::from(n)),
            "no number before the draw"
        );
        tokens.push(token);
    }
    let place = test.room.position(&tokens[3]);
    assert_eq!(
        (place.state, place.number, place.position, place.wait),
        (EntryState::Prequeue, None, None, None)
    );
    let early = test.room.draw_receipt(&tokens[3]).await.unwrap();
    assert_eq!(
        (
            early.arrival,
            early.entries,
            early.root,
            &early.path,
            early.number
        ),
        (4, None, None, &None, None),
        "the receipt proves the entry"
    );
    test.room.leave(&tokens[6]).await.unwrap();
    test.passes(100).await;
    assert_eq!(test.room.phase(), Phase::Drawing);
    let (number, late) = test.join(41).await;
    assert_eq!(
        (number, test.room.position(&late).state),
        (None, EntryState::Prequeue)
    );
    test.passes(1).await;
    let closed = test.published();
    assert_eq!(
        (closed.entries, closed.seed, closed.planned_round),
        (Some(40), None, promised.planned_round)
    );
    assert!(closed.round_at.unwrap().since(closed.closed_at.unwrap()) >= Duration::from_secs(30));
    assert_eq!(test.status()["draw"]["entries"], 40);
    assert!(matches!(
        test.room.enter(&tokens[0], BoxOfficeLoad::Normal).await.unwrap(),
        EnterOutcome::NotCalledYet(_)
    ));
    let receipt = test.room.draw_receipt(&tokens[3]).await.unwrap();
    assert_eq!(
        (receipt.arrival, receipt.entries, receipt.number),
        (4, Some(40), None)
    );
    assert_eq!(
        receipt.group, early.group,
        "the group signature is always the same"
    );

    test.passes(closed.round_at.unwrap().since(clock.now()).as_secs())
        .await;
    assert_eq!(test.room.phase(), Phase::OnSale);
    let drawn = test.published();
    assert_eq!((drawn.commitment, drawn.root), (promised.commitment, closed.root));
    let leaves = test.leaves().await;
    let checked = draw::verify(&claimed(&drawn, Some(leaves.clone()))).unwrap();
    assert!(checked.faults.is_empty(), "{:?}", checked.faults);
    for token in &tokens {
        let arrival = u32::try_from(token.arrival).unwrap();
        assert!(
            token.arrival == 7
                || test.room.position(token).number == Some(checked.order.queue_number(arrival).into())
        );
    }
    let receipt = test.room.draw_receipt(&tokens[3]).await.unwrap();
    assert_eq!(receipt.number, Some(checked.order.queue_number(4)));
    let entry = [4_u64.to_be_bytes(), tokens[3].subject_hash.to_be_bytes()].concat();
    assert_eq!(
        receipt.leaf.0,
        crate::platform::signing::hmac_sha256(&receipt.nonce.0, &entry),
        "the holder can compute the leaf"
    );
    assert!(merkle::leads_to(
        &drawn.root.unwrap(),
        3,
        40,
        &receipt.leaf,
        receipt.path.as_ref().unwrap()
    ));
    let late = test.room.draw_receipt(&late).await.unwrap();
    assert_eq!(
        (late.arrival, late.path.clone(), late.number),
        (41, None, Some(41)),
        "behind the draw"
    );
    let keys = VerifyingKeys::from_jwks(&Keys::ephemeral(&SeededEntropy::new(42)).receipt.jwks());
    let all_known = claimed(&drawn, Some(leaves));
    for held in [&early, &receipt, &late] {
        let found = draw::verify_receipt(held, &all_known, Some(&checked.order), Some(&keys));
        assert!(
            found.faults.is_empty() && found.right.contains(&"receipt.group"),
            "{found:?}"
        );
    }
    assert_eq!(
        (test.join(41).await.0, test.join(42).await.0),
        (Some(41), Some(42)),
        "who came later stands behind"
    );

    let mut entered = Vec::new();
    for _ in 0..40 {
        test.passes(1).await;
        let mut called: Vec<&QueueToken> = tokens
            .iter()
            .filter(|t| test.room.position(t).state == EntryState::Called)
            .collect();
        called.sort_unstable_by_key(|token| test.room.position(token).number);
        for token in called {
            if let EnterOutcome::Admitted { pass, .. } =
                test.room.enter(token, BoxOfficeLoad::Normal).await.unwrap()
            {
                let pass = test.room.verify_pass(&pass).unwrap();
                entered.push((pass.number, token.arrival));
                test.room.end_visit(&pass).await.unwrap();
            }
        }
    }
    let order: Vec<(u64, u64)> = (1..=40)
        .map(|number| (u64::from(number), u64::from(checked.order.arrival(number))))
        .filter(|(_, arrival)| *arrival != 7)
        .collect();
    assert_eq!(entered, order, "called in the published order");
    test.life.stop();
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_the_same_draw() {
    let (dir, beacon, clock) = (TempDir::new(), Arc::new(TestBeacon::default()), clock());
    let file = dir.path().join("queue.db");
    let mut test = open(config(&beacon), &file, &clock, 1).await;
    let promised = test.published();
    let mut tokens = Vec::new();
    let mut last = promised.clone();
    for (step, seconds) in [100, 50, 50, 1, 60, 10].into_iter().enumerate() {
        test.passes(seconds).await;
        if step < 2 {
            for n in 1..=20_u32 {
                tokens.push(test.join(n + 20 * u32::try_from(step).unwrap()).await.1);
            }
        }
        let before = (test.published(), test.room.phase(), test.places(&tokens));
        test.life.stop();
        let copy = dir.path().join(format!("crashed-{step}.db"));
        for suffix in ["", "-wal"] {
            let from = format!(
                "{}{suffix}",
                if step == 0 {
                    file.clone()
                } else {
                    dir.path().join(format!("crashed-{}.db", step - 1))
                }
                .display()
            );
            std::fs::copy(from, format!("{}{suffix}", copy.display())).unwrap();
        }
        // Other randomness: what was decided is in the journal.
        test = open(config(&beacon), &copy, &clock, 100 + u64::try_from(step).unwrap()).await;
        let after = (test.published(), test.room.phase(), test.places(&tokens));
        assert_eq!(after, before, "after step {step}");
        last = after.0;
    }
    assert_eq!(
        (last.commitment, last.entries, test.room.phase()),
        (promised.commitment, Some(40), Phase::OnSale)
    );
    assert!(
        draw::verify(&claimed(&last, Some(test.leaves().await)))
            .unwrap()
            .faults
            .is_empty()
    );
    let receipt = test.room.draw_receipt(&tokens[39]).await.unwrap();
    assert!(
        merkle::leads_to(&last.root.unwrap(), 39, 40, &receipt.leaf, &receipt.path.unwrap()),
        "the tree is made again"
    );
    test.life.stop();
}

#[tokio::test]
async fn the_draw_waits_for_an_unavailable_beacon() {
    let (dir, beacon, clock) = (TempDir::new(), Arc::new(TestBeacon::default()), clock());
    beacon.is_away.store(true, Ordering::Relaxed);
    let test = open(config(&beacon), &dir.path().join("queue.db"), &clock, 1).await;
    test.passes(100).await;
    let token = test.join(1).await.1;
    test.passes(400).await;
    let closed = test.published();
    assert!(
        closed.round.unwrap() > closed.planned_round,
        "no node counted the entries in time for the planned round"
    );
    assert!(closed.round_at.unwrap().since(closed.closed_at.unwrap()) >= Duration::from_secs(30));
    test.passes(100).await;
    assert_eq!(
        (
            test.room.phase(),
            test.status()["draw"]["beacon_is_late"].as_bool()
        ),
        (Phase::Drawing, Some(true))
    );
    assert_eq!(test.status()["phase"], "drawing");
    beacon.is_away.store(false, Ordering::Relaxed);
    test.passes(5).await;
    let drawn = test.published();
    assert_eq!(
        (test.room.phase(), drawn.round),
        (Phase::OnSale, closed.round),
        "the round that was to decide"
    );
    assert_eq!(test.room.position(&token).number, Some(1));
    assert_eq!(test.status()["draw"]["beacon_is_late"], false);
    test.life.stop();
}

#[tokio::test]
async fn terms_that_break_the_commitment_are_refused() {
    let (dir, beacon, clock) = (TempDir::new(), Arc::new(TestBeacon::default()), clock());
    let file = dir.path().join("queue.db");
    open(config(&beacon), &file, &clock, 1).await.life.stop();
    let refused = async |config: Config| {
        matches!(
            try_open(config, &file, &clock, 1).await,
            Err(OpenError::Config { .. })
        )
    };
    assert!(
        refused(Config {
            draw: None,
            ..config(&beacon)
        })
        .await,
        "the journal promises a draw"
    );
    let other = BeaconChain {
        period_s: 3,
        ..chain()
    };
    assert!(
        refused(Config {
            draw: Some(DrawTerms {
                chain: other,
                beacon: Arc::clone(&beacon) as _
            }),
            ..config(&beacon)
        })
        .await
    );
    assert!(
        refused(Config {
            durability: Durability::Async,
            ..config(&beacon)
        })
        .await
    );
    assert!(!refused(config(&beacon)).await);

    let fifo = dir.path().join("fifo.db");
    let test = open(
        Config {
            draw: None,
            ..config(&beacon)
        },
        &fifo,
        &clock,
        1,
    )
    .await;
    test.passes(100).await;
    test.join(1).await;
    test.passes(200).await;
    test.life.stop();
    let late = try_open(config(&beacon), &fifo, &clock, 1).await;
    assert!(
        matches!(late, Err(OpenError::Config { .. })),
        "customers were called already"
    );
}

/// Ranks of one arrival over many draws, as a sale makes them: chi-square with 9 degrees of freedom, 0.9999
/// quantile 33.7.
#[test]
fn arrival_order_does_not_affect_the_rank() {
    let mut counts = [0_u32; 10];
    for draw in 0..5_000_u64 {
        let beacon = Digest(crate::platform::signing::sha256(&draw.to_be_bytes()));
        let seed = draw::draw_seed(&Digest([1; 32]), &beacon, &Digest([2; 32]), 10);
        counts[Shuffle::new(seed.0, 10).position_of(0) as usize] += 1;
        assert!(
            draw > 0
                || DrawNumbering::drawn(&seed, 10).queue_number(1)
                    == Shuffle::new(seed.0, 10).position_of(0) + 1
        );
    }
    let chi: f64 = counts
        .iter()
        .map(|&n| (f64::from(n) - 500.0).powi(2) / 500.0)
        .sum();
    assert!(chi < 33.7, "{chi} of {counts:?}");
}

#[tokio::test]
async fn beyond_a_limit_of_waiting_requests_receipts_are_refused_at_once() {
    let (dir, beacon, clock) = (TempDir::new(), Arc::new(TestBeacon::default()), clock());
    let test = open(config(&beacon), &dir.path().join("queue.db"), &clock, 1).await;
    test.passes(100).await;
    let (_, token) = test.join(1).await;
    let asked = (0..80).map(|_| test.room.draw_receipt(&token));
    let answers = futures_util::future::join_all(asked).await;
    let made = answers.iter().filter(|answer| answer.is_ok()).count();
    let refused = answers
        .iter()
        .filter(|answer| **answer == Err(ReceiptOutcome::Busy))
        .count();
    assert_eq!(made + refused, answers.len());
    assert!(made >= 64 && refused > 0, "{made} made, {refused} refused");
    assert!(test.room.draw_receipt(&token).await.is_ok(), "once they are made");
}
