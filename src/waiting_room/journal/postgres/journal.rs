//! The journal in PostgreSQL, written by any number of nodes.
//!
//! A writer locks the sale's row in `journal_head` until its commit. So a sale's records have one order
//! without gaps, whichever node wrote them, and what the row holds (the epoch, the last number called) is
//! checked exactly. A batch of records is one statement: the lock is held for one flush and no round trip.

use std::{sync::LazyLock, time::Duration};

use async_trait::async_trait;
use sqlx::{FromRow, PgPool, Row, migrate::Migrator, postgres::PgRow};

use crate::{
    kernel::{SaleId, Timestamp},
    platform::sql,
    waiting_room::{
        draw::digest::Digest,
        journal::{
            chain::{ChainLink, ChainStore, RawRecord},
            encoding,
            port::{Journal, JournalError},
            postgres::checks::RecordCheck,
            record::{Record, StoredRecord},
        },
    },
};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    sql::migrator(&[
        (1, "journal", include_str!("migrations/0001_journal.sql")),
        (
            2,
            "call notices",
            include_str!("migrations/0002_call_notices.sql"),
        ),
    ])
});

/// Longer than the server's statement timeout.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// One writes at a time; the others read.
const CONNECTIONS: u32 = 4;
/// How far the ceiling stays above the highest journaled number: more than join within a commit, and few
/// enough to be skipped without harm.
pub(crate) const HEADROOM: u32 = 4_096;

/// The state of a sale's journal.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    last_seq: i64,
    epoch: i64,
    pub store_identity: String,
    max_number: i64,
    bucket_count: i64,
}

impl FromRow<'_, PgRow> for Head {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            last_seq: row.try_get("last_seq")?,
            epoch: row.try_get("epoch")?,
            store_identity: row.try_get("store_identity")?,
            max_number: row.try_get("max_number")?,
            bucket_count: row.try_get("bucket_count")?,
        })
    }
}

impl Head {
    pub(crate) fn seq(&self) -> u64 {
        self.last_seq.cast_unsigned()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.cast_unsigned()
    }

    /// No number above it was assigned.
    pub(crate) fn ceiling(&self) -> u32 {
        u32::try_from(self.max_number).unwrap_or(u32::MAX)
    }

    pub(crate) fn buckets(&self) -> u32 {
        u32::try_from(self.bucket_count).unwrap_or(1).max(1)
    }
}

/// One sale's journal in PostgreSQL.
#[derive(Debug)]
pub(crate) struct PostgresJournal {
    sale: SaleId,
    pool: PgPool,
}

impl PostgresJournal {
    /// Opens the journal of a sale; `buckets` counts only when the sale is new.
    pub(crate) async fn open(url: &str, sale: SaleId, buckets: u32) -> Result<Self, OpenError> {
        let pool = sql::open_postgres(url, "queue", &MIGRATIONS, CONNECTIONS).await?;
        sqlx::query("INSERT INTO journal_head (sale, bucket_count) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(sale.as_str())
            .bind(i64::from(buckets))
            .execute(&pool)
            .await
            .map_err(|error| OpenError::Journal(failed(&error)))?;
        Ok(Self { sale, pool })
    }

    pub(super) fn sale(&self) -> &SaleId {
        &self.sale
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(crate) async fn head(&self) -> Result<Head, JournalError> {
        let head = sqlx::query_as(
            "SELECT last_seq, epoch, store_identity, max_number, bucket_count FROM \
            journal_head WHERE sale = $1",
        )
        .bind(self.sale.as_str());
        with_timeout(head.fetch_one(&self.pool)).await
    }

    /// Begins the epoch after `seen`, because the store lost that epoch's dataset, unless another node has
    /// begun it. Returns the state afterwards.
    pub(crate) async fn raise_epoch(&self, seen: u64, identity: &str) -> Result<Head, JournalError> {
        let raise = sqlx::query(
            "UPDATE journal_head SET epoch = epoch + 1, store_identity = $3 WHERE sale = $1 AND epoch = $2",
        )
        .bind(self.sale.as_str())
        .bind(seen.cast_signed())
        .bind(identity);
        with_timeout(raise.execute(&self.pool)).await?;
        self.head().await
    }

    /// From now on no join of an earlier epoch is accepted; false when a later epoch has begun.
    pub(crate) async fn settle(&self, epoch: u64) -> Result<bool, JournalError> {
        let settle =
            sqlx::query("UPDATE journal_head SET joins_final_epoch = $2 WHERE sale = $1 AND epoch = $2")
                .bind(self.sale.as_str());
        Ok(with_timeout(settle.bind(epoch.cast_signed()).execute(&self.pool))
            .await?
            .rows_affected()
            == 1)
    }

    /// Allows numbers up to this one to be assigned; returns the ceiling in force.
    pub(crate) async fn raise_ceiling(&self, epoch: u64, upto: u32) -> Result<u32, JournalError> {
        let raise = sqlx::query_scalar(
            "UPDATE journal_head SET max_number = greatest(max_number, $3) \
             WHERE sale = $1 AND epoch = $2 RETURNING max_number",
        )
        .bind(self.sale.as_str())
        .bind(epoch.cast_signed())
        .bind(i64::from(upto));
        let ceiling: Option<i64> = with_timeout(raise.fetch_optional(&self.pool)).await?;
        ceiling
            .map(|it| u32::try_from(it).unwrap_or(u32::MAX))
            .ok_or(JournalError::StaleEpoch)
    }

    async fn write(&self, epoch: u64, records: &[Record]) -> Result<u64, sqlx::Error> {
        let (mut kinds, mut bodies) = (Vec::new(), Vec::new());
        for record in records {
            let (kind, body) = encoding::encode(record);
            kinds.push(kind);
            bodies.push(body);
        }
        let checks: Vec<RecordCheck> = records.iter().map(RecordCheck::of).collect();
        let at = records.iter().filter_map(Record::at).max().unwrap_or_default();
        let appended =
            sqlx::query("SELECT last_seq FROM append_records($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)")
                .bind(self.sale.as_str())
                .bind(epoch.cast_signed())
                .bind(at.as_millis())
                .bind(i64::from(HEADROOM))
                .bind(kinds)
                .bind(bodies)
                .bind(checks.iter().map(|it| it.name).collect::<Vec<_>>())
                .bind(checks.iter().map(|it| it.a).collect::<Vec<_>>())
                .bind(checks.iter().map(|it| it.b).collect::<Vec<_>>())
                .bind(checks.iter().map(|it| it.visit.clone()).collect::<Vec<_>>())
                .bind(checks.iter().map(|it| it.at.as_millis()).collect::<Vec<_>>());
        Ok(appended
            .fetch_one(&self.pool)
            .await?
            .try_get::<i64, _>(0)?
            .cast_unsigned())
    }
}

/// Why a sale's journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Sql(#[from] sql::OpenError),
    #[error("the queue's journal cannot be read: {0}")]
    Journal(String),
}

#[async_trait]
impl Journal for PostgresJournal {
    async fn append(&self, epoch: u64, records: &[Record]) -> Result<u64, JournalError> {
        let written = tokio::time::timeout(QUERY_TIMEOUT, self.write(epoch, records)).await;
        written
            .map_err(|_| JournalError::Unavailable("no answer in time".into()))?
            .map_err(|error| {
                let code = error
                    .as_database_error()
                    .and_then(sqlx::error::DatabaseError::code)
                    .unwrap_or_default()
                    .into_owned();
                match code.as_str() {
                    "SD001" => JournalError::StaleEpoch,
                    "SD002" | "SD003" | "23505" => JournalError::Conflict,
                    _ => JournalError::Unavailable(failed(&error)),
                }
            })
    }

    async fn read(&self, after: u64, limit: u32) -> Result<Vec<StoredRecord>, JournalError> {
        let rows = sqlx::query(
            "SELECT seq, kind, body FROM journal WHERE sale = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        )
        .bind(self.sale.as_str())
        .bind(after.cast_signed())
        .bind(i64::from(limit));
        with_timeout(rows.fetch_all(&self.pool))
            .await?
            .iter()
            .map(decode)
            .collect()
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn heartbeat(&self, now: Timestamp) -> Result<Option<Timestamp>, JournalError> {
        // The row before and the row after in one statement: of several nodes one sees a long silence.
        let beat = sqlx::query_scalar(
            "UPDATE journal_head SET heartbeat_at = greatest(journal_head.heartbeat_at, $2)
             FROM (SELECT heartbeat_at FROM journal_head WHERE sale = $1 FOR UPDATE) AS before
             WHERE sale = $1 RETURNING before.heartbeat_at",
        )
        .bind(self.sale.as_str())
        .bind(now.as_millis());
        let before: i64 = with_timeout(beat.fetch_one(&self.pool)).await?;
        Ok(Some(Timestamp::from_millis(before)).filter(|_| before > 0))
    }
}

#[async_trait]
impl ChainStore for PostgresJournal {
    async fn last_link(&self) -> Result<ChainLink, JournalError> {
        let last = sqlx::query_as(
            "SELECT link_number, last_seq, records, hash FROM chain_link WHERE sale = $1 ORDER BY \
                link_number DESC LIMIT 1",
        )
        .bind(self.sale.as_str())
        .fetch_optional(&self.pool);
        let last: Option<(i64, i64, i64, Vec<u8>)> = with_timeout(last).await?;
        let Some((number, upto, records, hash)) = last else {
            return Ok(ChainLink::genesis(&self.sale));
        };
        ChainLink::read([number, upto, records], hash)
    }

    // A writer holds the row until its commit, so records become visible in the order of their numbers,
    // without gaps. Should one be missing all the same, nothing after it is linked: it may still appear; if
    // it was deleted, the chain stops growing, which is monitored.
    async fn lines(&self, after: u64, limit: u32) -> Result<Vec<RawRecord>, JournalError> {
        let rows = sqlx::query_as(
            "SELECT seq, kind, body FROM journal WHERE sale = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        )
        .bind(self.sale.as_str())
        .bind(after.cast_signed())
        .bind(i64::from(limit))
        .fetch_all(&self.pool);
        let rows: Vec<(i64, String, Vec<u8>)> = with_timeout(rows).await?;
        let lines = rows.into_iter().map(|(seq, kind, body)| RawRecord {
            seq: seq.cast_unsigned(),
            kind,
            body,
        });
        Ok(lines
            .zip(after + 1..)
            .take_while(|(line, expected)| line.seq == *expected)
            .map(|(line, _)| line)
            .collect())
    }

    async fn add_link(&self, link: &ChainLink) -> Result<bool, JournalError> {
        let ChainLink {
            number,
            upto,
            records,
            hash: Digest(hash),
        } = link;
        let add = sqlx::query(
            "INSERT INTO chain_link (sale, link_number, last_seq, records, hash) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT DO NOTHING",
        )
        .bind(self.sale.as_str())
        .bind(number.cast_signed())
        .bind(upto.cast_signed())
        .bind(records.cast_signed())
        .bind(hash.as_slice());
        Ok(with_timeout(add.execute(&self.pool)).await?.rows_affected() == 1)
    }
}

pub(super) async fn with_timeout<T>(
    query: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, JournalError> {
    let answer = tokio::time::timeout(QUERY_TIMEOUT, query).await;
    answer
        .map_err(|_| JournalError::Unavailable("no answer in time".into()))?
        .map_err(|e| JournalError::Unavailable(failed(&e)))
}

/// The error without statement and values.
fn failed(error: &sqlx::Error) -> String {
    error.to_string()
}

fn decode(row: &PgRow) -> Result<StoredRecord, JournalError> {
    encoding::decode(row.get::<i64, _>(0).cast_unsigned(), row.get(1), row.get(2))
}
