//! The only writing connection of a SQLite file, which survives a full, busy or failing disk.
//!
//! After an error such as a full disk SQLite may have rolled back by itself, and a connection whose state is
//! unknown must not be used again. So a connection is closed unless its last use is known to have ended well,
//! and the next use opens another.
//!
//! A failed flush is different: the kernel may have dropped the pages that it could not write, and the next
//! flush succeeds without them. So after one the process ends, and the next start reads what is on the disk.

use std::{
    fmt, io,
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::{Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection};

use crate::{
    kernel::Stopwatch,
    platform::{
        process::{Condition, Process},
        shutdown::Lifecycle,
    },
};

/// SQLite's extended codes of a failed flush: of a file, and of its directory.
const FLUSH_FAILED: [u32; 2] = [1_034, 1_290];
/// SQLite's primary codes of a disk that does not take a write: busy, read-only, input or output error, full,
/// cannot open.
const NOT_WRITABLE: [u32; 5] = [5, 8, 10, 13, 14];
const CONSTRAINT: u32 = 19;
/// SQLite ignores failures of its automatic checkpoints, so the writer makes them itself, so often at most.
const CHECKPOINT_INTERVAL_S: f64 = 1.0;
/// How often a file that could not be written is tried again.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// A file that is not written for so long is tried, so that the process learns of a full disk before a
/// visitor does.
const IDLE_S: f64 = 10.0;

/// Writes a SQLite file. Cheap to clone.
#[derive(Clone)]
pub struct SqliteWriter(Arc<State>);

struct State {
    pool: SqlitePool,
    file: String,
    process: Process,
    is_writable: Condition,
    /// Something failed that may have been the disk.
    is_suspect: AtomicBool,
    checkpointed: Mutex<Stopwatch>,
    written: Mutex<Stopwatch>,
}

impl fmt::Debug for SqliteWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteWriter").field(&self.0.file).finish()
    }
}

/// What an error says about the file and its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The statement was refused; the connection is as before.
    Refused,
    /// The disk does not take writes now.
    NotWritable,
    /// A flush failed: what was written before may be lost.
    FlushFailed,
    /// The state of the connection is unknown.
    Other,
}

impl SqliteWriter {
    /// Takes over a pool of one connection, and tries to write the file while it was not written for a while
    /// or could not be.
    pub(super) fn start(pool: SqlitePool, file: String, lifecycle: &Lifecycle) -> Self {
        let process = lifecycle.process().clone();
        let writer = Self(Arc::new(State {
            pool,
            is_writable: process.condition(format!("{file} cannot be written")),
            process,
            file,
            is_suspect: AtomicBool::new(false),
            checkpointed: Mutex::new(Stopwatch::start()),
            written: Mutex::new(Stopwatch::start()),
        }));
        let (state, stopping) = (Arc::downgrade(&writer.0), lifecycle.clone());
        lifecycle.spawn(async move {
            while stopping
                .until_stopping(tokio::time::sleep(PROBE_INTERVAL))
                .await
                .is_some()
            {
                let Some(state) = state.upgrade() else { return };
                Self(state).probe().await;
            }
        });
        writer
    }

    /// A connection for one or more statements, outside a transaction. It is closed unless its result is
    /// given to [`WriterConnection::finish`] or [`WriterConnection::finish_read`].
    ///
    /// # Errors
    /// When no connection can be opened, or after a failed flush.
    pub async fn connection(&self) -> Result<WriterConnection, sqlx::Error> {
        if self.0.process.has_failed() {
            return Err(io::Error::other("nothing is written after a failed flush").into());
        }
        let connection = self.0.pool.acquire().await.inspect_err(|e| self.observe(e))?;
        Ok(WriterConnection {
            connection,
            writer: self.clone(),
            is_intact: false,
        })
    }

    /// Begins a transaction with these statements, the first of which is `BEGIN IMMEDIATE`.
    ///
    /// # Errors
    /// As [`SqliteWriter::connection`], or when `begin` fails.
    pub async fn begin(&self, begin: &'static str) -> Result<WriterTransaction, sqlx::Error> {
        let mut connection = self.connection().await?;
        // sqlx's own transactions count their depth, which differs from SQLite's after an error.
        match sqlx::query(begin).execute(&mut *connection).await {
            Ok(_) => Ok(WriterTransaction { connection }),
            Err(error) => Err(connection.discard(error)),
        }
    }

    /// Has the file tried soon: a statement failed, and this may have been the disk.
    pub fn suspect(&self) {
        self.0.is_suspect.store(true, Ordering::Relaxed);
    }

    /// Closes all connections; later writes fail.
    #[cfg(test)]
    pub(crate) async fn close(&self) {
        self.0.pool.close().await;
    }

    fn observe(&self, error: &sqlx::Error) {
        match fault(error) {
            Fault::Refused => {}
            Fault::Other => self.suspect(),
            Fault::NotWritable => {
                if self.0.is_writable.set(false) {
                    tracing::error!(file = self.0.file, %error, "a database file cannot be written; this \
                        node is not ready until it can");
                }
            }
            Fault::FlushFailed => self.0.process.fail(format!(
                "{}: a flush failed ({error}), so what was written may be lost; check the disk",
                self.0.file
            )),
        }
    }

    fn observe_written(&self) {
        *self.0.written.lock() = Stopwatch::start();
        if self.0.is_writable.set(true) {
            tracing::info!(file = self.0.file, "the database file can be written again");
        }
    }

    async fn probe(&self) {
        let is_idle = self.0.written.lock().elapsed_s() > IDLE_S;
        let is_suspect = self.0.is_suspect.swap(false, Ordering::Relaxed);
        if self.0.process.has_failed() || (self.0.is_writable.is_met() && !is_idle && !is_suspect) {
            return;
        }
        let Ok(mut connection) = self.connection().await else {
            return;
        };
        // Writes the file's first page, with the value that is there.
        let probed = sqlx::query("PRAGMA user_version = 0")
            .execute(&mut *connection)
            .await;
        let _ = connection.finish(probed).await;
    }
}

/// The writing connection. It is closed when dropped, unless it was finished.
pub struct WriterConnection {
    connection: PoolConnection<Sqlite>,
    writer: SqliteWriter,
    is_intact: bool,
}

impl WriterConnection {
    /// Ends a use that wrote, and returns its result.
    ///
    /// # Errors
    /// That of `result`.
    pub async fn finish<T>(mut self, result: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if result.is_ok() {
            self.writer.observe_written();
            self.checkpoint_when_due().await;
        }
        self.finish_read(result)
    }

    /// Ends a use that only read, and returns its result.
    ///
    /// # Errors
    /// That of `result`.
    pub fn finish_read<T>(mut self, result: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        match &result {
            Ok(_) => self.is_intact = !self.writer.0.process.has_failed(),
            Err(error) => {
                self.is_intact = fault(error) == Fault::Refused;
                self.writer.observe(error);
            }
        }
        result
    }

    /// Closes the connection after this error, and returns it: a transaction may still be open.
    pub fn discard(self, error: sqlx::Error) -> sqlx::Error {
        self.writer.observe(&error);
        error
    }

    /// Copies the write-ahead log into the file, when that was not done for a while. A failure fails no
    /// write: the log still holds it.
    async fn checkpoint_when_due(&mut self) {
        if self.writer.0.checkpointed.lock().elapsed_s() < CHECKPOINT_INTERVAL_S {
            return;
        }
        *self.writer.0.checkpointed.lock() = Stopwatch::start();
        if let Err(error) = checkpoint(&mut self.connection).await {
            self.writer.observe(&error);
        }
    }
}

/// Copies the write-ahead log into the file, as far as readers allow, and flushes both.
pub(super) async fn checkpoint(db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
        .fetch_all(db)
        .await
        .map(|_| ())
}

impl Deref for WriterConnection {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for WriterConnection {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

impl Drop for WriterConnection {
    fn drop(&mut self) {
        if !self.is_intact {
            self.connection.close_on_drop();
        }
    }
}

/// A transaction. When it is dropped, its connection is closed, which rolls back.
pub struct WriterTransaction {
    connection: WriterConnection,
}

impl WriterTransaction {
    /// Commits.
    ///
    /// # Errors
    /// When the transaction is not committed, or whether it is committed is unknown.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        match sqlx::query("COMMIT").execute(&mut *self.connection).await {
            Ok(_) => self.connection.finish(Ok(())).await,
            // A refused commit leaves the transaction open.
            Err(error) => Err(self.connection.discard(error)),
        }
    }

    /// Rolls back because of this error, and returns it.
    pub async fn roll_back(mut self, error: sqlx::Error) -> sqlx::Error {
        self.connection.writer.observe(&error);
        if fault(&error) == Fault::Refused {
            let rolled_back = sqlx::query("ROLLBACK").execute(&mut *self.connection).await;
            let _ = self.connection.finish_read(rolled_back);
        }
        error
    }
}

impl Deref for WriterTransaction {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for WriterTransaction {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

fn fault(error: &sqlx::Error) -> Fault {
    let sqlx::Error::Database(error) = error else {
        return Fault::Other;
    };
    match error.code().and_then(|code| code.parse::<u32>().ok()) {
        Some(code) if FLUSH_FAILED.contains(&code) => Fault::FlushFailed,
        Some(code) if NOT_WRITABLE.contains(&(code & 0xFF)) => Fault::NotWritable,
        Some(code) if code & 0xFF == CONSTRAINT => Fault::Refused,
        _ => Fault::Other,
    }
}
