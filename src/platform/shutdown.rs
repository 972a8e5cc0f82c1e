//! Graceful shutdown: an advance notice, a stop signal, and a wait for work that must not be interrupted.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::{JoinError, JoinHandle};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

use crate::{kernel::Stopwatch, platform::process::Process};

/// The pause of a task that panics again and again doubles up to this one.
const PANIC_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The lifecycle of a group of tasks: running, draining, stopping. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    process: Process,
    leaving: CancellationToken,
    /// The same as a flag: every response reads it, and the token is read under a lock.
    is_draining: Arc<AtomicBool>,
    stopping: CancellationToken,
    work: TaskTracker,
}

impl Lifecycle {
    /// A lifecycle that is running, in a process of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A lifecycle of this process that is running.
    #[must_use]
    pub fn of(process: &Process) -> Self {
        Self {
            process: process.clone(),
            ..Self::default()
        }
    }

    /// The process that the tasks belong to.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Announces that the process will stop soon. Requests are served as before, but clients should move to
    /// another node.
    pub fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
        self.leaving.cancel();
    }

    /// Whether the process drains: it still serves, and tells clients to come back elsewhere.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Resolves when [`Lifecycle::begin_drain`] or [`Lifecycle::stop`] has been called.
    pub fn draining(&self) -> WaitForCancellationFuture<'_> {
        self.leaving.cancelled()
    }

    /// Signals all tasks to end; implies [`Lifecycle::begin_drain`].
    pub fn stop(&self) {
        self.begin_drain();
        self.stopping.cancel();
    }

    /// Whether [`Lifecycle::stop`] has been called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Resolves when [`Lifecycle::stop`] has been called.
    pub fn stopping(&self) -> WaitForCancellationFuture<'_> {
        self.stopping.cancelled()
    }

    /// The output of `work`, or `None` when [`Lifecycle::stop`] is called first.
    pub async fn until_stopping<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.stopping() => None,
            output = work => Some(output),
        }
    }

    /// Spawns a task that [`Lifecycle::wait_idle`] waits for. Background loops must end on
    /// [`Lifecycle::stopping`].
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.work.spawn(work)
    }

    /// Runs a state change to completion, even if the caller is dropped.
    ///
    /// When a client disconnects, the HTTP server drops the handler's future, and a change inside that future
    /// would stop half-way. Here the change runs in a task of its own, and only the waiting is dropped.
    ///
    /// # Errors
    /// [`TaskPanicked`] when the change panicked.
    pub async fn spawn_uncancellable<F>(&self, work: F) -> Result<F::Output, TaskPanicked>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn(work).await.map_err(|_| TaskPanicked)
    }

    /// Waits until all tasks have ended, at most for `timeout`; returns whether they have.
    pub async fn wait_idle(&self, timeout: Duration) -> bool {
        self.work.close();
        tokio::time::timeout(timeout, self.work.wait()).await.is_ok()
    }

    /// Runs a background loop that must not die silently: when `body` ends or panics before the process is
    /// stopping, this is logged and `body` is started again after `pause`, which doubles while it panics
    /// again and again.
    pub fn supervise<B, F>(&self, name: &'static str, pause: Duration, body: B)
    where
        B: Fn() -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let lifecycle = self.clone();
        self.spawn(async move {
            let mut longer = 0;
            while !lifecycle.is_stopping() {
                let running = Stopwatch::start();
                let ended = tokio::spawn(body()).await;
                if lifecycle.is_stopping() || is_runtime_gone(&ended) {
                    break;
                }
                if ended.is_ok() {
                    tracing::warn!(task = name, "a background task ended early; restarting it");
                } else {
                    tracing::error!(task = name, "a background task panicked; restarting it");
                }
                // A body that panics at once would otherwise take a core.
                let is_quick = running.elapsed_s() < PANIC_PAUSE_MAX.as_secs_f64();
                longer = if ended.is_err() && is_quick { longer + 1 } else { 0 };
                let pause = pause.max(pause.saturating_mul(1 << longer.min(8)).min(PANIC_PAUSE_MAX));
                tokio::select! {
                    () = lifecycle.stopping() => break,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }
}

/// Bodies are never aborted, so one that was canceled means that its runtime is being dropped: the process
/// exits without having stopped in order, as after a failed flush.
fn is_runtime_gone(ended: &Result<(), JoinError>) -> bool {
    matches!(ended, Err(e) if e.is_cancelled())
}

/// The task panicked; the panic itself was reported where it happened.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the task panicked")]
pub struct TaskPanicked;

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_completes_after_its_caller_is_gone() {
        let lifecycle = Lifecycle::new();
        let done = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&done);
        let waiting = lifecycle.spawn_uncancellable(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            seen.fetch_add(1, Ordering::SeqCst);
        });
        assert!(
            tokio::time::timeout(Duration::from_millis(10), waiting)
                .await
                .is_err(),
            "the waiting is over"
        );
        assert!(lifecycle.wait_idle(Duration::from_secs(5)).await);
        assert_eq!(done.load(Ordering::SeqCst), 1, "the change is not");
    }

    #[tokio::test]
    async fn a_runtime_that_is_dropped_is_no_panic_of_its_tasks() {
        let aborted = tokio::spawn(std::future::pending());
        aborted.abort();
        assert!(
            is_runtime_gone(&aborted.await),
            "dropping a runtime cancels like this"
        );
        let panicked = tokio::spawn(async { panic!("as the test wants") });
        assert!(!is_runtime_gone(&panicked.await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_ends_is_started_again() {
        let lifecycle = Lifecycle::new();
        let starts = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&starts);
        lifecycle.supervise("test", Duration::from_millis(1), move || {
            let seen = Arc::clone(&seen);
            async move {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        lifecycle.stop();
        assert!(lifecycle.wait_idle(Duration::from_secs(1)).await);
        assert!(starts.load(Ordering::SeqCst) > 2);
    }
}
