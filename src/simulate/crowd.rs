//! The simulated crowd: what fans do, drawn at random.

use crate::kernel::{Entropy, SeededEntropy};
use crate::simulate::scenarios::{Arrivals, Crowd, Scenario};

/// How far a seed's crowd may differ from the scenario's, relatively.
const VARIETY: f64 = 0.33;
/// Milliseconds between two requests to enter, of called fans.
pub(crate) const ASKS_EVERY_MS: u32 = 1_000;
/// The same of late arrivals.
pub(crate) const LATE_ASKS_EVERY_MS: u32 = 3_000;
/// Chance that a fan who finds no slot gives up rather than retries.
const GIVES_UP: f64 = 0.01;

/// What a fan does when called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CallResponse {
    /// Does not come.
    Never,
    /// First asks to enter so long after the call.
    Comes { after_ms: u64 },
    /// Comes back after the call window has ended.
    ComesLate { after_ms: u64 },
}

/// The fans of one simulated sale.
#[derive(Debug)]
pub(crate) struct Fans {
    entropy: SeededEntropy,
    crowd: Crowd,
    arrivals: Arrivals,
    /// Share of fans who join before the start, and when the second wave begins, in minutes.
    early: f64,
    wave_at_min: f64,
    minutes: f64,
    visit_max_s: f64,
    window_ms: u64,
}

impl Fans {
    /// The scenario's crowd, varied by the seed.
    pub(crate) fn new(scenario: &Scenario, seed: u64, visit_max_s: f64, window_ms: u64) -> Self {
        let entropy = SeededEntropy::new(seed);
        let crowd = scenario.crowd;
        let varied = |usual: f64| usual * (1.0 + VARIETY * (2.0 * entropy.unit() - 1.0));
        let crowd = Crowd {
            absent: varied(crowd.absent).min(0.9),
            returning: varied(crowd.returning).min(1.0),
            bots: varied(crowd.bots).min(1.0),
            impatient: varied(crowd.impatient).min(1.0),
            patience_min: varied(crowd.patience_min),
            leaving_per_h: varied(crowd.leaving_per_h),
            visit_median_s: varied(crowd.visit_median_s),
            visit_spread: crowd.visit_spread,
            slow_payers: varied(crowd.slow_payers).min(1.0),
        };
        let early = match scenario.arrivals {
            Arrivals::Flash => 0.75,
            Arrivals::Drip => 0.15,
            Arrivals::TwoWaves => 0.45,
        };
        let (early, wave_at_min) = (varied(early).min(1.0), varied(scenario.venue.minutes * 0.4));
        Self {
            entropy,
            crowd,
            arrivals: scenario.arrivals,
            early,
            wave_at_min,
            minutes: scenario.venue.minutes,
            visit_max_s,
            window_ms,
        }
    }

    /// Share of all fans who have joined so many seconds after the start.
    pub(crate) fn joined_share(&self, after_s: f64) -> f64 {
        if after_s < 0.0 {
            return self.early;
        }
        let late = 1.0 - self.early;
        let minutes = after_s / 60.0;
        let of_late = match self.arrivals {
            Arrivals::Flash => 1.0 - (-minutes / 0.7).exp(),
            Arrivals::Drip => minutes / (self.minutes * 0.9),
            Arrivals::TwoWaves => {
                let wave = (minutes - self.wave_at_min).max(0.0) / 2.0;
                0.25 * (minutes / self.minutes).min(1.0) + 0.75 * wave.min(1.0)
            }
        };
        // The last ones come in finite time.
        self.early + late * if of_late > 0.999 { 1.0 } else { of_late }
    }

    /// Mean visit of the scenario's own crowd in seconds: what an operator would have planned with.
    pub(crate) fn planned_visit_s(crowd: &Crowd, visit_max_s: f64) -> f64 {
        let mean = crowd.visit_median_s * (crowd.visit_spread * crowd.visit_spread / 2.0).exp();
        mean * (1.0 - crowd.slow_payers) + visit_max_s * crowd.slow_payers
    }

    /// What a fan does who is called after so many seconds of waiting.
    pub(crate) fn when_called(&self, waited_s: f64) -> CallResponse {
        let (entropy, crowd) = (&self.entropy, &self.crowd);
        if entropy.unit() < crowd.bots {
            return CallResponse::Comes {
                after_ms: 200 + entropy.below(800),
            };
        }
        if entropy.unit() < crowd.impatient * (1.0 - (-waited_s / 60.0 / crowd.patience_min).exp()) {
            return CallResponse::Never;
        }
        if entropy.unit() < crowd.absent {
            if entropy.unit() < crowd.returning {
                return CallResponse::ComesLate {
                    after_ms: self.window_ms + 1_000 + ms(-240.0 * (1.0 - entropy.unit()).ln()),
                };
            }
            return CallResponse::Never;
        }
        // Most look at the page, which shows the call within a second or two; some must be alerted by its
        // sound.
        let after_ms = ms(3.0 * (0.7 * self.normal()).exp()).clamp(300, self.window_ms - 2_000);
        CallResponse::Comes { after_ms }
    }

    /// Whether a fan who found no slot gives up.
    pub(crate) fn gives_up(&self) -> bool {
        self.entropy.unit() < GIVES_UP
    }

    /// How long a visit lasts.
    pub(crate) fn visit_ms(&self) -> u64 {
        let crowd = &self.crowd;
        if self.entropy.unit() < crowd.bots {
            return ms(self.visit_max_s * (0.5 + 0.5 * self.entropy.unit()));
        }
        if self.entropy.unit() < crowd.slow_payers {
            return ms(self.visit_max_s * 2.0);
        }
        ms((crowd.visit_median_s * (crowd.visit_spread * self.normal()).exp()).max(5.0))
    }

    /// How many seats a visit takes.
    pub(crate) fn seats(&self) -> u32 {
        [0, 1, 2, 2, 2, 3, 4, 4][usize::try_from(self.entropy.below(8)).unwrap_or(0)]
    }

    /// How many of `waiting` leave the queue on purpose in one second.
    pub(crate) fn leaving(&self, waiting: u32) -> u32 {
        let expected = f64::from(waiting) * self.crowd.leaving_per_h / 3_600.0;
        let whole = expected.floor();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count below that of the waiting"
        )]
        let sure = whole as u32;
        sure + u32::from(self.entropy.unit() < expected - whole)
    }

    /// One of the numbers after `from` up to `upto`.
    pub(crate) fn one_of(&self, from: u32, upto: u32) -> u32 {
        from + 1 + u32::try_from(self.entropy.below(u64::from(upto.saturating_sub(from)))).unwrap_or(0)
    }

    /// A random number from 0 to 1.
    pub(crate) fn unit(&self) -> f64 {
        self.entropy.unit()
    }

    /// The crowd's randomness.
    pub(crate) fn entropy(&self) -> &dyn Entropy {
        &self.entropy
    }

    fn normal(&self) -> f64 {
        let (u, v) = (1.0 - self.entropy.unit(), self.entropy.unit());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to a day"
)]
fn ms(seconds: f64) -> u64 {
    (seconds * 1_000.0).clamp(0.0, 86_400_000.0) as u64
}
