//! Runs queries and transactions on PostgreSQL within a time limit, and retries them only where that cannot
//! apply a change twice.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use sqlx::{Acquire, PgConnection, PgPool, Postgres, pool::PoolConnection};

use crate::{
    kernel::{Entropy, Stopwatch},
    platform::sql::postgres::is_transient,
};

const TRIES_MAX: u32 = 4;
const RETRY_BASE: Duration = Duration::from_millis(10);
/// Retry budget: each success adds one, each retry costs ten, up to this maximum. So retries add at most a
/// tenth to the load of a database in trouble.
const BUDGET_MAX: u32 = 1_000;
const RETRY_COST: u32 = 10;

/// Why a transaction failed. `R` is the caller's own reason to abort.
#[derive(Debug)]
pub enum TransactionError<R> {
    /// The transaction aborted itself; all its changes are rolled back.
    Rejected(R),
    /// The database failed.
    Sql(sqlx::Error),
}

impl<R> From<sqlx::Error> for TransactionError<R> {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// A connection pool with time limits and retries. Cheap to clone.
///
/// Work is a function of a connection and an input; each attempt gets a clone of the input.
#[derive(Clone)]
pub struct Database {
    pool: PgPool,
    timeout: Duration,
    entropy: Arc<dyn Entropy>,
    budget: Arc<AtomicU32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AccessMode {
    Read,
    /// A transaction that may be retried even if it may have been committed.
    Write,
    /// A transaction that must not be retried then.
    WriteOnce,
}

impl AccessMode {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::WriteOnce => "write_once",
        }
    }
}

/// The outcome of one attempt.
enum Attempt<T, R> {
    Done(T),
    Aborted(R),
    /// Certainly not committed.
    Undone(sqlx::Error),
    /// The connection was lost before the reply to COMMIT: it may have been committed.
    Unknown(sqlx::Error),
}

impl Database {
    /// `timeout` limits each call as a whole, including its retries.
    #[must_use]
    pub fn new(pool: PgPool, deadline: Duration, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            pool,
            timeout: deadline,
            entropy,
            budget: Arc::new(AtomicU32::new(BUDGET_MAX)),
        }
    }

    /// Runs one or more read-only statements, each in a transaction of its own.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub async fn read<G, T, R, F>(&self, input: G, work: F) -> Result<T, TransactionError<R>>
    where
        G: Clone + Send + Sync,
        F: for<'c> Fn(&'c mut PgConnection, G) -> BoxFuture<'c, Result<T, TransactionError<R>>> + Send + Sync,
    {
        self.run_within_timeout(AccessMode::Read, input, work).await
    }

    /// Runs an idempotent transaction: it is retried even when it is unknown whether it was committed.
    ///
    /// # Errors
    /// [`TransactionError`]; after [`TransactionError::Sql`] it may have been committed.
    pub async fn write<G, T, R, F>(&self, input: G, work: F) -> Result<T, TransactionError<R>>
    where
        G: Clone + Send + Sync,
        F: for<'c> Fn(&'c mut PgConnection, G) -> BoxFuture<'c, Result<T, TransactionError<R>>> + Send + Sync,
    {
        self.run_within_timeout(AccessMode::Write, input, work).await
    }

    /// Runs a transaction that is not idempotent: it is retried only when it was certainly not committed.
    ///
    /// # Errors
    /// [`TransactionError`]; after [`TransactionError::Sql`] it may have been committed.
    pub async fn write_once<G, T, R, F>(&self, input: G, work: F) -> Result<T, TransactionError<R>>
    where
        G: Clone + Send + Sync,
        F: for<'c> Fn(&'c mut PgConnection, G) -> BoxFuture<'c, Result<T, TransactionError<R>>> + Send + Sync,
    {
        self.run_within_timeout(AccessMode::WriteOnce, input, work).await
    }

    async fn run_within_timeout<G, T, R, F>(
        &self,
        mode: AccessMode,
        input: G,
        work: F,
    ) -> Result<T, TransactionError<R>>
    where
        G: Clone + Send + Sync,
        F: for<'c> Fn(&'c mut PgConnection, G) -> BoxFuture<'c, Result<T, TransactionError<R>>> + Send + Sync,
    {
        let late = || {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the database did not respond within {:?}", self.timeout),
            )
        };
        let stopwatch = Stopwatch::start();
        let result = tokio::time::timeout(self.timeout, self.run_with_retries(mode, input, work)).await;
        metrics::histogram!(
            "db_client_operation_duration_seconds",
            "system" => "postgresql",
            "operation" => mode.name()
        )
        .record(stopwatch.elapsed_s());
        result.unwrap_or_else(|_| Err(TransactionError::Sql(late().into())))
    }

    async fn run_with_retries<G, T, R, F>(
        &self,
        mode: AccessMode,
        input: G,
        work: F,
    ) -> Result<T, TransactionError<R>>
    where
        G: Clone + Send + Sync,
        F: for<'c> Fn(&'c mut PgConnection, G) -> BoxFuture<'c, Result<T, TransactionError<R>>> + Send + Sync,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            let (error, may_repeat) = match self.attempt(mode, &input, &work).await {
                Attempt::Done(answer) => {
                    let earn = |budget: u32| (budget < BUDGET_MAX).then_some(budget + 1);
                    let _ = self
                        .budget
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, earn);
                    return Ok(answer);
                }
                Attempt::Aborted(why) => return Err(TransactionError::Rejected(why)),
                Attempt::Undone(error) => (error, true),
                Attempt::Unknown(error) => (error, mode == AccessMode::Write),
            };
            // After waiting for a connection in vain there is no time left for a retry.
            let may_repeat =
                may_repeat && is_transient(&error) && !matches!(error, sqlx::Error::PoolTimedOut);
            if tries == TRIES_MAX || !may_repeat || !self.spend_retry() {
                return Err(TransactionError::Sql(error));
            }
            // Full jitter, so that two conflicting transactions do not conflict again.
            tokio::time::sleep(RETRY_BASE.saturating_mul(1 << tries).mul_f64(self.entropy.unit())).await;
        }
    }

    fn spend_retry(&self) -> bool {
        self.budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |budget| {
                budget.checked_sub(RETRY_COST)
            })
            .is_ok()
    }

    async fn attempt<G, T, R, F>(&self, mode: AccessMode, input: &G, work: &F) -> Attempt<T, R>
    where
        G: Clone + Send + Sync,
        F: for<'c> Fn(&'c mut PgConnection, G) -> BoxFuture<'c, Result<T, TransactionError<R>>> + Send + Sync,
    {
        let mut connection = match self.pool.acquire().await {
            Ok(connection) => PooledConnection(Some(connection)),
            Err(error) => return Attempt::Undone(error),
        };
        let (attempt, is_reusable) = run(connection.get(), mode, input.clone(), work).await;
        if is_reusable {
            connection.release();
        }
        attempt
    }
}

/// Runs the work once; also says whether the connection can be reused.
async fn run<G, T, R, F>(db: &mut PgConnection, mode: AccessMode, input: G, work: &F) -> (Attempt<T, R>, bool)
where
    G: Clone,
    F: for<'c> Fn(&'c mut PgConnection, G) -> BoxFuture<'c, Result<T, TransactionError<R>>>,
{
    let undone = |error| match error {
        TransactionError::Rejected(why) => Attempt::Aborted(why),
        TransactionError::Sql(error) => Attempt::Undone(error),
    };
    if mode == AccessMode::Read {
        return match work(db, input).await {
            Ok(answer) => (Attempt::Done(answer), true),
            Err(error) => {
                let is_reusable = matches!(
                    &error,
                    TransactionError::Rejected(_) | TransactionError::Sql(sqlx::Error::Database(_))
                );
                (undone(error), is_reusable)
            }
        };
    }
    let mut transaction = match db.begin().await {
        Ok(transaction) => transaction,
        Err(error) => return (Attempt::Undone(error), false),
    };
    match work(&mut transaction, input).await {
        Ok(answer) => match transaction.commit().await {
            Ok(()) => (Attempt::Done(answer), true),
            Err(error) => {
                // The server sends these codes after a rollback; any other error may have come after the
                // commit.
                let rolled_back = error
                    .as_database_error()
                    .and_then(sqlx::error::DatabaseError::code);
                if rolled_back.is_some_and(|code| matches!(&*code, "40001" | "40P01")) {
                    (Attempt::Undone(error), true)
                } else {
                    (Attempt::Unknown(error), false)
                }
            }
        },
        Err(error) => {
            let is_reusable = transaction.rollback().await.is_ok();
            (undone(error), is_reusable)
        }
    }
}

/// A connection that is closed unless it is released. A caller may be dropped in the middle of a statement;
/// the pool would then wait for the statement's end, for as long as a dead peer lets it.
struct PooledConnection(Option<PoolConnection<Postgres>>);

impl PooledConnection {
    fn get(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("present until released")
    }

    fn release(mut self) {
        drop(self.0.take());
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use sqlx::{Executor, migrate::Migrator};

    use super::*;
    use crate::{kernel::OsEntropy, platform::sql::open_postgres};
    use testkit::Postgres as Server;

    const TIMEOUT: Duration = Duration::from_secs(3);

    async fn a_database(server: &Server, tables: &str) -> Database {
        let url = server.create_database("tried").await.unwrap();
        let pool = open_postgres(&url, "shop", &Migrator::with_migrations(Vec::new()), 4)
            .await
            .unwrap();
        server
            .run("tried", &format!("SET search_path = stagedoor_shop; {tables}"))
            .await
            .unwrap();
        Database::new(pool, TIMEOUT, Arc::new(OsEntropy))
    }

    /// Takes both rows in the order input, and counts its runs.
    async fn take(
        db: &mut PgConnection,
        rows: [i32; 2],
        runs: Arc<AtomicUsize>,
    ) -> Result<(), TransactionError<()>> {
        runs.fetch_add(1, Ordering::SeqCst);
        for row in rows {
            sqlx::query("UPDATE t SET n = n + 1 WHERE a = $1")
                .bind(row)
                .execute(&mut *db)
                .await?;
            db.execute("SELECT pg_sleep(0.2)").await?;
        }
        Ok(())
    }

    async fn one(db: &mut PgConnection) -> Result<i32, TransactionError<()>> {
        Ok(sqlx::query_scalar("SELECT 1").fetch_one(db).await?)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn conflicting_transactions_both_succeed() {
        let server = Server::start().await.unwrap();
        let db = a_database(
            &server,
            "CREATE TABLE t (a int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0)",
        )
        .await;
        let runs = Arc::new(AtomicUsize::new(0));
        let work = |rows| {
            db.write_once((rows, Arc::clone(&runs)), |db, (rows, runs)| {
                Box::pin(take(db, rows, runs))
            })
        };
        let (one, other) = tokio::join!(work([1, 2]), work([2, 1]));
        assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
        assert!(runs.load(Ordering::SeqCst) > 2, "they conflicted");
        let counts: Vec<i32> = db
            .read((), |db, ()| {
                Box::pin(async move {
                    Ok::<_, TransactionError<()>>(sqlx::query_scalar("SELECT n FROM t").fetch_all(db).await?)
                })
            })
            .await
            .unwrap();
        assert_eq!(counts, [2, 2], "and each counted once");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_possible_commit_is_retried_only_if_idempotent() {
        let server = Server::start().await.unwrap();
        // A trigger ends the session in the middle of COMMIT.
        let cut = "CREATE TABLE t (a int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0);
                   CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS
                   $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
                   CREATE CONSTRAINT TRIGGER cut AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
                   FOR EACH ROW EXECUTE FUNCTION cut()";
        let db = a_database(&server, cut).await;
        let runs = Arc::new(AtomicUsize::new(0));
        let input = || ([1, 2], Arc::clone(&runs));
        let once = db
            .write_once(input(), |db, (rows, runs)| Box::pin(take(db, rows, runs)))
            .await;
        assert!(matches!(once, Err(TransactionError::Sql(_))), "{once:?}");
        assert_eq!(runs.swap(0, Ordering::SeqCst), 1);
        let repeated = db
            .write(input(), |db, (rows, runs)| Box::pin(take(db, rows, runs)))
            .await;
        assert!(matches!(repeated, Err(TransactionError::Sql(_))), "{repeated:?}");
        assert!(
            (2..=TRIES_MAX as usize).contains(&runs.load(Ordering::SeqCst)),
            "{runs:?}"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hanging_server_occupies_no_connection() {
        let server = Server::start().await.unwrap();
        let db = a_database(&server, "").await;
        let select_one = || db.read((), |db, ()| Box::pin(one(db)));
        futures_util::future::join_all((0..4).map(|_| select_one())).await;
        server.pause().unwrap();
        let queries = futures_util::future::join_all((0..12).map(|_| select_one()));
        let results = tokio::time::timeout(TIMEOUT + Duration::from_secs(1), queries)
            .await
            .expect("within the timeout");
        assert!(
            results
                .iter()
                .all(|it| matches!(it, Err(TransactionError::Sql(e)) if is_transient(e))),
            "{results:?}"
        );
        server.resume().unwrap();
        let results = futures_util::future::join_all((0..12).map(|_| select_one())).await;
        assert!(results.iter().all(|it| matches!(it, Ok(1))), "{results:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn retries_stay_within_the_budget() {
        let server = Server::start().await.unwrap();
        let db = a_database(&server, "").await;
        let runs = Arc::new(AtomicUsize::new(0));
        for _ in 0..100 {
            let failed = db.write(Arc::clone(&runs), |db, runs| {
                Box::pin(async move {
                    runs.fetch_add(1, Ordering::SeqCst);
                    db.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$").await?;
                    Ok::<(), TransactionError<()>>(())
                })
            });
            assert!(failed.await.is_err());
        }
        let paid = (BUDGET_MAX / RETRY_COST) as usize;
        assert_eq!(
            runs.load(Ordering::SeqCst),
            100 + paid,
            "each is tried once, and again as long as there was a budget"
        );
    }
}
