//! The orders that run in this process: who waits for their progress, and which visits they keep alive.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::kernel::{OrderId, SaleId, VisitId};

/// One order in progress.
#[derive(Debug)]
pub(crate) struct RunningOrder {
    visit: VisitId,
    sale: SaleId,
    holds_visit: AtomicBool,
    /// Cuts the pause of its saga short.
    pub(crate) wake: Notify,
    changes: watch::Sender<u64>,
}

impl RunningOrder {
    /// Tells subscribers that the order's state is worth reading again.
    pub(crate) fn notify_changed(&self) {
        self.changes.send_modify(|version| *version += 1);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The rest of the saga no longer needs the buyer's visit.
    pub(crate) fn release_visit(&self) {
        self.holds_visit.store(false, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Index {
    by_order: HashMap<OrderId, Arc<RunningOrder>>,
    by_visit: HashMap<VisitId, Vec<Arc<RunningOrder>>>,
}

/// Index of the orders that run in this process.
#[derive(Debug, Default)]
pub(crate) struct RunningOrders(Mutex<Index>);

impl RunningOrders {
    /// Registers a run of the order. It replaces an earlier run, which has lost its lease.
    pub(crate) fn insert(&self, order: OrderId, visit: VisitId, sale: SaleId) -> Arc<RunningOrder> {
        let running = Arc::new(RunningOrder {
            visit,
            sale,
            holds_visit: AtomicBool::new(true),
            wake: Notify::new(),
            changes: watch::Sender::new(0),
        });
        let mut index = self.0.lock();
        index.by_order.insert(order, Arc::clone(&running));
        index
            .by_visit
            .entry(visit)
            .or_default()
            .push(Arc::clone(&running));
        running
    }

    /// Removes this run, and leaves a later run of the same order in place.
    pub(crate) fn remove(&self, order: OrderId, running: &Arc<RunningOrder>) {
        let mut index = self.0.lock();
        if index
            .by_order
            .get(&order)
            .is_some_and(|known| Arc::ptr_eq(known, running))
        {
            index.by_order.remove(&order);
        }
        if let Some(of_visit) = index.by_visit.get_mut(&running.visit) {
            of_visit.retain(|known| !Arc::ptr_eq(known, running));
            if of_visit.is_empty() {
                index.by_visit.remove(&running.visit);
            }
        }
        drop(index);
        running.notify_changed();
    }

    pub(crate) fn get(&self, order: OrderId) -> Option<Arc<RunningOrder>> {
        self.0.lock().by_order.get(&order).cloned()
    }

    /// Visits that must not end while their payment is in progress.
    pub(crate) fn visits_with_payment(&self) -> Vec<VisitId> {
        let is_held = |orders: &[Arc<RunningOrder>]| {
            orders
                .iter()
                .any(|order| order.holds_visit.load(Ordering::Relaxed))
        };
        self.0
            .lock()
            .by_visit
            .iter()
            .filter(|(_, orders)| is_held(orders))
            .map(|(visit, _)| *visit)
            .collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().by_order.len()
    }

    /// The sale of each order.
    pub(crate) fn sales(&self) -> Vec<SaleId> {
        self.0
            .lock()
            .by_order
            .values()
            .map(|order| order.sale.clone())
            .collect()
    }
}
