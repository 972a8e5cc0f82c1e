//! The journal in a SQLite file. Several sales may share the file.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use sqlx::{Row, Sqlite, SqlitePool, Transaction, migrate::Migrator, sqlite::SqliteRow};

use super::{Event, Journal, JournalError, Record, Stored, encoding};
use crate::{kernel::SaleId, platform::sql};

static MIGRATIONS: Migrator = sqlx::migrate!("src/waiting_room/journal/migrations");

/// A disk that does not answer for so long is as good as none.
const DEADLINE: Duration = Duration::from_secs(8);

#[derive(Debug)]
pub(crate) struct SqliteJournal {
    sale: SaleId,
    writer: SqlitePool,
}

impl SqliteJournal {
    pub(crate) async fn open(file: &Path, sale: SaleId) -> Result<Self, sql::OpenError> {
        // All reading is done by the writer's connection, at the start and after a failure, when it must see what the
        // failed commit left.
        let (writer, _) = sql::open(file, &MIGRATIONS, 1).await?;
        Ok(Self { sale, writer })
    }

    async fn write(&self, records: &[Record]) -> Result<u64, sqlx::Error> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut last = 0;
        for record in records {
            last = self.write_one(&mut transaction, record).await?;
        }
        transaction.commit().await?;
        Ok(last)
    }

    async fn write_one(&self, transaction: &mut Transaction<'_, Sqlite>, record: &Record) -> Result<u64, sqlx::Error> {
        let sale = self.sale.as_str();
        match record {
            Record::Joins { first, .. } => {
                let claim = sqlx::query("INSERT INTO join_group (sale, first_number) VALUES (?, ?)").bind(sale).bind(first);
                claim.execute(&mut **transaction).await?;
            }
            Record::Event { at, event: Event::Entered { number, subject, visit } } => {
                let entry = sqlx::query("INSERT INTO entry (sale, number, subject, visit, entered_at) VALUES (?, ?, ?, ?, ?)")
                    .bind(sale)
                    .bind(number)
                    .bind(subject.cast_signed())
                    .bind(visit.to_string())
                    .bind(at.as_millis());
                entry.execute(&mut **transaction).await?;
            }
            Record::Event { at, event: Event::VisitEnded { number, .. } } => {
                let end = sqlx::query("UPDATE entry SET ended_at = ? WHERE sale = ? AND number = ? AND ended_at IS NULL")
                    .bind(at.as_millis())
                    .bind(sale)
                    .bind(number);
                end.execute(&mut **transaction).await?;
            }
            Record::Event { .. } => {}
        }
        let (kind, body) = encoding::encode(record);
        let line = sqlx::query("INSERT INTO journal (sale, kind, body) VALUES (?, ?, ?)").bind(sale).bind(kind).bind(body);
        let written = line.execute(&mut **transaction).await?;
        Ok(written.last_insert_rowid().cast_unsigned())
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn append(&self, _epoch: u64, records: &[Record]) -> Result<u64, JournalError> {
        let written = tokio::time::timeout(DEADLINE, self.write(records)).await;
        written.map_err(|_| JournalError::Unavailable("no answer in time".into()))?.map_err(|e| match e {
            sqlx::Error::Database(e) if e.is_unique_violation() => JournalError::Conflict,
            e => JournalError::Unavailable(e.to_string()),
        })
    }

    async fn read(&self, after: u64, limit: u32) -> Result<Vec<Stored>, JournalError> {
        let rows = sqlx::query("SELECT seq, kind, body FROM journal WHERE sale = ? AND seq > ? ORDER BY seq LIMIT ?")
            .bind(self.sale.as_str())
            .bind(after.cast_signed())
            .bind(limit)
            .fetch_all(&self.writer);
        let rows = tokio::time::timeout(DEADLINE, rows).await;
        let rows = rows
            .map_err(|_| JournalError::Unavailable("no answer in time".into()))?
            .map_err(|e| JournalError::Unavailable(e.to_string()))?;
        rows.iter().map(decode).collect()
    }
}

fn decode(row: &SqliteRow) -> Result<Stored, JournalError> {
    encoding::decode(row.get::<i64, _>(0).cast_unsigned(), row.get(1), row.get(2))
}

#[cfg(test)]
mod tests {
    use super::{super::contract, *};
    use crate::waiting_room::tests::TempDir;

    #[tokio::test]
    async fn it_is_a_journal() {
        let dir = TempDir::new();
        let open = |name: &str, sale: &'static str| {
            let file = dir.path().join(name);
            async move { SqliteJournal::open(&file, sale.parse().unwrap()).await.unwrap() }
        };
        contract::keeps_what_it_was_given(|sale| open("kept.db", sale)).await;
        contract::refuses_a_number_or_a_visit_twice(|sale| open("refused.db", sale)).await;
    }
}
