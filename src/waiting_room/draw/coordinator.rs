//! Holds a sale's draw: counts the entries when the sale opens, publishes them, waits for the beacon's round,
//! and draws.
//!
//! Every step is a record of the journal and follows from those before it, so a step may be taken by any
//! node, twice, or after a crash, and the draw is the same. Where the beacon is away the sale waits: the
//! round that decides is fixed, and choosing another one because this one does not answer would be a choice.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    kernel::Entropy,
    platform::{
        keys::Keys,
        signing::{base64url, from_base64url, hex},
    },
    waiting_room::{
        context::RoomContext,
        draw::{
            progress::{
                ClosedEntries, DrawCommitment, DrawResult, DrawState, DrawTerms, counted_from,
                deciding_round, planned_round,
            },
            receipts::{ReceiptMaker, tree_over},
            secrets::{Secrets, commitment},
        },
        journal::{
            record::Event,
            writer::{JournalWriter, WriteError},
        },
        store::port::QueueStore,
        types::{Config, Phase},
    },
};

/// How long the beacon is left alone when it does not answer, and as much again by chance.
const BEACON_PAUSE: Duration = Duration::from_secs(2);
/// Another node than the caller asks the beacon only when the caller has had so long.
const OTHERS_AFTER: Duration = Duration::from_secs(8);

/// Why a sale's draw cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrawSetupError {
    /// Configuration, keys and journal do not agree.
    #[error("{0}")]
    Config(&'static str),
    /// The commitment could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Takes a sale's draw from step to step.
#[derive(Debug)]
pub(crate) struct DrawCoordinator {
    context: Arc<RoomContext>,
    held: Option<HeldDraw>,
    beacon: Mutex<BeaconSeen>,
}

/// What there is where the sale has a draw.
#[derive(Debug)]
struct HeldDraw {
    secrets: Secrets,
    receipts: ReceiptMaker,
}

#[derive(Debug, Default)]
struct BeaconSeen {
    /// It did not answer when it was last asked.
    is_away: bool,
    /// When it may be asked again, by the steady clock.
    not_before: Duration,
}

/// Opens the secrets of the draw that the journal promises; `None` in a sale without a draw.
///
/// # Errors
/// [`DrawSetupError::Config`] when the configuration and the journal name different draws.
pub(crate) fn open_secrets(
    config: &Config,
    store: &dyn QueueStore,
    keys: &Keys,
) -> Result<Option<Secrets>, DrawSetupError> {
    let refused = |why| Err(DrawSetupError::Config(why));
    match (&config.draw, &store.draw().committed) {
        (None, None) => Ok(None),
        (None, Some(_)) => refused("its journal promises a fair draw: set queue_order to \"fair_draw\""),
        (Some(_), None) => refused("its journal holds no draw"),
        (Some(terms), Some(committed)) if terms.chain != committed.chain => {
            refused("another beacon was published for its draw than the configuration names in sales.draw")
        }
        (Some(_), Some(committed)) => {
            let sealed = from_base64url(&committed.sealed);
            let open = sealed.and_then(|sealed| keys.draw.decrypt(config.sale.as_str().as_bytes(), &sealed));
            open.and_then(|bytes| Secrets::from_bytes(&bytes))
                .filter(|secrets| commitment(&secrets.seed(), &config.sale) == committed.commitment)
                .map_or_else(
                    || refused("the secrets of its draw do not open with the service's keys"),
                    |secrets| Ok(Some(secrets)),
                )
        }
    }
}

/// Promises a draw when the sale's journal is opened for the first time.
///
/// # Errors
/// [`DrawSetupError`] when visitors were called already without a draw, or the promise could not be written.
pub(crate) async fn commit(
    config: &Config,
    terms: &DrawTerms,
    store: &dyn QueueStore,
    writer: &JournalWriter,
    keys: &Keys,
    entropy: &dyn Entropy,
) -> Result<(), DrawSetupError> {
    if store.draw().committed.is_some() {
        return Ok(());
    }
    if store.now_serving() > 0 {
        return Err(DrawSetupError::Config(
            "its visitors were called in order of arrival already: set queue_order to \"fifo\"",
        ));
    }
    let secrets = Secrets::new(entropy);
    let sealed = keys
        .draw
        .encrypt(config.sale.as_str().as_bytes(), &secrets.to_bytes());
    let committed = DrawCommitment {
        commitment: commitment(&secrets.seed(), &config.sale),
        sealed: base64url(&sealed),
        chain: terms.chain.clone(),
        planned_round: planned_round(&terms.chain, config.on_sale_starts_at),
    };
    writer
        .write_once(Event::DrawCommitted(Box::new(committed)), || {
            store.draw().committed.is_some()
        })
        .await?;
    Ok(())
}

impl DrawCoordinator {
    pub(crate) fn new(context: Arc<RoomContext>, secrets: Option<Secrets>) -> Self {
        let held = secrets.map(|secrets| HeldDraw {
            receipts: ReceiptMaker::new(secrets.clone()),
            secrets,
        });
        Self {
            context,
            held,
            beacon: Mutex::default(),
        }
    }

    /// Receipts and leaves; `None` in a sale without a draw.
    pub(crate) fn receipts(&self) -> Option<&ReceiptMaker> {
        self.held.as_ref().map(|held| &held.receipts)
    }

    /// Takes the next step, if it is time for one; `is_caller` is the node that takes it first. Says whether
    /// something has changed that the status should show at once.
    pub(crate) async fn advance(&self, is_caller: bool) -> bool {
        let context = &self.context;
        let (Some(terms), Some(held)) = (&context.config.draw, &self.held) else {
            return false;
        };
        if context.phase() != Phase::Drawing {
            return false;
        }
        let DrawState {
            committed: Some(committed),
            closed,
            drawn: None,
            ..
        } = context.store.draw()
        else {
            return false;
        };
        match closed {
            None if context.clock.now() < counted_from(context.config.on_sale_starts_at) || !is_caller => {
                false
            }
            None => self.close_entries(&committed, held).await,
            Some((_, closed)) => self.hold_draw(terms, &closed, &held.secrets, is_caller).await,
        }
    }

    /// Counts the entries of before the opening and publishes their Merkle root, which tells nothing to
    /// others.
    async fn close_entries(&self, committed: &DrawCommitment, held: &HeldDraw) -> bool {
        let context = &self.context;
        let entries = context
            .store
            .last_arrival_before(context.config.on_sale_starts_at);
        let (store, secrets) = (Arc::clone(&context.store), held.secrets.clone());
        let hashing = tokio::task::spawn_blocking(move || {
            let persons = store.count_persons(entries);
            (persons, tree_over(store.as_ref(), &secrets, entries))
        });
        let Ok((persons, tree)) = hashing.await else {
            return false;
        };
        let closed = ClosedEntries {
            entries,
            persons,
            root: tree.root(),
            round: deciding_round(committed, context.clock.now()),
        };
        let (root, round) = (closed.root, closed.round);
        // Refused when a join with a lower number was written meanwhile, or another node was faster: the next
        // step counts again, or finds it done.
        let is_written = context
            .write_patiently(vec![Event::EntriesClosed(Box::new(closed))])
            .await;
        if is_written {
            tracing::info!(sale = %context.config.sale, entries, persons, %root, round,
                "the entries of the draw are closed");
            held.receipts.remember(tree);
        }
        is_written
    }

    async fn hold_draw(
        &self,
        terms: &DrawTerms,
        closed: &ClosedEntries,
        secrets: &Secrets,
        is_caller: bool,
    ) -> bool {
        let context = &self.context;
        let wait = if is_caller { Duration::ZERO } else { OTHERS_AFTER };
        let may_ask = context.clock.monotonic() >= self.beacon.lock().not_before;
        if context.clock.now() < terms.chain.round_at(closed.round).plus(wait) || !may_ask {
            return false;
        }
        let round = match terms.beacon.round(closed.round).await {
            Ok(round) => round,
            Err(error) => {
                let pause = BEACON_PAUSE + BEACON_PAUSE.mul_f64(context.entropy.unit());
                let was_away = {
                    let mut beacon = self.beacon.lock();
                    beacon.not_before = context.clock.monotonic() + pause;
                    std::mem::replace(&mut beacon.is_away, true)
                };
                if !was_away {
                    tracing::error!(sale = %context.config.sale, %error, "the draw waits for its beacon");
                }
                return !was_away;
            }
        };
        self.beacon.lock().is_away = false;
        let drawn = DrawResult {
            round: closed.round,
            beacon: round.beacon,
            signature: hex(&round.signature),
            seed: secrets.seed(),
        };
        let is_written = context.write_patiently(vec![Event::Drawn(Box::new(drawn))]).await;
        if is_written {
            tracing::info!(sale = %context.config.sale, round = closed.round, beacon = %round.beacon,
                "the draw is done: every entry has its number");
        }
        is_written
    }
}
