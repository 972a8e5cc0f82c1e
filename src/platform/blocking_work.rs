//! Work of some milliseconds for a response: on blocking threads, and few at a time.
//!
//! A caller may ask for such work as often as it likes. On the threads that serve requests it would delay all
//! others; without a limit it would take every core.

use tokio::sync::Semaphore;

use crate::platform::shutdown::TaskPanicked;

/// One kind of such work, for the whole process.
#[derive(Debug)]
pub struct BlockingWork {
    turns: Semaphore,
}

impl BlockingWork {
    /// At most `at_once` pieces of it are done at a time; further ones wait for their turn.
    #[must_use]
    pub const fn new(at_once: usize) -> Self {
        Self {
            turns: Semaphore::const_new(at_once),
        }
    }

    /// Does one piece. A caller that goes away while it waits for its turn costs nothing; one that goes away
    /// later keeps the turn until the piece is done, so that leaving early buys no more of it.
    ///
    /// # Errors
    /// [`TaskPanicked`] when the work panicked, or the process has stopped.
    pub async fn run<T: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TaskPanicked> {
        let turn = self.turns.acquire().await.map_err(|_| TaskPanicked)?;
        let working = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        working.await.map_err(|_| TaskPanicked)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        thread,
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn work_leaves_the_serving_thread_and_waits_for_its_turn() {
        static AT_WORK: AtomicUsize = AtomicUsize::new(0);
        static WORK: BlockingWork = BlockingWork::new(2);
        let pieces = (0..8).map(|_| {
            WORK.run(|| {
                let at_once = AT_WORK.fetch_add(1, Ordering::SeqCst) + 1;
                thread::sleep(Duration::from_millis(5));
                AT_WORK.fetch_sub(1, Ordering::SeqCst);
                (at_once, thread::current().id())
            })
        });
        for piece in futures_util::future::join_all(pieces).await {
            let (at_once, thread) = piece.unwrap();
            assert!(at_once <= 2, "{at_once} at once");
            assert_ne!(thread, thread::current().id());
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_frees_the_turn() {
        static WORK: BlockingWork = BlockingWork::new(1);
        assert!(WORK.run(|| panic!("as planned")).await.is_err());
        assert_eq!(WORK.run(|| 1).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_caller_that_leaves_keeps_the_turn_until_the_work_is_done() {
        static WORK: BlockingWork = BlockingWork::new(1);
        let (finish, wait) = mpsc::channel::<()>();
        let mut leaving = Box::pin(WORK.run(move || wait.recv()));
        assert!(futures_util::poll!(&mut leaving).is_pending());
        drop(leaving);
        assert_eq!(WORK.turns.available_permits(), 0, "the work goes on");
        finish.send(()).unwrap();
        assert_eq!(WORK.run(|| 1).await.unwrap(), 1);
    }
}
