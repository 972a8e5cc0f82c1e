//! One sale in virtual time: the real policy, show-up model, estimate and memory store, a crowd by the dice, and a judge.
//!
//! The tick is the room's (100 ms), the board is made once a second. Whoever is far from the front costs nothing but her
//! place in line: what she does is drawn when she is called.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use crate::simulate::{
    crowd::{ASKS_EVERY_MS, Answer, Fans, RETURNER_ASKS_EVERY_MS},
    judge::{Door, Judge},
    scenarios::{Scenario, Surprise},
};
use crate::{
    kernel::{Timestamp, VisitId},
    waiting_room::{
        Config, Durability, Inside, OperatorCommand, Phase, ZoneStock,
        admission::{controller::next_call, policy::burst_of},
        forecast::{
            seats_per_visit::Seats,
            observation::Glimpse,
            wait_model::Pace,
            wait_table::Point,
        },
        journal::{Event, Join, Record, Stored},
        phase::phase_at,
        state::Situation,
        store::{EntryAsk, MemoryStore, Moment, Numbered, QueueStore, Reservation, Stock, StoreError},
    },
};

const TICK_MS: u64 = 100;
/// The sale's clock starts so long before the opening.
const BEFORE_MS: u64 = 5_000;
const OPENS: Timestamp = Timestamp::from_secs(1_795_464_000);
const WINDOW: Duration = Duration::from_mins(3);
const VISIT_MAX: Duration = Duration::from_mins(15);
/// Nothing is planned for more entries a minute.
const RATE_MAX: f64 = 20_000.0;
/// Joins that are written down together.
const GROUP: u32 = 65_536;

/// One question at the door, in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ask {
    at_ms: u64,
    number: u32,
    every_ms: u32,
    refused_at_ms: Option<u64>,
}

/// A visit that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stay {
    ends_ms: u64,
    number: u32,
    visit: VisitId,
    seats: u32,
}

/// The board of one second, as far as forecasts are read off it.
#[derive(Clone, Debug)]
pub(crate) struct Hung {
    pub now_serving: u32,
    pub rate_per_minute: u32,
    pub issued: u32,
    pub active: u32,
    pub entries: u64,
    pub table: Vec<Point>,
}

/// All that was seen of a sale; times are milliseconds after the opening.
#[derive(Debug)]
pub(crate) struct Diary {
    /// One a second, from the opening on.
    pub boards: Vec<Hung>,
    pub calls: Vec<(u32, u64)>,
    pub surprises_ms: Vec<u64>,
    pub first_entry_ms: Option<u64>,
    pub capacity: u32,
    /// Those whose calls are awaited: the numbers up to this one.
    pub upto: u32,
    pub sold_out_ms: Option<u64>,
    pub came: u64,
    pub met_full_house: u64,
    pub extra_waits_ms: Vec<u64>,
    pub slots: Slots,
    pub judge: Judge,
}

/// How much of the house was in use after ramp-up, while somebody waited.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slots {
    pub used: u64,
    pub offered: u64,
    ramped_up: bool,
}

pub(crate) struct Sale<'a> {
    scenario: &'a Scenario,
    config: Config,
    number_of_fans: u32,
    fans: Fans,
    store: MemoryStore,
    /// Kept where the room will need it after a restart.
    journal: Option<Vec<Stored>>,
    pace: Pace,
    situation: Option<Situation>,
    stock: Stock,
    seats_total: u32,
    asks: BinaryHeap<Reverse<Ask>>,
    stays: BinaryHeap<Reverse<Stay>>,
    left: Vec<bool>,
    joined: u32,
    /// Numbers given by the end of each second after the opening.
    issued_by: Vec<u32>,
    surprises: VecDeque<(u64, Surprise)>,
    away_until_ms: u64,
    silent_until_ms: u64,
    diary: Diary,
}

impl<'a> Sale<'a> {
    pub(crate) fn new(scenario: &'a Scenario, number_of_fans: u32, seed: u64) -> Self {
        let rate = (f64::from(number_of_fans) / scenario.house.minutes).clamp(10.0, RATE_MAX);
        let kept_inside = rate / 60.0 * Fans::planned_visit_s(&scenario.crowd, VISIT_MAX.as_secs_f64());
        let (rate_per_minute, capacity) = (whole(rate), whole(kept_inside * scenario.house.room).max(5));
        let config = Config {
            sale: "rehearsal".parse().expect("a name"),
            prequeue_at: OPENS.minus(Duration::from_mins(30)),
            opens_at: OPENS,
            closes_at: OPENS.plus(Duration::from_hours(24)),
            rate_per_minute,
            capacity,
            burst: None,
            call_window: WINDOW,
            returner_share: 0.2,
            // A visitor's page renews her pass for as long as she stays.
            pass_life: VISIT_MAX,
            visit_max: VISIT_MAX,
            max_fans: number_of_fans,
            issuer: String::new(),
            watchers_max: 0,
            passes_checked_elsewhere: false,
            draw: None,
            durability: Durability::Journaled,
        };
        let fans = Fans::new(scenario, seed, VISIT_MAX.as_secs_f64(), millis(WINDOW));
        let seats_total = scenario
            .house
            .seats_per_fan
            .map_or(0, |share| whole(share * rate * scenario.house.minutes));
        let mut surprises: VecDeque<(u64, Surprise)> = scenario
            .surprises
            .iter()
            .map(|&(min, it)| (u64::from(whole(min * 60_000.0)), it))
            .collect();
        surprises.make_contiguous().sort_by_key(|(at_ms, _)| *at_ms);
        let door = Door {
            capacity,
            rate_per_minute,
            burst: burst_of(rate_per_minute, None),
        };
        let needs_journal = surprises
            .iter()
            .any(|(_, surprise)| matches!(surprise, Surprise::Restart(_)));
        Self {
            scenario,
            store: MemoryStore::new(config.clone(), 0, moment(0)),
            pace: Pace::default(),
            journal: needs_journal.then(Vec::new),
            config,
            number_of_fans,
            situation: None,
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
            diary: Diary {
                boards: Vec::new(),
                calls: Vec::new(),
                surprises_ms: surprises
                    .iter()
                    .flat_map(|&(at_ms, it)| turns(at_ms, it))
                    .collect(),
                first_entry_ms: None,
                capacity,
                upto: number_of_fans.min(whole(rate * scenario.house.minutes)),
                sold_out_ms: None,
                came: 0,
                met_full_house: 0,
                extra_waits_ms: Vec::new(),
                slots: Slots::default(),
                judge: Judge::new(door),
            },
            surprises,
            fans,
            away_until_ms: 0,
            silent_until_ms: 0,
        }
    }

    /// Runs the sale until everybody whose call is awaited has been called, or all seats are gone.
    pub(crate) async fn run(mut self) -> Result<(Diary, Vec<u32>), StoreError> {
        let ticks_max = u64::from(whole(self.scenario.house.minutes * 8.0 + 60.0)) * 600;
        for tick in 1..=ticks_max {
            let now_ms = tick * TICK_MS;
            self.tick(now_ms).await?;
            if now_ms.is_multiple_of(1_000) {
                self.second(now_ms).await?;
            }
            if self.store.now_serving() >= self.diary.upto || self.diary.sold_out_ms.is_some() {
                break;
            }
        }
        self.diary.judge.finish(self.config.returner_share);
        Ok((self.diary, self.issued_by))
    }

    async fn tick(&mut self, now_ms: u64) -> Result<(), StoreError> {
        self.surprise(now_ms).await?;
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
        let (situation, call) =
            next_call(&self.store, phase, self.config.call_window, at, &self.stock).await?;
        self.situation = Some(situation);
        if let Some(Event::Called { from, upto, ends_at }) = call {
            self.happened(Event::Called { from, upto, ends_at }, now_ms)
                .await?;
            self.called(from, upto, now_ms);
            let ends_ms = u64::try_from(ends_at.as_millis() - moment(0).now.as_millis()).unwrap_or(0);
            self.diary.judge.called(from, upto, ends_ms, self.joined);
        }
        self.ask(now_ms).await?;
        self.count_slots(&situation, now_ms);
        Ok(())
    }

    /// What a board's loop does, and who joins and leaves in this second.
    async fn second(&mut self, now_ms: u64) -> Result<(), StoreError> {
        if now_ms < self.away_until_ms {
            if let Some(last) = self.diary.boards.last().cloned() {
                self.diary.boards.push(last);
                self.issued_by.push(self.joined);
            }
            return Ok(());
        }
        self.join(now_ms).await?;
        self.leave(now_ms).await?;
        let at = moment(now_ms);
        let settings = self.store.settings();
        let counts = self.store.counts(at);
        let seen = Glimpse {
            now: at.now,
            phase: phase_at(&self.config, &settings, at.now),
            settings: &settings,
            situation: self.situation,
            counts,
            visits: self.store.visits(at.now),
            call_window: self.config.call_window,
            seats: Seats::of(&self.stock.zones),
            until_open_s: u32::try_from(self.config.opens_at.since(at.now).as_secs()).unwrap_or(u32::MAX),
        };
        self.pace.second(&seen);
        if now_ms >= BEFORE_MS {
            self.diary.boards.push(Hung {
                now_serving: counts.now_serving,
                rate_per_minute: settings.rate_per_minute,
                issued: counts.issued,
                active: counts.active,
                entries: counts.entries_total,
                table: self.pace.estimate(&seen),
            });
            self.issued_by.push(counts.issued);
        }
        let again = self.joins_again(at).await?;
        self.diary.judge.agrees(counts.active, again, now_ms);
        Ok(())
    }

    fn phase(&self, now_ms: u64) -> Phase {
        phase_at(&self.config, &self.store.settings(), moment(now_ms).now)
    }

    async fn write(&mut self, record: Record, at: Moment) -> Result<(), StoreError> {
        let stored = Stored { seq: 0, record };
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

    async fn join(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let at = moment(now_ms);
        let share = self.fans.joined_share(seconds(now_ms) - seconds(BEFORE_MS));
        let upto = whole(share * f64::from(self.number_of_fans)).min(self.number_of_fans);
        let mut first = self.joined + 1;
        while first <= upto {
            let last = upto.min(first + GROUP - 1);
            let joins = (first..=last)
                .map(|number| Join {
                    subject: subject(number),
                    joined_at: at.now,
                })
                .collect();
            self.write(Record::Joins { first, joins }, at).await?;
            first = last + 1;
        }
        self.joined = upto.max(self.joined);
        Ok(())
    }

    async fn leave(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let (serving, issued) = (self.store.now_serving(), self.joined);
        if issued <= serving {
            return Ok(());
        }
        for _ in 0..self.fans.leaving(issued - serving) {
            let number = self.fans.one_of(serving, issued);
            if !std::mem::replace(&mut self.left[number as usize], true) {
                self.happened(Event::Left { number }, now_ms).await?;
            }
        }
        Ok(())
    }

    /// Somebody reloads the page: she must find her number.
    async fn joins_again(&mut self, at: Moment) -> Result<Option<(u32, Option<u32>)>, StoreError> {
        let issued = self.joined;
        if issued == 0 {
            return Ok(None);
        }
        let number = self.fans.one_of(0, issued);
        // Whoever has left gets another number, and rightly.
        if self.left[number as usize] || number <= self.store.now_serving() {
            return Ok(None);
        }
        let found = match self
            .store
            .number(Join {
                subject: subject(number),
                joined_at: at.now,
            })
            .await?
        {
            Numbered::Had { found, .. } | Numbered::New(found) => Some(found.number),
            Numbered::Full => None,
        };
        Ok(Some((number, found)))
    }

    fn called(&mut self, from: u32, upto: u32, now_ms: u64) {
        self.diary.calls.push((upto, now_ms.saturating_sub(BEFORE_MS)));
        for number in from + 1..=upto {
            if self.left[number as usize] {
                continue;
            }
            let joined_s = self.issued_by.partition_point(|&issued| issued < number);
            let waited_s =
                seconds(now_ms.saturating_sub(BEFORE_MS)) - f64::from(u32::try_from(joined_s).unwrap_or(0));
            let (after_ms, every_ms) = match self.fans.when_called(waited_s.max(0.0)) {
                Answer::Never => continue,
                Answer::Comes { after_ms } => (after_ms, ASKS_EVERY_MS),
                Answer::Returns { after_ms } => (after_ms, RETURNER_ASKS_EVERY_MS),
            };
            self.asks.push(Reverse(Ask {
                at_ms: now_ms + after_ms,
                number,
                every_ms,
                refused_at_ms: None,
            }));
        }
    }

    async fn ask(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let at = moment(now_ms);
        let is_paused = self.phase(now_ms) != Phase::OnSale;
        while let Some(Reverse(ask)) = self
            .asks
            .peek()
            .copied()
            .filter(|Reverse(ask)| ask.at_ms <= now_ms)
        {
            self.asks.pop();
            let in_time = ask.every_ms == ASKS_EVERY_MS;
            self.diary.judge.asks(ask.number, now_ms);
            self.diary.came += u64::from(in_time && ask.refused_at_ms.is_none());
            let visit = VisitId::random(self.fans.entropy());
            match self
                .store
                .reserve(
                    &EntryAsk {
                        number: ask.number,
                        visit,
                        inside: Inside::Served,
                    },
                    at,
                )
                .await?
            {
                Reservation::Reserved { .. } => {
                    self.diary.judge.enters(ask.number, now_ms);
                    self.happened(
                        Event::Entered {
                            number: ask.number,
                            subject: subject(ask.number),
                            visit,
                        },
                        now_ms,
                    )
                    .await?;
                    self.diary
                        .first_entry_ms
                        .get_or_insert(now_ms.saturating_sub(BEFORE_MS));
                    if in_time {
                        self.diary
                            .extra_waits_ms
                            .extend(ask.refused_at_ms.map(|refused| now_ms - refused));
                    }
                    self.stay(ask.number, visit, now_ms);
                }
                Reservation::NoRoom { .. } => {
                    self.diary.met_full_house +=
                        u64::from(in_time && ask.refused_at_ms.is_none() && !is_paused);
                    let refused_at_ms = ask.refused_at_ms.or(Some(now_ms));
                    if is_paused || !self.fans.gives_up() {
                        self.asks.push(Reverse(Ask {
                            at_ms: now_ms + u64::from(ask.every_ms),
                            refused_at_ms,
                            ..ask
                        }));
                    }
                }
                // Whoever gave up her number may still have a page that asks.
                Reservation::Left | Reservation::Inside { .. } | Reservation::NotCalledYet => {}
            }
        }
        Ok(())
    }

    fn stay(&mut self, number: u32, visit: VisitId, now_ms: u64) {
        let wanted = if self.seats_total == 0 {
            0
        } else {
            self.fans.seats()
        };
        let [free, held, booked] = self.seats();
        let seats = wanted.min(free);
        self.stock.zones = zones(free - seats, held + seats, booked);
        self.stays.push(Reverse(Stay {
            ends_ms: now_ms + self.fans.visit_ms().min(millis(VISIT_MAX)),
            number,
            visit,
            seats,
        }));
    }

    async fn end_visits(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let mut over = Vec::new();
        while let Some(Reverse(stay)) = self
            .stays
            .peek()
            .copied()
            .filter(|Reverse(stay)| stay.ends_ms <= now_ms)
        {
            self.stays.pop();
            over.push(stay.visit);
            self.seats_leave(stay.seats);
        }
        for ended in self.store.end_visits(&over, moment(now_ms).now).await? {
            self.diary.judge.leaves(ended.number, true);
            self.happened(ended.event(), now_ms).await?;
        }
        let [free, held, _] = self.seats();
        if self.seats_total > 0 && free == 0 && held == 0 && self.diary.sold_out_ms.is_none() {
            self.diary.sold_out_ms = Some(now_ms.saturating_sub(BEFORE_MS));
            self.happened(Event::Stock { sold_out: true }, now_ms).await?;
        }
        Ok(())
    }

    /// Most baskets are paid for; the others' seats come back.
    fn seats_leave(&mut self, seats: u32) {
        if seats > 0 {
            let [free, held, booked] = self.seats();
            let held = held - seats.min(held);
            self.stock.zones = if self.fans.unit() < 0.85 {
                zones(free, held, booked + seats)
            } else {
                zones(free + seats, held, booked)
            };
        }
    }

    /// Free, held, booked.
    fn seats(&self) -> [u32; 3] {
        self.stock
            .zones
            .first()
            .map_or([0; 3], |zone| [zone.free, zone.held, zone.booked])
    }

    async fn surprise(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let after_ms = now_ms.saturating_sub(BEFORE_MS);
        while let Some((_, surprise)) = self
            .surprises
            .front()
            .copied()
            .filter(|(at_ms, _)| *at_ms <= after_ms)
        {
            self.surprises.pop_front();
            let times = |of: u32, factor: f64| whole(f64::from(of) * factor).max(1);
            match surprise {
                Surprise::Pause => {
                    self.order(OperatorCommand::Pause, now_ms).await?;
                    self.diary.judge.stands_still(now_ms);
                }
                Surprise::Resume => {
                    self.order(OperatorCommand::Resume, now_ms).await?;
                    self.diary.judge.goes_on(now_ms);
                }
                Surprise::Rate(factor) => {
                    let per_minute = times(self.config.rate_per_minute, factor);
                    self.order(OperatorCommand::Rate { per_minute }, now_ms).await?;
                }
                Surprise::Capacity(factor) => {
                    let visitors = times(self.config.capacity, factor);
                    self.order(OperatorCommand::Capacity { visitors }, now_ms).await?;
                }
                Surprise::BoxOfficeSilent(seconds) => {
                    self.silent_until_ms = now_ms + u64::from(whole(seconds * 1_000.0))
                }
                Surprise::Restart(seconds) => self.restart(now_ms, u64::from(whole(seconds * 1_000.0))),
            }
        }
        if self.away_until_ms == now_ms && now_ms > 0 {
            self.come_back(now_ms).await?;
        }
        Ok(())
    }

    async fn order(&mut self, command: OperatorCommand, now_ms: u64) -> Result<(), StoreError> {
        self.happened(Event::Operator { command, by: None }, now_ms)
            .await?;
        let settings = self.store.settings();
        let (capacity, rate_per_minute) = (settings.capacity, settings.rate_per_minute);
        self.diary.judge.door_is(
            Door {
                capacity,
                rate_per_minute,
                burst: burst_of(rate_per_minute, self.config.burst),
            },
            now_ms,
        );
        Ok(())
    }

    /// The room dies; nobody is answered until it is back.
    fn restart(&mut self, now_ms: u64, for_ms: u64) {
        self.away_until_ms = (now_ms + for_ms).next_multiple_of(TICK_MS);
        // What came after the last record nobody can know who comes back: call windows stand still from there on.
        self.diary.judge.stands_still(self.away_since_ms(now_ms));
    }

    /// What the journal holds is read again, as a room does that is opened.
    async fn come_back(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let at = moment(now_ms);
        self.store = MemoryStore::new(self.config.clone(), 0, at);
        self.store
            .apply(self.journal.as_deref().unwrap_or_default(), at)
            .await?;
        let since = moment(self.away_since_ms(now_ms)).now;
        self.happened(Event::Interrupted { since }, now_ms).await?;
        self.store.recovered(at).await?;
        self.pace = Pace::default();
        self.situation = None;
        self.diary.judge.goes_on(now_ms);
        Ok(())
    }

    /// When the last record was written.
    fn away_since_ms(&self, now_ms: u64) -> u64 {
        let last = self
            .journal
            .as_ref()
            .and_then(|journal| journal.last())
            .and_then(|stored| stored.record.at());
        last.map_or(now_ms, |at| {
            u64::try_from(at.as_millis() - moment(0).now.as_millis()).unwrap_or(now_ms)
        })
    }

    fn count_slots(&mut self, now: &Situation, now_ms: u64) {
        let slots = &mut self.diary.slots;
        // A door that never fills its house has not ramped up in twice the time that the rate alone would take.
        let should_be_full_ms =
            u64::from(self.config.capacity) * 120_000 / u64::from(self.config.rate_per_minute);
        let is_late = now_ms.saturating_sub(BEFORE_MS) > should_be_full_ms.max(60_000)
            && self.scenario.house.room < 1.0;
        slots.ramped_up |= f64::from(now.active) >= 0.98 * f64::from(now.capacity) || is_late;
        if slots.ramped_up
            && now.uncalled > now.capacity / 10
            && now.calling
            && self.phase(now_ms) == Phase::OnSale
        {
            let slots = &mut self.diary.slots;
            slots.used += u64::from(now.active.min(now.capacity));
            slots.offered += u64::from(now.capacity);
        }
    }
}

/// When something changes that nobody could foresee.
fn turns(at_ms: u64, surprise: Surprise) -> impl Iterator<Item = u64> {
    let back_ms = if let Surprise::Restart(seconds) = surprise {
        Some(at_ms + u64::from(whole(seconds * 1_000.0)))
    } else {
        None
    };
    std::iter::once(at_ms).chain(back_ms)
}

/// A customer's keyed hash spreads evenly over 63 bits; so does this (the finaliser of SplitMix64, less the highest bit, which is
/// a stranger's: two of ten million are alike once in a hundred thousand sales).
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
