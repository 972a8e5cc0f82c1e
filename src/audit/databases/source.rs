//! One database and how its rows are fetched, whatever database system keeps it.

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

use crate::kernel::SaleId;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a database could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database failed.
    #[error("{database}: {source}")]
    Sql {
        /// What the database is, for instance `the ledger`.
        database: &'static str,
        /// The failure.
        source: sqlx::Error,
    },
    /// The database has a row that cannot be understood.
    #[error("{database}: {what}")]
    Content {
        /// What the database is, for instance `the ledger`.
        database: &'static str,
        /// What is wrong with the row.
        what: String,
    },
    /// The text names no database.
    #[error("a database is sqlite:FILE or postgres://...")]
    Location,
}

/// Where a database is: `sqlite:FILE` or `postgres://...`.
#[derive(Clone)]
pub enum DatabaseLocation {
    /// A SQLite file.
    File(PathBuf),
    /// URL of a PostgreSQL database.
    Postgres(String),
}

impl FromStr for DatabaseLocation {
    type Err = ReadError;

    fn from_str(text: &str) -> Result<Self, ReadError> {
        if let Some(file) = text.strip_prefix("sqlite:") {
            return Ok(Self::File(file.trim_start_matches("//").into()));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        Err(ReadError::Location)
    }
}

impl DatabaseLocation {
    /// The file of this name in a data directory.
    pub(crate) fn file(dir: &Path, name: &str) -> Self {
        Self::File(dir.join(name))
    }
}

/// Where the databases of a service are.
#[derive(Clone)]
pub struct Databases {
    /// The journal of the queue.
    pub journal: DatabaseLocation,
    /// The ledger of the orders.
    pub ledger: DatabaseLocation,
    /// The sandbox gateway's database, if it is available.
    pub gateway: Option<PathBuf>,
}

impl Databases {
    /// The databases of a service that keeps everything in its data directory.
    #[must_use]
    pub fn in_folder(dir: &Path) -> Self {
        let gateway = Some(dir.join("gateway.db")).filter(|file| file.exists());
        Self {
            journal: DatabaseLocation::file(dir, "queue.db"),
            ledger: DatabaseLocation::file(dir, "ledger.db"),
            gateway,
        }
    }
}

/// A row that both database systems can return.
pub(crate) trait AnyRow:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin> AnyRow for T {}

/// An open database, which is only read.
pub(crate) struct Source {
    name: &'static str,
    pool: Pool,
}

enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Source {
    /// Opens the database. `schema`: name of the schema in PostgreSQL. `name` is for errors.
    pub(crate) async fn open(
        at: &DatabaseLocation,
        name: &'static str,
        schema: &str,
    ) -> Result<Self, ReadError> {
        let sql = |source| ReadError::Sql {
            database: name,
            source,
        };
        let pool = match at {
            DatabaseLocation::File(file) => {
                let options = SqliteConnectOptions::new()
                    .filename(file)
                    .read_only(true)
                    .busy_timeout(Duration::from_secs(5));
                Pool::Sqlite(SqlitePool::connect_with(options).await.map_err(sql)?)
            }
            DatabaseLocation::Postgres(url) => {
                let options: PgConnectOptions = url.parse().map_err(sql)?;
                let options = options.options([
                    ("search_path", schema),
                    ("default_transaction_read_only", "on"),
                    ("statement_timeout", "60s"),
                    ("lock_timeout", "5s"),
                ]);
                let pool = PgPoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(CONNECT_TIMEOUT);
                Pool::Postgres(
                    pool.connect_with(options.application_name("stagedoor audit"))
                        .await
                        .map_err(sql)?,
                )
            }
        };
        Ok(Self { name, pool })
    }

    /// The rows of one sale, `$1` in the query.
    pub(crate) async fn rows<T: AnyRow>(
        &self,
        query: &'static str,
        sale: &SaleId,
    ) -> Result<Vec<T>, ReadError> {
        let sale = sale.as_str().to_owned();
        match &self.pool {
            Pool::Sqlite(pool) => sqlx::query_as(query).bind(sale).fetch_all(pool).await,
            Pool::Postgres(pool) => sqlx::query_as(query).bind(sale).fetch_all(pool).await,
        }
        .map_err(|source| ReadError::Sql {
            database: self.name,
            source,
        })
    }

    /// All rows, of every sale in the database.
    pub(crate) async fn all<T: AnyRow>(&self, query: &'static str) -> Result<Vec<T>, ReadError> {
        match &self.pool {
            Pool::Sqlite(pool) => sqlx::query_as(query).fetch_all(pool).await,
            Pool::Postgres(pool) => sqlx::query_as(query).fetch_all(pool).await,
        }
        .map_err(|source| ReadError::Sql {
            database: self.name,
            source,
        })
    }

    /// Query of the visits in the order in which they were recorded.
    pub(crate) fn visits_in_order(&self) -> &'static str {
        match &self.pool {
            Pool::Sqlite(_) => {
                "SELECT queue_number, subject, visit_id, admitted_at, ended_at FROM visit WHERE sale = $1
                 ORDER BY rowid"
            }
            Pool::Postgres(_) => {
                "SELECT queue_number, subject, visit_id, admitted_at, ended_at FROM visit WHERE sale = $1
                 ORDER BY seq"
            }
        }
    }

    /// An error about the content of this database.
    pub(crate) fn invalid(&self, what: impl Into<String>) -> ReadError {
        ReadError::Content {
            database: self.name,
            what: what.into(),
        }
    }
}
