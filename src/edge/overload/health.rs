//! How the box office fares, by what its visitors meet: how long those wait who look at seats, hold them or give them
//! back, and how many of all who ask are answered that something failed. What waits for somebody else, a payment's
//! gateway, says nothing of the box office's own speed and counts for the failures only.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use crate::waiting_room::BoxOfficeHealth;

/// Upper bounds of latency grow by a quarter of an octave, from a millisecond to half a minute.
const BUCKETS: usize = 61;
const STEPS_AN_OCTAVE: f64 = 4.0;

/// What is counted since it was last taken.
#[derive(Debug)]
pub struct Pulse {
    waited: [AtomicU32; BUCKETS],
    asked: AtomicU32,
    failed: AtomicU32,
    looks: AtomicU32,
    pressed: AtomicU32,
}

/// What was counted in one round.
#[derive(Clone, Debug)]
pub struct Beat {
    waited: [u32; BUCKETS],
    asked: u32,
    failed: u32,
    looks: u32,
    pressed: u32,
}

/// What of the box office a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Concern {
    Seats,
    /// How long these take is the gateway's affair.
    Orders,
}

impl Concern {
    /// `None`: not the box office's.
    pub(crate) fn of(path: &str) -> Option<Self> {
        if path.starts_with("/v1/orders") {
            Some(Self::Orders)
        } else if path.starts_with("/v1/holds")
            || (path.contains("/performances/") && !path.ends_with("/plan"))
        {
            Some(Self::Seats)
        } else {
            None
        }
    }
}

impl Default for Pulse {
    fn default() -> Self {
        let [asked, failed, looks, pressed] = [const { AtomicU32::new(0) }; 4];
        Self {
            waited: [const { AtomicU32::new(0) }; BUCKETS],
            asked,
            failed,
            looks,
            pressed,
        }
    }
}

impl Pulse {
    pub(crate) fn answered(&self, concern: Concern, took: Duration, failed: bool) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u32::from(failed), Ordering::Relaxed);
        if concern == Concern::Seats {
            self.waited[bucket(took)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It was looked whether new orders have to wait for others.
    pub(crate) fn looked(&self, is_pressed: bool) {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.pressed.fetch_add(u32::from(is_pressed), Ordering::Relaxed);
    }

    /// What was counted since the last time.
    pub fn take(&self) -> Beat {
        let waited = std::array::from_fn(|at| self.waited[at].swap(0, Ordering::Relaxed));
        let [asked, failed, looks, pressed] =
            [&self.asked, &self.failed, &self.looks, &self.pressed].map(|it| it.swap(0, Ordering::Relaxed));
        Beat {
            waited,
            asked,
            failed,
            looks,
            pressed,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "cut to the number of buckets"
)]
fn bucket(took: Duration) -> usize {
    let ms = took.as_secs_f64() * 1_000.0;
    if ms <= 1.0 {
        0
    } else {
        ((ms.log2() * STEPS_AN_OCTAVE).ceil() as usize).min(BUCKETS - 1)
    }
}

/// The upper bound of a bucket.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "below a minute"
)]
fn upto_ms(bucket: usize) -> u32 {
    (bucket as f64 / STEPS_AN_OCTAVE).exp2().ceil() as u32
}

/// Rounds that are looked at together: two seconds' worth.
const RECENT: usize = 4;
/// Fewer answers say nothing.
const ANSWERS_MIN: u32 = 10;
/// A till that is pressed four fifths of the time is as bad as one failure in twenty. It is to be pressed often, as it is
/// never idle then, and while it is the door closes by itself: the rate has time to follow.
const PRESSED_IN_FAILURES: u16 = 16;
/// The usual latency is the lowest of so many stretches of so long each.
const STRETCHES: usize = 10;
const STRETCH: Duration = Duration::from_mins(1);
/// Nobody minds to wait so long, so a latency that is usually lower still is taken for this.
const UNNOTICED_MS: u32 = 50;

/// The rounds together: how it is now, and how it usually is.
#[derive(Debug, Default)]
pub struct Vitals {
    recent: VecDeque<Beat>,
    /// The lowest latency of each stretch, and when it began; the youngest last.
    lows: VecDeque<(Duration, u32)>,
}

impl Vitals {
    /// One round more, at this moment of the steady clock.
    pub fn round(&mut self, beat: Beat, monotonic: Duration) -> BoxOfficeHealth {
        self.recent.push_back(beat);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        let recent = |of: fn(&Beat) -> u32| self.recent.iter().map(of).sum::<u32>();
        let (asked, failed, looks, pressed) = (
            recent(|it| it.asked),
            recent(|it| it.failed),
            recent(|it| it.looks),
            recent(|it| it.pressed),
        );
        let failed_per_mille = if asked < ANSWERS_MIN {
            0
        } else {
            u16::try_from(failed * 1_000 / asked).unwrap_or(1_000)
        };
        // Where new orders always have to wait, whoever is called besides is turned away at the door.
        let turned_away_per_mille =
            u16::try_from(pressed * 1_000 / looks.max(1)).unwrap_or(1_000) / PRESSED_IN_FAILURES;
        let failed_per_mille = failed_per_mille.max(turned_away_per_mille);
        let latency_ms = self.latency_ms();
        if let Some(latency_ms) = latency_ms {
            match self.lows.back_mut() {
                Some((began, low)) if monotonic.saturating_sub(*began) < STRETCH => {
                    *low = latency_ms.min(*low)
                }
                _ => self.lows.push_back((monotonic, latency_ms)),
            }
            if self.lows.len() > STRETCHES {
                self.lows.pop_front();
            }
        }
        let usual_ms = self
            .lows
            .iter()
            .map(|(_, low)| *low)
            .min()
            .unwrap_or(UNNOTICED_MS)
            .max(UNNOTICED_MS);
        BoxOfficeHealth {
            latency_ms,
            usual_ms,
            failed_per_mille,
        }
    }

    /// Nine of ten are answered within it.
    fn latency_ms(&self) -> Option<u32> {
        let waited: [u32; BUCKETS] =
            std::array::from_fn(|at| self.recent.iter().map(|beat| beat.waited[at]).sum());
        let all: u32 = waited.iter().sum();
        let mut so_far = 0;
        let slow = |count: &u32| {
            so_far += count;
            u64::from(so_far) * 10 >= u64::from(all) * 9
        };
        waited
            .iter()
            .position(slow)
            .filter(|_| all >= ANSWERS_MIN)
            .map(upto_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn buckets_hold_what_they_say() {
        for took in [0, 1, 2, 3, 7, 50, 120, 999, 5_000, 29_000] {
            let at = bucket(ms(took));
            assert!(
                u64::from(upto_ms(at)) >= took,
                "{took} ms is in the bucket up to {}",
                upto_ms(at)
            );
            assert!(at == 0 || took == 0 || u64::from(upto_ms(at - 1)) <= took + 1);
        }
        assert_eq!(bucket(Duration::from_hours(1)), BUCKETS - 1);
    }

    #[test]
    fn only_what_is_the_box_offices_is_counted() {
        for (path, concerns) in [
            ("/v1/sales/a/performances/b/seats", Some(Concern::Seats)),
            ("/v1/holds/x", Some(Concern::Seats)),
            ("/v1/orders", Some(Concern::Orders)),
            ("/v1/sales/a/performances/b/plan", None),
            ("/v1/sales/a/board", None),
            ("/v1/sales/a/admission", None),
        ] {
            assert_eq!(Concern::of(path), concerns, "{path}");
        }
    }

    #[test]
    fn nine_of_ten_are_answered_within_the_latency_and_few_say_nothing() {
        let (pulse, mut vitals) = (Pulse::default(), Vitals::default());
        for _ in 0..9 {
            pulse.answered(Concern::Seats, ms(20), true);
        }
        let few = vitals.round(pulse.take(), ms(0));
        assert_eq!(
            few,
            BoxOfficeHealth {
                latency_ms: None,
                usual_ms: 50,
                failed_per_mille: 0
            }
        );
        for n in 0..91 {
            pulse.answered(Concern::Seats, ms(if n < 80 { 20 } else { 900 }), false);
            pulse.answered(Concern::Orders, ms(9_000), false);
        }
        let health = vitals.round(pulse.take(), ms(500));
        assert!(health.latency_ms.unwrap() >= 900, "{health:?}");
        assert_eq!(health.failed_per_mille, 9 * 1_000 / (9 + 91 + 91));
        // What was counted two seconds ago counts no more.
        for round in 2..6 {
            for _ in 0..25 {
                pulse.answered(Concern::Seats, ms(20), false);
            }
            vitals.round(pulse.take(), ms(round * 500));
        }
        let health = vitals.round(pulse.take(), ms(3_000));
        assert!(
            health.latency_ms.unwrap() <= 24 && health.failed_per_mille == 0,
            "{health:?}"
        );
    }

    #[test]
    fn a_till_without_room_is_a_failure() {
        let (pulse, mut vitals) = (Pulse::default(), Vitals::default());
        (0..5).for_each(|_| pulse.looked(true));
        assert_eq!(vitals.round(pulse.take(), ms(0)).failed_per_mille, 62);
        (0..5).for_each(|_| pulse.looked(false));
        assert_eq!(vitals.round(pulse.take(), ms(500)).failed_per_mille, 31);
        for round in 2..6 {
            pulse.looked(false);
            vitals.round(pulse.take(), ms(round * 500));
        }
        assert_eq!(vitals.round(pulse.take(), ms(3_000)).failed_per_mille, 0);
    }

    #[test]
    fn what_is_usual_is_the_best_of_the_last_minutes() {
        let (pulse, mut vitals) = (Pulse::default(), Vitals::default());
        let mut minute = |minute: u64, took: u64| {
            let mut last = None;
            for round in 0..RECENT as u64 {
                for _ in 0..20 {
                    pulse.answered(Concern::Seats, ms(took), false);
                }
                last = Some(vitals.round(pulse.take(), Duration::from_mins(minute) + ms(round * 500)));
            }
            last.unwrap().usual_ms
        };
        assert_eq!(minute(0, 2), UNNOTICED_MS);
        let usual = minute(1, 200);
        assert_eq!(usual, UNNOTICED_MS, "a slow minute changes nothing");
        for n in 2..=9 {
            assert_eq!(minute(n, 200), UNNOTICED_MS);
        }
        for n in 10..=20 {
            minute(n, 200);
        }
        assert!(
            (200..=240).contains(&minute(21, 200)),
            "after so long it is what is usual"
        );
    }
}
