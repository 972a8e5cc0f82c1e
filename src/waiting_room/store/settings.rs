//! How a sale's admission is set at one moment: a fold of the journal's events.

use crate::{
    kernel::Timestamp,
    waiting_room::{admission::policy::slowed, journal::record::Event, state::Settings, types::OperatorCommand},
};

impl Settings {
    /// What a journaled event changes of them.
    pub(crate) fn follow(&mut self, event: &Event, when: Timestamp) {
        match event {
            Event::Operator { command, .. } => {
                self.orders += 1;
                self.ordered(command);
            }
            Event::Slowed { by_ppm } => {
                self.slowed_ppm = *by_ppm;
                self.slowed_at = Some(when);
            }
            Event::Stock { sold_out } => self.sold_out = *sold_out,
            _ => return,
        }
        self.rate_per_minute = slowed(self.rate_ordered, self.slowed_ppm);
    }

    fn ordered(&mut self, command: &OperatorCommand) {
        match command {
            OperatorCommand::Pause => self.paused = true,
            OperatorCommand::Resume => self.paused = false,
            OperatorCommand::Rate { per_minute } => self.rate_ordered = *per_minute,
            OperatorCommand::Capacity { visitors } => self.capacity = *visitors,
            OperatorCommand::Notice { text } => self.notice = text.as_deref().map(Into::into),
            OperatorCommand::Close => self.closed = true,
            OperatorCommand::RevokePasses => self.pass_generation += 1,
        }
    }
}
