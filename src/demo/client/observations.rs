//! What clients were told, recorded as it happens, so that it also covers visitors who are cut off.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    audit::{AcknowledgedAdmission, AcknowledgedJoin, AcknowledgedOrder, Evidence, OrderState, Probe, Refusal},
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
                    "declined" | "expired" | "canceled" | "cancelled" | "refunded" => OrderState::Ended,
                    "stuck" => OrderState::Stuck,
                    _ => OrderState::Open,
                },
                seats: order.seats.clone(),
                total: order.total.map_or(0, |money| money.amount),
            }));
        evidence
            .lost_entries
            .extend(self.lost_entries.iter().map(|customer| subject(*customer)));
        // No snapshot around each probe: that it changed nothing shows in the journal and the ledger, which then have
        // no visit and no order without an admission.
        evidence.probes.extend(self.probes.iter().map(|probe| Probe {
            what: probe.what.clone(),
            status: probe.status,
            before: BTreeMap::default(),
            after: BTreeMap::default(),
        }));
    }
}

/// Records the observations of all visitors of one process.
pub struct ObservationLog {
    observations: Mutex<Observations>,
    /// Apart, by id: an order is updated with every poll, and a load test has hundred thousands of them.
    orders: Mutex<HashMap<String, ObservedOrder>>,
}

impl ObservationLog {
    /// An empty log of a crowd of this size.
    pub fn new(fans: u32) -> Self {
        Self {
            observations: Mutex::new(Observations {
                fans,
                ..Observations::default()
            }),
            orders: Mutex::default(),
        }
    }

    /// Records an acknowledged join; returns its index for [`ObservationLog::numbered`].
    pub fn joined(&self, customer: u32, number: Option<u64>, at: Timestamp) -> usize {
        let mut observations = self.observations.lock();
        observations.joined += 1;
        observations.joins.push(ObservedJoin {
            customer,
            number,
            at,
            left_at: None,
        });
        observations.joins.len() - 1
    }

    /// Records the number that the draw gave to the join at this index.
    pub fn numbered(&self, join: usize, number: u64) {
        self.observations.lock().joins[join].number = Some(number);
    }

    /// Records a number that differs from the one before. The old join stays, so that the auditor finds both.
    pub fn number_changed(&self, customer: u32, number: Option<u64>, at: Timestamp) {
        let mut observations = self.observations.lock();
        observations.joins.push(ObservedJoin {
            customer,
            number,
            at,
            left_at: None,
        });
        *observations
            .errors
            .entry("the number changed".into())
            .or_default() += 1;
    }

    /// Records a queue token that was no longer honored.
    pub fn entry_lost(&self, customer: u32) {
        self.observations.lock().lost_entries.push(customer);
    }

    /// Records that the join at this index was ended by leaving.
    pub fn left(&self, join: usize, at: Timestamp) {
        self.observations.lock().joins[join].left_at = Some(at);
    }

    /// Records a refusal at capacity.
    pub fn refused(&self, refusal: ObservedRefusal) {
        self.observations.lock().refusals.push(refusal);
    }

    /// Records an admission.
    pub fn entered(&self, entry: ObservedEntry) {
        let mut observations = self.observations.lock();
        observations.entered += 1;
        observations.entries.push(entry);
    }

    /// Counts a granted hold.
    pub fn held(&self) {
        self.observations.lock().held += 1;
    }

    /// Counts a hold that another visitor's hold prevented.
    pub fn conflict(&self) {
        self.observations.lock().conflicts += 1;
    }

    /// Records the current state of an order.
    pub fn ordered(&self, order: ObservedOrder) {
        self.orders.lock().insert(order.id.clone(), order);
    }

    /// Counts delivered tickets.
    pub fn tickets(&self, count: u32) {
        self.observations.lock().tickets += count;
    }

    /// Records the number of admitted visits that the status shows.
    pub fn active(&self, active: u64) {
        let mut observations = self.observations.lock();
        observations.active_max = observations
            .active_max
            .max(u32::try_from(active).unwrap_or(u32::MAX));
    }

    /// Records a call with a missing or forged proof.
    pub fn probed(&self, what: &str, status: u16) {
        self.observations.lock().probes.push(ObservedProbe {
            what: what.to_owned(),
            status,
        });
    }

    /// Counts how a visitor's day ended.
    pub fn ended(&self, how: &str) {
        self.ended_many(how, 1);
    }

    /// As [`ObservationLog::ended`], for so many visitors at once.
    pub fn ended_many(&self, how: &str, count: u32) {
        if count > 0 {
            *self
                .observations
                .lock()
                .endings
                .entry(how.to_owned())
                .or_default() += count;
        }
    }

    /// Counts an error.
    pub fn error(&self, kind: &str) {
        *self
            .observations
            .lock()
            .errors
            .entry(kind.to_owned())
            .or_default() += 1;
    }

    /// Counts an outage that ended.
    pub fn outage(&self) {
        self.observations.lock().outages += 1;
    }

    /// So far: joins, admissions, tickets.
    pub fn counts(&self) -> (u32, u32, u32) {
        let observations = self.observations.lock();
        (observations.joined, observations.entered, observations.tickets)
    }

    /// Everything recorded so far.
    pub fn snapshot(&self) -> Observations {
        let mut observations = self.observations.lock().clone();
        observations.orders = self.orders.lock().values().cloned().collect();
        for order in &observations.orders {
            *observations
                .orders_by_state
                .entry(order.state.clone())
                .or_default() += 1;
        }
        observations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Currency;

    #[test]
    fn an_order_counts_once_and_a_changed_number_adds_a_join() {
        let log = ObservationLog::new(2);
        let at = Timestamp::from_millis(5);
        let join = log.joined(1, None, at);
        log.numbered(join, 7);
        log.number_changed(1, Some(9), at);
        let order = |state: &str| ObservedOrder {
            customer: 1,
            id: "o".into(),
            state: state.into(),
            seats: vec!["A".into()],
            total: Some(Money::new(5, Currency::KRW)),
        };
        log.ordered(order("in_progress"));
        log.ordered(order("paid"));
        let observations = log.snapshot();
        assert_eq!(
            observations.orders_by_state,
            BTreeMap::from([("paid".to_owned(), 1)])
        );
        let mut evidence = Evidence::default();
        observations.add_to(&mut evidence);
        assert_eq!(
            evidence
                .acknowledged_joins
                .iter()
                .map(|join| join.number)
                .collect::<Vec<_>>(),
            [Some(7), Some(9)]
        );
        assert_eq!(evidence.acknowledged_orders[0].state, OrderState::Paid);
    }
}
