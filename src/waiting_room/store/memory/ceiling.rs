//! Up to which number the embedded engine may give numbers, where joins are answered before they are written down.
//!
//! What was given and not written yet goes with the process. So that it never becomes somebody else's, the journal knows
//! beforehand how far numbers may have gone, and after a restart the line goes on above that.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::sync::Mutex;

use crate::waiting_room::{journal::SqliteJournal, store::port::StoreError};

/// Of the numbers that a sale may give, this part is the most that a crash makes nobody's.
const HEADROOM_PART: u32 = 128;
/// At a hundred thousand joins a second more is used up in a tenth of a second, and fewer are not worth a commit.
const HEADROOM: RangeInclusive<u32> = 16..=8_192;

#[derive(Debug)]
pub(super) struct Ceiling {
    journal: Arc<SqliteJournal>,
    allowed: AtomicU32,
    numbers_max: u32,
    raising: Mutex<()>,
}

impl Ceiling {
    /// `allowed` is what the journal knows already.
    pub(super) fn new(journal: Arc<SqliteJournal>, allowed: u32, numbers_max: u32) -> Self {
        Self {
            journal,
            allowed: AtomicU32::new(allowed),
            numbers_max,
            raising: Mutex::default(),
        }
    }

    /// The highest number that may be given now.
    pub(super) fn allowed(&self) -> u32 {
        self.allowed.load(Ordering::Relaxed).min(self.numbers_max)
    }

    /// All numbers up to `reached` are given: waits until there are more.
    pub(super) async fn raise_above(&self, reached: u32) -> Result<(), StoreError> {
        let _turn = self.raising.lock().await;
        if self.allowed() > reached {
            Ok(())
        } else {
            self.raise(reached).await
        }
    }

    /// `number` has been given. Whoever is the first beyond half of what is allowed waits for the commit that allows more,
    /// and nobody else does.
    pub(super) async fn passed(&self, number: u32) {
        let allowed = self.allowed();
        if allowed < self.numbers_max
            && allowed.saturating_sub(number) < self.headroom() / 2
            && let Ok(_turn) = self.raising.try_lock()
        {
            // Who needs it, asks again.
            let _ = self.raise(number).await;
        }
    }

    async fn raise(&self, above: u32) -> Result<(), StoreError> {
        match self
            .journal
            .raise_ceiling(above.saturating_add(self.headroom()).min(self.numbers_max))
            .await
        {
            Ok(ceiling) => {
                self.allowed.store(ceiling, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "no more numbers can be given while the journal is away");
                Err(StoreError::Away)
            }
        }
    }

    fn headroom(&self) -> u32 {
        (self.numbers_max / HEADROOM_PART).clamp(*HEADROOM.start(), *HEADROOM.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiting_room::tests::TempDir;

    #[tokio::test]
    async fn it_is_raised_before_it_is_reached_and_known_after_a_restart() {
        let dir = TempDir::new();
        let open = async || {
            SqliteJournal::open(&dir.path().join("queue.db"), "sale".parse().unwrap())
                .await
                .unwrap()
        };
        let journal = Arc::new(open().await);
        let ceiling = Ceiling::new(Arc::clone(&journal), journal.ceiling().await.unwrap(), 1_000);
        assert_eq!(ceiling.allowed(), 0);
        ceiling.raise_above(0).await.unwrap();
        ceiling.passed(8).await;
        assert_eq!(ceiling.allowed(), 16, "half of it is left");
        ceiling.passed(9).await;
        assert_eq!(ceiling.allowed(), 25);
        ceiling.raise_above(16).await.unwrap();
        assert_eq!(ceiling.allowed(), 25, "somebody else has raised it");
        ceiling.raise_above(990).await.unwrap();
        ceiling.passed(999).await;
        assert_eq!(
            (ceiling.allowed(), open().await.ceiling().await.unwrap()),
            (1_000, 1_000),
            "no further than the sale goes"
        );
        assert_eq!(journal.raise_ceiling(5).await.unwrap(), 1_000, "it never falls");
    }
}
