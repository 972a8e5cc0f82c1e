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

use super::JournalError;
use crate::{kernel::SaleId, platform::signing::Hasher, waiting_room::draw::Digest};

/// Records that one link is over at most.
pub(super) const RECORDS_MAX: u32 = 1_024;
/// Links made at one go at most; the rest waits for the next second.
const LINKS_AT_ONCE: u32 = 16;

const GENESIS: &[u8] = b"stagedoor journal 1\0";
const LINK: &[u8] = b"stagedoor link 1\0";

/// How far the chain goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::waiting_room) struct Link {
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
pub(in crate::waiting_room) struct Line {
    pub seq: u64,
    pub kind: String,
    pub body: Vec<u8>,
}

impl Link {
    /// What a sale's first link follows on.
    pub(super) fn genesis(sale: &SaleId) -> Self {
        let mut hash = Hasher::default();
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
    pub(super) fn read([number, upto, records]: [i64; 3], hash: Vec<u8>) -> Result<Self, JournalError> {
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
    pub(super) fn next(&self, lines: &[Line]) -> Self {
        let (number, records) = (self.number + 1, lines.len() as u64);
        let mut hash = Hasher::default();
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
pub(in crate::waiting_room) trait Chain: Send + Sync + 'static {
    /// The last link, or what the first will follow on.
    async fn last_link(&self) -> Result<Link, JournalError>;

    /// At most `limit` records after `after`, as they stand there. None that others could still come before: whatever
    /// they give was committed, and everything before it too.
    async fn lines(&self, after: u64, limit: u32) -> Result<Vec<Line>, JournalError>;

    /// Adds a link where it is the next; false when somebody else has added one.
    async fn add_link(&self, link: &Link) -> Result<bool, JournalError>;
}

/// Links what is not linked yet; gives the last link there is then. May be done by several at once, and again.
pub(in crate::waiting_room) async fn extend(chain: &dyn Chain) -> Result<Link, JournalError> {
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

#[cfg(test)]
pub(super) mod contract {
    //! What every chain must do. `open` gives journal and chain of the named sale on one and the same storage.

    use std::{
        future::Future,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };

    use super::*;
    use crate::{
        kernel::Timestamp,
        platform::signing::sha256,
        waiting_room::journal::{Event, Join, Journal, Record},
    };

    pub(crate) fn joined(number: u32) -> Record {
        let join = Join {
            subject: number.into(),
            joined_at: Timestamp::from_millis(7),
        };
        Record::Joins {
            first: number,
            joins: vec![join],
        }
    }

    fn sold_out() -> Record {
        Record::Event {
            at: Timestamp::from_millis(9),
            event: Event::Stock { sold_out: true },
        }
    }

    /// As somebody would who has only read what is written down above.
    fn by_hand(before: &[u8; 32], number: u64, lines: &[Line]) -> [u8; 32] {
        let mut text = b"stagedoor link 1\0".to_vec();
        text.extend_from_slice(before);
        text.extend_from_slice(&number.to_be_bytes());
        text.extend_from_slice(&(lines.len() as u64).to_be_bytes());
        for line in lines {
            text.extend_from_slice(&line.seq.to_be_bytes());
            text.extend_from_slice(&(line.kind.len() as u64).to_be_bytes());
            text.extend_from_slice(line.kind.as_bytes());
            text.extend_from_slice(&(line.body.len() as u64).to_be_bytes());
            text.extend_from_slice(&line.body);
        }
        sha256(&text)
    }

    pub(crate) async fn is_over_every_record_once<J: Journal + Chain, F: Future<Output = J>>(
        open: impl Fn(&'static str) -> F,
    ) {
        let (journal, other) = (open("a").await, open("b").await);
        let none = journal.last_link().await.unwrap();
        assert_eq!(
            (none.number, none.upto, none.hash.0),
            (0, 0, sha256(b"stagedoor journal 1\0a"))
        );
        assert_eq!(extend(&journal).await.unwrap(), none, "there is nothing to link");
        journal.append(0, &[joined(1), sold_out()]).await.unwrap();
        other.append(0, &[joined(1)]).await.unwrap();
        journal.append(0, &[joined(2)]).await.unwrap();
        let lines = journal.lines(0, 10).await.unwrap();
        assert_eq!(
            (lines.len(), lines[0].kind.as_str(), lines[1].kind.as_str()),
            (3, "joins", "event")
        );
        assert_eq!(lines[1].body, br#"[9,{"kind":"stock","sold_out":true}]"#);
        let first = extend(&journal).await.unwrap();
        assert_eq!((first.number, first.upto, first.records), (1, lines[2].seq, 3));
        assert_eq!(first.hash.0, by_hand(&none.hash.0, 1, &lines));
        assert_eq!(extend(&journal).await.unwrap(), first, "again is nothing");
        // A process that died between a record and its link: the next one links it.
        journal.append(0, &[joined(3)]).await.unwrap();
        let again = open("a").await;
        let second = extend(&again).await.unwrap();
        assert_eq!((second.number, second.records), (2, 1));
        assert_eq!(
            second.hash.0,
            by_hand(&first.hash.0, 2, &again.lines(first.upto, 10).await.unwrap())
        );
        assert_eq!(
            other.last_link().await.unwrap().number,
            0,
            "each sale has its own"
        );
        assert!(!again.add_link(&second).await.unwrap(), "a link is there once");
    }

    pub(crate) async fn of_several_linkers_each_link_is_one_s<J: Journal + Chain, F: Future<Output = J>>(
        open: impl Fn(&'static str) -> F,
    ) {
        let writers = Arc::new([open("a").await, open("a").await]);
        let linkers = Arc::new([open("a").await, open("a").await, open("a").await]);
        let over = Arc::new(AtomicBool::new(false));
        let writing = [(0_usize, 1_u32), (1, 1_000)].map(|(n, first)| {
            let writers = Arc::clone(&writers);
            tokio::spawn(async move {
                let mut linked = 0;
                for number in first..first + 60 {
                    writers[n].append(0, &[joined(number), sold_out()]).await.unwrap();
                    // However slow the linkers are, they link while it is being written.
                    if number % 15 == 0 {
                        let before = linked;
                        while linked <= before {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                            linked = writers[n].last_link().await.unwrap().number;
                        }
                    }
                }
            })
        });
        let linking = [0, 1, 2].map(|n| {
            let (linkers, over) = (Arc::clone(&linkers), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    extend(&linkers[n]).await.unwrap();
                }
            })
        });
        for writer in writing {
            writer.await.unwrap();
        }
        over.store(true, Ordering::Relaxed);
        for linker in linking {
            linker.await.unwrap();
        }
        let last = extend(&linkers[0]).await.unwrap();
        let records = writers[0].lines(0, 1_000).await.unwrap();
        assert_eq!(
            (records.len(), records.last().map(|line| line.seq)),
            (240, Some(last.upto))
        );
        assert!(
            last.number > 3,
            "they were linked while they were written: {}",
            last.number
        );
    }
}
