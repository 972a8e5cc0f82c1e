//! A shop's database: where the customer query runs, and what the account at it may do.

use async_trait::async_trait;

use crate::shop::directory::{port::Wanted, query::CustomerQuery, record::Record};

/// Rows of a customer query that are read at most: one customer, and a second to see that there are several.
pub(crate) const RECORDS_MAX: u32 = 3;
/// Tables with fewer rows than this are read as a whole without harm.
pub(crate) const ROWS_TO_SCAN_MAX: u64 = 10_000;

/// What kinds of databases a shop may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// A file.
    Sqlite,
    /// A PostgreSQL server.
    Postgres,
    /// A MySQL or MariaDB server.
    MySql,
}

impl DatabaseKind {
    /// The kind that a URL is of; `None` for any other text.
    #[must_use]
    pub fn of(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once(':')?;
        match scheme {
            "sqlite" => Some(Self::Sqlite),
            "postgres" | "postgresql" if rest.starts_with("//") => Some(Self::Postgres),
            "mysql" | "mariadb" if rest.starts_with("//") => Some(Self::MySql),
            _ => None,
        }
    }
}

/// A database of one kind.
#[async_trait]
pub(crate) trait ShopDatabase: Send + Sync {
    /// Runs the query; of its rows at most `rows_max` are read.
    async fn records(
        &self,
        query: &CustomerQuery,
        wanted: &Wanted,
        rows_max: u32,
    ) -> Result<Vec<Record>, sqlx::Error>;

    /// The columns that the query returns.
    async fn columns(&self, query: &CustomerQuery) -> Result<Vec<String>, sqlx::Error>;

    /// The tables of which the query reads every row, though they are large.
    async fn scans(&self, query: &CustomerQuery) -> Result<Vec<Scan>, sqlx::Error>;

    /// What the account could change, by the catalog and by trying an update that changes no row of each of
    /// `tables`; empty when it can change nothing.
    async fn write_access(&self, tables: &[String]) -> Result<Vec<String>, sqlx::Error>;
}

/// Whether the database has done what was tried.
///
/// # Errors
/// It did not answer: that proves nothing.
pub(crate) fn is_accepted<T>(tried: Result<T, sqlx::Error>) -> Result<bool, sqlx::Error> {
    match tried {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A name in `shop.tables` that is no table which the account can see.
pub(crate) fn unknown_table(table: &str) -> sqlx::Error {
    sqlx::Error::Configuration(
        format!("shop.tables: there is no table {table} that the account can read").into(),
    )
}

/// A table that a query reads as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The table, as the database names it.
    pub(crate) table: String,
    /// Its rows, as the database estimates them.
    pub(crate) rows: u64,
}
