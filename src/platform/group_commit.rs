//! Group commit: whoever asks within the same moment is written together, with one flush for all.
//!
//! While one group is being written the next one gathers, so a lone caller waits for one flush and a crowd shares it (the
//! scheme of PostgreSQL's `commit_delay = 0` and of InnoDB's binary log). A lone caller never waits for company. Where
//! callers come one after the other, faster than a flush is worth, they are made to share it: a writer with a pace lets a
//! small group gather until so long after the last one began (`commit_delay` with `commit_siblings`). What nobody
//! waits for is let gather longer: many small writes cost more than one large one.

use std::{future::Future, pin::pin, time::Duration};

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use crate::platform::shutdown::Lifecycle;

/// The way into a group writer. Cheap to clone.
#[derive(Debug)]
pub struct GroupCommit<T, R> {
    requests: mpsc::Sender<Pending<T, R>>,
}

/// Without a sender nobody waits for the answer.
type Pending<T, R> = (T, Option<oneshot::Sender<R>>);

/// How long a group for which nobody waits may gather: a commit costs PostgreSQL half a millisecond of a core, whatever is in it.
const LINGER: Duration = Duration::from_millis(20);
/// A group of so many is worth a flush of its own at any moment.
const FLUSH_AT: usize = 16;

impl<T, R> Clone for GroupCommit<T, R> {
    fn clone(&self) -> Self {
        Self {
            requests: self.requests.clone(),
        }
    }
}

/// Why nothing was written, or nothing is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupCommitError {
    #[error("the writer's queue is full")]
    QueueFull,
    #[error("the writer is gone; whether the write took place is not known")]
    WriterStopped,
}

impl<T: Send + 'static, R: Send + 'static> GroupCommit<T, R> {
    /// Starts the writer. `write` takes a group of 1 to `group_max` asks and gives one answer for each, in order;
    /// fewer answers than asks leave the rest with [`GroupCommitError::Gone`]. At most `queue_max` asks wait.
    pub fn start<W, F>(life: &Lifecycle, queue_max: usize, group_max: usize, write: W) -> Self
    where
        W: FnMut(Vec<T>) -> F + Send + 'static,
        F: Future<Output = Vec<R>> + Send,
    {
        Self::start_paced(life, queue_max, group_max, Duration::ZERO, write)
    }

    /// As [`GroupCommit::start`]; small groups begin at least `pace` after each other, unless callers come one by one.
    pub fn start_paced<W, F>(
        life: &Lifecycle,
        queue_max: usize,
        group_max: usize,
        pace: Duration,
        mut write: W,
    ) -> Self
    where
        W: FnMut(Vec<T>) -> F + Send + 'static,
        F: Future<Output = Vec<R>> + Send,
    {
        let (asks, mut asked) = mpsc::channel::<Pending<T, R>>(queue_max);
        let stopping = life.clone();
        life.spawn(async move {
            let mut group = Vec::with_capacity(group_max);
            let mut next_at = pin!(tokio::time::sleep(Duration::ZERO));
            let mut had_company = false;
            loop {
                // When the process stops, what is already asked is still written: `biased` looks at it first.
                let got = tokio::select! {
                    biased;
                    got = asked.recv_many(&mut group, group_max) => got,
                    () = stopping.stopping() => {
                        asked.close();
                        asked.recv_many(&mut group, group_max).await
                    }
                };
                if got == 0 {
                    return;
                }
                // Whoever is on her way already comes along: a runtime wakes this task before those whose requests it has
                // read in the same moment, and a group of one costs as much as a group of all of them.
                tokio::task::yield_now().await;
                let room = group_max - group.len();
                let _ = asked.recv_many(&mut group, room).now_or_never();
                if group.iter().all(|(_, answer)| answer.is_none()) {
                    let gathering = linger(&mut asked, &mut group, group_max);
                    let _ = stopping
                        .until_stopping(tokio::time::timeout(LINGER, gathering))
                        .await;
                } else if had_company {
                    tokio::select! {
                        biased;
                        () = stopping.stopping() => {}
                        () = next_at.as_mut() => {}
                        () = fill(&mut asked, &mut group, FLUSH_AT.min(group_max)) => {}
                    }
                }
                had_company = !pace.is_zero() && group.len() > 1;
                if had_company {
                    next_at.set(tokio::time::sleep(pace));
                }
                let (items, answers): (Vec<T>, Vec<_>) = group.drain(..).unzip();
                for (answer, result) in answers.into_iter().zip(write(items).await) {
                    // Whoever hung up does not want the answer; the write stands.
                    let _ = answer.map(|answer| answer.send(result));
                }
            }
        });
        Self { requests: asks }
    }

    /// Hands in one item and waits for its answer.
    ///
    /// # Errors
    /// [`GroupCommitError::Full`] at once when too many wait already (nothing was written);
    /// [`GroupCommitError::Gone`] when the writer ended or broke before answering.
    pub async fn submit(&self, item: T) -> Result<R, GroupCommitError> {
        let (answer, answered) = oneshot::channel();
        self.try_send(item, Some(answer))?;
        answered.await.map_err(|_| GroupCommitError::WriterStopped)
    }

    /// Hands in one item whose answer nobody waits for; it is written within some milliseconds.
    ///
    /// # Errors
    /// As [`GroupCommit::submit`], at once.
    pub fn enqueue(&self, item: T) -> Result<(), GroupCommitError> {
        self.try_send(item, None)
    }

    fn try_send(&self, item: T, answer: Option<oneshot::Sender<R>>) -> Result<(), GroupCommitError> {
        self.requests.try_send((item, answer)).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => GroupCommitError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => GroupCommitError::WriterStopped,
        })
    }

    /// As [`GroupCommit::submit`], but waits for room in the queue: for the house's own work, never for a visitor's.
    ///
    /// # Errors
    /// [`GroupCommitError::Gone`] when the writer ended or broke before answering.
    pub async fn submit_when_free(&self, item: T) -> Result<R, GroupCommitError> {
        let (answer, answered) = oneshot::channel();
        self.requests
            .send((item, Some(answer)))
            .await
            .map_err(|_| GroupCommitError::WriterStopped)?;
        answered.await.map_err(|_| GroupCommitError::WriterStopped)
    }
}

/// Until the group is full, somebody waits for it, or nobody can come any more.
async fn linger<T, R>(
    asked: &mut mpsc::Receiver<Pending<T, R>>,
    group: &mut Vec<Pending<T, R>>,
    group_max: usize,
) {
    while group.len() < group_max {
        let before = group.len();
        let got = asked.recv_many(group, group_max - before).await;
        if got == 0 || group[before..].iter().any(|(_, answer)| answer.is_some()) {
            return;
        }
    }
}

/// Until there are so many, or nobody can come any more.
async fn fill<T, R>(asked: &mut mpsc::Receiver<Pending<T, R>>, group: &mut Vec<Pending<T, R>>, enough: usize) {
    while group.len() < enough {
        let room = enough - group.len();
        if asked.recv_many(group, room).await == 0 {
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
    async fn those_who_come_during_a_write_share_the_next() {
        let life = Lifecycle::new();
        let groups = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&groups);
        let commit = GroupCommit::start(&life, 1_000, 1_000, move |items: Vec<u32>| {
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

    /// Groups that a paced writer makes of callers who come so many at a time, each time so many milliseconds later.
    async fn groups_of(at_a_time: usize, every_ms: u64) -> Vec<usize> {
        let life = Lifecycle::new();
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sizes);
        let commit = GroupCommit::start_paced(
            &life,
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
        life.stop();
        std::mem::take(&mut *sizes.lock())
    }

    #[tokio::test(start_paused = true)]
    async fn small_groups_keep_their_pace_and_a_lone_caller_and_a_crowd_do_not_wait() {
        assert_eq!(groups_of(1, 3).await, [1; 20], "one by one");
        let sizes = groups_of(2, 3).await;
        assert!(sizes.len() <= 8 && sizes.iter().sum::<usize>() == 40, "{sizes:?}");
        assert_eq!(groups_of(FLUSH_AT, 3).await, [FLUSH_AT; 20]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_gathers_until_somebody_waits() {
        let life = Lifecycle::new();
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sizes);
        let commit = GroupCommit::start(&life, 1_000, 1_000, move |items: Vec<u32>| {
            seen.lock().push(items.len());
            async move { items }
        });
        let a_while = LINGER / 4;
        for n in 0..12 {
            commit.enqueue(n).unwrap();
            tokio::time::sleep(a_while).await;
        }
        tokio::time::sleep(LINGER).await;
        let gathered = std::mem::take(&mut *sizes.lock());
        assert!(
            gathered.len() <= 4 && gathered.iter().sum::<usize>() == 12,
            "{gathered:?}"
        );
        commit.enqueue(12).unwrap();
        tokio::time::sleep(a_while).await;
        let answered = tokio::time::timeout(Duration::from_millis(1), commit.submit(13)).await;
        assert_eq!(answered.expect("who waits is not made to wait"), Ok(13));
        assert_eq!(*sizes.lock(), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_at_once_and_a_stop_still_writes_what_was_asked() {
        let life = Lifecycle::new();
        let commit = GroupCommit::start(&life, 1, 1, |items: Vec<u32>| async move {
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
        life.stop();
        assert!(life.wait_idle(Duration::from_secs(1)).await);
        for (n, task) in (0..).zip(waiting) {
            assert_eq!(task.await.unwrap(), Ok(n));
        }
        assert_eq!(commit.submit(9).await, Err(GroupCommitError::WriterStopped));
    }
}
