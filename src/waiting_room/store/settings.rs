//! How a sale's admission is set at one moment: a fold of the journal's events.

use std::sync::Arc;

use crate::{
    kernel::Timestamp,
    waiting_room::{Config, OperatorCommand, admission::policy::slowed, journal::Event},
};

/// How the door is set: by its operators, by the stock, and by how the box office fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// In force: as ordered, less what the box office's state takes away.
    pub rate_per_minute: u32,
    pub rate_ordered: u32,
    /// How many millionths of the ordered rate are taken away while the box office suffers.
    pub slowed_ppm: u32,
    /// When that was last decided.
    pub slowed_at: Option<Timestamp>,
    pub capacity: u32,
    /// By order. See also [`Settings::is_stopped`].
    pub paused: bool,
    pub closed: bool,
    pub sold_out: bool,
    /// A draw has given the line its order.
    pub drawn: bool,
    pub notice: Option<Arc<str>>,
    pub pass_generation: u32,
    /// Orders so far: each is another version of the settings, and the last one counts.
    pub orders: u32,
}

impl Settings {
    /// As a sale begins.
    pub(crate) fn of(config: &Config) -> Self {
        let (rate, capacity) = (config.rate_per_minute, config.capacity);
        Self {
            rate_per_minute: rate,
            rate_ordered: rate,
            capacity,
            ..Self::default()
        }
    }

    /// Nobody is called and nobody enters, and call windows stand still: by order, or because no rate or no capacity is
    /// left to enter by.
    pub(crate) fn is_stopped(&self) -> bool {
        self.paused || self.rate_ordered == 0 || self.capacity == 0
    }

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
