//! Show rate: how many called visitors come, and how soon, so that neither too many nor too few are called
//! ahead. Pure.
//!
//! The unit of measure is the hazard of each age since the call (the share of those still awaited who come
//! within that age), so a cohort teaches long before its call window is over (the life-table estimator of
//! Kaplan and Meier, old observations fading).

use std::{collections::VecDeque, time::Duration};

use crate::{kernel::Timestamp, waiting_room::state::ShowForecast};

/// Ends of the age classes in seconds after the call; the call window closes the last one that it reaches.
const EDGES_S: [f64; 14] = [
    1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 18.0, 27.0, 40.0, 60.0, 90.0, 135.0, 200.0,
];
const CLASSES: usize = EDGES_S.len() + 1;
/// Prior share of called visitors who come.
const PRIOR_SHARE: f64 = 0.95;
/// Prior of the lead: median in seconds and a heavy tail (log-logistic with this shape), so that the first
/// seconds without visitors mean that they are slow and not yet that they are away.
const PRIOR_LEAD_S: f64 = 4.0;
const PRIOR_LEAD_SHAPE: f64 = 1.5;
/// From this age in seconds on, an age may be judged by the one before: when far fewer come at an age than
/// assumed, those who come have come.
const SETTLED_S: f64 = 4.0;
/// That is concluded only once such a share of all has come.
const SETTLED_SHARE: f64 = 0.2;
/// So many observed visitors outweigh the prior.
const PRIOR_WEIGHT: f64 = 5.0;
/// Observations fade so that each class remembers about so many visitors.
const MEMORY: f64 = 400.0;
/// Smallest share that is believed: bounds how far ahead visitors are called.
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

/// Visitors called within the same second.
#[derive(Clone, Copy, Debug)]
struct Cohort {
    called_at: Timestamp,
    /// Not come yet when the age class `class` began.
    awaited: u32,
    came_in_class: u32,
    class: usize,
}

/// Model of one sale's show rate.
#[derive(Debug)]
pub(crate) struct ShowRateModel {
    window_s: f64,
    classes: [Class; CLASSES],
    cohorts: VecDeque<Cohort>,
    forecast: ShowForecast,
}

impl ShowRateModel {
    /// A model that knows only the call window.
    pub(crate) fn new(window: Duration) -> Self {
        let forecast = ShowForecast {
            share: 1.0,
            lead_s: 0.0,
            expected_arrivals: 0.0,
        };
        let mut new = Self {
            window_s: window.as_secs_f64().max(1.0),
            classes: [Class::default(); CLASSES],
            cohorts: VecDeque::new(),
            forecast,
        };
        new.forecast = new.look();
        new
    }

    /// `count` visitors were called.
    pub(crate) fn called(&mut self, at: Timestamp, count: u32) {
        self.forecast.expected_arrivals += f64::from(count) * self.forecast.share;
        match self.cohorts.back_mut() {
            Some(last) if last.called_at.as_secs() == at.as_secs() && last.class == 0 => {
                last.awaited += count;
            }
            _ => self.cohorts.push_back(Cohort {
                called_at: at,
                awaited: count,
                came_in_class: 0,
                class: 0,
            }),
        }
    }

    /// A visitor called at `called_at` came, for the first time.
    pub(crate) fn arrived(&mut self, called_at: Timestamp) {
        if let Some(cohort) = self.of(called_at) {
            cohort.came_in_class = (cohort.came_in_class + 1).min(cohort.awaited);
        }
        self.forecast.expected_arrivals = (self.forecast.expected_arrivals - 1.0).max(0.0);
    }

    /// A visitor called at `called_at` left the queue and is not awaited any more.
    pub(crate) fn left(&mut self, called_at: Timestamp) {
        if let Some(cohort) = self.of(called_at) {
            cohort.awaited = cohort.awaited.saturating_sub(1).max(cohort.came_in_class);
        }
    }

    /// Time has passed: learns from every age class that a cohort has completed.
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
        self.forecast = self.look_at(now);
    }

    /// After a restart: cohorts grow old without teaching anything, as it is not known who came when.
    pub(crate) fn resume(&mut self, now: Timestamp) {
        let window_s = self.window_s;
        for cohort in &mut self.cohorts {
            let age_s = now.since(cohort.called_at).as_secs_f64();
            while cohort.class < CLASSES && age_s >= bounds(cohort.class, window_s).1 {
                next_class(cohort, window_s);
            }
        }
        self.cohorts.retain(|c| c.class < CLASSES);
        self.forecast = self.look_at(now);
    }

    /// What is expected of calls now.
    pub(crate) fn forecast(&self) -> ShowForecast {
        self.forecast
    }

    fn of(&mut self, called_at: Timestamp) -> Option<&mut Cohort> {
        let after = self.cohorts.partition_point(|c| c.called_at <= called_at);
        self.cohorts.get_mut(after.checked_sub(1)?)
    }

    /// Share of those awaited at the beginning of each age class who come within it.
    ///
    /// What is not known of a class is taken from the prior for its age, a mixture of visitors who come and
    /// visitors who never do (a cure model: Boag 1949). It is scaled down by how the class before fell short
    /// of its own prior, but only as far as some have come at all: a crowd of which no visitor has come yet
    /// is not there yet, or slow.
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

    fn look(&self) -> ShowForecast {
        let (mut awaited, mut came, mut age_sum) = (1.0, 0.0, 0.0);
        // Of ages that no cohort has reached it is known that some come then, and not that they come so late:
        // an overestimated lead would call a whole sale's slots at once.
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
        ShowForecast {
            share: f64::clamp(came, SHARE_MIN, 1.0),
            lead_s: age_sum / f64::max(came, 1e-9),
            expected_arrivals: 0.0,
        }
    }

    fn look_at(&self, now: Timestamp) -> ShowForecast {
        // Share of those awaited at the beginning of each class who will still come.
        let mut yet = [0.0; CLASSES + 1];
        for (class, hazard) in self.hazards().into_iter().enumerate().rev() {
            yet[class] = hazard + (1.0 - hazard) * yet[class + 1];
        }
        let expected_arrivals = self.cohorts.iter().map(|cohort| {
            let (from, to) = bounds(cohort.class, self.window_s);
            let done =
                ((now.since(cohort.called_at).as_secs_f64() - from) / (to - from).max(1e-9)).clamp(0.0, 1.0);
            f64::from(cohort.awaited - cohort.came_in_class)
                * (yet[cohort.class] * (1.0 - done) + yet[cohort.class + 1] * done)
        });
        ShowForecast {
            expected_arrivals: expected_arrivals.sum(),
            ..self.look()
        }
    }
}

/// Prior share of those who have not come by `from` who come by `to`.
fn prior_hazard(from: f64, to: f64) -> f64 {
    let coming_later = |age: f64| 1.0 / (1.0 + (age / PRIOR_LEAD_S).powf(PRIOR_LEAD_SHAPE));
    PRIOR_SHARE * (coming_later(from) - coming_later(to)) / (1.0 - PRIOR_SHARE * (1.0 - coming_later(from)))
}

/// Beginning and end of an age class in seconds; a class beyond the call window is empty.
fn bounds(class: usize, window_s: f64) -> (f64, f64) {
    let from = class.checked_sub(1).map_or(0.0, |before| EDGES_S[before]);
    let to = EDGES_S.get(class).copied().unwrap_or(f64::INFINITY);
    (from.min(window_s), to.min(window_s))
}

fn next_class(cohort: &mut Cohort, window_s: f64) {
    cohort.awaited -= cohort.came_in_class;
    cohort.came_in_class = 0;
    cohort.class += 1;
    // Classes beyond the window are skipped at once.
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
    fn at_first_nearly_all_are_expected() {
        let mut model = ShowRateModel::new(Duration::from_mins(3));
        assert!(model.forecast().share > 0.93);
        model.called(at(0.0), 40);
        model.observe(at(0.1));
        assert!((37.0..=40.0).contains(&model.forecast().expected_arrivals));
    }

    #[test]
    fn nothing_is_concluded_from_the_first_seconds() {
        let mut model = ShowRateModel::new(Duration::from_mins(3));
        // Hundreds are called each second, and there was no time to come.
        for tenth in 0..30 {
            let now = f64::from(tenth) / 10.0;
            model.called(at(now), 50);
            model.observe(at(now));
            let forecast = model.forecast();
            assert!(
                forecast.share > 0.8 && forecast.expected_arrivals > 0.8 * 50.0 * f64::from(tenth + 1),
                "{now}: {forecast:?}"
            );
        }
    }

    #[test]
    fn it_learns_share_and_lead_within_a_minute() {
        let mut model = ShowRateModel::new(Duration::from_mins(3));
        let entropy = SeededEntropy::new(3);
        let mut due: Vec<(f64, Timestamp)> = Vec::new();
        for tick in 0..3_000 {
            let now = f64::from(tick) / 10.0;
            if tick % 10 == 0 && tick < 600 {
                model.called(at(now), 10);
                // Four of ten come, two to six seconds after the call.
                due.extend(
                    (0..10)
                        .filter(|_| entropy.unit() < 0.4)
                        .map(|_| (now + 2.0 + 4.0 * entropy.unit(), at(now))),
                );
            }
            due.retain(|&(when, called_at)| {
                if when <= now {
                    model.arrived(called_at);
                }
                when > now
            });
            model.observe(at(now));
            if tick == 600 {
                let forecast = model.forecast();
                assert!((0.33..0.50).contains(&forecast.share), "{forecast:?}");
                assert!((3.0..7.0).contains(&forecast.lead_s), "{forecast:?}");
            }
        }
        assert!(model.forecast().expected_arrivals < 0.5, "{:?}", model.forecast());
        assert!(model.cohorts.is_empty());
    }

    #[test]
    fn expected_visitors_never_exceed_the_called() {
        let mut model = ShowRateModel::new(Duration::from_secs(10));
        for second in 0..30 {
            model.called(at(f64::from(second)), 3);
            model.left(at(f64::from(second)));
            model.observe(at(f64::from(second) + 0.5));
            let forecast = model.forecast();
            assert!(
                forecast.expected_arrivals <= 20.0
                    && forecast.expected_arrivals >= 0.0
                    && forecast.share <= 1.0,
                "{forecast:?}"
            );
        }
    }
}
