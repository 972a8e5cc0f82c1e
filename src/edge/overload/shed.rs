//! Load shedding: what is refused when more is asked than can be answered in time.
//!
//! Requests wait in the runtime's queue of ready tasks, so that queue is measured: a probe asks to be woken
//! every ten milliseconds ([`super::monitor`]), and how late it is woken is how long a request waits now. As
//! in CoDel (RFC 8289) the *least* delay of an interval counts: a burst that drains is no overload, a
//! standing queue is. While the delay stays above the target the shed level rises step by step, one priority
//! class after the other from the least important up; once the delay is gone, it falls again.
//!
//! A request of an admitted visitor may also wait for a database, which the runtime's queue does not show. So
//! the order limiter tells whether new orders wait too long, and the responses to admitted visitors that take
//! too long are counted. While either is so, or the runtime's queue is long,
//! [`LoadShedder::is_box_office_overloaded`] holds and no visitor is admitted: those who are in come first.
//! Called visitors are not shed for it; the waiting room keeps their order and tells each when to ask again.
//!
//! A refusal must cost next to nothing, or refusing is itself the overload: it is decided before routing, its
//! bytes are encoded once, and its `Retry-After` differs from client to client.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

/// How important a response is now, the most important first. Each endpoint's priority stands in
/// [`crate::edge::routes::ROUTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Money is moving: a gateway's webhook, a confirmation; and what costs no more than refusing it. Never
    /// shed.
    Critical,
    /// Calls of admitted visitors: seats, orders, passes.
    Admitted,
    /// The queue, and sign-in.
    Queueing,
    /// Admission itself: each admitted visitor causes more work.
    Entering,
    /// Pages, assets, plans, facts.
    Browsing,
}

impl Priority {
    /// Every priority, the most important first.
    pub const ALL: [Self; 5] = [
        Self::Critical,
        Self::Admitted,
        Self::Queueing,
        Self::Entering,
        Self::Browsing,
    ];

    /// The label of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Admitted => "admitted",
            Self::Queueing => "queueing",
            Self::Entering => "entering",
            Self::Browsing => "browsing",
        }
    }

    /// Of `limit` requests in progress, how many are reserved for more important ones.
    const fn reserved_for_others(self, limit: usize) -> usize {
        match self {
            Self::Critical => 0,
            Self::Admitted => limit / 16,
            Self::Queueing => limit / 4,
            Self::Entering => limit / 3,
            Self::Browsing => limit / 2,
        }
    }
}

/// Bound of the requests in progress. No request waits for a permit, so a counter is enough; a semaphore
/// takes a lock.
///
/// Aligned to its own cache lines, since each request changes the counters.
#[derive(Debug)]
#[repr(align(128))]
pub struct InFlightLimit {
    received: AtomicU64,
    in_progress: AtomicUsize,
    limit: usize,
}

/// The limit of requests in progress on a node, and how much of it is free.
#[derive(Clone, Copy, Debug)]
pub struct Headroom {
    /// Requests that could still begin.
    pub free: usize,
    /// The limit.
    pub limit: usize,
}

/// One request in progress, until dropped.
pub(crate) struct InFlightPermit<'a>(&'a AtomicUsize);

impl InFlightLimit {
    /// A limit of so many requests at once.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            received: AtomicU64::new(0),
            in_progress: AtomicUsize::new(0),
            limit,
        }
    }

    /// Counts a request that arrived, whether or not it is served.
    pub(crate) fn record_arrival(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that arrived at the public listener since the start.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Requests that could still begin.
    pub(crate) fn free(&self) -> usize {
        self.limit
            .saturating_sub(self.in_progress.load(Ordering::Relaxed))
    }

    /// The limit, and how much of it is free.
    #[must_use]
    pub fn headroom(&self) -> Headroom {
        Headroom {
            free: self.free(),
            limit: self.limit,
        }
    }

    /// Begins a request, unless the limit is reached.
    pub(crate) fn try_acquire(&self) -> Option<InFlightPermit<'_>> {
        let before = self.in_progress.fetch_add(1, Ordering::Relaxed);
        let permit = InFlightPermit(&self.in_progress);
        // Dropping the permit of a refused request takes its count back.
        (before < self.limit).then_some(permit)
    }
}

impl Drop for InFlightPermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A standing delay above this is overload.
pub const QUEUE_DELAY_TARGET: Duration = Duration::from_millis(5);
/// A standing delay above this makes responses to admitted visitors late, whatever the databases do.
const QUEUE_DELAY_LATE: Duration = Duration::from_millis(20);
/// With fewer requests in an interval than this the delay has another cause, and refusing them helps nothing.
const ARRIVALS_MIN: u64 = 30;
/// A response to an admitted visitor that takes longer is late.
const LATE_AFTER: Duration = Duration::from_millis(250);
/// The share of late responses is judged from so many responses on.
const RESPONSES_MIN: u64 = 8;
/// One late response in so many means that the box office is overloaded.
const LATE_ONE_IN: u64 = 4;
/// Steps of the shed level for each priority but [`Priority::Critical`].
const STEPS_PER_PRIORITY: u32 = 1_000;
/// The level at which all but critical requests are shed.
const LEVEL_MAX: u32 = 4 * STEPS_PER_PRIORITY;
/// Steps by which the level falls in an interval without a standing delay.
const LEVEL_FALLS_BY: u32 = 50;
/// Steps by which it falls in an interval with few requests.
const LEVEL_FALLS_IDLE_BY: u32 = 200;
/// Steps by which it rises at most in an interval.
const LEVEL_RISES_BY_MAX: u32 = 250;
/// `Retry-After` grows by a second for so many steps of the level.
const STEPS_PER_RETRY_SECOND: u64 = 160;

/// Decides which requests are refused.
#[derive(Debug, Default)]
pub struct LoadShedder {
    /// From 0 to [`LEVEL_MAX`].
    level: AtomicU32,
    queue_delay_us: AtomicU64,
    is_box_office_overloaded: AtomicBool,
    /// Responses to admitted visitors in this interval, and the late ones among them.
    responses: AtomicU64,
    late_responses: AtomicU64,
    shed: [AtomicU64; Priority::ALL.len()],
}

impl LoadShedder {
    /// Whether a request is to be refused; counts it if so. `unit` is uniform in `[0, 1)` and drawn only when
    /// needed.
    pub(crate) fn sheds(
        &self,
        priority: Priority,
        in_flight: &InFlightLimit,
        unit: impl FnOnce() -> f64,
    ) -> bool {
        let is_full = in_flight.free() <= priority.reserved_for_others(in_flight.limit);
        let is_shed = is_full || self.is_shed_by_level(priority, unit);
        if is_shed {
            self.shed[priority as usize].fetch_add(1, Ordering::Relaxed);
        }
        is_shed
    }

    /// The range, in seconds, of `Retry-After` for a refused request. The more are refused, the later they
    /// are to return: otherwise their retries are the overload.
    pub(crate) fn retry_after_range_s(&self, priority: Priority) -> (u64, u64) {
        let added_s = u64::from(self.steps_into(priority)) / STEPS_PER_RETRY_SECOND;
        (1 + added_s / 2, 4 + added_s)
    }

    fn is_shed_by_level(&self, priority: Priority, unit: impl FnOnce() -> f64) -> bool {
        let steps = self.steps_into(priority).min(STEPS_PER_PRIORITY);
        steps > 0 && unit() * f64::from(STEPS_PER_PRIORITY) < f64::from(steps)
    }

    /// How far the level is beyond the point where it begins to shed this priority, in steps.
    fn steps_into(&self, priority: Priority) -> u32 {
        let begins_at = match priority {
            Priority::Critical => return 0,
            Priority::Admitted => 3 * STEPS_PER_PRIORITY,
            Priority::Queueing => 2 * STEPS_PER_PRIORITY,
            Priority::Entering => STEPS_PER_PRIORITY,
            Priority::Browsing => 0,
        };
        self.level.load(Ordering::Relaxed).saturating_sub(begins_at)
    }

    /// Records how long a response to an admitted visitor took.
    pub(crate) fn record_response(&self, took: Duration) {
        self.responses.fetch_add(1, Ordering::Relaxed);
        self.late_responses
            .fetch_add(u64::from(took > LATE_AFTER), Ordering::Relaxed);
    }

    /// Ends an interval with its least delay, its arrivals, and whether new orders waited too long.
    pub(crate) fn end_interval(&self, queue_delay: Duration, arrivals: u64, are_orders_waiting: bool) {
        let delay_us = u64::try_from(queue_delay.as_micros()).unwrap_or(u64::MAX);
        self.queue_delay_us.store(delay_us, Ordering::Relaxed);
        let responses = self.responses.swap(0, Ordering::Relaxed);
        let late = self.late_responses.swap(0, Ordering::Relaxed);
        let are_responses_late = responses >= RESPONSES_MIN && late * LATE_ONE_IN >= responses;
        let is_queue_long = arrivals >= ARRIVALS_MIN && queue_delay > QUEUE_DELAY_LATE;
        self.is_box_office_overloaded.store(
            are_orders_waiting || are_responses_late || is_queue_long,
            Ordering::Relaxed,
        );
        let level = self.level.load(Ordering::Relaxed);
        self.level
            .store(next_level(level, queue_delay, arrivals), Ordering::Relaxed);
    }

    /// Shed level from 0 to 1. Each quarter sheds one more priority.
    #[must_use]
    pub fn level(&self) -> f64 {
        f64::from(self.level.load(Ordering::Relaxed)) / f64::from(LEVEL_MAX)
    }

    /// Whether admitted visitors wait too long, so that no more should be admitted.
    #[must_use]
    pub fn is_box_office_overloaded(&self) -> bool {
        self.is_box_office_overloaded.load(Ordering::Relaxed)
    }

    /// How long a request waited for the runtime: the least delay of the last interval.
    #[must_use]
    pub fn queue_delay(&self) -> Duration {
        Duration::from_micros(self.queue_delay_us.load(Ordering::Relaxed))
    }

    /// Requests of this priority that were shed since the start.
    #[must_use]
    pub fn shed_total(&self, priority: Priority) -> u64 {
        self.shed[priority as usize].load(Ordering::Relaxed)
    }
}

/// The level after an interval: it rises in proportion to the delay above the target, and falls at a fixed
/// pace.
fn next_level(level: u32, queue_delay: Duration, arrivals: u64) -> u32 {
    if arrivals < ARRIVALS_MIN {
        return level.saturating_sub(LEVEL_FALLS_IDLE_BY);
    }
    if queue_delay <= QUEUE_DELAY_TARGET {
        return level.saturating_sub(LEVEL_FALLS_BY);
    }
    let over_ms = queue_delay.saturating_sub(QUEUE_DELAY_TARGET).as_millis().max(1);
    let rise = over_ms.saturating_mul(u128::from(LEVEL_FALLS_BY)) / QUEUE_DELAY_TARGET.as_millis();
    (level
        + u32::try_from(rise)
            .unwrap_or(u32::MAX)
            .clamp(1, LEVEL_RISES_BY_MAX))
    .min(LEVEL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_and_permits_come_back() {
        let in_flight = InFlightLimit::new(2);
        let (first, second) = (in_flight.try_acquire(), in_flight.try_acquire());
        assert!(first.is_some() && second.is_some() && in_flight.try_acquire().is_none());
        assert_eq!(in_flight.free(), 0);
        drop(first);
        assert_eq!(in_flight.free(), 1, "a refused request holds no permit");
        assert!(in_flight.try_acquire().is_some());
    }

    /// Of a thousand requests of each priority, how many are shed.
    fn shed_per_mille(shedder: &LoadShedder) -> [usize; 5] {
        Priority::ALL.map(|priority| {
            (0..1_000)
                .filter(|n| shedder.is_shed_by_level(priority, || f64::from(*n) / 1_000.0))
                .count()
        })
    }

    #[test]
    fn a_standing_queue_sheds_by_priority_and_a_burst_does_not() {
        let shedder = LoadShedder::default();
        shedder.end_interval(Duration::from_millis(4), 10_000, false);
        assert_eq!(shed_per_mille(&shedder), [0; 5], "the queue drains");
        let mut before = shed_per_mille(&shedder);
        for _ in 0..100 {
            shedder.end_interval(Duration::from_millis(40), 10_000, false);
            let now = shed_per_mille(&shedder);
            assert!(
                now.iter().zip(before).all(|(now, before)| *now >= before),
                "{before:?} {now:?}"
            );
            // A priority is shed only when all below it are shed whole.
            assert!(now[1] == 0 || now[2] == 1_000, "{now:?}");
            assert!(now[2] == 0 || now[3] == 1_000, "{now:?}");
            assert!(now[3] == 0 || now[4] == 1_000, "{now:?}");
            before = now;
        }
        assert_eq!(
            before,
            [0, 1_000, 1_000, 1_000, 1_000],
            "critical requests are never shed"
        );
    }

    #[test]
    fn the_level_falls_within_ten_seconds_with_or_without_load() {
        for arrivals in [10_000, 3] {
            let shedder = LoadShedder::default();
            (0..200).for_each(|_| shedder.end_interval(Duration::from_secs(1), 10_000, false));
            assert!((shedder.level() - 1.0).abs() < 1e-9);
            (0..100).for_each(|_| shedder.end_interval(Duration::from_millis(1), arrivals, false));
            assert_eq!(shed_per_mille(&shedder), [0; 5], "{arrivals}");
        }
    }

    #[test]
    fn late_responses_stop_admission_and_shed_nothing() {
        let shedder = LoadShedder::default();
        let is_overloaded_after = |late: u64, of: u64| {
            (0..of).for_each(|n| {
                shedder.record_response(if n < late { LATE_AFTER * 2 } else { LATE_AFTER / 2 });
            });
            shedder.end_interval(Duration::from_millis(1), 1_000, false);
            shedder.is_box_office_overloaded()
        };
        assert!(!is_overloaded_after(2, 20), "a few late ones are normal");
        assert!(
            !is_overloaded_after(RESPONSES_MIN - 1, RESPONSES_MIN - 1),
            "too few to judge"
        );
        assert!(is_overloaded_after(10, 20));
        assert!(!is_overloaded_after(0, 20));
        shedder.end_interval(Duration::from_millis(1), 1_000, true);
        assert!(shedder.is_box_office_overloaded(), "orders wait");
        assert_eq!(shed_per_mille(&shedder), [0; 5]);
        shedder.end_interval(QUEUE_DELAY_LATE, 1_000, false);
        assert!(
            !shedder.is_box_office_overloaded(),
            "a delay up to the bound is accepted"
        );
        shedder.end_interval(QUEUE_DELAY_LATE * 2, 1_000, false);
        assert!(shedder.is_box_office_overloaded(), "every request waits too long");
        shedder.end_interval(QUEUE_DELAY_LATE * 2, ARRIVALS_MIN - 1, false);
        assert!(
            !shedder.is_box_office_overloaded(),
            "so few requests are not the cause"
        );
    }

    #[test]
    fn few_requests_are_never_shed_however_slow_the_machine() {
        let shedder = LoadShedder::default();
        (0..200).for_each(|_| shedder.end_interval(Duration::from_secs(1), ARRIVALS_MIN - 1, false));
        assert_eq!(shed_per_mille(&shedder), [0; 5]);
    }
}
