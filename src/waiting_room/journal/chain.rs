//! The hash chain over a journal's records. A changed record is detected by every observer who kept a
//! later link.
//!
//! A link is made once a second, by one node or several: it is stored where it is the next number, so of
//! several made at once one counts. Joins do not wait for it; a record is linked within a second or two. A
//! link covers at most [`RECORDS_MAX`] records, so a journal that is older than its chain is linked from its
//! beginning, in several links.
//!
//! # What is hashed
//!
//! SHA-256; numbers are big endian; a record is its row as it stands in the table `journal` (`seq`, `kind` in
//! UTF-8, `body` byte for byte), in the order of `seq`, and `sale` is the sale's name in UTF-8:
//!
//! ```text
//! hash 0 = SHA-256("stagedoor journal 1\0" sale)
//! hash n = SHA-256("stagedoor link 1\0" hash(n-1):32 n:8 records:8 record*)
//! record = seq:8 length(kind):8 kind length(body):8 body
//! ```
//!
//! The `body` of joins is described in `journal/encoding.rs`; an event's is JSON, `[milliseconds since 1970,
//! {"kind": ...}]`.

use async_trait::async_trait;

use crate::{
    kernel::SaleId,
    platform::signing::Sha256,
    waiting_room::{draw::digest::Digest, journal::port::JournalError},
};

/// Records that one link covers at most.
pub(crate) const RECORDS_MAX: u32 = 1_024;
/// Links made per run at most; the rest waits for the next second.
const LINKS_AT_ONCE: u32 = 16;

const GENESIS: &[u8] = b"stagedoor journal 1\0";
const LINK: &[u8] = b"stagedoor link 1\0";

/// One link of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChainLink {
    /// 0 before the first.
    pub number: u64,
    /// The last record that the link covers.
    pub upto: u64,
    /// How many records it covers.
    pub records: u64,
    pub hash: Digest,
}

/// A record as it stands in the database, undecoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawRecord {
    pub seq: u64,
    pub kind: String,
    pub body: Vec<u8>,
}

impl ChainLink {
    /// The link before a sale's first: over no record.
    pub(crate) fn genesis(sale: &SaleId) -> Self {
        let mut hash = Sha256::default();
        hash.update(GENESIS);
        hash.update(sale.as_str().as_bytes());
        Self {
            number: 0,
            upto: 0,
            records: 0,
            hash: Digest(hash.finish()),
        }
    }

    /// Reads a stored link.
    ///
    /// # Errors
    /// [`JournalError::UnreadableLink`] where the hash is not 32 bytes.
    pub(crate) fn read([number, upto, records]: [i64; 3], hash: Vec<u8>) -> Result<Self, JournalError> {
        let hash = hash.try_into().map_err(|_| JournalError::UnreadableLink {
            number: number.cast_unsigned(),
        })?;
        Ok(Self {
            number: number.cast_unsigned(),
            upto: upto.cast_unsigned(),
            records: records.cast_unsigned(),
            hash: Digest(hash),
        })
    }

    /// The next link, over these records. There must be at least one.
    pub(crate) fn next(&self, lines: &[RawRecord]) -> Self {
        let (number, records) = (self.number + 1, lines.len() as u64);
        let mut hash = Sha256::default();
        hash.update(LINK);
        hash.update(&self.hash.0);
        hash.update(&number.to_be_bytes());
        hash.update(&records.to_be_bytes());
        for RawRecord { seq, kind, body } in lines {
            hash.update(&seq.to_be_bytes());
            for part in [kind.as_bytes(), body] {
                hash.update(&(part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        Self {
            number,
            upto: lines.last().map_or(self.upto, |line| line.seq),
            records,
            hash: Digest(hash.finish()),
        }
    }
}

/// Stores a sale's links beside its records.
#[async_trait]
pub(crate) trait ChainStore: Send + Sync + 'static {
    /// The last link; the genesis link where there is none.
    async fn last_link(&self) -> Result<ChainLink, JournalError>;

    /// At most `limit` records after `after`. Only records before which no other can appear any more: they
    /// and all records before them are committed.
    async fn lines(&self, after: u64, limit: u32) -> Result<Vec<RawRecord>, JournalError>;

    /// Adds a link if it is the next; false when another process added it first.
    async fn add_link(&self, link: &ChainLink) -> Result<bool, JournalError>;
}

/// Links the records that are not linked yet, and returns the last link. Idempotent; several processes may
/// run it at once.
pub(crate) async fn extend(chain: &dyn ChainStore) -> Result<ChainLink, JournalError> {
    for _ in 0..LINKS_AT_ONCE {
        let last = chain.last_link().await?;
        let lines = chain.lines(last.upto, RECORDS_MAX).await?;
        if lines.is_empty() {
            return Ok(last);
        }
        let next = last.next(&lines);
        if chain.add_link(&next).await? && lines.len() < RECORDS_MAX as usize {
            return Ok(next);
        }
    }
    chain.last_link().await
}
