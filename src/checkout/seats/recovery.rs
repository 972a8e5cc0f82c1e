//! Recovery of seat stores that lose their data: a reconciler per performance, periodic and woken by changes.
//!
//! The ledger counts the *epochs* of a seat store. A dataset is valid if it says that it is complete for the
//! ledger's current epoch and is on the server on which it was activated. A server that was emptied does not
//! say so; a server that was restarted, or that is a copy of another, is not that server. Then the epoch is
//! advanced, which ends everything that still runs in the old one, the store is rebuilt from the ledger, and
//! only then are calls served.
//!
//! Of several nodes one rebuilds the store; another takes over if that one dies. Holds that were not in
//! payment are lost. Sold seats are not, because the store was never the authority on them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::checkout::{
    context::CheckoutContext,
    ledger::port::{LedgerError, SeatStoreEpoch},
    seats::port::{RecoveryError, VolatileSeatStore},
    types::{ClaimedSeats, PerformanceKey},
};
use crate::{
    kernel::Timestamp,
    seating::{DatasetStatus, RebuildOutcome},
};

const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// An active dataset is compared with the ledger in every so many checks: another node may have activated a
/// later one on another server.
const CHECKS_PER_LEDGER_READ: u32 = 4;
/// A server with data of an earlier epoch has been left by nodes that know a newer server. It is rebuilt
/// anyway if no newer one appears within so many checks.
const STALE_CHECKS_MAX: u32 = 10;
/// A dataset of a later epoch than the ledger's means that the ledger was restored from a backup. It catches
/// up by at most so many epochs in one check.
const EPOCHS_PER_CHECK_MAX: u32 = 1_000;
const MISMATCH_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// At start a node waits so long for its first active dataset, and gives up then.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// Recovers the seat store of one performance.
struct SeatStoreRecovery {
    context: Arc<CheckoutContext>,
    store: Arc<dyn VolatileSeatStore>,
    checks: u32,
    stale_checks: u32,
    /// The last failure that was logged: the same one is not logged twice in a row.
    last_failure: String,
    mismatch: Mismatch,
}

/// Seats on which seat store and ledger disagreed at the last comparison.
#[derive(Default)]
struct Mismatch {
    checked_at: Option<Timestamp>,
    /// Booked in the ledger only.
    missing: BTreeSet<String>,
    /// Booked in the seat store only.
    unknown: BTreeSet<String>,
}

impl Mismatch {
    fn between(owners: &HashMap<&String, &ClaimedSeats>, booked: &BTreeSet<String>, now: Timestamp) -> Self {
        Self {
            checked_at: Some(now),
            missing: owners
                .keys()
                .filter(|seat| !booked.contains(**seat))
                .map(|seat| (*seat).clone())
                .collect(),
            unknown: booked
                .iter()
                .filter(|seat| !owners.contains_key(seat))
                .cloned()
                .collect(),
        }
    }
}

/// Starts the recovery of every volatile seat store, and waits until each one serves calls.
///
/// # Errors
/// [`LedgerError::Unavailable`] if a store does not serve calls within [`START_TIMEOUT`].
pub(crate) async fn at_start(context: &Arc<CheckoutContext>) -> Result<(), LedgerError> {
    for store in context.seats.volatile_stores() {
        let mut recovery = SeatStoreRecovery::new(Arc::clone(context), Arc::clone(&store));
        let ready = tokio::time::timeout(
            START_TIMEOUT,
            recovery.run_until(|store| store.active_epoch().is_some()),
        );
        if ready.await.is_err() {
            let performance = &store.performance_key().performance;
            let why = if recovery.last_failure.is_empty() {
                "no server answers, or another node rebuilds it and does not finish"
            } else {
                &recovery.last_failure
            };
            return Err(LedgerError::Unavailable(format!(
                "the seat store of {performance} is not ready: {why}"
            )));
        }
        let supervised = Arc::clone(context);
        context
            .lifecycle
            .supervise("seat store recovery", CHECK_INTERVAL, move || {
                let mut recovery = SeatStoreRecovery::new(Arc::clone(&supervised), Arc::clone(&store));
                async move {
                    let lifecycle = recovery.context.lifecycle.clone();
                    tokio::select! {
                        () = lifecycle.stopping() => {}
                        () = recovery.run_until(|_| false) => {}
                    }
                }
            });
    }
    Ok(())
}

impl SeatStoreRecovery {
    fn new(context: Arc<CheckoutContext>, store: Arc<dyn VolatileSeatStore>) -> Self {
        Self {
            context,
            store,
            checks: 0,
            stale_checks: 0,
            last_failure: String::new(),
            mismatch: Mismatch::default(),
        }
    }

    async fn run_until(&mut self, is_reached: impl Fn(&dyn VolatileSeatStore) -> bool) {
        let mut changes = self.store.dataset_changes();
        let mut is_woken = true;
        while !is_reached(&*self.store) {
            changes.borrow_and_update();
            match self.recover_once(is_woken).await {
                Ok(()) => self.last_failure.clear(),
                Err(error) => self.log_failure(&error),
            }
            if is_reached(&*self.store) {
                return;
            }
            // Jitter, so that nodes that lost the same store do not check in step.
            let pause = CHECK_INTERVAL.mul_f64(0.5 + self.context.entropy.unit());
            is_woken = tokio::time::timeout(pause, changes.changed()).await.is_ok();
        }
    }

    fn log_failure(&mut self, error: &RecoveryError) {
        let text = error.to_string();
        if text != self.last_failure {
            let PerformanceKey { sale, performance } = self.store.performance_key();
            tracing::warn!(%error, %sale, %performance, "could not check the seat store; retrying");
            self.last_failure = text;
        }
    }

    /// One check: activates, migrates or rebuilds the store, or compares it with the ledger.
    async fn recover_once(&mut self, is_woken: bool) -> Result<(), RecoveryError> {
        self.checks = self.checks.wrapping_add(1);
        let is_ledger_read = self.checks.is_multiple_of(CHECKS_PER_LEDGER_READ);
        if !is_woken && self.store.active_epoch().is_some() && !is_ledger_read {
            return Ok(());
        }
        // The ledger first: the status that is read afterwards cannot be older than the epoch.
        let key = self.store.performance_key();
        let recorded = self.context.ledger.seat_store_epoch(key).await?;
        let Some(status) = self.store.dataset_status().await? else {
            return Ok(());
        };
        let is_complete = status.epoch == Some(recorded.epoch) && recorded.epoch > 0;
        if is_complete && status.is_activated_dataset {
            self.stale_checks = 0;
            if self.store.active_epoch() != Some(recorded.epoch) {
                tracing::info!(
                    sale = %key.sale,
                    performance = %key.performance,
                    epoch = recorded.epoch,
                    "the seat store is active"
                );
                self.store.activate(recorded.epoch, &status.dataset_id);
            }
            return self.follow_ledger().await;
        }
        if is_complete && self.store.active_epoch() == Some(recorded.epoch) {
            return Ok(self.store.accept_migration(&status.dataset_id).await?);
        }
        self.store.deactivate();
        self.rebuild(recorded, &status).await
    }

    /// Advances the epoch and rebuilds the store from the ledger, unless another node does or a newer server
    /// may appear.
    async fn rebuild(
        &mut self,
        recorded: SeatStoreEpoch,
        status: &DatasetStatus,
    ) -> Result<(), RecoveryError> {
        if status.rebuilding_epoch == Some(recorded.epoch) {
            return Ok(());
        }
        let is_stale = status.epoch.is_some_and(|epoch| epoch < recorded.epoch)
            && status.dataset_id != recorded.identity;
        if is_stale && self.stale_checks < STALE_CHECKS_MAX {
            self.stale_checks += 1;
            return Ok(());
        }
        let key = self.store.performance_key().clone();
        let advanced = self.advance_epoch(&key, recorded.epoch, status).await?;
        if advanced.identity != status.dataset_id {
            // Another node has advanced it for another server.
            return Ok(());
        }
        let (sale, performance, epoch) = (&key.sale, &key.performance, advanced.epoch);
        if recorded.epoch == 0 {
            tracing::info!(%sale, %performance, "the seat store is new; filling it from the ledger");
        } else {
            tracing::warn!(
                %sale,
                %performance,
                epoch,
                "the seat store lost its data; rebuilding it from the ledger"
            );
            metrics::counter!(
                "stagedoor_seat_store_data_loss_total",
                "sale" => key.sale.to_string(),
                "performance" => performance.to_string()
            )
            .increment(1);
        }
        let claims = Box::pin(claims_of(&self.context, &key));
        let outcome = self.store.rebuild(epoch, &status.dataset_id, claims).await?;
        if outcome != RebuildOutcome::Ready {
            return Ok(());
        }
        self.stale_checks = 0;
        self.store.activate(epoch, &status.dataset_id);
        tracing::info!(%sale, %performance, epoch, "the seat store is active");
        // Once more, for the claims that were made during the rebuild.
        let claims = claims_of(&self.context, &key).await?;
        Ok(self.store.restore(claims).await?)
    }

    /// Advances the ledger's epoch beyond every epoch that the dataset has seen.
    async fn advance_epoch(
        &self,
        key: &PerformanceKey,
        seen: u64,
        status: &DatasetStatus,
    ) -> Result<SeatStoreEpoch, LedgerError> {
        let ledger = &self.context.ledger;
        let beyond = status.epoch.max(status.rebuilding_epoch).unwrap_or(0);
        let mut advanced = ledger.advance_epoch(key, seen, &status.dataset_id).await?;
        for _ in 0..EPOCHS_PER_CHECK_MAX {
            if advanced.epoch > beyond {
                break;
            }
            advanced = ledger
                .advance_epoch(key, advanced.epoch, &status.dataset_id)
                .await?;
        }
        Ok(advanced)
    }

    /// Compares the booked seats with the ledger and corrects the store. Only a mismatch that two comparisons
    /// in a row find is real; one that a single comparison finds may be a sale in progress.
    async fn follow_ledger(&mut self) -> Result<(), RecoveryError> {
        let now = self.context.clock.now();
        let is_due = |at| now.since(at) >= MISMATCH_CHECK_INTERVAL;
        if !self.mismatch.checked_at.is_none_or(is_due) {
            return Ok(());
        }
        let key = self.store.performance_key();
        let claims = claims_of(&self.context, key).await?;
        let booked: BTreeSet<String> = self.store.booked_seats().await?.into_iter().collect();
        let owners: HashMap<&String, &ClaimedSeats> = claims
            .iter()
            .filter(|claim| claim.booked)
            .flat_map(|claim| claim.seats.iter().map(move |seat| (seat, claim)))
            .collect();
        let found = Mismatch::between(&owners, &booked, now);
        let before = std::mem::replace(&mut self.mismatch, found);
        let again = |now: &BTreeSet<String>, before: &BTreeSet<String>| -> Vec<String> {
            now.intersection(before).cloned().collect()
        };
        let missing = again(&self.mismatch.missing, &before.missing);
        let unknown = again(&self.mismatch.unknown, &before.unknown);
        let performance = key.performance.to_string();
        let count = u32::try_from(missing.len() + unknown.len()).unwrap_or(u32::MAX);
        metrics::gauge!(
            "stagedoor_seat_store_ledger_mismatch_seats",
            "sale" => key.sale.to_string(),
            "performance" => performance.clone()
        )
        .set(f64::from(count));
        if count == 0 {
            return Ok(());
        }
        tracing::error!(
            sale = %key.sale,
            performance,
            missing = missing.len(),
            unknown = unknown.len(),
            "the seat store contradicts the ledger; following the ledger"
        );
        for seat in &missing {
            if let Some(claim) = owners.get(seat) {
                self.store.book(claim.hold, &claim.seats, &claim.buyer).await?;
            }
        }
        if !unknown.is_empty() {
            self.store.free_unknown_bookings(&unknown).await?;
        }
        Ok(())
    }
}

async fn claims_of(
    context: &CheckoutContext,
    key: &PerformanceKey,
) -> Result<Vec<ClaimedSeats>, LedgerError> {
    let keep_until = context.payment_page_deadline();
    let mut claims = context.ledger.claims(None, keep_until).await?;
    claims.retain(|claim| claim.performance_key == *key);
    Ok(claims)
}
