//! Spent tokens of many nodes, in a table that they share.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use sqlx::{PgConnection, migrate::Migrator};

use super::{Mark, Marks, Written};
use crate::{
    kernel::{Entropy, Timestamp},
    platform::sql::{self, Database, Trouble},
    shop::OpenError,
};

static MIGRATIONS: Migrator = sqlx::migrate!("src/shop/sql_spent/migrations");

const CONNECTIONS: u32 = 4;
const DEADLINE: Duration = Duration::from_secs(3);
/// Of the marks that nodes hold in memory.
const SESSION: i64 = 1;
/// A mark outlives its token by this much: a node whose clock is behind still takes the token for valid.
const CLOCKS_DIFFER_BY: Duration = Duration::from_mins(5);

type Row = (i64, Vec<u8>, i64);
/// The oldest transaction under way, and a row beside it, if there is one.
type Told = (i64, Option<i64>, Option<Vec<u8>>, Option<i64>);

#[derive(Clone)]
pub(super) struct SharedSpent {
    db: Database,
    /// Of the transactions before this one, everything has been read.
    read_up_to: Arc<AtomicI64>,
}

impl SharedSpent {
    /// Opens it, making its table when needed; with the sessions that it knows.
    pub(super) async fn open(url: &str, now: Timestamp, entropy: Arc<dyn Entropy>) -> Result<(Self, Marks), OpenError> {
        let pool = sql::open_postgres(url, "shop", &MIGRATIONS, CONNECTIONS).await?;
        let this = Self { db: Database::new(pool, DEADLINE, entropy), read_up_to: Arc::default() };
        let known = this.news(now).await.map_err(OpenError::Spent)?;
        Ok((this, known))
    }

    /// Who of several nodes that bring the same mark at once was first is decided by its row.
    pub(super) async fn write(&self, group: Marks) -> Result<Vec<Written>, sqlx::Error> {
        let brought: Vec<Mark> = group.iter().map(|(mark, _)| mark.clone()).collect();
        let inserted = self.db.write_once(group, |db, group| Box::pin(insert(db, group))).await.map_err(cause)?;
        let firsts: HashSet<Mark> = inserted.into_iter().filter_map(|(kind, id)| Mark::from_stored(kind, id)).collect();
        Ok(brought.iter().map(|it| if firsts.contains(it) { Written::First } else { Written::Before }).collect())
    }

    pub(super) async fn forget(&self, now: Timestamp) -> Result<(), sqlx::Error> {
        let before = now.minus(CLOCKS_DIFFER_BY);
        self.db.write(before, |db, before| Box::pin(delete(db, before))).await.map_err(cause)
    }

    /// The sessions that were signed out since this was last asked, on this node or another.
    pub(super) async fn news(&self, now: Timestamp) -> Result<Marks, sqlx::Error> {
        let from = self.read_up_to.load(Ordering::Acquire);
        let (up_to, rows) = self.db.read((from, now), |db, (from, now)| Box::pin(news(db, from, now))).await.map_err(cause)?;
        self.read_up_to.store(up_to, Ordering::Release);
        let mark = |(kind, id, forget_at)| Some((Mark::from_stored(kind, id)?, Timestamp::from_millis(forget_at)));
        Ok(rows.into_iter().filter_map(mark).collect())
    }

    #[cfg(test)]
    pub(super) async fn count(&self) -> i64 {
        async fn count(db: &mut PgConnection) -> Result<i64, Trouble<Infallible>> {
            Ok(sqlx::query_scalar("SELECT count(*) FROM spent").fetch_one(db).await?)
        }
        self.db.read((), |db, ()| Box::pin(count(db))).await.unwrap()
    }
}

fn cause(trouble: Trouble<Infallible>) -> sqlx::Error {
    match trouble {
        Trouble::Sql(error) => error,
        Trouble::Refused(never) => match never {},
    }
}

/// In the order of their keys, so that two nodes' groups do not wait for each other in a circle.
async fn insert(db: &mut PgConnection, group: Marks) -> Result<Vec<(i64, Vec<u8>)>, Trouble<Infallible>> {
    let (mut kinds, mut ids, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for (mark, forget_at) in &group {
        kinds.push(mark.kind());
        ids.push(mark.id().to_vec());
        ends.push(forget_at.as_millis());
    }
    let inserted = sqlx::query_as(
        "INSERT INTO spent (kind, id, forget_at)
         SELECT kind, id, forget_at FROM UNNEST($1::bigint[], $2::bytea[], $3::bigint[]) AS it (kind, id, forget_at) ORDER BY kind, id
         ON CONFLICT DO NOTHING RETURNING kind, id",
    );
    Ok(inserted.bind(kinds).bind(ids).bind(ends).fetch_all(db).await?)
}

async fn delete(db: &mut PgConnection, before: Timestamp) -> Result<(), Trouble<Infallible>> {
    sqlx::query("DELETE FROM spent WHERE forget_at <= $1").bind(before.as_millis()).execute(db).await?;
    Ok(())
}

/// The rows of transactions from this one on, and from which one to read the next time; both as of one moment.
async fn news(db: &mut PgConnection, from: i64, now: Timestamp) -> Result<(i64, Vec<Row>), Trouble<Infallible>> {
    let rows: Vec<Told> = sqlx::query_as(
        "SELECT oldest, kind, id, forget_at
         FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest) AS snapshot
         LEFT JOIN spent ON kind = $1 AND written >= $2 AND forget_at > $3",
    )
    .bind(SESSION)
    .bind(from)
    .bind(now.as_millis())
    .fetch_all(db)
    .await?;
    let up_to = rows.first().map_or(from, |(oldest, ..)| *oldest);
    Ok((up_to, rows.into_iter().filter_map(|(_, kind, id, forget_at)| Some((kind?, id?, forget_at?))).collect()))
}
