//! Spent tokens of one node, in a file of its own.

use std::path::Path;

use sqlx::{SqlitePool, migrate::Migrator};

use super::{Mark, Marks, Written};
use crate::{kernel::Timestamp, platform::sql, shop::OpenError};

static MIGRATIONS: Migrator = sqlx::migrate!("src/shop/migrations");

#[derive(Clone)]
pub(super) struct SpentFile(SqlitePool);

impl SpentFile {
    /// Opens or makes it; with what it knows.
    pub(super) async fn open(file: &Path, now: Timestamp) -> Result<(Self, Marks), OpenError> {
        let (writer, _) = sql::open(file, &MIGRATIONS, 1).await?;
        let rows: Vec<(i64, Vec<u8>, i64)> = sqlx::query_as("SELECT kind, id, forget_at FROM spent WHERE forget_at > ?")
            .bind(now.as_millis())
            .fetch_all(&writer)
            .await
            .map_err(OpenError::Spent)?;
        let known = rows
            .into_iter()
            .filter_map(|(kind, id, forget_at)| Some((Mark::from_stored(kind, id)?, Timestamp::from_millis(forget_at))))
            .collect();
        Ok((Self(writer), known))
    }

    /// All are new: whoever writes has looked in memory, which knows all that is here.
    pub(super) async fn write(&self, group: &Marks) -> Result<Vec<Written>, sqlx::Error> {
        let mut change = self.0.begin_with("BEGIN IMMEDIATE").await?;
        for (mark, forget_at) in group {
            sqlx::query("INSERT OR IGNORE INTO spent (kind, id, forget_at) VALUES (?, ?, ?)")
                .bind(mark.kind())
                .bind(mark.id())
                .bind(forget_at.as_millis())
                .execute(&mut *change)
                .await?;
        }
        change.commit().await?;
        Ok(vec![Written::First; group.len()])
    }

    pub(super) async fn forget(&self, now: Timestamp) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM spent WHERE forget_at <= ?").bind(now.as_millis()).execute(&self.0).await?;
        Ok(())
    }

    #[cfg(test)]
    pub(super) async fn count(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM spent").fetch_one(&self.0).await.unwrap()
    }

    #[cfg(test)]
    pub(super) async fn close(&self) {
        self.0.close().await;
    }
}
