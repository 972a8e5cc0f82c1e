//! How the door was set over time: as configured, as operators ordered, and slowed while the box office suffered.

use std::time::Duration;

use serde_json::Value;

use crate::audit::DoorSetting;
use crate::kernel::Timestamp;

/// An order holds everywhere within so long after it was written down; until then what was before is right too.
const HOLDS_WITHIN: Duration = Duration::from_secs(1);

/// The door's setting, and when each part of it was changed.
pub(crate) struct DoorOverTime {
    capacity: u64,
    rate_ordered: u64,
    slowed_ppm: u64,
    /// From when, capacity, rate in force.
    settings: Vec<(Timestamp, u64, u64)>,
}

impl DoorOverTime {
    pub(crate) fn configured(capacity: u32, rate_per_minute: u32) -> Self {
        let (capacity, rate) = (u64::from(capacity), u64::from(rate_per_minute));
        Self {
            capacity,
            rate_ordered: rate,
            slowed_ppm: 0,
            settings: vec![(Timestamp::default(), capacity, rate)],
        }
    }

    pub(crate) fn saw(&mut self, at: Timestamp, event: &Value) {
        let order = &event["command"];
        match (event["kind"].as_str(), order["order"].as_str()) {
            (Some("operator"), Some("rate")) => {
                self.rate_ordered = order["per_minute"].as_u64().unwrap_or(self.rate_ordered)
            }
            (Some("operator"), Some("capacity")) => {
                self.capacity = order["visitors"].as_u64().unwrap_or(self.capacity)
            }
            (Some("slowed"), _) => self.slowed_ppm = event["by_ppm"].as_u64().unwrap_or(0).min(1_000_000),
            _ => return,
        }
        let left = self.rate_ordered * (1_000_000 - self.slowed_ppm) / 1_000_000;
        self.settings
            .push((at, self.capacity, left.max(self.rate_ordered.min(1))));
    }

    /// At each moment the loosest of what was in force within the last second.
    pub(crate) fn settings(&self, burst: Option<u32>) -> Vec<DoorSetting> {
        let number = |it: u64| u32::try_from(it).unwrap_or(u32::MAX);
        let mut moments: Vec<Timestamp> = self
            .settings
            .iter()
            .flat_map(|(at, ..)| [*at, at.plus(HOLDS_WITHIN)])
            .collect();
        moments.sort_unstable();
        moments.dedup();
        let loosest = |from: Timestamp| {
            let first = self
                .settings
                .partition_point(|(at, ..)| at.plus(HOLDS_WITHIN) <= from)
                .saturating_sub(1);
            let live = || self.settings[first..].iter().take_while(|(at, ..)| *at <= from);
            let capacity = number(live().map(|(_, capacity, _)| *capacity).max().unwrap_or(0));
            let rate_per_minute = number(live().map(|(.., rate)| *rate).max().unwrap_or(0));
            DoorSetting {
                from,
                capacity,
                rate_per_minute,
                burst: burst.unwrap_or_else(|| rate_per_minute.div_ceil(60)).max(1),
            }
        };
        moments.into_iter().map(loosest).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stricter_order_binds_a_second_later_and_a_looser_one_at_once() {
        let at = Timestamp::from_secs;
        let mut door = DoorOverTime::configured(100, 600);
        door.saw(
            at(10),
            &json!({"kind": "operator", "command": {"order": "rate", "per_minute": 60}}),
        );
        door.saw(
            at(20),
            &json!({"kind": "operator", "command": {"order": "capacity", "visitors": 200}, "by": "kim"}),
        );
        door.saw(at(30), &json!({"kind": "slowed", "by_ppm": 500_000}));
        door.saw(
            at(30),
            &json!({"kind": "operator", "command": {"order": "pause"}}),
        );
        let said: Vec<_> = door
            .settings(None)
            .iter()
            .map(|it| (it.from.as_secs(), it.capacity, it.rate_per_minute, it.burst))
            .collect();
        let expected = [
            (0, 100, 600, 10),
            (1, 100, 600, 10),
            (10, 100, 600, 10),
            (11, 100, 60, 1),
            (20, 200, 60, 1),
            (21, 200, 60, 1),
            (30, 200, 60, 1),
            (31, 200, 30, 1),
        ];
        assert_eq!(said, expected);
    }
}
