//! The book of many nodes: PostgreSQL. Of two nodes that spend one mark at once, the row's uniqueness names the first.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{PgConnection, migrate::Migrator};
use uuid::Uuid;

use crate::shop::replay_guard::{UsedTokenStore, UsedToken};
use crate::{
    kernel::{Entropy, Timestamp},
    platform::sql::{self, Database, TransactionError},
};

static MIGRATIONS: Migrator = sqlx::migrate!("src/shop/replay_guard/migrations");

const CONNECTIONS: u32 = 4;
const TIMEOUT: Duration = Duration::from_secs(2);
const ALL: &str = "SELECT id, forget_at FROM spent WHERE kind = 1 AND forget_at > $1";
/// A row may be committed some time after it says it was written; this is longer than any write lasts.
const CHANGES: &str = "SELECT id, forget_at FROM spent WHERE kind = 1 AND forget_at > $1 AND written_at > clock_timestamp() - interval '15 seconds'";

type Work<T> = Result<T, TransactionError<std::convert::Infallible>>;

pub(crate) struct PostgresUsedTokens {
    db: Database,
    entropy: Arc<dyn Entropy>,
}

/// One mark as it is bound: its parts in columns of one statement.
#[derive(Clone, Default)]
struct Rows {
    kinds: Vec<i16>,
    ids: Vec<Vec<u8>>,
    forget_at: Vec<i64>,
    writer_id: i64,
}

impl PostgresUsedTokens {
    pub(crate) async fn open(url: &str, entropy: Arc<dyn Entropy>) -> Result<Self, sql::OpenError> {
        let pool = sql::open_postgres(url, "shop", &MIGRATIONS, CONNECTIONS).await?;
        Ok(Self {
            db: Database::new(pool, TIMEOUT, Arc::clone(&entropy)),
            entropy,
        })
    }
}

#[async_trait]
impl UsedTokenStore for PostgresUsedTokens {
    async fn use_once(&self, group: &[(UsedToken, Timestamp)]) -> Result<Vec<bool>, sqlx::Error> {
        let mut spender = [0; 8];
        self.entropy.fill(&mut spender);
        let mut rows = Rows {
            writer_id: i64::from_le_bytes(spender),
            ..Rows::default()
        };
        // All nodes in one order, so that two groups wait for each other and never in a circle.
        let mut sorted: Vec<&(UsedToken, Timestamp)> = group.iter().collect();
        sorted.sort_by(|(one, _), (other, _)| (one.kind(), one.id()).cmp(&(other.kind(), other.id())));
        for (mark, forget_at) in sorted {
            rows.kinds.push(mark.kind());
            rows.ids.push(mark.id().to_vec());
            rows.forget_at.push(forget_at.as_millis());
        }
        let ours = self
            .db
            .write(rows, |db, rows| Box::pin(write(db, rows)))
            .await
            .map_err(sql_error)?;
        Ok(group
            .iter()
            .map(|(mark, _)| {
                ours.iter()
                    .any(|(kind, id)| *kind == mark.kind() && id == mark.id())
            })
            .collect())
    }

    async fn all(&self, now: Timestamp) -> Result<Vec<(UsedToken, Timestamp)>, sqlx::Error> {
        // Used hand-offs are not remembered here: whether one is the first is asked of the rows.
        self.sessions(ALL, now).await
    }

    async fn changes_since(&self, now: Timestamp) -> Result<Vec<(UsedToken, Timestamp)>, sqlx::Error> {
        self.sessions(CHANGES, now).await
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), sqlx::Error> {
        let swept = self.db.write(now.as_millis(), |db, now| {
            Box::pin(async move {
                let swept = sqlx::query("DELETE FROM spent WHERE forget_at <= $1")
                    .bind(now)
                    .execute(db)
                    .await?;
                Ok::<_, TransactionError<std::convert::Infallible>>(swept.rows_affected())
            })
        });
        swept.await.map(|_| ()).map_err(sql_error)
    }
}

impl PostgresUsedTokens {
    async fn sessions(
        &self,
        which: &'static str,
        now: Timestamp,
    ) -> Result<Vec<(UsedToken, Timestamp)>, sqlx::Error> {
        let given = (which, now.as_millis());
        let rows = self
            .db
            .read(given, |db, (which, now)| Box::pin(read(db, which, now)))
            .await
            .map_err(sql_error)?;
        Ok(rows
            .into_iter()
            .filter_map(|(id, forget_at)| Some((UsedToken::Session(Uuid::from_slice(&id).ok()?), forget_at)))
            .collect())
    }
}

/// The marks that are this spender's: those that nobody spent before, also when this is run again.
async fn write(db: &mut PgConnection, rows: Rows) -> Work<Vec<(i16, Vec<u8>)>> {
    let ours = sqlx::query_as(
        "INSERT INTO spent (kind, id, forget_at, spender)
         SELECT kind, id, forget_at, $4 FROM UNNEST($1::smallint[], $2::bytea[], $3::bigint[]) AS new (kind, id, forget_at)
         ON CONFLICT (kind, id) DO UPDATE SET spender = excluded.spender WHERE spent.spender = excluded.spender
         RETURNING kind, id",
    )
    .bind(rows.kinds)
    .bind(rows.ids)
    .bind(rows.forget_at)
    .bind(rows.writer_id)
    .fetch_all(db)
    .await?;
    Ok(ours)
}

async fn read(db: &mut PgConnection, which: &'static str, now: i64) -> Work<Vec<(Vec<u8>, Timestamp)>> {
    let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(which).bind(now).fetch_all(db).await?;
    Ok(rows
        .into_iter()
        .map(|(id, forget_at)| (id, Timestamp::from_millis(forget_at)))
        .collect())
}

fn sql_error(trouble: TransactionError<std::convert::Infallible>) -> sqlx::Error {
    match trouble {
        TransactionError::Sql(error) => error,
        TransactionError::Rejected(never) => match never {},
    }
}
