//! Who comes when called, and how soon: measured, so that the door calls ahead neither too many nor too few.
//!
//! Pure. The unit of measure is the hazard of each age since the call (the share of those still awaited who come
//! within that age), so a cohort tells what it knows long before its call window is over (the life-table estimator of
//! Kaplan and Meier, with old observations fading).

use std::{collections::VecDeque, time::Duration};

use crate::{kernel::Timestamp, waiting_room::state::Outlook};

/// Ends of the age classes in seconds after the call; the call window closes the last one that it reaches.
const EDGES_S: [f64; 14] = [
    1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 18.0, 27.0, 40.0, 60.0, 90.0, 135.0, 200.0,
];
const CLASSES: usize = EDGES_S.len() + 1;
/// Before anything is measured nearly everybody comes.
const PRIOR_SHARE: f64 = 0.95;
/// The lead of those who come has a median of so many seconds and a heavy tail (log-logistic with this shape): nobody in
/// the first seconds says that people are slow, and not yet that they are away.
const PRIOR_LEAD_S: f64 = 4.0;
const PRIOR_LEAD_SHAPE: f64 = 1.5;
/// Ages from here on may be judged by the one before: when far fewer come at an age than was assumed, those who come have
/// come.
const SETTLED_S: f64 = 4.0;
/// That is only said once such a share of all has come.
const SETTLED_SHARE: f64 = 0.2;
/// As many observed fans outweigh the assumption.
const PRIOR_WEIGHT: f64 = 5.0;
/// Observations fade so that each class remembers about so many fans.
const MEMORY: f64 = 400.0;
/// Nobody is believed to stay away for ever: bounds how far ahead one can be called.
const SHARE_MIN: f64 = 0.05;

#[derive(Clone, Copy, Debug, Default)]
struct Class {
    awaited: f64,
    came: f64,
}

impl Class {
    fn hazard(&self, prior: f64) -> f64 {
        (self.came + prior * PRIOR_WEIGHT) / (self.awaited + PRIOR_WEIGHT)
    }

    fn observe(&mut self, awaited: f64, came: f64) {
        self.awaited += awaited;
        self.came += came;
        if self.awaited > MEMORY {
            let keep = MEMORY / self.awaited;
            self.awaited *= keep;
            self.came *= keep;
        }
    }
}

/// Those called within the same second.
#[derive(Clone, Copy, Debug)]
struct Cohort {
    called_at: Timestamp,
    /// Not come yet when `class` began.
    awaited: u32,
    came_in_class: u32,
    class: usize,
}

#[derive(Debug)]
pub(crate) struct ShowUp {
    window_s: f64,
    classes: [Class; CLASSES],
    cohorts: VecDeque<Cohort>,
    outlook: Outlook,
}

impl ShowUp {
    pub(crate) fn new(window: Duration) -> Self {
        let outlook = Outlook {
            share: 1.0,
            lead_s: 0.0,
            coming: 0.0,
        };
        let mut new = Self {
            window_s: window.as_secs_f64().max(1.0),
            classes: [Class::default(); CLASSES],
            cohorts: VecDeque::new(),
            outlook,
        };
        new.outlook = new.look();
        new
    }

    /// `count` fans were called.
    pub(crate) fn called(&mut self, at: Timestamp, count: u32) {
        self.outlook.coming += f64::from(count) * self.outlook.share;
        match self.cohorts.back_mut() {
            Some(last) if last.called_at.as_secs() == at.as_secs() && last.class == 0 => {
                last.awaited += count
            }
            _ => self.cohorts.push_back(Cohort {
                called_at: at,
                awaited: count,
                came_in_class: 0,
                class: 0,
            }),
        }
    }

    /// One of those called at `called_at` came, for the first time.
    pub(crate) fn came(&mut self, called_at: Timestamp) {
        if let Some(cohort) = self.of(called_at) {
            cohort.came_in_class = (cohort.came_in_class + 1).min(cohort.awaited);
        }
        self.outlook.coming = (self.outlook.coming - 1.0).max(0.0);
    }

    /// One of those called at `called_at` is not to be awaited: she left the line.
    pub(crate) fn left(&mut self, called_at: Timestamp) {
        if let Some(cohort) = self.of(called_at) {
            cohort.awaited = cohort.awaited.saturating_sub(1).max(cohort.came_in_class);
        }
    }

    /// Time has passed: learns from every age class that a cohort has left behind.
    pub(crate) fn observe(&mut self, now: Timestamp) {
        let window_s = self.window_s;
        for cohort in &mut self.cohorts {
            let age_s = now.since(cohort.called_at).as_secs_f64();
            while cohort.class < CLASSES && age_s >= bounds(cohort.class, window_s).1 {
                self.classes[cohort.class]
                    .observe(f64::from(cohort.awaited), f64::from(cohort.came_in_class));
                next_class(cohort, window_s);
            }
        }
        self.cohorts.retain(|c| c.class < CLASSES);
        self.outlook = self.look_at(now);
    }

    /// After a restart: cohorts grow old without anything being learnt, as nobody knows who came when.
    pub(crate) fn resume(&mut self, now: Timestamp) {
        let window_s = self.window_s;
        for cohort in &mut self.cohorts {
            let age_s = now.since(cohort.called_at).as_secs_f64();
            while cohort.class < CLASSES && age_s >= bounds(cohort.class, window_s).1 {
                next_class(cohort, window_s);
            }
        }
        self.cohorts.retain(|c| c.class < CLASSES);
        self.outlook = self.look_at(now);
    }

    pub(crate) fn outlook(&self) -> Outlook {
        self.outlook
    }

    fn of(&mut self, called_at: Timestamp) -> Option<&mut Cohort> {
        let after = self.cohorts.partition_point(|c| c.called_at <= called_at);
        self.cohorts.get_mut(after.checked_sub(1)?)
    }

    /// Of those awaited at the beginning of each age class, the share that comes within it.
    ///
    /// What is not known of a class is taken from the prior for its age, a mixture of those who come and those who never
    /// do (a cure model: Boag 1949). It is scaled down by how the class before fell short of its own prior, but only as
    /// far as some have come at all: a crowd of which nobody has come yet is not there yet, or slow.
    fn hazards(&self) -> [f64; CLASSES] {
        let (mut liveliness, mut awaited) = (1.0, 1.0);
        std::array::from_fn(|class| {
            let (from, to) = bounds(class, self.window_s);
            if to <= from {
                return 0.0;
            }
            let prior = prior_hazard(from, to);
            let hazard = self.classes[class]
                .hazard((prior * liveliness).min(0.999))
                .min(0.999);
            awaited *= 1.0 - hazard;
            if to >= SETTLED_S {
                let sure = f64::min((1.0 - awaited) / SETTLED_SHARE, 1.0);
                liveliness = 1.0 - sure * (1.0 - f64::min(hazard / prior, 1.0));
            }
            hazard
        })
    }

    fn look(&self) -> Outlook {
        let (mut awaited, mut came, mut age_sum) = (1.0, 0.0, 0.0);
        // Of ages that nobody has reached yet one knows that some come then, and not that they come so late: a lead that
        // is assumed too long would call a houseful at once.
        let unseen = self
            .classes
            .iter()
            .position(|class| class.awaited <= 0.0)
            .unwrap_or(CLASSES);
        let age_max = if unseen == CLASSES {
            f64::INFINITY
        } else {
            bounds(unseen, self.window_s).0.max(PRIOR_LEAD_S)
        };
        for (class, hazard) in self.hazards().into_iter().enumerate() {
            let (from, to) = bounds(class, self.window_s);
            let now = awaited * hazard;
            came += now;
            age_sum += now * f64::midpoint(from, to).min(age_max);
            awaited -= now;
        }
        Outlook {
            share: f64::clamp(came, SHARE_MIN, 1.0),
            lead_s: age_sum / f64::max(came, 1e-9),
            coming: 0.0,
        }
    }

    fn look_at(&self, now: Timestamp) -> Outlook {
        // The share of those awaited at the beginning of each class who will yet come.
        let mut yet = [0.0; CLASSES + 1];
        for (class, hazard) in self.hazards().into_iter().enumerate().rev() {
            yet[class] = hazard + (1.0 - hazard) * yet[class + 1];
        }
        let coming = self.cohorts.iter().map(|cohort| {
            let (from, to) = bounds(cohort.class, self.window_s);
            let done =
                ((now.since(cohort.called_at).as_secs_f64() - from) / (to - from).max(1e-9)).clamp(0.0, 1.0);
            f64::from(cohort.awaited - cohort.came_in_class)
                * (yet[cohort.class] * (1.0 - done) + yet[cohort.class + 1] * done)
        });
        Outlook {
            coming: coming.sum(),
            ..self.look()
        }
    }
}

/// Of those who have not come by `from`, the share that comes by `to`, as far as one can say without having seen any.
fn prior_hazard(from: f64, to: f64) -> f64 {
    let coming_later = |age: f64| 1.0 / (1.0 + (age / PRIOR_LEAD_S).powf(PRIOR_LEAD_SHAPE));
    PRIOR_SHARE * (coming_later(from) - coming_later(to)) / (1.0 - PRIOR_SHARE * (1.0 - coming_later(from)))
}

/// Where an age class begins and ends, in seconds; a class beyond the call window is empty.
fn bounds(class: usize, window_s: f64) -> (f64, f64) {
    let from = class.checked_sub(1).map_or(0.0, |before| EDGES_S[before]);
    let to = EDGES_S.get(class).copied().unwrap_or(f64::INFINITY);
    (from.min(window_s), to.min(window_s))
}

fn next_class(cohort: &mut Cohort, window_s: f64) {
    cohort.awaited -= cohort.came_in_class;
    cohort.came_in_class = 0;
    cohort.class += 1;
    // What lies beyond the window is skipped at once.
    while cohort.class < CLASSES && bounds(cohort.class, window_s).0 >= window_s {
        cohort.class += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    fn at(seconds: f64) -> Timestamp {
        #[expect(clippy::cast_possible_truncation, reason = "test times are small")]
        Timestamp::from_millis((seconds * 1_000.0) as i64)
    }

    #[test]
    fn at_first_everybody_is_expected() {
        let mut show_up = ShowUp::new(Duration::from_mins(3));
        assert!(show_up.outlook().share > 0.93);
        show_up.called(at(0.0), 40);
        show_up.observe(at(0.1));
        assert!((37.0..=40.0).contains(&show_up.outlook().coming));
    }

    #[test]
    fn nothing_is_concluded_from_the_first_seconds() {
        let mut show_up = ShowUp::new(Duration::from_mins(3));
        // Hundreds are called each second, and nobody has had time to come.
        for tenth in 0..30 {
            let now = f64::from(tenth) / 10.0;
            show_up.called(at(now), 50);
            show_up.observe(at(now));
            let outlook = show_up.outlook();
            assert!(
                outlook.share > 0.8 && outlook.coming > 0.8 * 50.0 * f64::from(tenth + 1),
                "{now}: {outlook:?}"
            );
        }
    }

    #[test]
    fn it_learns_share_and_lead_within_a_minute_and_forgets_who_never_came() {
        let mut show_up = ShowUp::new(Duration::from_mins(3));
        let entropy = SeededEntropy::new(3);
        let mut due: Vec<(f64, Timestamp)> = Vec::new();
        for tick in 0..3_000 {
            let now = f64::from(tick) / 10.0;
            if tick % 10 == 0 && tick < 600 {
                show_up.called(at(now), 10);
                // Four of ten come, two to six seconds after the call.
                due.extend(
                    (0..10)
                        .filter(|_| entropy.unit() < 0.4)
                        .map(|_| (now + 2.0 + 4.0 * entropy.unit(), at(now))),
                );
            }
            due.retain(|&(when, called_at)| {
                if when <= now {
                    show_up.came(called_at);
                }
                when > now
            });
            show_up.observe(at(now));
            if tick == 600 {
                let outlook = show_up.outlook();
                assert!((0.33..0.50).contains(&outlook.share), "{outlook:?}");
                assert!((3.0..7.0).contains(&outlook.lead_s), "{outlook:?}");
            }
        }
        assert!(show_up.outlook().coming < 0.5, "{:?}", show_up.outlook());
        assert!(show_up.cohorts.is_empty());
    }

    #[test]
    fn the_expected_never_exceed_the_called() {
        let mut show_up = ShowUp::new(Duration::from_secs(10));
        for second in 0..30 {
            show_up.called(at(f64::from(second)), 3);
            show_up.left(at(f64::from(second)));
            show_up.observe(at(f64::from(second) + 0.5));
            let outlook = show_up.outlook();
            assert!(
                outlook.coming <= 20.0 && outlook.coming >= 0.0 && outlook.share <= 1.0,
                "{outlook:?}"
            );
        }
    }
}
