//! The tick: every 100 ms it ends visits, follows the phases and calls; every second it hangs out a new board and links
//! what was written down.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::time::{Duration, MissedTickBehavior, interval};

use crate::kernel::{Timestamp, VisitId};
use crate::waiting_room::{
    BoxOfficeHealth, BoxOfficeReport, Config, Phase, WaitingRoom, ZoneStock,
    admission::{
        backpressure,
        policy::{Situation, policy},
    },
    draw::coordinator,
    forecast::{
        interval_calibration::{Calibration, Statements},
        seats_per_visit::Seats,
        wait_model::{Glimpse, Pace},
        wait_table::Point,
        zone_availability::{Inside, Supply, ZoneOnBoard},
    },
    journal::{self, Event, JournalError, Link, LogHead, writer},
    status::{
        presence,
        snapshot::{Content, Poll, Reason},
    },
    store::{Moment, QueueStore, Settings, SharedBoard, Stock, StoreError},
};

const TICK: Duration = Duration::from_millis(100);
const BOARD_EVERY: Duration = Duration::from_secs(1);
const BRAKE_EVERY: Duration = Duration::from_secs(1);
const LINK_EVERY: Duration = Duration::from_secs(1);
/// Ended visits that wait for the next tick at most; those beyond it end when their pass expires.
const ENDED_MAX: usize = 65_536;
/// Without a report for so long the door slows.
const BOX_OFFICE_SILENT: Duration = Duration::from_secs(5);

/// What the gatekeeper remembers from tick to tick.
#[derive(Debug, Default)]
pub(crate) struct Gatekeeper {
    box_office: Mutex<BoxOffice>,
    last: Mutex<LastTick>,
    lately: Mutex<backpressure::Lately>,
    pace: Mutex<Pace>,
    calibration: Mutex<Calibration>,
    supply: Mutex<Supply>,
}

#[derive(Debug, Default)]
struct BoxOffice {
    sequence: Option<u64>,
    heard_at: Option<Duration>,
    zones: Vec<ZoneStock>,
    /// What each source said last of its visitors, in its own order, and when that was heard.
    healths: HashMap<String, (u64, BoxOfficeHealth, Duration)>,
    ended: Vec<VisitId>,
}

#[derive(Debug, Default)]
struct LastTick {
    /// The phase, and how many orders had been given: what the board shows.
    shown: (Option<Phase>, u32),
    situation: Option<Situation>,
}

/// Which phase it is, by the clock and by what was ordered.
pub(crate) fn phase_at(config: &Config, settings: &Settings, now: Timestamp) -> Phase {
    if settings.closed || now >= config.closes_at {
        Phase::Closed
    } else if now < config.prequeue_at {
        Phase::Scheduled
    } else if now < config.opens_at {
        Phase::Prequeue
    } else if !coordinator::has_order(config, settings) {
        Phase::Drawing
    } else if settings.is_stopped() {
        Phase::Paused
    } else if settings.sold_out {
        Phase::SoldOut
    } else {
        Phase::OnSale
    }
}

/// Why nobody comes in, or fewer than could, as far as it follows from how the door is set.
pub(crate) fn reason_of(phase: Phase, settings: &Settings, active: u32) -> Option<Reason> {
    match phase {
        Phase::SoldOut | Phase::Closed => None,
        _ if settings.paused => Some(Reason::Paused),
        _ if settings.rate_ordered == 0 => Some(Reason::PausedByRate),
        _ if settings.capacity == 0 => Some(Reason::PausedByCapacity),
        Phase::OnSale if active > settings.capacity => Some(Reason::CapacityLowered),
        Phase::OnSale if settings.slowed_ppm > 0 => Some(Reason::BoxOfficeBusy),
        _ => None,
    }
}

/// The call that the policy makes now, if any.
pub(crate) async fn next_call(
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
    Ok((
        situation,
        Some(Event::Called {
            from,
            upto,
            ends_at: at.now.plus(window),
        }),
    ))
}

impl Gatekeeper {
    /// Whether this node is the one whose turn it was to call at the last tick; a node that is alone always is.
    pub(crate) fn is_caller(&self) -> bool {
        self.last
            .lock()
            .situation
            .is_some_and(|situation| situation.is_caller)
    }

    /// What became of the waits that were published.
    pub(crate) fn statements(&self) -> Statements {
        self.calibration.lock().statements()
    }

    /// Says whether its stock is news.
    pub(crate) fn report(&self, report: BoxOfficeReport, monotonic: Duration) -> bool {
        let mut box_office = self.box_office.lock();
        let space = ENDED_MAX - box_office.ended.len();
        box_office.ended.extend(report.ended.into_iter().take(space));
        if let Some(health) = report.health {
            let known =
                box_office
                    .healths
                    .entry(report.source)
                    .or_insert((report.sequence, health, monotonic));
            if report.sequence >= known.0 {
                *known = (report.sequence, health, monotonic);
            }
        }
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
    pub(crate) async fn admission_loop(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        loop {
            tokio::select! {
                () = self.life.stopping() => return,
                _ = ticks.tick() => {}
            }
            let ticked = self.tick().await;
            match &ticked {
                // While it lasts, once is enough.
                Err(error) if !is_failing => {
                    tracing::error!(sale = %self.config.sale, %error, "the ticks of the door fail")
                }
                Ok(()) if is_failing => tracing::info!(sale = %self.config.sale, "the door ticks again"),
                _ => {}
            }
            is_failing = ticked.is_err();
        }
    }

    pub(crate) async fn board_loop(&self) {
        let mut ticks = interval(BOARD_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.life.stopping() => return,
                _ = ticks.tick() => {}
            }
            self.measure_second();
            self.share_presence().await;
            self.renew_board(false).await;
        }
    }

    /// Chains the journal's records, second by second. Apart from the board, which goes on when the journal is away.
    pub(crate) async fn log_loop(&self) {
        let mut ticks = interval(LINK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_away = false;
        loop {
            tokio::select! {
                () = self.life.stopping() => return,
                _ = ticks.tick() => {}
            }
            let linked = self.link().await;
            if let Err(error) = &linked
                && !is_away
            {
                tracing::warn!(sale = %self.config.sale, %error, "the journal is not chained at this moment");
            }
            is_away = linked.is_err();
        }
    }

    /// Links what is not linked, where it is this node's turn; the others see how far the chain goes.
    pub(crate) async fn link(&self) -> Result<(), JournalError> {
        let chain = self.chain.as_ref();
        let last = if self.gatekeeper.is_caller() {
            journal::extend(chain).await?
        } else {
            chain.last_link().await?
        };
        self.linked.store(Arc::new(last));
        Ok(())
    }

    /// One round of the gatekeeper.
    pub(crate) async fn tick(&self) -> Result<(), StoreError> {
        // Also when there is nothing to write: the pen follows what other nodes have written, and after a failure finds
        // out what was written and what was not.
        writer::write_for_the_house(&self.pen, Vec::new()).await;
        let at = self.moment();
        self.end_visits(at).await?;
        let stock = self.stock();
        let phase = self.phase();
        let (situation, call) =
            next_call(self.store.as_ref(), phase, self.config.call_window, at, &stock).await?;
        let was = {
            let mut last = self.gatekeeper.last.lock();
            last.situation = Some(situation);
            last.shown
        };
        let orders = self.store.settings().orders;
        let mut events: Vec<Event> = call.into_iter().collect();
        if situation.is_caller {
            events.extend(self.turn_of_stock(&stock));
            events.extend(self.turn_of_brake(phase, &stock, at));
            if was.0 != Some(phase) {
                events.push(Event::Phase { phase });
            }
        }
        let written = events.is_empty() || writer::write_for_the_house(&self.pen, events).await;
        if written && was != (Some(phase), orders) {
            self.gatekeeper.last.lock().shown = (Some(phase), orders);
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
            writer::write_for_the_house(&self.pen, events).await;
        }
        Ok(())
    }

    /// Sold out is when every seat that was ever on sale is booked or blocked.
    fn turn_of_stock(&self, stock: &Stock) -> Option<Event> {
        let sold_out = !stock.zones.is_empty() && stock.zones.iter().all(|z| z.free == 0 && z.held == 0);
        (!stock.zones.is_empty() && sold_out != self.store.settings().sold_out)
            .then_some(Event::Stock { sold_out })
    }

    /// Once a second, whichever node does it: how much of the rate is taken away.
    fn turn_of_brake(&self, phase: Phase, stock: &Stock, at: Moment) -> Option<Event> {
        let settings = self.store.settings();
        // A clock that was set back must not keep the brake on.
        let is_due = settings
            .slowed_at
            .is_none_or(|then| at.now < then || at.now.since(then) >= BRAKE_EVERY);
        let is_open = matches!(phase, Phase::OnSale | Phase::Paused | Phase::SoldOut);
        let lately = {
            let mut lately = self.gatekeeper.lately.lock();
            lately.observe(at.monotonic, || self.store.counts(at).entries_total);
            lately.per_minute()
        };
        let by_ppm = backpressure::step(settings.slowed_ppm, settings.rate_ordered, lately, &stock.healths);
        (is_open && is_due && by_ppm != settings.slowed_ppm).then_some(Event::Slowed { by_ppm })
    }

    /// What the box office said last, to this node or to another.
    fn stock(&self) -> Stock {
        self.store.stock().unwrap_or_else(|| {
            let box_office = self.gatekeeper.box_office.lock();
            let age = |heard_at: Duration| self.clock.monotonic().saturating_sub(heard_at);
            let lately = box_office
                .healths
                .values()
                .filter(|(.., heard_at)| age(*heard_at) <= BOX_OFFICE_SILENT);
            Stock {
                zones: box_office.zones.clone(),
                age: age(box_office.heard_at.unwrap_or_default()),
                healths: lately.map(|(_, health, _)| *health).collect(),
            }
        })
    }

    /// What is lost here is said again by those whom it is about.
    pub(crate) async fn share_presence(&self) {
        match self.store.share_presence(&self.presence.take_news()).await {
            Ok(heard) => self.presence.learn(&heard),
            Err(error) => tracing::debug!(%error, "the nodes do not hear of each other's fans"),
        }
    }

    pub(crate) fn measure_second(&self) {
        let settings = self.store.settings();
        let seen = self.glimpse(&settings);
        self.gatekeeper.pace.lock().second(&seen);
        self.gatekeeper
            .supply
            .lock()
            .second(&self.stock().zones, &inside(&seen));
        let told = self.told.load();
        let dice = |n: u32| u32::try_from(self.entropy.below(n.into())).unwrap_or(0);
        let mut calibration = self.gatekeeper.calibration.lock();
        calibration.second(
            seen.now,
            seen.phase,
            &settings,
            told.now_serving,
            &told.estimate,
            dice,
        );
    }

    fn glimpse<'a>(&self, settings: &'a Settings) -> Glimpse<'a> {
        let at = self.moment();
        // Nobody is called before the draw.
        let calls_from = self.draw_on_board().map_or(self.config.opens_at, |draw| {
            draw.round_at.max(self.config.opens_at)
        });
        Glimpse {
            now: at.now,
            phase: phase_at(&self.config, settings, at.now),
            settings,
            situation: self.gatekeeper.last.lock().situation,
            counts: self.store.counts(at),
            visits: self.store.visits(at.now),
            call_window: self.config.call_window,
            seats: Seats::of(&self.stock().zones),
            until_open_s: u32::try_from(calls_from.since(at.now).as_secs()).unwrap_or(u32::MAX),
        }
    }

    /// All nodes serve the bytes that one of them has made: the others' is taken while it is fresh, and a new one is made
    /// when it is not, or when something has happened that all should hear of at once.
    pub(crate) async fn renew_board(&self, at_once: bool) {
        let seen = match self.store.share_board(0, None).await {
            Ok(Some(shared)) => shared,
            Ok(None) => return self.hang_board(),
            Err(error) => {
                tracing::debug!(%error, "the board is served as it was");
                let (estimate, reason) = self.estimate();
                self.post.hang(Content {
                    stale: true,
                    ..self.content(&estimate, reason)
                });
                return;
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
        if let Some(told) = self.post.adopt(shared.version, shared.json) {
            self.told.store(Arc::new(told));
        }
    }

    pub(crate) fn hang_board(&self) {
        let (estimate, reason) = self.estimate();
        self.told
            .store(Arc::new(self.post.hang(self.content(&estimate, reason))));
    }

    fn content<'a>(&'a self, estimate: &'a [Point], reason: Option<Reason>) -> Content<'a> {
        let mut content = board_content(
            &self.config,
            self.store.as_ref(),
            self.moment(),
            estimate,
            reason,
            self.stock().zones,
        );
        self.say_how_long_zones_last(&mut content);
        let presence = matches!(content.phase, Phase::OnSale | Phase::Paused | Phase::SoldOut).then(|| {
            let near = presence::near(content.rate_per_minute);
            self.presence.on_board(
                &self.store.asked(near),
                content.now_serving,
                content.issued,
                near,
                content.generated_at,
            )
        });
        let kept_word = Some(self.gatekeeper.calibration.lock().kept_word()).filter(|it| it.of > 0);
        let Link { number, hash, .. } = **self.linked.load();
        let log = (number > 0).then_some(LogHead { link: number, hash });
        Content {
            draw: self.draw_on_board(),
            presence,
            kept_word,
            log,
            ..content
        }
    }

    fn say_how_long_zones_last(&self, content: &mut Content<'_>) {
        if content.phase != Phase::OnSale {
            return;
        }
        let settings = self.store.settings();
        let inside = inside(&self.glimpse(&settings));
        let zones: Vec<ZoneStock> = content.zones.iter().map(|zone| zone.stock.clone()).collect();
        let length = content.issued.saturating_sub(content.now_serving);
        let left_for = self
            .gatekeeper
            .supply
            .lock()
            .left_for(&zones, &inside, &content.survivors, length);
        for (zone, left_for) in content.zones.iter_mut().zip(left_for) {
            zone.left_for = left_for;
        }
    }

    /// The table of waits, empty while nobody can say; and why the wait has grown.
    fn estimate(&self) -> (Vec<Point>, Option<Reason>) {
        let settings = self.store.settings();
        let seen = self.glimpse(&settings);
        let pace = self.gatekeeper.pace.lock();
        let estimate = if settings.is_stopped() {
            Vec::new()
        } else {
            pace.estimate(&seen)
        };
        (estimate, self.reason(&seen, pace.reason(&seen)))
    }

    /// What was ordered goes before what has happened, and what is out of the ordinary before a house that is full.
    fn reason(&self, seen: &Glimpse<'_>, of_pace: Option<Reason>) -> Option<Reason> {
        let is_ordered = !matches!(of_pace, None | Some(Reason::AllInBaskets | Reason::FullHouse));
        let of_door = reason_of(seen.phase, seen.settings, seen.counts.active);
        if of_door.is_some() {
            of_door
        } else if seen.phase != Phase::OnSale || is_ordered {
            of_pace
        } else if seen.situation.is_some_and(|it| it.box_office_silent) {
            Some(Reason::BoxOfficeBusy)
        } else if of_pace != Some(Reason::AllInBaskets)
            && self.gatekeeper.calibration.lock().is_outgrown(seen.now)
        {
            Some(Reason::MoreStayed)
        } else {
            of_pace
        }
    }
}

fn inside(seen: &Glimpse<'_>) -> Inside {
    Inside {
        active: seen.counts.active,
        capacity: seen.settings.capacity,
        ended_total: seen.counts.ended_total,
        share: seen.share(),
        expected: seen.expected(),
    }
}

/// What the board says at this moment.
pub(crate) fn board_content<'a>(
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
        survivors: store.survivors(),
        presence: None,
        zones: ZoneOnBoard::plain(zones),
        returner_percent: crate::waiting_room::forecast::wait_table::whole(config.returner_share * 100.0),
        kept_word: None,
        notice: settings.notice,
        reason,
        stale: false,
        draw: None,
        log: None,
        poll: Poll {
            near_ms: crate::waiting_room::POLL_NEAR_MS,
            far_ms: crate::waiting_room::POLL_FAR_MS,
        },
    }
}
