//! What the box offices have reported to this node: stock by zone, ended visits, and the health of their
//! visitors.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::time::Duration;

use crate::{
    kernel::VisitId,
    waiting_room::{
        store::port::Stock,
        types::{BoxOfficeHealth, BoxOfficeReport, ZoneStock},
    },
};

/// Ended visits that wait for the next tick at most; those beyond it end when their pass expires.
const ENDED_MAX: usize = 65_536;
/// A box office that has not reported for so long counts as silent.
pub(crate) const SILENT_AFTER: Duration = Duration::from_secs(5);

/// The last reports of all sources.
#[derive(Debug, Default)]
pub(crate) struct BoxOfficeReports(Mutex<Latest>);

#[derive(Debug, Default)]
struct Latest {
    sequence: Option<u64>,
    received_at: Option<Duration>,
    zones: Vec<ZoneStock>,
    healths: HashMap<String, SourceHealth>,
    ended: Vec<VisitId>,
}

/// What one source said last of its visitors, in its own order.
#[derive(Clone, Copy, Debug)]
struct SourceHealth {
    sequence: u64,
    health: BoxOfficeHealth,
    received_at: Duration,
}

impl BoxOfficeReports {
    /// Takes a report in; says whether its stock is newer than what was known.
    pub(crate) fn receive(&self, report: BoxOfficeReport, monotonic: Duration) -> bool {
        let mut latest = self.0.lock();
        let space = ENDED_MAX - latest.ended.len();
        latest.ended.extend(report.ended.into_iter().take(space));
        if let Some(health) = report.health {
            let received = SourceHealth {
                sequence: report.sequence,
                health,
                received_at: monotonic,
            };
            let known = latest.healths.entry(report.source).or_insert(received);
            // Reports may overtake each other on the way.
            if report.sequence >= known.sequence {
                *known = received;
            }
        }
        let is_newer = latest.sequence.is_none_or(|last| report.sequence > last);
        if is_newer {
            latest.sequence = Some(report.sequence);
            latest.zones = report.zones;
            latest.received_at = Some(monotonic);
        }
        is_newer
    }

    /// Takes out the visits that were reported as ended since this was last asked.
    pub(crate) fn take_ended(&self) -> Vec<VisitId> {
        std::mem::take(&mut self.0.lock().ended)
    }

    /// The stock as last reported to this node, and the healths of sources that are not silent.
    pub(crate) fn stock(&self, monotonic: Duration) -> Stock {
        let latest = self.0.lock();
        let age = |received_at: Duration| monotonic.saturating_sub(received_at);
        let recent = latest
            .healths
            .values()
            .filter(|source| age(source.received_at) <= SILENT_AFTER);
        Stock {
            zones: latest.zones.clone(),
            age: age(latest.received_at.unwrap_or_default()),
            healths: recent.map(|source| source.health).collect(),
        }
    }
}
