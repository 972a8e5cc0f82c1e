//! Injection of crashes: kills a simulated process at any of its outward calls.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Kills the process at its nth outward call: before the call takes effect, or after it and before the
/// answer.
pub(crate) struct CrashPoint {
    calls: AtomicU64,
    crashes_at: u64,
    after: bool,
    crashed: AtomicBool,
    /// Calls that have started and not ended.
    in_progress: AtomicU64,
    /// Opening is not under test: the crash point is armed once the process serves.
    pub(super) armed: AtomicBool,
}

/// Counts a call as long as its future lives, also when it is dropped half-way.
struct CallInProgress<'a>(&'a AtomicU64);

impl<'a> CallInProgress<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for CallInProgress<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl CrashPoint {
    pub(crate) fn never() -> Arc<Self> {
        Self::at(u64::MAX, false)
    }

    pub(crate) fn at(call: u64, after: bool) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicU64::new(0),
            crashes_at: call,
            after,
            crashed: AtomicBool::new(false),
            armed: AtomicBool::new(false),
            in_progress: AtomicU64::new(0),
        })
    }

    pub(crate) fn has_crashed(&self) -> bool {
        self.crashed.load(Ordering::SeqCst)
    }

    pub(super) async fn guard<T>(&self, call: impl Future<Output = T>) -> T {
        let in_progress = CallInProgress::new(&self.in_progress);
        let answer = self.call(call).await;
        drop(in_progress);
        match answer {
            Some(answer) if !self.has_crashed() => answer,
            _ => std::future::pending().await,
        }
    }

    async fn call<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        if !self.armed.load(Ordering::SeqCst) {
            return Some(call.await);
        }
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        if number == self.crashes_at && !self.after {
            self.crashed.store(true, Ordering::SeqCst);
        }
        if self.has_crashed() {
            return None;
        }
        let answer = call.await;
        if number == self.crashes_at {
            self.crashed.store(true, Ordering::SeqCst);
        }
        Some(answer)
    }

    /// Nothing that the process does has any effect from now on, and every call that had started is over.
    pub(super) async fn kill(&self) {
        self.crashed.store(true, Ordering::SeqCst);
        while self.in_progress.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
