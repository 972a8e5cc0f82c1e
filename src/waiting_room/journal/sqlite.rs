//! The journal in a SQLite file. Several sales may share the file.

mod notices;

use std::{fmt::Write, path::Path, sync::LazyLock, time::Duration};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Row, SqliteConnection, SqlitePool, migrate::Migrator, sqlite::SqliteRow};

use crate::{
    kernel::SaleId,
    platform::{
        shutdown::Lifecycle,
        sql::{self, SqliteWriter},
    },
    waiting_room::{
        draw::digest::Digest,
        journal::{
            chain::{ChainLink, ChainStore, RawRecord},
            encoding,
            port::{Journal, JournalError},
            record::{Event, Record, StoredRecord},
        },
    },
};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    sql::migrator(&[
        (1, "journal", include_str!("sqlite/migrations/0001_journal.sql")),
        (
            2,
            "call notices",
            include_str!("sqlite/migrations/0002_call_notices.sql"),
        ),
    ])
});

/// With more runs of joins than this per batch the statement varies too much to be worth caching.
const CACHED_RUNS_MAX: usize = 4;
/// A query that takes longer counts as failed.
const QUERY_TIMEOUT: Duration = Duration::from_secs(8);

/// One sale's journal in a SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteJournal {
    sale: SaleId,
    writer: SqliteWriter,
    /// The chain reads here, so that it does not delay the writer.
    reader: SqlitePool,
}

impl SqliteJournal {
    pub(crate) async fn open(
        file: &Path,
        sale: SaleId,
        lifecycle: &Lifecycle,
    ) -> Result<Self, sql::OpenError> {
        // The journal is read by the writer's connection, at the start and after a failure, when it must see
        // what the failed commit left.
        let (writer, reader) = sql::open_sqlite(file, &MIGRATIONS, 1, lifecycle).await?;
        Ok(Self { sale, writer, reader })
    }

    /// Numbers up to this one may have been assigned.
    pub(crate) async fn ceiling(&self) -> Result<u32, JournalError> {
        let known = async {
            let mut connection = self.writer.connection().await?;
            let known = sqlx::query_scalar("SELECT max_number FROM number_ceiling WHERE sale = ?")
                .bind(self.sale.as_str())
                .fetch_optional(&mut *connection)
                .await;
            connection.finish_read(known)
        };
        let upto: Option<u32> = with_timeout(known).await?;
        Ok(upto.unwrap_or(0))
    }

    /// Allows numbers up to this one to be assigned; returns the ceiling in force.
    pub(crate) async fn raise_ceiling(&self, upto: u32) -> Result<u32, JournalError> {
        let raise = sqlx::query_scalar(
            "INSERT INTO number_ceiling (sale, max_number) VALUES (?, ?) ON CONFLICT (sale) \
             DO UPDATE SET max_number = max(max_number, excluded.max_number) RETURNING max_number",
        );
        with_timeout(async {
            let mut connection = self.writer.connection().await?;
            let raised = raise
                .bind(self.sale.as_str())
                .bind(upto)
                .fetch_one(&mut *connection)
                .await;
            connection.finish(raised).await
        })
        .await
    }

    /// Writes joins only, with one query for all statements: each round trip to the connection's thread waits
    /// for a core twice, and every join in the batch and behind it waits with it.
    async fn write_joins(&self, group_runs: &[Record]) -> Result<u64, sqlx::Error> {
        let mut sql = "BEGIN IMMEDIATE;".to_owned();
        for n in 0..group_runs.len() {
            let (first, kind, body) = (3 * n + 2, 3 * n + 3, 3 * n + 4);
            let _ = write!(
                sql,
                " INSERT INTO join_group (sale, first_number) VALUES ($1, ${first}); INSERT INTO journal \
                    (sale, kind, body) VALUES ($1, ${kind}, ${body});"
            );
        }
        sql += " COMMIT";
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(self.sale.as_str());
        for run in group_runs {
            let Record::Joins { first, .. } = run else {
                continue;
            };
            let (kind, body) = encoding::encode(run);
            query = query.bind(first).bind(kind).bind(body);
        }
        // When a timeout or an error interrupts this, the connection may still be inside the transaction. It
        // is closed then, and what was written is read back on another one.
        let mut connection = self.writer.connection().await?;
        let written = query.execute(&mut *connection).await;
        let written = match written {
            Ok(written) => connection.finish(Ok(written)).await?,
            Err(error) => return Err(connection.discard(error)),
        };
        Ok(written.last_insert_rowid().cast_unsigned())
    }

    async fn write(&self, records: &[Record]) -> Result<u64, sqlx::Error> {
        if (1..=CACHED_RUNS_MAX).contains(&records.len())
            && records.iter().all(|it| matches!(it, Record::Joins { .. }))
        {
            return self.write_joins(records).await;
        }
        let mut transaction = self.writer.begin("BEGIN IMMEDIATE").await?;
        let mut last = 0;
        for record in records {
            match self.write_one(&mut transaction, record).await {
                Ok(seq) => last = seq,
                Err(error) => return Err(transaction.roll_back(error).await),
            }
        }
        transaction.commit().await?;
        Ok(last)
    }

    async fn write_one(&self, db: &mut SqliteConnection, record: &Record) -> Result<u64, sqlx::Error> {
        let sale = self.sale.as_str();
        match record {
            Record::Joins { first, .. } => {
                let claim = sqlx::query("INSERT INTO join_group (sale, first_number) VALUES (?, ?)")
                    .bind(sale)
                    .bind(first);
                claim.execute(&mut *db).await?;
            }
            Record::Event {
                at,
                event:
                    Event::Admitted {
                        number,
                        subject,
                        visit,
                    },
            } => {
                let entry = sqlx::query(
                    "INSERT INTO visit (sale, queue_number, subject, visit_id, admitted_at) VALUES (?, \
                        ?, ?, ?, ?)",
                )
                .bind(sale)
                .bind(number)
                .bind(subject.cast_signed())
                .bind(visit.to_string())
                .bind(at.as_millis());
                entry.execute(&mut *db).await?;
            }
            Record::Event {
                at,
                event: Event::VisitEnded { number, .. },
            } => {
                let end = sqlx::query(
                    "UPDATE visit SET ended_at = ? WHERE sale = ? AND queue_number = ? AND ended_at IS NULL",
                )
                .bind(at.as_millis())
                .bind(sale)
                .bind(number);
                end.execute(&mut *db).await?;
            }
            Record::Event { .. } => {}
        }
        let (kind, body) = encoding::encode(record);
        let line = sqlx::query("INSERT INTO journal (sale, kind, body) VALUES (?, ?, ?)")
            .bind(sale)
            .bind(kind)
            .bind(body);
        let written = line.execute(&mut *db).await?;
        Ok(written.last_insert_rowid().cast_unsigned())
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn append(&self, _epoch: u64, records: &[Record]) -> Result<u64, JournalError> {
        let written = tokio::time::timeout(QUERY_TIMEOUT, self.write(records)).await;
        written
            .map_err(|_| JournalError::Unavailable("no answer in time".into()))?
            .map_err(|e| match e {
                sqlx::Error::Database(e) if e.is_unique_violation() => JournalError::Conflict,
                e => JournalError::Unavailable(e.to_string()),
            })
    }

    async fn read(&self, after: u64, limit: u32) -> Result<Vec<StoredRecord>, JournalError> {
        let rows = async {
            let mut connection = self.writer.connection().await?;
            let rows = sqlx::query(
                "SELECT seq, kind, body FROM journal WHERE sale = ? AND seq > ? ORDER BY seq LIMIT ?",
            )
            .bind(self.sale.as_str())
            .bind(after.cast_signed())
            .bind(limit)
            .fetch_all(&mut *connection)
            .await;
            connection.finish_read(rows)
        };
        with_timeout(rows).await?.iter().map(decode).collect()
    }
}

#[async_trait]
impl ChainStore for SqliteJournal {
    async fn last_link(&self) -> Result<ChainLink, JournalError> {
        let last = sqlx::query_as(
            "SELECT link_number, last_seq, records, hash FROM chain_link WHERE sale = ? ORDER BY \
                link_number DESC LIMIT 1",
        )
        .bind(self.sale.as_str())
        .fetch_optional(&self.reader);
        let last: Option<(i64, i64, i64, Vec<u8>)> = with_timeout(last).await?;
        let Some((number, upto, records, hash)) = last else {
            return Ok(ChainLink::genesis(&self.sale));
        };
        ChainLink::read([number, upto, records], hash)
    }

    // One process writes at a time, so records appear in the order of their numbers, between those of other
    // sales.
    async fn lines(&self, after: u64, limit: u32) -> Result<Vec<RawRecord>, JournalError> {
        let rows = sqlx::query_as(
            "SELECT seq, kind, body FROM journal WHERE sale = ? AND seq > ? ORDER BY seq LIMIT ?",
        )
        .bind(self.sale.as_str())
        .bind(after.cast_signed())
        .bind(limit)
        .fetch_all(&self.reader);
        let rows: Vec<(i64, String, Vec<u8>)> = with_timeout(rows).await?;
        Ok(rows
            .into_iter()
            .map(|(seq, kind, body)| RawRecord {
                seq: seq.cast_unsigned(),
                kind,
                body,
            })
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
            "INSERT INTO chain_link (sale, link_number, last_seq, records, hash) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT DO NOTHING",
        )
        .bind(self.sale.as_str())
        .bind(number.cast_signed())
        .bind(upto.cast_signed())
        .bind(records.cast_signed())
        .bind(hash.as_slice());
        let added = async {
            let mut connection = self.writer.connection().await?;
            let added = add.execute(&mut *connection).await;
            connection.finish(added).await
        };
        Ok(with_timeout(added).await?.rows_affected() == 1)
    }
}

async fn with_timeout<T>(query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, JournalError> {
    let answer = tokio::time::timeout(QUERY_TIMEOUT, query).await;
    answer
        .map_err(|_| JournalError::Unavailable("no answer in time".into()))?
        .map_err(|e| JournalError::Unavailable(e.to_string()))
}

fn decode(row: &SqliteRow) -> Result<StoredRecord, JournalError> {
    encoding::decode(row.get::<i64, _>(0).cast_unsigned(), row.get(1), row.get(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiting_room::{
        journal::{
            chain_conformance, conformance, notices::conformance::keeps_requests_until_they_are_removed,
        },
        tests::TempDir,
    };

    #[tokio::test]
    async fn a_file_meets_the_journal_contract() {
        let dir = TempDir::new();
        let open = |name: &str, sale: &'static str| {
            let file = dir.path().join(name);
            async move {
                SqliteJournal::open(&file, sale.parse().unwrap(), &Lifecycle::new())
                    .await
                    .unwrap()
            }
        };
        conformance::keeps_what_it_was_given(|sale| open("kept.db", sale)).await;
        conformance::refuses_a_number_or_a_visit_twice(|sale| open("refused.db", sale)).await;
        keeps_requests_until_they_are_removed(|sale| open("notices.db", sale)).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn records_of_a_file_are_chained() {
        let dir = TempDir::new();
        let open = |name: &str, sale: &'static str| {
            let file = dir.path().join(name);
            async move {
                SqliteJournal::open(&file, sale.parse().unwrap(), &Lifecycle::new())
                    .await
                    .unwrap()
            }
        };
        chain_conformance::links_cover_every_record_once(|sale| open("once.db", sale)).await;
        chain_conformance::concurrent_linkers_add_each_link_once(|sale| open("several.db", sale)).await;
    }
}
