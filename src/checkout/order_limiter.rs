//! Limits how many orders are active at a time, so that the ledger stays busy but is not overloaded.
//!
//! Every active order makes dozens of ledger calls. Beyond the number that keeps the ledger busy, more orders
//! at a time do not finish sooner; each only takes longer, until all of them are late. So a new order starts
//! when there is capacity. Orders that have started never wait here, because finishing them is what frees
//! capacity. An order that waits for a gateway, for the buyer or for its next try does not count as active.

use std::{
    ops::RangeInclusive,
    pin::pin,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::sync::Notify;

/// Enough that the ledger is never idle, be it a file that is flushed once for a whole group or a database on
/// the network.
const ACTIVE_ORDERS_MAX: usize = 256;
/// How long a new order may wait for capacity. A quick "try again soon" serves a buyer better than a long
/// silence.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);
/// How many new orders may wait at a time. The limit adapts within this range to the number that starts
/// before [`QUEUE_TIMEOUT`]; the others are rejected at once.
const QUEUE_LIMIT_RANGE: RangeInclusive<usize> = 32..=512;
/// Added per tick while orders are rejected and none times out.
const QUEUE_LIMIT_INCREASE: usize = 4;
/// A tick in which an order timed out takes away this fraction.
const QUEUE_LIMIT_DECREASE_DIVISOR: usize = 4;
/// Ticks between two decreases: orders that queued before the first one must not count again.
const DECREASE_COOLDOWN_TICKS: u32 = 12;
/// When a rejected order is told to try again. It grows while more orders are rejected than started and
/// shrinks while rejections are few. The buyer's hold and pass expire in the meantime, so it stays short.
const RETRY_AFTER_RANGE: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(10);
const RETRY_AFTER_INCREASE: Duration = Duration::from_millis(100);
const RETRY_AFTER_DECREASE: Duration = Duration::from_millis(200);
/// A short wait is good, because it keeps the ledger busy. While no order has waited less than this there are
/// too many.
const WAIT_TARGET: Duration = Duration::from_millis(250);

/// Admits new orders at the pace at which the ledger finishes them. See the module documentation.
#[derive(Debug)]
pub(crate) struct OrderLimiter {
    active: AtomicUsize,
    /// New orders that are being examined or wait for capacity.
    queued: AtomicUsize,
    /// Those of them that wait.
    waiting: AtomicUsize,
    queue_limit: AtomicUsize,
    capacity: Notify,
    retry_after_ms: AtomicU64,
    /// New orders that started within [`WAIT_TARGET`], since the last tick.
    started_promptly: AtomicU32,
    /// New orders that started later than that, since the last tick.
    started_late: AtomicU32,
    /// New orders rejected at once, since the last tick.
    rejected: AtomicU32,
    /// New orders that waited for [`QUEUE_TIMEOUT`] in vain, since the last tick.
    timed_out: AtomicU32,
    /// Ticks until `queue_limit` may decrease again.
    cooldown_ticks: AtomicU32,
}

impl Default for OrderLimiter {
    fn default() -> Self {
        Self {
            active: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            queue_limit: AtomicUsize::new(*QUEUE_LIMIT_RANGE.end()),
            capacity: Notify::new(),
            retry_after_ms: AtomicU64::new(millis(*RETRY_AFTER_RANGE.start())),
            started_promptly: AtomicU32::new(0),
            started_late: AtomicU32::new(0),
            rejected: AtomicU32::new(0),
            timed_out: AtomicU32::new(0),
            cooldown_ticks: AtomicU32::new(0),
        }
    }
}

/// Counts as an active order until dropped.
#[derive(Debug)]
pub(crate) struct OrderPermit<'a>(&'a OrderLimiter);

impl OrderLimiter {
    /// A permit for an order that has started already: granted at once, even beyond the limit.
    pub(crate) fn permit(&self) -> OrderPermit<'_> {
        self.active.fetch_add(1, Ordering::Relaxed);
        OrderPermit(self)
    }

    /// Awaits `call` on behalf of an active order, which counts as idle in the meantime.
    pub(crate) async fn while_idle<T>(&self, call: impl Future<Output = T>) -> T {
        let reactivate = Reactivate(self);
        self.release();
        let answer = call.await;
        drop(reactivate);
        answer
    }

    /// Puts a new order into the queue, before any work is done for it. `None` if the queue is full.
    pub(crate) fn enqueue(&self) -> Option<QueuedOrder<'_>> {
        let place = QueuedOrder(self);
        let ahead = self.queued.fetch_add(1, Ordering::Relaxed);
        (!self.reject_behind(ahead)).then_some(place)
    }

    /// Waits for capacity. `None` after [`QUEUE_TIMEOUT`].
    pub(crate) async fn acquire(&self, _place: QueuedOrder<'_>) -> Option<OrderPermit<'_>> {
        let waiter = self.start_waiting();
        let acquired = async {
            // An order that arrives while others wait queues behind them: free capacity belongs to those
            // ahead.
            if waiter.is_first
                && let Some(permit) = self.try_acquire()
            {
                return permit;
            }
            loop {
                self.capacity.notified().await;
                if let Some(permit) = self.try_acquire() {
                    return permit;
                }
            }
        };
        let mut acquired = pin!(acquired);
        if let Ok(permit) = tokio::time::timeout(WAIT_TARGET, acquired.as_mut()).await {
            self.started_promptly.fetch_add(1, Ordering::Relaxed);
            return Some(permit);
        }
        let permit = tokio::time::timeout(QUEUE_TIMEOUT.saturating_sub(WAIT_TARGET), acquired)
            .await
            .ok();
        let counter = if permit.is_some() {
            &self.started_late
        } else {
            &self.timed_out
        };
        counter.fetch_add(1, Ordering::Relaxed);
        permit
    }

    /// The tick, expected ten times a second: adapts the limits, and tells whether an order was rejected
    /// since the last tick or all new orders waited too long. The shortest wait tells a standing queue from
    /// one that drains, as in CoDel (RFC 8289).
    pub(crate) fn is_saturated(&self) -> bool {
        let [promptly, late, rejected, timed_out] = [
            &self.started_promptly,
            &self.started_late,
            &self.rejected,
            &self.timed_out,
        ]
        .map(|counter| counter.swap(0, Ordering::Relaxed));
        self.adapt(promptly + late, rejected, timed_out);
        rejected + timed_out > 0 || promptly == 0 && (late > 0 || self.waiting.load(Ordering::Relaxed) > 0)
    }

    /// Whether the queue is full for a new order. If so, counts it as rejected.
    pub(crate) fn reject_if_full(&self) -> bool {
        self.reject_behind(self.queued.load(Ordering::Relaxed))
    }

    fn reject_behind(&self, ahead: usize) -> bool {
        let is_full = ahead >= self.queue_limit.load(Ordering::Relaxed);
        self.rejected.fetch_add(u32::from(is_full), Ordering::Relaxed);
        is_full
    }

    /// Shortest time after which a rejected order should try again.
    pub(crate) fn retry_after(&self) -> Duration {
        Duration::from_millis(self.retry_after_ms.load(Ordering::Relaxed))
    }

    fn adapt(&self, started: u32, rejected: u32, timed_out: u32) {
        let limit = self.queue_limit.load(Ordering::Relaxed);
        let cooldown = self.cooldown_ticks.load(Ordering::Relaxed);
        let (limit, cooldown) = match (timed_out > 0, cooldown) {
            (true, 0) => (
                limit - limit / QUEUE_LIMIT_DECREASE_DIVISOR,
                DECREASE_COOLDOWN_TICKS,
            ),
            (false, 0) if rejected > 0 => (limit + QUEUE_LIMIT_INCREASE, 0),
            _ => (limit, cooldown.saturating_sub(1)),
        };
        let limit = limit.clamp(*QUEUE_LIMIT_RANGE.start(), *QUEUE_LIMIT_RANGE.end());
        self.queue_limit.store(limit, Ordering::Relaxed);
        self.cooldown_ticks.store(cooldown, Ordering::Relaxed);
        let current = self.retry_after();
        let next = match rejected + timed_out {
            refused if refused > started => current + RETRY_AFTER_INCREASE,
            refused if refused > started / 4 => current,
            _ => current.saturating_sub(RETRY_AFTER_DECREASE),
        };
        let next = next.clamp(*RETRY_AFTER_RANGE.start(), *RETRY_AFTER_RANGE.end());
        self.retry_after_ms.store(millis(next), Ordering::Relaxed);
    }

    fn start_waiting(&self) -> Waiter<'_> {
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiter {
            limiter: self,
            is_first: ahead == 0,
        }
    }

    fn try_acquire(&self) -> Option<OrderPermit<'_>> {
        let one_more = |active: usize| (active < ACTIVE_ORDERS_MAX).then_some(active + 1);
        self.active
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()
            .map(|_| OrderPermit(self))
    }

    fn release(&self) {
        let before = self.active.fetch_sub(1, Ordering::Relaxed);
        if before <= ACTIVE_ORDERS_MAX {
            self.capacity.notify_one();
        }
    }
}

impl Drop for OrderPermit<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Makes an idle order active again, whether its call was answered or canceled.
struct Reactivate<'a>(&'a OrderLimiter);

impl Drop for Reactivate<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_add(1, Ordering::Relaxed);
    }
}

/// A place in the queue, until dropped.
#[derive(Debug)]
pub(crate) struct QueuedOrder<'a>(&'a OrderLimiter);

impl Drop for QueuedOrder<'_> {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts as waiting until dropped.
struct Waiter<'a> {
    limiter: &'a OrderLimiter,
    is_first: bool,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.limiter.waiting.fetch_sub(1, Ordering::Relaxed);
        // Several releases may have merged into one notification, so pass it on while there is capacity.
        if self.limiter.active.load(Ordering::Relaxed) < ACTIVE_ORDERS_MAX {
            self.limiter.capacity.notify_one();
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
