//! Of the draw Redis knows nothing: arrivals are numbered and closed by the journal, which each node's mirror
//! follows.

use crate::{
    kernel::Timestamp,
    waiting_room::{
        draw::progress::DrawState,
        store::{
            port::{DrawStore, JoinGroup},
            redis::store::RedisStore,
        },
    },
};

impl DrawStore for RedisStore {
    fn draw(&self) -> DrawState {
        self.mirror.draw()
    }

    fn queue_number(&self, arrival: u32) -> u32 {
        self.mirror.queue_number(arrival)
    }

    fn arrival(&self, queue_number: u32) -> u32 {
        self.mirror.arrival(queue_number)
    }

    fn last_arrival_before(&self, at: Timestamp) -> u32 {
        self.mirror.last_arrival_before(at)
    }

    fn subjects_of(&self, first: u32, count: u32) -> Vec<Option<u64>> {
        self.mirror.subjects_of(first, count)
    }

    fn is_void_in_draw(&self, arrival: u32) -> bool {
        self.mirror.is_void_in_draw(arrival)
    }

    fn join_group_of(&self, arrival: u32) -> Option<JoinGroup> {
        self.mirror.join_group_of(arrival)
    }
}
