//! What the memory store holds, and what a journal record changes of it.

use std::collections::{BTreeMap, HashMap};

use crate::{
    kernel::{Timestamp, VisitId},
    waiting_room::{
        admission::{
            call_policy::TokenBucket,
            reserve_slot::{AdmissionLanes, CLAIM_LAPSE, Lane, RETRY_AFTER},
            show_rate::ShowRateModel,
        },
        draw::progress::DrawState,
        forecast::{visit_length::VisitLengthModel, wait_table::RateEstimate},
        journal::record::{Event, Join, Record},
        state::Settings,
        store::{
            entries::EntryTable,
            memory::join_groups::JoinGroups,
            port::{Assigned, KnownEntry, Moment, NumberState, Reservation, SlotRequest, StoreError},
        },
        types::Config,
    },
};

/// The state behind the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) entries: EntryTable,
    pub(super) now_serving: u32,
    pub(super) calls: Vec<CallWindow>,
    pub(super) visits: HashMap<VisitId, Visit>,
    /// Visits by queue number, reserved ones too.
    pub(super) visit_by_number: HashMap<u32, VisitId>,
    pub(super) bucket: TokenBucket,
    pub(super) lanes: AdmissionLanes,
    pub(super) show_up: ShowRateModel,
    pub(super) departure_rate: RateEstimate,
    pub(super) visit_lengths: VisitLengthModel,
    pub(super) settings: Settings,
    pub(super) draw: DrawState,
    /// Filled only in a sale with a draw.
    pub(super) join_groups: JoinGroups,
    pub(super) paused_at: Option<Timestamp>,
    pub(super) admissions_total: u64,
    pub(super) late_admissions_total: u64,
    pub(super) visits_ended_total: u64,
    /// In a mirror: ended visits, kept for as long as a pass of theirs could be presented.
    pub(super) ended: Option<BTreeMap<VisitId, Timestamp>>,
}

/// One call: the numbers after the call before, up to `last`.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallWindow {
    pub(super) last: u32,
    pub(super) at: Timestamp,
    pub(super) ends_at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    pub(super) number: u32,
    pub(super) progress: VisitProgress,
    pub(super) started: Timestamp,
    pub(super) pass_until: Timestamp,
    pub(super) extended_until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VisitProgress {
    /// The slot is taken; the entry is not journaled yet.
    Reserved,
    Admitted,
    /// Over, but its end is not journaled yet: the slot is not free.
    Ending,
}

impl State {
    pub(super) fn new(config: &Config, at: Moment) -> Self {
        Self {
            entries: EntryTable::new(),
            now_serving: 0,
            calls: Vec::new(),
            visits: HashMap::new(),
            visit_by_number: HashMap::new(),
            bucket: TokenBucket::empty(
                config.admission_rate_per_minute,
                config.admission_burst,
                at.monotonic,
            ),
            lanes: AdmissionLanes::new(config.late_arrival_share),
            show_up: ShowRateModel::new(config.call_window),
            departure_rate: RateEstimate::new(at.monotonic),
            visit_lengths: VisitLengthModel::new(config.visit_max, config.planned_visit()),
            settings: Settings::of(config),
            draw: DrawState::default(),
            join_groups: JoinGroups::default(),
            paused_at: None,
            admissions_total: 0,
            late_admissions_total: 0,
            visits_ended_total: 0,
            ended: None,
        }
    }

    pub(super) fn active(&self) -> u32 {
        u32::try_from(self.visits.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn reserve(&mut self, ask: &SlotRequest, config: &Config, at: Moment) -> Reservation {
        let status = self.entries.status(ask.number).unwrap_or_default();
        if status.left() {
            return Reservation::Ended;
        }
        if let Some(&visit) = self.visit_by_number.get(&ask.number) {
            return match self.visits[&visit].progress {
                VisitProgress::Reserved => Reservation::BeingAdmitted,
                VisitProgress::Admitted => Reservation::AlreadyAdmitted { visit },
                VisitProgress::Ending => Reservation::Ended,
            };
        }
        let lane = match self.standing(ask.number, at) {
            NumberState::Waiting => return Reservation::NotCalledYet,
            NumberState::Called { .. } => Lane::Called,
            NumberState::Missed => Lane::LateArrival,
            NumberState::Admitted | NumberState::Left => return Reservation::Ended,
        };
        if lane == Lane::Called && !status.responded() {
            self.entries.mark_responded(ask.number);
            if let Some(call) = self.call_of(ask.number) {
                self.show_up.arrived(call.at);
            }
        }
        if self.settings.is_stopped() {
            return Reservation::NoRoom {
                retry_after: *RETRY_AFTER.start(),
            };
        }
        let free = self.settings.active_visits_max.saturating_sub(self.active());
        let room = free.min(self.bucket.permits(at.monotonic));
        let coming = self.show_up.forecast().expected_arrivals;
        if !self
            .lanes
            .try_admit(lane, ask.number, room, ask.load, coming, at.monotonic)
            || !self.bucket.take(at.monotonic)
        {
            let retry_after = self.lanes.retry_after(
                lane,
                ask.number,
                self.settings.rate_effective_per_minute,
                at.monotonic,
            );
            return Reservation::NoRoom { retry_after };
        }
        let visit = Visit {
            number: ask.number,
            progress: VisitProgress::Reserved,
            started: at.now,
            pass_until: at.now.plus(config.pass_ttl),
            extended_until: at.now,
        };
        self.visits.insert(ask.visit, visit);
        self.visit_by_number.insert(ask.number, ask.visit);
        Reservation::Reserved { at: at.now }
    }

    pub(super) fn give_back(&mut self, visit: VisitId) {
        if let Some(Visit {
            number,
            progress: VisitProgress::Reserved,
            ..
        }) = self.visits.get(&visit).copied()
        {
            self.visits.remove(&visit);
            self.visit_by_number.remove(&number);
            self.bucket.put_back();
        }
    }

    pub(super) fn standing(&self, number: u32, at: Moment) -> NumberState {
        // A number that is not journaled yet waits like the others.
        let status = self.entries.status(number).unwrap_or_default();
        if status.left() {
            return NumberState::Left;
        }
        if status.admitted() {
            return NumberState::Admitted;
        }
        let Some(call) = self.call_of(number) else {
            return NumberState::Waiting;
        };
        // A pause stops the call windows too; the rest of them runs on after it.
        if call.ends_at >= self.paused_at.unwrap_or(at.now) {
            return NumberState::Called {
                ends_at: call.ends_at.max(at.now),
            };
        }
        if self.lanes.is_waiting_called(number, at.monotonic) {
            return NumberState::Called {
                ends_at: at.now.plus(CLAIM_LAPSE),
            };
        }
        NumberState::Missed
    }

    pub(super) fn call_of(&self, number: u32) -> Option<CallWindow> {
        self.calls
            .get(self.calls.partition_point(|call| call.last < number))
            .copied()
    }

    pub(super) fn apply(&mut self, record: &Record, config: &Config, at: Moment) -> Result<(), StoreError> {
        match record {
            Record::Joins { first, joins } => {
                if config.draw.is_some() {
                    self.join_groups.written(*first, joins.len());
                }
                (*first..)
                    .zip(joins)
                    .try_for_each(|(number, join)| self.joined(number, *join))
            }
            Record::Event { at: when, event } => self.apply_event(event, *when, config, at),
        }
    }

    pub(super) fn number(&mut self, join: Join, numbers_max: u32) -> Assigned {
        if let Some(entry) = self.entry(join.subject) {
            return Assigned::Existing {
                entry,
                journaled: self.entries.is_journaled(entry.number),
            };
        }
        if self.entries.issued() >= numbers_max {
            return Assigned::Full;
        }
        let number = self.entries.assign(join.subject, join.joined_at.as_millis());
        Assigned::New(KnownEntry {
            number,
            joined_at: join.joined_at,
        })
    }

    /// The entry of a subject that has not left.
    pub(super) fn entry(&self, subject: u64) -> Option<KnownEntry> {
        let number = self.entries.number_of_subject(subject)?;
        let joined_at = Timestamp::from_millis(self.entries.joined_at_ms(number)?);
        self.entries
            .status(self.entries.numbering().queue_number(number))
            .filter(|status| !status.left())
            .map(|_| KnownEntry { number, joined_at })
    }

    fn joined(&mut self, number: u32, join: Join) -> Result<(), StoreError> {
        match self.entries.subject(number) {
            Some(owner) if owner != join.subject => {
                return Err(StoreError::Diverged("a number belongs to two subjects"));
            }
            Some(_) => self.entries.mark_journaled(number),
            None => self
                .entries
                .insert(number, join.subject, join.joined_at.as_millis()),
        }
        Ok(())
    }

    fn apply_event(
        &mut self,
        event: &Event,
        when: Timestamp,
        config: &Config,
        at: Moment,
    ) -> Result<(), StoreError> {
        match event {
            Event::Called {
                after,
                last,
                window_ends_at,
            } => {
                if *after != self.now_serving || last < after {
                    return Err(StoreError::Diverged("a call does not continue the last one"));
                }
                self.show_up
                    .called(when, self.entries.waiting_between(*after, *last));
                self.calls.push(CallWindow {
                    last: *last,
                    at: when,
                    ends_at: *window_ends_at,
                });
                self.now_serving = *last;
            }
            Event::Admitted {
                number,
                subject,
                visit,
            } => self.admitted(*number, *subject, *visit, when, config),
            Event::VisitEnded { number, visit } => {
                if let Some(over) = self.visits.remove(visit) {
                    self.visit_lengths.ended(over.started, when);
                    self.visit_by_number.remove(number);
                    self.visits_ended_total += 1;
                }
                if let Some(ended) = &mut self.ended {
                    ended.insert(*visit, when);
                }
                self.entries.mark_left(*number);
            }
            Event::ReservationLapsed { visit, .. } => self.give_back(*visit),
            Event::Left { number: arrival } => {
                let number = self.entries.numbering().queue_number(*arrival);
                if self
                    .entries
                    .status(number)
                    .is_some_and(|s| s.is_waiting() && !s.responded())
                    && let Some(call) = self.call_of(number)
                {
                    self.show_up.left(call.at);
                }
                self.lanes.remove(number);
                self.entries.mark_left(number);
            }
            Event::Stock { .. } | Event::Phase { .. } => self.settings.apply_event(event, when),
            Event::Interrupted { since } if self.paused_at.is_none() => {
                self.extend_call_windows(*since, when);
            }
            // Call windows already stand still during a pause. A draw is applied separately, outside this
            // lock, because computing it takes long.
            Event::Interrupted { .. } | Event::Drawn(_) => {}
            Event::Operator { .. } | Event::RateReduced { .. } => self.apply_settings(event, when, at),
            Event::DrawCommitted(committed) => self.draw.committed(committed),
            Event::EntriesClosed(closed) => self.draw.closed(closed, when),
        }
        Ok(())
    }

    fn admitted(&mut self, number: u32, subject: u64, visit: VisitId, when: Timestamp, config: &Config) {
        let arrival = self.entries.numbering().arrival(number);
        if self.entries.subject(arrival).is_none() {
            self.entries.insert(arrival, subject, when.as_millis());
        }
        let status = self.entries.status(number);
        // Only in a replay has the response not been observed before.
        if status.is_some_and(|s| !s.responded()) {
            match self.call_of(number).filter(|call| when <= call.ends_at) {
                Some(call) => {
                    self.entries.mark_responded(number);
                    self.show_up.arrived(call.at);
                }
                None => self.late_admissions_total += 1,
            }
        }
        self.entries.mark_admitted(number);
        self.lanes.remove(number);
        self.admissions_total += 1;
        let admitted = Visit {
            number,
            progress: VisitProgress::Admitted,
            started: when,
            pass_until: when.plus(config.pass_ttl),
            extended_until: when,
        };
        let known = self.visits.entry(visit).or_insert(admitted);
        known.progress = VisitProgress::Admitted;
        let started = known.started;
        self.visit_lengths.admitted(started);
        self.visit_by_number.insert(number, visit);
    }

    /// Extends the call windows that were open between the two moments by the time between them.
    fn extend_call_windows(&mut self, from: Timestamp, to: Timestamp) {
        let lost = to.since(from);
        let open = self.calls.partition_point(|call| call.ends_at < from);
        for call in &mut self.calls[open..] {
            call.ends_at = call.ends_at.plus(lost);
        }
    }

    fn apply_settings(&mut self, event: &Event, when: Timestamp, at: Moment) {
        self.settings.apply_event(event, when);
        self.bucket
            .set_rate(self.settings.rate_effective_per_minute, at.monotonic);
        if self.settings.is_stopped() {
            self.paused_at = self.paused_at.or(Some(when));
        } else if let Some(paused_at) = self.paused_at.take() {
            self.extend_call_windows(paused_at, when);
        }
    }
}
