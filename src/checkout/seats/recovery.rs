//! The keeper of engines that may lose their memory: a reconciler, periodic and woken when something changes.
//!
//! The ledger counts an engine's memories: the *epoch*. A memory is good if it says that it is complete for the epoch
//! that the ledger counts, and lies on the server on which it was vouched for. A server that was emptied does not say so;
//! one that was restarted, or is a copy of another, is not that server. Then the epoch is raised, which puts an end to
//! everything that still goes on under the old one, the memory is filled from the ledger, and only then is anybody
//! answered. Of several nodes one fills it; another takes over when that one dies. Holds that were not being paid are
//! lost; who owns a seat was never the engine's to say.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::checkout::{
    CheckoutContext,
    ledger::{SeatStoreEpoch, LedgerError},
    seats::{
        ClaimedSeats, PerformanceKey,
        volatile::{VolatileSeatStore, RecoveryError},
    },
};
use crate::{
    kernel::Timestamp,
    seating::{DatasetStatus, RebuildOutcome},
};

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A good memory may have been followed by another, on another server, of which this node does not know.
const LOOKS_PER_COUNT: u32 = 4;
/// A server whose data are older than the ledger counts has been left by somebody who knows a newer one. It is taken all
/// the same when after so many looks no newer one is found.
const LOOKS_AT_THE_OLD: u32 = 10;
/// A memory of a later epoch than the ledger's: the ledger is an older copy of itself. It catches up so far in one look.
const RAISED_AT_ONCE: u32 = 1_000;
const DRIFT_EVERY: Duration = Duration::from_secs(10);
/// Until the first memory is good a node opens for nobody, and gives up after so long.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// Keeps one show's engine.
struct SeatStoreRecovery {
    context: Arc<CheckoutContext>,
    engine: Arc<dyn VolatileSeatStore>,
    looks: u32,
    looks_at_the_old: u32,
    /// The last failure that was told: the same one is not told again and again.
    told: String,
    drift: Drift,
}

/// Seats on which engine and ledger differed at the last look.
#[derive(Default)]
struct Drift {
    looked_at: Option<Timestamp>,
    missing: BTreeSet<String>,
    stray: BTreeSet<String>,
}

/// Starts the keepers, and waits until each has an engine that answers.
///
/// # Errors
/// When one has none in time.
pub(crate) async fn at_start(context: &Arc<CheckoutContext>) -> Result<(), LedgerError> {
    for engine in context.seats.forgetful() {
        let mut keeper = SeatStoreRecovery::new(Arc::clone(context), Arc::clone(&engine));
        let ready = tokio::time::timeout(
            READY_WITHIN,
            keeper.keep_until(|engine| engine.trusted().is_some()),
        );
        if ready.await.is_err() {
            let performance = &engine.performance_key().performance;
            let why = if keeper.told.is_empty() {
                "nobody answers, or another node fills it and does not end"
            } else {
                &keeper.told
            };
            return Err(LedgerError::Unavailable(format!(
                "the seat engine of {performance} is not there: {why}"
            )));
        }
        let kept = Arc::clone(context);
        context.life.supervise("seat engine's keeper", LOOK_EVERY, move || {
            let mut keeper = SeatStoreRecovery::new(Arc::clone(&kept), Arc::clone(&engine));
            async move {
                let life = keeper.context.life.clone();
                tokio::select! {
                    () = life.stopping() => {}
                    () = keeper.keep_until(|_| false) => {}
                }
            }
        });
    }
    Ok(())
}

impl SeatStoreRecovery {
    fn new(context: Arc<CheckoutContext>, engine: Arc<dyn VolatileSeatStore>) -> Self {
        Self {
            context,
            engine,
            looks: 0,
            looks_at_the_old: 0,
            told: String::new(),
            drift: Drift::default(),
        }
    }

    async fn keep_until(&mut self, is_enough: impl Fn(&dyn VolatileSeatStore) -> bool) {
        let mut changes = self.engine.changes();
        let mut is_woken = true;
        while !is_enough(&*self.engine) {
            changes.borrow_and_update();
            match self.look(is_woken).await {
                Ok(()) => self.told.clear(),
                Err(error) => self.tell(&error),
            }
            if is_enough(&*self.engine) {
                return;
            }
            let pause = LOOK_EVERY.mul_f64(0.5 + self.context.entropy.unit());
            is_woken = tokio::time::timeout(pause, changes.changed()).await.is_ok();
        }
    }

    fn tell(&mut self, error: &RecoveryError) {
        let text = error.to_string();
        if text != self.told {
            tracing::warn!(%error, performance = %self.engine.performance_key().performance, "the seat engine's memory cannot be looked after");
            self.told = text;
        }
    }

    async fn look(&mut self, is_woken: bool) -> Result<(), RecoveryError> {
        self.looks = self.looks.wrapping_add(1);
        if !is_woken && self.engine.trusted().is_some() && !self.looks.is_multiple_of(LOOKS_PER_COUNT) {
            return Ok(());
        }
        // The ledger first: what is learned of the memory afterwards is not older.
        let counted = self.context.ledger.seat_store_epoch(self.engine.performance_key()).await?;
        let Some(memory) = self.engine.memory().await? else {
            return Ok(());
        };
        let is_complete = memory.epoch == Some(counted.epoch) && counted.epoch > 0;
        if is_complete && memory.is_activated_server {
            self.looks_at_the_old = 0;
            if self.engine.trusted() != Some(counted.epoch) {
                tracing::info!(performance = %self.engine.performance_key().performance, epoch = counted.epoch, "the seat engine answers");
                self.engine.vouch(counted.epoch, &memory.identity);
            }
            return self.look_for_drift().await;
        }
        if is_complete && self.engine.trusted() == Some(counted.epoch) {
            return Ok(self.engine.settle(&memory.identity).await?);
        }
        self.engine.distrust();
        self.bring_back(counted, &memory).await
    }

    async fn bring_back(&mut self, counted: SeatStoreEpoch, memory: &DatasetStatus) -> Result<(), RecoveryError> {
        if memory.rebuilding_epoch == Some(counted.epoch) {
            return Ok(());
        }
        let is_old = memory.epoch.is_some_and(|it| it < counted.epoch) && memory.identity != counted.identity;
        if is_old && self.looks_at_the_old < LOOKS_AT_THE_OLD {
            self.looks_at_the_old += 1;
            return Ok(());
        }
        let performance_key = self.engine.performance_key().clone();
        let beyond = memory.epoch.max(memory.rebuilding_epoch).unwrap_or(0);
        let mut raised = self
            .context
            .ledger
            .advance_epoch(&performance_key, counted.epoch, &memory.identity)
            .await?;
        for _ in 0..RAISED_AT_ONCE {
            if raised.epoch > beyond {
                break;
            }
            raised = self
                .context
                .ledger
                .advance_epoch(&performance_key, raised.epoch, &memory.identity)
                .await?;
        }
        if raised.identity != memory.identity {
            // Somebody else has raised it for another server.
            return Ok(());
        }
        if counted.epoch == 0 {
            tracing::info!(performance = %performance_key.performance, "the seat engine is new; it is filled from the ledger");
        } else {
            tracing::warn!(performance = %performance_key.performance, epoch = raised.epoch, "the seat engine has lost its memory; it is filled from the ledger");
            metrics::counter!("seating_memories_lost_total", "performance" => performance_key.performance.to_string())
                .increment(1);
        }
        let claims = Box::pin(claims_of(&self.context, &performance_key));
        let rebuilt = self
            .engine
            .rebuild(raised.epoch, &memory.identity, claims)
            .await?;
        if rebuilt != RebuildOutcome::Ready {
            return Ok(());
        }
        self.looks_at_the_old = 0;
        self.engine.vouch(raised.epoch, &memory.identity);
        tracing::info!(performance = %performance_key.performance, epoch = raised.epoch, "the seat engine answers");
        // Once more for the claims that were made meanwhile.
        Ok(self.engine.restore(claims_of(&self.context, &performance_key).await?).await?)
    }

    /// What engine and ledger disagree about at two looks is no sale under way: the ledger is right.
    async fn look_for_drift(&mut self) -> Result<(), RecoveryError> {
        let now = self.context.clock.now();
        if self.drift.looked_at.is_some_and(|at| now.since(at) < DRIFT_EVERY) {
            return Ok(());
        }
        let claims: Vec<ClaimedSeats> = claims_of(&self.context, self.engine.performance_key())
            .await?
            .into_iter()
            .filter(|it| it.booked)
            .collect();
        let engine: BTreeSet<String> = self.engine.booked().await?.into_iter().collect();
        let owners: HashMap<&String, &ClaimedSeats> = claims
            .iter()
            .flat_map(|it| it.seats.iter().map(move |seat| (seat, it)))
            .collect();
        let missing: BTreeSet<String> = owners
            .keys()
            .filter(|it| !engine.contains(**it))
            .map(|it| (*it).clone())
            .collect();
        let stray: BTreeSet<String> = engine
            .iter()
            .filter(|it| !owners.contains_key(it))
            .cloned()
            .collect();
        let before = std::mem::replace(
            &mut self.drift,
            Drift {
                looked_at: Some(now),
                missing,
                stray,
            },
        );
        let kept_missing: Vec<String> = self
            .drift
            .missing
            .intersection(&before.missing)
            .cloned()
            .collect();
        let kept_stray: Vec<String> = self.drift.stray.intersection(&before.stray).cloned().collect();
        let performance = self.engine.performance_key().performance.to_string();
        let count = u32::try_from(kept_missing.len() + kept_stray.len()).unwrap_or(u32::MAX);
        metrics::gauge!("seating_drift_seats", "performance" => performance.clone()).set(f64::from(count));
        if count == 0 {
            return Ok(());
        }
        tracing::error!(
            performance,
            missing = kept_missing.len(),
            stray = kept_stray.len(),
            "the seats and the ledger disagree; the ledger is followed"
        );
        for seat in &kept_missing {
            if let Some(claim) = owners.get(seat) {
                self.engine.book(claim.hold, &claim.seats, &claim.buyer).await?;
            }
        }
        if !kept_stray.is_empty() {
            self.engine.free_strays(&kept_stray).await?;
        }
        Ok(())
    }
}

async fn claims_of(context: &CheckoutContext, performance_key: &PerformanceKey) -> Result<Vec<ClaimedSeats>, LedgerError> {
    let mut claims = context
        .ledger
        .claims(None, context.clock.now().plus(context.redirect_timeout()))
        .await?;
    claims.retain(|it| it.performance_key == *performance_key);
    Ok(claims)
}
