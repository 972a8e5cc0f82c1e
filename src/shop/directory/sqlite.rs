//! A shop's SQLite file, opened read-only.

use std::{str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, Column, Executor, Row, SqlSafeStr, SqlitePool, Statement,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

use crate::{
    kernel::Clock,
    shop::directory::{
        database::{ROWS_TO_SCAN_MAX, Scan, ShopDatabase},
        login::any_case,
        port::Wanted,
        query::CustomerQuery,
        record::Record,
    },
};

/// SQLite steps between two checks of the time limit; some microseconds.
const STEPS_PER_TIMEOUT_CHECK: i32 = 1_000;
/// The name by which a query can use [`any_case`]; SQLite's own `lower` knows ASCII alone.
pub(crate) const ANY_CASE: &str = "any_case";

pub(crate) struct SqliteShop {
    pool: SqlitePool,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl SqliteShop {
    /// Does not connect yet.
    pub(crate) fn new(
        url: &str,
        connections_max: u32,
        timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::from_str(url)?
            .read_only(true)
            .create_if_missing(false)
            .collation(ANY_CASE, any_case)
            .busy_timeout(timeout);
        let pool = SqlitePoolOptions::new()
            .min_connections(0)
            .max_connections(connections_max)
            .acquire_timeout(timeout)
            .idle_timeout(Duration::from_mins(1))
            .connect_lazy_with(options);
        Ok(Self { pool, timeout, clock })
    }
}

#[async_trait]
impl ShopDatabase for SqliteShop {
    async fn records(
        &self,
        query: &CustomerQuery,
        wanted: &Wanted,
        rows_max: u32,
    ) -> Result<Vec<Record>, sqlx::Error> {
        let until = self.clock.monotonic() + self.timeout;
        let mut connection = self.pool.acquire().await?;
        // Dropping the future would only stop the waiting; the progress handler stops the query itself.
        let clock = Arc::clone(&self.clock);
        connection
            .lock_handle()
            .await?
            .set_progress_handler(STEPS_PER_TIMEOUT_CHECK, move || clock.monotonic() < until);
        let limited = format!("SELECT * FROM ({}) LIMIT {rows_max}", query.sql());
        let mut statement = sqlx::query(AssertSqlSafe(limited));
        for value in query.values(wanted) {
            statement = statement.bind(value);
        }
        let rows = statement.fetch_all(&mut *connection).await?;
        rows.iter().map(Record::from_row).collect()
    }

    async fn columns(&self, query: &CustomerQuery) -> Result<Vec<String>, sqlx::Error> {
        let sql = AssertSqlSafe(query.sql().to_owned()).into_sql_str();
        let statement = self.pool.prepare(sql).await?;
        Ok(statement
            .columns()
            .iter()
            .map(|it| it.name().to_owned())
            .collect())
    }

    async fn scans(&self, query: &CustomerQuery) -> Result<Vec<Scan>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        // An explanation reads nothing, so it would not notice that the schema has changed.
        sqlx::query("SELECT count(*) FROM sqlite_schema")
            .execute(&mut *connection)
            .await?;
        let explain = format!("EXPLAIN QUERY PLAN {}", query.sql());
        let mut statement = sqlx::query(AssertSqlSafe(explain)).persistent(false);
        let example = query.example();
        for value in query.values(&example) {
            statement = statement.bind(value);
        }
        let mut scans = Vec::new();
        for row in statement.fetch_all(&mut *connection).await? {
            let detail: String = row.try_get("detail")?;
            let Some(table) = detail.strip_prefix("SCAN ").and_then(|it| it.split(' ').next()) else {
                continue;
            };
            // The largest row id is found at once; counting would read the table.
            let sql = format!(
                "SELECT coalesce(max(rowid), 0) FROM \"{}\"",
                table.replace('"', "\"\"")
            );
            // A name that is an alias or a view has no rows of its own to estimate.
            let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
                .fetch_one(&mut *connection)
                .await
                .unwrap_or(i64::MAX);
            let (table, rows) = (table.to_owned(), rows.unsigned_abs());
            if rows > ROWS_TO_SCAN_MAX {
                scans.push(Scan { table, rows });
            }
        }
        Ok(scans)
    }

    /// The file is opened with `mode=ro`; SQLite refuses every change, which is tried all the same.
    async fn write_access(&self, tables: &[String]) -> Result<Vec<String>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let mut writable = Vec::new();
        for table in tables {
            let sql = format!("DELETE FROM {table} WHERE 1 = 0");
            if sqlx::query(AssertSqlSafe(sql))
                .execute(&mut *connection)
                .await
                .is_ok()
            {
                writable.push(format!("DELETE on {table}"));
            }
        }
        Ok(writable)
    }
}
