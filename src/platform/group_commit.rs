//! Group commit: writes concurrent requests together, with one flush for the whole group.
//!
//! While one group is being written the next one accumulates, so a lone caller waits for one flush and a
//! crowd shares it (as PostgreSQL with `commit_delay = 0`, and InnoDB's binary log). A lone caller never
//! waits for others to arrive.
//!
//! A writer with a pace also merges callers that arrive one after the other faster than a flush is worth: a
//! small group accumulates until the pace has passed since the last group began (as `commit_delay` with
//! `commit_siblings`). Requests whose result is not awaited accumulate longer, because one large write is
//! cheaper than many small ones.

use std::{future::Future, pin::pin, time::Duration};

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use crate::platform::shutdown::Lifecycle;

/// A handle to a group writer. Cheap to clone.
#[derive(Debug)]
pub struct GroupCommit<T, R> {
    requests: mpsc::Sender<Pending<T, R>>,
}

/// A request, and where its result goes; `None` when the result is not awaited.
type Pending<T, R> = (T, Option<oneshot::Sender<R>>);

/// How long a group accumulates when none of its results is awaited. A commit has a fixed cost, whatever its
/// size.
const LINGER: Duration = Duration::from_millis(20);
/// A group of this size is written at once, whatever the pace.
const FLUSH_AT: usize = 16;

impl<T, R> Clone for GroupCommit<T, R> {
    fn clone(&self) -> Self {
        Self {
            requests: self.requests.clone(),
        }
    }
}

/// Why a request has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupCommitError {
    /// The request was not written.
    #[error("the writer's queue is full")]
    QueueFull,
    /// The request may or may not have been written.
    #[error("the writer stopped; whether the request was written is unknown")]
    WriterStopped,
}

impl<T: Send + 'static, R: Send + 'static> GroupCommit<T, R> {
    /// Starts the writer's task. `write` takes a group of 1 to `group_max` requests and returns one result
    /// for each, in order; requests without a result get [`GroupCommitError::WriterStopped`]. At most
    /// `queue_max` requests wait.
    pub fn start<W, F>(lifecycle: &Lifecycle, queue_max: usize, group_max: usize, write: W) -> Self
    where
        W: FnMut(Vec<T>) -> F + Send + 'static,
        F: Future<Output = Vec<R>> + Send,
    {
        Self::start_paced(lifecycle, queue_max, group_max, Duration::ZERO, write)
    }

    /// Like [`GroupCommit::start`], but small groups begin at least `pace` after each other, unless callers
    /// come one by one.
    pub fn start_paced<W, F>(
        lifecycle: &Lifecycle,
        queue_max: usize,
        group_max: usize,
        pace: Duration,
        mut write: W,
    ) -> Self
    where
        W: FnMut(Vec<T>) -> F + Send + 'static,
        F: Future<Output = Vec<R>> + Send,
    {
        let (requests, mut receiver) = mpsc::channel::<Pending<T, R>>(queue_max);
        let stopping = lifecycle.clone();
        lifecycle.spawn(async move {
            let mut group = Vec::with_capacity(group_max);
            let mut next_at = pin!(tokio::time::sleep(Duration::ZERO));
            let mut was_shared = false;
            loop {
                // `biased` prefers requests over the stop signal: what is already queued is still written.
                let got = tokio::select! {
                    biased;
                    got = receiver.recv_many(&mut group, group_max) => got,
                    () = stopping.stopping() => {
                        receiver.close();
                        receiver.recv_many(&mut group, group_max).await
                    }
                };
                if got == 0 {
                    return;
                }
                // Yield once: the runtime may have woken this task before others whose requests arrived in
                // the same poll, and a group of one costs as much as a group of all of them.
                tokio::task::yield_now().await;
                let room = group_max - group.len();
                let _ = receiver.recv_many(&mut group, room).now_or_never();
                if group.iter().all(|(_, reply)| reply.is_none()) {
                    let lingering = linger(&mut receiver, &mut group, group_max);
                    let _ = stopping
                        .until_stopping(tokio::time::timeout(LINGER, lingering))
                        .await;
                } else if was_shared {
                    tokio::select! {
                        biased;
                        () = stopping.stopping() => {}
                        () = next_at.as_mut() => {}
                        () = fill(&mut receiver, &mut group, FLUSH_AT.min(group_max)) => {}
                    }
                }
                was_shared = !pace.is_zero() && group.len() > 1;
                if was_shared {
                    next_at.set(tokio::time::sleep(pace));
                }
                let (items, replies): (Vec<T>, Vec<_>) = group.drain(..).unzip();
                for (reply, result) in replies.into_iter().zip(write(items).await) {
                    // A caller that was dropped does not receive the result; the write stands.
                    let _ = reply.map(|reply| reply.send(result));
                }
            }
        });
        Self { requests }
    }

    /// Submits one request and waits for its result.
    ///
    /// # Errors
    /// [`GroupCommitError::QueueFull`] at once when too many requests wait (nothing was written);
    /// [`GroupCommitError::WriterStopped`] when the writer ended or panicked before the result.
    pub async fn submit(&self, item: T) -> Result<R, GroupCommitError> {
        let (reply, result) = oneshot::channel();
        self.try_send(item, Some(reply))?;
        result.await.map_err(|_| GroupCommitError::WriterStopped)
    }

    /// Submits one request without waiting for its result; it is written within some milliseconds.
    ///
    /// # Errors
    /// As [`GroupCommit::submit`], at once.
    pub fn enqueue(&self, item: T) -> Result<(), GroupCommitError> {
        self.try_send(item, None)
    }

    fn try_send(&self, item: T, reply: Option<oneshot::Sender<R>>) -> Result<(), GroupCommitError> {
        self.requests.try_send((item, reply)).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => GroupCommitError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => GroupCommitError::WriterStopped,
        })
    }

    /// Like [`GroupCommit::submit`], but waits while the queue is full. For internal work, never for a
    /// visitor's request: those must fail fast.
    ///
    /// # Errors
    /// [`GroupCommitError::WriterStopped`] when the writer ended or panicked before the result.
    pub async fn submit_when_free(&self, item: T) -> Result<R, GroupCommitError> {
        let (reply, result) = oneshot::channel();
        self.requests
            .send((item, Some(reply)))
            .await
            .map_err(|_| GroupCommitError::WriterStopped)?;
        result.await.map_err(|_| GroupCommitError::WriterStopped)
    }
}

/// Fills the group until it is full, a result is awaited, or all handles are gone.
async fn linger<T, R>(
    receiver: &mut mpsc::Receiver<Pending<T, R>>,
    group: &mut Vec<Pending<T, R>>,
    group_max: usize,
) {
    while group.len() < group_max {
        let before = group.len();
        let got = receiver.recv_many(group, group_max - before).await;
        if got == 0 || group[before..].iter().any(|(_, reply)| reply.is_some()) {
            return;
        }
    }
}

/// Fills the group until it has `enough` requests, or all handles are gone.
async fn fill<T, R>(
    receiver: &mut mpsc::Receiver<Pending<T, R>>,
    group: &mut Vec<Pending<T, R>>,
    enough: usize,
) {
    while group.len() < enough {
        let room = enough - group.len();
        if receiver.recv_many(group, room).await == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use futures_util::future::join_all;
    use parking_lot::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_during_a_write_share_the_next_group() {
        let lifecycle = Lifecycle::new();
        let groups = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&groups);
        let commit = GroupCommit::start(&lifecycle, 1_000, 1_000, move |items: Vec<u32>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                items.into_iter().map(|n| n * 2).collect()
            }
        });
        let first = tokio::spawn({
            let commit = commit.clone();
            async move { commit.submit(1).await }
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        let rest = join_all((2..100).map(|n| commit.submit(n))).await;
        assert_eq!(first.await.unwrap(), Ok(2));
        assert_eq!(rest, (2..100).map(|n| Ok(n * 2)).collect::<Vec<_>>());
        assert_eq!(groups.load(Ordering::SeqCst), 2);
    }

    /// The group sizes of a paced writer when `at_a_time` callers arrive every `every_ms` milliseconds.
    async fn groups_of(at_a_time: usize, every_ms: u64) -> Vec<usize> {
        let lifecycle = Lifecycle::new();
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sizes);
        let commit = GroupCommit::start_paced(
            &lifecycle,
            1_000,
            1_000,
            Duration::from_millis(10),
            move |items: Vec<u32>| {
                seen.lock().push(items.len());
                async move { items }
            },
        );
        let mut callers = Vec::new();
        for _ in 0..20 {
            for _ in 0..at_a_time {
                let commit = commit.clone();
                callers.push(tokio::spawn(async move { commit.submit(1).await }));
            }
            tokio::time::sleep(Duration::from_millis(every_ms)).await;
        }
        join_all(callers).await;
        lifecycle.stop();
        std::mem::take(&mut *sizes.lock())
    }

    #[tokio::test(start_paused = true)]
    async fn only_small_groups_wait_for_the_pace() {
        assert_eq!(groups_of(1, 3).await, [1; 20], "one by one");
        let sizes = groups_of(2, 3).await;
        assert!(sizes.len() <= 8 && sizes.iter().sum::<usize>() == 40, "{sizes:?}");
        assert_eq!(groups_of(FLUSH_AT, 3).await, [FLUSH_AT; 20]);
    }

    #[tokio::test(start_paused = true)]
    async fn unawaited_requests_linger_until_one_is_awaited() {
        let lifecycle = Lifecycle::new();
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sizes);
        let commit = GroupCommit::start(&lifecycle, 1_000, 1_000, move |items: Vec<u32>| {
            seen.lock().push(items.len());
            async move { items }
        });
        let a_while = LINGER / 4;
        for n in 0..12 {
            commit.enqueue(n).unwrap();
            tokio::time::sleep(a_while).await;
        }
        tokio::time::sleep(LINGER).await;
        let group_sizes = std::mem::take(&mut *sizes.lock());
        assert!(
            group_sizes.len() <= 4 && group_sizes.iter().sum::<usize>() == 12,
            "{group_sizes:?}"
        );
        commit.enqueue(12).unwrap();
        tokio::time::sleep(a_while).await;
        let result = tokio::time::timeout(Duration::from_millis(1), commit.submit(13)).await;
        assert_eq!(result.expect("an awaited request does not linger"), Ok(13));
        assert_eq!(*sizes.lock(), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_still_writes_what_was_submitted() {
        let lifecycle = Lifecycle::new();
        let commit = GroupCommit::start(&lifecycle, 1, 1, |items: Vec<u32>| async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            items
        });
        let waiting: Vec<_> = (0..2)
            .map(|n| {
                let commit = commit.clone();
                tokio::spawn(async move { commit.submit_when_free(n).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(commit.submit(9).await, Err(GroupCommitError::QueueFull));
        lifecycle.stop();
        assert!(lifecycle.wait_idle(Duration::from_secs(1)).await);
        for (n, task) in (0..).zip(waiting) {
            assert_eq!(task.await.unwrap(), Ok(n));
        }
        assert_eq!(commit.submit(9).await, Err(GroupCommitError::WriterStopped));
    }
}
