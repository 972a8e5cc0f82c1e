//! Opens SQLite files.

use std::{path::Path, time::Duration};

use sqlx::{
    SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::platform::{
    private_file::open_private,
    shutdown::Lifecycle,
    sql::{
        errors::OpenError,
        layout::{self, Applied},
        sqlite_writer::{SqliteWriter, checkpoint},
    },
};

/// Opens a file, or creates it, for one writer and several readers, and migrates its tables to this version.
/// The file has a write-ahead log and is flushed at each commit (`synchronous = FULL`). A new file is
/// readable by its owner only.
///
/// Returns the writer and the readers' pool. The writer has exactly one connection, so that writes queue
/// there and never get `SQLITE_BUSY`; the readers' is read-only. Connections are not tested before use: a
/// file does not go away. The writer tries the file until `lifecycle` stops.
///
/// # Errors
/// [`OpenError`], with the file's name.
pub async fn open_sqlite(
    file: &Path,
    migrations: &Migrator,
    readers: u32,
    lifecycle: &Lifecycle,
) -> Result<(SqliteWriter, SqlitePool), OpenError> {
    let name = || file.display().to_string();
    // SQLite gives its write-ahead log the permissions of the database.
    open_private(file).map_err(|error| OpenError::Open {
        file: name(),
        source: sqlx::Error::Io(error),
    })?;
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // The writer makes checkpoints, because SQLite ignores failures of its own.
        .pragma("wal_autocheckpoint", "0")
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
    let applied = applied_migrations(&writer)
        .await
        .map_err(|source| OpenError::Open { file: name(), source })?;
    if layout::is_older(&applied, migrations) {
        return Err(OpenError::OlderLayout { database: name() });
    }
    migrations
        .run(&writer)
        .await
        .map_err(|source| OpenError::Migrate { file: name(), source })?;
    // What an earlier process wrote may be in the kernel's cache only, if it ended after a failed flush. This
    // writes and flushes it again.
    let mut first = writer
        .acquire()
        .await
        .map_err(|source| OpenError::Open { file: name(), source })?;
    checkpoint(&mut first)
        .await
        .map_err(|source| OpenError::Open { file: name(), source })?;
    drop(first);
    let reader = SqlitePoolOptions::new()
        .max_connections(readers)
        .acquire_timeout(Duration::from_secs(5))
        .test_before_acquire(false)
        .connect_lazy_with(options.create_if_missing(false).read_only(true));
    Ok((SqliteWriter::start(writer, name(), lifecycle), reader))
}

async fn applied_migrations(db: &SqlitePool) -> Result<Applied, sqlx::Error> {
    let tables: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'",
    )
    .fetch_one(db)
    .await?;
    if tables == 0 {
        return Ok(Applied::new());
    }
    sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations")
        .fetch_all(db)
        .await
}

#[cfg(test)]
mod tests {
    use sqlx::{
        SqlSafeStr,
        migrate::{Migration, MigrationType},
    };

    use super::*;

    fn migrations(statements: &[&'static str]) -> Migrator {
        let numbered = (1..).zip(statements);
        let migration = |(n, sql): (i64, &&'static str)| {
            Migration::new(n, "step".into(), MigrationType::Simple, sql.into_sql_str(), false)
        };
        Migrator::with_migrations(numbered.map(migration).collect())
    }

    #[tokio::test]
    async fn a_file_of_an_older_layout_is_refused_in_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("queue.db");
        let old = migrations(&["CREATE TABLE board (a int)", "ALTER TABLE board ADD b int"]);
        let new = migrations(&["CREATE TABLE status (a int, b int)"]);
        let lifecycle = Lifecycle::new();
        open_sqlite(&file, &old, 1, &lifecycle).await.unwrap();
        open_sqlite(&file, &old, 1, &lifecycle)
            .await
            .expect("its own version opens it again");
        let error = open_sqlite(&file, &new, 1, &lifecycle)
            .await
            .expect_err("another layout");
        assert!(matches!(error, OpenError::OlderLayout { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("queue.db") && text.contains("start with an empty"),
            "{text}"
        );
    }
}
