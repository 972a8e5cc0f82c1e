//! One sale in virtual time: the real policy, show rate model, wait model and memory store, a random crowd,
//! and a checker.
//!
//! The tick is that of the waiting room (100 ms), and a status is made once a second. A fan far from the
//! front costs nothing but a queue entry: what they do is drawn when they are called.

mod disturbances;
mod fans;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use crate::simulate::{
    checker::{Checker, Limits},
    crowd::Fans,
    scenarios::{Disturbance, Scenario},
};
use crate::{
    kernel::{Timestamp, VisitId},
    waiting_room::{
        admission::{call_policy::burst_of, controller::next_call},
        forecast::{
            observation::Observation, seats_per_visit::SeatCounts, stock_reach::reach_end,
            wait_model::WaitModel, wait_table::WaitPoint, zone_availability::AvailabilityDistances,
        },
        journal::record::{Event, Record, StoredRecord},
        phase::phase_at,
        state::AdmissionState,
        store::{
            memory::store::MemoryStore,
            port::{Moment, QueueStore, Stock, StoreError},
        },
        types::{Config, Durability, Phase, ZoneStock},
    },
};

const TICK_MS: u64 = 100;
/// The clock starts so long before the sale.
const BEFORE_MS: u64 = 5_000;
const OPENS: Timestamp = Timestamp::from_secs(1_795_464_000);
const WINDOW: Duration = Duration::from_mins(3);
/// Largest configured rate per minute.
const RATE_MAX: f64 = 20_000.0;
/// Joins of one journal record at most.
const GROUP: u32 = 65_536;

/// One request to enter, in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ask {
    at_ms: u64,
    number: u32,
    every_ms: u32,
    refused_at_ms: Option<u64>,
}

/// A visit, in the order of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stay {
    ends_ms: u64,
    number: u32,
    visit: VisitId,
    seats: u32,
}

/// The status of one second, as far as forecasts are read off it.
#[derive(Clone, Debug)]
pub(crate) struct StatusSample {
    /// Highest number called.
    pub now_serving: u32,
    /// Rate in force.
    pub rate_per_minute: u32,
    /// Numbers assigned.
    pub issued: u32,
    /// Active visits.
    pub active: u32,
    /// Entries so far.
    pub entries: u64,
    /// Table of waits.
    pub table: Vec<WaitPoint>,
    /// How far back there will be a seat.
    pub reach: Option<AvailabilityDistances>,
    /// Free seats; `None` without stock.
    pub free_seats: Option<u32>,
}

/// All that was observed of a sale; times are milliseconds after the start.
#[derive(Debug)]
pub(crate) struct Timeline {
    /// One a second, from the start on.
    pub statuses: Vec<StatusSample>,
    /// Last number of each call, and its time.
    pub calls: Vec<(u32, u64)>,
    /// Times of disturbances.
    pub disturbances_ms: Vec<u64>,
    /// When the first visitor is admitted.
    pub first_entry_ms: Option<u64>,
    /// Active visits at most.
    pub capacity: u32,
    /// The sale runs until this number has been called.
    pub upto: u32,
    /// When the last seat was booked.
    pub sold_out_ms: Option<u64>,
    /// Called fans who came in time.
    pub came: u64,
    /// Those of them who found no slot at once.
    pub refused_at_first: u64,
    /// How long each of those then waited.
    pub extra_waits_ms: Vec<u64>,
    /// Use of the slots.
    pub slots: Slots,
    /// The checker.
    pub checker: Checker,
}

/// Slots in use after ramp-up, while visitors waited.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slots {
    /// Slots in use, summed over ticks.
    pub used: u64,
    /// Slots that could be in use, summed over ticks.
    pub offered: u64,
    ramped_up: bool,
}

/// One simulated sale.
pub(crate) struct Sale<'a> {
    scenario: &'a Scenario,
    config: Config,
    number_of_fans: u32,
    fans: Fans,
    store: MemoryStore,
    /// Kept where the sale restarts.
    journal: Option<Vec<StoredRecord>>,
    wait_model: WaitModel,
    admission: Option<AdmissionState>,
    stock: Stock,
    seats_total: u32,
    asks: BinaryHeap<Reverse<Ask>>,
    stays: BinaryHeap<Reverse<Stay>>,
    left: Vec<bool>,
    joined: u32,
    /// Numbers assigned by the end of each second after the start.
    issued_by: Vec<u32>,
    disturbances: VecDeque<(u64, Disturbance)>,
    away_until_ms: u64,
    silent_until_ms: u64,
    timeline: Timeline,
}

impl<'a> Sale<'a> {
    /// A sale of the scenario with so many fans.
    pub(crate) fn new(scenario: &'a Scenario, number_of_fans: u32, seed: u64) -> Self {
        let rate = (f64::from(number_of_fans) / scenario.venue.minutes).clamp(10.0, RATE_MAX);
        let visit_max = Duration::from_secs_f64(scenario.venue.visit_max_s);
        let kept_inside = rate / 60.0 * Fans::planned_visit_s(&scenario.crowd, scenario.venue.visit_max_s);
        let (rate_per_minute, capacity) =
            (whole(rate), whole(kept_inside * scenario.venue.slot_ratio).max(5));
        let config = Config {
            sale: "rehearsal".parse().expect("a name"),
            prequeue_starts_at: OPENS.minus(Duration::from_mins(30)),
            on_sale_starts_at: OPENS,
            closes_at: OPENS.plus(Duration::from_hours(24)),
            admission_rate_per_minute: rate_per_minute,
            active_visits_max: capacity,
            admission_burst: None,
            call_window: WINDOW,
            late_arrival_share: 0.2,
            // A visitor's page renews the pass for as long as the visit lasts.
            pass_ttl: visit_max,
            visit_max,
            queue_entries_max: number_of_fans,
            issuer: String::new(),
            status_streams_max: 0,
            passes_verified_elsewhere: false,
            draw: None,
            durability: Durability::Committed,
        };
        let fans = Fans::new(scenario, seed, scenario.venue.visit_max_s, millis(WINDOW));
        let seats_total = scenario
            .venue
            .seats_per_buyer
            .map_or(0, |share| whole(share * rate * scenario.venue.minutes));
        let mut disturbances: VecDeque<(u64, Disturbance)> = scenario
            .disturbances
            .iter()
            .map(|&(min, it)| (u64::from(whole(min * 60_000.0)), it))
            .collect();
        disturbances.make_contiguous().sort_by_key(|(at_ms, _)| *at_ms);
        let door = Limits {
            capacity,
            rate_per_minute,
            burst: burst_of(rate_per_minute, None),
        };
        let needs_journal = disturbances
            .iter()
            .any(|(_, disturbance)| matches!(disturbance, Disturbance::Restart(_)));
        Self {
            scenario,
            store: MemoryStore::new(config.clone(), 0, moment(0)),
            wait_model: WaitModel::default(),
            journal: needs_journal.then(Vec::new),
            config,
            number_of_fans,
            admission: None,
            stock: Stock {
                zones: zones(seats_total, 0, 0),
                age: Duration::ZERO,
                healths: Vec::new(),
            },
            seats_total,
            asks: BinaryHeap::new(),
            stays: BinaryHeap::new(),
            left: vec![false; number_of_fans as usize + 1],
            joined: 0,
            issued_by: Vec::new(),
            timeline: Timeline {
                statuses: Vec::new(),
                calls: Vec::new(),
                disturbances_ms: disturbances
                    .iter()
                    .flat_map(|&(at_ms, it)| turns(at_ms, it))
                    .collect(),
                first_entry_ms: None,
                capacity,
                upto: number_of_fans.min(whole(rate * scenario.venue.minutes)),
                sold_out_ms: None,
                came: 0,
                refused_at_first: 0,
                extra_waits_ms: Vec::new(),
                slots: Slots::default(),
                checker: Checker::new(door),
            },
            disturbances,
            fans,
            away_until_ms: 0,
            silent_until_ms: 0,
        }
    }

    /// Runs the sale until every awaited number has been called, or all seats are gone.
    pub(crate) async fn run(mut self) -> Result<(Timeline, Vec<u32>), StoreError> {
        let ticks_max = u64::from(whole(self.scenario.venue.minutes * 8.0 + 60.0)) * 600;
        for tick in 1..=ticks_max {
            let now_ms = tick * TICK_MS;
            self.tick(now_ms).await?;
            if now_ms.is_multiple_of(1_000) {
                self.second(now_ms).await?;
            }
            if self.store.now_serving() >= self.timeline.upto || self.timeline.sold_out_ms.is_some() {
                break;
            }
        }
        self.timeline.checker.finish(self.config.late_arrival_share);
        Ok((self.timeline, self.issued_by))
    }

    async fn tick(&mut self, now_ms: u64) -> Result<(), StoreError> {
        self.disturb(now_ms).await?;
        if now_ms < self.away_until_ms {
            return Ok(());
        }
        let at = moment(now_ms);
        self.end_visits(now_ms).await?;
        if now_ms >= self.silent_until_ms {
            self.stock.age = Duration::ZERO;
        } else {
            self.stock.age += Duration::from_millis(TICK_MS);
        }
        let phase = self.phase(now_ms);
        let (admission, call) =
            next_call(&self.store, phase, self.config.call_window, at, &self.stock).await?;
        self.admission = Some(admission);
        if let Some(Event::Called {
            after,
            last,
            window_ends_at,
        }) = call
        {
            self.happened(
                Event::Called {
                    after,
                    last,
                    window_ends_at,
                },
                now_ms,
            )
            .await?;
            self.called(after, last, now_ms);
            let ends_ms = u64::try_from(window_ends_at.as_millis() - moment(0).now.as_millis()).unwrap_or(0);
            self.timeline.checker.called(after, last, ends_ms, self.joined);
        }
        self.ask(now_ms).await?;
        self.count_slots(&admission, now_ms);
        Ok(())
    }

    /// What the status loop does, and who joins and leaves in this second.
    async fn second(&mut self, now_ms: u64) -> Result<(), StoreError> {
        if now_ms < self.away_until_ms {
            if let Some(last) = self.timeline.statuses.last().cloned() {
                self.timeline.statuses.push(last);
                self.issued_by.push(self.joined);
            }
            return Ok(());
        }
        self.join(now_ms).await?;
        self.leave(now_ms).await?;
        let at = moment(now_ms);
        let settings = self.store.settings();
        let counts = self.store.counts(at);
        let seen = Observation {
            now: at.now,
            phase: phase_at(&self.config, &settings, at.now),
            settings: &settings,
            admission: self.admission,
            counts,
            visits: self.store.visit_lengths(at.now),
            call_window: self.config.call_window,
            seats: SeatCounts::of(&self.stock.zones),
            until_open_s: u32::try_from(self.config.on_sale_starts_at.since(at.now).as_secs())
                .unwrap_or(u32::MAX),
        };
        self.wait_model.observe(&seen);
        let before = self
            .timeline
            .statuses
            .last()
            .and_then(|last| last.reach.map(|reach| (reach, last.now_serving)));
        let reach = self
            .wait_model
            .stock_reach(&seen, &self.store.people_ahead(), before);
        if now_ms >= BEFORE_MS {
            self.timeline.statuses.push(StatusSample {
                now_serving: counts.now_serving,
                rate_per_minute: settings.rate_effective_per_minute,
                issued: counts.numbers_issued,
                active: counts.active_visits,
                entries: counts.admissions_total,
                table: self.wait_model.estimate(&seen, reach_end(reach)),
                reach,
                free_seats: seen.seats.map(|seats| seats.free),
            });
            self.issued_by.push(counts.numbers_issued);
        }
        let again = self.joins_again(at).await?;
        self.timeline
            .checker
            .compare_counts(counts.active_visits, again, now_ms);
        Ok(())
    }

    fn phase(&self, now_ms: u64) -> Phase {
        phase_at(&self.config, &self.store.settings(), moment(now_ms).now)
    }

    async fn write(&mut self, record: Record, at: Moment) -> Result<(), StoreError> {
        let stored = StoredRecord { seq: 0, record };
        self.store.apply(std::slice::from_ref(&stored), at).await?;
        if let Some(journal) = &mut self.journal {
            journal.push(stored);
        }
        Ok(())
    }

    async fn happened(&mut self, event: Event, now_ms: u64) -> Result<(), StoreError> {
        let at = moment(now_ms);
        self.write(Record::Event { at: at.now, event }, at).await
    }

    fn count_slots(&mut self, now: &AdmissionState, now_ms: u64) {
        let slots = &mut self.timeline.slots;
        // Where the limit is never reached, ramp-up ends after twice the time that the rate alone would take.
        let should_be_full_ms = u64::from(self.config.active_visits_max) * 120_000
            / u64::from(self.config.admission_rate_per_minute);
        let is_late = now_ms.saturating_sub(BEFORE_MS) > should_be_full_ms.max(60_000)
            && self.scenario.venue.slot_ratio < 1.0;
        slots.ramped_up |= f64::from(now.active_visits) >= 0.98 * f64::from(now.active_visits_max) || is_late;
        if slots.ramped_up
            && now.uncalled > now.active_visits_max / 10
            && now.calling
            && self.phase(now_ms) == Phase::OnSale
        {
            let slots = &mut self.timeline.slots;
            slots.used += u64::from(now.active_visits.min(now.active_visits_max));
            slots.offered += u64::from(now.active_visits_max);
        }
    }
}

/// When something changes that no forecast can know.
fn turns(at_ms: u64, disturbance: Disturbance) -> impl Iterator<Item = u64> {
    let back_ms = if let Disturbance::Restart(seconds) = disturbance {
        Some(at_ms + u64::from(whole(seconds * 1_000.0)))
    } else {
        None
    };
    std::iter::once(at_ms).chain(back_ms)
}

/// Spreads evenly over 63 bits, as a customer's keyed hash does (the finalizer of SplitMix64, less the
/// highest bit, which marks anonymous visitors: two of ten million are equal once in a hundred thousand
/// sales).
fn subject(number: u32) -> u64 {
    let mut z = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) & (u64::MAX >> 1)
}

fn moment(now_ms: u64) -> Moment {
    let monotonic = Duration::from_millis(now_ms);
    Moment {
        now: OPENS.minus(Duration::from_millis(BEFORE_MS)).plus(monotonic),
        monotonic,
    }
}

fn zones(free: u32, held: u32, booked: u32) -> Vec<ZoneStock> {
    if free + held + booked == 0 {
        return Vec::new();
    }
    vec![ZoneStock {
        zone: "all".into(),
        free,
        free_for_wheelchairs: 0,
        held,
        booked,
        blocked: 0,
    }]
}

#[expect(clippy::cast_precision_loss, reason = "a sale lasts hours, not ages")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of a count"
)]
fn whole(value: f64) -> u32 {
    value.round().clamp(0.0, 4e9) as u32
}
