//! SQL databases: how they are opened, so that a commit that was answered is on the disk, whatever engine keeps it.

mod database;
mod postgres;

use std::{path::Path, time::Duration};

use sqlx::{
    SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub use self::{
    database::{Database, Trouble},
    postgres::{Place, is_transient, open_postgres},
};

/// What went wrong with a database, and what to do about it. No password is in it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot open the database {file}: {source}")]
    Open { file: String, source: sqlx::Error },
    #[error("cannot bring the database {file} to this version's tables: {source}")]
    Migrate { file: String, source: MigrateError },
    #[error(
        "the database's URL cannot be read ({what}); it should be postgres://USER:PASSWORD@HOST:PORT/DATABASE, special characters of the password as %XX"
    )]
    Url { what: String },
    #[error(
        "no PostgreSQL server answers for {place} ({what}): is it running, and may this machine reach it?"
    )]
    Unreachable { place: Place, what: String },
    #[error(
        "the server of {place} refuses the sign-in ({what}): check user and password in the URL, and the server's pg_hba.conf"
    )]
    SignIn { place: Place, what: String },
    #[error("there is no database {place}: create it (createdb) and give it to the user of the URL")]
    NoDatabase { place: Place },
    #[error("the server of {place} is PostgreSQL {found}; {needed} or newer is needed")]
    TooOld { place: Place, found: u32, needed: u32 },
    #[error("the server of {place} only reads (a standby?): give the URL of the primary")]
    ReadOnly { place: Place },
    #[error(
        "the server of {place} has {setting} off for this user: acknowledged orders would be lost in a crash; set it on"
    )]
    NotDurable { place: Place, setting: &'static str },
    #[error(
        "the user of the URL lacks permission in {place} ({what}): GRANT CREATE ON DATABASE, or make it the owner of schema {schema}"
    )]
    NoPermission {
        place: Place,
        schema: String,
        what: String,
    },
    #[error(
        "schema {schema} of {place} holds tables that are not of this program ({tables}): give a database of its own, or move them"
    )]
    ForeignTables {
        place: Place,
        schema: String,
        tables: String,
    },
    #[error(
        "migration {version} of schema {schema} in {place} was only half applied: restore the backup, or finish it by hand and set success in _sqlx_migrations"
    )]
    HalfApplied {
        place: Place,
        schema: String,
        version: i64,
    },
    #[error(
        "schema {schema} of {place} was brought to version {version} by a newer program: run that one, or restore the backup"
    )]
    Newer {
        place: Place,
        schema: String,
        version: i64,
    },
    #[error(
        "migration {version} of schema {schema} in {place} is not the one this program brings: is it another program's database?"
    )]
    Altered {
        place: Place,
        schema: String,
        version: i64,
    },
    #[error("cannot bring schema {schema} of {place} to this version's tables: {what}")]
    Prepare {
        place: Place,
        schema: String,
        what: String,
    },
}

/// Opens (or makes) a file for one writer and several readers: write-ahead log, a flush at each commit
/// (`synchronous = FULL`), and brings its tables to this version.
///
/// The first pool has exactly one connection, so that writers queue here and never meet `SQLITE_BUSY`; the second is
/// read-only. Connections are not tried before they are used: a file does not go away.
///
/// # Errors
/// [`OpenError`], with the file's name.
pub async fn open(
    file: &Path,
    migrations: &Migrator,
    readers: u32,
) -> Result<(SqlitePool, SqlitePool), OpenError> {
    let name = || file.display().to_string();
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5));
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(10))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options.clone())
        .await
        .map_err(|source| OpenError::Open { file: name(), source })?;
    migrations
        .run(&writer)
        .await
        .map_err(|source| OpenError::Migrate { file: name(), source })?;
    let reader = SqlitePoolOptions::new()
        .max_connections(readers)
        .acquire_timeout(Duration::from_secs(5))
        .test_before_acquire(false)
        .connect_lazy_with(options.create_if_missing(false).read_only(true));
    Ok((writer, reader))
}
