//! Customers by a configured SQL query, over few connections that can only read.

use std::{str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow},
};

use crate::kernel::Clock;
use crate::shop::directory::{Customer, CustomerDirectory, DirectoryError};

/// SQLite steps between two looks at the deadline; some microseconds.
const STEPS_PER_TIMEOUT_CHECK: i32 = 1_000;

/// A shop's database.
pub(crate) struct SqlDirectory {
    pool: SqlitePool,
    query: String,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl SqlDirectory {
    /// Connects when it is first asked: a shop that is down does not keep the house from opening.
    ///
    /// # Errors
    /// When `url` is not `sqlite:FILE`.
    pub(crate) fn new(
        url: &str,
        query: &str,
        connections_max: u32,
        deadline: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, sqlx::Error> {
        // sqlx takes any text for a file's name.
        if !url.starts_with("sqlite:") {
            return Err(sqlx::Error::Configuration("it must be sqlite:FILE".into()));
        }
        let options = SqliteConnectOptions::from_str(url)?
            .read_only(true)
            .create_if_missing(false)
            .busy_timeout(deadline);
        let pool = SqlitePoolOptions::new()
            .min_connections(0)
            .max_connections(connections_max)
            .acquire_timeout(deadline)
            .idle_timeout(Duration::from_mins(1))
            .connect_lazy_with(options);
        Ok(Self {
            pool,
            query: query.to_owned(),
            timeout: deadline,
            clock,
        })
    }

    async fn query_customer(&self, login: &str) -> Result<Option<Customer>, sqlx::Error> {
        let until = self.clock.monotonic() + self.timeout;
        let mut connection = self.pool.acquire().await?;
        // Dropping the future would only stop the waiting; this stops the query itself.
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
                    deadline_ms = self.timeout.as_millis(),
                    "the shop's database did not answer in time"
                );
                Err(DirectoryError)
            }
        }
    }
}

/// Shops number their customers or name them; names and hashes may be missing.
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
    use crate::{
        kernel::SystemClock,
        shop::{demo_shop::create_demo_shop, test_dir::TestDir},
    };

    const QUERY: &str = "SELECT id, first_name AS name, password AS password_hash, is_active AS active FROM auth_user WHERE lower(email) = ?";

    async fn shop(dir: &TestDir, query: &str, deadline_ms: u64) -> SqlDirectory {
        let file = dir.file("shop.db");
        create_demo_shop(&file, 3).await.unwrap();
        SqlDirectory::new(
            &format!("sqlite:{}", file.display()),
            query,
            2,
            Duration::from_millis(deadline_ms),
            Arc::new(SystemClock::new()),
        )
        .unwrap()
    }

    #[tokio::test]
    async fn the_connection_cannot_write() {
        let dir = TestDir::new();
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
    async fn a_slow_query_ends_at_its_deadline_and_gives_its_connection_back() {
        let dir = TestDir::new();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id, ? AS name FROM n WHERE i < 0";
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
    async fn a_missing_a_locked_and_a_changed_database_give_no_answer() {
        let dir = TestDir::new();
        let url = format!("sqlite:{}", dir.file("missing.db").display());
        let missing = SqlDirectory::new(
            &url,
            QUERY,
            2,
            Duration::from_millis(100),
            Arc::new(SystemClock::new()),
        )
        .unwrap();
        assert_eq!(missing.find("fan00001@example.com").await, Err(DirectoryError));
        assert!(!dir.file("missing.db").exists(), "asking does not make one");

        let directory = shop(&dir, QUERY, 100).await;
        let writer = SqlitePool::connect(&format!("sqlite:{}", dir.file("shop.db").display()))
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
        let dir = TestDir::new();
        let directory =
            shop(&dir, "SELECT 'k-' || id AS id, NULL AS name, NULL AS password_hash, 1 AS active FROM auth_user WHERE email = ?", 2_000)
                .await;
        let found = directory.find("fan00002@example.com").await.unwrap().unwrap();
        assert_eq!(
            (found.key.as_str(), found.name.as_str(), found.active),
            ("k-2", "", true)
        );
    }
}
