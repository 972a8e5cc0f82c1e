//! SQLite files: how they are opened, so that a commit that was answered is on the disk.

use std::{path::Path, time::Duration};

use sqlx::{
    SqlitePool,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

/// What went wrong with a database, with the file it happened to.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot open the database {file}: {source}")]
    Open { file: String, source: sqlx::Error },
    #[error("cannot bring the database {file} to this version's tables: {source}")]
    Migrate { file: String, source: MigrateError },
}

/// Opens (or makes) a file for one writer and several readers: write-ahead log, a flush at each commit
/// (`synchronous = FULL`), and brings its tables to this version.
///
/// The first pool has exactly one connection, so that writers queue here and never meet `SQLITE_BUSY`; the second is
/// read-only.
///
/// # Errors
/// [`OpenError`], with the file's name.
pub async fn open(file: &Path, migrations: &Migrator, readers: u32) -> Result<(SqlitePool, SqlitePool), OpenError> {
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
        .connect_with(options.clone())
        .await
        .map_err(|source| OpenError::Open { file: name(), source })?;
    migrations.run(&writer).await.map_err(|source| OpenError::Migrate { file: name(), source })?;
    let reader = SqlitePoolOptions::new()
        .max_connections(readers)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy_with(options.create_if_missing(false).read_only(true));
    Ok((writer, reader))
}
