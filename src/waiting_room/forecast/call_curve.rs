//! The forecast of how many visitors will have been called by when, and how it is read. Pure.

/// Beyond this nothing is said but that it goes on as then.
pub(crate) const HORIZON_S: f64 = 48.0 * 3_600.0;
/// The 90th percentile of the standard normal distribution.
pub(crate) const Z90: f64 = 1.281_551_565_5;

/// One moment from now on: fans called by then, and the standard deviations of how many more and how many fewer it may
/// be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Step {
    pub t_s: f64,
    pub calls: f64,
    pub more: f64,
    pub fewer: f64,
    /// Likewise of how many are called between that moment and the one that a reader of the board takes it for.
    pub misread: f64,
}

impl Step {
    /// Fans called when it goes `z` standard deviations better than expected.
    pub(crate) fn quantile(&self, z: f64) -> f64 {
        self.calls + z * if z > 0.0 { self.more } else { self.fewer }
    }

    /// Likewise as it is read off a board: however sure the door is, that is not.
    fn as_read(&self, z: f64) -> f64 {
        if z == 0.0 {
            return self.calls;
        }
        let (off, misread) = (self.quantile(z) - self.calls, Z90 * self.misread);
        self.calls + (off * off + misread * misread).sqrt().copysign(z)
    }
}

/// How many have been called by when if it goes `z` standard deviations better than expected, as read off a board.
pub(crate) struct Course<'a> {
    steps: &'a [Step],
    /// By each of the steps; it never falls.
    reached: Vec<f64>,
}

impl<'a> Course<'a> {
    pub(crate) fn new(steps: &'a [Step], z: impl Fn(f64) -> f64) -> Self {
        let furthest = |so_far: &mut f64, step: &Step| {
            *so_far = step.as_read(z(step.t_s)).max(*so_far);
            Some(*so_far)
        };
        Self {
            steps,
            reached: steps.iter().scan(0.0, furthest).collect(),
        }
    }

    /// Seconds until `n` have been called.
    pub(crate) fn after_s(&self, n: f64) -> f64 {
        let next = self.reached.partition_point(|reached| *reached < n);
        let last = next.checked_sub(1);
        let (t_s, reached) = last.map_or((0.0, 0.0), |last| (self.steps[last].t_s, self.reached[last]));
        if let (Some(step), Some(best)) = (self.steps.get(next), self.reached.get(next)) {
            let along = if *best > reached {
                ((n - reached) / (best - reached)).clamp(0.0, 1.0)
            } else {
                0.0
            };
            return (t_s + (step.t_s - t_s) * along).min(HORIZON_S);
        }
        // It goes on as is expected on average until then.
        let expected = last.map_or(0.0, |last| self.steps[last].calls);
        if expected > 0.0 {
            (t_s + (n - reached) * t_s / expected).min(HORIZON_S)
        } else {
            HORIZON_S
        }
    }
}
