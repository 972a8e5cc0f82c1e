//! Who is still there, of those who are asked: some of those near the front, and a small sample further back, so that
//! the board can say how many of a line have their page open.
//!
//! Waiting must cost the origin nothing, so few are asked, seldom: of those who are called within two minutes one in
//! eight, once a minute; of the others one in 128, again after an eighth of the wait that lies before them. On average a
//! fan is asked 0.25 times near the front and, as an eighth of what is left makes some 8 ln(wait / 8 min) askings, 0.3
//! times in a wait of eight hours: fewer than once, whatever the wait. Who is asked follows from a hash in her queue
//! token, so that nobody chooses, and from the board's masks, so that her browser knows without asking.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::kernel::Timestamp;

/// Of those near the front, those with these bits clear are asked.
const NEAR_MASK: u16 = 7;
/// And of the others. It has the bits of the other one: whoever is asked far back is asked near the front.
const FAR_MASK: u16 = 127;
/// Numbers near the front at most, whatever the rate.
const NEAR_MAX: u32 = 4_096;
const NEAR_MIN: u32 = 32;
const NEAR_AGAIN: Duration = Duration::from_mins(1);
const FAR_AGAIN_MAX: Duration = Duration::from_hours(1);
/// Whoever has not been heard of for so many times the pause that she was told counts as away.
const PATIENCE: f64 = 2.5;
/// Of fewer who are asked nothing is concluded.
const ASKED_MIN: u32 = 8;
/// A block reaches so many times as far as the one before.
const BLOCK_GROWS: u32 = 4;

/// Which part of a token decides whether its owner is asked.
pub(crate) const fn sample_of(subject_hash: u64) -> u16 {
    // The low bits choose the engine's buckets.
    (subject_hash >> 48) as u16
}

/// Whether she belongs to those who are asked wherever they stand.
pub(crate) const fn in_far_sample(subject_hash: u64) -> bool {
    sample_of(subject_hash) & FAR_MASK == 0
}

pub(crate) const fn in_near_sample(subject_hash: u64) -> bool {
    sample_of(subject_hash) & NEAR_MASK == 0
}

/// How many numbers behind the last called are near the front: some two minutes' worth.
pub(crate) fn near(rate_per_minute: u32) -> u32 {
    rate_per_minute.saturating_mul(2).clamp(NEAR_MIN, NEAR_MAX)
}

/// Whether somebody who stands `distance` numbers behind the last called is asked, and how soon again.
pub(crate) fn again_in(subject_hash: u64, distance: u32, near: u32, wait_s: Option<u32>) -> Option<Duration> {
    if distance <= near {
        return in_near_sample(subject_hash).then_some(NEAR_AGAIN);
    }
    let eighth = wait_s.map_or(NEAR_AGAIN, |wait_s| Duration::from_secs(u64::from(wait_s / 8)));
    in_far_sample(subject_hash).then(|| eighth.clamp(NEAR_AGAIN, FAR_AGAIN_MAX))
}

/// What the board says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct PresenceOnBoard {
    /// Numbers behind the last called that are near the front.
    pub near: u32,
    /// Whose `sample` has these bits clear is asked near the front; and further back.
    pub near_mask: u16,
    pub mask: u16,
    /// Of those who stand up to so many numbers behind the last called (and behind the row before), how many in a hundred
    /// are there. Empty where too few are asked.
    #[schema(value_type = Vec<(u32, u32)>)]
    pub there: Vec<There>,
}

/// On the wire `[numbers, percent]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(u32, u32)", from = "(u32, u32)")]
pub(crate) struct There {
    pub upto: u32,
    pub percent: u32,
}

impl From<(u32, u32)> for There {
    fn from((upto, percent): (u32, u32)) -> Self {
        Self { upto, percent }
    }
}

impl From<There> for (u32, u32) {
    fn from(There { upto, percent }: There) -> Self {
        (upto, percent)
    }
}

/// Somebody has said that she is there, and counts as such until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Her queue number.
    pub number: u32,
    pub until: Timestamp,
}

#[derive(Debug, Default)]
pub(crate) struct Presence(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// number -> until when she counts as there. As many as are asked.
    until: BTreeMap<u32, Timestamp>,
    /// What this node has heard since it last told the others.
    news: BTreeMap<u32, Timestamp>,
}

impl Presence {
    /// She is there, and is asked again in a while.
    pub(crate) fn heard(&self, number: u32, now: Timestamp, again_in: Duration) {
        let mut known = self.0.lock();
        let until = now.plus(again_in.mul_f64(PATIENCE));
        known.until.insert(number, until);
        known.news.insert(number, until);
    }

    pub(crate) fn take_news(&self) -> Vec<Heard> {
        let news = std::mem::take(&mut self.0.lock().news);
        news.into_iter()
            .map(|(number, until)| Heard { number, until })
            .collect()
    }

    /// What any node has heard.
    pub(crate) fn learn(&self, heard: &[Heard]) {
        let mut known = self.0.lock();
        for &Heard { number, until } in heard {
            let kept = known.until.entry(number).or_insert(until);
            *kept = until.max(*kept);
        }
    }

    /// How it stands: `asked` are the numbers of those who are asked, in order; the line goes on to `last`.
    pub(crate) fn on_board(
        &self,
        asked: &[u32],
        now_serving: u32,
        last: u32,
        near: u32,
        now: Timestamp,
    ) -> PresenceOnBoard {
        let mut known = self.0.lock();
        known
            .until
            .retain(|&number, until| number > now_serving && *until >= now);
        let mut there = Vec::new();
        let (mut edge, mut of, mut present) = (near, 0_u32, 0_u32);
        for &number in asked.iter().filter(|number| **number > now_serving) {
            let distance = number - now_serving;
            if distance > edge {
                if of >= ASKED_MIN {
                    there.push(There {
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
            there.push(There {
                upto: end,
                percent: present * 100 / of,
            });
        } else if let Some(last) = there.last_mut() {
            last.upto = end;
        }
        PresenceOnBoard {
            near,
            near_mask: NEAR_MASK,
            mask: FAR_MASK,
            there,
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
    fn a_sample_says_how_many_are_there_and_silence_makes_them_away() {
        let (presence, asked) = (
            Presence::default(),
            (1..=200).map(|n| 100 + 5 * n).collect::<Vec<u32>>(),
        );
        let shares = |seconds| {
            presence
                .on_board(&asked, 100, 1_200, 100, at(seconds))
                .there
                .iter()
                .map(|it| (it.upto, it.percent))
                .collect::<Vec<_>>()
        };
        assert_eq!(shares(0), [(100, 0), (400, 0), (1_100, 0)]);
        for &number in &asked {
            if number <= 200 || number % 2 == 0 {
                presence.heard(
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
        presence.learn(&[
            Heard {
                number: 105,
                until: at(700),
            },
            Heard {
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
        assert_eq!(presence.take_news().len(), 110);
        assert!(presence.take_news().is_empty());
    }

    #[test]
    fn of_a_few_nothing_is_concluded() {
        let presence = Presence::default();
        presence.heard(3, at(0), Duration::from_mins(1));
        assert_eq!(presence.on_board(&[2, 3, 4], 0, 9, 32, at(0)).there, []);
        let asked: Vec<u32> = (1..=9).chain([500]).collect();
        let there = presence.on_board(&asked, 0, 700, 32, at(0)).there;
        assert_eq!(
            there,
            [There {
                upto: 700,
                percent: 11
            }],
            "the last few count to those before them"
        );
    }

    /// Whatever the wait: this is what keeps waiting free of charge for the origin.
    #[test]
    fn a_fan_is_asked_less_than_once_on_average() {
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
                while let Some(pause) = again_in(
                    u64::from_le_bytes(hash),
                    distance(left_s),
                    near(100),
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
                // Those whom only the front asks begin to be asked there.
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
