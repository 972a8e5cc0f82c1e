//! The memory engine as a mirror: a node's copy of what the journal holds, beside an engine that lives elsewhere.
//!
//! It answers without I/O and is a tick behind at most. What it does not know yet (a number or a visit that another node
//! has just written down) is believed for what its signed token says; what has ended is remembered for as long as a pass
//! could speak of it.

use std::collections::BTreeMap;

use crate::{
    kernel::{Timestamp, VisitId},
    waiting_room::{
        Config,
        state::Settings,
        store::{
            memory::{state::Progress, store::MemoryStore},
            port::{EndedVisit, Moment, SLOT_GRACE},

        },
    },
};

/// All of it at one moment: what another engine is rebuilt from.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub issued: u32,
    pub now_serving: u32,
    pub settings: Settings,
    /// Who has not given her number up.
    pub places: Vec<(u32, u64)>,
    pub visits: Vec<(u32, VisitId, Timestamp)>,
}

impl MemoryStore {
    pub(crate) fn mirror(config: Config, at: Moment) -> Self {
        let mirror = Self::new(config, 0, at);
        mirror.state.write().ended = Some(BTreeMap::new());
        mirror
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.state.read();
        let inside = state
            .visits
            .iter()
            .filter(|(_, visit)| visit.progress == Progress::Inside);
        Snapshot {
            issued: state.fans.issued(),
            now_serving: state.now_serving,
            settings: state.settings.clone(),
            places: state.fans.living().collect(),
            visits: inside
                .map(|(id, visit)| (visit.number, *id, visit.started))
                .collect(),
        }
    }

    /// The engine ends these visits, or lets them go on, before the journal says so.
    pub(crate) fn are(&self, visits: &[EndedVisit], progress: Progress) {
        let mut state = self.state.write();
        for it in visits {
            if let Some(visit) = state.visits.get_mut(&it.visit) {
                visit.progress = progress;
            }
        }
    }

    /// Who stands before the door, as the engine says.
    pub(crate) fn saw_claimants(&self, called: &[u32], returners: &[u32], at: Moment) {
        let mut state = self.state.write();
        for &number in called {
            if state
                .fans
                .status(number)
                .is_some_and(|status| status.is_in_line() && !status.came())
            {
                state.fans.set_came(number);
                if let Some(call) = state.call_of(number) {
                    state.show_up.came(call.at);
                }
            }
        }
        state.lanes.saw(called, returners, at.monotonic);
        let forget_before = at.now.minus(self.config.pass_life + SLOT_GRACE * 2);
        if let Some(ended) = &mut state.ended {
            ended.retain(|_, ended_at| *ended_at >= forget_before);
        }
    }
}
