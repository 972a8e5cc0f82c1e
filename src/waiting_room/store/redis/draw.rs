//! Of the draw Redis knows nothing: arrivals are numbered and closed by the journal, which each node's mirror follows.

use crate::{
    kernel::Timestamp,
    waiting_room::{
        draw::progress::Draw,
        store::{
            port::{DrawnStore, JoinGroup},
            redis::store::RedisStore,
        },
    },
};

impl DrawnStore for RedisStore {
    fn draw(&self) -> Draw {
        self.mirror.draw()
    }

    fn queue_number(&self, arrival: u32) -> u32 {
        self.mirror.queue_number(arrival)
    }

    fn arrived_before(&self, at: Timestamp) -> u32 {
        self.mirror.arrived_before(at)
    }

    fn owners(&self, first: u32, count: u32) -> Vec<Option<u64>> {
        self.mirror.owners(first, count)
    }

    fn missed_draw(&self, arrival: u32) -> bool {
        self.mirror.missed_draw(arrival)
    }

    fn group_of(&self, arrival: u32) -> Option<JoinGroup> {
        self.mirror.group_of(arrival)
    }
}
