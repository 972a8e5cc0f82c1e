//! Records what clients are told as it happens, so that it also covers visitors who are cut off.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::observations::{
    Observations, ObservedEntry, ObservedJoin, ObservedOrder, ObservedProbe, ObservedRefusal,
};
use crate::kernel::Timestamp;

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
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        audit::{Evidence, OrderState},
        kernel::{Currency, Money},
    };

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
