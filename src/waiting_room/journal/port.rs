//! The journal's port: what both backends implement.

use async_trait::async_trait;

use crate::{
    kernel::Timestamp,
    waiting_room::journal::record::{Record, Stored},
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// A number or a visit is there already; nothing of the group was written.
    #[error("the journal holds a record that excludes this one")]
    Conflict,
    /// The engine under whose epoch this was decided has lost its memory since; nothing of the group was written.
    #[error("the journal is in a later epoch")]
    Stale,
    /// Whether the group was written is not known until the journal has been read again.
    #[error("the journal does not answer: {0}")]
    Unavailable(String),
    #[error("the journal's record {seq} cannot be read")]
    Unreadable { seq: u64 },
    #[error("the journal's link {number} cannot be read")]
    UnreadableLink { number: u64 },
}

/// One sale's journal.
#[async_trait]
pub(crate) trait Journal: Send + Sync + 'static {
    /// Writes all records in this order with one commit, or none; returns when they would survive a power cut. Gives
    /// the sequence number of the last. A journal that several processes write refuses an epoch that is over.
    async fn append(&self, epoch: u64, records: &[Record]) -> Result<u64, JournalError>;

    /// At most `limit` records after `after` (0 for the beginning), oldest first.
    async fn read(&self, after: u64, limit: u32) -> Result<Vec<Stored>, JournalError>;

    /// Whether other processes write it too. Then sequence numbers have no gaps, and a gap means others' records.
    fn is_shared(&self) -> bool {
        false
    }

    /// Somebody is at the door at this moment; gives when that was last said. `None` where nobody asks.
    async fn beat(&self, _now: Timestamp) -> Result<Option<Timestamp>, JournalError> {
        Ok(None)
    }
}
