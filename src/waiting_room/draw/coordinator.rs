//! Holds a sale's draw: counts the entries when the sale opens, publishes them, waits for the beacon's round, and draws.
//!
//! Every step is a record of the journal and follows from those before it, so a step may be taken by any node, twice, or
//! after a crash, and the draw is the same. Where the beacon is away the sale waits: the round that decides is fixed, and
//! choosing another one because this one does not answer would be a choice.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Semaphore,
    time::{MissedTickBehavior, interval},
};

use crate::waiting_room::draw::receipts::tree_over;
use crate::waiting_room::{
    Config, OpenError, Phase, WaitingRoom,
    draw::{
        Closed, Committed, Draw, DrawTerms, Drawn, Secrets, commitment, counted_from, deciding_round,
        merkle::Tree, planned_round,
    },
    journal::{
        Event,
        writer::{self, Writer},
    },
    store::{QueueStore, Settings},
};
use crate::{
    kernel::Entropy,
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
pub(crate) const BEACON_LATE: Duration = Duration::from_secs(3);
/// Leaves that are made at once.
pub(crate) const LEAVES_AT_ONCE: u32 = 1_024;
/// Lists of leaves that are being sent at most: each costs seconds of a core for some millions of entries.
const LISTS_MAX: usize = 4;
/// Receipts that are being made at most; whoever asks meanwhile waits her turn.
const RECEIPTS_MAX: usize = 2;

/// What a node remembers while it draws.
#[derive(Debug)]
pub(crate) struct Drawing {
    pub(super) secrets: Option<Secrets>,
    /// Made again after a restart.
    pub(super) tree: Mutex<Option<Arc<Tree>>>,
    pub(super) beacon: Mutex<BeaconSeen>,
    pub(super) lists: Arc<Semaphore>,
    pub(super) receipts: Semaphore,
}

#[derive(Debug, Default)]
struct BeaconSeen {
    /// It did not answer when it was last asked.
    is_away: bool,
    /// When it may be asked again.
    not_before: Duration,
}

impl Drawing {
    pub(crate) fn of(config: &Config, store: &dyn QueueStore, keys: &Keys) -> Result<Self, OpenError> {
        let refused = |why| {
            Err(OpenError::Config {
                sale: config.sale.clone(),
                why,
            })
        };
        let draw = store.draw();
        let secrets = match (&config.draw, &draw.committed) {
            (None, None) => None,
            (None, Some(_)) => {
                return refused("its journal promises a fair draw: set queueing to \"fair_draw\"");
            }
            (Some(_), None) => return refused("its journal holds no draw"),
            (Some(terms), Some(committed)) if terms.chain != committed.chain => {
                return refused(
                    "another beacon was published for its draw than the configuration names in sales.draw",
                );
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
        let receipts = Semaphore::new(RECEIPTS_MAX);
        Ok(Self {
            secrets,
            tree: Mutex::default(),
            beacon: Mutex::default(),
            lists,
            receipts,
        })
    }
}

/// Promises a draw when the sale's journal is opened for the first time.
pub(crate) async fn commit(
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
        return Err(OpenError::Config {
            sale: config.sale.clone(),
            why,
        });
    }
    let secrets = Secrets::new(entropy);
    let committed = Committed {
        commitment: commitment(&secrets.seed(), &config.sale),
        sealed: base64url(
            &keys
                .draw
                .seal(config.sale.as_str().as_bytes(), &secrets.to_bytes()),
        ),
        chain: terms.chain.clone(),
        planned_round: planned_round(&terms.chain, config.opens_at),
    };
    let promised = writer
        .write_once(Event::DrawCommitted(Box::new(committed)), || {
            store.draw().committed.is_some()
        })
        .await;
    promised.map_err(|error| OpenError::Replay {
        sale: config.sale.clone(),
        why: error.to_string(),
    })
}

/// Whether numbers may be told: those of a fair draw are not known before it.
pub(crate) fn has_order(config: &Config, settings: &Settings) -> bool {
    config.draw.is_none() || settings.drawn
}

impl WaitingRoom {
    pub(crate) async fn draw_loop(&self) {
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
    pub(crate) async fn advance_draw(&self) {
        let (Some(terms), Some(secrets)) = (&self.config.draw, &self.drawing.secrets) else {
            return;
        };
        if self.phase() != Phase::Drawing {
            return;
        }
        let Draw {
            committed: Some(committed),
            closed,
            drawn: None,
            ..
        } = self.store.draw()
        else {
            return;
        };
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
        let Ok((persons, tree)) = hashing.await else {
            return;
        };
        let closed = Closed {
            entries,
            persons,
            root: tree.root(),
            round: deciding_round(committed, self.clock.now()),
        };
        let (root, round) = (closed.root, closed.round);
        // Refused when somebody with a lower number was written down meanwhile, or another node was faster: the next look
        // counts again, or finds it done.
        if writer::write_for_the_house(&self.pen, vec![Event::EntriesClosed(Box::new(closed))]).await {
            tracing::info!(sale = %self.config.sale, entries, persons, %root, round, "the entries of the draw are closed");
            *self.drawing.tree.lock() = Some(Arc::new(tree));
            self.renew_board(true).await;
        }
    }

    async fn hold_draw(&self, terms: &DrawTerms, closed: &Closed, secrets: &Secrets) {
        let wait = if self.is_caller() {
            Duration::ZERO
        } else {
            OTHERS_AFTER
        };
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
        let drawn = Drawn {
            round: closed.round,
            beacon: round.beacon,
            signature: hex(&round.signature),
            seed: secrets.seed(),
        };
        if writer::write_for_the_house(&self.pen, vec![Event::Drawn(Box::new(drawn))]).await {
            tracing::info!(sale = %self.config.sale, round = closed.round, beacon = %round.beacon, "the draw is held");
            self.renew_board(true).await;
        }
    }

    fn is_caller(&self) -> bool {
        self.gatekeeper.is_caller()
    }
}

pub(crate) fn count_persons(store: &dyn QueueStore, entries: u32) -> u32 {
    let parts = (1..=entries).step_by(LEAVES_AT_ONCE as usize);
    let persons: usize = parts
        .map(|first| {
            store
                .owners(first, LEAVES_AT_ONCE.min(entries - first + 1))
                .into_iter()
                .flatten()
                .count()
        })
        .sum();
    u32::try_from(persons).unwrap_or(u32::MAX)
}
