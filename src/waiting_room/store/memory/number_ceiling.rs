//! The highest number that the memory store may assign where joins are answered before they are journaled.
//!
//! Numbers that are assigned and not journaled yet are lost with the process. So that none of them is
//! assigned to a second subject, the journal holds the ceiling beforehand, and numbering continues above it
//! after a restart.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::sync::Mutex;

use crate::waiting_room::{journal::sqlite::SqliteJournal, store::port::StoreError};

/// A crash skips at most one part in this many of the sale's numbers.
const HEADROOM_PART: u32 = 128;
/// Enough for a tenth of a second at full load; fewer are not worth a commit.
const HEADROOM: RangeInclusive<u32> = 16..=8_192;

#[derive(Debug)]
pub(super) struct Ceiling {
    journal: Arc<SqliteJournal>,
    allowed: AtomicU32,
    numbers_max: u32,
    raising: Mutex<()>,
}

impl Ceiling {
    /// `allowed` is the ceiling that the journal holds.
    pub(super) fn new(journal: Arc<SqliteJournal>, allowed: u32, numbers_max: u32) -> Self {
        Self {
            journal,
            allowed: AtomicU32::new(allowed),
            numbers_max,
            raising: Mutex::default(),
        }
    }

    /// The highest number that may be assigned now.
    pub(super) fn allowed(&self) -> u32 {
        self.allowed.load(Ordering::Relaxed).min(self.numbers_max)
    }

    /// All numbers up to `reached` are assigned: waits until more are allowed.
    pub(super) async fn raise_above(&self, reached: u32) -> Result<(), StoreError> {
        let _turn = self.raising.lock().await;
        if self.allowed() > reached {
            Ok(())
        } else {
            self.raise(reached).await
        }
    }

    /// Called after `number` was assigned. The first join beyond half of the headroom waits for the commit
    /// that raises the ceiling, and no other join does.
    pub(super) async fn raise_early(&self, number: u32) {
        let allowed = self.allowed();
        if allowed < self.numbers_max
            && allowed.saturating_sub(number) < self.headroom() / 2
            && let Ok(_turn) = self.raising.try_lock()
        {
            // On failure the join that needs a higher ceiling raises it.
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
                tracing::warn!(%error, "cannot assign more numbers: the journal is unavailable; joins \
                    fail until it returns");
                Err(StoreError::Unavailable)
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
    use crate::{platform::shutdown::Lifecycle, waiting_room::tests::TempDir};

    #[tokio::test]
    async fn the_ceiling_rises_early_and_survives_a_restart() {
        let dir = TempDir::new();
        let open = async || {
            SqliteJournal::open(
                &dir.path().join("queue.db"),
                "sale".parse().unwrap(),
                &Lifecycle::new(),
            )
            .await
            .unwrap()
        };
        let journal = Arc::new(open().await);
        let ceiling = Ceiling::new(Arc::clone(&journal), journal.ceiling().await.unwrap(), 1_000);
        assert_eq!(ceiling.allowed(), 0);
        ceiling.raise_above(0).await.unwrap();
        ceiling.raise_early(8).await;
        assert_eq!(ceiling.allowed(), 16, "half of it is left");
        ceiling.raise_early(9).await;
        assert_eq!(ceiling.allowed(), 25);
        ceiling.raise_above(16).await.unwrap();
        assert_eq!(ceiling.allowed(), 25, "another join has raised it");
        ceiling.raise_above(990).await.unwrap();
        ceiling.raise_early(999).await;
        assert_eq!(
            (ceiling.allowed(), open().await.ceiling().await.unwrap()),
            (1_000, 1_000),
            "no further than the sale goes"
        );
        assert_eq!(journal.raise_ceiling(5).await.unwrap(), 1_000, "it never falls");
    }
}
