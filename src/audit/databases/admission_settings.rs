//! Settings of admission over time: as configured, as changed by operators, and slowed down while the box
//! office was overloaded.

use std::time::Duration;

use serde_json::Value;

use crate::audit::evidence::AdmissionSettings;
use crate::kernel::Timestamp;

/// A command takes effect everywhere within this time after it was recorded. Until then the settings before
/// are valid too.
const EFFECTIVE_WITHIN: Duration = Duration::from_secs(1);

/// The settings, and when each part of them was changed.
pub(crate) struct AdmissionHistory {
    active_visits_max: u64,
    rate_commanded: u64,
    reduction_ppm: u64,
    /// From when, limit of active visits, rate in force.
    settings: Vec<(Timestamp, u64, u64)>,
}

impl AdmissionHistory {
    pub(crate) fn configured(active_visits_max: u32, rate_per_minute: u32) -> Self {
        let (active_visits_max, rate) = (u64::from(active_visits_max), u64::from(rate_per_minute));
        Self {
            active_visits_max,
            rate_commanded: rate,
            reduction_ppm: 0,
            settings: vec![(Timestamp::default(), active_visits_max, rate)],
        }
    }

    pub(crate) fn apply(&mut self, at: Timestamp, event: &Value) {
        let command = &event["command"];
        match (event["kind"].as_str(), command["command"].as_str()) {
            (Some("operator"), Some("set_admission_rate")) => {
                self.rate_commanded = command["per_minute"].as_u64().unwrap_or(self.rate_commanded);
            }
            (Some("operator"), Some("set_active_visits_max")) => {
                self.active_visits_max = command["visits"].as_u64().unwrap_or(self.active_visits_max);
            }
            (Some("rate_reduced"), _) => {
                self.reduction_ppm = event["by_ppm"].as_u64().unwrap_or(0).min(1_000_000);
            }
            _ => return,
        }
        let effective = self.rate_commanded * (1_000_000 - self.reduction_ppm) / 1_000_000;
        self.settings.push((
            at,
            self.active_visits_max,
            effective.max(self.rate_commanded.min(1)),
        ));
    }

    /// At each moment the loosest of what was in force within the last second.
    pub(crate) fn settings(&self, burst: Option<u32>) -> Vec<AdmissionSettings> {
        let clamp = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let mut moments: Vec<Timestamp> = self
            .settings
            .iter()
            .flat_map(|(at, ..)| [*at, at.plus(EFFECTIVE_WITHIN)])
            .collect();
        moments.sort_unstable();
        moments.dedup();
        let loosest = |from: Timestamp| {
            let first = self
                .settings
                .partition_point(|(at, ..)| at.plus(EFFECTIVE_WITHIN) <= from)
                .saturating_sub(1);
            let live = || self.settings[first..].iter().take_while(|(at, ..)| *at <= from);
            let active_visits_max = clamp(
                live()
                    .map(|(_, active_visits_max, _)| *active_visits_max)
                    .max()
                    .unwrap_or(0),
            );
            let rate_per_minute = clamp(live().map(|(.., rate)| *rate).max().unwrap_or(0));
            AdmissionSettings {
                from,
                active_visits_max,
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
    fn stricter_settings_apply_a_second_later_and_looser_at_once() {
        let at = Timestamp::from_secs;
        let mut history = AdmissionHistory::configured(100, 600);
        history.apply(
            at(10),
            &json!({"kind": "operator", "command": {"command": "set_admission_rate", "per_minute": 60}}),
        );
        history.apply(
            at(20),
            &json!({
                "kind": "operator",
                "command": {"command": "set_active_visits_max", "visits": 200},
                "operator": "kim",
            }),
        );
        history.apply(at(30), &json!({"kind": "rate_reduced", "by_ppm": 500_000}));
        history.apply(
            at(30),
            &json!({"kind": "operator", "command": {"command": "pause"}}),
        );
        let found: Vec<_> = history
            .settings(None)
            .iter()
            .map(|settings| {
                (
                    settings.from.as_secs(),
                    settings.active_visits_max,
                    settings.rate_per_minute,
                    settings.burst,
                )
            })
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
        assert_eq!(found, expected);
    }
}
