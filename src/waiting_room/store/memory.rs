//! The embedded engine: one sale's queue in this process's memory.
//!
//! One lock. Every critical section is short (a group of joins is the longest: some tens of microseconds) and none
//! waits for anything, so reading a place costs an uncontended read lock.

mod ceiling;
mod draw;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::RwLock;

use self::{
    ceiling::Ceiling,
    draw::{Groups, drawn_in},
};
use super::{
    Counts, EndedVisit, EntryAsk, Finished, Found, Moment, Numbered, PassGrant, QueueStore, Reservation,
    Settings, Standing, StoreError, fans::Fans,
};
use crate::{
    kernel::{Timestamp, VisitId},
    waiting_room::{
        Config, Durability,
        admission::{Bucket, Situation, burst_of},
        draw::Draw,
        estimate::Flow,
        journal::{Event, Join, Record, SqliteJournal, Stored},
        lanes::{ASK_AGAIN, CLAIM_LAPSE, Lane, Lanes},
        pass,
        show_up::ShowUp,
        survivors::Survivors,
        visits::{VisitLengths, VisitsOutlook},
    },
};

/// How long after a pass has expired its slot is used again: the verifiers' leeway and a bound on their clocks' skew.
pub(super) const SLOT_GRACE: std::time::Duration =
    std::time::Duration::from_secs(pass::LEEWAY_S.unsigned_abs() + 1);

#[derive(Debug)]
pub(crate) struct MemoryStore {
    pub(super) config: Config,
    /// Records are written under it: a second process on the same journal has another.
    epoch: u64,
    /// Up to this number an earlier process may have answered whom the journal does not have.
    given_before: u32,
    /// Where joins are answered before they are written down.
    ceiling: Option<Ceiling>,
    pub(super) state: RwLock<State>,
    /// Those of the state, for whoever asks with every request: the lock is for those who come for more.
    settings: ArcSwap<Settings>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) fans: Fans,
    pub(super) now_serving: u32,
    calls: Vec<Call>,
    pub(super) visits: HashMap<VisitId, Visit>,
    /// Visits by number, reserved ones too.
    inside: HashMap<u32, VisitId>,
    bucket: Bucket,
    pub(super) lanes: Lanes,
    pub(super) show_up: ShowUp,
    departures: Flow,
    visit_lengths: VisitLengths,
    pub(super) settings: Settings,
    draw: Draw,
    /// Of a sale that draws.
    groups: Groups,
    paused_at: Option<Timestamp>,
    entries_total: u64,
    returned_total: u64,
    ended_total: u64,
    /// Of a mirror: visits that are over, while a pass could still speak of them.
    pub(super) ended: Option<BTreeMap<VisitId, Timestamp>>,
}

/// Numbers called at once: those after the call before, up to `upto`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    upto: u32,
    pub(super) at: Timestamp,
    ends_at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    pub(super) number: u32,
    pub(super) progress: Progress,
    pub(super) started: Timestamp,
    pass_until: Timestamp,
    kept_until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// The slot is taken; the entry is not written down yet.
    Reserved,
    Inside,
    /// Over, but its end is not written down yet: the slot is not free.
    Ending,
}

impl MemoryStore {
    pub(crate) fn new(config: Config, epoch: u64, at: Moment) -> Self {
        let settings = Settings::of(&config);
        let state = State {
            fans: Fans::new(),
            now_serving: 0,
            calls: Vec::new(),
            visits: HashMap::new(),
            inside: HashMap::new(),
            bucket: Bucket::empty(config.rate_per_minute, config.burst, at.monotonic),
            lanes: Lanes::new(config.returner_share),
            show_up: ShowUp::new(config.call_window),
            departures: Flow::new(at.monotonic),
            visit_lengths: VisitLengths::new(config.visit_max),
            settings: settings.clone(),
            draw: Draw::default(),
            groups: Groups::default(),
            paused_at: None,
            entries_total: 0,
            returned_total: 0,
            ended_total: 0,
            ended: None,
        };
        Self {
            config,
            epoch,
            given_before: 0,
            ceiling: None,
            state: RwLock::new(state),
            settings: ArcSwap::from_pointee(settings),
        }
    }

    fn tell_settings(&self, state: &State) {
        if **self.settings.load() != state.settings {
            self.settings.store(Arc::new(state.settings.clone()));
        }
    }

    /// Up to `given_before` numbers may have been given and not been written down in this journal; more may be, where joins
    /// are answered before that.
    pub(crate) fn beside(self, journal: Arc<SqliteJournal>, given_before: u32) -> Self {
        let is_early = self.config.durability == Durability::Acknowledged;
        let ceiling = is_early.then(|| Ceiling::new(journal, given_before, self.config.max_fans));
        Self {
            given_before,
            ceiling,
            ..self
        }
    }
}

#[async_trait]
impl QueueStore for MemoryStore {
    async fn number(&self, join: Join) -> Result<Numbered, StoreError> {
        let Some(ceiling) = &self.ceiling else {
            return Ok(self.state.write().number(join, self.config.max_fans));
        };
        loop {
            let allowed = ceiling.allowed();
            let numbered = self.state.write().number(join, allowed);
            match numbered {
                Numbered::Full if allowed < self.config.max_fans => ceiling.raise_above(allowed).await?,
                Numbered::New(found) => {
                    ceiling.passed(found.number).await;
                    return Ok(numbered);
                }
                numbered => return Ok(numbered),
            }
        }
    }

    async fn give_up(&self, subject: u64, arrival: u32) -> Result<(), StoreError> {
        let mut state = self.state.write();
        if state.fans.subject(arrival) == Some(subject) && !state.fans.is_written(arrival) {
            state.fans.give_up(arrival);
        }
        Ok(())
    }

    async fn apply(&self, records: &[Stored], at: Moment) -> Result<(), StoreError> {
        for part in records.split_inclusive(|stored| drawn_in(&stored.record).is_some()) {
            {
                let mut state = self.state.write();
                let applied = part
                    .iter()
                    .try_for_each(|stored| state.apply(&stored.record, &self.config, at));
                self.tell_settings(&state);
                applied?;
            }
            if let Some((when, drawn)) = part.last().and_then(|stored| drawn_in(&stored.record)) {
                self.hold_draw(when, drawn).await?;
            }
        }
        Ok(())
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    async fn recovered(&self, at: Moment) -> Result<(), StoreError> {
        let mut state = self.state.write();
        state.fans.skip_to(self.given_before, at.now.as_millis());
        state.show_up.resume(at.now);
        state.visit_lengths.resume(at.now);
        let fresh_until = at.now.plus(self.config.pass_life);
        for visit in state.visits.values_mut() {
            visit.pass_until = fresh_until
                .min(visit.started.plus(self.config.visit_max))
                .max(at.now);
        }
        Ok(())
    }

    async fn reserve(&self, ask: &EntryAsk, at: Moment) -> Result<Reservation, StoreError> {
        Ok(self.state.write().reserve(ask, &self.config, at))
    }

    async fn give_back(&self, visit: VisitId) -> Result<(), StoreError> {
        self.state.write().give_back(visit);
        Ok(())
    }

    async fn grant_pass(&self, visit: VisitId, now: Timestamp) -> Result<Option<PassGrant>, StoreError> {
        let mut state = self.state.write();
        let generation = state.settings.pass_generation;
        let Some(visit) = state
            .visits
            .get_mut(&visit)
            .filter(|v| v.progress == Progress::Inside)
        else {
            return Ok(None);
        };
        let limit = visit.started.plus(self.config.visit_max).max(visit.kept_until);
        if now >= limit {
            return Ok(None);
        }
        let expires_at = now.plus(self.config.pass_life).min(limit);
        visit.pass_until = visit.pass_until.max(expires_at);
        Ok(Some(PassGrant {
            expires_at,
            generation,
        }))
    }

    async fn end_visits(&self, named: &[VisitId], now: Timestamp) -> Result<Vec<EndedVisit>, StoreError> {
        let mut state = self.state.write();
        let mut ended = Vec::new();
        let mut end = |id: VisitId, visit: &mut Visit| {
            if visit.progress == Progress::Inside {
                visit.progress = Progress::Ending;
                ended.push(EndedVisit {
                    visit: id,
                    number: visit.number,
                    how: Finished::Ended,
                });
            }
        };
        for id in named {
            if let Some(visit) = state.visits.get_mut(id) {
                end(*id, visit);
            }
        }
        for (id, visit) in &mut state.visits {
            if now >= visit.pass_until.max(visit.kept_until).plus(SLOT_GRACE) {
                end(*id, visit);
            }
        }
        // A map has no order, and a journal should not depend on one.
        ended.sort_unstable_by_key(|e| e.number);
        Ok(ended)
    }

    async fn reopen_visits(&self, ended: &[EndedVisit]) -> Result<(), StoreError> {
        let mut state = self.state.write();
        for end in ended {
            if let Some(visit) = state
                .visits
                .get_mut(&end.visit)
                .filter(|v| v.progress == Progress::Ending)
            {
                visit.progress = Progress::Inside;
            }
        }
        Ok(())
    }

    async fn situation(&self, at: Moment) -> Result<Situation, StoreError> {
        let mut state = self.state.write();
        state.show_up.observe(at.now);
        state.visit_lengths.observe(at.now);
        let ended = state.ended_total;
        state.departures.observe(ended, at.monotonic);
        let (claimants, returners) = state.lanes.waiting(at.monotonic);
        Ok(Situation {
            calling: !state.settings.is_stopped() && !state.settings.closed && !state.settings.sold_out,
            uncalled: state.fans.issued().saturating_sub(state.now_serving),
            capacity: state.settings.capacity,
            active: state.active(),
            rate_per_minute: state.settings.rate_per_minute,
            permits: state.bucket.permits(at.monotonic),
            burst: burst_of(state.settings.rate_per_minute, self.config.burst),
            departures_per_s: state.departures.per_s(),
            claimants,
            returners,
            returner_share: self.config.returner_share,
            outlook: state.show_up.outlook(),
            seats_free: None,
            box_office_silent: false,
            is_caller: true,
        })
    }

    async fn reach(&self, count: u32) -> Result<u32, StoreError> {
        let state = self.state.read();
        Ok(state.fans.reach(state.now_serving, count))
    }

    fn known(&self, subject: u64) -> Option<Found> {
        let state = self.state.read();
        state
            .found(subject)
            .filter(|found| state.fans.is_written(found.number))
    }

    fn owner(&self, number: u32) -> Option<u64> {
        let state = self.state.read();
        state
            .fans
            .subject(number)
            .filter(|_| state.fans.is_written(number))
    }

    fn is_of(&self, number: u32, subject: u64) -> bool {
        let state = self.state.read();
        match state.fans.subject(number) {
            Some(owner) => owner == subject,
            // Another node has just written it down; or it was answered before that, and stands though it was lost.
            None => {
                state.ended.is_some()
                    || self.config.durability == Durability::Acknowledged
                    || number <= self.given_before
            }
        }
    }

    fn standing(&self, number: u32, at: Moment) -> Standing {
        self.state.read().standing(number, at)
    }

    fn visit_of(&self, number: u32) -> Option<VisitId> {
        self.state.read().inside.get(&number).copied()
    }

    fn is_inside(&self, visit: VisitId, generation: u32) -> bool {
        let state = self.state.read();
        let goes_on = match (state.visits.get(&visit), &state.ended) {
            (Some(visit), _) => visit.progress == Progress::Inside,
            (None, Some(ended)) => !ended.contains_key(&visit),
            (None, None) => false,
        };
        goes_on && generation >= state.settings.pass_generation
    }

    fn keep_visit(&self, visit: VisitId, until: Timestamp) {
        if let Some(visit) = self.state.write().visits.get_mut(&visit) {
            visit.kept_until = visit.kept_until.max(until);
        }
    }

    fn settings(&self) -> Settings {
        Settings::clone(&self.settings.load())
    }

    fn now_serving(&self) -> u32 {
        self.state.read().now_serving
    }

    fn survivors(&self) -> Survivors {
        let state = self.state.read();
        state.fans.survivors(state.now_serving)
    }

    fn asked(&self, near: u32) -> Vec<u32> {
        let state = self.state.read();
        state.fans.asked(state.now_serving, near)
    }

    fn counts(&self, at: Moment) -> Counts {
        let (claimants, returners) = self.state.write().lanes.waiting(at.monotonic);
        let state = self.state.read();
        let over = state.calls.partition_point(|call| call.ends_at < at.now);
        let over_upto = over.checked_sub(1).map_or(0, |last| state.calls[last].upto);
        Counts {
            issued: state.fans.issued(),
            now_serving: state.now_serving,
            active: state.active(),
            claimants,
            returners,
            waiting: state.fans.in_line(state.now_serving, u32::MAX),
            passed_over: state.fans.in_line(0, over_upto),
            entries_total: state.entries_total,
            returned_total: state.returned_total,
            ended_total: state.ended_total,
        }
    }

    fn visits(&self, now: Timestamp) -> VisitsOutlook {
        self.state.read().visit_lengths.outlook(now)
    }
}

impl State {
    fn active(&self) -> u32 {
        u32::try_from(self.visits.len()).unwrap_or(u32::MAX)
    }

    fn reserve(&mut self, ask: &EntryAsk, config: &Config, at: Moment) -> Reservation {
        let status = self.fans.status(ask.number).unwrap_or_default();
        if status.left() {
            return Reservation::Left;
        }
        if let Some(&visit) = self.inside.get(&ask.number) {
            return match self.visits[&visit].progress {
                Progress::Reserved => Reservation::NoRoom {
                    ask_again: *ASK_AGAIN.start(),
                },
                Progress::Inside => Reservation::Inside { visit },
                Progress::Ending => Reservation::Left,
            };
        }
        let lane = match self.standing(ask.number, at) {
            Standing::Waiting => return Reservation::NotCalledYet,
            Standing::Called { .. } => Lane::Called,
            Standing::PassedOver => Lane::Returner,
            Standing::Entered | Standing::Left => return Reservation::Left,
        };
        if lane == Lane::Called && !status.came() {
            self.fans.set_came(ask.number);
            if let Some(call) = self.call_of(ask.number) {
                self.show_up.came(call.at);
            }
        }
        if self.settings.is_stopped() {
            return Reservation::NoRoom {
                ask_again: *ASK_AGAIN.start(),
            };
        }
        let free = self.settings.capacity.saturating_sub(self.active());
        let room = free.min(self.bucket.permits(at.monotonic));
        let coming = self.show_up.outlook().coming;
        if !self
            .lanes
            .may_enter(lane, ask.number, room, ask.inside, coming, at.monotonic)
            || !self.bucket.take(at.monotonic)
        {
            let ask_again =
                self.lanes
                    .ask_again(lane, ask.number, self.settings.rate_per_minute, at.monotonic);
            return Reservation::NoRoom { ask_again };
        }
        let visit = Visit {
            number: ask.number,
            progress: Progress::Reserved,
            started: at.now,
            pass_until: at.now.plus(config.pass_life),
            kept_until: at.now,
        };
        self.visits.insert(ask.visit, visit);
        self.inside.insert(ask.number, ask.visit);
        Reservation::Reserved { at: at.now }
    }

    fn give_back(&mut self, visit: VisitId) {
        if let Some(Visit {
            number,
            progress: Progress::Reserved,
            ..
        }) = self.visits.get(&visit).copied()
        {
            self.visits.remove(&visit);
            self.inside.remove(&number);
            self.bucket.give_back();
        }
    }

    fn standing(&self, number: u32, at: Moment) -> Standing {
        // Whoever is not written down yet stands in line all the same.
        let status = self.fans.status(number).unwrap_or_default();
        if status.left() {
            return Standing::Left;
        }
        if status.entered() {
            return Standing::Entered;
        }
        let Some(call) = self.call_of(number) else {
            return Standing::Waiting;
        };
        // A pause stops the call windows too; what is left of them runs on after it.
        if call.ends_at >= self.paused_at.unwrap_or(at.now) {
            return Standing::Called {
                ends_at: call.ends_at.max(at.now),
            };
        }
        if self.lanes.keeps(number, at.monotonic) {
            return Standing::Called {
                ends_at: at.now.plus(CLAIM_LAPSE),
            };
        }
        Standing::PassedOver
    }

    pub(super) fn call_of(&self, number: u32) -> Option<Call> {
        self.calls
            .get(self.calls.partition_point(|call| call.upto < number))
            .copied()
    }

    fn apply(&mut self, record: &Record, config: &Config, at: Moment) -> Result<(), StoreError> {
        match record {
            Record::Joins { first, joins } => {
                if config.draw.is_some() {
                    self.groups.written(*first, joins.len());
                }
                (*first..)
                    .zip(joins)
                    .try_for_each(|(number, join)| self.joined(number, *join))
            }
            Record::Event { at: when, event } => self.happened(event, *when, config, at),
        }
    }

    fn number(&mut self, join: Join, numbers_max: u32) -> Numbered {
        if let Some(found) = self.found(join.subject) {
            return Numbered::Had {
                found,
                written: self.fans.is_written(found.number),
            };
        }
        if self.fans.issued() >= numbers_max {
            return Numbered::Full;
        }
        let number = self.fans.push(join.subject, join.joined_at.as_millis());
        Numbered::New(Found {
            number,
            joined_at: join.joined_at,
        })
    }

    /// Her place, unless she has given it up.
    fn found(&self, subject: u64) -> Option<Found> {
        let number = self.fans.number_of(subject)?;
        let joined_at = Timestamp::from_millis(self.fans.joined_at_ms(number)?);
        self.fans
            .status(self.fans.order().queue_number(number))
            .filter(|status| !status.left())
            .map(|_| Found { number, joined_at })
    }

    fn joined(&mut self, number: u32, join: Join) -> Result<(), StoreError> {
        match self.fans.subject(number) {
            Some(owner) if owner != join.subject => {
                return Err(StoreError::Parted("a number is two subjects'"));
            }
            Some(_) => self.fans.set_written(number),
            None => self.fans.put(number, join.subject, join.joined_at.as_millis()),
        }
        Ok(())
    }

    fn happened(
        &mut self,
        event: &Event,
        when: Timestamp,
        config: &Config,
        at: Moment,
    ) -> Result<(), StoreError> {
        match event {
            Event::Called { from, upto, ends_at } => {
                if *from != self.now_serving || upto < from {
                    return Err(StoreError::Parted("a call does not follow on"));
                }
                self.show_up.called(when, self.fans.in_line(*from, *upto));
                self.calls.push(Call {
                    upto: *upto,
                    at: when,
                    ends_at: *ends_at,
                });
                self.now_serving = *upto;
            }
            Event::Entered {
                number,
                subject,
                visit,
            } => self.entered(*number, *subject, *visit, when, config),
            Event::VisitEnded { number, visit } => {
                if let Some(over) = self.visits.remove(visit) {
                    self.visit_lengths.ended(over.started, when);
                    self.inside.remove(number);
                    self.ended_total += 1;
                }
                if let Some(ended) = &mut self.ended {
                    ended.insert(*visit, when);
                }
                self.fans.set_left(*number);
            }
            Event::Lapsed { visit, .. } => self.give_back(*visit),
            Event::Left { number: arrival } => {
                let number = self.fans.order().queue_number(*arrival);
                if self
                    .fans
                    .status(number)
                    .is_some_and(|s| s.is_in_line() && !s.came())
                    && let Some(call) = self.call_of(number)
                {
                    self.show_up.left(call.at);
                }
                self.lanes.forget(number);
                self.fans.set_left(number);
            }
            Event::Stock { .. } => self.settings.follow(event, when),
            Event::Interrupted { since } if self.paused_at.is_none() => self.lengthen_calls(*since, when),
            // Within a pause the windows stand still anyway.
            // And a draw is held once its record and those before it are applied: it takes longer than a lock should be held.
            Event::Interrupted { .. } | Event::Phase { .. } | Event::Drawn(_) => {}
            Event::Operator { .. } | Event::Slowed { .. } => self.set_door(event, when, at),
            Event::DrawCommitted(committed) => self.draw.committed(committed),
            Event::EntriesClosed(closed) => self.draw.closed(closed, when),
        }
        Ok(())
    }

    fn entered(&mut self, number: u32, subject: u64, visit: VisitId, when: Timestamp, config: &Config) {
        let arrival = self.fans.order().arrival(number);
        if self.fans.subject(arrival).is_none() {
            self.fans.put(arrival, subject, when.as_millis());
        }
        let status = self.fans.status(number);
        // Only in replay has she not been seen coming.
        if status.is_some_and(|s| !s.came()) {
            match self.call_of(number).filter(|call| when <= call.ends_at) {
                Some(call) => {
                    self.fans.set_came(number);
                    self.show_up.came(call.at);
                }
                None => self.returned_total += 1,
            }
        }
        self.fans.set_entered(number);
        self.lanes.forget(number);
        self.entries_total += 1;
        let inside = Visit {
            number,
            progress: Progress::Inside,
            started: when,
            pass_until: when.plus(config.pass_life),
            kept_until: when,
        };
        let visit_there = self.visits.entry(visit).or_insert(inside);
        visit_there.progress = Progress::Inside;
        let started = visit_there.started;
        self.visit_lengths.entered(started);
        self.inside.insert(number, visit);
    }

    /// Between the two moments the open call windows did not run.
    fn lengthen_calls(&mut self, from: Timestamp, to: Timestamp) {
        let lost = to.since(from);
        let open = self.calls.partition_point(|call| call.ends_at < from);
        for call in &mut self.calls[open..] {
            call.ends_at = call.ends_at.plus(lost);
        }
    }

    fn set_door(&mut self, event: &Event, when: Timestamp, at: Moment) {
        self.settings.follow(event, when);
        self.bucket.set_rate(self.settings.rate_per_minute, at.monotonic);
        if self.settings.is_stopped() {
            self.paused_at = self.paused_at.or(Some(when));
        } else if let Some(paused_at) = self.paused_at.take() {
            self.lengthen_calls(paused_at, when);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::waiting_room::{store::contract, tests::TempDir};

    #[tokio::test]
    async fn it_is_an_engine() {
        contract::holds(async |config| Arc::new(MemoryStore::new(config, 0, contract::at(0)))).await;
    }

    #[tokio::test]
    async fn it_is_an_engine_where_joins_are_answered_before_they_are_written_down() {
        let (dir, made) = (TempDir::new(), AtomicU32::new(0));
        contract::holds(async |config| {
            let file = dir
                .path()
                .join(format!("{}.db", made.fetch_add(1, Ordering::Relaxed)));
            let journal = Arc::new(SqliteJournal::open(&file, config.sale.clone()).await.unwrap());
            let config = Config {
                durability: Durability::Acknowledged,
                ..config
            };
            Arc::new(MemoryStore::new(config, 0, contract::at(0)).beside(journal, 0))
        })
        .await;
    }
}
