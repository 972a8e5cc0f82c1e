//! Redis follows the journal too: the nodes send it what records mean, each record once and in order.

use std::sync::atomic::Ordering;

use crate::{
    kernel::Timestamp,
    platform::redis::Call,
    waiting_room::store::{
        port::{SLOT_GRACE, StoreError},
        redis::{
            record_effects::Effect,
            reply::{millis, read},
            scripts::SCRIPTS,
            store::RedisStore,
        },
    },
};

/// Records whose meaning is sent at once.
const AT_ONCE: usize = 512;

impl RedisStore {
    /// Sends on what Redis has not followed yet.
    pub(crate) async fn feed(&self, now: Timestamp) -> Result<(), StoreError> {
        loop {
            let (after, effects) = {
                let pending = self.pending.lock();
                let first = pending.effects.partition_point(|it| it.seq <= pending.applied);
                let effects: Vec<Effect> = pending
                    .effects
                    .iter()
                    .skip(first)
                    .take(AT_ONCE)
                    .cloned()
                    .collect();
                (pending.applied, effects)
            };
            let followed = self.followed.load(Ordering::Acquire);
            if after >= followed {
                return Ok(());
            }
            let upto = if effects.len() == AT_ONCE {
                effects.last().map_or(followed, |it| it.seq)
            } else {
                followed
            };
            let mut call = self.keys(&[
                "state",
                "visits",
                "by_number",
                "ends",
                "called",
                "called_asked",
                "returners",
                "returners_asked",
                "gone",
            ]);
            let first_bucket = 10;
            let mut args = Call::new();
            let mut places = 0;
            for effect in &effects {
                let bucket = effect.bucket().map(|bucket| {
                    call = std::mem::take(&mut call).key(&bucket.key);
                    places += 1;
                    (first_bucket + places - 1, bucket.field.clone())
                });
                args = effect.encode(args, bucket);
            }
            let call = call
                .arg(self.time(now))
                .arg(after)
                .arg(upto)
                .arg(millis(self.config.pass_life))
                .arg(millis(SLOT_GRACE))
                .append_args(&args);
            let applied: u64 = read(self.line.call(&SCRIPTS.apply, call).await?)?;
            let mut pending = self.pending.lock();
            if applied < after {
                // Its memory is older than it said: another server, which the keeper will find out.
                pending.applied = applied;
                drop(pending);
                self.line.deactivate();
                self.look.notify_one();
                return Err(StoreError::Rebuilding);
            }
            pending.applied = pending.applied.max(applied);
            let applied = pending.applied;
            let over = pending.effects.partition_point(|it| it.seq <= applied);
            pending.effects.drain(..over);
        }
    }
}
