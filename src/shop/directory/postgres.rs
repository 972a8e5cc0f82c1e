//! A shop's PostgreSQL database, over sessions that only read.

use std::{str::FromStr, time::Duration};

use async_trait::async_trait;
use sqlx::{
    AssertSqlSafe, Column, Connection, Executor, PgConnection, PgPool, Row, SqlSafeStr, Statement,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::shop::directory::{
    database::{ROWS_TO_SCAN_MAX, Scan, ShopDatabase, is_accepted, unknown_table},
    port::Wanted,
    query::CustomerQuery,
    record::{Cell, Record},
};

/// Tables that the account can change: by a privilege on the table or on one of its columns.
const WRITABLE: &str = "
    SELECT format('%s on %I.%I', privilege, n.nspname, c.relname)
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace,
        unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS privilege
    WHERE c.relkind IN ('r', 'p', 'v', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
        AND n.nspname NOT LIKE 'pg\\_t%'
        AND CASE WHEN privilege IN ('INSERT', 'UPDATE')
            THEN has_any_column_privilege(c.oid, privilege) ELSE has_table_privilege(c.oid, privilege) END
    ORDER BY n.nspname, c.relname LIMIT 8";
/// A column of a table, to try an update with.
const FIRST_COLUMN: &str = "SELECT quote_ident(attname) FROM pg_attribute
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum LIMIT 1";
/// Sequential scans of the plan `$1`, whose tables have more than `$2` rows.
const LARGE_SCANS: &str = "
    SELECT c.relname::text, c.reltuples::bigint FROM pg_class AS c
    WHERE c.oid = ANY (SELECT to_regclass(name) FROM unnest($1::text[]) AS name) AND c.reltuples > $2";

pub(crate) struct PostgresShop {
    pool: PgPool,
}

impl PostgresShop {
    /// Does not connect yet.
    pub(crate) fn new(url: &str, connections_max: u32, timeout: Duration) -> Result<Self, sqlx::Error> {
        let options = PgConnectOptions::from_str(url)?.application_name("stagedoor");
        let limit_ms = timeout.as_millis();
        // By statements, because poolers refuse connection options. A pooler must keep sessions apart.
        let session = format!(
            "SET default_transaction_read_only = on; SET statement_timeout = {limit_ms}; \
             SET lock_timeout = {limit_ms}; SET idle_in_transaction_session_timeout = 10000"
        );
        let pool = PgPoolOptions::new()
            .min_connections(0)
            .max_connections(connections_max)
            .acquire_timeout(timeout)
            .idle_timeout(Duration::from_mins(1))
            .after_connect(move |connection, _| {
                let session = session.clone();
                Box::pin(async move { connection.execute(AssertSqlSafe(session)).await.map(|_| ()) })
            })
            .connect_lazy_with(options);
        Ok(Self { pool })
    }
}

#[async_trait]
impl ShopDatabase for PostgresShop {
    async fn records(
        &self,
        query: &CustomerQuery,
        wanted: &Wanted,
        rows_max: u32,
    ) -> Result<Vec<Record>, sqlx::Error> {
        // As JSON, because the columns may be of any type that the shop has defined.
        let sql = format!(
            "SELECT to_jsonb(customer)::text FROM ({}) AS customer LIMIT {rows_max}",
            query.sql()
        );
        let mut statement = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql));
        for value in query.values(wanted) {
            statement = statement.bind(value);
        }
        let rows = statement.fetch_all(&self.pool).await?;
        rows.iter().map(|row| record(row)).collect()
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
        let explain = format!("EXPLAIN (VERBOSE, FORMAT JSON) {}", query.sql());
        let mut statement = sqlx::query(AssertSqlSafe(explain));
        let example = query.example();
        for value in query.values(&example) {
            statement = statement.bind(value);
        }
        let row = statement.fetch_one(&self.pool).await?;
        // The binary form of the type `json` is its text.
        let plan: String = row.try_get_unchecked(0)?;
        let plan = serde_json::from_str(&plan).map_err(|e| sqlx::Error::Decode(e.into()))?;
        let mut tables = Vec::new();
        sequential_scans(&plan, &mut tables);
        let rows: Vec<(String, i64)> = sqlx::query_as(LARGE_SCANS)
            .bind(tables)
            .bind(i64::try_from(ROWS_TO_SCAN_MAX).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await?;
        let scan = |(table, rows): (String, i64)| Scan {
            table,
            rows: rows.unsigned_abs(),
        };
        Ok(rows.into_iter().map(scan).collect())
    }

    async fn write_access(&self, tables: &[String]) -> Result<Vec<String>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let is_replica: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()")
            .fetch_one(&mut *connection)
            .await?;
        if is_replica {
            return Ok(Vec::new());
        }
        let mut writable: Vec<String> = sqlx::query_scalar(WRITABLE).fetch_all(&mut *connection).await?;
        for table in tables {
            if is_update_accepted(&mut connection, table).await? {
                writable.push(format!("UPDATE on {table}, which was tried"));
            }
        }
        Ok(writable)
    }
}

/// Whether an update of no row is accepted, in a transaction that is rolled back.
async fn is_update_accepted(connection: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    let column: Option<String> = sqlx::query_scalar(FIRST_COLUMN)
        .bind(table)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(column) = column else {
        return Err(unknown_table(table));
    };
    let mut attempt = connection.begin_with("BEGIN READ WRITE").await?;
    let sql = format!("UPDATE {table} SET {column} = {column} WHERE 1 = 0");
    let tried = attempt.execute(AssertSqlSafe(sql)).await;
    attempt.rollback().await?;
    is_accepted(tried)
}

fn record(json: &str) -> Result<Record, sqlx::Error> {
    let row: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(json).map_err(|e| sqlx::Error::Decode(e.into()))?;
    Record::from_columns(|column| {
        Ok(row.get(column).map(|value| match value {
            serde_json::Value::Null => Cell::Null,
            serde_json::Value::Bool(flag) => Cell::Flag(*flag),
            serde_json::Value::String(text) => Cell::Text(text.clone()),
            // A number that JSON rounds is no key: two customers could become one.
            other => match (other.as_i64(), other.as_u64()) {
                (Some(number), _) => Cell::Number(number),
                (None, Some(number)) => Cell::Text(number.to_string()),
                (None, None) => Cell::Text(String::new()),
            },
        }))
    })
}

/// The tables that a plan reads row by row, as `schema.table`.
fn sequential_scans(plan: &serde_json::Value, tables: &mut Vec<String>) {
    match plan {
        serde_json::Value::Array(parts) => parts.iter().for_each(|part| sequential_scans(part, tables)),
        serde_json::Value::Object(node) => {
            let text = |key| node.get(key).and_then(serde_json::Value::as_str);
            if let (Some("Seq Scan"), Some(schema), Some(table)) =
                (text("Node Type"), text("Schema"), text("Relation Name"))
            {
                let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
                tables.push(format!("{}.{}", quoted(schema), quoted(table)));
            }
            node.values().for_each(|part| sequential_scans(part, tables));
        }
        _ => {}
    }
}
