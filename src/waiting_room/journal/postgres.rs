//! The journal in PostgreSQL, written by any number of nodes.
//!
//! One row a sale, the head, is locked by whoever writes and until the commit. So a sale's records have one order
//! without gaps, whichever node wrote them, and what the head knows (the epoch, who was called last) is checked exactly.
//! A group of records is one statement: the lock is held for one flush and no round trip.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{FromRow, PgPool, Row, migrate::Migrator, postgres::PgRow};

use super::{
    Event, Journal, JournalError, Record, Stored,
    chain::{Chain, Line, Link},
    encoding,
};
use crate::{
    kernel::{SaleId, Timestamp},
    platform::sql,
    waiting_room::draw::Digest,
};

static MIGRATIONS: Migrator = sqlx::migrate!("src/waiting_room/journal/postgres");

/// Longer than the server lets a statement run.
const DEADLINE: Duration = Duration::from_secs(5);
/// Writing is one at a time; the rest reads.
const CONNECTIONS: u32 = 4;
/// Numbers that may be given out above the highest that is written down: more than join within a commit, and few
/// enough to be void without harm.
pub(in crate::waiting_room) const HEADROOM: u32 = 4_096;

/// Where a sale's journal stands.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Head {
    seq: i64,
    epoch: i64,
    pub identity: String,
    ceiling: i64,
    buckets: i64,
}

impl Head {
    pub(crate) fn seq(&self) -> u64 {
        self.seq.cast_unsigned()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.cast_unsigned()
    }

    /// No number above it was given out.
    pub(crate) fn ceiling(&self) -> u32 {
        u32::try_from(self.ceiling).unwrap_or(u32::MAX)
    }

    pub(crate) fn buckets(&self) -> u32 {
        u32::try_from(self.buckets).unwrap_or(1).max(1)
    }
}

#[derive(Debug)]
pub(crate) struct PgJournal {
    sale: SaleId,
    pool: PgPool,
}

impl PgJournal {
    /// `buckets` counts when the sale is seen for the first time.
    pub(crate) async fn open(url: &str, sale: SaleId, buckets: u32) -> Result<Self, OpenError> {
        let pool = sql::open_postgres(url, "queue", &MIGRATIONS, CONNECTIONS).await?;
        sqlx::query("INSERT INTO head (sale, buckets) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(sale.as_str())
            .bind(i64::from(buckets))
            .execute(&pool)
            .await
            .map_err(|error| OpenError::Journal(failed(&error)))?;
        Ok(Self { sale, pool })
    }

    pub(crate) async fn head(&self) -> Result<Head, JournalError> {
        let head = sqlx::query_as("SELECT seq, epoch, identity, ceiling, buckets FROM head WHERE sale = $1")
            .bind(self.sale.as_str());
        in_time(head.fetch_one(&self.pool)).await
    }

    /// The engine whose memory was counted as `seen` is another, or has forgotten: the next epoch begins, unless somebody
    /// has begun it already. Gives what is so afterwards.
    pub(crate) async fn raise_epoch(&self, seen: u64, identity: &str) -> Result<Head, JournalError> {
        let raise =
            sqlx::query("UPDATE head SET epoch = epoch + 1, identity = $3 WHERE sale = $1 AND epoch = $2")
                .bind(self.sale.as_str())
                .bind(seen.cast_signed())
                .bind(identity);
        in_time(raise.execute(&self.pool)).await?;
        self.head().await
    }

    /// From now on no join of an earlier epoch is taken; false when a later epoch has begun.
    pub(crate) async fn settle(&self, epoch: u64) -> Result<bool, JournalError> {
        let settle = sqlx::query("UPDATE head SET settled = $2 WHERE sale = $1 AND epoch = $2")
            .bind(self.sale.as_str());
        Ok(in_time(settle.bind(epoch.cast_signed()).execute(&self.pool))
            .await?
            .rows_affected()
            == 1)
    }

    /// Numbers up to this one may be given out from now on; gives the ceiling that stands.
    pub(crate) async fn raise_ceiling(&self, epoch: u64, upto: u32) -> Result<u32, JournalError> {
        let raise = sqlx::query_scalar("UPDATE head SET ceiling = greatest(ceiling, $3) WHERE sale = $1 AND epoch = $2 RETURNING ceiling")
            .bind(self.sale.as_str())
            .bind(epoch.cast_signed())
            .bind(i64::from(upto));
        let ceiling: Option<i64> = in_time(raise.fetch_optional(&self.pool)).await?;
        ceiling
            .map(|it| u32::try_from(it).unwrap_or(u32::MAX))
            .ok_or(JournalError::Stale)
    }

    async fn write(&self, epoch: u64, records: &[Record]) -> Result<u64, sqlx::Error> {
        let (mut kinds, mut bodies) = (Vec::new(), Vec::new());
        for record in records {
            let (kind, body) = encoding::encode(record);
            kinds.push(kind);
            bodies.push(body);
        }
        let effects: Vec<Effect> = records.iter().map(Effect::of).collect();
        let at = records.iter().filter_map(Record::at).max().unwrap_or_default();
        let appended = sqlx::query("SELECT last FROM append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)")
            .bind(self.sale.as_str())
            .bind(epoch.cast_signed())
            .bind(at.as_millis())
            .bind(i64::from(HEADROOM))
            .bind(kinds)
            .bind(bodies)
            .bind(effects.iter().map(|it| it.name).collect::<Vec<_>>())
            .bind(effects.iter().map(|it| it.a).collect::<Vec<_>>())
            .bind(effects.iter().map(|it| it.b).collect::<Vec<_>>())
            .bind(effects.iter().map(|it| it.visit.clone()).collect::<Vec<_>>())
            .bind(effects.iter().map(|it| it.at.as_millis()).collect::<Vec<_>>());
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

/// What a record has to satisfy, as the database's function takes it.
#[derive(Default)]
struct Effect {
    name: &'static str,
    a: i64,
    b: i64,
    visit: String,
    at: Timestamp,
}

impl Effect {
    fn of(record: &Record) -> Self {
        match record {
            Record::Joins { first, joins } => {
                let last = i64::from(*first) + i64::try_from(joins.len()).unwrap_or(i64::MAX) - 1;
                Self {
                    name: "joined",
                    a: i64::from(*first),
                    b: last,
                    ..Self::default()
                }
            }
            Record::Event { at, event } => {
                let of = |name, a: i64, b: i64, visit: String| Self {
                    name,
                    a,
                    b,
                    visit,
                    at: *at,
                };
                match event {
                    Event::Called { from, upto, .. } => {
                        of("called", i64::from(*from), i64::from(*upto), String::new())
                    }
                    Event::Entered {
                        number,
                        subject,
                        visit,
                    } => of(
                        "entered",
                        i64::from(*number),
                        subject.cast_signed(),
                        visit.to_string(),
                    ),
                    Event::VisitEnded { number, visit } => {
                        of("ended", i64::from(*number), 0, visit.to_string())
                    }
                    Event::EntriesClosed(closed) => of(
                        "closed",
                        i64::from(closed.entries),
                        i64::from(closed.persons),
                        String::new(),
                    ),
                    Event::Lapsed { visit, .. } => of("lapsed", 0, 0, visit.to_string()),
                    _ => Self::default(),
                }
            }
        }
    }
}

#[async_trait]
impl Journal for PgJournal {
    async fn append(&self, epoch: u64, records: &[Record]) -> Result<u64, JournalError> {
        let written = tokio::time::timeout(DEADLINE, self.write(epoch, records)).await;
        written
            .map_err(|_| JournalError::Unavailable("no answer in time".into()))?
            .map_err(|error| {
                let code = error
                    .as_database_error()
                    .and_then(sqlx::error::DatabaseError::code)
                    .unwrap_or_default()
                    .into_owned();
                match code.as_str() {
                    "SD001" => JournalError::Stale,
                    "SD002" | "SD003" | "23505" => JournalError::Conflict,
                    _ => JournalError::Unavailable(failed(&error)),
                }
            })
    }

    async fn read(&self, after: u64, limit: u32) -> Result<Vec<Stored>, JournalError> {
        let rows = sqlx::query(
            "SELECT seq, kind, body FROM journal WHERE sale = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        )
        .bind(self.sale.as_str())
        .bind(after.cast_signed())
        .bind(i64::from(limit));
        in_time(rows.fetch_all(&self.pool))
            .await?
            .iter()
            .map(decode)
            .collect()
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn beat(&self, now: Timestamp) -> Result<Option<Timestamp>, JournalError> {
        // The row before and the row after in one statement: of several nodes one sees a long silence.
        let beat = sqlx::query_scalar(
            "UPDATE head SET alive_at = greatest(head.alive_at, $2)
             FROM (SELECT alive_at FROM head WHERE sale = $1 FOR UPDATE) AS before
             WHERE sale = $1 RETURNING before.alive_at",
        )
        .bind(self.sale.as_str())
        .bind(now.as_millis());
        let before: i64 = in_time(beat.fetch_one(&self.pool)).await?;
        Ok(Some(Timestamp::from_millis(before)).filter(|_| before > 0))
    }
}

#[async_trait]
impl Chain for PgJournal {
    async fn last_link(&self) -> Result<Link, JournalError> {
        let last = sqlx::query_as(
            "SELECT number, upto, records, hash FROM link WHERE sale = $1 ORDER BY number DESC LIMIT 1",
        )
        .bind(self.sale.as_str())
        .fetch_optional(&self.pool);
        let last: Option<(i64, i64, i64, Vec<u8>)> = in_time(last).await?;
        let Some((number, upto, records, hash)) = last else {
            return Ok(Link::genesis(&self.sale));
        };
        Link::read([number, upto, records], hash)
    }

    // Whoever writes holds the head until the commit, so records become visible in the order of their numbers, and these
    // have no gaps. Should one be missing all the same, nothing after it is linked: it may still come, and if it does not,
    // somebody took it away, and a chain that stands still is seen.
    async fn lines(&self, after: u64, limit: u32) -> Result<Vec<Line>, JournalError> {
        let rows = sqlx::query_as(
            "SELECT seq, kind, body FROM journal WHERE sale = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        )
        .bind(self.sale.as_str())
        .bind(after.cast_signed())
        .bind(i64::from(limit))
        .fetch_all(&self.pool);
        let rows: Vec<(i64, String, Vec<u8>)> = in_time(rows).await?;
        let lines = rows.into_iter().map(|(seq, kind, body)| Line {
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

    async fn add_link(&self, link: &Link) -> Result<bool, JournalError> {
        let Link {
            number,
            upto,
            records,
            hash: Digest(hash),
        } = link;
        let add = sqlx::query("INSERT INTO link (sale, number, upto, records, hash) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING")
            .bind(self.sale.as_str())
            .bind(number.cast_signed())
            .bind(upto.cast_signed())
            .bind(records.cast_signed())
            .bind(hash.as_slice());
        Ok(in_time(add.execute(&self.pool)).await?.rows_affected() == 1)
    }
}

async fn in_time<T>(query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, JournalError> {
    let answer = tokio::time::timeout(DEADLINE, query).await;
    answer
        .map_err(|_| JournalError::Unavailable("no answer in time".into()))?
        .map_err(|e| JournalError::Unavailable(failed(&e)))
}

/// Without the statement and its values.
fn failed(error: &sqlx::Error) -> String {
    error.to_string()
}

fn decode(row: &PgRow) -> Result<Stored, JournalError> {
    encoding::decode(row.get::<i64, _>(0).cast_unsigned(), row.get(1), row.get(2))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            chain::{self, contract::joined},
            contract,
        },
        *,
    };
    use crate::{
        kernel::{SeededEntropy, VisitId},
        simulation::servers::Postgres,
        waiting_room::journal::Join,
    };

    fn joins(first: u32, subjects: std::ops::Range<u64>) -> Record {
        Record::Joins {
            first,
            joins: subjects
                .map(|subject| Join {
                    subject,
                    joined_at: Timestamp::from_millis(7),
                })
                .collect(),
        }
    }

    fn event(event: Event) -> Record {
        Record::Event {
            at: Timestamp::from_millis(9),
            event,
        }
    }

    async fn journal(url: &str, sale: &'static str) -> PgJournal {
        let journal = PgJournal::open(url, sale.parse().unwrap(), 16).await.unwrap();
        journal.raise_ceiling(0, 10_000).await.unwrap();
        journal
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn it_is_a_journal() {
        let server = Postgres::start().await.unwrap();
        for (name, test) in [("kept", 0), ("refused", 1)] {
            let url = server.create_database(name).await.unwrap();
            let open = |sale: &'static str| journal(&url, sale);
            match test {
                0 => contract::keeps_what_it_was_given(open).await,
                _ => contract::refuses_a_number_or_a_visit_twice(open).await,
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn its_records_are_chained() {
        let server = Postgres::start().await.unwrap();
        let (one, several) = (
            server.create_database("one").await.unwrap(),
            server.create_database("several").await.unwrap(),
        );
        chain::contract::is_over_every_record_once(|sale| journal(&one, sale)).await;
        chain::contract::of_several_linkers_each_link_is_one_s(|sale| journal(&several, sale)).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_not_committed_yet_keeps_later_records_from_being_linked() {
        let server = Postgres::start().await.unwrap();
        let url = server.create_database("late").await.unwrap();
        let journal = journal(&url, "a").await;
        journal.append(0, &[joined(1)]).await.unwrap();
        let third = PgJournal::open(&url, "a".parse().unwrap(), 16).await.unwrap();
        // A second node's group is written and not committed; a third's waits behind it.
        let pool = PgPool::connect_with(
            url.parse::<sqlx::postgres::PgConnectOptions>()
                .unwrap()
                .options([("search_path", "stagedoor_queue")]),
        )
        .await
        .unwrap();
        let mut slow = pool.begin().await.unwrap();
        let write = "SELECT * FROM append('a', 0, 0, 100, '{joins}', ARRAY['\\x00'::bytea], '{joined}', '{2}', '{2}', '{\"\"}', '{0}')";
        sqlx::query(write).execute(&mut *slow).await.unwrap();
        let third = tokio::spawn(async move { third.append(0, &[joined(3)]).await.unwrap() });
        assert_eq!(chain::extend(&journal).await.unwrap().upto, 1);
        slow.commit().await.unwrap();
        assert_eq!(third.await.unwrap(), 3);
        assert_eq!(chain::extend(&journal).await.unwrap().upto, 3);
        // And if one became visible before those before it, it would wait for them.
        for (seq, linked) in [(5, 3), (4, 5)] {
            sqlx::query("INSERT INTO journal VALUES ('a', $1, 'joins', '')")
                .bind(seq)
                .execute(&pool)
                .await
                .unwrap();
            assert_eq!(chain::extend(&journal).await.unwrap().upto, linked);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nodes_write_in_one_order_and_one_of_two_calls_counts() {
        let server = Postgres::start().await.unwrap();
        let url = server.create_database("nodes").await.unwrap();
        let nodes = [
            journal(&url, "a").await,
            journal(&url, "a").await,
            journal(&url, "a").await,
        ];
        let mut writing = Vec::new();
        for (node, journal) in (0_u32..).zip(nodes) {
            writing.push(tokio::spawn(async move {
                let mut won = 0;
                for round in 0..30_u32 {
                    let first = 1 + (round * 3 + node) * 10;
                    journal.append(0, &[joins(first, 0..10)]).await.unwrap();
                    let called = event(Event::Called {
                        from: round,
                        upto: round + 1,
                        ends_at: Timestamp::default(),
                    });
                    won += u32::from(journal.append(0, &[called]).await.is_ok());
                }
                (journal, won)
            }));
        }
        let mut calls = 0;
        let mut last = None;
        for node in writing {
            let (journal, won) = node.await.unwrap();
            calls += won;
            last = Some(journal);
        }
        let all = last.unwrap().read(0, 1_000).await.unwrap();
        assert!(calls <= 30, "{calls} calls counted");
        assert_eq!(
            all.iter().map(|it| it.seq).collect::<Vec<_>>(),
            (1..=90 + u64::from(calls)).collect::<Vec<_>>(),
            "one order, no gaps"
        );
        let mut served = 0;
        for stored in &all {
            if let Record::Event {
                event: Event::Called { from, upto, .. },
                ..
            } = stored.record
            {
                assert_eq!(from, served);
                served = upto;
            }
        }
        assert!(served > 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_an_engine_without_memory_decided_is_refused() {
        let server = Postgres::start().await.unwrap();
        let url = server.create_database("epochs").await.unwrap();
        let journal = journal(&url, "a").await;
        assert_eq!(journal.raise_epoch(0, "first").await.unwrap().epoch(), 1);
        let head = journal.raise_epoch(0, "too late").await.unwrap();
        assert_eq!(
            (head.epoch(), head.identity.as_str(), head.buckets()),
            (1, "first", 16)
        );
        journal.append(1, &[joins(1, 0..3)]).await.unwrap();
        assert_eq!(journal.raise_epoch(1, "second").await.unwrap().epoch(), 2);
        let left = event(Event::Left { number: 1 });
        assert!(matches!(
            journal.append(1, &[joins(4, 3..4), left]).await,
            Err(JournalError::Stale)
        ));
        journal.append(1, &[joins(4, 3..4)]).await.unwrap();
        assert!(!journal.settle(1).await.unwrap() && journal.settle(2).await.unwrap());
        assert!(matches!(
            journal.append(1, &[joins(5, 4..5)]).await,
            Err(JournalError::Stale)
        ));
        assert!(matches!(
            journal.raise_ceiling(1, 5).await,
            Err(JournalError::Stale)
        ));
        assert!(
            matches!(
                journal.append(2, &[joins(20_000, 5..6)]).await,
                Err(JournalError::Conflict)
            ),
            "above the ceiling"
        );
        assert_eq!(journal.read(0, 10).await.unwrap().len(), 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_draw_is_closed_once_over_those_who_are_there_and_nobody_slips_in() {
        use crate::waiting_room::draw::{Closed, Digest};
        let server = Postgres::start().await.unwrap();
        let url = server.create_database("draws").await.unwrap();
        let journal = journal(&url, "a").await;
        let closed = |entries, persons| {
            let journal = &journal;
            let closed = Closed {
                entries,
                persons,
                root: Digest([0; 32]),
                round: 1,
            };
            async move {
                journal
                    .append(0, &[event(Event::EntriesClosed(Box::new(closed)))])
                    .await
            }
        };
        let joined = |first, subjects| {
            let journal = &journal;
            async move { journal.append(0, &[joins(first, subjects)]).await }
        };
        joined(1, 0..10).await.unwrap();
        joined(13, 10..20).await.unwrap();
        assert!(
            matches!(closed(15, 12).await, Err(JournalError::Conflict)),
            "somebody was not counted"
        );
        closed(15, 13).await.unwrap();
        assert!(
            matches!(closed(15, 13).await, Err(JournalError::Conflict)),
            "once"
        );
        assert!(
            matches!(joined(11, 30..31).await, Err(JournalError::Conflict)),
            "a number in the draw"
        );
        joined(23, 30..31).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_entry_and_its_lapse_exclude_each_other() {
        let server = Postgres::start().await.unwrap();
        let url = server.create_database("lapses").await.unwrap();
        let journal = journal(&url, "a").await;
        let entropy = SeededEntropy::new(1);
        let (late, written) = (VisitId::random(&entropy), VisitId::random(&entropy));
        journal
            .append(
                0,
                &[event(Event::Lapsed {
                    number: 1,
                    visit: late,
                })],
            )
            .await
            .unwrap();
        let entered = |number, visit| {
            event(Event::Entered {
                number,
                subject: u64::from(number),
                visit,
            })
        };
        assert!(matches!(
            journal.append(0, &[entered(1, late)]).await,
            Err(JournalError::Conflict)
        ));
        journal.append(0, &[entered(2, written)]).await.unwrap();
        let lapse = [event(Event::Lapsed {
            number: 2,
            visit: written,
        })];
        assert!(matches!(
            journal.append(0, &lapse).await,
            Err(JournalError::Conflict)
        ));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_several_nodes_one_sees_a_long_silence() {
        let server = Postgres::start().await.unwrap();
        let url = server.create_database("beats").await.unwrap();
        let journal = journal(&url, "a").await;
        let at = Timestamp::from_secs;
        assert_eq!(journal.beat(at(10)).await.unwrap(), None);
        assert_eq!(journal.beat(at(11)).await.unwrap(), Some(at(10)));
        assert_eq!(journal.beat(at(50)).await.unwrap(), Some(at(11)));
        assert_eq!(journal.beat(at(50)).await.unwrap(), Some(at(50)));
        assert_eq!(
            journal.beat(at(49)).await.unwrap(),
            Some(at(50)),
            "a clock that is slow sets nothing back"
        );
        assert_eq!(journal.beat(at(51)).await.unwrap(), Some(at(50)));
    }
}
