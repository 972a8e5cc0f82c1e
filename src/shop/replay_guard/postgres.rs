//! Used tokens in PostgreSQL, which all nodes share. When two nodes use a token at once, the primary key
//! decides which was first.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{PgConnection, migrate::Migrator};
use uuid::Uuid;

use crate::{
    kernel::{Entropy, Timestamp},
    platform::sql::{self, Database, TransactionError},
    shop::replay_guard::store::{UsedToken, UsedTokenStore},
};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    sql::migrator(&[(
        1,
        "used tokens",
        include_str!("postgres/migrations/0001_used_tokens.sql"),
    )])
});

const CONNECTIONS: u32 = 4;
const TIMEOUT: Duration = Duration::from_secs(2);
const ALL: &str = "SELECT id, expires_at FROM used_tokens WHERE kind = 1 AND expires_at > $1";
/// `written_at` precedes the commit, so the window must be longer than any write lasts.
const CHANGES: &str = "SELECT id, expires_at FROM used_tokens WHERE kind = 1 AND expires_at > $1
    AND written_at > clock_timestamp() - interval '15 seconds'";

type Work<T> = Result<T, TransactionError<std::convert::Infallible>>;

pub(crate) struct PostgresUsedTokens {
    db: Database,
    entropy: Arc<dyn Entropy>,
}

/// A group of tokens as arrays, one a column, so that one statement writes them all.
#[derive(Clone, Default)]
struct Rows {
    kinds: Vec<i16>,
    ids: Vec<Vec<u8>>,
    expires_at: Vec<i64>,
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
    async fn record(&self, group: &[(UsedToken, Timestamp)]) -> Result<Vec<bool>, sqlx::Error> {
        let mut writer_id = [0; 8];
        self.entropy.fill(&mut writer_id);
        let mut rows = Rows {
            writer_id: i64::from_le_bytes(writer_id),
            ..Rows::default()
        };
        // All nodes write in the same order, so that two groups cannot deadlock.
        let mut sorted: Vec<&(UsedToken, Timestamp)> = group.iter().collect();
        sorted.sort_by(|(one, _), (other, _)| (one.kind(), one.id()).cmp(&(other.kind(), other.id())));
        for (token, expires_at) in sorted {
            rows.kinds.push(token.kind());
            rows.ids.push(token.id().to_vec());
            rows.expires_at.push(expires_at.as_millis());
        }
        let first = self
            .db
            .write(rows, |db, rows| Box::pin(write(db, rows)))
            .await
            .map_err(sql_error)?;
        Ok(group
            .iter()
            .map(|(token, _)| {
                first
                    .iter()
                    .any(|(kind, id)| *kind == token.kind() && id == token.id())
            })
            .collect())
    }

    async fn contains(&self, token: &UsedToken) -> Result<bool, sqlx::Error> {
        let key = (token.kind(), token.id().to_vec());
        let found = self.db.read(key, |db, (kind, id)| {
            Box::pin(async move {
                let found = sqlx::query_scalar(
                    "SELECT EXISTS (SELECT 1 FROM used_tokens WHERE kind = $1 AND id = $2)",
                )
                .bind(kind)
                .bind(id)
                .fetch_one(db)
                .await?;
                Ok::<bool, TransactionError<std::convert::Infallible>>(found)
            })
        });
        found.await.map_err(sql_error)
    }

    async fn all(&self, now: Timestamp) -> Result<Vec<(UsedToken, Timestamp)>, sqlx::Error> {
        // Used hand-offs are not needed in memory: the insert decides whether one is the first.
        self.sessions(ALL, now).await
    }

    async fn changes_since(&self, now: Timestamp) -> Result<Vec<(UsedToken, Timestamp)>, sqlx::Error> {
        self.sessions(CHANGES, now).await
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), sqlx::Error> {
        let swept = self.db.write(now.as_millis(), |db, now| {
            Box::pin(async move {
                let swept = sqlx::query("DELETE FROM used_tokens WHERE expires_at <= $1")
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
            .filter_map(|(id, expires_at)| {
                Some((UsedToken::Session(Uuid::from_slice(&id).ok()?), expires_at))
            })
            .collect())
    }
}

/// Inserts the tokens; returns those that were unused before. Idempotent for one `writer_id`.
async fn write(db: &mut PgConnection, rows: Rows) -> Work<Vec<(i16, Vec<u8>)>> {
    let first = sqlx::query_as(
        "INSERT INTO used_tokens (kind, id, expires_at, writer_id)
         SELECT kind, id, expires_at, $4
         FROM UNNEST($1::smallint[], $2::bytea[], $3::bigint[]) AS new (kind, id, expires_at)
         ON CONFLICT (kind, id) DO UPDATE SET writer_id = excluded.writer_id
         WHERE used_tokens.writer_id = excluded.writer_id
         RETURNING kind, id",
    )
    .bind(rows.kinds)
    .bind(rows.ids)
    .bind(rows.expires_at)
    .bind(rows.writer_id)
    .fetch_all(db)
    .await?;
    Ok(first)
}

async fn read(db: &mut PgConnection, which: &'static str, now: i64) -> Work<Vec<(Vec<u8>, Timestamp)>> {
    let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(which).bind(now).fetch_all(db).await?;
    Ok(rows
        .into_iter()
        .map(|(id, expires_at)| (id, Timestamp::from_millis(expires_at)))
        .collect())
}

fn sql_error(error: TransactionError<std::convert::Infallible>) -> sqlx::Error {
    match error {
        TransactionError::Sql(error) => error,
        TransactionError::Rejected(never) => match never {},
    }
}
