//! What the clients were told, for the auditor.

use std::{collections::HashMap, fs, path::Path};

use anyhow::Context;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use stagedoor::{
    audit::{Evidence, Probe},
    demo::crowd::{CrowdReport, Entered, Joined, Ordered, Refused},
};

/// Written by all fans of a process.
pub struct Told {
    report: Mutex<CrowdReport>,
    orders: Mutex<HashMap<String, Ordered>>,
    /// Calls without the proof they need: what, and the status.
    probes: Mutex<Vec<(String, u16)>>,
}

impl Told {
    pub fn new(fans: u32) -> Self {
        Self {
            report: Mutex::new(CrowdReport {
                fans,
                ..CrowdReport::default()
            }),
            orders: Mutex::default(),
            probes: Mutex::default(),
        }
    }

    /// Gives where it is written down.
    pub fn joined(&self, joined: Joined) -> usize {
        let mut report = self.report.lock();
        report.joined += 1;
        report.joins.push(joined);
        report.joins.len() - 1
    }

    /// The draw has given her this number.
    pub fn drawn(&self, join: usize, number: u64) {
        self.report.lock().joins[join].number = Some(number);
    }

    pub fn entered(&self, entered: Entered) {
        let mut report = self.report.lock();
        report.entered += 1;
        report.entries.push(entered);
    }

    pub fn refused(&self, refused: Refused) {
        self.report.lock().refusals.push(refused);
    }

    pub fn held(&self) {
        self.report.lock().held += 1;
    }

    pub fn conflict(&self) {
        self.report.lock().conflicts += 1;
    }

    pub fn ordered(&self, order: Ordered) {
        self.orders.lock().insert(order.id.clone(), order);
    }

    pub fn tickets(&self, count: u32) {
        self.report.lock().tickets += count;
    }

    pub fn active(&self, active: u64) {
        let mut report = self.report.lock();
        report.active_max = report.active_max.max(u32::try_from(active).unwrap_or(u32::MAX));
    }

    pub fn probed(&self, what: &str, status: u16) {
        self.probes.lock().push((what.to_owned(), status));
    }

    pub fn ended(&self, how: &str) {
        *self.report.lock().endings.entry(how.to_owned()).or_default() += 1;
    }

    /// Those who were still waiting when it was over.
    pub fn sent_home(&self, waiting: usize, sold_out: bool) {
        let how = if sold_out { "sold out" } else { "still waiting" };
        *self.report.lock().endings.entry(how.to_owned()).or_default() +=
            u32::try_from(waiting).unwrap_or(u32::MAX);
    }

    /// So far: joined, entered, tickets.
    pub fn counts(&self) -> (u32, u32, u32) {
        let report = self.report.lock();
        (report.joined, report.entered, report.tickets)
    }

    /// The clients' side of the story.
    pub fn testimonies(&self) -> Testimonies {
        let mut report = self.report.lock().clone();
        report.orders = self.orders.lock().values().cloned().collect();
        for order in &report.orders {
            *report.orders_by_state.entry(order.state.clone()).or_default() += 1;
        }
        Testimonies {
            report,
            probes: self.probes.lock().clone(),
        }
    }
}

/// What the clients of one process were told, or of several, for an audit of the whole.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Testimonies {
    pub report: CrowdReport,
    pub probes: Vec<(String, u16)>,
}

impl Testimonies {
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} does not say what clients were told", file.display()))
    }

    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        fs::write(file, serde_json::to_vec(self)?).with_context(|| format!("cannot write {}", file.display()))
    }

    pub fn add(&mut self, other: Self) {
        self.report.add(other.report);
        self.probes.extend(other.probes);
    }
}

/// Adds calls that were made without their proof.
pub fn testify_probes(probes: &[(String, u16)], evidence: &mut Evidence) {
    evidence.probes.extend(probes.iter().map(|(what, status)| Probe {
        what: what.clone(),
        status: *status,
        // What changed nothing is judged by the books: no visit and no order without an entry.
        before: std::collections::BTreeMap::default(),
        after: std::collections::BTreeMap::default(),
    }));
}
