//! Used tokens in an SQLite file, which the processes of one data directory can share.

use std::{
    path::Path,
    sync::{
        LazyLock,
        atomic::{AtomicI64, Ordering},
    },
};

use async_trait::async_trait;
use sqlx::migrate::Migrator;

use crate::{
    kernel::Timestamp,
    platform::{
        shutdown::Lifecycle,
        sql::{self, SqliteWriter},
    },
    shop::replay_guard::store::{UsedToken, UsedTokenStore},
};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    sql::migrator(&[(
        1,
        "used tokens",
        include_str!("sqlite/migrations/0001_used_tokens.sql"),
    )])
});

pub(crate) struct SqliteUsedTokens {
    writer: SqliteWriter,
    /// `PRAGMA data_version` at the last read; it changes only when another process writes.
    read_version: AtomicI64,
}

impl SqliteUsedTokens {
    pub(crate) async fn open(file: &Path, lifecycle: &Lifecycle) -> Result<Self, sql::OpenError> {
        let (writer, _) = sql::open_sqlite(file, &MIGRATIONS, 1, lifecycle).await?;
        Ok(Self {
            writer,
            read_version: AtomicI64::new(0),
        })
    }

    #[cfg(test)]
    pub(crate) fn writer(&self) -> &SqliteWriter {
        &self.writer
    }
}

#[async_trait]
impl UsedTokenStore for SqliteUsedTokens {
    async fn record(&self, group: &[(UsedToken, Timestamp)]) -> Result<Vec<bool>, sqlx::Error> {
        let mut change = self.writer.begin("BEGIN IMMEDIATE").await?;
        let mut are_first = Vec::with_capacity(group.len());
        for (token, expires_at) in group {
            let inserted =
                sqlx::query("INSERT OR IGNORE INTO used_tokens (kind, id, expires_at) VALUES (?, ?, ?)")
                    .bind(token.kind())
                    .bind(token.id())
                    .bind(expires_at.as_millis())
                    .execute(&mut *change)
                    .await;
            match inserted {
                Ok(done) => are_first.push(done.rows_affected() == 1),
                Err(error) => return Err(change.roll_back(error).await),
            }
        }
        change.commit().await?;
        Ok(are_first)
    }

    async fn contains(&self, token: &UsedToken) -> Result<bool, sqlx::Error> {
        let mut connection = self.writer.connection().await?;
        let found = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM used_tokens WHERE kind = ? AND id = ?)")
            .bind(token.kind())
            .bind(token.id())
            .fetch_one(&mut *connection)
            .await;
        connection.finish_read(found)
    }

    async fn all(&self, now: Timestamp) -> Result<Vec<(UsedToken, Timestamp)>, sqlx::Error> {
        let version = self.version().await?;
        let mut connection = self.writer.connection().await?;
        let rows = sqlx::query_as("SELECT kind, id, expires_at FROM used_tokens WHERE expires_at > ?")
            .bind(now.as_millis())
            .fetch_all(&mut *connection)
            .await;
        let rows: Vec<(i16, Vec<u8>, i64)> = connection.finish_read(rows)?;
        self.read_version.store(version, Ordering::Relaxed);
        Ok(rows
            .into_iter()
            .filter_map(|(kind, id, expires_at)| {
                Some((
                    UsedToken::from_stored(kind, id)?,
                    Timestamp::from_millis(expires_at),
                ))
            })
            .collect())
    }

    async fn changes_since(&self, now: Timestamp) -> Result<Vec<(UsedToken, Timestamp)>, sqlx::Error> {
        if self.version().await? == self.read_version.load(Ordering::Relaxed) {
            Ok(Vec::new())
        } else {
            self.all(now).await
        }
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), sqlx::Error> {
        let mut connection = self.writer.connection().await?;
        let deleted = sqlx::query("DELETE FROM used_tokens WHERE expires_at <= ?")
            .bind(now.as_millis())
            .execute(&mut *connection)
            .await;
        connection.finish(deleted).await.map(|_| ())
    }
}

impl SqliteUsedTokens {
    async fn version(&self) -> Result<i64, sqlx::Error> {
        let mut connection = self.writer.connection().await?;
        let version = sqlx::query_scalar("PRAGMA data_version")
            .fetch_one(&mut *connection)
            .await;
        connection.finish_read(version)
    }
}
