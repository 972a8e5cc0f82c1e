//! What the memory store holds, and what a journal record changes of it.

use std::collections::{BTreeMap, HashMap};

use crate::{
    kernel::{Timestamp, VisitId},
    waiting_room::{
        Config,
        admission::{
            lanes::{ASK_AGAIN, CLAIM_LAPSE, Lane, Lanes},
            policy::Bucket,
            show_rate::ShowUp,
        },
        draw::progress::Draw,
        forecast::{visit_length::VisitLengths, wait_table::Flow},
        journal::record::{Event, Join, Record},
        state::Settings,
        store::{
            entries::Fans,
            memory::groups::Groups,
            port::{EntryAsk, Found, Moment, Numbered, Reservation, Standing, StoreError},
        },
    },
};

#[derive(Debug)]
pub(super) struct State {
    pub(super) fans: Fans,
    pub(super) now_serving: u32,
    pub(super) calls: Vec<Call>,
    pub(super) visits: HashMap<VisitId, Visit>,
    /// Visits by number, reserved ones too.
    pub(super) inside: HashMap<u32, VisitId>,
    pub(super) bucket: Bucket,
    pub(super) lanes: Lanes,
    pub(super) show_up: ShowUp,
    pub(super) departures: Flow,
    pub(super) visit_lengths: VisitLengths,
    pub(super) settings: Settings,
    pub(super) draw: Draw,
    /// Of a sale that draws.
    pub(super) groups: Groups,
    pub(super) paused_at: Option<Timestamp>,
    pub(super) entries_total: u64,
    pub(super) returned_total: u64,
    pub(super) ended_total: u64,
    /// Of a mirror: visits that are over, while a pass could still speak of them.
    pub(super) ended: Option<BTreeMap<VisitId, Timestamp>>,
}

/// Numbers called at once: those after the call before, up to `upto`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) upto: u32,
    pub(super) at: Timestamp,
    pub(super) ends_at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    pub(super) number: u32,
    pub(super) progress: Progress,
    pub(super) started: Timestamp,
    pub(super) pass_until: Timestamp,
    pub(super) kept_until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The slot is taken; the entry is not written down yet.
    Reserved,
    Inside,
    /// Over, but its end is not written down yet: the slot is not free.
    Ending,
}

impl State {
    pub(super) fn new(config: &Config, at: Moment) -> Self {
        Self {
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
            settings: Settings::of(config),
            draw: Draw::default(),
            groups: Groups::default(),
            paused_at: None,
            entries_total: 0,
            returned_total: 0,
            ended_total: 0,
            ended: None,
        }
    }

    pub(super) fn active(&self) -> u32 {
        u32::try_from(self.visits.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn reserve(&mut self, ask: &EntryAsk, config: &Config, at: Moment) -> Reservation {
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

    pub(super) fn give_back(&mut self, visit: VisitId) {
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

    pub(super) fn standing(&self, number: u32, at: Moment) -> Standing {
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

    pub(super) fn apply(&mut self, record: &Record, config: &Config, at: Moment) -> Result<(), StoreError> {
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

    pub(super) fn number(&mut self, join: Join, numbers_max: u32) -> Numbered {
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
    pub(super) fn found(&self, subject: u64) -> Option<Found> {
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
