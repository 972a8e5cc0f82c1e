//! The chain: a hash over every record, so that nobody can change what was written down without being found out by
//! whoever remembers a later link. The same thing is the audit log.
//!
//! A link is made once a second, by one node or several: it is written where it is the next number, so of several that
//! are made at once one counts. Joins do not pay for it; a record is linked within a second or two. A link is over at
//! most [`RECORDS_MAX`] records, so a journal that is older than its chain is linked from its beginning, in several.
//!
//! # What is hashed
//!
//! SHA-256; numbers are big endian; a record is its row as it stands in the table `journal` (`seq`, `kind` in UTF-8,
//! `body` byte for byte), in the order of `seq`, and `sale` is the sale's name in UTF-8:
//!
//! ```text
//! hash 0 = SHA-256("stagedoor journal 1\0" sale)
//! hash n = SHA-256("stagedoor link 1\0" hash(n-1):32 n:8 records:8 record*)
//! record = seq:8 length(kind):8 kind length(body):8 body
//! ```
//!
//! A joins' `body` is described in `journal/encoding.rs`; an event's is JSON, `[milliseconds since 1970, {"kind": ...}]`.

use async_trait::async_trait;

use crate::{
    kernel::SaleId,
    platform::signing::Sha256,
    waiting_room::{draw::digest::Digest, journal::port::JournalError},
};

/// Records that one link is over at most.
pub(crate) const RECORDS_MAX: u32 = 1_024;
/// Links made at one go at most; the rest waits for the next second.
const LINKS_AT_ONCE: u32 = 16;

const GENESIS: &[u8] = b"stagedoor journal 1\0";
const LINK: &[u8] = b"stagedoor link 1\0";

/// How far the chain goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// 0 before the first.
    pub number: u64,
    /// The last record that it is over.
    pub upto: u64,
    /// How many it is over.
    pub records: u64,
    pub hash: Digest,
}

/// A record as it stands in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub seq: u64,
    pub kind: String,
    pub body: Vec<u8>,
}

impl Link {
    /// What a sale's first link follows on.
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

    /// As it is kept.
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

    /// The link over the records that follow, of which there must be one.
    pub(crate) fn next(&self, lines: &[Line]) -> Self {
        let (number, records) = (self.number + 1, lines.len() as u64);
        let mut hash = Sha256::default();
        hash.update(LINK);
        hash.update(&self.hash.0);
        hash.update(&number.to_be_bytes());
        hash.update(&records.to_be_bytes());
        for Line { seq, kind, body } in lines {
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

/// Where a sale's links are kept: beside its records.
#[async_trait]
pub(crate) trait Chain: Send + Sync + 'static {
    /// The last link, or what the first will follow on.
    async fn last_link(&self) -> Result<Link, JournalError>;

    /// At most `limit` records after `after`, as they stand there. None that others could still come before: whatever
    /// they give was committed, and everything before it too.
    async fn lines(&self, after: u64, limit: u32) -> Result<Vec<Line>, JournalError>;

    /// Adds a link where it is the next; false when somebody else has added one.
    async fn add_link(&self, link: &Link) -> Result<bool, JournalError>;
}

/// Links what is not linked yet; gives the last link there is then. May be done by several at once, and again.
pub(crate) async fn extend(chain: &dyn Chain) -> Result<Link, JournalError> {
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
