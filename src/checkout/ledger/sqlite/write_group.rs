//! Runs a group of write jobs in one transaction.
//!
//! Each job runs in a savepoint of its own and is answered after the commit. So many orders share one flush,
//! and the failure of one job undoes nothing of the others.

use std::any::Any;

use futures_util::future::BoxFuture;
use sqlx::SqliteConnection;

use crate::{checkout::ledger::port::LedgerError, platform::sql::SqliteWriter};

pub(super) type Answer = Result<Box<dyn Any + Send>, LedgerError>;
pub(super) type Job = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Answer> + Send>;

pub(super) async fn write_group(writer: &SqliteWriter, jobs: Vec<Job>) -> Vec<Answer> {
    let count = jobs.len();
    match try_write_group(writer, jobs).await {
        Ok(answers) => answers,
        Err(e) => {
            tracing::error!(error = %e, orders = count, "a group of ledger writes failed as a whole");
            let unavailable = LedgerError::from(e);
            (0..count).map(|_| Err(unavailable.clone())).collect()
        }
    }
}

async fn try_write_group(writer: &SqliteWriter, jobs: Vec<Job>) -> Result<Vec<Answer>, sqlx::Error> {
    // Each query is a round trip to the connection's thread, which costs more than the query itself. So there
    // are as few as possible, with several statements in one; those use `$N`, because sqlx does not allow
    // gaps in `?N`.
    let mut transaction = writer.begin("BEGIN IMMEDIATE; SAVEPOINT job").await?;
    let db: &mut SqliteConnection = &mut transaction;
    let mut answers = Vec::with_capacity(jobs.len());
    for job in jobs {
        if !answers.is_empty() {
            sqlx::query("RELEASE job; SAVEPOINT job")
                .execute(&mut *db)
                .await?;
        }
        let answer = job(db).await;
        if let Err(error) = &answer {
            if matches!(error, LedgerError::Unavailable(_)) {
                writer.suspect();
            }
            sqlx::query("ROLLBACK TO job").execute(&mut *db).await?;
        }
        answers.push(answer);
    }
    transaction.commit().await?;
    Ok(answers)
}
