//! What clients were told, as the auditor needs it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    audit::{
        AcknowledgedAdmission, AcknowledgedJoin, AcknowledgedOrder, Evidence, OrderState, Probe, Refusal,
    },
    kernel::{Money, Timestamp},
};

/// The clients' side of a sale. Times are the clients' clock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Observations {
    /// Visitors who were to come.
    pub fans: u32,
    /// Acknowledged joins.
    pub joined: u32,
    /// Admissions.
    pub entered: u32,
    /// Granted holds.
    pub held: u32,
    /// Holds that were refused because another visitor was faster.
    pub conflicts: u32,
    /// Delivered tickets.
    pub tickets: u32,
    /// Orders by the state last seen.
    pub orders_by_state: BTreeMap<String, u32>,
    /// Visitors by how their day ended.
    pub endings: BTreeMap<String, u32>,
    /// Errors by kind.
    pub errors: BTreeMap<String, u32>,
    /// The highest number of admitted visits that the status showed.
    pub active_max: u32,
    /// How often the server was unreachable and came back.
    pub outages: u32,
    /// Every acknowledged join.
    pub joins: Vec<ObservedJoin>,
    /// Every admission.
    pub entries: Vec<ObservedEntry>,
    /// Every refusal of entry at capacity.
    pub refusals: Vec<ObservedRefusal>,
    /// Every order, once, in its last state.
    pub orders: Vec<ObservedOrder>,
    /// Customers whose queue token was no longer honored.
    pub lost_entries: Vec<u32>,
    /// Calls with a missing or forged proof.
    #[serde(default)]
    pub probes: Vec<ObservedProbe>,
}

/// An acknowledged join. A customer has another one only after leaving, or when their number changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObservedJoin {
    /// The crowd's customer number.
    pub customer: u32,
    /// The queue number; `None` before the draw.
    pub number: Option<u64>,
    /// When the answer arrived.
    pub at: Timestamp,
    /// When leaving was acknowledged.
    pub left_at: Option<Timestamp>,
}

/// An admission.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObservedEntry {
    /// The crowd's customer number.
    pub customer: u32,
    /// The queue number.
    pub number: Option<u64>,
    /// When the request was sent.
    pub asked_at: Timestamp,
    /// When the answer arrived.
    pub at: Timestamp,
}

/// A refusal of entry because every active visit was in use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObservedRefusal {
    /// The queue number.
    pub number: u64,
    /// When the request was sent.
    pub asked_at: Timestamp,
    /// When the answer arrived.
    pub answered_at: Timestamp,
    /// The visitor had missed their call.
    pub late_arrival: bool,
}

/// An order as its buyer last saw it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObservedOrder {
    /// The crowd's customer number.
    pub customer: u32,
    /// The order's identifier.
    pub id: String,
    /// The state last seen.
    pub state: String,
    /// The ordered seats by GUID.
    pub seats: Vec<String>,
    /// The price of all seats.
    pub total: Option<Money>,
}

/// A call with a missing or forged proof.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObservedProbe {
    /// What was tried.
    pub what: String,
    /// The HTTP status of the answer.
    pub status: u16,
}

impl Observations {
    /// One line for a log.
    #[must_use]
    pub fn summary(&self) -> String {
        let list = |counts: &BTreeMap<String, u32>| {
            counts
                .iter()
                .map(|(name, count)| format!("{name} {count}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let errors = if self.errors.is_empty() {
            "none".to_owned()
        } else {
            list(&self.errors)
        };
        format!(
            "{} fans: {} joined, {} admitted, {} holds, {} conflicts, orders: {}; {} tickets; \
             at most {} active visits; errors: {errors}",
            self.fans,
            self.joined,
            self.entered,
            self.held,
            self.conflicts,
            list(&self.orders_by_state),
            self.tickets,
            self.active_max,
        )
    }

    /// Adds the observations of another part of the same crowd.
    pub fn merge(&mut self, other: Self) {
        // Destructured without `..`, so that a new field cannot be forgotten here.
        let Self {
            fans,
            joined,
            entered,
            held,
            conflicts,
            tickets,
            orders_by_state,
            endings,
            errors,
            active_max,
            outages,
            joins,
            entries,
            refusals,
            orders,
            lost_entries,
            probes,
        } = other;
        self.fans += fans;
        self.joined += joined;
        self.entered += entered;
        self.held += held;
        self.conflicts += conflicts;
        self.tickets += tickets;
        self.active_max = self.active_max.max(active_max);
        self.outages = self.outages.max(outages);
        for (sums, counts) in [
            (&mut self.orders_by_state, orders_by_state),
            (&mut self.endings, endings),
            (&mut self.errors, errors),
        ] {
            for (name, count) in counts {
                *sums.entry(name).or_default() += count;
            }
        }
        self.joins.extend(joins);
        self.entries.extend(entries);
        self.refusals.extend(refusals);
        self.orders.extend(orders);
        self.lost_entries.extend(lost_entries);
        self.probes.extend(probes);
    }

    /// Adds the observations to the auditor's evidence.
    pub fn add_to(&self, evidence: &mut Evidence) {
        let subject = |customer: u32| format!("customer:{customer}");
        evidence
            .acknowledged_joins
            .extend(self.joins.iter().map(|join| AcknowledgedJoin {
                subject: subject(join.customer),
                number: join.number,
                acknowledged_at: join.at,
                left_at: join.left_at,
            }));
        evidence
            .acknowledged_admissions
            .extend(self.entries.iter().filter_map(|entry| {
                Some(AcknowledgedAdmission {
                    subject: subject(entry.customer),
                    number: entry.number?,
                    asked_at: entry.asked_at,
                    at: entry.at,
                })
            }));
        evidence
            .refusals
            .extend(self.refusals.iter().map(|refusal| Refusal {
                number: refusal.number,
                asked_at: refusal.asked_at,
                answered_at: refusal.answered_at,
                is_late_arrival: refusal.late_arrival,
            }));
        evidence
            .acknowledged_orders
            .extend(self.orders.iter().map(|order| AcknowledgedOrder {
                id: order.id.clone(),
                state: match order.state.as_str() {
                    "paid" => OrderState::Paid,
                    "declined" | "expired" | "canceled" | "refunded" => OrderState::Ended,
                    "stuck" => OrderState::Stuck,
                    _ => OrderState::Open,
                },
                seats: order.seats.clone(),
                total: order.total.map_or(0, |money| money.amount),
            }));
        evidence
            .lost_entries
            .extend(self.lost_entries.iter().map(|customer| subject(*customer)));
        // No snapshot around each probe: that it changed nothing shows in the journal and the ledger, which
        // then have no visit and no order without an admission.
        evidence.probes.extend(self.probes.iter().map(|probe| Probe {
            what: probe.what.clone(),
            status: probe.status,
            before: BTreeMap::default(),
            after: BTreeMap::default(),
        }));
    }
}
