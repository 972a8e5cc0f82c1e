//! A shop's MySQL or MariaDB database, over sessions that only read.

use std::{str::FromStr, time::Duration};

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, Column, Connection, Executor, MySqlConnection, MySqlPool, Row, SqlSafeStr, Statement,
    mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlRow},
};

use crate::shop::directory::{
    database::{ROWS_TO_SCAN_MAX, Scan, ShopDatabase, is_accepted, unknown_table},
    port::Wanted,
    query::CustomerQuery,
    record::Record,
};

/// Privileges that change nothing. `GRANT OPTION` alone passes on what the account has.
const HARMLESS: [&str; 9] = [
    "USAGE",
    "SELECT",
    "SHOW VIEW",
    "SHOW DATABASES",
    "PROCESS",
    "REPLICATION CLIENT",
    "BINLOG MONITOR",
    "SLAVE MONITOR",
    "GRANT OPTION",
];

pub(crate) struct MySqlShop {
    pool: MySqlPool,
}

impl MySqlShop {
    /// Does not connect yet.
    pub(crate) fn new(url: &str, connections_max: u32, timeout: Duration) -> Result<Self, sqlx::Error> {
        let options = MySqlConnectOptions::from_str(url)?;
        let pool = MySqlPoolOptions::new()
            .min_connections(0)
            .max_connections(connections_max)
            .acquire_timeout(timeout)
            .idle_timeout(Duration::from_mins(1))
            .after_connect(move |connection, _| Box::pin(limit_session(connection, timeout)))
            .connect_lazy_with(options);
        Ok(Self { pool })
    }
}

/// Makes a session read-only and ends its slow queries at the server, which goes on with them when a client
/// only stops waiting.
async fn limit_session(connection: &mut MySqlConnection, timeout: Duration) -> Result<(), sqlx::Error> {
    let version: String = sqlx::query_scalar("SELECT version()")
        .fetch_one(&mut *connection)
        .await?;
    let limit = if version.contains("MariaDB") {
        format!("SET SESSION max_statement_time = {}", timeout.as_secs_f64())
    } else {
        format!("SET SESSION max_execution_time = {}", timeout.as_millis())
    };
    connection.execute(AssertSqlSafe(limit)).await?;
    connection.execute("SET SESSION TRANSACTION READ ONLY").await?;
    Ok(())
}

#[async_trait]
impl ShopDatabase for MySqlShop {
    async fn records(
        &self,
        query: &CustomerQuery,
        wanted: &Wanted,
        rows_max: u32,
    ) -> Result<Vec<Record>, sqlx::Error> {
        let limited = format!(
            "SELECT customer.* FROM ({}) AS customer LIMIT {rows_max}",
            query.sql()
        );
        let mut statement = sqlx::query(AssertSqlSafe(limited));
        for value in query.values(wanted) {
            statement = statement.bind(value);
        }
        let rows = statement.fetch_all(&self.pool).await?;
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
        let explain = format!("EXPLAIN {}", query.sql());
        let mut statement = sqlx::query(AssertSqlSafe(explain));
        let example = query.example();
        for value in query.values(&example) {
            statement = statement.bind(value);
        }
        let rows = statement.fetch_all(&self.pool).await?;
        Ok(rows.iter().filter_map(large_scan).collect())
    }

    async fn write_access(&self, tables: &[String]) -> Result<Vec<String>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let grants: Vec<String> = sqlx::query_scalar("SHOW GRANTS")
            .fetch_all(&mut *connection)
            .await?;
        let mut writable: Vec<String> = grants
            .iter()
            .flat_map(|grant| harmful_privileges(grant))
            .collect();
        for table in tables {
            if is_update_accepted(&mut connection, table).await? {
                writable.push(format!("UPDATE on {table}, which was tried"));
            }
        }
        Ok(writable)
    }
}

/// The access types `ALL` and `index` read every row or every entry of an index.
fn large_scan(row: &MySqlRow) -> Option<Scan> {
    let text = |column| row.try_get::<Option<String>, _>(column).ok().flatten();
    let rows = row
        .try_get::<Option<u64>, _>("rows")
        .ok()
        .flatten()
        .or_else(|| text("rows")?.parse().ok())?;
    let is_scan = matches!(text("type").as_deref(), Some("ALL" | "index"));
    (is_scan && rows > ROWS_TO_SCAN_MAX).then(|| Scan {
        table: text("table").unwrap_or_default(),
        rows,
    })
}

/// Of a line of `SHOW GRANTS`, `GRANT SELECT, UPDATE ON shop.* TO ...`, the privileges that change something.
/// A granted role is not looked into; what it allows on the named tables shows when it is tried.
fn harmful_privileges(grant: &str) -> Vec<String> {
    let Some((privileges, rest)) = grant.strip_prefix("GRANT ").and_then(|it| it.split_once(" ON ")) else {
        return Vec::new();
    };
    let on = rest.split(" TO ").next().unwrap_or(rest);
    without_columns(privileges)
        .split(',')
        .map(str::trim)
        .filter(|privilege| !privilege.is_empty() && !HARMLESS.contains(privilege))
        .map(|privilege| format!("{privilege} on {on}"))
        .collect()
}

/// `SELECT (id, name), UPDATE (name)` without the lists in brackets.
fn without_columns(privileges: &str) -> String {
    let mut depth = 0_usize;
    let mut outside = String::with_capacity(privileges.len());
    for c in privileges.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => outside.push(c),
            _ => {}
        }
    }
    outside
}

/// Whether an update of no row is accepted, in a transaction that is rolled back.
async fn is_update_accepted(connection: &mut MySqlConnection, table: &str) -> Result<bool, sqlx::Error> {
    let sql = format!("SHOW COLUMNS FROM {table}");
    let columns = match connection.fetch_optional(AssertSqlSafe(sql)).await {
        Err(sqlx::Error::Database(_)) => None,
        columns => columns?,
    };
    let Some(column) = columns.and_then(|row| row.try_get_unchecked::<String, _>(0).ok()) else {
        return Err(unknown_table(table));
    };
    let column = format!("`{}`", column.replace('`', "``"));
    let mut attempt = connection.begin_with("START TRANSACTION READ WRITE").await?;
    let sql = format!("UPDATE {table} SET {column} = {column} WHERE 1 = 0");
    let tried = attempt.execute(AssertSqlSafe(sql)).await;
    attempt.rollback().await?;
    is_accepted(tried)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_that_change_something_are_found() {
        for (grant, expected) in [
            (
                "GRANT USAGE ON *.* TO `reader`@`%` IDENTIFIED BY PASSWORD '*00'",
                vec![],
            ),
            (
                "GRANT SELECT (`id`, `email`), SHOW VIEW ON `shop`.`users` TO `reader`@`%`",
                vec![],
            ),
            ("GRANT `auditor`@`%` TO `reader`@`%`", vec![]),
            (
                "GRANT SELECT, UPDATE (`name`) ON `shop`.`users` TO `reader`@`%`",
                vec!["UPDATE on `shop`.`users`"],
            ),
            (
                "GRANT ALL PRIVILEGES ON `shop`.* TO `reader`@`%` WITH GRANT OPTION",
                vec!["ALL PRIVILEGES on `shop`.*"],
            ),
        ] {
            assert_eq!(harmful_privileges(grant), expected, "{grant}");
        }
    }
}
