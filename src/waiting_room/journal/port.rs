//! The journal's port: what both backends implement.

use async_trait::async_trait;

use crate::{
    kernel::Timestamp,
    waiting_room::journal::record::{Record, StoredRecord},
};

/// A journal call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// A record excludes one of these, for example because a number or a visit is there already. Nothing was
    /// written.
    #[error("the journal holds a record that excludes this one")]
    Conflict,
    /// The store lost the dataset under whose epoch this was decided. Nothing was written.
    #[error("the journal is in a later epoch")]
    StaleEpoch,
    /// The journal does not answer. Whether the records were written is unknown until it has been read again.
    #[error("the journal does not answer: {0}")]
    Unavailable(String),
    /// A record is damaged, or of a later version.
    #[error("the journal's record {seq} cannot be read")]
    Unreadable { seq: u64 },
    /// A link of the hash chain is damaged.
    #[error("the journal's chain link {number} cannot be read")]
    UnreadableLink { number: u64 },
}

/// The journal of one sale.
#[async_trait]
pub(crate) trait Journal: Send + Sync + 'static {
    /// Writes all records in this order with one commit, or none; returns once they would survive a power
    /// cut, with the last one's sequence number. A journal that several processes write refuses an epoch that
    /// is over.
    async fn append(&self, epoch: u64, records: &[Record]) -> Result<u64, JournalError>;

    /// At most `limit` records after `after` (0 for the beginning), oldest first.
    async fn read(&self, after: u64, limit: u32) -> Result<Vec<StoredRecord>, JournalError>;

    /// Whether other processes write it too. Then sequence numbers have no gaps, and a gap means others'
    /// records.
    fn is_shared(&self) -> bool {
        false
    }

    /// Records that a process can admit visitors at this moment; returns when one last could. `None` where
    /// the journal is not shared.
    async fn heartbeat(&self, _now: Timestamp) -> Result<Option<Timestamp>, JournalError> {
        Ok(None)
    }
}
