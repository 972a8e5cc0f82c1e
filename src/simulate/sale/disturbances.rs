//! What disturbs a simulated sale: operators' commands, a silent box office, and a restart.

use crate::{
    simulate::{
        checker::Limits,
        sale::{BEFORE_MS, Sale, TICK_MS, moment, whole},
        scenarios::Disturbance,
    },
    waiting_room::{
        admission::call_policy::burst_of,
        forecast::wait_model::WaitModel,
        journal::record::Event,
        store::{
            memory::store::MemoryStore,
            port::{QueueStore, StoreError},
        },
        types::OperatorCommand,
    },
};

impl Sale<'_> {
    /// Applies the disturbances that are due.
    pub(super) async fn disturb(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let after_ms = now_ms.saturating_sub(BEFORE_MS);
        while let Some((_, disturbance)) = self
            .disturbances
            .front()
            .copied()
            .filter(|(at_ms, _)| *at_ms <= after_ms)
        {
            self.disturbances.pop_front();
            let times = |of: u32, factor: f64| whole(f64::from(of) * factor).max(1);
            match disturbance {
                Disturbance::Pause => {
                    self.carry_out(OperatorCommand::Pause, now_ms).await?;
                    self.timeline.checker.pause(now_ms);
                }
                Disturbance::Resume => {
                    self.carry_out(OperatorCommand::Resume, now_ms).await?;
                    self.timeline.checker.resume(now_ms);
                }
                Disturbance::Rate(factor) => {
                    let per_minute = times(self.config.admission_rate_per_minute, factor);
                    self.carry_out(OperatorCommand::SetAdmissionRate { per_minute }, now_ms)
                        .await?;
                }
                Disturbance::Capacity(factor) => {
                    let visitors = times(self.config.active_visits_max, factor);
                    self.carry_out(OperatorCommand::SetActiveVisitsMax { visits: visitors }, now_ms)
                        .await?;
                }
                Disturbance::BoxOfficeSilent(seconds) => {
                    self.silent_until_ms = now_ms + u64::from(whole(seconds * 1_000.0));
                }
                Disturbance::Restart(seconds) => self.restart(now_ms, u64::from(whole(seconds * 1_000.0))),
            }
        }
        if self.away_until_ms == now_ms && now_ms > 0 {
            self.come_back(now_ms).await?;
        }
        Ok(())
    }

    /// Carries out an operator's command.
    pub(super) async fn carry_out(
        &mut self,
        command: OperatorCommand,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.happened(
            Event::Operator {
                command,
                operator: None,
            },
            now_ms,
        )
        .await?;
        let settings = self.store.settings();
        let (capacity, rate_per_minute) = (settings.active_visits_max, settings.rate_effective_per_minute);
        self.timeline.checker.set_limits(
            Limits {
                capacity,
                rate_per_minute,
                burst: burst_of(rate_per_minute, self.config.admission_burst),
            },
            now_ms,
        );
        Ok(())
    }

    /// The waiting room is down; no request is answered until it is back.
    pub(super) fn restart(&mut self, now_ms: u64, for_ms: u64) {
        self.away_until_ms = (now_ms + for_ms).next_multiple_of(TICK_MS);
        // It is not known who came after the last record: call windows stand still from there on.
        self.timeline.checker.pause(self.away_since_ms(now_ms));
    }

    /// Replays the journal, as a waiting room does when it is opened.
    pub(super) async fn come_back(&mut self, now_ms: u64) -> Result<(), StoreError> {
        let at = moment(now_ms);
        self.store = MemoryStore::new(self.config.clone(), 0, at);
        self.store
            .apply(self.journal.as_deref().unwrap_or_default(), at)
            .await?;
        let since = moment(self.away_since_ms(now_ms)).now;
        self.happened(Event::Interrupted { since }, now_ms).await?;
        self.store.finish_replay(at).await?;
        self.wait_model = WaitModel::default();
        self.admission = None;
        self.timeline.checker.resume(now_ms);
        Ok(())
    }

    /// When the last record was written.
    pub(super) fn away_since_ms(&self, now_ms: u64) -> u64 {
        let last = self
            .journal
            .as_ref()
            .and_then(|journal| journal.last())
            .and_then(|stored| stored.record.at());
        last.map_or(now_ms, |at| {
            u64::try_from(at.as_millis() - moment(0).now.as_millis()).unwrap_or(now_ms)
        })
    }
}
