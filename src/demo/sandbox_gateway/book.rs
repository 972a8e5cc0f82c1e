//! The gateway's book, on the disk before any answer: it must not forget money when the process is killed.

use std::{path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection, SqlitePool, migrate::Migrator};

use crate::{
    kernel::{Money, Timestamp},
    platform::{group_commit::GroupCommit, shutdown::Lifecycle, sql},
};

static MIGRATIONS: Migrator = sqlx::migrate!("src/demo/sandbox_gateway/migrations");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Answers errors; not a payment to the outside.
    Failing,
    AwaitingBuyer,
    Authorized,
    Captured,
    Declined,
    Voided,
    Refunded,
}

/// One payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    pub key: String,
    pub state: State,
    /// None where a key was voided before its payment came.
    pub amount: Option<Money>,
    /// Which test card it was.
    pub card: String,
    pub reference: Option<String>,
    pub reason: Option<String>,
    pub redirect_url: Option<String>,
    #[serde(default)]
    pub return_url: String,
    #[serde(default)]
    pub description: String,
    /// Errors answered so far.
    #[serde(default)]
    pub errors: u32,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A webhook to be sent, `copies` times.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) copies: u32,
    pub(crate) attempts: u32,
    pub(crate) due_at: Timestamp,
}

/// What is decided about one payment from what the book has; pure, so that it can be decided inside the transaction.
pub(crate) struct Decision<T> {
    /// The payment as it is from now on; None leaves it as it is.
    pub(crate) payment: Option<Payment>,
    pub(crate) messages: Vec<Message>,
    pub(crate) answer: T,
}

type Decide = Box<dyn FnOnce(Option<Payment>) -> Decision<Payment> + Send>;

enum Write {
    Payment {
        key: String,
        decide: Decide,
    },
    Sent {
        id: String,
        copies_left: u32,
        attempts: u32,
        due_at: Timestamp,
    },
}

/// The book could not be read or written; nothing is known of the payment.
#[derive(Debug, thiserror::Error)]
#[error("the gateway's book failed: {0}")]
pub(crate) struct BookError(String);

impl From<sqlx::Error> for BookError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}

pub(crate) struct Book {
    writer: GroupCommit<Write, Result<Option<Payment>, BookError>>,
    reader: SqlitePool,
}

impl Book {
    pub(crate) async fn open(file: &Path, life: &Lifecycle) -> Result<Self, sql::OpenError> {
        let (pool, reader) = sql::open_sqlite(file, &MIGRATIONS, 2).await?;
        let writer = GroupCommit::start_paced(
            life,
            4_096,
            256,
            Duration::from_millis(2),
            move |writes: Vec<Write>| {
                let pool = pool.clone();
                async move {
                    let count = writes.len();
                    match write_group(&pool, writes).await {
                        Ok(answers) => answers.into_iter().map(Ok).collect(),
                        Err(error) => (0..count).map(|_| Err(BookError(error.to_string()))).collect(),
                    }
                }
            },
        );
        Ok(Self { writer, reader })
    }

    /// Decides about one payment and writes the decision; answers when it is on the disk.
    pub(crate) async fn decide(
        &self,
        key: &str,
        decide: impl FnOnce(Option<Payment>) -> Decision<Payment> + Send + 'static,
    ) -> Result<Payment, BookError> {
        let write = Write::Payment {
            key: key.to_owned(),
            decide: Box::new(decide),
        };
        let answer = self
            .writer
            .submit(write)
            .await
            .map_err(|e| BookError(e.to_string()))??;
        answer.ok_or_else(|| BookError("no answer".into()))
    }

    pub(crate) async fn sent(
        &self,
        message: &Message,
        copies_left: u32,
        due_at: Timestamp,
    ) -> Result<(), BookError> {
        let write = Write::Sent {
            id: message.id.clone(),
            copies_left,
            attempts: message.attempts + 1,
            due_at,
        };
        self.writer
            .submit_when_free(write)
            .await
            .map_err(|e| BookError(e.to_string()))??;
        Ok(())
    }

    pub(crate) async fn payment(&self, key: &str) -> Result<Option<Payment>, BookError> {
        let body = sqlx::query_scalar("SELECT body FROM payment WHERE key = ?1")
            .bind(key)
            .fetch_optional(&self.reader)
            .await?;
        body.map(|it: String| parse(&it)).transpose()
    }

    /// Payments after that key, in key order.
    pub(crate) async fn payments(&self, after: &str, limit: u32) -> Result<Vec<Payment>, BookError> {
        let rows = sqlx::query(
            "SELECT body FROM payment WHERE key > ?1 AND state != 'failing' ORDER BY key LIMIT ?2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|it| parse(&it.try_get::<String, _>("body")?))
            .collect()
    }

    pub(crate) async fn messages_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Message>, BookError> {
        let rows = sqlx::query("SELECT id, body, copies, attempts, due_at FROM webhook WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2")
            .bind(now.as_millis())
            .bind(limit)
            .fetch_all(&self.reader)
            .await?;
        rows.iter()
            .map(|it| {
                Ok(Message {
                    id: it.try_get("id")?,
                    body: it.try_get("body")?,
                    copies: it.try_get("copies")?,
                    attempts: it.try_get("attempts")?,
                    due_at: Timestamp::from_millis(it.try_get("due_at")?),
                })
            })
            .collect()
    }
}

fn parse(body: &str) -> Result<Payment, BookError> {
    serde_json::from_str(body).map_err(|e| BookError(format!("a stored payment: {e}")))
}

async fn write_group(pool: &SqlitePool, writes: Vec<Write>) -> Result<Vec<Option<Payment>>, BookError> {
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    let mut answers = Vec::with_capacity(writes.len());
    for write in writes {
        answers.push(apply(&mut transaction, write).await?);
    }
    transaction.commit().await?;
    Ok(answers)
}

async fn apply(db: &mut SqliteConnection, write: Write) -> Result<Option<Payment>, BookError> {
    match write {
        Write::Payment { key, decide } => {
            let body: Option<String> = sqlx::query_scalar("SELECT body FROM payment WHERE key = ?1")
                .bind(&key)
                .fetch_optional(&mut *db)
                .await?;
            let decision = decide(body.as_deref().map(parse).transpose()?);
            if let Some(payment) = &decision.payment {
                let state = serde_json::to_value(payment.state)
                    .ok()
                    .and_then(|it| it.as_str().map(str::to_owned))
                    .unwrap_or_default();
                sqlx::query("INSERT INTO payment (key, state, body) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET state = ?2, body = ?3")
                    .bind(&key)
                    .bind(state)
                    .bind(serde_json::to_string(payment).expect("a payment is JSON"))
                    .execute(&mut *db)
                    .await?;
            }
            for message in decision.messages {
                sqlx::query("INSERT INTO webhook (id, body, copies, due_at) VALUES (?1, ?2, ?3, ?4)")
                    .bind(message.id)
                    .bind(message.body)
                    .bind(message.copies)
                    .bind(message.due_at.as_millis())
                    .execute(&mut *db)
                    .await?;
            }
            Ok(Some(decision.answer))
        }
        Write::Sent {
            id, copies_left: 0, ..
        } => {
            sqlx::query("DELETE FROM webhook WHERE id = ?1")
                .bind(id)
                .execute(db)
                .await?;
            Ok(None)
        }
        Write::Sent {
            id,
            copies_left,
            attempts,
            due_at,
        } => {
            sqlx::query("UPDATE webhook SET copies = ?2, attempts = ?3, due_at = ?4 WHERE id = ?1")
                .bind(id)
                .bind(copies_left)
                .bind(attempts)
                .bind(due_at.as_millis())
                .execute(db)
                .await?;
            Ok(None)
        }
    }
}
