//! What the embedded engine, and every node's mirror, knows of a draw.

use crate::{
    kernel::Timestamp,
    waiting_room::{
        draw::{
            numbering::Order,
            progress::{Draw, Drawn},
        },
        store::{
            memory::store::MemoryStore,
            port::{DrawnStore, JoinGroup, StoreError},
        },
    },
};

impl DrawnStore for MemoryStore {
    fn draw(&self) -> Draw {
        self.state.read().draw.clone()
    }

    fn queue_number(&self, arrival: u32) -> u32 {
        self.state.read().fans.order().queue_number(arrival)
    }

    fn arrived_before(&self, at: Timestamp) -> u32 {
        self.state.read().fans.arrived_before(at.as_millis())
    }

    fn owners(&self, first: u32, count: u32) -> Vec<Option<u64>> {
        let state = self.state.read();
        let owner = |arrival| {
            state
                .fans
                .subject(arrival)
                .filter(|_| state.fans.is_written(arrival))
        };
        (first..first.saturating_add(count)).map(owner).collect()
    }

    fn missed_draw(&self, arrival: u32) -> bool {
        // Asked with every join: a sale without a draw answers at once.
        if self.config.draw.is_none() {
            return false;
        }
        let state = self.state.read();
        state.draw.entries().is_some_and(|entries| arrival <= entries) && !state.fans.is_written(arrival)
    }

    fn group_of(&self, arrival: u32) -> Option<JoinGroup> {
        let state = self.state.read();
        let (first, count) = state.groups.of(arrival)?;
        let until = (first..first + count)
            .filter_map(|it| state.fans.joined_at_ms(it))
            .max()?;
        Some(JoinGroup {
            first,
            count,
            until: Timestamp::from_millis(until),
        })
    }
}

impl MemoryStore {
    pub(crate) fn arrival(&self, queue_number: u32) -> u32 {
        self.state.read().fans.order().arrival(queue_number)
    }

    /// Gives the line its order, if this decides the draw. Only the pen applies records, so nothing changes meanwhile but
    /// those who join.
    pub(super) async fn hold_draw(&self, when: Timestamp, drawn: &Drawn) -> Result<(), StoreError> {
        let Some((draw_seed, entries)) = self.state.read().draw.decided_by(drawn, &self.config.sale) else {
            return Ok(());
        };
        let drawing = tokio::task::spawn_blocking(move || {
            let order = Order::drawn(&draw_seed, entries);
            (order.digest(), order)
        });
        let (digest, order) = drawing.await.map_err(|_| StoreError::Away)?;
        let mut state = self.state.write();
        state.draw.order = Some(digest);
        state.fans.draw(order);
        state.draw.drawn = Some((when, drawn.clone().into()));
        state.settings.drawn = true;
        self.tell_settings(&state);
        Ok(())
    }
}
