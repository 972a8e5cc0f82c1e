//! What is turned away when more is asked than can be answered, and what never is.
//!
//! Requests wait in the runtime's queue of ready tasks, so that is the queue that is watched: a probe asks to be woken every
//! ten milliseconds, and how late it is woken is how long a request waits now. As CoDel does (RFC 8289), the *least* lag of
//! an interval counts: a burst that drains is no overload, a queue that stands is. While it stands above the target the
//! valve closes step by step, class by class from the least important up; when it has gone, it opens again.
//!
//! A visitor's request may wait for the books as well, which no queue of tasks shows. So the till says whether new orders
//! have to wait for others too long, and it is counted how many of the calls inside, those apart that wait for a gateway, are answered
//! late; while that is so, or the queue of tasks is long, nobody comes in: whoever is inside is served first, and who is not
//! let in makes no work that cannot be done. The called are not turned away for it: the waiting room knows who is before whom, and tells each when
//! to ask again.
//!
//! A refusal must cost next to nothing, or refusing is itself the overload: it is decided before routing, its bytes are made
//! beforehand, and its `Retry-After` differs from caller to caller. The board is never refused: answering it costs no more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};

use crate::edge::{BoxOffice, House, errors::problem::Kind};
use crate::platform::shutdown::Lifecycle;

/// How important it is that a request is answered now, the most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Money and seats are on their way: the gateway's word, a confirmation; and what costs no more than refusing it.
    Settling,
    /// A visitor behind the door: her seats, her order, her pass.
    Inside,
    /// Places, sign-in.
    Queueing,
    /// Who comes in makes work for later: she comes in when there is room for it.
    Entering,
    /// Pages, pictures, plans, facts.
    Browsing,
}

impl Class {
    pub const ALL: [Self; 5] = [
        Self::Settling,
        Self::Inside,
        Self::Queueing,
        Self::Entering,
        Self::Browsing,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settling => "settling",
            Self::Inside => "inside",
            Self::Queueing => "queueing",
            Self::Entering => "entering",
            Self::Browsing => "browsing",
        }
    }

    /// The class of a request, by its address alone: what a proof is worth is found out later.
    #[must_use]
    pub fn of(method: &Method, path: &str) -> Self {
        let mut parts = path.strip_prefix("/v1/").unwrap_or_default().split('/');
        match (parts.next().unwrap_or_default(), parts.nth(1), parts.next()) {
            ("webhooks", ..) | ("orders", Some("confirm" | "return"), _) | ("sales", Some("board"), None) => {
                Self::Settling
            }
            ("sales", Some("admission"), _) if method == Method::POST => Self::Entering,
            ("orders" | "holds" | "gate", ..) | ("sales", Some("admission"), _) => Self::Inside,
            ("sales", Some("queue" | "board"), _) | ("sign-in" | "session", ..) => Self::Queueing,
            ("sales", Some("performances"), Some(_)) if !path.ends_with("/plan") => Self::Inside,
            _ => Self::Browsing,
        }
    }

    /// Whether it is looked how long the answer takes: of calls inside that do not wait for a gateway.
    pub(crate) fn is_timed(self, method: &Method, path: &str) -> bool {
        self == Self::Inside && !(method == Method::POST && path == "/v1/orders")
    }

    /// Of the requests that are worked on at once, the share that is kept for those who are more important.
    const fn kept_for_others(self, of: usize) -> usize {
        match self {
            Self::Settling => 0,
            Self::Inside => of / 16,
            Self::Queueing => of / 4,
            Self::Entering => of / 3,
            Self::Browsing => of / 2,
        }
    }
}

/// Requests that are worked on at once, so many at most. Nobody waits for room, so a count is enough; a semaphore takes a lock.
///
/// Aligned, since each request changes the counts: what lies beside them would have to be fetched anew each time.
#[derive(Debug)]
#[repr(align(128))]
pub struct AtWork {
    asked: AtomicU64,
    now: AtomicUsize,
    pub(crate) most: usize,
}

/// A request that is worked on until this is dropped.
pub(crate) struct Worked<'a>(&'a AtomicUsize);

impl AtWork {
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self {
            asked: AtomicU64::new(0),
            now: AtomicUsize::new(0),
            most,
        }
    }

    /// Somebody asks, and may be turned away.
    pub(crate) fn came(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that have come to the public listener.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// For how many more there is room.
    pub(crate) fn room(&self) -> usize {
        self.most.saturating_sub(self.now.load(Ordering::Relaxed))
    }

    /// One more, if there is room.
    pub(crate) fn begin(&self) -> Option<Worked<'_>> {
        let before = self.now.fetch_add(1, Ordering::Relaxed);
        let worked = Worked(&self.now);
        (before < self.most).then_some(worked)
    }
}

impl Drop for Worked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How often it is looked how late one is woken.
const PROBE_EVERY: Duration = Duration::from_millis(10);
/// The runtime's timers are a millisecond coarse.
const TIMER_SLACK: Duration = Duration::from_millis(1);
const PROBES_IN_INTERVAL: u32 = 10;
/// A queue that does not get shorter than this within an interval stands.
pub const LAG_TARGET: Duration = Duration::from_millis(5);
/// Who waits so long for being looked at is late, whatever the books do.
const LAG_LATE: Duration = Duration::from_millis(20);
/// With fewer requests in an interval than this it is not they who keep the process waiting, and refusing them helps nobody.
const ASKED_MIN: u64 = 30;
/// A call inside that takes longer is late; so many must have been answered, and this part of them late.
const LATE: Duration = Duration::from_millis(250);
const ANSWERED_MIN: u64 = 8;
const LATE_PART: u64 = 4;
/// Steps of the valve, which goes from 0 to `CLOSED`: a thousand for each class but the first.
const OPENS_BY: u32 = 50;
const OPENS_IDLE_BY: u32 = 200;
const CLOSES_BY_MAX: u32 = 250;
const CLASS: u32 = 1_000;
/// A caller is told to stay away a second longer for so many steps.
const RETRY_STEP: u64 = 160;
const CLOSED: u32 = 4 * CLASS;

/// How far requests are turned away.
#[derive(Debug, Default)]
pub struct Valve {
    closed: AtomicU32,
    lag_us: AtomicU64,
    /// In the last interval those inside were answered late.
    late_inside: AtomicBool,
    /// Calls inside that were answered in this interval, and those of them that were late.
    answered: AtomicU64,
    late: AtomicU64,
    turned_away: [AtomicU64; Class::ALL.len()],
}

impl Valve {
    /// Whether a request of this class is turned away; `die` is uniform in `[0, 1)` and asked for only when it matters.
    fn turns_away(&self, class: Class, die: impl FnOnce() -> f64) -> bool {
        let closed = self.closed_to(class).min(CLASS);
        closed > 0 && die() * f64::from(CLASS) < f64::from(closed)
    }

    /// How far it is closed beyond the point where it begins to turn away this class.
    fn closed_to(&self, class: Class) -> u32 {
        let open_to = match class {
            Class::Settling => return 0,
            Class::Inside => 3 * CLASS,
            Class::Queueing => 2 * CLASS,
            Class::Entering => CLASS,
            Class::Browsing => 0,
        };
        self.closed.load(Ordering::Relaxed).saturating_sub(open_to)
    }

    /// A call inside was answered after so long.
    pub(crate) fn answered(&self, after: Duration) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.late.fetch_add(u64::from(after > LATE), Ordering::Relaxed);
    }

    /// An interval has passed in which the least lag was `lag`, so many requests came, and new orders had to wait or not.
    fn interval(&self, lag: Duration, asked: u64, till_is_pressed: bool) {
        self.lag_us.store(
            u64::try_from(lag.as_micros()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        let (answered, late) = (
            self.answered.swap(0, Ordering::Relaxed),
            self.late.swap(0, Ordering::Relaxed),
        );
        let books_are_late = till_is_pressed || answered >= ANSWERED_MIN && late * LATE_PART >= answered;
        self.late_inside.store(
            books_are_late || asked >= ASKED_MIN && lag > LAG_LATE,
            Ordering::Relaxed,
        );
        let closed = self.closed.load(Ordering::Relaxed);
        let next = if asked < ASKED_MIN {
            closed.saturating_sub(OPENS_IDLE_BY)
        } else if lag > LAG_TARGET {
            let over = lag
                .saturating_sub(LAG_TARGET)
                .as_millis()
                .max(1)
                .saturating_mul(u128::from(OPENS_BY))
                / LAG_TARGET.as_millis();
            (closed + u32::try_from(over).unwrap_or(u32::MAX).clamp(1, CLOSES_BY_MAX)).min(CLOSED)
        } else {
            closed.saturating_sub(OPENS_BY)
        };
        self.closed.store(next, Ordering::Relaxed);
    }

    /// From 0, nobody is turned away, to 1, only what settles is answered.
    #[must_use]
    pub fn closed(&self) -> f64 {
        f64::from(self.closed.load(Ordering::Relaxed)) / f64::from(CLOSED)
    }

    /// Whether those inside have to wait for too long, so that nobody should come in.
    #[must_use]
    pub fn are_inside_late(&self) -> bool {
        self.late_inside.load(Ordering::Relaxed)
    }

    /// The least lag of the last interval.
    #[must_use]
    pub fn lag(&self) -> Duration {
        Duration::from_micros(self.lag_us.load(Ordering::Relaxed))
    }

    /// Requests of this class that were turned away so far.
    #[must_use]
    pub fn turned_away(&self, class: Class) -> u64 {
        self.turned_away[class as usize].load(Ordering::Relaxed)
    }
}

/// Watches the runtime's lag and the till, if it is here, and works the house's valve, until the house closes.
pub async fn watch(house: Arc<House>, office: Option<BoxOffice>, life: Lifecycle) {
    let mut asked_before = house.at_work.asked();
    while !life.is_stopping() {
        let mut least = Duration::MAX;
        for _ in 0..PROBES_IN_INTERVAL {
            let began = house.clock.monotonic();
            tokio::time::sleep(PROBE_EVERY).await;
            least = least.min(
                house
                    .clock
                    .monotonic()
                    .saturating_sub(began + PROBE_EVERY + TIMER_SLACK),
            );
        }
        let asked = house.at_work.asked();
        let till_is_pressed = office.as_ref().is_some_and(|office| {
            let is_pressed = office.checkout.is_pressed();
            office.pulse.looked(is_pressed);
            is_pressed
        });
        house.valve.interval(least, asked - asked_before, till_is_pressed);
        asked_before = asked;
    }
}

impl House {
    /// The answer to a request that is turned away; `None` lets it in.
    pub(crate) fn turn_away(&self, class: Class) -> Option<Response> {
        let is_full = self.at_work.room() <= class.kept_for_others(self.at_work.most);
        if !is_full && !self.valve.turns_away(class, || self.entropy.unit()) {
            return None;
        }
        self.valve.turned_away[class as usize].fetch_add(1, Ordering::Relaxed);
        // The more of them are turned away, the later they are to come back: else they are the overload.
        let far_s = u64::from(self.valve.closed_to(class)) / RETRY_STEP;
        Some(refusal(self.soon_s(1 + far_s / 2, 4 + far_s)))
    }

    /// The answer to somebody who is to come again after so long, or somewhat later.
    pub(crate) fn come_again(&self, after: Duration) -> Response {
        refusal(self.no_sooner_s(after))
    }
}

/// `/problems/overloaded`, without a thought.
fn refusal(retry_after_s: u64) -> Response {
    static BODY: std::sync::LazyLock<Bytes> = std::sync::LazyLock::new(|| {
        let kind = Kind::Overloaded;
        let body =
            serde_json::json!({"type": kind.slug(), "title": kind.title(), "status": kind.status().as_u16()});
        body.to_string().into()
    });
    let mut response = Response::new(Body::from(BODY.clone()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_worked_on_as_there_is_room_for_and_room_comes_back() {
        let at_work = AtWork::new(2);
        let (first, second) = (at_work.begin(), at_work.begin());
        assert!(first.is_some() && second.is_some() && at_work.begin().is_none());
        assert_eq!(at_work.room(), 0);
        drop(first);
        assert_eq!(at_work.room(), 1, "who was refused has taken none");
        assert!(at_work.begin().is_some());
    }

    #[test]
    fn money_comes_before_visitors_visitors_before_the_queue_and_the_queue_before_lookers() {
        let (get, post, put) = (Method::GET, Method::POST, Method::PUT);
        for (method, path, class) in [
            (&post, "/v1/webhooks/sandbox", Class::Settling),
            (&post, "/v1/orders/o-1/confirm", Class::Settling),
            (&get, "/v1/orders/o-1/return", Class::Settling),
            (&get, "/v1/sales/s/board", Class::Settling),
            (&post, "/v1/orders", Class::Inside),
            (&get, "/v1/orders/o-1/tickets", Class::Inside),
            (&Method::PATCH, "/v1/holds/h", Class::Inside),
            (&post, "/v1/sales/s/performances/p/holds", Class::Inside),
            (&get, "/v1/sales/s/performances/p/seats/events", Class::Inside),
            (&put, "/v1/sales/s/admission", Class::Inside),
            (&Method::DELETE, "/v1/sales/s/admission", Class::Inside),
            (&post, "/v1/sales/s/admission", Class::Entering),
            (&post, "/v1/sales/s/queue", Class::Queueing),
            (&get, "/v1/sales/s/queue/place", Class::Queueing),
            (&get, "/v1/sales/s/board/events", Class::Queueing),
            (&post, "/v1/sign-in/handoff", Class::Queueing),
            (&get, "/v1/sales/s/performances/p/plan", Class::Browsing),
            (&get, "/v1/sales/s", Class::Browsing),
            (&get, "/sales/s", Class::Browsing),
            (&get, "/assets/app.js", Class::Browsing),
            (&get, "/", Class::Browsing),
        ] {
            assert_eq!(Class::of(method, path), class, "{method} {path}");
        }
    }

    /// Of a thousand requests of each class, how many are turned away.
    fn turned_away(valve: &Valve) -> [usize; 5] {
        Class::ALL.map(|class| {
            (0..1_000)
                .filter(|n| valve.turns_away(class, || f64::from(*n) / 1_000.0))
                .count()
        })
    }

    #[test]
    fn a_standing_queue_closes_the_valve_class_by_class_and_a_burst_does_not() {
        let valve = Valve::default();
        valve.interval(Duration::from_millis(4), 10_000, false);
        assert_eq!(turned_away(&valve), [0; 5], "it drains");
        let mut before = turned_away(&valve);
        for _ in 0..100 {
            valve.interval(Duration::from_millis(40), 10_000, false);
            let now = turned_away(&valve);
            assert!(
                now.iter().zip(before).all(|(now, before)| *now >= before),
                "{before:?} {now:?}"
            );
            // Nobody more important is turned away while somebody less important is let in.
            assert!(now[1] == 0 || now[2] == 1_000, "{now:?}");
            assert!(now[2] == 0 || now[3] == 1_000, "{now:?}");
            assert!(now[3] == 0 || now[4] == 1_000, "{now:?}");
            before = now;
        }
        assert_eq!(
            before,
            [0, 1_000, 1_000, 1_000, 1_000],
            "what settles is always let in"
        );
    }

    #[test]
    fn it_opens_again_within_ten_seconds_whether_or_not_there_is_load() {
        for asked in [10_000, 3] {
            let valve = Valve::default();
            (0..200).for_each(|_| valve.interval(Duration::from_secs(1), 10_000, false));
            assert!((valve.closed() - 1.0).abs() < 1e-9);
            (0..100).for_each(|_| valve.interval(Duration::from_millis(1), asked, false));
            assert_eq!(turned_away(&valve), [0; 5], "{asked}");
        }
    }

    #[test]
    fn who_is_answered_late_inside_keeps_others_out_and_turns_nobody_away() {
        let valve = Valve::default();
        let interval = |late: u64, of: u64| {
            (0..of).for_each(|n| valve.answered(if n < late { LATE * 2 } else { LATE / 2 }));
            valve.interval(Duration::from_millis(1), 1_000, false);
            valve.are_inside_late()
        };
        assert!(!interval(2, 20), "some are always late");
        assert!(
            !interval(ANSWERED_MIN - 1, ANSWERED_MIN - 1),
            "a few are no measure"
        );
        assert!(interval(10, 20));
        assert!(!interval(0, 20));
        valve.interval(Duration::from_millis(1), 1_000, true);
        assert!(valve.are_inside_late(), "the till is pressed");
        assert_eq!(turned_away(&valve), [0; 5]);
        valve.interval(LAG_LATE, 1_000, false);
        assert!(
            !valve.are_inside_late(),
            "that long everybody may wait to be looked at"
        );
        valve.interval(LAG_LATE * 2, 1_000, false);
        assert!(valve.are_inside_late(), "everybody waits too long");
        valve.interval(LAG_LATE * 2, ASKED_MIN - 1, false);
        assert!(
            !valve.are_inside_late(),
            "it is not they who keep the process waiting"
        );
    }

    #[test]
    fn few_requests_are_never_turned_away_however_slow_the_machine() {
        let valve = Valve::default();
        (0..200).for_each(|_| valve.interval(Duration::from_secs(1), ASKED_MIN - 1, false));
        assert_eq!(turned_away(&valve), [0; 5]);
    }

    #[test]
    fn a_refusal_says_when_to_come_again() {
        let refusal = refusal(3);
        assert_eq!(
            (refusal.status().as_u16(), &refusal.headers()[header::RETRY_AFTER]),
            (503, &HeaderValue::from_static("3"))
        );
    }
}
