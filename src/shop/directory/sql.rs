//! Finds customers by a configured SQL query, over few read-only connections.

use std::{str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow},
};

use crate::{
    kernel::Clock,
    shop::directory::port::{Customer, CustomerDirectory, DirectoryError},
};

/// SQLite steps between two checks of the time limit; some microseconds.
const STEPS_PER_TIMEOUT_CHECK: i32 = 1_000;

/// A shop's database.
pub(crate) struct SqlDirectory {
    pool: SqlitePool,
    query: String,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl SqlDirectory {
    /// Connects lazily, so that the service starts while the shop is down.
    ///
    /// # Errors
    /// When `url` is not `sqlite:FILE`.
    pub(crate) fn new(
        url: &str,
        query: &str,
        connections_max: u32,
        timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, sqlx::Error> {
        // sqlx would accept any text as a file name.
        if !url.starts_with("sqlite:") {
            return Err(sqlx::Error::Configuration("it must be sqlite:FILE".into()));
        }
        let options = SqliteConnectOptions::from_str(url)?
            .read_only(true)
            .create_if_missing(false)
            .busy_timeout(timeout);
        let pool = SqlitePoolOptions::new()
            .min_connections(0)
            .max_connections(connections_max)
            .acquire_timeout(timeout)
            .idle_timeout(Duration::from_mins(1))
            .connect_lazy_with(options);
        Ok(Self {
            pool,
            query: query.to_owned(),
            timeout,
            clock,
        })
    }

    async fn query_customer(&self, login: &str) -> Result<Option<Customer>, sqlx::Error> {
        let until = self.clock.monotonic() + self.timeout;
        let mut connection = self.pool.acquire().await?;
        // Dropping the future would only stop the waiting; the progress handler stops the query itself.
        let clock = Arc::clone(&self.clock);
        connection
            .lock_handle()
            .await?
            .set_progress_handler(STEPS_PER_TIMEOUT_CHECK, move || clock.monotonic() < until);
        let row = sqlx::query(AssertSqlSafe(self.query.as_str()))
            .bind(login)
            .fetch_optional(&mut *connection)
            .await?;
        row.as_ref().map(customer).transpose()
    }
}

#[async_trait]
impl CustomerDirectory for SqlDirectory {
    async fn find(&self, login: &str) -> Result<Option<Customer>, DirectoryError> {
        match tokio::time::timeout(self.timeout, self.query_customer(login)).await {
            Ok(Ok(customer)) => Ok(customer),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the shop's database failed");
                Err(DirectoryError)
            }
            Err(_) => {
                tracing::warn!(
                    timeout_ms = self.timeout.as_millis(),
                    "the shop's database did not respond in time"
                );
                Err(DirectoryError)
            }
        }
    }
}

/// Converts a row. The id may be a number or a text; name and hash may be NULL.
fn customer(row: &SqliteRow) -> Result<Customer, sqlx::Error> {
    let key = match row.try_get::<i64, _>("id") {
        Ok(number) => number.to_string(),
        Err(_) => row.try_get("id")?,
    };
    Ok(Customer {
        key,
        name: row.try_get::<Option<String>, _>("name")?.unwrap_or_default(),
        password_hash: row
            .try_get::<Option<String>, _>("password_hash")?
            .unwrap_or_default(),
        active: row.try_get::<Option<bool>, _>("active")?.unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    use crate::{kernel::SystemClock, shop::demo_shop::create_demo_shop};

    const QUERY: &str = "SELECT id, first_name AS name, password AS password_hash, is_active AS active \
        FROM auth_user WHERE lower(email) = ?";

    async fn shop(dir: &TempDir, query: &str, timeout_ms: u64) -> SqlDirectory {
        let file = dir.path().join("shop.db");
        create_demo_shop(&file, 3).await.unwrap();
        SqlDirectory::new(
            &format!("sqlite:{}", file.display()),
            query,
            2,
            Duration::from_millis(timeout_ms),
            Arc::new(SystemClock::new()),
        )
        .unwrap()
    }

    #[tokio::test]
    async fn the_connection_is_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let directory = shop(&dir, QUERY, 2_000).await;
        assert!(
            directory
                .find("fan00001@example.com")
                .await
                .unwrap()
                .unwrap()
                .active
        );
        for sql in [
            "UPDATE auth_user SET is_active = 0",
            "DELETE FROM auth_user",
            "CREATE TABLE mine (x)",
            "PRAGMA user_version = 7",
        ] {
            let refused = sqlx::query(sql)
                .execute(&directory.pool)
                .await
                .expect_err(sql)
                .to_string();
            assert!(refused.contains("readonly"), "{sql}: {refused}");
        }
    }

    #[tokio::test]
    async fn a_slow_query_times_out_and_frees_its_connection() {
        let dir = tempfile::tempdir().unwrap();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id, ? AS \
            name FROM n WHERE i < 0";
        let directory = shop(&dir, endless, 50).await;
        // More often than there are connections: none of them stays behind in the endless query.
        for _ in 0..5 {
            assert_eq!(directory.find("fan00001@example.com").await, Err(DirectoryError));
        }
        tokio::time::timeout(Duration::from_secs(5), async {
            while directory.pool.num_idle() == 0
                || sqlx::query("SELECT 1").execute(&directory.pool).await.is_err()
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("a connection is usable again");
    }

    #[tokio::test]
    async fn missing_locked_and_changed_databases_fail() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("missing.db").display());
        let missing = SqlDirectory::new(
            &url,
            QUERY,
            2,
            Duration::from_millis(100),
            Arc::new(SystemClock::new()),
        )
        .unwrap();
        assert_eq!(missing.find("fan00001@example.com").await, Err(DirectoryError));
        assert!(
            !dir.path().join("missing.db").exists(),
            "a query does not create the file"
        );

        let directory = shop(&dir, QUERY, 100).await;
        let writer = SqlitePool::connect(&format!("sqlite:{}", dir.path().join("shop.db").display()))
            .await
            .unwrap();
        let mut locking = writer.acquire().await.unwrap();
        sqlx::query("BEGIN EXCLUSIVE")
            .execute(&mut *locking)
            .await
            .unwrap();
        assert_eq!(directory.find("fan00001@example.com").await, Err(DirectoryError));
        sqlx::query("COMMIT").execute(&mut *locking).await.unwrap();
        assert!(
            directory.find("fan00001@example.com").await.unwrap().is_some(),
            "back again"
        );
        sqlx::query("ALTER TABLE auth_user RENAME COLUMN password TO secret")
            .execute(&mut *locking)
            .await
            .unwrap();
        assert_eq!(directory.find("fan00001@example.com").await, Err(DirectoryError));
    }

    #[tokio::test]
    async fn keys_may_be_numbers_or_texts() {
        let dir = tempfile::tempdir().unwrap();
        let directory = shop(
            &dir,
            "SELECT 'k-' || id AS id, NULL AS name, NULL AS password_hash, 1 AS active \
                 FROM auth_user WHERE email = ?",
            2_000,
        )
        .await;
        let found = directory.find("fan00002@example.com").await.unwrap().unwrap();
        assert_eq!(
            (found.key.as_str(), found.name.as_str(), found.active),
            ("k-2", "", true)
        );
    }
}
