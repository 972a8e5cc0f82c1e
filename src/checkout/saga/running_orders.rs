//! Which orders are being driven in this process, by whom their end is awaited, and whose visits they keep alive.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::kernel::{OrderId, VisitId};

/// One order under way.
#[derive(Debug)]
pub(crate) struct Run {
    visit: VisitId,
    keeps_visit: AtomicBool,
    /// Cuts its driver's pause short.
    pub(crate) wake: Notify,
    moves: watch::Sender<u64>,
}

impl Run {
    /// Its state is worth reading again.
    pub(crate) fn moved(&self) {
        self.moves.send_modify(|n| *n += 1);
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.moves.subscribe()
    }

    /// The buyer has what she came for; what is left to do needs her visit no longer.
    pub(crate) fn let_visit_go(&self) {
        self.keeps_visit.store(false, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Known {
    by_order: HashMap<OrderId, Arc<Run>>,
    by_visit: HashMap<VisitId, Vec<Arc<Run>>>,
}

#[derive(Debug, Default)]
pub(crate) struct Drivers(Mutex<Known>);

impl Drivers {
    /// A new driver for the order; one that drove it before has lost its lease.
    pub(crate) fn enter(&self, order: OrderId, visit: VisitId) -> Arc<Run> {
        let run = Arc::new(Run {
            visit,
            keeps_visit: AtomicBool::new(true),
            wake: Notify::new(),
            moves: watch::Sender::new(0),
        });
        let mut known = self.0.lock();
        known.by_order.insert(order, Arc::clone(&run));
        known.by_visit.entry(visit).or_default().push(Arc::clone(&run));
        run
    }

    pub(crate) fn leave(&self, order: OrderId, run: &Arc<Run>) {
        let mut known = self.0.lock();
        if known.by_order.get(&order).is_some_and(|it| Arc::ptr_eq(it, run)) {
            known.by_order.remove(&order);
        }
        if let Some(runs) = known.by_visit.get_mut(&run.visit) {
            runs.retain(|it| !Arc::ptr_eq(it, run));
            if runs.is_empty() {
                known.by_visit.remove(&run.visit);
            }
        }
        drop(known);
        run.moved();
    }

    pub(crate) fn of(&self, order: OrderId) -> Option<Arc<Run>> {
        self.0.lock().by_order.get(&order).cloned()
    }

    pub(crate) fn visits_kept(&self) -> Vec<VisitId> {
        let kept = |runs: &[Arc<Run>]| runs.iter().any(|it| it.keeps_visit.load(Ordering::Relaxed));
        self.0
            .lock()
            .by_visit
            .iter()
            .filter(|(_, runs)| kept(runs))
            .map(|(visit, _)| *visit)
            .collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().by_order.len()
    }
}
