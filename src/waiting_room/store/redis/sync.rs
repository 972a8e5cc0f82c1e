//! The tick of one node: what it reports to Redis, and what it learns from it.

use std::{collections::HashMap, sync::atomic::Ordering, time::Duration};

use crate::{
    kernel::{Timestamp, VisitId},
    waiting_room::{
        admission::reserve_slot::CLAIM_LAPSE,
        state::AdmissionState,
        store::{
            port::{Moment, QueueStore, SLOT_GRACE, Stock, StoreError},
            redis::{
                reply::{SyncReply, millis},
                scripts::{SCRIPTS, ScriptArgs, SyncState},
                store::{BoxOfficeReports, RedisStore},
            },
        },
    },
};

/// A node that is silent for longer does not delay freeing a slot: it is dead, or its passes expire by
/// themselves.
const REPORT_TTL: Duration = Duration::from_secs(5);
/// How long a node may be silent before another one becomes the caller.
const CALLER_LEASE: Duration = Duration::from_millis(400);

impl RedisStore {
    /// Exchanges state with Redis, and keeps the result for [`QueueStore::admission_state`].
    pub(super) async fn sync(&self, at: Moment) -> Result<(), StoreError> {
        self.mirror.observe(at);
        let mirrored = self.mirror.admission_state(at);
        let extensions: HashMap<VisitId, Timestamp> = std::mem::take(&mut *self.extensions.lock());
        let reports = std::mem::take(&mut *self.reports.lock());
        let reply = match self.call_sync_state(at, &extensions, reports).await {
            Ok(reply) => reply,
            Err(error) => {
                // A visit with a payment in progress must not end because one tick failed.
                self.extensions.lock().extend(extensions);
                return Err(error);
            }
        };
        let is_caller = reply.is_caller && reply.now_serving == self.mirror.now_serving();
        self.remember_stock(&reply);
        self.mirror
            .record_claimants(&reply.first_called, &reply.first_late, at);
        {
            let mut pending = self.pending.lock();
            pending.applied_seq = pending.applied_seq.max(reply.applied_seq);
        }
        *self.synced.lock() = AdmissionState {
            active_visits: reply.active,
            permits: reply.permits,
            claimants: reply.called_claimants,
            late_arrivals: reply.late_claimants,
            is_caller,
            ..mirrored
        };
        self.replay(at.now).await?;
        self.repeat_ends(at.now).await
    }

    /// Tells a dataset that another node rebuilt which visits this node ended before the journal had their
    /// end: only this node knows. Their ends are journaled when the store hands them out once more.
    async fn repeat_ends(&self, now: Timestamp) -> Result<(), StoreError> {
        if !self.ends_to_repeat.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let ending = self.mirror.ending_visits();
        if ending.is_empty() {
            return Ok(());
        }
        let repeated = self.end_visits(&ending, now).await;
        if repeated.is_err() {
            self.ends_to_repeat.store(true, Ordering::Release);
        }
        repeated.map(|_| ())
    }

    async fn call_sync_state(
        &self,
        at: Moment,
        extensions: &HashMap<VisitId, Timestamp>,
        reports: BoxOfficeReports,
    ) -> Result<SyncReply, StoreError> {
        let args = SyncState {
            now_ms: self.clock.arg(at.now),
            claim_ttl_ms: millis(CLAIM_LAPSE),
            slot_grace_ms: millis(SLOT_GRACE),
            report_ttl_ms: millis(REPORT_TTL),
            node: self.node.clone(),
            applied_seq: self.mirrored_seq.load(Ordering::Acquire),
            passes_checked_elsewhere: u8::from(self.config.passes_verified_elsewhere),
            caller_lease_ms: millis(CALLER_LEASE),
            zones: reports.zones.unwrap_or_default(),
            healths: reports.healths.len(),
        };
        let mut call = args.append_to(self.keys(SCRIPTS.sync_state.keys));
        for (source, health) in &reports.healths {
            call = call.arg(source).arg(health);
        }
        for (visit, until) in extensions {
            call = call.arg(visit.as_uuid().as_bytes()).arg(until.as_millis());
        }
        SyncReply::parse(self.connection.call(&SCRIPTS.sync_state.script, call).await?)
    }

    fn remember_stock(&self, reply: &SyncReply) {
        if reply.zones.is_empty() {
            return;
        }
        let healths = reply
            .healths
            .iter()
            .filter_map(|health| serde_json::from_str(health).ok())
            .collect();
        *self.stock.lock() = serde_json::from_str(&reply.zones).ok().map(|zones| Stock {
            zones,
            age: reply.stock_age,
            healths,
        });
    }
}
