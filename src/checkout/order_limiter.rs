//! How many orders the ledger is kept busy with at a time.
//!
//! Every order under way asks the ledger some dozens of things. Beyond what keeps it busy more orders at once do not make
//! it finish more of them, each only takes longer, until all of them are too late; so a new order begins when there is
//! room. Orders that have begun never wait here: they are what makes room. Whoever waits, for a gateway, a buyer or her
//! next try, takes none.

use std::{
    ops::RangeInclusive,
    pin::pin,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::sync::Notify;

/// With so many the ledger is never idle, be it a file that is flushed once for all of them (64 left it waiting half of the
/// time) or a database on the network.
const AT_WORK_MAX: usize = 256;
/// How long a new order may wait for room: whoever is told to come again soon is served better than who hears nothing. And
/// who would wait for longer is told so at once: no more may wait than find room in time, which is found out by trying.
const PATIENCE: Duration = Duration::from_secs(1);
const MAY_WAIT: RangeInclusive<usize> = 32..=512;
/// At each look, if some were sent away at once and nobody ran out of patience; and what part of them, if somebody did. Those
/// who stood there before it was so are not to count again.
const MORE: usize = 4;
const FEWER_BY: usize = 4;
const LOOKS_BETWEEN: u32 = 12;
/// After how long whoever was sent away is to come again, and how that changes with each look: it grows while more are sent
/// away than begin, and falls while they are few. Her hold and her pass run meanwhile, so not for long.
const AGAIN: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(10);
const LATER: Duration = Duration::from_millis(100);
const SOONER: Duration = Duration::from_millis(200);
/// Some wait is good, as the ledger is never idle then. While nobody has waited less than this there are too many.
const TARGET: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Till {
    at_work: AtomicUsize,
    /// New orders that are looked at, or wait for room; those of them who wait.
    in_line: AtomicUsize,
    waiting: AtomicUsize,
    may_wait: AtomicUsize,
    room: Notify,
    again_ms: AtomicU64,
    /// Since the last look so many new orders have begun within [`TARGET`]; after it.
    began_soon: AtomicU32,
    began_late: AtomicU32,
    /// And so many were sent away at once; after all their patience.
    sent_away: AtomicU32,
    ran_out: AtomicU32,
    /// Looks until `may_wait` may become less again.
    looks_left: AtomicU32,
}

impl Default for Till {
    fn default() -> Self {
        let [began_soon, began_late, sent_away, ran_out, looks_left] = [const { AtomicU32::new(0) }; 5];
        let [at_work, in_line, waiting] = [const { AtomicUsize::new(0) }; 3];
        let (may_wait, again_ms) = (
            AtomicUsize::new(*MAY_WAIT.end()),
            AtomicU64::new(millis(*AGAIN.start())),
        );
        Self {
            at_work,
            in_line,
            waiting,
            may_wait,
            room: Notify::new(),
            again_ms,
            began_soon,
            began_late,
            sent_away,
            ran_out,
            looks_left,
        }
    }
}

/// Counts as work until dropped.
#[derive(Debug)]
pub(crate) struct Work<'a>(&'a Till);

impl Till {
    /// An order that has begun goes on.
    pub(crate) fn work(&self) -> Work<'_> {
        self.at_work.fetch_add(1, Ordering::Relaxed);
        Work(self)
    }

    /// An order that is at work waits for somebody else for the length of `call`.
    pub(crate) async fn meanwhile<T>(&self, call: impl Future<Output = T>) -> T {
        let back = Back(self);
        self.rest();
        let answer = call.await;
        drop(back);
        answer
    }

    /// A place in line for a new order, before anything is done for it; `None` when it would wait in vain.
    pub(crate) fn line_up(&self) -> Option<InLine<'_>> {
        let place = InLine(self);
        let before = self.in_line.fetch_add(1, Ordering::Relaxed);
        (!self.sends_away_behind(before)).then_some(place)
    }

    /// Waits until a new order may begin; `None` when there is no room in time.
    pub(crate) async fn turn(&self, _place: InLine<'_>) -> Option<Work<'_>> {
        let waiting = self.waits();
        let in_turn = async {
            // Who comes while others wait stands behind them, also when there is room at this moment: it is theirs.
            if waiting.is_first
                && let Some(work) = self.try_work()
            {
                return work;
            }
            loop {
                self.room.notified().await;
                if let Some(work) = self.try_work() {
                    return work;
                }
            }
        };
        let mut in_turn = pin!(in_turn);
        if let Ok(work) = tokio::time::timeout(TARGET, in_turn.as_mut()).await {
            self.began_soon.fetch_add(1, Ordering::Relaxed);
            return Some(work);
        }
        let work = tokio::time::timeout(PATIENCE.saturating_sub(TARGET), in_turn)
            .await
            .ok();
        let became = if work.is_some() {
            &self.began_late
        } else {
            &self.ran_out
        };
        became.fetch_add(1, Ordering::Relaxed);
        work
    }

    /// To be asked ten times a second: whether since the last time somebody was sent away, or every new order has waited for
    /// too long (the least wait tells a queue that stands from one that drains, as in CoDel, RFC 8289).
    pub(crate) fn is_pressed(&self) -> bool {
        let [soon, late, sent_away, ran_out] =
            [&self.began_soon, &self.began_late, &self.sent_away, &self.ran_out]
                .map(|it| it.swap(0, Ordering::Relaxed));
        self.learn(soon + late, sent_away, ran_out);
        sent_away + ran_out > 0 || soon == 0 && (late > 0 || self.waiting.load(Ordering::Relaxed) > 0)
    }

    /// Whether so many wait that a newcomer would be sent away; who was told so counts as such.
    pub(crate) fn sends_away(&self) -> bool {
        self.sends_away_behind(self.in_line.load(Ordering::Relaxed))
    }

    fn sends_away_behind(&self, before: usize) -> bool {
        let is_full = before >= self.may_wait.load(Ordering::Relaxed);
        self.sent_away.fetch_add(u32::from(is_full), Ordering::Relaxed);
        is_full
    }

    /// After how long whoever was sent away is to come again, at least.
    pub(crate) fn again(&self) -> Duration {
        Duration::from_millis(self.again_ms.load(Ordering::Relaxed))
    }

    fn learn(&self, began: u32, sent_away: u32, ran_out: u32) {
        let may_wait = self.may_wait.load(Ordering::Relaxed);
        let looks_left = self.looks_left.load(Ordering::Relaxed);
        let (next, looks_left) = match (ran_out > 0, looks_left) {
            (true, 0) => (may_wait - may_wait / FEWER_BY, LOOKS_BETWEEN),
            (false, 0) if sent_away > 0 => (may_wait + MORE, 0),
            _ => (may_wait, looks_left.saturating_sub(1)),
        };
        self.may_wait
            .store(next.clamp(*MAY_WAIT.start(), *MAY_WAIT.end()), Ordering::Relaxed);
        self.looks_left.store(looks_left, Ordering::Relaxed);
        let again = self.again();
        let next = match sent_away + ran_out {
            away if away > began => again + LATER,
            away if away > began / 4 => again,
            _ => again.saturating_sub(SOONER),
        };
        self.again_ms.store(
            millis(next.clamp(*AGAIN.start(), *AGAIN.end())),
            Ordering::Relaxed,
        );
    }

    fn waits(&self) -> Waiting<'_> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting {
            till: self,
            is_first: before == 0,
        }
    }

    fn try_work(&self) -> Option<Work<'_>> {
        let more = |count: usize| (count < AT_WORK_MAX).then_some(count + 1);
        self.at_work
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Work(self))
    }

    fn rest(&self) {
        let before = self.at_work.fetch_sub(1, Ordering::Relaxed);
        if before <= AT_WORK_MAX {
            self.room.notify_one();
        }
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// Back at work, whether the call was answered or given up.
struct Back<'a>(&'a Till);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        self.0.at_work.fetch_add(1, Ordering::Relaxed);
    }
}

/// Stands in line until dropped.
#[derive(Debug)]
pub(crate) struct InLine<'a>(&'a Till);

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.in_line.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Waiting<'a> {
    till: &'a Till,
    is_first: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.till.waiting.fetch_sub(1, Ordering::Relaxed);
        // Whoever stood behind her may have been told of one place while there are several.
        if self.till.at_work.load(Ordering::Relaxed) < AT_WORK_MAX {
            self.till.room.notify_one();
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;
    use tokio::sync::mpsc;

    use super::*;

    async fn comes(till: &Till) -> Option<Work<'_>> {
        till.turn(till.line_up()?).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_order_begins_when_another_has_ended_or_waits_for_somebody_else() {
        let till = Arc::new(Till::default());
        let mut working: Vec<_> = (0..AT_WORK_MAX).map(|_| till.try_work().unwrap()).collect();
        let (begun, mut begins) = mpsc::unbounded_channel();
        let newcomers: Vec<_> = (0..3)
            .map(|n| {
                let (till, begun) = (Arc::clone(&till), begun.clone());
                tokio::spawn(async move {
                    let work = comes(&till).await;
                    begun.send(n).unwrap();
                    std::mem::forget(work);
                })
            })
            .collect();
        tokio::time::sleep(PATIENCE / 4).await;
        assert!(begins.is_empty(), "there is no room");
        working.pop();
        assert_eq!(begins.recv().await, Some(0), "who came first");
        let answered = till.meanwhile(tokio::time::sleep(PATIENCE / 4)).await;
        assert_eq!(
            (answered, begins.recv().await),
            ((), Some(1)),
            "a gateway was asked meanwhile"
        );
        assert_eq!(
            till.at_work.load(Ordering::Relaxed),
            AT_WORK_MAX + 1,
            "who has begun goes on, room or not"
        );
        working.pop();
        tokio::time::sleep(PATIENCE / 4).await;
        assert!(begins.is_empty(), "one too many had to end");
        working.pop();
        assert_eq!(begins.recv().await, Some(2));
        for newcomer in newcomers {
            newcomer.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_finds_no_room_is_told_so_in_time_and_leaves_no_trace() {
        let till = Arc::new(Till::default());
        let working: Vec<_> = (0..AT_WORK_MAX).map(|_| till.work()).collect();
        assert!(comes(&till).await.is_none());
        let crowd: Vec<_> = (0..=*MAY_WAIT.end())
            .map(|_| {
                let till = Arc::clone(&till);
                tokio::spawn(async move { comes(&till).await.is_some() })
            })
            .collect();
        tokio::time::sleep(PATIENCE / 2).await;
        assert_eq!(
            crowd.iter().filter(|it| it.is_finished()).count(),
            1,
            "one more than may wait"
        );
        for one in crowd {
            assert!(!one.await.unwrap());
        }
        drop(working);
        assert_eq!(
            (
                till.at_work.load(Ordering::Relaxed),
                till.in_line.load(Ordering::Relaxed),
                till.waiting.load(Ordering::Relaxed)
            ),
            (0, 0, 0)
        );
        assert!(comes(&till).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_steps_in_before_those_who_wait() {
        let till = Arc::new(Till::default());
        let mut working: Vec<_> = (0..AT_WORK_MAX).map(|_| till.work()).collect();
        let waiting = tokio::spawn({
            let till = Arc::clone(&till);
            async move { comes(&till).await.is_some() }
        });
        tokio::time::sleep(TARGET / 4).await;
        // The place is free, and the one whose it is has not run yet when another comes.
        working.pop();
        assert!(comes(&till).now_or_never().is_none());
        assert!(waiting.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_find_room_in_time() {
        let till = Arc::new(Till::default());
        let working: Vec<_> = (0..AT_WORK_MAX).map(|_| till.work()).collect();
        // Nobody ever finds room: fewer and fewer are kept waiting for nothing, and the others are told at once.
        for _ in 0..20 {
            let crowd: Vec<_> = (0..600)
                .map(|_| {
                    let till = Arc::clone(&till);
                    tokio::spawn(async move { comes(&till).await.is_some() })
                })
                .collect();
            tokio::time::sleep(PATIENCE / 2).await;
            let at_once = crowd.iter().filter(|it| it.is_finished()).count();
            assert_eq!(at_once, 600 - till.may_wait.load(Ordering::Relaxed));
            tokio::time::sleep(PATIENCE).await;
            for _ in 0..=LOOKS_BETWEEN {
                till.is_pressed();
            }
        }
        assert_eq!(till.may_wait.load(Ordering::Relaxed), *MAY_WAIT.start());
        // There is room for all who wait: more may.
        drop(working);
        for _ in 0..1_000 {
            till.sent_away.store(1, Ordering::Relaxed);
            assert!(till.is_pressed());
        }
        assert_eq!(till.may_wait.load(Ordering::Relaxed), *MAY_WAIT.end());
        till.is_pressed();
        assert_eq!(till.may_wait.load(Ordering::Relaxed), *MAY_WAIT.end());
    }

    #[test]
    fn the_more_are_sent_away_the_later_they_are_to_come_again() {
        let till = Till::default();
        assert_eq!(till.again(), *AGAIN.start());
        (0..50).for_each(|_| till.learn(25, 60, 0));
        assert_eq!(till.again(), *AGAIN.start() + LATER * 50);
        (0..50).for_each(|_| till.learn(25, 15, 0));
        assert_eq!(
            till.again(),
            *AGAIN.start() + LATER * 50,
            "about as many come as can be served"
        );
        (0..500).for_each(|_| till.learn(0, 1, 0));
        assert_eq!(till.again(), *AGAIN.end());
        (0..200).for_each(|_| till.learn(0, 0, 0));
        assert_eq!(till.again(), *AGAIN.start());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_pressed_while_nobody_begins_soon() {
        let till = Arc::new(Till::default());
        assert!(!till.is_pressed(), "nobody has come");
        let mut working: Vec<_> = (0..AT_WORK_MAX).map(|_| till.work()).collect();
        assert!(!till.is_pressed(), "nobody waits");
        let newcomer = || {
            let till = Arc::clone(&till);
            tokio::spawn(async move { comes(&till).await.is_some() })
        };
        let patient = newcomer();
        tokio::time::sleep(TARGET * 2).await;
        assert!(till.is_pressed(), "somebody waits and nobody has begun");
        working.pop();
        assert!(patient.await.unwrap());
        assert!(till.is_pressed(), "who has begun waited for long");
        working.push(till.work());
        let lucky = newcomer();
        tokio::time::sleep(TARGET / 2).await;
        working.pop();
        assert!(lucky.await.unwrap());
        assert!(!till.is_pressed(), "a short wait keeps the ledger busy");
        working.clear();
        assert!(comes(&till).await.is_some());
        assert!(!till.is_pressed());
    }
}
