//! This node's log of the latest seat changes, fed by the store's stream and by this node's own calls.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use redis::streams::StreamId;
use tokio::sync::{Notify, watch};

use crate::seating::{
    seat::{SeatIx, SeatState},
    store::{
        change_log::ChangeLog,
        port::SeatChange,
        redis::{
            record::{self, epoch_of},
            reply::unreadable,
        },
    },
    types::StoreError,
};

/// How long a call waits until its own change is visible here, which takes what came before it from the
/// stream.
const OWN_CHANGE_TIMEOUT: Duration = Duration::from_millis(250);
/// Own changes that wait for earlier ones of other nodes; beyond that the stream must bring them.
const PENDING_MAX: usize = 4_096;

/// Seat changes in the order of their versions, whichever way they arrive.
#[derive(Default)]
pub(super) struct ChangeFeed {
    state: Mutex<FeedState>,
    /// Version up to which changes are visible here.
    version: watch::Sender<u64>,
    /// Notified when a call waits for what the stream has.
    pub(super) wanted: Notify,
}

#[derive(Default)]
struct FeedState {
    /// `None` until the stream's position is known.
    log: Option<ChangeLog>,
    /// Own changes whose predecessors have not arrived yet.
    pending: BTreeMap<u64, Vec<(SeatIx, SeatState)>>,
    /// Latest version that this node has heard of.
    latest_known: u64,
}

impl ChangeFeed {
    /// As [`SeatStore::changes_since`](crate::seating::SeatStore::changes_since).
    pub(super) fn since(&self, after: u64, into: &mut Vec<SeatChange>) -> bool {
        let state = self.state.lock();
        let Some(log) = &state.log else { return false };
        // States that were loaded may be ahead of what the stream has brought: nothing to apply then.
        log.since(after, into) || (after > log.version() && after <= state.latest_known)
    }

    /// Notes that the states were loaded as of this version. Unless its epoch is followed already, the feed
    /// starts here.
    pub(super) fn observe_version(&self, version: u64) {
        let mut state = self.state.lock();
        state.latest_known = state.latest_known.max(version);
        if state
            .log
            .as_ref()
            .is_none_or(|log| epoch_of(log.version()) < epoch_of(version))
        {
            state.log = Some(ChangeLog::new(version));
            state.apply_pending();
        }
        drop(state);
        self.announce();
    }

    /// Applies what a call of this node has changed. Returns its version; `None` when `entry_id` is empty,
    /// which means that nothing was changed.
    pub(super) fn apply_own(&self, entry_id: &[u8], changes: &[u8]) -> Result<Option<u64>, StoreError> {
        if entry_id.is_empty() {
            return Ok(None);
        }
        let version = record::parse_version(entry_id).ok_or_else(unreadable)?;
        if self.state.lock().apply_own(version, changes) {
            self.announce();
        } else {
            self.wanted.notify_one();
        }
        Ok(Some(version))
    }

    /// Waits until everything up to this version is visible here, but not longer than 250 ms.
    pub(super) async fn wait_for(&self, version: Option<u64>) {
        let Some(version) = version.filter(|wanted| self.version().is_none_or(|now| now < *wanted)) else {
            return;
        };
        let mut visible = self.version.subscribe();
        if tokio::time::timeout(OWN_CHANGE_TIMEOUT, visible.wait_for(|now| *now >= version))
            .await
            .is_err()
        {
            tracing::debug!(
                "seat change stream is late; seat maps show a change after the visitor who made it was \
                answered"
            );
        }
    }

    /// Version up to which changes are visible; `None` until the stream's position is known.
    pub(super) fn version(&self) -> Option<u64> {
        self.state.lock().log.as_ref().map(ChangeLog::version)
    }

    /// Applies entries of the stream, in their order.
    pub(super) fn apply_stream(&self, entries: &[StreamId]) {
        let mut state = self.state.lock();
        for entry in entries {
            let Some(version) = record::parse_version(entry.id.as_bytes()) else {
                continue;
            };
            let packed: Vec<u8> = entry.get("c").unwrap_or_default();
            state.apply(version, record::parse_changes(&packed));
        }
        state.apply_pending();
        drop(state);
        self.announce();
    }

    /// Wakes the calls that wait for a version.
    fn announce(&self) {
        let version = self.version().unwrap_or_default();
        self.version
            .send_if_modified(|shown| std::mem::replace(shown, version) != version);
    }
}

impl FeedState {
    fn apply(&mut self, version: u64, changes: Vec<(SeatIx, SeatState)>) {
        self.latest_known = self.latest_known.max(version);
        let log = self.log.get_or_insert_with(|| ChangeLog::new(version));
        if version <= log.version() {
            return;
        }
        if version > log.version() + 1 {
            // Something in between is lost: a copy that is behind it must load all states.
            *log = ChangeLog::new(version);
            return;
        }
        log.next_version();
        for (seat, state) in changes {
            log.write(seat, state);
        }
    }

    /// `true` when the change is visible now, `false` when it waits for earlier ones.
    fn apply_own(&mut self, version: u64, changes: &[u8]) -> bool {
        self.latest_known = self.latest_known.max(version);
        let Some(log) = &self.log else { return false };
        if version > log.version() + 1 {
            if self.pending.len() < PENDING_MAX {
                self.pending.insert(version, record::parse_changes(changes));
            }
            return false;
        }
        self.apply(version, record::parse_changes(changes));
        self.apply_pending();
        true
    }

    fn apply_pending(&mut self) {
        while let Some(entry) = self.pending.first_entry()
            && let Some(log) = &self.log
            && *entry.key() <= log.version() + 1
        {
            let (version, changes) = entry.remove_entry();
            self.apply(version, changes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply_own(feed: &ChangeFeed, version: u64, seat: u32) -> bool {
        let [a, b, c, d] = seat.to_be_bytes();
        feed.state.lock().apply_own(version, &[1, 0, 1, a, b, c, d])
    }

    fn apply_from_stream(feed: &ChangeFeed, version: u64, seat: u32) {
        let change = (SeatIx(seat), SeatState::Held);
        feed.state.lock().apply(version, vec![change]);
    }

    fn seats_since(feed: &ChangeFeed, after: u64) -> Option<Vec<u32>> {
        let mut changes = Vec::new();
        feed.since(after, &mut changes)
            .then(|| changes.iter().map(|change| change.seat.0).collect())
    }

    #[test]
    fn own_changes_become_visible_in_version_order() {
        let feed = ChangeFeed::default();
        assert_eq!(seats_since(&feed, 10), None);
        feed.observe_version(10);
        assert!(!apply_own(&feed, 12, 2), "another node's change comes before it");
        assert!(!apply_own(&feed, 13, 3));
        assert_eq!(seats_since(&feed, 10), Some(vec![]));
        assert_eq!(
            seats_since(&feed, 13),
            Some(vec![]),
            "the version is known to exist"
        );
        assert_eq!(seats_since(&feed, 14), None);
        assert!(apply_own(&feed, 11, 1));
        assert_eq!(seats_since(&feed, 10), Some(vec![1, 2, 3]));
        apply_from_stream(&feed, 12, 2);
        assert_eq!(
            seats_since(&feed, 11),
            Some(vec![2, 3]),
            "the stream brings the same change once more"
        );
    }

    #[test]
    fn gap_in_the_stream_makes_copies_reload() {
        let feed = ChangeFeed::default();
        feed.observe_version(10);
        apply_from_stream(&feed, 15, 5);
        assert_eq!(
            (seats_since(&feed, 10), seats_since(&feed, 15)),
            (None, Some(vec![]))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_silent_stream_ends() {
        let feed = ChangeFeed::default();
        feed.observe_version(record::parse_version(b"1-1").unwrap());
        let version = feed.apply_own(b"1-5", &[]).unwrap();
        feed.wait_for(version).await;
        let after = record::parse_version(b"1-5").unwrap();
        assert_eq!(seats_since(&feed, after), Some(vec![]));
    }
}
