//! Work on a PostgreSQL database: each piece under a deadline, and tried again only where that does nothing twice.

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

use super::is_transient;
use crate::kernel::Entropy;

const TRIES_MAX: u32 = 4;
const RETRY_BASE: Duration = Duration::from_millis(10);
/// Retries are paid for by successes, ten for one, with this much in hand: a database in trouble is not asked more often
/// for being in trouble.
const BUDGET_MAX: u32 = 1_000;
const RETRY_COSTS: u32 = 10;

/// Why a piece of work did not come to its end.
#[derive(Debug)]
pub enum Trouble<R> {
    /// Its own decision; everything it did is undone.
    Refused(R),
    Sql(sqlx::Error),
}

impl<R> From<sqlx::Error> for Trouble<R> {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// A pool that work is done on. Cheap to clone.
///
/// A piece of work is a function of a connection and of what it is given; it is given a copy each time it is run.
#[derive(Clone)]
pub struct Database {
    pool: PgPool,
    deadline: Duration,
    entropy: Arc<dyn Entropy>,
    budget: Arc<AtomicU32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    /// A transaction that may be run again although it may have been committed.
    Write,
    /// A transaction that must not.
    WriteOnce,
}

/// What became of one try.
enum Tried<T, R> {
    Done(T),
    Refused(R),
    /// Certainly nothing was changed.
    Undone(sqlx::Error),
    /// The connection was lost while the answer to COMMIT was on its way.
    Unknown(sqlx::Error),
}

impl Database {
    /// `deadline`: for each piece of work as a whole, its retries with it.
    #[must_use]
    pub fn new(pool: PgPool, deadline: Duration, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            pool,
            deadline,
            entropy,
            budget: Arc::new(AtomicU32::new(BUDGET_MAX)),
        }
    }

    /// One or more statements that change nothing, each for itself.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn read<G, T, R, F>(&self, given: G, work: F) -> Result<T, Trouble<R>>
    where
        G: Clone + Send + Sync,
        F: for<'c> Fn(&'c mut PgConnection, G) -> BoxFuture<'c, Result<T, Trouble<R>>> + Send + Sync,
    {
        self.within_deadline(Kind::Read, given, work).await
    }

    /// A transaction that does nothing the second time: also tried again when it is not known whether it was committed.
    ///
    /// # Errors
    /// [`Trouble`]; after [`Trouble::Sql`] it may have been committed.
    pub async fn write<G, T, R, F>(&self, given: G, work: F) -> Result<T, Trouble<R>>
    where
        G: Clone + Send + Sync,
        F: for<'c> Fn(&'c mut PgConnection, G) -> BoxFuture<'c, Result<T, Trouble<R>>> + Send + Sync,
    {
        self.within_deadline(Kind::Write, given, work).await
    }

    /// A transaction whose second run would answer otherwise: tried again only when it was certainly not committed.
    ///
    /// # Errors
    /// [`Trouble`]; after [`Trouble::Sql`] it may have been committed.
    pub async fn write_once<G, T, R, F>(&self, given: G, work: F) -> Result<T, Trouble<R>>
    where
        G: Clone + Send + Sync,
        F: for<'c> Fn(&'c mut PgConnection, G) -> BoxFuture<'c, Result<T, Trouble<R>>> + Send + Sync,
    {
        self.within_deadline(Kind::WriteOnce, given, work).await
    }

    async fn within_deadline<G, T, R, F>(&self, kind: Kind, given: G, work: F) -> Result<T, Trouble<R>>
    where
        G: Clone + Send + Sync,
        F: for<'c> Fn(&'c mut PgConnection, G) -> BoxFuture<'c, Result<T, Trouble<R>>> + Send + Sync,
    {
        let late = || {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the database did not answer within {:?}", self.deadline),
            )
        };
        let done = tokio::time::timeout(self.deadline, self.tries(kind, given, work)).await;
        done.unwrap_or_else(|_| Err(Trouble::Sql(late().into())))
    }

    async fn tries<G, T, R, F>(&self, kind: Kind, given: G, work: F) -> Result<T, Trouble<R>>
    where
        G: Clone + Send + Sync,
        F: for<'c> Fn(&'c mut PgConnection, G) -> BoxFuture<'c, Result<T, Trouble<R>>> + Send + Sync,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            let (error, may_repeat) = match self.attempt(kind, &given, &work).await {
                Tried::Done(answer) => {
                    let earn = |it: u32| (it < BUDGET_MAX).then_some(it + 1);
                    let _ = self
                        .budget
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, earn);
                    return Ok(answer);
                }
                Tried::Refused(why) => return Err(Trouble::Refused(why)),
                Tried::Undone(error) => (error, true),
                Tried::Unknown(error) => (error, kind == Kind::Write),
            };
            // Whoever has waited for a connection as long as one may has nothing left to wait with.
            let may_repeat =
                may_repeat && is_transient(&error) && !matches!(error, sqlx::Error::PoolTimedOut);
            if tries == TRIES_MAX || !may_repeat || !self.pay_for_retry() {
                return Err(Trouble::Sql(error));
            }
            // Full jitter: two transactions in each other's way do not meet again.
            tokio::time::sleep(RETRY_BASE.saturating_mul(1 << tries).mul_f64(self.entropy.unit())).await;
        }
    }

    fn pay_for_retry(&self) -> bool {
        self.budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| {
                it.checked_sub(RETRY_COSTS)
            })
            .is_ok()
    }

    async fn attempt<G, T, R, F>(&self, kind: Kind, given: &G, work: &F) -> Tried<T, R>
    where
        G: Clone + Send + Sync,
        F: for<'c> Fn(&'c mut PgConnection, G) -> BoxFuture<'c, Result<T, Trouble<R>>> + Send + Sync,
    {
        let mut connection = match self.pool.acquire().await {
            Ok(connection) => Borrowed(Some(connection)),
            Err(error) => return Tried::Undone(error),
        };
        let (tried, is_sound) = run(connection.get(), kind, given.clone(), work).await;
        if is_sound {
            connection.give_back();
        }
        tried
    }
}

/// One run, and whether the connection is fit for another.
async fn run<G, T, R, F>(db: &mut PgConnection, kind: Kind, given: G, work: &F) -> (Tried<T, R>, bool)
where
    G: Clone,
    F: for<'c> Fn(&'c mut PgConnection, G) -> BoxFuture<'c, Result<T, Trouble<R>>>,
{
    let undone = |trouble| match trouble {
        Trouble::Refused(why) => Tried::Refused(why),
        Trouble::Sql(error) => Tried::Undone(error),
    };
    if kind == Kind::Read {
        return match work(db, given).await {
            Ok(answer) => (Tried::Done(answer), true),
            Err(trouble) => {
                let is_sound = matches!(
                    &trouble,
                    Trouble::Refused(_) | Trouble::Sql(sqlx::Error::Database(_))
                );
                (undone(trouble), is_sound)
            }
        };
    }
    let mut transaction = match db.begin().await {
        Ok(transaction) => transaction,
        Err(error) => return (Tried::Undone(error), false),
    };
    match work(&mut transaction, given).await {
        Ok(answer) => match transaction.commit().await {
            Ok(()) => (Tried::Done(answer), true),
            Err(error) => {
                // These the server says after it has rolled back; anything else may come between commit and answer.
                let rolled_back = error
                    .as_database_error()
                    .and_then(sqlx::error::DatabaseError::code);
                if rolled_back.is_some_and(|code| matches!(&*code, "40001" | "40P01")) {
                    (Tried::Undone(error), true)
                } else {
                    (Tried::Unknown(error), false)
                }
            }
        },
        Err(trouble) => {
            let is_sound = transaction.rollback().await.is_ok();
            (undone(trouble), is_sound)
        }
    }
}

/// A connection that is closed unless it is given back: whoever waited may have gone in the middle of a statement, and
/// the pool would wait for its end as long as a dead peer lets it.
struct Borrowed(Option<PoolConnection<Postgres>>);

impl Borrowed {
    fn get(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("it is here until it is given back")
    }

    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Borrowed {
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
    use crate::{kernel::OsEntropy, platform::sql::open_postgres, simulation::servers::Postgres as Server};

    const DEADLINE: Duration = Duration::from_secs(3);

    async fn a_database(server: &Server, tables: &str) -> Database {
        let url = server.create_database("tried").await.unwrap();
        let pool = open_postgres(&url, "shop", &Migrator::with_migrations(Vec::new()), 4)
            .await
            .unwrap();
        server
            .run("tried", &format!("SET search_path = stagedoor_shop; {tables}"))
            .await
            .unwrap();
        Database::new(pool, DEADLINE, Arc::new(OsEntropy))
    }

    /// Takes both rows in the order given, and counts its runs.
    async fn take(db: &mut PgConnection, rows: [i32; 2], runs: Arc<AtomicUsize>) -> Result<(), Trouble<()>> {
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

    async fn one(db: &mut PgConnection) -> Result<i32, Trouble<()>> {
        Ok(sqlx::query_scalar("SELECT 1").fetch_one(db).await?)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn transactions_in_each_others_way_both_come_to_their_ends() {
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
        assert!(runs.load(Ordering::SeqCst) > 2, "they were in each other's way");
        let counts: Vec<i32> = db
            .read((), |db, ()| {
                Box::pin(async move {
                    Ok::<_, Trouble<()>>(sqlx::query_scalar("SELECT n FROM t").fetch_all(db).await?)
                })
            })
            .await
            .unwrap();
        assert_eq!(counts, [2, 2], "and each counted once");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_may_have_been_committed_is_repeated_only_where_that_is_harmless() {
        let server = Server::start().await.unwrap();
        // The session ends in the middle of COMMIT.
        let cut = "CREATE TABLE t (a int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0);
                   CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS
                   $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
                   CREATE CONSTRAINT TRIGGER cut AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION cut()";
        let db = a_database(&server, cut).await;
        let runs = Arc::new(AtomicUsize::new(0));
        let given = || ([1, 2], Arc::clone(&runs));
        let once = db
            .write_once(given(), |db, (rows, runs)| Box::pin(take(db, rows, runs)))
            .await;
        assert!(matches!(once, Err(Trouble::Sql(_))), "{once:?}");
        assert_eq!(runs.swap(0, Ordering::SeqCst), 1);
        let repeated = db
            .write(given(), |db, (rows, runs)| Box::pin(take(db, rows, runs)))
            .await;
        assert!(matches!(repeated, Err(Trouble::Sql(_))), "{repeated:?}");
        assert!(
            (2..=TRIES_MAX as usize).contains(&runs.load(Ordering::SeqCst)),
            "{runs:?}"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_hangs_takes_no_connection_with_it() {
        let server = Server::start().await.unwrap();
        let db = a_database(&server, "").await;
        let ask = || db.read((), |db, ()| Box::pin(one(db)));
        futures_util::future::join_all((0..4).map(|_| ask())).await;
        server.freeze().unwrap();
        let asked = futures_util::future::join_all((0..12).map(|_| ask()));
        let answers = tokio::time::timeout(DEADLINE + Duration::from_secs(1), asked)
            .await
            .expect("within the deadline");
        assert!(
            answers
                .iter()
                .all(|it| matches!(it, Err(Trouble::Sql(e)) if is_transient(e))),
            "{answers:?}"
        );
        server.thaw().unwrap();
        let answers = futures_util::future::join_all((0..12).map(|_| ask())).await;
        assert!(answers.iter().all(|it| matches!(it, Ok(1))), "{answers:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn retries_are_paid_for() {
        let server = Server::start().await.unwrap();
        let db = a_database(&server, "").await;
        let runs = Arc::new(AtomicUsize::new(0));
        for _ in 0..100 {
            let failed = db.write(Arc::clone(&runs), |db, runs| {
                Box::pin(async move {
                    runs.fetch_add(1, Ordering::SeqCst);
                    db.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$").await?;
                    Ok::<(), Trouble<()>>(())
                })
            });
            assert!(failed.await.is_err());
        }
        let paid = (BUDGET_MAX / RETRY_COSTS) as usize;
        assert_eq!(
            runs.load(Ordering::SeqCst),
            100 + paid,
            "each is tried once, and again as long as there was a budget"
        );
    }
}
