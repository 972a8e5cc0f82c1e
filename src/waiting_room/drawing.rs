//! Holds a sale's draw: counts the entries when the sale opens, publishes them, waits for the beacon's round, and draws.
//!
//! Every step is a record of the journal and follows from those before it, so a step may be taken by any node, twice, or
//! after a crash, and the draw is the same. Where the beacon is away the sale waits: the round that decides is fixed, and
//! choosing another one because this one does not answer would be a choice.

use std::{sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{MissedTickBehavior, interval},
};

use super::{
    Config, OpenError, Phase, QueueToken, WaitingRoom,
    draw::{
        self, ALGORITHM, Chain, Closed, Committed, Digest, Draw, DrawTerms, Drawn, Secrets, commitment, counted_from, deciding_round,
        merkle::Tree, planned_round,
    },
    journal::Event,
    queue::{self, Writer},
    store::{QueueStore, Settings},
};
use crate::{
    kernel::{Entropy, SaleId, Timestamp},
    platform::{
        keys::Keys,
        signing::{base64url, from_base64url, hex},
    },
};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the beacon is left alone when it does not answer, and as much again by chance.
const BEACON_PAUSE: Duration = Duration::from_secs(2);
/// Another node than the caller asks the beacon only when the caller has had so long.
const OTHERS_AFTER: Duration = Duration::from_secs(8);
/// So long after its round a beacon that has not been heard of is said to be late.
const BEACON_LATE: Duration = Duration::from_secs(3);
/// Leaves that are made at once.
const LEAVES_AT_ONCE: u32 = 1_024;
/// Lists of leaves that are being sent at most: each costs seconds of a core for some millions of entries.
const LISTS_MAX: usize = 4;

/// What a node remembers while it draws.
#[derive(Debug)]
pub(super) struct Drawing {
    secrets: Option<Secrets>,
    /// Made again after a restart.
    tree: Mutex<Option<Arc<Tree>>>,
    beacon: Mutex<BeaconSeen>,
    lists: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct BeaconSeen {
    /// It did not answer when it was last asked.
    is_away: bool,
    /// When it may be asked again.
    not_before: Duration,
}

/// What the public may know of a draw, `None` until it may: the body of `GET /v1/sales/{sale}/draw`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublishedDraw {
    pub sale: SaleId,
    pub algorithm: &'static str,
    pub commitment: Digest,
    pub chain: Chain,
    pub planned_round: u64,
    pub planned_round_at: Timestamp,
    /// How many are in the draw: arrival numbers from 1 on, void ones among them.
    pub entries: Option<u32>,
    pub root: Option<Digest>,
    pub closed_at: Option<Timestamp>,
    /// The round that decides.
    pub round: Option<u64>,
    pub round_at: Option<Timestamp>,
    pub beacon: Option<Digest>,
    pub signature: Option<String>,
    pub seed: Option<Digest>,
    pub draw_seed: Option<Digest>,
    /// One hash for the whole order.
    pub order: Option<Digest>,
    pub drawn_at: Option<Timestamp>,
}

/// What the board says of a draw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct DrawOnBoard {
    commitment: Digest,
    round: u64,
    pub(super) round_at: Timestamp,
    entries: Option<u32>,
    root: Option<Digest>,
    drawn: bool,
    /// The round is over and its value cannot be had: the sale waits for it. It follows from what all nodes know, whichever
    /// of them has asked.
    beacon_away: bool,
}

#[cfg(test)]
impl DrawOnBoard {
    /// With the longest values.
    pub(super) fn largest() -> Self {
        let (digest, at) = (Digest([0xff; 32]), Timestamp::from_secs(1_900_000_000));
        Self {
            commitment: digest,
            round: 4_000_000_000,
            round_at: at,
            entries: Some(u32::MAX),
            root: Some(digest),
            drawn: false,
            beacon_away: false,
        }
    }
}

/// That somebody is in a draw, for herself only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrawReceipt {
    pub arrival: u32,
    /// `None` before the draw is held.
    pub number: Option<u32>,
    pub nonce: Digest,
    pub leaf: Digest,
    /// From the leaf up.
    pub path: Vec<Digest>,
    pub entries: u32,
    pub root: Digest,
}

/// Why there is no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptOutcome {
    /// The sale has no draw.
    NoDraw,
    /// The entries are not counted yet.
    NotClosed,
    /// She came after the entries were closed.
    NotInDraw,
    /// The place is not known here.
    Unknown,
}

impl Drawing {
    pub(super) fn of(config: &Config, store: &dyn QueueStore, keys: &Keys) -> Result<Self, OpenError> {
        let refused = |why| Err(OpenError::Config { sale: config.sale.clone(), why });
        let draw = store.draw();
        let secrets = match (&config.draw, &draw.committed) {
            (None, None) => None,
            (None, Some(_)) => return refused("its journal promises a fair draw: set queueing to \"fair_draw\""),
            (Some(_), None) => return refused("its journal holds no draw"),
            (Some(terms), Some(committed)) if terms.chain != committed.chain => {
                return refused("another beacon was published for its draw than the configuration names in sales.draw");
            }
            (Some(_), Some(committed)) => {
                let sealed = from_base64url(&committed.sealed);
                let open = sealed.and_then(|sealed| keys.draw.open(config.sale.as_str().as_bytes(), &sealed));
                let secrets = open.and_then(|bytes| Secrets::from_bytes(&bytes));
                match secrets.filter(|it| commitment(&it.seed(), &config.sale) == committed.commitment) {
                    Some(secrets) => Some(secrets),
                    None => return refused("the secrets of its draw do not open with this house's keys"),
                }
            }
        };
        let lists = Arc::new(Semaphore::new(LISTS_MAX));
        Ok(Self { secrets, tree: Mutex::default(), beacon: Mutex::default(), lists })
    }
}

/// Promises a draw when the sale's journal is opened for the first time.
pub(super) async fn commit(
    config: &Config,
    terms: &DrawTerms,
    store: &dyn QueueStore,
    writer: &Writer,
    keys: &Keys,
    entropy: &dyn Entropy,
) -> Result<(), OpenError> {
    if store.draw().committed.is_some() {
        return Ok(());
    }
    if store.now_serving() > 0 {
        let why = "its fans were called in order of arrival already: set queueing to \"fifo\"";
        return Err(OpenError::Config { sale: config.sale.clone(), why });
    }
    let secrets = Secrets::new(entropy);
    let committed = Committed {
        commitment: commitment(&secrets.seed(), &config.sale),
        sealed: base64url(&keys.draw.seal(config.sale.as_str().as_bytes(), &secrets.to_bytes())),
        chain: terms.chain.clone(),
        planned_round: planned_round(&terms.chain, config.opens_at),
    };
    let promised = writer.write_once(Event::DrawCommitted(Box::new(committed)), || store.draw().committed.is_some()).await;
    promised.map_err(|error| OpenError::Replay { sale: config.sale.clone(), why: error.to_string() })
}

/// Whether numbers may be told: those of a fair draw are not known before it.
pub(super) fn has_order(config: &Config, settings: &Settings) -> bool {
    config.draw.is_none() || settings.drawn
}

impl WaitingRoom {
    pub(super) async fn draw_loop(&self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.life.stopping() => return,
                _ = ticks.tick() => {}
            }
            if has_order(&self.config, &self.store.settings()) {
                // Nothing is left to do, ever.
                return self.life.stopping().await;
            }
            self.advance_draw().await;
        }
    }

    /// Takes the next step, if it is time for one.
    pub(super) async fn advance_draw(&self) {
        let (Some(terms), Some(secrets)) = (&self.config.draw, &self.drawing.secrets) else { return };
        if self.phase() != Phase::Drawing {
            return;
        }
        let Draw { committed: Some(committed), closed, drawn: None, .. } = self.store.draw() else { return };
        match closed {
            None if self.clock.now() < counted_from(self.config.opens_at) || !self.is_caller() => {}
            None => self.close_entries(&committed, secrets).await,
            Some((_, closed)) => self.hold_draw(terms, &closed, secrets).await,
        }
    }

    /// Counts those who came before the opening and publishes who they are, in a form that says it to them only.
    async fn close_entries(&self, committed: &Committed, secrets: &Secrets) {
        let entries = self.store.arrived_before(self.config.opens_at);
        let (store, secrets) = (Arc::clone(&self.store), secrets.clone());
        let hashing = tokio::task::spawn_blocking(move || {
            let persons = count_persons(store.as_ref(), entries);
            (persons, tree_over(store.as_ref(), &secrets, entries))
        });
        let Ok((persons, tree)) = hashing.await else { return };
        let closed = Closed { entries, persons, root: tree.root(), round: deciding_round(committed, self.clock.now()) };
        let (root, round) = (closed.root, closed.round);
        // Refused when somebody with a lower number was written down meanwhile, or another node was faster: the next look
        // counts again, or finds it done.
        if queue::write_for_the_house(&self.pen, vec![Event::EntriesClosed(Box::new(closed))]).await {
            tracing::info!(sale = %self.config.sale, entries, persons, %root, round, "the entries of the draw are closed");
            *self.drawing.tree.lock() = Some(Arc::new(tree));
            self.renew_board(true).await;
        }
    }

    async fn hold_draw(&self, terms: &DrawTerms, closed: &Closed, secrets: &Secrets) {
        let wait = if self.is_caller() { Duration::ZERO } else { OTHERS_AFTER };
        let rested = self.clock.monotonic() >= self.drawing.beacon.lock().not_before;
        if self.clock.now() < terms.chain.round_at(closed.round).plus(wait) || !rested {
            return;
        }
        let round = match terms.beacon.round(closed.round).await {
            Ok(round) => round,
            Err(error) => {
                let pause = BEACON_PAUSE + BEACON_PAUSE.mul_f64(self.entropy.unit());
                let was_away = {
                    let mut beacon = self.drawing.beacon.lock();
                    beacon.not_before = self.clock.monotonic() + pause;
                    std::mem::replace(&mut beacon.is_away, true)
                };
                if !was_away {
                    tracing::error!(sale = %self.config.sale, %error, "the draw waits for its beacon");
                    self.renew_board(true).await;
                }
                return;
            }
        };
        self.drawing.beacon.lock().is_away = false;
        let drawn = Drawn { round: closed.round, beacon: round.beacon, signature: hex(&round.signature), seed: secrets.seed() };
        if queue::write_for_the_house(&self.pen, vec![Event::Drawn(Box::new(drawn))]).await {
            tracing::info!(sale = %self.config.sale, round = closed.round, beacon = %round.beacon, "the draw is held");
            self.renew_board(true).await;
        }
    }

    fn is_caller(&self) -> bool {
        self.gatekeeper.is_caller()
    }

    /// What is published of the draw; `None` in a sale without one.
    pub fn published_draw(&self) -> Option<PublishedDraw> {
        let Draw { committed, closed, drawn, order } = self.store.draw();
        let committed = committed?;
        let chain = committed.chain.clone();
        let the_closed = closed.as_ref().map(|(_, closed)| closed);
        let the_drawn = drawn.as_ref().map(|(_, drawn)| drawn);
        let draw_seed = the_closed.zip(the_drawn).map(|(c, d)| draw::draw_seed(&d.seed, &d.beacon, &c.root, c.entries));
        Some(PublishedDraw {
            sale: self.config.sale.clone(),
            algorithm: ALGORITHM,
            commitment: committed.commitment,
            planned_round: committed.planned_round,
            planned_round_at: chain.round_at(committed.planned_round),
            entries: the_closed.map(|it| it.entries),
            root: the_closed.map(|it| it.root),
            closed_at: closed.as_ref().map(|(at, _)| *at),
            round: the_closed.map(|it| it.round),
            round_at: the_closed.map(|it| chain.round_at(it.round)),
            beacon: the_drawn.map(|it| it.beacon),
            signature: the_drawn.map(|it| it.signature.clone()),
            seed: the_drawn.map(|it| it.seed),
            draw_seed,
            order,
            drawn_at: drawn.as_ref().map(|(at, _)| *at),
            chain,
        })
    }

    pub(super) fn draw_on_board(&self) -> Option<DrawOnBoard> {
        let Draw { committed, closed, drawn, .. } = self.store.draw();
        let committed = committed?;
        let closed = closed.map(|(_, closed)| closed);
        let round = closed.as_ref().map_or(committed.planned_round, |closed| closed.round);
        let round_at = committed.chain.round_at(round);
        Some(DrawOnBoard {
            commitment: committed.commitment,
            round,
            round_at,
            entries: closed.as_ref().map(|it| it.entries),
            root: closed.as_ref().map(|it| it.root),
            drawn: drawn.is_some(),
            beacon_away: closed.is_some() && drawn.is_none() && self.clock.now() >= round_at.plus(BEACON_LATE),
        })
    }

    /// Her leaf, and how it leads to the root. Some milliseconds of work, and once after a start some seconds for
    /// millions of entries, so it is done aside.
    pub async fn draw_receipt(&self, token: &QueueToken) -> Result<DrawReceipt, ReceiptOutcome> {
        let Some(secrets) = self.drawing.secrets.clone() else { return Err(ReceiptOutcome::NoDraw) };
        let Some((_, closed)) = self.store.draw().closed else { return Err(ReceiptOutcome::NotClosed) };
        let arrival = self.arrival_in_line(token).ok_or(ReceiptOutcome::Unknown)?;
        if arrival > closed.entries || self.store.missed_draw(arrival) {
            return Err(ReceiptOutcome::NotInDraw);
        }
        let (store, known) = (Arc::clone(&self.store), self.drawing.tree.lock().clone());
        let entries = closed.entries;
        let making = tokio::task::spawn_blocking(move || {
            let tree = known.unwrap_or_else(|| Arc::new(tree_over(store.as_ref(), &secrets, entries)));
            let leaf = |index: u32| secrets.leaf(index + 1, store.owners(index + 1, 1)[0]);
            (tree.path(arrival - 1, leaf), leaf(arrival - 1), secrets.nonce(arrival), tree)
        });
        let Ok((Some(path), leaf, nonce, tree)) = making.await else { return Err(ReceiptOutcome::Unknown) };
        *self.drawing.tree.lock() = Some(tree);
        let number = self.store.settings().drawn.then(|| self.store.queue_number(arrival));
        Ok(DrawReceipt { arrival, number, nonce, leaf, path, entries, root: closed.root })
    }

    /// All leaves in order of arrival, some at a time; `None` before the entries are closed. `Err`: as many lists are being
    /// sent as may be.
    pub fn draw_leaves(&self) -> Option<Result<DrawLeaves, ()>> {
        let secrets = self.drawing.secrets.clone()?;
        let (_, closed) = self.store.draw().closed?;
        let Ok(permit) = Arc::clone(&self.drawing.lists).try_acquire_owned() else { return Some(Err(())) };
        let (store, entries, root) = (Arc::clone(&self.store), closed.entries, closed.root);
        Some(Ok(DrawLeaves { store, secrets, entries, root, next: 0, _permit: permit }))
    }
}

/// A list of leaves under way.
pub struct DrawLeaves {
    store: Arc<dyn QueueStore>,
    secrets: Secrets,
    pub entries: u32,
    pub root: Digest,
    next: u32,
    _permit: OwnedSemaphorePermit,
}

impl std::fmt::Debug for DrawLeaves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DrawLeaves({} of {})", self.next, self.entries)
    }
}

impl DrawLeaves {
    pub fn into_stream(self) -> impl Stream<Item = Vec<Digest>> + Send {
        stream::unfold(self, |mut list| async move {
            let count = LEAVES_AT_ONCE.min(list.entries - list.next);
            if count == 0 {
                return None;
            }
            let first = list.next + 1;
            list.next += count;
            let leaves = (first..).zip(list.store.owners(first, count)).map(|(arrival, owner)| list.secrets.leaf(arrival, owner)).collect();
            // Somebody else's turn: this is work, not waiting.
            tokio::task::yield_now().await;
            Some((leaves, list))
        })
    }
}

pub(super) fn count_persons(store: &dyn QueueStore, entries: u32) -> u32 {
    let parts = (1..=entries).step_by(LEAVES_AT_ONCE as usize);
    let persons: usize =
        parts.map(|first| store.owners(first, LEAVES_AT_ONCE.min(entries - first + 1)).into_iter().flatten().count()).sum();
    u32::try_from(persons).unwrap_or(u32::MAX)
}

/// Reads the owners of one block at a time, so that nobody waits for the whole.
fn tree_over(store: &dyn QueueStore, secrets: &Secrets, entries: u32) -> Tree {
    Tree::over(entries, |index| secrets.leaf(index + 1, store.owners(index + 1, 1)[0]))
}
