//! Recovery: detects that Redis lost its dataset, and rebuilds it from this node's mirror.
//!
//! The journal counts the datasets as epochs. A node that finds another server than the one in the journal,
//! or one without its data, raises the epoch; of several nodes one succeeds and rebuilds, the others wait for
//! it. From that moment on the journal refuses what was decided under the epoch before. The claim of a node
//! that dies while it rebuilds expires; then the epoch is raised again.

use std::{sync::atomic::Ordering, time::Duration};

use redis::Value;

use crate::{
    kernel::Timestamp,
    platform::redis::{Call, DatasetId},
    waiting_room::{
        admission::call_policy::burst_of,
        journal::{port::JournalError, postgres::journal::Head},
        store::{
            memory::mirror::Snapshot,
            port::{SLOT_GRACE, StoreError},
            redis::{
                reply::{millis, parse},
                scripts::{NamedScript, REBUILT_KEYS, RebuildFinish, RebuildStep, SCRIPTS, ScriptArgs},
                store::{RECOVERY_INTERVAL, RedisStore},
            },
        },
        tokens::queue_token::is_anonymous,
        types::Durability,
    },
};

/// A node that rebuilds counts as dead when it makes no step for this long.
const REBUILD_CLAIM_TTL: Duration = Duration::from_secs(5);
/// Keys or subjects per call; bounds how long one call blocks the server.
const BATCH_MAX: usize = 1_000;
/// Longer than a commit takes, so that numbers assigned just before the loss are journaled by then.
const LAST_JOINS_WAIT: Duration = Duration::from_millis(200);
/// How often a rebuild checks whether the mirror holds the whole journal.
const MIRROR_POLL: Duration = Duration::from_millis(20);

/// Why a recovery round did not finish. The next round tries again.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecoveryError {
    /// Redis failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A later epoch has begun.
    #[error("another node rebuilds the store")]
    Overtaken,
}

impl RedisStore {
    /// Keeps the dataset complete. Never returns.
    pub(super) async fn recovery_loop(&self) {
        let mut changes = self.connection.changes();
        loop {
            match self.recover_once().await {
                Ok(()) | Err(RecoveryError::Store(StoreError::Unavailable)) => {}
                Err(error) => {
                    tracing::warn!(sale = %self.config.sale, %error, "queue store recovery failed; retrying");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RECOVERY_INTERVAL) => {}
                () = self.recovery_wakeup.notified() => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// One round: compares server and journal, and rebuilds the dataset where it is missing.
    pub(super) async fn recover_once(&self) -> Result<(), RecoveryError> {
        let Some(dataset) = self.connection.dataset() else {
            return Ok(());
        };
        let head = self.journal.head().await?;
        if self.connection.epoch().is_some_and(|epoch| epoch != head.epoch()) {
            // Another node detected the loss before this one.
            self.connection.deactivate();
        }
        if self.connection.epoch().is_some() {
            return Ok(());
        }
        let is_current = head.store_identity == dataset.0;
        let ready: Option<u64> = parse(self.get(self.connection.ready_key()).await?)?;
        if is_current && ready == Some(head.epoch()) && head.epoch() > 0 {
            self.activate(&head, &dataset);
            return Ok(());
        }
        let rebuilding: Option<u64> = parse(self.get(&self.connection.key("rebuilding")).await?)?;
        if is_current && rebuilding == Some(head.epoch()) {
            return Ok(());
        }
        let raised = self.journal.raise_epoch(head.epoch(), &dataset.0).await?;
        if raised.epoch() != head.epoch() + 1 || raised.store_identity != dataset.0 {
            return Ok(());
        }
        let (sale, epoch) = (&self.config.sale, raised.epoch());
        if head.epoch() == 0 {
            tracing::info!(%sale, "the queue store is new; filling it from the journal");
        } else {
            tracing::warn!(%sale, epoch, "the queue store lost its data; rebuilding it from the journal");
            metrics::counter!("stagedoor_waiting_room_rebuilds_total", "sale" => sale.to_string())
                .increment(1);
        }
        self.rebuild(&raised).await?;
        self.activate(&raised, &dataset);
        tracing::info!(%sale, epoch, "the queue store holds all data of the journal");
        Ok(())
    }

    fn activate(&self, head: &Head, dataset: &DatasetId) {
        self.allocator.set_ceiling(head.ceiling());
        self.epoch.store(head.epoch(), Ordering::Release);
        self.connection.activate(head.epoch(), dataset);
        self.ends_to_repeat.store(true, Ordering::Release);
    }

    async fn get(&self, key: &str) -> Result<Value, StoreError> {
        let mut cmd = redis::cmd("GET");
        cmd.arg(key);
        Ok(self.connection.query(&cmd).await?)
    }

    async fn rebuild(&self, head: &Head) -> Result<(), RecoveryError> {
        let epoch = head.epoch();
        let begin = &SCRIPTS.rebuild_begin;
        self.step(begin, step_args(epoch).append_to(self.keys(begin.keys)))
            .await?;
        // Nodes journal the numbers that they assigned a moment ago; after that the journal accepts nothing
        // that was decided under the epoch before, so what it holds is complete.
        tokio::time::sleep(LAST_JOINS_WAIT).await;
        if !self.journal.settle(epoch).await? {
            return Err(RecoveryError::Overtaken);
        }
        let (mirrored_seq, snapshot) = self.snapshot_at(head).await?;
        self.clear(epoch).await?;
        self.restore_subjects(epoch, &snapshot).await?;
        self.finish(head, mirrored_seq, &snapshot).await
    }

    async fn clear(&self, epoch: u64) -> Result<(), RecoveryError> {
        let script = &SCRIPTS.rebuild_clear;
        let keys: Vec<String> = REBUILT_KEYS
            .iter()
            .map(|name| self.connection.key(name))
            .chain(self.layout().keys())
            .collect();
        for batch in keys.chunks(BATCH_MAX) {
            let call = batch.iter().fold(self.keys(script.keys), Call::key);
            self.step(script, step_args(epoch).append_to(call)).await?;
        }
        Ok(())
    }

    async fn restore_subjects(&self, epoch: u64, snapshot: &Snapshot) -> Result<(), RecoveryError> {
        let script = &SCRIPTS.rebuild_subjects;
        let layout = self.layout();
        // An anonymous subject never looks its number up: the number stands in its token.
        let customers: Vec<_> = snapshot
            .entries
            .iter()
            .filter(|(_, subject)| !is_anonymous(*subject))
            .collect();
        for batch in customers.chunks(BATCH_MAX) {
            let mut call = step_args(epoch).append_to(self.keys(script.keys));
            for (key_index, (number, subject)) in (script.keys.len() + 1..).zip(batch) {
                let bucket = layout.bucket(*subject);
                call = call
                    .key(&bucket.key)
                    .arg(key_index)
                    .arg(&bucket.field)
                    .arg(number);
            }
            self.step(script, call).await?;
        }
        Ok(())
    }

    /// The mirror once it holds the whole journal (the writer updates it with every tick), and its last
    /// record.
    async fn snapshot_at(&self, head: &Head) -> Result<(u64, Snapshot), RecoveryError> {
        loop {
            let now = self.journal.head().await?;
            if now.epoch() != head.epoch() {
                return Err(RecoveryError::Overtaken);
            }
            let mirrored_seq = self.mirrored_seq.load(Ordering::Acquire);
            if mirrored_seq >= now.seq() {
                return Ok((mirrored_seq, self.mirror.snapshot()));
            }
            tokio::time::sleep(MIRROR_POLL).await;
        }
    }

    async fn finish(&self, head: &Head, mirrored_seq: u64, snapshot: &Snapshot) -> Result<(), RecoveryError> {
        let fields = self.state_fields(head, mirrored_seq, snapshot);
        let args = RebuildFinish {
            epoch: head.epoch(),
            now_ms: self.clock.arg(Timestamp::default()),
            pass_ttl_ms: millis(self.config.pass_ttl),
            slot_grace_ms: millis(SLOT_GRACE),
            settings: fields.len(),
        };
        let mut call = args.append_to(self.keys(SCRIPTS.rebuild_finish.keys));
        for (name, value) in &fields {
            call = call.arg(*name).arg(value);
        }
        for visit in &snapshot.visits {
            call = call
                .arg(visit.number)
                .arg(visit.id.as_uuid().as_bytes())
                .arg(visit.started.as_millis())
                .arg(if visit.is_ending { "e" } else { "a" });
        }
        self.step(&SCRIPTS.rebuild_finish, call).await?;
        let mut pending = self.pending.lock();
        pending.applied_seq = mirrored_seq;
        pending.effects.retain(|effect| effect.seq > mirrored_seq);
        Ok(())
    }

    /// Fields of the hash `state`, beside those that the script sets.
    fn state_fields(
        &self,
        head: &Head,
        mirrored_seq: u64,
        snapshot: &Snapshot,
    ) -> [(&'static str, String); 10] {
        let issued = match self.config.durability {
            // No number was answered that the journal does not have.
            Durability::Committed => snapshot.issued,
            Durability::Async => head.ceiling().max(snapshot.issued),
        };
        let settings = &snapshot.settings;
        let burst = burst_of(settings.rate_effective_per_minute, self.config.admission_burst);
        [
            ("issued", issued.to_string()),
            ("unused", issued.saturating_sub(snapshot.people).to_string()),
            ("max_number", head.ceiling().max(issued).to_string()),
            ("now_serving", snapshot.now_serving.to_string()),
            ("applied_seq", mirrored_seq.to_string()),
            ("active_visits_max", settings.active_visits_max.to_string()),
            ("stopped", u8::from(settings.is_stopped()).to_string()),
            ("rate_per_minute", settings.rate_effective_per_minute.to_string()),
            ("burst", burst.to_string()),
            ("late_arrival_share", self.config.late_arrival_share.to_string()),
        ]
    }

    async fn step(&self, script: &NamedScript, call: Call) -> Result<(), RecoveryError> {
        let reply = self.connection.call_unguarded(&script.script, call).await;
        match parse(reply.map_err(StoreError::from)?)? {
            1_u8 => Ok(()),
            _ => Err(RecoveryError::Overtaken),
        }
    }
}

fn step_args(epoch: u64) -> RebuildStep {
    RebuildStep {
        epoch,
        claim_ttl_ms: millis(REBUILD_CLAIM_TTL),
    }
}
