//! Curve of how many visitors will have been called by when, and how it is read. Pure.
//!
//! [`project`](super::projection::project) produces the points, [`CallCurve`] inverts them for one quantile.

/// Forecasts end here, in seconds.
pub(crate) const HORIZON_S: f64 = 48.0 * 3_600.0;
/// The 90th percentile of the standard normal distribution.
pub(crate) const Z90: f64 = 1.281_551_565_5;

/// One point of the curve: visitors called by then, and the standard deviations upward and downward.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct CurvePoint {
    /// Seconds from now.
    pub t_s: f64,
    /// Visitors called by then, on average.
    pub calls: f64,
    /// Standard deviation toward more calls.
    pub more: f64,
    /// Standard deviation toward fewer calls.
    pub fewer: f64,
    /// Standard deviation from reading: calls between this moment and the one that a reader of the status
    /// takes it for.
    pub read_deviation: f64,
}

impl CurvePoint {
    /// Visitors called when it goes `z` standard deviations better than expected.
    pub(crate) fn quantile(&self, z: f64) -> f64 {
        self.calls + z * if z > 0.0 { self.more } else { self.fewer }
    }

    /// The same as a reader of the status sees it: reading adds uncertainty however sure the admission is.
    fn as_read(&self, z: f64) -> f64 {
        if z == 0.0 {
            return self.calls;
        }
        let (off, misread) = (self.quantile(z) - self.calls, Z90 * self.read_deviation);
        self.calls + (off * off + misread * misread).sqrt().copysign(z)
    }
}

/// How many visitors have been called by when, if it goes `z` standard deviations better than expected, as
/// read off a status.
pub(crate) struct CallCurve<'a> {
    steps: &'a [CurvePoint],
    /// Calls reached at each point; never falls.
    reached: Vec<f64>,
}

impl<'a> CallCurve<'a> {
    /// The curve `z(t_s)` standard deviations away from the mean.
    pub(crate) fn new(steps: &'a [CurvePoint], z: impl Fn(f64) -> f64) -> Self {
        let furthest = |so_far: &mut f64, step: &CurvePoint| {
            *so_far = step.as_read(z(step.t_s)).max(*so_far);
            Some(*so_far)
        };
        Self {
            steps,
            reached: steps.iter().scan(0.0, furthest).collect(),
        }
    }

    /// Seconds until `n` visitors have been called.
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
        // Beyond the last point calls go on at the average speed until then.
        let expected = last.map_or(0.0, |last| self.steps[last].calls);
        if expected > 0.0 {
            (t_s + (n - reached) * t_s / expected).min(HORIZON_S)
        } else {
            HORIZON_S
        }
    }
}
