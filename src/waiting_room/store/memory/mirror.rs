//! The memory store as a mirror: a node's copy of the journal beside a store on another server.
//!
//! It answers without I/O and is at most one tick behind. For a number or a visit that another node has just
//! journaled it accepts what the signed token says; an ended visit is remembered for as long as a pass of it
//! could be presented.

use std::collections::BTreeMap;

use crate::{
    kernel::{Timestamp, VisitId},
    waiting_room::{
        state::Settings,
        store::{
            memory::{state::VisitProgress, store::MemoryStore},
            port::{EndedVisit, Moment, SLOT_GRACE},
        },
        types::Config,
    },
};

/// The whole state at one moment, from which a shared store is rebuilt.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub issued: u32,
    /// How many numbers belong to a visitor.
    pub people: u32,
    pub now_serving: u32,
    pub settings: Settings,
    /// Arrival number and subject of every entry that has not left.
    pub entries: Vec<(u32, u64)>,
    /// Every visit whose end is not in the journal.
    pub visits: Vec<SnapshotVisit>,
}

/// A visit of a [`Snapshot`].
#[derive(Debug)]
pub(crate) struct SnapshotVisit {
    pub number: u32,
    pub id: VisitId,
    pub started: Timestamp,
    /// It was ended in the store, and the journal does not have that yet.
    pub is_ending: bool,
}

impl MemoryStore {
    pub(crate) fn mirror(config: Config, at: Moment) -> Self {
        let mirror = Self::new(config, 0, at);
        mirror.state.write().ended = Some(BTreeMap::new());
        mirror
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.state.read();
        // A visit that is ending belongs to it: when the store is lost before the end is journaled, nothing
        // else would end the visit.
        let unended = state
            .visits
            .iter()
            .filter(|(_, visit)| matches!(visit.progress, VisitProgress::Admitted | VisitProgress::Ending));
        Snapshot {
            issued: state.entries.issued(),
            people: state.entries.people(),
            now_serving: state.now_serving,
            settings: state.settings.clone(),
            entries: state.entries.active().collect(),
            visits: unended
                .map(|(id, visit)| SnapshotVisit {
                    number: visit.number,
                    id: *id,
                    started: visit.started,
                    is_ending: visit.progress == VisitProgress::Ending,
                })
                .collect(),
        }
    }

    /// The visits that the shared store ended, and the journal does not have ended yet.
    pub(crate) fn ending_visits(&self) -> Vec<VisitId> {
        let state = self.state.read();
        let ending = state
            .visits
            .iter()
            .filter(|(_, visit)| visit.progress == VisitProgress::Ending);
        ending.map(|(id, _)| *id).collect()
    }

    /// Sets the progress of visits that the shared store ended or reopened, before the journal says so.
    pub(crate) fn set_progress(&self, visits: &[EndedVisit], progress: VisitProgress) {
        let mut state = self.state.write();
        for changed in visits {
            if let Some(visit) = state.visits.get_mut(&changed.visit) {
                visit.progress = progress;
            }
        }
    }

    /// Records the claimants that the shared store reported.
    pub(crate) fn record_claimants(&self, called: &[u32], late_arrivals: &[u32], at: Moment) {
        let mut state = self.state.write();
        for &number in called {
            if state
                .entries
                .status(number)
                .is_some_and(|status| status.is_waiting() && !status.responded())
            {
                state.entries.mark_responded(number);
                if let Some(call) = state.call_of(number) {
                    state.show_up.arrived(call.at);
                }
            }
        }
        state.lanes.replace_claimants(called, late_arrivals, at.monotonic);
        let forget_before = at.now.minus(self.config.pass_ttl + SLOT_GRACE * 2);
        if let Some(ended) = &mut state.ended {
            ended.retain(|_, ended_at| *ended_at >= forget_before);
        }
    }
}
