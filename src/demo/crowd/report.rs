//! What the crowd saw, written down as it happens, so that fans who are cut off are in it too.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    audit::{AcknowledgedEntry, AcknowledgedJoin, AcknowledgedOrder, Evidence, OrderState, Refusal},
    kernel::{Money, Timestamp},
};

/// The crowd's side of the story. Times are the clients' clock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CrowdReport {
    /// Fans who were to come.
    pub fans: u32,
    pub joined: u32,
    pub entered: u32,
    /// Holds that were granted.
    pub held: u32,
    /// Wishes that somebody else was faster with.
    pub conflicts: u32,
    pub tickets: u32,
    /// Orders by the state last told.
    pub orders_by_state: BTreeMap<String, u32>,
    /// How the fans' days ended.
    pub endings: BTreeMap<String, u32>,
    pub errors: BTreeMap<String, u32>,
    /// Most visitors at once, as the board said.
    pub active_max: u32,
    /// How often the server was away and came back.
    pub outages: u32,
    pub joins: Vec<Joined>,
    pub entries: Vec<Entered>,
    pub refusals: Vec<Refused>,
    pub orders: Vec<Ordered>,
    /// Customers whose token was no longer honoured.
    pub lost_places: Vec<u32>,
}

/// A place that was acknowledged; another one of the same customer follows only when she left or the number changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Joined {
    pub customer: u32,
    pub number: Option<u64>,
    pub at: Timestamp,
    pub left_at: Option<Timestamp>,
}

/// She asked to be let in at `asked_at` and was at `at`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entered {
    pub customer: u32,
    pub number: Option<u64>,
    pub asked_at: Timestamp,
    pub at: Timestamp,
}

/// She was told that the house is full for a moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refused {
    pub number: u64,
    pub asked_at: Timestamp,
    pub answered_at: Timestamp,
    pub returner: bool,
}

/// An order as its buyer was last told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ordered {
    pub customer: u32,
    pub id: String,
    pub state: String,
    pub seats: Vec<String>,
    pub total: Option<Money>,
}

impl CrowdReport {
    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let listed = |counts: &BTreeMap<String, u32>| {
            counts
                .iter()
                .map(|(name, count)| format!("{name} {count}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        format!(
            "{} fans: {} joined, {} entered, {} holds ({} times somebody else was faster), orders: {}; {} tickets; at most {} inside; errors: {}",
            self.fans,
            self.joined,
            self.entered,
            self.held,
            self.conflicts,
            listed(&self.orders_by_state),
            self.tickets,
            self.active_max,
            if self.errors.is_empty() {
                "none".to_owned()
            } else {
                listed(&self.errors)
            },
        )
    }

    /// Adds what the fans of another part of the same crowd were told.
    pub fn add(&mut self, other: Self) {
        // All named: what is added to a report later must be added here, too.
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
            lost_places,
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
        self.lost_places.extend(lost_places);
    }

    /// Adds what the fans were told to the auditor's evidence.
    pub fn testify(&self, evidence: &mut Evidence) {
        let subject = |customer: u32| format!("customer:{customer}");
        evidence
            .acknowledged_joins
            .extend(self.joins.iter().map(|j| AcknowledgedJoin {
                subject: subject(j.customer),
                number: j.number,
                acknowledged_at: j.at,
                left_at: j.left_at,
            }));
        evidence
            .acknowledged_entries
            .extend(self.entries.iter().filter_map(|e| {
                Some(AcknowledgedEntry {
                    subject: subject(e.customer),
                    number: e.number?,
                    asked_at: e.asked_at,
                    at: e.at,
                })
            }));
        evidence.refusals.extend(self.refusals.iter().map(|r| Refusal {
            number: r.number,
            asked_at: r.asked_at,
            answered_at: r.answered_at,
            returner: r.returner,
        }));
        evidence
            .acknowledged_orders
            .extend(self.orders.iter().map(|o| AcknowledgedOrder {
                id: o.id.clone(),
                state: match o.state.as_str() {
                    "paid" => OrderState::Paid,
                    "declined" | "expired" | "canceled" | "refunded" => OrderState::Ended,
                    "stuck" => OrderState::Stuck,
                    _ => OrderState::Open,
                },
                seats: o.seats.clone(),
                total: o.total.map_or(0, |m| m.amount),
            }));
        evidence
            .lost_places
            .extend(self.lost_places.iter().map(|c| subject(*c)));
    }
}

/// Where the fans write.
pub(crate) struct Notebook(Mutex<CrowdReport>);

impl Notebook {
    pub(crate) fn new(fans: u32) -> Self {
        Self(Mutex::new(CrowdReport {
            fans,
            ..CrowdReport::default()
        }))
    }

    pub(crate) fn joined(&self, customer: u32, number: Option<u64>, at: Timestamp) {
        let mut report = self.0.lock();
        report.joined += 1;
        report.joins.push(Joined {
            customer,
            number,
            at,
            left_at: None,
        });
    }

    /// The draw has given a number to a place that had none.
    pub(crate) fn numbered(&self, customer: u32, number: u64) {
        let mut report = self.0.lock();
        if let Some(join) = report.joins.iter_mut().rfind(|j| j.customer == customer) {
            join.number = Some(number);
        }
    }

    /// A place that changed its number stays in the book beside the old one: the auditor takes it from there.
    pub(crate) fn number_changed(&self, customer: u32, number: Option<u64>, at: Timestamp) {
        let mut report = self.0.lock();
        report.joins.push(Joined {
            customer,
            number,
            at,
            left_at: None,
        });
        *report.errors.entry("the number changed".into()).or_default() += 1;
    }

    pub(crate) fn place_lost(&self, customer: u32) {
        self.0.lock().lost_places.push(customer);
    }

    pub(crate) fn left(&self, customer: u32, at: Timestamp) {
        if let Some(join) = self.0.lock().joins.iter_mut().rfind(|j| j.customer == customer) {
            join.left_at = Some(at);
        }
    }

    pub(crate) fn refused(&self, refused: Refused) {
        self.0.lock().refusals.push(refused);
    }

    pub(crate) fn entered(&self, entered: Entered) {
        let mut report = self.0.lock();
        report.entered += 1;
        report.entries.push(entered);
    }

    pub(crate) fn held(&self) {
        self.0.lock().held += 1;
    }

    pub(crate) fn conflict(&self) {
        self.0.lock().conflicts += 1;
    }

    pub(crate) fn ordered(&self, ordered: Ordered) {
        let mut report = self.0.lock();
        match report.orders.iter_mut().rfind(|o| o.id == ordered.id) {
            Some(known) => *known = ordered,
            None => report.orders.push(ordered),
        }
    }

    pub(crate) fn tickets(&self, count: u32) {
        self.0.lock().tickets += count;
    }

    pub(crate) fn ended(&self, how: &str) {
        *self.0.lock().endings.entry(how.into()).or_default() += 1;
    }

    pub(crate) fn error(&self, kind: &str) {
        *self.0.lock().errors.entry(kind.into()).or_default() += 1;
    }

    pub(crate) fn board(&self, active: u32) {
        let mut report = self.0.lock();
        report.active_max = report.active_max.max(active);
    }

    pub(crate) fn outage(&self) {
        self.0.lock().outages += 1;
    }

    pub(crate) fn report(&self) -> CrowdReport {
        let mut report = self.0.lock().clone();
        for order in &report.orders {
            *report.orders_by_state.entry(order.state.clone()).or_default() += 1;
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Currency;

    #[test]
    fn an_order_is_reported_once_as_last_told_and_a_changed_number_stands_beside_the_old_one() {
        let notebook = Notebook::new(2);
        let at = Timestamp::from_millis(5);
        notebook.joined(1, None, at);
        notebook.numbered(1, 7);
        notebook.number_changed(1, Some(9), at);
        let order = |state: &str| Ordered {
            customer: 1,
            id: "o".into(),
            state: state.into(),
            seats: vec!["A".into()],
            total: Some(Money::new(5, Currency::KRW)),
        };
        notebook.ordered(order("in_progress"));
        notebook.ordered(order("paid"));
        let report = notebook.report();
        assert_eq!(report.orders_by_state, BTreeMap::from([("paid".to_owned(), 1)]));
        let mut evidence = Evidence::default();
        report.testify(&mut evidence);
        assert_eq!(
            evidence
                .acknowledged_joins
                .iter()
                .map(|j| j.number)
                .collect::<Vec<_>>(),
            [Some(7), Some(9)]
        );
        assert_eq!(evidence.acknowledged_orders[0].state, OrderState::Paid);
    }
}
