//! The tick: every 100 ms it ends visits, follows the phases and calls; every second it hangs out a new board.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::{Duration, MissedTickBehavior, interval};

use super::{
    BoxOfficeReport, Config, Phase, WaitingRoom, ZoneStock,
    admission::{Situation, policy},
    board::{Content, Poll, Reason},
    drawing,
    estimate::{self, Measure, Point},
    journal::Event,
    queue,
    store::{Moment, QueueStore, Settings, SharedBoard, Stock, StoreError},
};
use crate::kernel::{Timestamp, VisitId};

const TICK: Duration = Duration::from_millis(100);
const BOARD_EVERY: Duration = Duration::from_secs(1);
/// Ended visits that wait for the next tick at most; those beyond it end when their pass expires.
const ENDED_MAX: usize = 65_536;
/// How long the board says why the wait has grown.
const REASON_LASTS: Duration = Duration::from_mins(5);
/// Without a report for so long the door slows.
const BOX_OFFICE_SILENT: Duration = Duration::from_secs(5);

/// What the gatekeeper remembers from tick to tick.
#[derive(Debug, Default)]
pub(super) struct Gatekeeper {
    box_office: Mutex<BoxOffice>,
    pace: Mutex<Pace>,
}

#[derive(Debug, Default)]
struct BoxOffice {
    sequence: Option<u64>,
    heard_at: Option<Duration>,
    zones: Vec<ZoneStock>,
    ended: Vec<VisitId>,
}

#[derive(Debug, Default)]
struct Pace {
    phase: Option<Phase>,
    measure: Measure,
    situation: Option<Situation>,
    house_is_full: bool,
    settings: Option<Settings>,
    lowered: Option<(Reason, Timestamp)>,
}

/// Which phase it is, by the clock and by what was ordered.
pub(super) fn phase_at(config: &Config, settings: &Settings, now: Timestamp) -> Phase {
    if settings.closed || now >= config.closes_at {
        Phase::Closed
    } else if now < config.prequeue_at {
        Phase::Scheduled
    } else if now < config.opens_at {
        Phase::Prequeue
    } else if !drawing::has_order(config, settings) {
        Phase::Drawing
    } else if settings.paused {
        Phase::Paused
    } else if settings.sold_out {
        Phase::SoldOut
    } else {
        Phase::OnSale
    }
}

/// The call that the policy makes now, if any.
pub(super) async fn next_call(
    store: &dyn QueueStore,
    phase: Phase,
    window: Duration,
    at: Moment,
    stock: &Stock,
) -> Result<(Situation, Option<Event>), StoreError> {
    let mut situation = store.situation(at).await?;
    situation.seats_free = seats_free(stock);
    situation.box_office_silent = !stock.zones.is_empty() && stock.age > BOX_OFFICE_SILENT;
    situation.calling &= phase == Phase::OnSale;
    let count = policy(&situation);
    if count == 0 {
        return Ok((situation, None));
    }
    let from = store.now_serving();
    let upto = store.reach(count).await?;
    Ok((situation, Some(Event::Called { from, upto, ends_at: at.now.plus(window) })))
}

impl Gatekeeper {
    /// Whether this node is the one whose turn it was to call at the last tick; a node that is alone always is.
    pub(super) fn is_caller(&self) -> bool {
        self.pace.lock().situation.is_some_and(|situation| situation.is_caller)
    }

    /// Says whether its stock is news.
    pub(super) fn report(&self, report: BoxOfficeReport, monotonic: Duration) -> bool {
        let mut box_office = self.box_office.lock();
        let space = ENDED_MAX - box_office.ended.len();
        box_office.ended.extend(report.ended.into_iter().take(space));
        let is_news = box_office.sequence.is_none_or(|last| report.sequence > last);
        if is_news {
            box_office.sequence = Some(report.sequence);
            box_office.zones = report.zones;
            box_office.heard_at = Some(monotonic);
        }
        is_news
    }
}

/// `None` before the first report.
fn seats_free(stock: &Stock) -> Option<u32> {
    (!stock.zones.is_empty()).then(|| stock.zones.iter().map(|zone| zone.free).sum())
}

impl WaitingRoom {
    pub(super) async fn admission_loop(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.life.stopping() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.tick().await {
                tracing::error!(sale = %self.config.sale, %error, "a tick of the door failed");
            }
        }
    }

    pub(super) async fn board_loop(&self) {
        let mut ticks = interval(BOARD_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.life.stopping() => return,
                _ = ticks.tick() => {}
            }
            self.measure_second();
            self.renew_board(false).await;
        }
    }

    /// One round of the gatekeeper.
    pub(super) async fn tick(&self) -> Result<(), StoreError> {
        // Also when there is nothing to write: the pen follows what other nodes have written, and after a failure finds
        // out what was written and what was not.
        queue::write_for_the_house(&self.pen, Vec::new()).await;
        let at = self.moment();
        self.end_visits(at).await?;
        let stock = self.stock();
        let phase = self.phase();
        let (situation, call) = next_call(self.store.as_ref(), phase, self.config.call_window, at, &stock).await?;
        self.gatekeeper.pace.lock().situation = Some(situation);
        let was = self.gatekeeper.pace.lock().phase;
        let mut events: Vec<Event> = call.into_iter().collect();
        if situation.is_caller {
            events.extend(self.turn_of_stock(&stock));
            if was != Some(phase) {
                events.push(Event::Phase { phase });
            }
        }
        let written = events.is_empty() || queue::write_for_the_house(&self.pen, events).await;
        if written && was != Some(phase) {
            self.gatekeeper.pace.lock().phase = Some(phase);
            self.renew_board(true).await;
        }
        Ok(())
    }

    async fn end_visits(&self, at: Moment) -> Result<(), StoreError> {
        let named = std::mem::take(&mut self.gatekeeper.box_office.lock().ended);
        let ended = self.store.end_visits(&named, at.now).await?;
        if !ended.is_empty() {
            let events = ended.iter().map(|end| end.event()).collect();
            // When it fails the writer reopens them, and they end at a later tick.
            queue::write_for_the_house(&self.pen, events).await;
        }
        Ok(())
    }

    /// Sold out is when every seat that was ever on sale is booked or blocked.
    fn turn_of_stock(&self, stock: &Stock) -> Option<Event> {
        let sold_out = !stock.zones.is_empty() && stock.zones.iter().all(|z| z.free == 0 && z.held == 0);
        (!stock.zones.is_empty() && sold_out != self.store.settings().sold_out).then_some(Event::Stock { sold_out })
    }

    /// What the box office said last, to this node or to another.
    fn stock(&self) -> Stock {
        self.store.stock().unwrap_or_else(|| {
            let box_office = self.gatekeeper.box_office.lock();
            let heard_at = box_office.heard_at.unwrap_or_default();
            Stock { zones: box_office.zones.clone(), age: self.clock.monotonic().saturating_sub(heard_at) }
        })
    }

    fn measure_second(&self) {
        let (phase, settings, serving) = (self.phase(), self.store.settings(), self.store.now_serving());
        let now = self.clock.now();
        let mut pace = self.gatekeeper.pace.lock();
        if let Some(before) = pace.settings.replace(settings.clone()) {
            if settings.capacity < before.capacity {
                pace.lowered = Some((Reason::CapacityLowered, now));
            } else if settings.rate_per_minute < before.rate_per_minute {
                pace.lowered = Some((Reason::RateLowered, now));
            }
            if (settings.rate_per_minute, settings.capacity) != (before.rate_per_minute, before.capacity) {
                pace.measure.disturbed();
            }
        }
        // A house that fills up, or empties, moves at another pace; the gap between the bounds keeps it from flapping.
        if let Some(Situation { active, capacity, .. }) = pace.situation {
            let share = f64::from(active) / f64::from(capacity.max(1));
            let full = if pace.house_is_full { share > 0.85 } else { share >= 0.97 };
            if full != pace.house_is_full {
                pace.house_is_full = full;
                pace.measure.disturbed();
            }
        }
        if phase == Phase::OnSale {
            pace.measure.second(serving);
        } else {
            pace.measure.idle(serving);
        }
    }

    /// All nodes serve the bytes that one of them has made: the others' is taken while it is fresh, and a new one is made
    /// when it is not, or when something has happened that all should hear of at once.
    pub(super) async fn renew_board(&self, at_once: bool) {
        let seen = match self.store.share_board(0, None).await {
            Ok(Some(shared)) => shared,
            Ok(None) => return self.hang_board(),
            Err(error) => {
                tracing::debug!(%error, "the board is served as it was");
                let (estimate, reason) = self.estimate();
                return self.post.hang(Content { stale: true, ..self.content(&estimate, reason) });
            }
        };
        let (version, is_fresh) = (seen.version, seen.version > 0 && seen.age + TICK < BOARD_EVERY);
        self.adopt_board(seen);
        if is_fresh && !at_once {
            return;
        }
        let (estimate, reason) = self.estimate();
        let (next, json) = self.post.draft(self.content(&estimate, reason), version);
        match self.store.share_board(version, Some((next, &json))).await {
            Ok(Some(hung)) => self.adopt_board(hung),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the board could not be hung out"),
        }
    }

    fn adopt_board(&self, shared: SharedBoard) {
        if let Some(estimate) = self.post.adopt(shared.version, shared.json) {
            self.estimate.store(Arc::new(estimate));
        }
    }

    pub(super) fn hang_board(&self) {
        let (estimate, reason) = self.estimate();
        self.post.hang(self.content(&estimate, reason));
        self.estimate.store(Arc::new(estimate));
    }

    fn content<'a>(&'a self, estimate: &'a [Point], reason: Option<Reason>) -> Content<'a> {
        let content = board_content(&self.config, self.store.as_ref(), self.moment(), estimate, reason, self.stock().zones);
        Content { draw: self.draw_on_board(), ..content }
    }

    /// The table of waits, empty while nobody can say; and why the wait has grown.
    fn estimate(&self) -> (Vec<Point>, Option<Reason>) {
        let at = self.moment();
        let (phase, counts) = (self.phase(), self.store.counts(at));
        let pace = self.gatekeeper.pace.lock();
        let reason = match phase {
            Phase::Paused => Some(Reason::Paused),
            Phase::SoldOut => Some(Reason::SoldOut),
            Phase::OnSale => pace
                .lowered
                .filter(|(_, since)| at.now.since(*since) < REASON_LASTS)
                .map(|(reason, _)| reason)
                .or((seats_free(&self.stock()) == Some(0)).then_some(Reason::AllInBaskets))
                .or(pace.house_is_full.then_some(Reason::FullHouse)),
            _ => None,
        };
        if !matches!(phase, Phase::Scheduled | Phase::Prequeue | Phase::Drawing | Phase::OnSale) {
            return (Vec::new(), reason);
        }
        let process = pace.measure.process(self.modelled_flow(&pace));
        // Nobody is called before the draw.
        let calls_from = self.draw_on_board().map_or(self.config.opens_at, |draw| draw.round_at.max(self.config.opens_at));
        let until_open_s = u32::try_from(calls_from.since(at.now).as_secs()).unwrap_or(u32::MAX);
        (estimate::table(&process, counts.issued.saturating_sub(counts.now_serving), until_open_s), reason)
    }

    /// Calls per second as the door's rules have it, before they are measured.
    fn modelled_flow(&self, pace: &Pace) -> f64 {
        let settings = self.store.settings();
        let by_rate = f64::from(settings.rate_per_minute) / 60.0;
        let (share, by_house) = pace.situation.map_or((1.0, f64::INFINITY), |s| {
            // A full house lets in as many as leave; at the very least everybody leaves in the end.
            let slowest = f64::from(s.capacity) / self.config.visit_max.as_secs_f64().max(1.0);
            let by_house = if pace.house_is_full { s.departures_per_s.max(slowest) } else { f64::INFINITY };
            (s.outlook.share, by_house)
        });
        by_rate.min(by_house) / share.max(0.05)
    }
}

/// What the board says at this moment.
pub(super) fn board_content<'a>(
    config: &'a Config,
    store: &dyn QueueStore,
    at: Moment,
    estimate: &'a [Point],
    reason: Option<Reason>,
    zones: Vec<ZoneStock>,
) -> Content<'a> {
    let (settings, counts) = (store.settings(), store.counts(at));
    Content {
        version: 0,
        generated_at: at.now,
        sale: &config.sale,
        phase: phase_at(config, &settings, at.now),
        opens_at: config.opens_at,
        closes_at: config.closes_at,
        now_serving: counts.now_serving,
        issued: counts.issued,
        waiting: counts.waiting,
        active: counts.active,
        rate_per_minute: settings.rate_per_minute,
        capacity: settings.capacity,
        estimate,
        zones,
        notice: settings.notice,
        reason,
        stale: false,
        draw: None,
        poll: Poll { near_ms: super::POLL_NEAR_MS, far_ms: super::POLL_FAR_MS },
    }
}
