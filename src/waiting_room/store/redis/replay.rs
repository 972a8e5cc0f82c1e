//! Replays the journal to Redis: nodes send it what records mean, each record once and in order.

use std::sync::atomic::Ordering;

use crate::{
    kernel::Timestamp,
    platform::redis::Call,
    waiting_room::{
        journal::record::StoredRecord,
        store::{
            port::{Moment, QueueStore, SLOT_GRACE, StoreError},
            redis::{
                record_effects::Effect,
                reply::{millis, parse},
                scripts::{ApplyEffects, SCRIPTS, ScriptArgs},
                store::RedisStore,
            },
        },
    },
};

/// Effects sent with one call; bounds how long one call blocks the server.
const BATCH_MAX: usize = 512;

impl RedisStore {
    /// Applies records to the mirror and queues their effects on Redis.
    pub(super) async fn apply_to_mirror(
        &self,
        records: &[StoredRecord],
        at: Moment,
    ) -> Result<(), StoreError> {
        let layout = self.layout();
        // What numbers mean after a draw the mirror knows only once it has applied the draw.
        for part in records.split_inclusive(|stored| stored.record.drawn().is_some()) {
            // Taken before the records are applied: the mirror forgets the subject of a number that has left.
            let mut settings = self.mirror.settings();
            let effects: Vec<Effect> = part
                .iter()
                .filter_map(|stored| Effect::of(stored, &self.mirror, &mut settings, &self.config, &layout))
                .collect();
            self.mirror.apply(part, at).await?;
            self.pending.lock().effects.extend(effects);
            if let Some(last) = part.last() {
                self.mirrored_seq.store(last.seq, Ordering::Release);
            }
        }
        Ok(())
    }

    /// Sends Redis the effects that it has not applied yet.
    pub(super) async fn replay(&self, now: Timestamp) -> Result<(), StoreError> {
        loop {
            let (after, effects) = self.next_batch();
            let mirrored = self.mirrored_seq.load(Ordering::Acquire);
            if after >= mirrored {
                return Ok(());
            }
            // A batch that is not full reaches to the last record, also where the records after it have no
            // effect.
            let last_seq = if effects.len() == BATCH_MAX {
                effects.last().map_or(mirrored, |effect| effect.seq)
            } else {
                mirrored
            };
            let call = self.apply_call(now, after, last_seq, &effects);
            let applied: u64 = parse(self.connection.call(&SCRIPTS.apply_effects.script, call).await?)?;
            if applied < after {
                self.pending.lock().applied_seq = applied;
                // Redis has lost records that it had reported as applied: this is another server, which
                // recovery handles.
                self.connection.deactivate();
                self.recovery_wakeup.notify_one();
                return Err(StoreError::Recovering);
            }
            let mut pending = self.pending.lock();
            pending.applied_seq = pending.applied_seq.max(applied);
            let applied = pending.applied_seq;
            let done = pending.effects.partition_point(|effect| effect.seq <= applied);
            pending.effects.drain(..done);
        }
    }

    /// The last record that Redis has applied, and the first effects after it.
    fn next_batch(&self) -> (u64, Vec<Effect>) {
        let pending = self.pending.lock();
        let first = pending
            .effects
            .partition_point(|effect| effect.seq <= pending.applied_seq);
        let batch = pending
            .effects
            .iter()
            .skip(first)
            .take(BATCH_MAX)
            .cloned()
            .collect();
        (pending.applied_seq, batch)
    }

    fn apply_call(&self, now: Timestamp, after_seq: u64, last_seq: u64, effects: &[Effect]) -> Call {
        let mut call = self.keys(SCRIPTS.apply_effects.keys);
        let mut key_count = SCRIPTS.apply_effects.keys.len();
        let mut items = Call::new();
        for effect in effects {
            let bucket = effect.bucket().map(|bucket| {
                call = std::mem::take(&mut call).key(&bucket.key);
                key_count += 1;
                (key_count, bucket.field.clone())
            });
            items = effect.encode(items, bucket);
        }
        let args = ApplyEffects {
            now_ms: self.clock.arg(now),
            after_seq,
            last_seq,
            pass_ttl_ms: millis(self.config.pass_ttl),
            slot_grace_ms: millis(SLOT_GRACE),
        };
        args.append_to(call).append_args(&items)
    }
}
