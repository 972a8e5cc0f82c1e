//! Time as a parameter: no other file reads the machine's clock.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A point in time: milliseconds since the Unix epoch, UTC. Serialized as RFC 3339, for instance
/// `2026-11-23T20:00:00.000Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down: the unit of JWT claims.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// From seconds since the epoch.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000))
    }

    /// The time after this one, saturating.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// The time before this one, saturating.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// The duration from `earlier` to this time; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000).ok();
        let of_four_digits =
            |at: OffsetDateTime| Some((at, u32::try_from(at.year()).ok().filter(|year| *year <= 9_999)?));
        let Some((at, year)) = at.and_then(of_four_digits) else {
            return write!(f, "{} ms", self.0);
        };
        // Digit by digit, because most responses hold a timestamp and the generic formatter is ten times
        // slower.
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut put = |digits: std::ops::Range<usize>, mut number: u32| {
            for digit in text[digits].iter_mut().rev() {
                *digit += u8::try_from(number % 10).unwrap_or(0);
                number /= 10;
            }
        };
        put(0..4, year);
        put(5..7, u8::from(at.month()).into());
        put(8..10, at.day().into());
        put(11..13, at.hour().into());
        put(14..16, at.minute().into());
        put(17..19, at.second().into());
        put(20..23, at.millisecond().into());
        f.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Timestamp {
    type Err = time::error::Parse;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = OffsetDateTime::parse(text, &Rfc3339)?;
        Ok(Self(
            i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).unwrap_or(i64::MAX),
        ))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|e| de::Error::custom(format!("not an RFC 3339 time: {e}")))
    }
}

/// A source of time.
///
/// [`Clock::now`] may jump when the machine's clock is corrected. [`Clock::monotonic`] never goes back; rates
/// and durations are measured with it.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Time since a fixed moment of this process.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[expect(
        clippy::new_without_default,
        reason = "reading the clock is an act, not a default"
    )]
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "the one place where real time comes in")]
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where real time comes in")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that follows another one, so that all machines that follow it write the same deadlines.
///
/// It goes on by the monotonic clock, so it neither follows the machine's wall clock when that jumps nor
/// stops when the followed clock cannot be read.
#[derive(Debug)]
pub struct FollowingClock {
    machine: SystemClock,
    /// This clock at the monotonic clock's zero, in milliseconds.
    base_ms: AtomicI64,
}

impl FollowingClock {
    /// A clock that shows the machine's time until it follows another.
    #[must_use]
    pub fn new() -> Self {
        let machine = SystemClock::new();
        let base_ms = machine.now().as_millis() - millis_of(machine.monotonic());
        Self {
            machine,
            base_ms: AtomicI64::new(base_ms),
        }
    }

    /// Shows from now on the time that the followed clock showed at this moment of the monotonic clock.
    pub fn follow(&self, shown: Timestamp, monotonic: Duration) {
        self.base_ms
            .store(shown.as_millis() - millis_of(monotonic), Ordering::Relaxed);
    }

    /// The time that this clock shows at a moment of the monotonic clock.
    #[must_use]
    pub fn at(&self, monotonic: Duration) -> Timestamp {
        Timestamp(self.base_ms.load(Ordering::Relaxed) + millis_of(monotonic))
    }

    /// The machine's wall clock, which may be wrong.
    #[must_use]
    pub fn machine_now(&self) -> Timestamp {
        self.machine.now()
    }
}

impl Default for FollowingClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for FollowingClock {
    fn now(&self) -> Timestamp {
        self.at(self.machine.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }
}

fn millis_of(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Measures real elapsed time for metrics. Never for decisions: those take a [`Clock`].
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts to measure.
    #[expect(clippy::disallowed_methods, reason = "metrics measure real time")]
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since the start.
    #[must_use]
    pub fn elapsed_s(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// A clock that is advanced by hand, for tests and simulations.
#[derive(Debug)]
pub struct ManualClock {
    started: Timestamp,
    now_ms: AtomicI64,
    monotonic_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that shows this time.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self {
            started: start,
            now_ms: AtomicI64::new(start.0),
            monotonic_ms: AtomicI64::new(0),
        }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.now_ms.fetch_add(by_ms, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Sets the wall clock, forwards or backwards; no time passes.
    pub fn step_to(&self, now: Timestamp) {
        self.now_ms.store(now.0, Ordering::SeqCst);
    }

    /// The time that it was created with.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        self.started
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now_ms.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.monotonic_ms.load(Ordering::SeqCst)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_following_clock_shows_the_time_of_the_followed_one() {
        let clock = FollowingClock::new();
        let shown = Timestamp::from_secs(1_000);
        clock.follow(shown, clock.monotonic());
        let later = clock.now();
        assert!(later >= shown && later.since(shown) < Duration::from_secs(5));
        assert!(clock.machine_now() > Timestamp::from_secs(1_000_000));
    }

    #[test]
    fn a_timestamp_survives_serialization() {
        let at = Timestamp::from_millis(1_795_464_000_123);
        assert_eq!(at.to_string(), "2026-11-23T20:00:00.123Z");
        assert_eq!(at.to_string().parse::<Timestamp>().unwrap(), at);
        assert_eq!("2026-11-24T05:00:00.123+09:00".parse::<Timestamp>().unwrap(), at);
    }

    #[test]
    fn setting_the_clock_lets_no_time_pass() {
        let clock = ManualClock::at(Timestamp::from_millis(5_000));
        clock.step_to(Timestamp::from_millis(1_000));
        clock.advance(Duration::from_millis(10));
        assert_eq!(clock.now(), Timestamp::from_millis(1_010));
        assert_eq!(clock.monotonic(), Duration::from_millis(10));
    }
}
