//! The gateway's payments in SQLite. A change is committed before its answer, so that a kill loses no money.

use std::{path::Path, sync::LazyLock, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection, SqlitePool, migrate::Migrator};

use crate::{
    kernel::{Money, Timestamp},
    platform::{
        group_commit::GroupCommit,
        shutdown::Lifecycle,
        sql::{self, SqliteWriter},
    },
};

static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| sql::migrator(&[(1, "payments", include_str!("migrations/0001_payments.sql"))]));

/// The state of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentState {
    /// Answers errors; invisible to look-ups and statements.
    Failing,
    /// The buyer must decide on the gateway's page.
    AwaitingBuyer,
    /// The amount is reserved.
    Authorized,
    /// The amount is taken.
    Captured,
    /// No money moves.
    Declined,
    /// The reservation is released, or the key was voided before its payment arrived.
    Voided,
    /// The amount is paid back.
    Refunded,
}

/// A payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The merchant's idempotency key.
    pub key: String,
    /// The current state.
    pub state: PaymentState,
    /// `None` when the key was voided before its payment arrived.
    pub amount: Option<Money>,
    /// The test card.
    pub card: String,
    /// The gateway's own reference of an authorization.
    pub reference: Option<String>,
    /// Why the payment was declined.
    pub reason: Option<String>,
    /// The page on which the buyer decides.
    pub redirect_url: Option<String>,
    /// Where that page leads back to.
    #[serde(default)]
    pub return_url: String,
    /// What the buyer pays for.
    #[serde(default)]
    pub description: String,
    /// How many errors were answered so far.
    #[serde(default)]
    pub errors: u32,
    /// When the payment arrived.
    pub created_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
}

/// A webhook to send `copies` times.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) body: String,
    pub(super) copies: u32,
    pub(super) attempts: u32,
    pub(super) due_at: Timestamp,
}

/// The outcome of a rule applied to a stored payment. Rules are pure, so that they run inside the
/// transaction.
pub(super) struct Decision<T> {
    /// The payment's new version; `None` leaves it unchanged.
    pub(super) payment: Option<Payment>,
    pub(super) messages: Vec<Message>,
    pub(super) answer: T,
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

/// The database could not be read or written; the outcome is unknown.
#[derive(Debug, thiserror::Error)]
#[error("the gateway's database failed: {0}")]
pub(super) struct StoreError(String);

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}

pub(super) struct PaymentStore {
    writer: GroupCommit<Write, Result<Option<Payment>, StoreError>>,
    reader: SqlitePool,
}

impl PaymentStore {
    pub(super) async fn open(file: &Path, life: &Lifecycle) -> Result<Self, sql::OpenError> {
        let (file_writer, reader) = sql::open_sqlite(file, &MIGRATIONS, 2, life).await?;
        let writer = GroupCommit::start_paced(
            life,
            4_096,
            256,
            Duration::from_millis(2),
            move |writes: Vec<Write>| {
                let file_writer = file_writer.clone();
                async move {
                    let count = writes.len();
                    match write_group(&file_writer, writes).await {
                        Ok(answers) => answers.into_iter().map(Ok).collect(),
                        Err(error) => (0..count).map(|_| Err(StoreError(error.to_string()))).collect(),
                    }
                }
            },
        );
        Ok(Self { writer, reader })
    }

    /// Applies a rule to one payment and returns after the commit.
    pub(super) async fn decide(
        &self,
        key: &str,
        decide: impl FnOnce(Option<Payment>) -> Decision<Payment> + Send + 'static,
    ) -> Result<Payment, StoreError> {
        let write = Write::Payment {
            key: key.to_owned(),
            decide: Box::new(decide),
        };
        let answer = self
            .writer
            .submit(write)
            .await
            .map_err(|e| StoreError(e.to_string()))??;
        answer.ok_or_else(|| StoreError("no answer".into()))
    }

    pub(super) async fn sent(
        &self,
        message: &Message,
        copies_left: u32,
        due_at: Timestamp,
    ) -> Result<(), StoreError> {
        let write = Write::Sent {
            id: message.id.clone(),
            copies_left,
            attempts: message.attempts + 1,
            due_at,
        };
        self.writer
            .submit_when_free(write)
            .await
            .map_err(|e| StoreError(e.to_string()))??;
        Ok(())
    }

    pub(super) async fn payment(&self, key: &str) -> Result<Option<Payment>, StoreError> {
        let body = sqlx::query_scalar("SELECT body FROM payment WHERE key = ?1")
            .bind(key)
            .fetch_optional(&self.reader)
            .await?;
        body.map(|it: String| parse(&it)).transpose()
    }

    /// Payments after that key, in key order.
    pub(super) async fn payments(&self, after: &str, limit: u32) -> Result<Vec<Payment>, StoreError> {
        let rows = sqlx::query(
            "SELECT body FROM payment WHERE key > ?1 AND state != 'failing' ORDER BY key LIMIT ?2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| parse(&row.try_get::<String, _>("body")?))
            .collect()
    }

    pub(super) async fn messages_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Message>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, body, copies, attempts, due_at FROM webhook \
             WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2",
        )
        .bind(now.as_millis())
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Message {
                    id: row.try_get("id")?,
                    body: row.try_get("body")?,
                    copies: row.try_get("copies")?,
                    attempts: row.try_get("attempts")?,
                    due_at: Timestamp::from_millis(row.try_get("due_at")?),
                })
            })
            .collect()
    }
}

fn parse(body: &str) -> Result<Payment, StoreError> {
    serde_json::from_str(body).map_err(|e| StoreError(format!("a stored payment: {e}")))
}

async fn write_group(
    file_writer: &SqliteWriter,
    writes: Vec<Write>,
) -> Result<Vec<Option<Payment>>, StoreError> {
    let mut transaction = file_writer.begin("BEGIN IMMEDIATE").await?;
    let mut answers = Vec::with_capacity(writes.len());
    for write in writes {
        answers.push(
            apply(&mut transaction, write)
                .await
                .inspect_err(|_| file_writer.suspect())?,
        );
    }
    transaction.commit().await?;
    Ok(answers)
}

async fn apply(db: &mut SqliteConnection, write: Write) -> Result<Option<Payment>, StoreError> {
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
                    .and_then(|state| state.as_str().map(str::to_owned))
                    .unwrap_or_default();
                sqlx::query(
                    "INSERT INTO payment (key, state, body) VALUES (?1, ?2, ?3) \
                     ON CONFLICT DO UPDATE SET state = ?2, body = ?3",
                )
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
