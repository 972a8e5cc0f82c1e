//! The journal in a SQLite file. Several sales may share the file.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use sqlx::{Row, Sqlite, SqlitePool, Transaction, migrate::Migrator, sqlite::SqliteRow};

use super::{Event, Join, Journal, JournalError, Record, Stored};
use crate::{
    kernel::{SaleId, Timestamp},
    platform::sql,
};

static MIGRATIONS: Migrator = sqlx::migrate!("src/waiting_room/journal/migrations");

/// A disk that does not answer for so long is as good as none.
const DEADLINE: Duration = Duration::from_secs(8);
const JOIN_LEN: usize = 12;

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
        let (kind, body) = encode(record);
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

const JOINS: &str = "joins";
const EVENT: &str = "event";

/// Joins are packed, as there are millions: the first number (4 bytes), how many (4), the moment of the first join
/// (8), then for each join the subject's hash (8) and the milliseconds after that moment (4), all big endian. The rest
/// is JSON.
fn encode(record: &Record) -> (&'static str, Vec<u8>) {
    match record {
        Record::Joins { first, joins } => {
            let base = joins.iter().map(|j| j.joined_at).min().unwrap_or_default();
            let count = u32::try_from(joins.len()).expect("a group is bounded");
            let mut body = Vec::with_capacity(16 + joins.len() * JOIN_LEN);
            body.extend_from_slice(&first.to_be_bytes());
            body.extend_from_slice(&count.to_be_bytes());
            body.extend_from_slice(&base.as_millis().to_be_bytes());
            for join in joins {
                let after_ms = u32::try_from(join.joined_at.since(base).as_millis()).unwrap_or(u32::MAX);
                body.extend_from_slice(&join.subject.to_be_bytes());
                body.extend_from_slice(&after_ms.to_be_bytes());
            }
            (JOINS, body)
        }
        Record::Event { at, event } => (EVENT, serde_json::to_vec(&(at.as_millis(), event)).expect("our own events are JSON")),
    }
}

fn decode(row: &SqliteRow) -> Result<Stored, JournalError> {
    let seq = row.get::<i64, _>(0).cast_unsigned();
    let (kind, body): (&str, &[u8]) = (row.get(1), row.get(2));
    let record = match kind {
        JOINS => unpack_joins(body),
        EVENT => serde_json::from_slice(body).ok().map(|(at_ms, event)| Record::Event { at: Timestamp::from_millis(at_ms), event }),
        _ => None,
    };
    record.map(|record| Stored { seq, record }).ok_or(JournalError::Unreadable { seq })
}

fn unpack_joins(body: &[u8]) -> Option<Record> {
    let (first, rest) = body.split_first_chunk::<4>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (base, rest) = rest.split_first_chunk::<8>()?;
    let base = i64::from_be_bytes(*base);
    if usize::try_from(u32::from_be_bytes(*count)).ok()?.checked_mul(JOIN_LEN)? != rest.len() {
        return None;
    }
    let join = |packed: &[u8]| {
        let (subject, after_ms) = packed.split_first_chunk::<8>()?;
        let after_ms = u32::from_be_bytes(after_ms.try_into().ok()?);
        Some(Join { subject: u64::from_be_bytes(*subject), joined_at: Timestamp::from_millis(base.checked_add(i64::from(after_ms))?) })
    };
    let joins: Option<Vec<Join>> = rest.chunks_exact(JOIN_LEN).map(join).collect();
    Some(Record::Joins { first: u32::from_be_bytes(*first), joins: joins? })
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

    #[test]
    fn a_cut_record_is_not_read_as_a_shorter_one() {
        let join = |subject| Join { subject, joined_at: Timestamp::from_millis(5) };
        let (_, body) = encode(&Record::Joins { first: 3, joins: vec![join(1), join(2)] });
        assert!(unpack_joins(&body).is_some());
        assert!((0..body.len()).all(|cut| unpack_joins(&body[..cut]).is_none()));
    }
}
