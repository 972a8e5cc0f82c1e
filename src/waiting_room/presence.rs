//! Who near the front is still there: asked of those who are called soon, so that operators see an empty line coming.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;

/// How far behind the last called number presence is taken down; it bounds the memory too.
const NEAR: u32 = 4_096;
/// Not heard of for so long counts as gone.
const SILENCE: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub(super) struct Presence {
    /// number -> when last heard of
    seen: Mutex<BTreeMap<u32, Duration>>,
}

impl Presence {
    /// She is there. Whoever is far from the front is not taken down.
    pub(super) fn present(&self, number: u32, now_serving: u32, monotonic: Duration) {
        if number > now_serving && number - now_serving <= NEAR {
            self.seen.lock().insert(number, monotonic);
        }
    }

    /// How many of the next few thousand have been heard of within a minute.
    pub(super) fn near(&self, now_serving: u32, monotonic: Duration) -> u32 {
        let mut seen = self.seen.lock();
        seen.retain(|&number, &mut at| number > now_serving && monotonic.saturating_sub(at) <= SILENCE);
        u32::try_from(seen.len()).unwrap_or(NEAR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_near_the_front_and_lately_heard_of_count() {
        let presence = Presence::default();
        let at = Duration::from_secs;
        for number in [5, 11, 12, 12, 4_106, 4_107] {
            presence.present(number, 10, at(0));
        }
        assert_eq!(presence.near(10, at(1)), 3);
        presence.present(12, 10, at(50));
        assert_eq!(presence.near(11, at(61)), 1);
        assert_eq!(presence.near(12, at(61)), 0);
    }
}
