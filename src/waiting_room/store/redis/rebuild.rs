//! Keeps the engine's memory complete: finds out when it was lost, and gives it back from this node's mirror.
//!
//! The journal counts the memories. Whoever finds another server than the one written there, or one without its data,
//! raises the count; of several nodes one succeeds and rebuilds, the others wait for it. From that moment on the journal
//! refuses what was decided under the memory before. A rebuilder that dies leaves a claim that runs out; then the count
//! is raised again.

use std::{sync::atomic::Ordering, time::Duration};

use redis::Value;

use crate::{
    kernel::Timestamp,
    platform::redis::{Call, DatasetId, Script},
    waiting_room::{
        admission::policy::burst_of,
        journal::{Head, port::JournalError},
        store::{
            memory::Snapshot,
            port::{SLOT_GRACE, StoreError},
            redis::{
                reply::{millis, read},
                scripts::SCRIPTS,
                store::{CLAIMS, LOOK_EVERY, RedisStore},
            },
        },
        tokens::queue_token::is_stranger,
        types::Durability,
    },
};

/// A rebuilder is believed dead when it has not gone on for so long.
const CLAIM: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 1_000;
/// More than a commit takes.
const LAST_JOINS: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
pub(super) enum Hindrance {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("another node rebuilds")]
    Overtaken,
}

impl RedisStore {
    /// Never ends.
    pub(super) async fn keep(&self) {
        let mut changes = self.line.changes();
        loop {
            match self.look_after_memory().await {
                Ok(()) | Err(Hindrance::Store(StoreError::Away)) => {}
                Err(error) => {
                    tracing::warn!(sale = %self.config.sale, %error, "the queue's engine cannot be kept at this moment")
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.look.notified() => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// One round: compares, and does what is missing.
    pub(super) async fn look_after_memory(&self) -> Result<(), Hindrance> {
        let Some(identity) = self.line.dataset() else {
            return Ok(());
        };
        let head = self.journal.head().await?;
        if self.line.epoch().is_some_and(|epoch| epoch != head.epoch()) {
            // Another node has found out before this one.
            self.line.deactivate();
        }
        if self.line.epoch().is_some() {
            return Ok(());
        }
        let ready: Option<u64> = read(self.plain("GET", self.line.ready_key()).await?)?;
        if head.store_identity == identity.0 && ready == Some(head.epoch()) && head.epoch() > 0 {
            self.trust(&head, &identity);
            return Ok(());
        }
        let rebuilding: Option<u64> = read(self.plain("GET", &self.line.key("rebuilding")).await?)?;
        if head.store_identity == identity.0 && rebuilding == Some(head.epoch()) {
            return Ok(());
        }
        let raised = self.journal.raise_epoch(head.epoch(), &identity.0).await?;
        if raised.epoch() != head.epoch() + 1 || raised.store_identity != identity.0 {
            return Ok(());
        }
        if head.epoch() == 0 {
            tracing::info!(sale = %self.config.sale, "the queue's engine is new; filling it");
        } else {
            tracing::warn!(sale = %self.config.sale, epoch = raised.epoch(), "the queue's engine has lost its memory; rebuilding it");
            metrics::counter!("waiting_room_rebuilds_total").increment(1);
        }
        self.rebuild(&raised).await?;
        self.trust(&raised, &identity);
        tracing::info!(sale = %self.config.sale, epoch = raised.epoch(), "the queue's engine is complete again");
        Ok(())
    }

    fn trust(&self, head: &Head, identity: &DatasetId) {
        self.numbering.allow(head.ceiling());
        self.epoch.store(head.epoch(), Ordering::Release);
        self.line.activate(head.epoch(), identity);
    }

    async fn plain(&self, name: &str, key: &str) -> Result<Value, StoreError> {
        let mut cmd = redis::cmd(name);
        cmd.arg(key);
        Ok(self.line.query(&cmd).await?)
    }

    async fn rebuild(&self, head: &Head) -> Result<(), Hindrance> {
        let epoch = head.epoch();
        let begin = self.keys(&["ready", "rebuilding"]).arg(epoch).arg(millis(CLAIM));
        self.step(&SCRIPTS.rebuild_begin, begin).await?;
        // Nodes that have given numbers a moment ago write them down; after that the journal takes nothing any more that
        // was decided before, and what it has is all there is.
        tokio::time::sleep(LAST_JOINS).await;
        if !self.journal.settle(epoch).await? {
            return Err(Hindrance::Overtaken);
        }
        let (followed, snapshot) = self.snapshot_at(head).await?;
        let layout = self.layout();
        let of_doors = [
            &["state", "visits", "by_number", "ends", "gone", "caller"][..],
            &CLAIMS,
        ]
        .concat();
        let all: Vec<String> = of_doors
            .iter()
            .map(|name| self.line.key(name))
            .chain(layout.keys())
            .collect();
        for keys in all.chunks(AT_ONCE) {
            let call = keys
                .iter()
                .fold(self.keys(&["rebuilding"]), Call::key)
                .arg(epoch)
                .arg(millis(CLAIM));
            self.step(&SCRIPTS.rebuild_wipe, call).await?;
        }
        // Nobody asks for a stranger's place by her name.
        let customers: Vec<_> = snapshot
            .places
            .iter()
            .filter(|(_, subject)| !is_stranger(*subject))
            .collect();
        for places in customers.chunks(AT_ONCE) {
            let mut call = self.keys(&["rebuilding"]);
            let mut args = Call::new().arg(epoch).arg(millis(CLAIM));
            for (at, (number, subject)) in (2_usize..).zip(places) {
                let bucket = layout.bucket(*subject);
                call = call.key(&bucket.key);
                args = args.arg(at).arg(&bucket.field).arg(number);
            }
            self.step(&SCRIPTS.rebuild_fill, call.append_args(&args)).await?;
        }
        self.complete(head, followed, &snapshot).await
    }

    /// The mirror, once it holds all that the journal does (the pen follows it with every tick), and up to which record.
    async fn snapshot_at(&self, head: &Head) -> Result<(u64, Snapshot), Hindrance> {
        loop {
            let now = self.journal.head().await?;
            if now.epoch() != head.epoch() {
                return Err(Hindrance::Overtaken);
            }
            let followed = self.followed.load(Ordering::Acquire);
            if followed >= now.seq() {
                return Ok((followed, self.mirror.snapshot()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn complete(&self, head: &Head, followed: u64, snapshot: &Snapshot) -> Result<(), Hindrance> {
        let issued = match self.config.durability {
            // No number was answered that the journal does not have.
            Durability::Journaled => snapshot.issued,
            Durability::Acknowledged => head.ceiling().max(snapshot.issued),
        };
        let settings = &snapshot.settings;
        let values: [(&str, String); 9] = [
            ("issued", issued.to_string()),
            ("ceiling", head.ceiling().max(issued).to_string()),
            ("now_serving", snapshot.now_serving.to_string()),
            ("applied", followed.to_string()),
            ("capacity", settings.capacity.to_string()),
            ("paused", u8::from(settings.is_stopped()).to_string()),
            ("rate", settings.rate_per_minute.to_string()),
            (
                "burst",
                burst_of(settings.rate_per_minute, self.config.burst).to_string(),
            ),
            ("share", self.config.returner_share.to_string()),
        ];
        let mut call = self
            .keys(&["rebuilding", "ready", "state", "visits", "by_number", "ends"])
            .arg(head.epoch())
            .arg(self.time(Timestamp::default()))
            .arg(millis(self.config.pass_life))
            .arg(millis(SLOT_GRACE))
            .arg(values.len());
        for (name, value) in &values {
            call = call.arg(*name).arg(value);
        }
        for (number, visit, began) in &snapshot.visits {
            call = call
                .arg(number)
                .arg(visit.as_uuid().as_bytes())
                .arg(began.as_millis());
        }
        self.step(&SCRIPTS.rebuild_end, call).await?;
        let mut pending = self.pending.lock();
        pending.applied = followed;
        pending.effects.retain(|it| it.seq > followed);
        Ok(())
    }

    async fn step(&self, script: &Script, call: Call) -> Result<(), Hindrance> {
        let done: u8 = read(
            self.line
                .call_unguarded(script, call)
                .await
                .map_err(StoreError::from)?,
        )?;
        if done == 1 {
            Ok(())
        } else {
            Err(Hindrance::Overtaken)
        }
    }
}
