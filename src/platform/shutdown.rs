//! How the process ends: a word beforehand, one signal to all, and a wait for the work that must not be cut in half.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

/// Shared by every task of the process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    leaving: CancellationToken,
    /// The same for whoever asks with every answer: a token is read under a lock.
    is_draining: Arc<AtomicBool>,
    stopping: CancellationToken,
    work: TaskTracker,
}

impl Lifecycle {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells everybody that the process will end soon: all is served as before, but whoever can turn elsewhere should.
    pub fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
        self.leaving.cancel();
    }

    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Resolves when [`Lifecycle::leave`] or [`Lifecycle::stop`] has been called.
    pub fn draining(&self) -> WaitForCancellationFuture<'_> {
        self.leaving.cancelled()
    }

    /// Tells everybody that the process is ending.
    pub fn stop(&self) {
        self.begin_drain();
        self.stopping.cancel();
    }

    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Resolves when [`Lifecycle::stop`] has been called.
    pub fn stopping(&self) -> WaitForCancellationFuture<'_> {
        self.stopping.cancelled()
    }

    /// What comes of `work`, or nothing when [`Lifecycle::stop`] is called first.
    pub async fn until_stopping<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.stopping() => None,
            output = work => Some(output),
        }
    }

    /// Runs `work` as a task that a drain waits for. Background loops watch [`Lifecycle::stopping`] and end.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.work.spawn(work)
    }

    /// Runs a state change to its end, whoever waits for it.
    ///
    /// A client that hangs up makes the HTTP server drop the handler's future; a change that lived in that future
    /// would stop half-way. Here the change lives in a task of its own and only the waiting is dropped.
    ///
    /// # Errors
    /// [`Broken`] when the change panicked.
    pub async fn spawn_uncancellable<F>(&self, work: F) -> Result<F::Output, TaskPanicked>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn(work).await.map_err(|_| TaskPanicked)
    }

    /// Waits until all tasks have ended, at most `patience`; says whether they have.
    pub async fn wait_idle(&self, patience: Duration) -> bool {
        self.work.close();
        tokio::time::timeout(patience, self.work.wait()).await.is_ok()
    }

    /// A background loop that must not die silently: when `body` ends before the process is stopping, it is logged and
    /// started again after `pause`.
    pub fn supervise<B, F>(&self, name: &'static str, pause: Duration, body: B)
    where
        B: Fn() -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let life = self.clone();
        self.spawn(async move {
            while !life.is_stopping() {
                let ended = tokio::spawn(body()).await;
                if life.is_stopping() {
                    break;
                }
                if ended.is_ok() {
                    tracing::warn!(task = name, "a background task ended early; starting it again");
                } else {
                    tracing::error!(task = name, "a background task panicked; starting it again");
                }
                tokio::select! {
                    () = life.stopping() => break,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }
}

/// The work panicked; the panic itself has been reported where it happened.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the work broke off")]
pub struct TaskPanicked;

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_outlives_whoever_waited_for_it() {
        let life = Lifecycle::new();
        let done = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&done);
        let waiting = life.spawn_uncancellable(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            seen.fetch_add(1, Ordering::SeqCst);
        });
        assert!(
            tokio::time::timeout(Duration::from_millis(10), waiting)
                .await
                .is_err(),
            "the waiting is over"
        );
        assert!(life.wait_idle(Duration::from_secs(5)).await);
        assert_eq!(done.load(Ordering::SeqCst), 1, "the change is not");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_dies_is_started_again() {
        let life = Lifecycle::new();
        let starts = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&starts);
        life.supervise("test", Duration::from_millis(1), move || {
            let seen = Arc::clone(&seen);
            async move {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        life.stop();
        assert!(life.wait_idle(Duration::from_secs(1)).await);
        assert!(starts.load(Ordering::SeqCst) > 2);
    }
}
