//! Tests of the order limiter, on paused time.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::mpsc;

use super::*;

async fn new_order(limiter: &OrderLimiter) -> Option<OrderPermit<'_>> {
    limiter.acquire(limiter.enqueue()?).await
}

#[tokio::test(start_paused = true)]
async fn a_new_order_starts_when_another_ends_or_idles() {
    let limiter = Arc::new(OrderLimiter::default());
    let mut permits: Vec<_> = (0..ACTIVE_ORDERS_MAX)
        .map(|_| limiter.try_acquire().unwrap())
        .collect();
    let (started, mut starts) = mpsc::unbounded_channel();
    let newcomers: Vec<_> = (0..3)
        .map(|n| {
            let (limiter, started) = (Arc::clone(&limiter), started.clone());
            tokio::spawn(async move {
                let permit = new_order(&limiter).await;
                started.send(n).unwrap();
                std::mem::forget(permit);
            })
        })
        .collect();
    tokio::time::sleep(QUEUE_TIMEOUT / 4).await;
    assert!(starts.is_empty(), "there is no capacity");
    permits.pop();
    assert_eq!(starts.recv().await, Some(0), "first come, first served");
    let answered = limiter.while_idle(tokio::time::sleep(QUEUE_TIMEOUT / 4)).await;
    assert_eq!(
        (answered, starts.recv().await),
        ((), Some(1)),
        "capacity was free during the call"
    );
    assert_eq!(
        limiter.active.load(Ordering::Relaxed),
        ACTIVE_ORDERS_MAX + 1,
        "an order that has started continues beyond the limit"
    );
    permits.pop();
    tokio::time::sleep(QUEUE_TIMEOUT / 4).await;
    assert!(starts.is_empty(), "one order beyond the limit had to end first");
    permits.pop();
    assert_eq!(starts.recv().await, Some(2));
    for newcomer in newcomers {
        newcomer.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn orders_without_capacity_are_rejected_in_time() {
    let limiter = Arc::new(OrderLimiter::default());
    let permits: Vec<_> = (0..ACTIVE_ORDERS_MAX).map(|_| limiter.permit()).collect();
    assert!(new_order(&limiter).await.is_none());
    let crowd: Vec<_> = (0..=*QUEUE_LIMIT_RANGE.end())
        .map(|_| {
            let limiter = Arc::clone(&limiter);
            tokio::spawn(async move { new_order(&limiter).await.is_some() })
        })
        .collect();
    tokio::time::sleep(QUEUE_TIMEOUT / 2).await;
    assert_eq!(
        crowd.iter().filter(|order| order.is_finished()).count(),
        1,
        "one more than the queue limit"
    );
    for one in crowd {
        assert!(!one.await.unwrap());
    }
    drop(permits);
    assert_eq!(
        (
            limiter.active.load(Ordering::Relaxed),
            limiter.queued.load(Ordering::Relaxed),
            limiter.waiting.load(Ordering::Relaxed)
        ),
        (0, 0, 0)
    );
    assert!(new_order(&limiter).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_overtake_the_queue() {
    let limiter = Arc::new(OrderLimiter::default());
    let mut permits: Vec<_> = (0..ACTIVE_ORDERS_MAX).map(|_| limiter.permit()).collect();
    let waiting = tokio::spawn({
        let limiter = Arc::clone(&limiter);
        async move { new_order(&limiter).await.is_some() }
    });
    tokio::time::sleep(WAIT_TARGET / 4).await;
    // The place is free, and the one whose it is has not run yet when another new_order.
    permits.pop();
    assert!(new_order(&limiter).now_or_never().is_none());
    assert!(waiting.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_queue_limit_adapts_to_what_starts_in_time() {
    let limiter = Arc::new(OrderLimiter::default());
    let permits: Vec<_> = (0..ACTIVE_ORDERS_MAX).map(|_| limiter.permit()).collect();
    // There is never capacity: fewer and fewer orders wait in vain, and the others are rejected at once.
    for _ in 0..20 {
        let crowd: Vec<_> = (0..600)
            .map(|_| {
                let limiter = Arc::clone(&limiter);
                tokio::spawn(async move { new_order(&limiter).await.is_some() })
            })
            .collect();
        tokio::time::sleep(QUEUE_TIMEOUT / 2).await;
        let at_once = crowd.iter().filter(|order| order.is_finished()).count();
        assert_eq!(at_once, 600 - limiter.queue_limit.load(Ordering::Relaxed));
        tokio::time::sleep(QUEUE_TIMEOUT).await;
        for _ in 0..=DECREASE_COOLDOWN_TICKS {
            limiter.is_saturated();
        }
    }
    assert_eq!(
        limiter.queue_limit.load(Ordering::Relaxed),
        *QUEUE_LIMIT_RANGE.start()
    );
    // There is capacity for all that wait, so the limit grows.
    drop(permits);
    for _ in 0..1_000 {
        limiter.rejected.store(1, Ordering::Relaxed);
        assert!(limiter.is_saturated());
    }
    assert_eq!(
        limiter.queue_limit.load(Ordering::Relaxed),
        *QUEUE_LIMIT_RANGE.end()
    );
    limiter.is_saturated();
    assert_eq!(
        limiter.queue_limit.load(Ordering::Relaxed),
        *QUEUE_LIMIT_RANGE.end()
    );
}

#[test]
fn retry_after_follows_the_rate_of_rejections() {
    let limiter = OrderLimiter::default();
    assert_eq!(limiter.retry_after(), *RETRY_AFTER_RANGE.start());
    (0..50).for_each(|_| limiter.adapt(25, 60, 0));
    assert_eq!(
        limiter.retry_after(),
        *RETRY_AFTER_RANGE.start() + RETRY_AFTER_INCREASE * 50
    );
    (0..50).for_each(|_| limiter.adapt(25, 15, 0));
    assert_eq!(
        limiter.retry_after(),
        *RETRY_AFTER_RANGE.start() + RETRY_AFTER_INCREASE * 50,
        "rejections are few against what starts"
    );
    (0..500).for_each(|_| limiter.adapt(0, 1, 0));
    assert_eq!(limiter.retry_after(), *RETRY_AFTER_RANGE.end());
    (0..200).for_each(|_| limiter.adapt(0, 0, 0));
    assert_eq!(limiter.retry_after(), *RETRY_AFTER_RANGE.start());
}

#[tokio::test(start_paused = true)]
async fn it_is_saturated_while_no_order_starts_promptly() {
    let limiter = Arc::new(OrderLimiter::default());
    assert!(!limiter.is_saturated(), "no order has arrived");
    let mut permits: Vec<_> = (0..ACTIVE_ORDERS_MAX).map(|_| limiter.permit()).collect();
    assert!(!limiter.is_saturated(), "no order waits");
    let newcomer = || {
        let limiter = Arc::clone(&limiter);
        tokio::spawn(async move { new_order(&limiter).await.is_some() })
    };
    let patient = newcomer();
    tokio::time::sleep(WAIT_TARGET * 2).await;
    assert!(limiter.is_saturated(), "an order waits and none has started");
    permits.pop();
    assert!(patient.await.unwrap());
    assert!(
        limiter.is_saturated(),
        "the order that started had waited too long"
    );
    permits.push(limiter.permit());
    let lucky = newcomer();
    tokio::time::sleep(WAIT_TARGET / 2).await;
    permits.pop();
    assert!(lucky.await.unwrap());
    assert!(!limiter.is_saturated(), "a short wait keeps the ledger busy");
    permits.clear();
    assert!(new_order(&limiter).await.is_some());
    assert!(!limiter.is_saturated());
}
