//! What the memory store, and so every mirror, knows of a draw.

use crate::{
    kernel::Timestamp,
    waiting_room::{
        draw::{
            numbering::DrawNumbering,
            progress::{DrawResult, DrawState},
        },
        store::{
            memory::store::MemoryStore,
            port::{DrawStore, JoinGroup, StoreError},
        },
    },
};

impl DrawStore for MemoryStore {
    fn draw(&self) -> DrawState {
        self.state.read().draw.clone()
    }

    fn queue_number(&self, arrival: u32) -> u32 {
        self.state.read().entries.numbering().queue_number(arrival)
    }

    fn arrival(&self, queue_number: u32) -> u32 {
        self.state.read().entries.numbering().arrival(queue_number)
    }

    fn last_arrival_before(&self, at: Timestamp) -> u32 {
        self.state.read().entries.arrived_before(at.as_millis())
    }

    fn subjects_of(&self, first: u32, count: u32) -> Vec<Option<u64>> {
        let state = self.state.read();
        let owner = |arrival| {
            state
                .entries
                .subject(arrival)
                .filter(|_| state.entries.is_journaled(arrival))
        };
        (first..first.saturating_add(count)).map(owner).collect()
    }

    fn is_void_in_draw(&self, arrival: u32) -> bool {
        // On the path of every join: a sale without a draw answers without the lock.
        if self.config.draw.is_none() {
            return false;
        }
        let state = self.state.read();
        state.draw.entries().is_some_and(|entries| arrival <= entries) && !state.entries.is_journaled(arrival)
    }

    fn join_group_of(&self, arrival: u32) -> Option<JoinGroup> {
        let state = self.state.read();
        let (first, count) = state.join_groups.of(arrival)?;
        let until = (first..first + count)
            .filter_map(|arrival| state.entries.joined_at_ms(arrival))
            .max()?;
        Some(JoinGroup {
            first,
            count,
            last_joined_at: Timestamp::from_millis(until),
        })
    }
}

impl MemoryStore {
    /// Numbers the entries, if this result decides the draw. Only the writer applies records, so meanwhile
    /// nothing changes but for joins.
    pub(super) async fn apply_draw(&self, when: Timestamp, drawn: &DrawResult) -> Result<(), StoreError> {
        let Some((draw_seed, entries)) = self.state.read().draw.decided_by(drawn, &self.config.sale) else {
            return Ok(());
        };
        let drawing = tokio::task::spawn_blocking(move || {
            let numbering = DrawNumbering::drawn(&draw_seed, entries);
            (numbering.digest(), numbering)
        });
        let (digest, numbering) = drawing.await.map_err(|_| StoreError::Unavailable)?;
        let mut state = self.state.write();
        state.draw.order = Some(digest);
        state.entries.draw(numbering);
        state.draw.drawn = Some((when, drawn.clone().into()));
        state.settings.drawn = true;
        self.publish_settings(&state);
        Ok(())
    }
}
