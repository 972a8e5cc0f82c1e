//! The book of one directory: an SQLite file, which the processes of several roles may share.

use std::{
    path::Path,
    sync::atomic::{AtomicI64, Ordering},
};

use async_trait::async_trait;
use sqlx::{SqlitePool, migrate::Migrator};

use crate::shop::replay_guard::{UsedTokenStore, UsedToken};
use crate::{kernel::Timestamp, platform::sql};

static MIGRATIONS: Migrator = sqlx::migrate!("src/shop/replay_guard/file_migrations");

pub(crate) struct SqliteUsedTokens {
    writer: SqlitePool,
    /// The file's version when it was read last; it moves only when another process writes.
    seen: AtomicI64,
}

impl SqliteUsedTokens {
    pub(crate) async fn open(file: &Path) -> Result<Self, sql::OpenError> {
        let (writer, _) = sql::open_sqlite(file, &MIGRATIONS, 1).await?;
        Ok(Self {
            writer,
            seen: AtomicI64::new(0),
        })
    }

    #[cfg(test)]
    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.writer
    }
}

#[async_trait]
impl UsedTokenStore for SqliteUsedTokens {
    async fn use_once(&self, group: &[(UsedToken, Timestamp)]) -> Result<Vec<bool>, sqlx::Error> {
        let mut change = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut firsts = Vec::with_capacity(group.len());
        for (mark, forget_at) in group {
            let done = sqlx::query("INSERT OR IGNORE INTO spent (kind, id, forget_at) VALUES (?, ?, ?)")
                .bind(mark.kind())
                .bind(mark.id())
                .bind(forget_at.as_millis())
                .execute(&mut *change)
                .await?;
            firsts.push(done.rows_affected() == 1);
        }
        change.commit().await?;
        Ok(firsts)
    }

    async fn all(&self, now: Timestamp) -> Result<Vec<(UsedToken, Timestamp)>, sqlx::Error> {
        let version = self.version().await?;
        let rows: Vec<(i16, Vec<u8>, i64)> =
            sqlx::query_as("SELECT kind, id, forget_at FROM spent WHERE forget_at > ?")
                .bind(now.as_millis())
                .fetch_all(&self.writer)
                .await?;
        self.seen.store(version, Ordering::Relaxed);
        Ok(rows
            .into_iter()
            .filter_map(|(kind, id, forget_at)| {
                Some((UsedToken::from_stored(kind, id)?, Timestamp::from_millis(forget_at)))
            })
            .collect())
    }

    async fn changes_since(&self, now: Timestamp) -> Result<Vec<(UsedToken, Timestamp)>, sqlx::Error> {
        if self.version().await? == self.seen.load(Ordering::Relaxed) {
            Ok(Vec::new())
        } else {
            self.all(now).await
        }
    }

    async fn sweep(&self, now: Timestamp) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM spent WHERE forget_at <= ?")
            .bind(now.as_millis())
            .execute(&self.writer)
            .await
            .map(|_| ())
    }
}

impl SqliteUsedTokens {
    async fn version(&self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("PRAGMA data_version")
            .fetch_one(&self.writer)
            .await
    }
}
