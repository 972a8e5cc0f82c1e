//! The admission tick: every 100 ms it ends visits, follows the phases and calls the next visitors.
//!
//! Every node ticks, and the store says whose turn it is to call; the others end visits and follow.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Duration;

use crate::waiting_room::{
    admission::{
        backpressure,
        box_office::{BoxOfficeReports, SILENT_AFTER},
        call_policy::calls_due,
    },
    context::RoomContext,
    journal::record::Event,
    state::AdmissionState,
    store::port::{Moment, QueueStore, Stock, StoreError},
    types::{BoxOfficeReport, Phase, ZoneStock},
};

const BACKPRESSURE_EVERY: Duration = Duration::from_secs(1);

/// Calls visitors, ends visits, and remembers what it needs from tick to tick.
#[derive(Debug)]
pub(crate) struct AdmissionController {
    context: Arc<RoomContext>,
    reports: BoxOfficeReports,
    last: Mutex<LastTick>,
    recent: Mutex<backpressure::RecentRate>,
}

#[derive(Debug, Default)]
struct LastTick {
    published: Published,
    state: Option<AdmissionState>,
}

/// What the status shows: when it changes, a new one is published at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Published {
    phase: Option<Phase>,
    /// Operators' commands carried out so far.
    commands: u32,
}

/// The call that the policy makes now, if any, and the state it was decided by.
///
/// # Errors
/// [`StoreError`] when the store does not answer.
pub(crate) async fn next_call(
    store: &dyn QueueStore,
    phase: Phase,
    window: Duration,
    at: Moment,
    stock: &Stock,
) -> Result<(AdmissionState, Option<Event>), StoreError> {
    store.sync_state(at).await?;
    let mut state = store.admission_state(at);
    state.seats_free = seats_free(stock);
    state.box_office_silent = !stock.zones.is_empty() && stock.age > SILENT_AFTER;
    state.calling &= phase == Phase::OnSale;
    let count = calls_due(&state);
    if count == 0 {
        return Ok((state, None));
    }
    let after = store.now_serving();
    let last = store.number_after(count).await?;
    let call = Event::Called {
        after,
        last,
        window_ends_at: at.now.plus(window),
    };
    Ok((state, Some(call)))
}

/// Also those for visitors with a wheelchair: the queue does not know who they are. `None` before the first
/// report.
fn seats_free(stock: &Stock) -> Option<u32> {
    (!stock.zones.is_empty()).then(|| stock.zones.iter().map(ZoneStock::free_in_all).sum())
}

impl AdmissionController {
    /// A controller that has not ticked yet.
    pub(crate) fn new(context: Arc<RoomContext>) -> Self {
        Self {
            context,
            reports: BoxOfficeReports::default(),
            last: Mutex::default(),
            recent: Mutex::default(),
        }
    }

    /// Whether it was this node's turn to call at the last tick; always true for a node that is alone.
    pub(crate) fn is_caller(&self) -> bool {
        self.state().is_some_and(|state| state.is_caller)
    }

    /// What the policy knew at the last tick; `None` before the first.
    pub(crate) fn state(&self) -> Option<AdmissionState> {
        self.last.lock().state
    }

    /// Takes in what a box office reports, and passes it on to the other nodes; it counts from the next tick
    /// on.
    pub(crate) fn receive_report(&self, report: BoxOfficeReport) {
        let (source, zones, health) = (report.source.clone(), report.zones.clone(), report.health);
        let is_newer = self.reports.receive(report, self.context.clock.monotonic());
        self.context
            .store
            .record_report(&source, is_newer.then_some(&zones), health);
    }

    /// What the box office said last, to this node or to another.
    pub(crate) fn stock(&self) -> Stock {
        self.context
            .store
            .reported_stock()
            .unwrap_or_else(|| self.reports.stock(self.context.clock.monotonic()))
    }

    /// One tick. Says whether something has changed that the status should show at once.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer; the next tick makes up for it.
    pub(crate) async fn tick(&self) -> Result<bool, StoreError> {
        let context = &self.context;
        // Also when there is nothing to write: the writer follows what other nodes have written, and after a
        // failure finds out what was written and what was not.
        context.write_patiently(Vec::new()).await;
        let at = context.moment();
        self.end_visits(at).await?;
        let stock = self.stock();
        let phase = context.phase();
        let (state, call) = next_call(
            context.store.as_ref(),
            phase,
            context.config.call_window,
            at,
            &stock,
        )
        .await?;
        let before = {
            let mut last = self.last.lock();
            last.state = Some(state);
            last.published
        };
        let now = Published {
            phase: Some(phase),
            commands: context.store.settings().commands,
        };
        let mut events: Vec<Event> = call.into_iter().collect();
        if state.is_caller {
            events.extend(self.stock_event(&stock));
            events.extend(self.backpressure_event(phase, &stock, at));
            if before.phase != now.phase {
                events.push(Event::Phase { phase });
            }
        }
        let is_written = events.is_empty() || context.write_patiently(events).await;
        let is_changed = is_written && before != now;
        if is_changed {
            self.last.lock().published = now;
        }
        Ok(is_changed)
    }

    async fn end_visits(&self, at: Moment) -> Result<(), StoreError> {
        let named = self.reports.take_ended();
        let ended = self.context.store.end_visits(&named, at.now).await?;
        if !ended.is_empty() {
            let events = ended.iter().map(|end| end.event()).collect();
            // When it fails the writer reopens them, and they end at a later tick.
            self.context.write_patiently(events).await;
        }
        Ok(())
    }

    /// A sale is sold out when every seat that was ever on sale is booked or blocked.
    fn stock_event(&self, stock: &Stock) -> Option<Event> {
        let is_gone = |zone: &ZoneStock| zone.free_in_all() == 0 && zone.held == 0;
        let sold_out = !stock.zones.is_empty() && stock.zones.iter().all(is_gone);
        (!stock.zones.is_empty() && sold_out != self.context.store.settings().sold_out)
            .then_some(Event::Stock { sold_out })
    }

    /// Once a second, on whichever node it is due: by how much the rate is reduced from now on.
    fn backpressure_event(&self, phase: Phase, stock: &Stock, at: Moment) -> Option<Event> {
        let settings = self.context.store.settings();
        // A clock that was set back must not keep the reduction in force.
        let is_due = settings
            .rate_reduced_at
            .is_none_or(|then| at.now < then || at.now.since(then) >= BACKPRESSURE_EVERY);
        let is_open = matches!(phase, Phase::OnSale | Phase::Paused | Phase::SoldOut);
        let recent = {
            let mut recent = self.recent.lock();
            recent.observe(at.monotonic, || self.context.store.counts(at).admissions_total);
            recent.per_minute()
        };
        let by_ppm = backpressure::step(
            settings.rate_reduction_ppm,
            settings.rate_configured_per_minute,
            recent,
            &stock.healths,
        );
        (is_open && is_due && by_ppm != settings.rate_reduction_ppm).then_some(Event::RateReduced { by_ppm })
    }
}
