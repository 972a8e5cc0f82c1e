//! The store in this process's memory.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::RwLock;

use crate::{
    kernel::{Timestamp, VisitId},
    waiting_room::{
        Config, Durability,
        admission::policy::burst_of,
        forecast::visit_length::VisitsOutlook,
        journal::{
            SqliteJournal,
            record::{Join, Stored},
        },
        status::people_ahead::Survivors,
        state::{Counts, Settings, Situation},
        store::{
            memory::{
                ceiling::Ceiling,
                state::{Progress, State, Visit},
            },
            port::{
                EndedVisit, EntryAsk, Finished, Found, Moment, Numbered, PassGrant, QueueStore,
                Reservation, SLOT_GRACE, Standing, StoreError,
            },
        },
    },
};

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

impl MemoryStore {
    pub(crate) fn new(config: Config, epoch: u64, at: Moment) -> Self {
        let state = State::new(&config, at);
        let settings = ArcSwap::from_pointee(state.settings.clone());
        Self {
            config,
            epoch,
            given_before: 0,
            ceiling: None,
            state: RwLock::new(state),
            settings,
        }
    }

    pub(super) fn tell_settings(&self, state: &State) {
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
        for part in records.split_inclusive(|stored| stored.record.drawn().is_some()) {
            {
                let mut state = self.state.write();
                let applied = part
                    .iter()
                    .try_for_each(|stored| state.apply(&stored.record, &self.config, at));
                self.tell_settings(&state);
                applied?;
            }
            if let Some((when, drawn)) = part.last().and_then(|stored| stored.record.drawn()) {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::waiting_room::{store::conformance, tests::TempDir};

    #[tokio::test]
    async fn it_is_an_engine() {
        conformance::holds(async |config| Arc::new(MemoryStore::new(config, 0, conformance::at(0)))).await;
    }

    #[tokio::test]
    async fn it_is_an_engine_where_joins_are_answered_before_they_are_written_down() {
        let (dir, made) = (TempDir::new(), AtomicU32::new(0));
        conformance::holds(async |config| {
            let file = dir
                .path()
                .join(format!("{}.db", made.fetch_add(1, Ordering::Relaxed)));
            let journal = Arc::new(SqliteJournal::open(&file, config.sale.clone()).await.unwrap());
            let config = Config {
                durability: Durability::Acknowledged,
                ..config
            };
            Arc::new(MemoryStore::new(config, 0, conformance::at(0)).beside(journal, 0))
        })
        .await;
    }
}
