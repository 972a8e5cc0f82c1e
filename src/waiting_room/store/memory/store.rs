//! The memory store: lock, constructor, and the port's methods.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::RwLock;

use crate::{
    kernel::{Timestamp, VisitId},
    waiting_room::{
        admission::call_policy::burst_of,
        forecast::visit_length::VisitForecast,
        journal::{
            record::{Join, StoredRecord},
            sqlite::SqliteJournal,
        },
        state::{AdmissionState, Counts, Settings},
        status::people_ahead::PeopleAhead,
        store::{
            entries::EntryStatus,
            memory::{
                number_ceiling::Ceiling,
                state::{State, Visit, VisitProgress},
            },
            port::{
                Assigned, EndReason, EndedVisit, KnownEntry, Moment, NumberState, PassGrant, QueueStore,
                Reservation, SLOT_GRACE, SlotRequest, StoreError,
            },
        },
        types::{Config, Durability},
    },
};

/// One sale's store in this process's memory.
#[derive(Debug)]
pub(crate) struct MemoryStore {
    pub(super) config: Config,
    /// Records are written under this epoch; a second process on the same journal has another.
    epoch: u64,
    /// An earlier process may have assigned numbers up to this one without journaling them.
    possibly_assigned: u32,
    /// Present where joins are answered before they are journaled.
    ceiling: Option<Ceiling>,
    pub(super) state: RwLock<State>,
    /// A copy of the settings that requests read without the lock.
    settings: ArcSwap<Settings>,
}

impl MemoryStore {
    /// An empty store.
    pub(crate) fn new(config: Config, epoch: u64, at: Moment) -> Self {
        let state = State::new(&config, at);
        let settings = ArcSwap::from_pointee(state.settings.clone());
        Self {
            config,
            epoch,
            possibly_assigned: 0,
            ceiling: None,
            state: RwLock::new(state),
            settings,
        }
    }

    pub(super) fn publish_settings(&self, state: &State) {
        if **self.settings.load() != state.settings {
            self.settings.store(Arc::new(state.settings.clone()));
        }
    }

    /// Advances what is measured over time: show rate, visit lengths, departures.
    pub(crate) fn observe(&self, at: Moment) {
        let mut state = self.state.write();
        state.show_up.observe(at.now);
        state.visit_lengths.observe(at.now);
        let ended = state.visits_ended_total;
        state.departure_rate.observe(ended, at.monotonic);
        state.lanes.drop_lapsed(at.monotonic);
    }

    /// How many of those called are expected to claim a slot any moment.
    pub(crate) fn expected_arrivals(&self) -> f64 {
        self.state.read().show_up.forecast().expected_arrivals
    }

    /// Up to `possibly_assigned` numbers may have been given and not been written down in this journal; more
    /// may be, where joins are answered before that.
    pub(crate) fn with_journal(self, journal: Arc<SqliteJournal>, possibly_assigned: u32) -> Self {
        let is_early = self.config.durability == Durability::Async;
        let ceiling =
            is_early.then(|| Ceiling::new(journal, possibly_assigned, self.config.queue_entries_max));
        Self {
            possibly_assigned,
            ceiling,
            ..self
        }
    }
}

#[async_trait]
impl QueueStore for MemoryStore {
    async fn assign_number(&self, join: Join) -> Result<Assigned, StoreError> {
        let Some(ceiling) = &self.ceiling else {
            return Ok(self.state.write().number(join, self.config.queue_entries_max));
        };
        loop {
            let allowed = ceiling.allowed();
            let numbered = self.state.write().number(join, allowed);
            match numbered {
                Assigned::Full if allowed < self.config.queue_entries_max => {
                    ceiling.raise_above(allowed).await?;
                }
                Assigned::New(entry) => {
                    ceiling.raise_early(entry.number).await;
                    return Ok(numbered);
                }
                numbered => return Ok(numbered),
            }
        }
    }

    async fn abandon_number(&self, subject: u64, arrival: u32) -> Result<(), StoreError> {
        let mut state = self.state.write();
        if state.entries.subject(arrival) == Some(subject) && !state.entries.is_journaled(arrival) {
            state.entries.void(arrival);
        }
        Ok(())
    }

    async fn apply(&self, records: &[StoredRecord], at: Moment) -> Result<(), StoreError> {
        for part in records.split_inclusive(|stored| stored.record.drawn().is_some()) {
            {
                let mut state = self.state.write();
                let applied = part
                    .iter()
                    .try_for_each(|stored| state.apply(&stored.record, &self.config, at));
                self.publish_settings(&state);
                applied?;
            }
            if let Some((when, drawn)) = part.last().and_then(|stored| stored.record.drawn()) {
                self.apply_draw(when, drawn).await?;
            }
        }
        Ok(())
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    async fn finish_replay(&self, at: Moment) -> Result<(), StoreError> {
        let mut state = self.state.write();
        state
            .entries
            .extend_to(self.possibly_assigned, at.now.as_millis());
        state.show_up.resume(at.now);
        state.visit_lengths.resume(at.now);
        let fresh_until = at.now.plus(self.config.pass_ttl);
        for visit in state.visits.values_mut() {
            visit.pass_until = fresh_until
                .min(visit.started.plus(self.config.visit_max))
                .max(at.now);
        }
        Ok(())
    }

    async fn reserve_slot(&self, ask: &SlotRequest, at: Moment) -> Result<Reservation, StoreError> {
        Ok(self.state.write().reserve(ask, &self.config, at))
    }

    async fn release_slot(&self, visit: VisitId) -> Result<(), StoreError> {
        self.state.write().give_back(visit);
        Ok(())
    }

    async fn grant_pass(&self, visit: VisitId, now: Timestamp) -> Result<Option<PassGrant>, StoreError> {
        let mut state = self.state.write();
        let generation = state.settings.pass_generation;
        let Some(visit) = state
            .visits
            .get_mut(&visit)
            .filter(|v| v.progress == VisitProgress::Admitted)
        else {
            return Ok(None);
        };
        let limit = visit
            .started
            .plus(self.config.visit_max)
            .max(visit.extended_until);
        if now >= limit {
            return Ok(None);
        }
        let expires_at = now.plus(self.config.pass_ttl).min(limit);
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
            if visit.progress == VisitProgress::Admitted {
                visit.progress = VisitProgress::Ending;
                ended.push(EndedVisit {
                    visit: id,
                    number: visit.number,
                    reason: EndReason::Ended,
                });
            }
        };
        for id in named {
            if let Some(visit) = state.visits.get_mut(id) {
                end(*id, visit);
            }
        }
        for (id, visit) in &mut state.visits {
            if now >= visit.pass_until.max(visit.extended_until).plus(SLOT_GRACE) {
                end(*id, visit);
            }
        }
        // A hash map has no order, and the journal should be the same on every run.
        ended.sort_unstable_by_key(|e| e.number);
        Ok(ended)
    }

    async fn reopen_visits(&self, ended: &[EndedVisit]) -> Result<(), StoreError> {
        let mut state = self.state.write();
        for end in ended {
            if let Some(visit) = state
                .visits
                .get_mut(&end.visit)
                .filter(|v| v.progress == VisitProgress::Ending)
            {
                visit.progress = VisitProgress::Admitted;
            }
        }
        Ok(())
    }

    async fn sync_state(&self, at: Moment) -> Result<(), StoreError> {
        self.observe(at);
        Ok(())
    }

    fn admission_state(&self, at: Moment) -> AdmissionState {
        let state = self.state.read();
        let (claimants, late_arrivals) = state.lanes.live_counts(at.monotonic);
        AdmissionState {
            calling: !state.settings.is_stopped() && !state.settings.sold_out,
            uncalled: state.entries.issued().saturating_sub(state.now_serving),
            active_visits_max: state.settings.active_visits_max,
            active_visits: state.active(),
            rate_per_minute: state.settings.rate_effective_per_minute,
            permits: state.bucket.permits(at.monotonic),
            burst: burst_of(
                state.settings.rate_effective_per_minute,
                self.config.admission_burst,
            ),
            departures_per_s: state.departure_rate.per_s(),
            claimants,
            late_arrivals,
            late_arrival_share: self.config.late_arrival_share,
            show_forecast: state.show_up.forecast(),
            seats_free: None,
            box_office_silent: false,
            is_caller: true,
        }
    }

    async fn number_after(&self, count: u32) -> Result<u32, StoreError> {
        let state = self.state.read();
        Ok(state.entries.number_after(state.now_serving, count))
    }

    fn find_by_subject(&self, subject: u64) -> Option<KnownEntry> {
        let state = self.state.read();
        state
            .entry(subject)
            .filter(|entry| state.entries.is_journaled(entry.number))
    }

    fn subject_of(&self, number: u32) -> Option<u64> {
        let state = self.state.read();
        state
            .entries
            .subject(number)
            .filter(|_| state.entries.is_journaled(number))
    }

    fn belongs_to(&self, number: u32, subject: u64) -> bool {
        let state = self.state.read();
        match state.entries.subject(number) {
            Some(owner) => owner == subject,
            // Another node has just journaled it; or it was answered before it was journaled, and stands
            // though it was lost.
            None => {
                state.ended.is_some()
                    || self.config.durability == Durability::Async
                    || number <= self.possibly_assigned
            }
        }
    }

    fn entry_state(&self, number: u32, at: Moment) -> NumberState {
        self.state.read().standing(number, at)
    }

    fn is_person_waiting(&self, number: u32) -> bool {
        let status = self.state.read().entries.status(number);
        status.is_some_and(EntryStatus::is_waiting)
    }

    fn visit_of(&self, number: u32) -> Option<VisitId> {
        self.state.read().visit_by_number.get(&number).copied()
    }

    fn is_admitted(&self, visit: VisitId, generation: u32) -> bool {
        let state = self.state.read();
        let goes_on = match (state.visits.get(&visit), &state.ended) {
            (Some(visit), _) => visit.progress == VisitProgress::Admitted,
            (None, Some(ended)) => !ended.contains_key(&visit),
            (None, None) => false,
        };
        goes_on && generation >= state.settings.pass_generation
    }

    fn extend_visit(&self, visit: VisitId, until: Timestamp) {
        if let Some(visit) = self.state.write().visits.get_mut(&visit) {
            visit.extended_until = visit.extended_until.max(until);
        }
    }

    fn settings(&self) -> Settings {
        Settings::clone(&self.settings.load())
    }

    fn now_serving(&self) -> u32 {
        self.state.read().now_serving
    }

    fn people_ahead(&self) -> PeopleAhead {
        let state = self.state.read();
        state.entries.people_ahead(state.now_serving)
    }

    fn heartbeat_sample(&self, near: u32) -> Vec<u32> {
        let state = self.state.read();
        state.entries.heartbeat_sample(state.now_serving, near)
    }

    fn counts(&self, at: Moment) -> Counts {
        let state = self.state.read();
        let (claimants, late_arrivals) = state.lanes.live_counts(at.monotonic);
        let over = state.calls.partition_point(|call| call.ends_at < at.now);
        let over_upto = over.checked_sub(1).map_or(0, |last| state.calls[last].last);
        Counts {
            numbers_issued: state.entries.issued(),
            now_serving: state.now_serving,
            active_visits: state.active(),
            claimants,
            late_arrivals,
            waiting: state.entries.waiting_between(state.now_serving, u32::MAX),
            missed: state.entries.waiting_between(0, over_upto),
            admissions_total: state.admissions_total,
            late_admissions_total: state.late_admissions_total,
            visits_ended_total: state.visits_ended_total,
        }
    }

    fn visit_lengths(&self, now: Timestamp) -> VisitForecast {
        self.state.read().visit_lengths.forecast(now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::waiting_room::store::conformance;
    use crate::waiting_room::tests::{TempDir, open_journal};

    #[tokio::test]
    async fn the_memory_store_meets_the_contract() {
        conformance::holds(async |config| Arc::new(MemoryStore::new(config, 0, conformance::at(0)))).await;
    }

    #[tokio::test]
    async fn async_joins_meet_the_contract() {
        let (dir, made) = (TempDir::new(), AtomicU32::new(0));
        conformance::holds(async |config| {
            let name = format!("{}.db", made.fetch_add(1, Ordering::Relaxed));
            let file = dir.path().join(name);
            let journal = open_journal(&file, &config.sale).await;
            let config = Config {
                durability: Durability::Async,
                ..config
            };
            Arc::new(MemoryStore::new(config, 0, conformance::at(0)).with_journal(journal, 0))
        })
        .await;
    }
}
