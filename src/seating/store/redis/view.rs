//! This node's list of what has changed of late, which the engine's stream and this node's own calls bring.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use redis::{
    RedisError,
    streams::{StreamId, StreamReadReply},
};
use tokio::sync::{Notify, watch};

use crate::platform::{
    redis::{Connection, Redis},
    shutdown::Lifecycle,
};
use crate::seating::{
    seat::{SeatIx, SeatState},
    store::{
        SeatChange, StoreError,
        change_log::Changes,
        redis::{
            Engine,
            record::{self, epoch_of},
        },
    },
};

/// The server is asked no oftener than this, unless somebody waits for what it has.
const PACE: Duration = Duration::from_millis(10);
/// The server answers at the latest after so long, even when nothing has changed.
const BLOCK: Duration = Duration::from_secs(1);
const BATCH: usize = 4_096;
/// Whoever has changed something sees it, if the stream brings what came before it in so long.
const OWN_WITHIN: Duration = Duration::from_millis(250);
/// Own changes that wait for others; beyond that the stream brings them too.
const WAITING_MAX: usize = 4_096;
const RESTART_AFTER: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(super) struct View {
    kept: Mutex<Kept>,
    version: watch::Sender<u64>,
    wanted: Notify,
}

#[derive(Default)]
struct Kept {
    /// `None` until the stream has been found.
    list: Option<Changes>,
    /// Own changes whose predecessors are not here yet.
    waiting: BTreeMap<u64, Vec<(SeatIx, SeatState)>>,
    /// The latest version that this node has heard of.
    heard: u64,
}

impl View {
    /// As [`super::super::SeatStore::changes`].
    pub(super) fn since(&self, after: u64, into: &mut Vec<SeatChange>) -> bool {
        let kept = self.kept.lock();
        let Some(list) = &kept.list else { return false };
        // What was loaded may be ahead of what the stream has brought.
        list.since(after, into) || (after > list.version() && after <= kept.heard)
    }

    /// The engine's states were read as of this version: from there on its changes are followed, if they are not yet.
    pub(super) fn hear(&self, version: u64) {
        let mut kept = self.kept.lock();
        kept.heard = kept.heard.max(version);
        if kept
            .list
            .as_ref()
            .is_none_or(|it| epoch_of(it.version()) < epoch_of(version))
        {
            kept.list = Some(Changes::new(version));
            kept.take_waiting();
        }
        drop(kept);
        self.tell();
    }

    /// Takes over what this node has changed itself; says under which version. Nothing was changed under an empty name.
    pub(super) fn take_own(&self, name: &[u8], changes: &[u8]) -> Result<Option<u64>, StoreError> {
        if name.is_empty() {
            return Ok(None);
        }
        let version = record::version(name).ok_or_else(record::unreadable)?;
        if self.kept.lock().take_own(version, changes) {
            self.tell();
        } else {
            self.wanted.notify_one();
        }
        Ok(Some(version))
    }

    /// Waits, within bounds, until all up to this version is shown here.
    pub(super) async fn until(&self, version: Option<u64>) {
        let Some(version) = version.filter(|it| self.version().is_none_or(|now| now < *it)) else {
            return;
        };
        let mut shown = self.version.subscribe();
        if tokio::time::timeout(OWN_WITHIN, shown.wait_for(|it| *it >= version))
            .await
            .is_err()
        {
            tracing::debug!("the seat engine's stream is late");
        }
    }

    fn version(&self) -> Option<u64> {
        self.kept.lock().list.as_ref().map(Changes::version)
    }

    fn take(&self, entries: &[StreamId]) {
        let mut kept = self.kept.lock();
        for entry in entries {
            let Some(version) = record::version(entry.id.as_bytes()) else {
                continue;
            };
            let packed: Vec<u8> = entry.get("c").unwrap_or_default();
            kept.take(version, record::read_changes(&packed).into_iter());
        }
        kept.take_waiting();
        drop(kept);
        self.tell();
    }

    fn tell(&self) {
        let version = self.version().unwrap_or_default();
        self.version
            .send_if_modified(|it| std::mem::replace(it, version) != version);
    }
}

impl Kept {
    fn take(&mut self, version: u64, changes: impl Iterator<Item = (SeatIx, SeatState)>) {
        self.heard = self.heard.max(version);
        let list = self.list.get_or_insert_with(|| Changes::new(version));
        if version <= list.version() {
            return;
        }
        if version > list.version() + 1 {
            // Something in between is lost: whoever is before it must load.
            *list = Changes::new(version);
            return;
        }
        list.next_version();
        changes.for_each(|(seat, state)| list.write(seat, state));
    }

    /// Whether it is shown now.
    fn take_own(&mut self, version: u64, changes: &[u8]) -> bool {
        self.heard = self.heard.max(version);
        let Some(list) = &self.list else { return false };
        if version > list.version() + 1 {
            if self.waiting.len() < WAITING_MAX {
                self.waiting.insert(version, record::read_changes(changes));
            }
            return false;
        }
        self.take(version, record::read_changes(changes).into_iter());
        self.take_waiting();
        true
    }

    fn take_waiting(&mut self) {
        while let Some(entry) = self.waiting.first_entry()
            && let Some(list) = &self.list
            && *entry.key() <= list.version() + 1
        {
            let (version, changes) = entry.remove_entry();
            self.take(version, changes.into_iter());
        }
    }
}

/// Follows the stream for as long as the house is open.
pub(super) fn follow(engine: &Arc<Engine>, life: &Lifecycle) {
    let (followed, stop) = (Arc::downgrade(engine), life.clone());
    life.supervise("seat stream", RESTART_AFTER, move || {
        let (engine, life) = (Weak::clone(&followed), stop.clone());
        async move {
            let Some(engine) = engine.upgrade() else {
                return life.stopping().await;
            };
            tokio::select! {
                () = life.stopping() => {}
                () = engine.follow_always() => {}
            }
        }
    });
}

impl Engine {
    async fn follow_always(&self) {
        let mut changes = self.line.changes();
        loop {
            changes.borrow_and_update();
            if let (Some(epoch), Some(identity)) = (self.line.epoch(), self.line.dataset()) {
                match self.redis.connect_without_timeout(&self.tag).await {
                    Ok(link) if link.identity == identity => {
                        if let Err(error) = self.follow_on(link, epoch).await {
                            tracing::debug!(%error, "the seat engine's stream broke off");
                        }
                    }
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "the seat engine's stream cannot be reached"),
                }
                tokio::time::sleep(RESTART_AFTER.mul_f64(0.5 + self.entropy.unit())).await;
            } else if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Until the connection breaks, or calls run on another server or under another epoch.
    async fn follow_on(&self, mut link: Connection, epoch: u64) -> Result<(), FollowError> {
        if self.view.version().is_none_or(|it| epoch_of(it) != epoch) {
            let (version, _) = self.load_now().await?;
            self.view.hear(version);
        }
        while self.line.epoch() == Some(epoch) && self.line.dataset().as_ref() == Some(&link.identity) {
            let entries = self.read_on(&mut link).await?;
            if entries.is_empty() {
                continue;
            }
            self.view.take(&entries);
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                () = self.view.wanted.notified() => {}
            }
        }
        Ok(())
    }

    async fn read_on(&self, link: &mut Connection) -> Result<Vec<StreamId>, FollowError> {
        let mut cmd = redis::cmd("XREAD");
        cmd.arg("COUNT")
            .arg(BATCH)
            .arg("BLOCK")
            .arg(u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX));
        cmd.arg("STREAMS")
            .arg(&self.keys[4])
            .arg(record::name_of(self.view.version().unwrap_or_default()));
        let patience = BLOCK + Redis::config(&self.redis).command_timeout;
        let reply: Option<StreamReadReply> =
            tokio::time::timeout(patience, cmd.query_async(&mut link.multiplexed))
                .await
                .map_err(|_| FollowError::Late)??;
        Ok(reply
            .into_iter()
            .flat_map(|it| it.keys)
            .flat_map(|it| it.ids)
            .collect())
    }
}

#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Broken(#[from] RedisError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no answer in time")]
    Late,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(view: &View, version: u64, seat: u32) -> bool {
        let [a, b, c, d] = seat.to_be_bytes();
        view.kept.lock().take_own(version, &[1, 0, 1, a, b, c, d])
    }

    fn seats_since(view: &View, after: u64) -> Option<Vec<u32>> {
        let mut changes = Vec::new();
        view.since(after, &mut changes)
            .then(|| changes.iter().map(|it| it.seat.0).collect())
    }

    #[test]
    fn own_changes_are_shown_in_the_order_in_which_they_were_made() {
        let view = View::default();
        assert_eq!(seats_since(&view, 10), None);
        view.hear(10);
        assert!(!own(&view, 12, 2), "another's stands before it");
        assert!(!own(&view, 13, 3));
        assert_eq!(seats_since(&view, 10), Some(vec![]));
        assert_eq!(
            seats_since(&view, 13),
            Some(vec![]),
            "it is known that there is such a version"
        );
        assert_eq!(seats_since(&view, 14), None);
        assert!(own(&view, 11, 1));
        assert_eq!(seats_since(&view, 10), Some(vec![1, 2, 3]));
        view.kept
            .lock()
            .take(12, std::iter::once((SeatIx(2), SeatState::Held)));
        assert_eq!(
            seats_since(&view, 11),
            Some(vec![2, 3]),
            "the stream brings them once more"
        );
    }

    #[test]
    fn a_gap_makes_everybody_load() {
        let view = View::default();
        view.hear(10);
        view.kept
            .lock()
            .take(15, std::iter::once((SeatIx(5), SeatState::Held)));
        assert_eq!(
            (seats_since(&view, 10), seats_since(&view, 15)),
            (None, Some(vec![]))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_for_a_stream_that_does_not_come() {
        let view = View::default();
        view.hear(record::version(b"1-1").unwrap());
        let version = view.take_own(b"1-5", &[]).unwrap();
        view.until(version).await;
        assert_eq!(seats_since(&view, record::version(b"1-5").unwrap()), Some(vec![]));
    }
}
