//! How many orders the ledger is kept busy with at a time.
//!
//! Every order under way asks the ledger some dozens of things. Beyond what keeps it busy more orders at once do not make
//! it finish more of them, each only takes longer, until all of them are too late; so a new order begins when there is
//! room. Orders that have begun never wait here: they are what makes room. Whoever waits, for a gateway, a buyer or her
//! next try, takes none.

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::sync::Notify;

/// With so many the ledger is never idle, be it a file that is flushed once for all of them (64 left it waiting half of the
/// time) or a database on the network.
const AT_WORK_MAX: usize = 256;
/// New orders that may wait for room, and how long: whoever is told to come again soon is served better than who hears
/// nothing.
const WAITING_MAX: usize = 512;
const PATIENCE: Duration = Duration::from_secs(1);
/// Some wait is good, as the ledger is never idle then. While nobody has waited less than this there are too many.
const TARGET: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(super) struct Till {
    at_work: AtomicUsize,
    waiting: AtomicUsize,
    room: Notify,
    /// Since somebody last asked, a new order has begun within [`TARGET`]; after it.
    began_soon: AtomicBool,
    began_late: AtomicBool,
}

/// Counts as work until dropped.
#[derive(Debug)]
pub(super) struct Work<'a>(&'a Till);

impl Till {
    /// An order that has begun goes on.
    pub(super) fn work(&self) -> Work<'_> {
        self.at_work.fetch_add(1, Ordering::Relaxed);
        Work(self)
    }

    /// An order that is at work waits for somebody else for the length of `call`.
    pub(super) async fn meanwhile<T>(&self, call: impl Future<Output = T>) -> T {
        let back = Back(self);
        self.rest();
        let answer = call.await;
        drop(back);
        answer
    }

    /// Waits until a new order may begin; `None` when there is no room for too long.
    pub(super) async fn turn(&self) -> Option<Work<'_>> {
        if self.waiting.load(Ordering::Relaxed) == 0
            && let Some(work) = self.try_work()
        {
            self.began_soon.store(true, Ordering::Relaxed);
            return Some(work);
        }
        let _waiting = Waiting::among(&self.waiting)?;
        let in_turn = async {
            loop {
                let freed = self.room.notified();
                if let Some(work) = self.try_work() {
                    return work;
                }
                freed.await;
            }
        };
        let mut in_turn = pin!(in_turn);
        let (work, began) = match tokio::time::timeout(TARGET, in_turn.as_mut()).await {
            Ok(work) => (work, &self.began_soon),
            Err(_) => (tokio::time::timeout(PATIENCE.saturating_sub(TARGET), in_turn).await.ok()?, &self.began_late),
        };
        began.store(true, Ordering::Relaxed);
        Some(work)
    }

    /// Whether every new order has waited for too long since the last time this was asked (the least wait tells a queue
    /// that stands from one that drains, as in CoDel, RFC 8289).
    pub(super) fn is_pressed(&self) -> bool {
        let [soon, late] = [&self.began_soon, &self.began_late].map(|it| it.swap(false, Ordering::Relaxed));
        !soon && (late || self.waiting.load(Ordering::Relaxed) > 0)
    }

    fn try_work(&self) -> Option<Work<'_>> {
        let more = |count: usize| (count < AT_WORK_MAX).then_some(count + 1);
        self.at_work.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Work(self))
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

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(count: &'a AtomicUsize) -> Option<Self> {
        let one = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(one)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_new_order_begins_when_another_has_ended_or_waits_for_somebody_else() {
        let till = Arc::new(Till::default());
        let mut working: Vec<_> = (0..AT_WORK_MAX).map(|_| till.try_work().unwrap()).collect();
        let (begun, mut begins) = mpsc::unbounded_channel();
        let newcomers: Vec<_> = (0..3)
            .map(|n| {
                let (till, begun) = (Arc::clone(&till), begun.clone());
                tokio::spawn(async move {
                    let work = till.turn().await;
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
        assert_eq!((answered, begins.recv().await), ((), Some(1)), "a gateway was asked meanwhile");
        assert_eq!(till.at_work.load(Ordering::Relaxed), AT_WORK_MAX + 1, "who has begun goes on, room or not");
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
        assert!(till.turn().await.is_none());
        let crowd: Vec<_> = (0..=WAITING_MAX)
            .map(|_| {
                let till = Arc::clone(&till);
                tokio::spawn(async move { till.turn().await.is_some() })
            })
            .collect();
        tokio::time::sleep(PATIENCE / 2).await;
        assert_eq!(crowd.iter().filter(|it| it.is_finished()).count(), 1, "one more than may wait");
        for one in crowd {
            assert!(!one.await.unwrap());
        }
        drop(working);
        assert_eq!((till.at_work.load(Ordering::Relaxed), till.waiting.load(Ordering::Relaxed)), (0, 0));
        assert!(till.turn().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_pressed_while_nobody_begins_soon() {
        let till = Arc::new(Till::default());
        assert!(!till.is_pressed(), "nobody has come");
        let mut working: Vec<_> = (0..AT_WORK_MAX).map(|_| till.work()).collect();
        assert!(!till.is_pressed(), "nobody waits");
        let newcomer = || {
            let till = Arc::clone(&till);
            tokio::spawn(async move { till.turn().await.is_some() })
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
        assert!(till.turn().await.is_some());
        assert!(!till.is_pressed());
    }
}
