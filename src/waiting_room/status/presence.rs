//! Presence: which visitors have their page open, measured on a sample near the front and a smaller one
//! further back.
//!
//! Waiting must cost the origin nothing, so few visitors send heartbeats, seldom: of those who are called
//! within two minutes one in eight, once a minute; of the others one in 128, again after an eighth of the
//! wait that lies before them. On average a visitor sends 0.25 heartbeats near the front and, as an eighth of
//! the remaining wait makes some 8 ln(wait / 8 min) heartbeats, 0.3 in a wait of eight hours: fewer than one,
//! whatever the wait.
//!
//! The sample follows from a hash in the queue token, so that no visitor chooses it, and from the masks in
//! the status, so that a browser knows without asking.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::kernel::Timestamp;

/// Near the front, visitors whose sample has these bits clear send heartbeats.
const NEAR_MASK: u16 = 7;
/// Further back, those with these bits clear. It includes the bits of the other mask: who is in the far
/// sample is in the near one.
const FAR_MASK: u16 = 127;
/// Numbers near the front at most, whatever the rate.
const NEAR_MAX: u32 = 4_096;
const NEAR_MIN: u32 = 32;
const NEAR_AGAIN: Duration = Duration::from_mins(1);
const FAR_AGAIN_MAX: Duration = Duration::from_hours(1);
/// A visitor counts as away when so many times the announced pause has passed without a heartbeat.
const PATIENCE: f64 = 2.5;
/// With fewer visitors in the sample nothing is concluded.
const ASKED_MIN: u32 = 8;
/// A block reaches so many times as far as the one before.
const BLOCK_GROWS: u32 = 4;

/// The part of a token that decides whether its holder sends heartbeats.
pub(crate) const fn sample_of(subject_hash: u64) -> u16 {
    // The low bits choose the store's buckets.
    (subject_hash >> 48) as u16
}

/// Whether the holder sends heartbeats wherever they stand.
pub(crate) const fn in_far_sample(subject_hash: u64) -> bool {
    sample_of(subject_hash) & FAR_MASK == 0
}

/// Whether the holder sends heartbeats near the front.
pub(crate) const fn in_near_sample(subject_hash: u64) -> bool {
    sample_of(subject_hash) & NEAR_MASK == 0
}

/// How many numbers behind the last called one count as near the front: some two minutes' worth.
pub(crate) fn near_distance(rate_per_minute: u32) -> u32 {
    rate_per_minute.saturating_mul(2).clamp(NEAR_MIN, NEAR_MAX)
}

/// Pause until the next heartbeat of a visitor who stands `distance` numbers behind the last called one;
/// `None`: not in the sample.
pub(crate) fn next_heartbeat_in(
    subject_hash: u64,
    distance: u32,
    near: u32,
    wait_s: Option<u32>,
) -> Option<Duration> {
    if distance <= near {
        return in_near_sample(subject_hash).then_some(NEAR_AGAIN);
    }
    let eighth = wait_s.map_or(NEAR_AGAIN, |wait_s| Duration::from_secs(u64::from(wait_s / 8)));
    in_far_sample(subject_hash).then(|| eighth.clamp(NEAR_AGAIN, FAR_AGAIN_MAX))
}

/// Presence as the status shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct PresenceStatus {
    /// Numbers behind the last called one that are near the front.
    pub near_distance: u32,
    /// Visitors whose `heartbeat_sample` has these bits clear send heartbeats near the front.
    pub near_mask: u16,
    /// The same further back.
    pub far_mask: u16,
    /// Of those who stand up to so many numbers behind the last called one (and behind the row before), how
    /// many in a hundred are online. Empty where too few are in the sample.
    #[schema(value_type = Vec<(u32, u32)>)]
    pub online: Vec<OnlineShare>,
}

/// Share of online visitors up to a distance; on the wire `[numbers, percent]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(u32, u32)", from = "(u32, u32)")]
pub(crate) struct OnlineShare {
    /// Numbers behind the last called one.
    pub upto: u32,
    /// Online visitors of a hundred.
    pub percent: u32,
}

impl From<(u32, u32)> for OnlineShare {
    fn from((upto, percent): (u32, u32)) -> Self {
        Self { upto, percent }
    }
}

impl From<OnlineShare> for (u32, u32) {
    fn from(OnlineShare { upto, percent }: OnlineShare) -> Self {
        (upto, percent)
    }
}

/// A heartbeat: its sender counts as online until `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    /// Queue number of the sender.
    pub number: u32,
    /// Until when the sender counts as online.
    pub until: Timestamp,
}

/// Heartbeats of one sale, from all nodes.
#[derive(Debug, Default)]
pub(crate) struct Presence(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Queue number -> until when its holder counts as online. As many as are in the sample.
    until: BTreeMap<u32, Timestamp>,
    /// Heartbeats received here since they were last shared.
    news: BTreeMap<u32, Timestamp>,
}

impl Presence {
    /// Records a heartbeat; the next is due in `again_in`.
    pub(crate) fn record(&self, number: u32, now: Timestamp, again_in: Duration) {
        let mut known = self.0.lock();
        let until = now.plus(again_in.mul_f64(PATIENCE));
        known.until.insert(number, until);
        known.news.insert(number, until);
    }

    /// Heartbeats received here since this was last called.
    pub(crate) fn take_unshared(&self) -> Vec<Heartbeat> {
        let news = std::mem::take(&mut self.0.lock().news);
        news.into_iter()
            .map(|(number, until)| Heartbeat { number, until })
            .collect()
    }

    /// Takes in the heartbeats of other nodes.
    pub(crate) fn merge(&self, heard: &[Heartbeat]) {
        let mut known = self.0.lock();
        for &Heartbeat { number, until } in heard {
            let kept = known.until.entry(number).or_insert(until);
            *kept = until.max(*kept);
        }
    }

    /// Presence for the status: `asked` are the queue numbers in the sample, in order; the queue goes on to
    /// `last`.
    pub(crate) fn status(
        &self,
        asked: &[u32],
        now_serving: u32,
        last: u32,
        near: u32,
        now: Timestamp,
    ) -> PresenceStatus {
        let mut known = self.0.lock();
        known
            .until
            .retain(|&number, until| number > now_serving && *until >= now);
        let mut online = Vec::new();
        let (mut edge, mut of, mut present) = (near, 0_u32, 0_u32);
        for &number in asked.iter().filter(|number| **number > now_serving) {
            let distance = number - now_serving;
            if distance > edge {
                if of >= ASKED_MIN {
                    online.push(OnlineShare {
                        upto: edge,
                        percent: present * 100 / of,
                    });
                    (of, present) = (0, 0);
                }
                while distance > edge {
                    edge = edge.saturating_mul(BLOCK_GROWS);
                }
            }
            of += 1;
            present += u32::from(known.until.contains_key(&number));
        }
        let end = last.saturating_sub(now_serving);
        if of >= ASKED_MIN {
            online.push(OnlineShare {
                upto: end,
                percent: present * 100 / of,
            });
        } else if let Some(last) = online.last_mut() {
            last.upto = end;
        }
        PresenceStatus {
            near_distance: near,
            near_mask: NEAR_MASK,
            far_mask: FAR_MASK,
            online,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn silence_makes_sampled_visitors_away() {
        let (presence, asked) = (
            Presence::default(),
            (1..=200).map(|n| 100 + 5 * n).collect::<Vec<u32>>(),
        );
        let shares = |seconds| {
            presence
                .status(&asked, 100, 1_200, 100, at(seconds))
                .online
                .iter()
                .map(|it| (it.upto, it.percent))
                .collect::<Vec<_>>()
        };
        assert_eq!(shares(0), [(100, 0), (400, 0), (1_100, 0)]);
        for &number in &asked {
            if number <= 200 || number % 2 == 0 {
                presence.record(
                    number,
                    at(0),
                    Duration::from_mins(if number <= 200 { 1 } else { 4 }),
                );
            }
        }
        assert_eq!(shares(150), [(100, 100), (400, 50), (1_100, 50)]);
        assert_eq!(
            shares(151),
            [(100, 0), (400, 50), (1_100, 50)],
            "a minute's pause and half a one of patience, twice"
        );
        presence.merge(&[
            Heartbeat {
                number: 105,
                until: at(700),
            },
            Heartbeat {
                number: 210,
                until: at(1),
            },
        ]);
        assert_eq!(
            shares(600),
            [(100, 5), (400, 50), (1_100, 50)],
            "what another node heard counts too, and takes nothing away"
        );
        assert_eq!(shares(601), [(100, 5), (400, 0), (1_100, 0)]);
        assert_eq!(presence.take_unshared().len(), 110);
        assert!(presence.take_unshared().is_empty());
    }

    #[test]
    fn too_few_samples_give_no_share() {
        let presence = Presence::default();
        presence.record(3, at(0), Duration::from_mins(1));
        assert_eq!(presence.status(&[2, 3, 4], 0, 9, 32, at(0)).online, []);
        let asked: Vec<u32> = (1..=9).chain([500]).collect();
        let online = presence.status(&asked, 0, 700, 32, at(0)).online;
        assert_eq!(
            online,
            [OnlineShare {
                upto: 700,
                percent: 11
            }],
            "the last few count to those before them"
        );
    }

    /// Whatever the wait: this is what keeps waiting free of charge for the origin.
    #[test]
    fn a_visitor_sends_less_than_one_heartbeat_on_average() {
        let entropy = SeededEntropy::new(3);
        for wait_s in [60_u32, 600, 3_600, 10 * 3_600, 48 * 3_600] {
            let fans = 20_000;
            let mut askings = 0_u32;
            for _ in 0..fans {
                let mut hash = [0; 8];
                entropy.fill(&mut hash);
                let mut left_s = wait_s;
                // A hundred are called a minute.
                let distance = |left_s: u32| left_s * 100 / 60;
                while let Some(pause) = next_heartbeat_in(
                    u64::from_le_bytes(hash),
                    distance(left_s),
                    near_distance(100),
                    Some(left_s),
                ) {
                    askings += 1;
                    let Some(next_s) = left_s
                        .checked_sub(u32::try_from(pause.as_secs()).unwrap())
                        .filter(|s| *s > 0)
                    else {
                        break;
                    };
                    left_s = next_s;
                }
                // Those whom only the front asks begin to be asked online.
                if !in_far_sample(u64::from_le_bytes(hash))
                    && in_near_sample(u64::from_le_bytes(hash))
                    && wait_s > 120
                {
                    askings += 2;
                }
            }
            assert!(f64::from(askings) / f64::from(fans) < 0.98, "{wait_s}: {askings}");
        }
    }
}
