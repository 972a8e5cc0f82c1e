//! How a sale's admission is set at one moment: a fold of the journal's events.

use crate::{
    kernel::Timestamp,
    waiting_room::{
        admission::call_policy::effective_rate,
        journal::record::Event,
        state::Settings,
        types::{CLOSE_DELAY, Milestones, OperatorCommand, Phase},
    },
};

impl Milestones {
    /// The sale has entered a phase. A node that starts journals the phase once more: the first one counts.
    fn reach(&mut self, phase: Phase, when: Timestamp) {
        match phase {
            Phase::Scheduled | Phase::Prequeue | Phase::Drawing | Phase::Paused => {}
            Phase::OnSale => {
                self.opened_at.get_or_insert(when);
            }
            Phase::SoldOut => {
                self.opened_at.get_or_insert(when);
                self.sold_out_at.get_or_insert(when);
            }
            Phase::Closed => {
                self.closed_at.get_or_insert(when);
            }
        }
    }
}

impl Settings {
    /// Applies a journaled event.
    pub(crate) fn apply_event(&mut self, event: &Event, when: Timestamp) {
        match event {
            Event::Operator { command, .. } => {
                self.commands += 1;
                self.apply_command(command, when);
            }
            Event::RateReduced { by_ppm } => {
                self.rate_reduction_ppm = *by_ppm;
                self.rate_reduced_at = Some(when);
            }
            Event::Stock { sold_out } => {
                self.sold_out = *sold_out;
                if *sold_out && self.milestones.opened_at.is_some() {
                    self.milestones.sold_out_at.get_or_insert(when);
                }
            }
            Event::Phase { phase } => self.milestones.reach(*phase, when),
            _ => return,
        }
        self.rate_effective_per_minute =
            effective_rate(self.rate_configured_per_minute, self.rate_reduction_ppm);
    }

    fn apply_command(&mut self, command: &OperatorCommand, when: Timestamp) {
        match command {
            OperatorCommand::Pause => self.paused = true,
            OperatorCommand::Resume => self.paused = false,
            OperatorCommand::SetAdmissionRate { per_minute } => self.rate_configured_per_minute = *per_minute,
            OperatorCommand::SetActiveVisitsMax { visits: visitors } => self.active_visits_max = *visitors,
            OperatorCommand::Notice { text } => self.notice = text.as_deref().map(Into::into),
            OperatorCommand::Close { .. } => {
                self.closes_at.get_or_insert(when.plus(CLOSE_DELAY));
            }
            // A sale that has closed stays closed: the journal's time decides.
            OperatorCommand::WithdrawClose => self.closes_at = self.closes_at.filter(|at| *at <= when),
            OperatorCommand::RevokePasses => self.pass_generation += 1,
        }
    }
}
