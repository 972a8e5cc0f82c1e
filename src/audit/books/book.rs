//! One book and how its rows are fetched, whatever engine keeps it.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use sqlx::{
    FromRow, PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use crate::audit::books::BooksError;
use crate::kernel::SaleId;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Where a book is kept: `sqlite:FILE` or `postgres://...`.
#[derive(Clone)]
pub enum BookAt {
    File(PathBuf),
    /// The URL of a database that nodes share.
    Postgres(String),
}

impl FromStr for BookAt {
    type Err = BooksError;

    fn from_str(text: &str) -> Result<Self, BooksError> {
        if let Some(file) = text.strip_prefix("sqlite:") {
            return Ok(Self::File(file.trim_start_matches("//").into()));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        Err(BooksError::Place)
    }
}

impl BookAt {
    /// The file of this name.
    pub(crate) fn file(dir: &Path, name: &str) -> Self {
        Self::File(dir.join(name))
    }
}

/// A row that both engines give.
pub(crate) trait AnyRow:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin> AnyRow for T {}

/// An open book; it is only read.
pub(crate) struct Book {
    name: &'static str,
    pages: Pages,
}

enum Pages {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Book {
    /// `schema`: where a shared database keeps it.
    pub(crate) async fn open(at: &BookAt, name: &'static str, schema: &str) -> Result<Self, BooksError> {
        let sql = |source| BooksError::Sql { book: name, source };
        let pages = match at {
            BookAt::File(file) => {
                let options = SqliteConnectOptions::new()
                    .filename(file)
                    .read_only(true)
                    .busy_timeout(Duration::from_secs(5));
                Pages::Sqlite(SqlitePool::connect_with(options).await.map_err(sql)?)
            }
            BookAt::Postgres(url) => {
                let options: PgConnectOptions = url.parse().map_err(sql)?;
                let options = options.options([
                    ("search_path", schema),
                    ("default_transaction_read_only", "on"),
                    ("statement_timeout", "60s"),
                    ("lock_timeout", "5s"),
                ]);
                let pool = PgPoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(CONNECT_WITHIN);
                Pages::Postgres(
                    pool.connect_with(options.application_name("stagedoor audit"))
                        .await
                        .map_err(sql)?,
                )
            }
        };
        Ok(Self { name, pages })
    }

    /// The rows of one sale, `$1` in the query.
    pub(crate) async fn rows<T: AnyRow>(
        &self,
        query: &'static str,
        sale: &SaleId,
    ) -> Result<Vec<T>, BooksError> {
        let sale = sale.as_str().to_owned();
        match &self.pages {
            Pages::Sqlite(pool) => sqlx::query_as(query).bind(sale).fetch_all(pool).await,
            Pages::Postgres(pool) => sqlx::query_as(query).bind(sale).fetch_all(pool).await,
        }
        .map_err(|source| BooksError::Sql {
            book: self.name,
            source,
        })
    }

    /// The rows of all sales.
    pub(crate) async fn all<T: AnyRow>(&self, query: &'static str) -> Result<Vec<T>, BooksError> {
        match &self.pages {
            Pages::Sqlite(pool) => sqlx::query_as(query).fetch_all(pool).await,
            Pages::Postgres(pool) => sqlx::query_as(query).fetch_all(pool).await,
        }
        .map_err(|source| BooksError::Sql {
            book: self.name,
            source,
        })
    }

    /// Entries in the order in which they were written.
    pub(crate) fn entries_in_order(&self) -> &'static str {
        match &self.pages {
            Pages::Sqlite(_) => {
                "SELECT number, subject, visit, entered_at, ended_at FROM entry WHERE sale = $1 ORDER BY rowid"
            }
            Pages::Postgres(_) => {
                "SELECT number, subject, visit, entered_at, ended_at FROM entry WHERE sale = $1 ORDER BY seq"
            }
        }
    }

    pub(crate) fn wrong(&self, what: impl Into<String>) -> BooksError {
        BooksError::Content {
            book: self.name,
            what: what.into(),
        }
    }
}
