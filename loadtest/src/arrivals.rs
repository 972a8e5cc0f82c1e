//! Arrival schedules. The load is open loop: every moment is fixed beforehand, whatever the server does
//! meanwhile.

use std::{fmt, fs, path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Context, bail};
use stagedoor::kernel::{Entropy, SeededEntropy};

/// The arrival rate over time.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// At equal intervals.
    Constant,
    /// At random moments, evenly distributed.
    Poisson,
    /// Exponential decay whose mean is a fifth of the time: most visitors come at the start.
    Flash,
    /// A recorded curve from a file of lines `second,arrivals`, linear in between and scaled to the crowd's
    /// size.
    Recorded(PathBuf),
}

impl FromStr for Shape {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "constant" => Self::Constant,
            "poisson" => Self::Poisson,
            "flash" => Self::Flash,
            file => Self::Recorded(file.into()),
        })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant => f.write_str("constant"),
            Self::Poisson => f.write_str("poisson"),
            Self::Flash => f.write_str("flash"),
            Self::Recorded(file) => write!(f, "{}", file.display()),
        }
    }
}

const FLASH_MEAN_SHARE: f64 = 0.2;

/// When each of `visitors` arrives, ascending, counted from the start. All arrive within `within`, except
/// that a recorded curve has its own length.
///
/// # Errors
/// The curve's file cannot be read; the error names the line.
pub fn times(shape: &Shape, visitors: u32, within: Duration, seed: u64) -> anyhow::Result<Vec<Duration>> {
    let entropy = SeededEntropy::new(seed ^ 0x6172_7269_7661_6c73);
    let curve = match shape {
        Shape::Recorded(file) => Some(Curve::read(
            &fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
            &file.display().to_string(),
        )?),
        _ => None,
    };
    let whole = 1.0 - (-1.0 / FLASH_MEAN_SHARE).exp();
    let mut times: Vec<Duration> = (0..visitors)
        .map(|n| match shape {
            Shape::Constant => within.mul_f64(f64::from(n) / f64::from(visitors)),
            Shape::Poisson => within.mul_f64(entropy.unit()),
            // The inverse of the cumulative distribution.
            Shape::Flash => within.mul_f64(-FLASH_MEAN_SHARE * (1.0 - entropy.unit() * whole).ln()),
            Shape::Recorded(_) => curve
                .as_ref()
                .map_or(Duration::ZERO, |curve| curve.at(entropy.unit())),
        })
        .collect();
    times.sort_unstable();
    Ok(times)
}

/// A recorded curve.
struct Curve {
    segments: Vec<Segment>,
    total: f64,
}

impl Curve {
    fn read(text: &str, file: &str) -> anyhow::Result<Self> {
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (line, n) in text.lines().zip(1..) {
            let line = line.trim();
            // A heading is allowed in the first line.
            if line.is_empty()
                || line.starts_with('#')
                || (n == 1 && line.starts_with(|c: char| c.is_alphabetic()))
            {
                continue;
            }
            let point = line.split_once(',').and_then(|(s, count)| {
                Some((s.trim().parse::<f64>().ok()?, count.trim().parse::<f64>().ok()?))
            });
            let Some((second, count)) = point else {
                bail!("{file}:{n}: not `second,arrivals`: {line}")
            };
            if !second.is_finite() || !count.is_finite() || second < 0.0 || count < 0.0 {
                bail!("{file}:{n}: seconds and arrivals are numbers from 0 on: {line}");
            }
            if points.last().is_some_and(|(before, _)| *before >= second) {
                bail!("{file}:{n}: seconds must grow: {line}");
            }
            points.push((second, count));
        }
        let mut total = 0.0;
        let mut segments = Vec::new();
        for pair in points.windows(2) {
            let [(from, first), (to, last)] = [pair[0], pair[1]];
            let segment = Segment {
                from,
                length: to - from,
                first,
                last,
                before: total,
            };
            total += segment.count();
            segments.push(segment);
        }
        if total <= 0.0 {
            bail!("{file}: the curve has no arrivals; it needs two lines `second,arrivals` or more");
        }
        Ok(Self { segments, total })
    }

    /// When this share has arrived.
    fn at(&self, share: f64) -> Duration {
        let wanted = share * self.total;
        let at = self
            .segments
            .partition_point(|segment| segment.before + segment.count() < wanted)
            .min(self.segments.len() - 1);
        Duration::from_secs_f64(self.segments[at].when(wanted).max(0.0))
    }
}

/// A linear segment between two points of a curve.
struct Segment {
    from: f64,
    length: f64,
    /// Arrivals a second at its ends.
    first: f64,
    last: f64,
    /// Arrivals before it.
    before: f64,
}

impl Segment {
    fn count(&self) -> f64 {
        f64::midpoint(self.first, self.last) * self.length
    }

    /// When so many have arrived in total: the root of `first * t + slope / 2 * t^2 = rest`, in the form that
    /// is stable for a flat line.
    fn when(&self, wanted: f64) -> f64 {
        let (rest, slope) = (
            (wanted - self.before).max(0.0),
            (self.last - self.first) / self.length,
        );
        let root = (self.first * self.first + 2.0 * slope * rest).max(0.0).sqrt();
        let after = if self.first + root > 0.0 {
            2.0 * rest / (self.first + root)
        } else {
            0.0
        };
        self.from + after.clamp(0.0, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(times: &[Duration], at: f64) -> usize {
        times.iter().filter(|t| t.as_secs_f64() < at).count()
    }

    #[test]
    fn every_shape_is_complete_and_reproducible() {
        let within = Duration::from_secs(10);
        for shape in [Shape::Constant, Shape::Poisson, Shape::Flash] {
            let came = times(&shape, 10_000, within, 7).unwrap();
            assert_eq!((came.len(), by(&came, 10.001)), (10_000, 10_000), "{shape}");
            assert!(came.is_sorted());
            assert_eq!(came, times(&shape, 10_000, within, 7).unwrap(), "{shape}");
            let in_half = by(&came, 5.0);
            let expected = if shape == Shape::Flash {
                9_150..9_350
            } else {
                4_800..5_200
            };
            assert!(expected.contains(&in_half), "{shape}: {in_half}");
        }
        assert_ne!(
            times(&Shape::Poisson, 9, within, 7).unwrap(),
            times(&Shape::Poisson, 9, within, 8).unwrap()
        );
    }

    #[test]
    fn a_recorded_curve_is_followed() {
        // A constant rate for ten seconds, then one that grows from zero and brings as many in ten seconds.
        let curve = Curve::read("second,arrivals\n0,10\n10,10\n# a pause\n10.001,0\n20,20\n", "f").unwrap();
        assert!((4.99..5.01).contains(&curve.at(0.25).as_secs_f64()));
        assert!(
            (16.9..17.2).contains(&curve.at(0.75).as_secs_f64()),
            "{:?}",
            curve.at(0.75)
        );
        assert!((19.9..=20.0).contains(&curve.at(1.0).as_secs_f64()));
    }

    #[test]
    fn an_error_names_the_line() {
        for (text, wrong) in [
            ("0,1\nx,2\n", "f:2: not `second,arrivals`: x,2"),
            ("0,1\n0,1\n", "f:2: seconds must grow: 0,1"),
            ("0,-1\n", "f:1: "),
            ("0,0\n5,0\n", "f: the curve"),
            ("", "f: the curve"),
        ] {
            let error = Curve::read(text, "f").err().unwrap().to_string();
            assert!(error.starts_with(wrong), "{error}");
        }
    }
}
