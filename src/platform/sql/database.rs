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
        Self { pool, deadline, entropy, budget: Arc::new(AtomicU32::new(BUDGET_MAX)) }
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
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("the database did not answer within {:?}", self.deadline));
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
                    let _ = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earn);
                    return Ok(answer);
                }
                Tried::Refused(why) => return Err(Trouble::Refused(why)),
                Tried::Undone(error) => (error, true),
                Tried::Unknown(error) => (error, kind == Kind::Write),
            };
            // Whoever has waited for a connection as long as one may has nothing left to wait with.
            let may_repeat = may_repeat && is_transient(&error) && !matches!(error, sqlx::Error::PoolTimedOut);
            if tries == TRIES_MAX || !may_repeat || !self.pay_for_retry() {
                return Err(Trouble::Sql(error));
            }
            // Full jitter: two transactions in each other's way do not meet again.
            tokio::time::sleep(RETRY_BASE.saturating_mul(1 << tries).mul_f64(self.entropy.unit())).await;
        }
    }

    fn pay_for_retry(&self) -> bool {
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| it.checked_sub(RETRY_COSTS)).is_ok()
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
                let is_sound = matches!(&trouble, Trouble::Refused(_) | Trouble::Sql(sqlx::Error::Database(_)));
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
                let rolled_back = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
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
