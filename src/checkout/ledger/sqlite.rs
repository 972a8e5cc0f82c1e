//! The embedded ledger: one SQLite file, a flush at each commit, one writer that commits whole groups at once.
//!
//! Whoever writes hands in a job; all jobs that wait are run in one `BEGIN IMMEDIATE` transaction, each in a savepoint of
//! its own, and are answered after the commit. So a crowd of orders shares a flush, and one order's refusal undoes
//! nobody else's work.

mod attempts;
mod engine;
mod leases;
mod reads;

use std::{any::Any, path::Path, time::Duration};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sqlx::{SqliteConnection, SqlitePool, migrate::Migrator};

use super::{
    ClaimOutcome, SeatStoreEpoch, IdempotencyRecord, LeaseRequest, LeasedSaga, Ledger, LedgerError, SagaLogEntry, NewEvent, NewOrder,
    NewTicket, OpenOutcome, OutboxRow, Position, Progress, FencedLease, TicketRow,
};
use crate::{
    checkout::{
        order::{Order, OrderState, Reason},
        seats::{ClaimedSeats, PerformanceKey},
    },
    kernel::{OrderId, SaleId, Subject, Timestamp},
    platform::{
        group_commit::{GroupCommit, GroupCommitError},
        shutdown::Lifecycle,
        signing::sha256,
        sql,
    },
};

static MIGRATIONS: Migrator = sqlx::migrate!("src/checkout/ledger/migrations");

const QUEUE_MAX: usize = 8_192;
const GROUP_MAX: usize = 256;
/// Small groups begin at least so long after each other: orders under way make many, and each costs the disk a flush.
const PACE: Duration = Duration::from_millis(2);
const READERS: u32 = 4;

type Answer = Result<Box<dyn Any + Send>, LedgerError>;
type Job = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Answer> + Send>;

/// `ledger.db`.
pub struct SqliteLedger {
    node: String,
    writer: GroupCommit<Job, Answer>,
    reader: SqlitePool,
}

impl SqliteLedger {
    /// Opens or makes the file, for the node of this name.
    ///
    /// # Errors
    /// [`sql::OpenError`], with the file's name.
    pub async fn open(file: &Path, node: &str, life: &Lifecycle) -> Result<Self, sql::OpenError> {
        let (pool, reader) = sql::open_sqlite(file, &MIGRATIONS, READERS).await?;
        let writer = GroupCommit::start_paced(life, QUEUE_MAX, GROUP_MAX, PACE, move |jobs: Vec<Job>| {
            let pool = pool.clone();
            async move { write_group(&pool, jobs).await }
        });
        Ok(Self {
            node: node.to_owned(),
            writer,
            reader,
        })
    }

    async fn write<T, F>(&self, job: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, LedgerError>> + Send + 'static,
    {
        let job: Job = Box::new(move |db| {
            Box::lock_claims(async move { job(db).await.map(|it| Box::new(it) as Box<dyn Any + Send>) })
        });
        let answer = self.writer.submit_when_free(job).await.map_err(|e| match e {
            GroupCommitError::QueueFull => LedgerError::Busy,
            GroupCommitError::WriterStopped => LedgerError::Unavailable(e.to_string()),
        })??;
        Ok(*answer.downcast::<T>().expect("a job answers with its own type"))
    }
}

async fn write_group(pool: &SqlitePool, jobs: Vec<Job>) -> Vec<Answer> {
    let count = jobs.len();
    match try_write_group(pool, jobs).await {
        Ok(answers) => answers,
        Err(e) => {
            tracing::error!(error = %e, orders = count, "a group of ledger writes failed as a whole");
            let unavailable = LedgerError::from(e);
            (0..count).map(|_| Err(unavailable.clone())).collect()
        }
    }
}

async fn try_write_group(pool: &SqlitePool, jobs: Vec<Job>) -> Result<Vec<Answer>, sqlx::Error> {
    // Each query is a way to the connection's thread and back, which costs more than the query itself: as few as can be, several
    // statements in one. There parameters are `$N`: of `?N` sqlx wants none left out.
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE; SAVEPOINT job").await?;
    let db: &mut SqliteConnection = &mut transaction;
    let mut answers = Vec::with_capacity(jobs.len());
    for job in jobs {
        if !answers.is_empty() {
            sqlx::query("RELEASE job; SAVEPOINT job")
                .execute(&mut *db)
                .await?;
        }
        let answer = job(db).await;
        if answer.is_err() {
            sqlx::query("ROLLBACK TO job").execute(&mut *db).await?;
        }
        answers.push(answer);
    }
    transaction.commit().await?;
    Ok(answers)
}

/// Refuses whoever is not the latest to have leased the order.
async fn check(db: &mut SqliteConnection, lease: FencedLease) -> Result<(), LedgerError> {
    let held = sqlx::query("SELECT 1 FROM saga WHERE order_id = ?1 AND fence = ?2")
        .bind(lease.order.to_string())
        .bind(lease.fence)
        .fetch_optional(db)
        .await?;
    held.map(|_| ()).ok_or(LedgerError::LeaseLost)
}

/// Appends to the audit chain.
async fn audit(db: &mut SqliteConnection, order: &str, what: &str, at: Timestamp) -> Result<(), LedgerError> {
    let last: Option<Vec<u8>> = sqlx::query_scalar("SELECT hash FROM audit ORDER BY n DESC LIMIT 1")
        .fetch_optional(&mut *db)
        .await?;
    let mut covered = last.unwrap_or_default();
    covered.extend_from_slice(format!("{}|{order}|{what}", at.as_millis()).as_bytes());
    sqlx::query("INSERT INTO audit (at, order_id, what, hash) VALUES (?1, ?2, ?3, ?4)")
        .bind(at.as_millis())
        .bind(order)
        .bind(what)
        .bind(sha256(&covered).to_vec())
        .execute(db)
        .await?;
    Ok(())
}

/// Appends to the order's outbox.
async fn put_event(
    db: &mut SqliteConnection,
    order: &str,
    event: &NewEvent,
    at: Timestamp,
) -> Result<(), LedgerError> {
    sqlx::query(
        "INSERT INTO outbox (order_id, sequence, kind, data, at)
         SELECT ?1, COALESCE(MAX(sequence), 0) + 1, ?2, ?3, ?4 FROM outbox WHERE order_id = ?1",
    )
    .bind(order)
    .bind(event.kind)
    .bind(&event.data)
    .bind(at.as_millis())
    .execute(db)
    .await?;
    Ok(())
}

#[async_trait]
impl Ledger for SqliteLedger {
    fn owner(&self) -> String {
        self.node.clone()
    }

    async fn open_order(&self, order: NewOrder, lease_request: LeaseRequest) -> Result<OpenOutcome, LedgerError> {
        self.write(move |db| Box::lock_claims(attempts::open_order(db, order, lease_request)))
            .await
    }

    async fn claim(&self, lease: FencedLease, seats_per_fan: u8, at: Timestamp) -> Result<ClaimOutcome, LedgerError> {
        self.write(move |db| Box::lock_claims(attempts::claim(db, lease, seats_per_fan, at)))
            .await
    }

    async fn lock_claims(&self, lease: FencedLease) -> Result<bool, LedgerError> {
        self.write(move |db| Box::lock_claims(attempts::lock_claims(db, lease))).await
    }

    async fn await_payment(
        &self,
        lease: FencedLease,
        url: &str,
        until: Timestamp,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let url = url.to_owned();
        self.write(move |db| Box::lock_claims(attempts::await_payment(db, lease, url, until, at)))
            .await
    }

    async fn book(
        &self,
        lease: FencedLease,
        tickets: Vec<NewTicket>,
        event: NewEvent,
        at: Timestamp,
    ) -> Result<bool, LedgerError> {
        self.write(move |db| Box::lock_claims(attempts::book(db, lease, tickets, event, at)))
            .await
    }

    async fn record_capture(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError> {
        self.write(move |db| Box::lock_claims(attempts::record_capture(db, lease, at)))
            .await
    }

    async fn record_delivery(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError> {
        self.write(move |db| Box::lock_claims(attempts::record_delivery(db, lease, at)))
            .await
    }

    async fn void_tickets(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError> {
        self.write(move |db| Box::lock_claims(attempts::void_tickets(db, lease, at)))
            .await
    }

    async fn release_claims(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError> {
        self.write(move |db| Box::lock_claims(attempts::release_claims(db, lease, at)))
            .await
    }

    async fn close_order(
        &self,
        lease: FencedLease,
        state: OrderState,
        event: Option<NewEvent>,
        payment_check_at: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        self.write(move |db| Box::lock_claims(attempts::close_order(db, lease, state, event, payment_check_at, at)))
            .await
    }

    async fn record_progress(&self, lease: FencedLease, progress: Progress) -> Result<(), LedgerError> {
        self.write(move |db| Box::lock_claims(leases::record_progress(db, lease, progress)))
            .await
    }

    async fn start_saga(
        &self,
        order: OrderId,
        from: OrderState,
        to: OrderState,
        reason: Reason,
        position: Position,
        lease_request: LeaseRequest,
    ) -> Result<Option<LeasedSaga>, LedgerError> {
        self.write(move |db| Box::lock_claims(leases::start_saga(db, order, from, to, reason, position, lease_request)))
            .await
    }

    async fn lease_due_sagas(
        &self,
        lease_request: LeaseRequest,
        include_own: bool,
        limit: u32,
    ) -> Result<Vec<LeasedSaga>, LedgerError> {
        self.write(move |db| Box::lock_claims(leases::lease_due_sagas(db, lease_request, include_own, limit)))
            .await
    }

    async fn record_webhook(&self, gateway: &str, event: &str, at: Timestamp) -> Result<bool, LedgerError> {
        let (gateway, event) = (gateway.to_owned(), event.to_owned());
        self.write(move |db| {
            Box::lock_claims(async move {
                let done = sqlx::query(
                    "INSERT INTO inbox (gateway, event, at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                )
                .bind(gateway)
                .bind(event)
                .bind(at.as_millis())
                .execute(db)
                .await?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }

    async fn record_event_delivery(&self, order: OrderId, sequence: i64, at: Timestamp) -> Result<(), LedgerError> {
        self.write(move |db| {
            Box::lock_claims(async move {
                sqlx::query("UPDATE outbox SET delivered_at = ?3 WHERE order_id = ?1 AND sequence = ?2 AND delivered_at IS NULL")
                    .bind(order.to_string())
                    .bind(sequence)
                    .bind(at.as_millis())
                    .execute(db)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    async fn schedule_payment_check(&self, order: OrderId, payment_check_at: Option<Timestamp>) -> Result<(), LedgerError> {
        self.write(move |db| {
            Box::lock_claims(async move {
                sqlx::query("UPDATE orders SET check_at = ?2 WHERE id = ?1")
                    .bind(order.to_string())
                    .bind(payment_check_at.map(Timestamp::as_millis))
                    .execute(db)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    async fn seat_store_epoch(&self, performance_key: &PerformanceKey) -> Result<SeatStoreEpoch, LedgerError> {
        engine::memory(&self.reader, performance_key).await
    }

    async fn advance_epoch(&self, performance_key: &PerformanceKey, seen: u64, identity: &str) -> Result<SeatStoreEpoch, LedgerError> {
        let (performance_key, identity) = (performance_key.clone(), identity.to_owned());
        self.write(move |db| Box::lock_claims(engine::advance_epoch(db, performance_key, seen, identity)))
            .await
    }

    /// One writer links each row as it writes it.
    async fn chain_journal(&self) -> Result<u64, LedgerError> {
        Ok(0)
    }

    async fn order(&self, id: OrderId) -> Result<Option<Order>, LedgerError> {
        reads::order(&self.reader, id).await
    }

    async fn order_by_payment_key(&self, payment_key: &str) -> Result<Option<OrderId>, LedgerError> {
        reads::order_by_payment_key(&self.reader, payment_key).await
    }

    async fn idempotency_record(&self, buyer: &Subject, key: &str) -> Result<Option<IdempotencyRecord>, LedgerError> {
        reads::idempotency_record(&self.reader, buyer, key).await
    }

    async fn orders_of(&self, sale: &SaleId, buyer: &Subject) -> Result<Vec<Order>, LedgerError> {
        reads::orders_of(&self.reader, sale, buyer).await
    }

    async fn log(&self, id: OrderId) -> Result<Vec<SagaLogEntry>, LedgerError> {
        reads::saga_log(&self.reader, id).await
    }

    async fn tickets(&self, id: OrderId) -> Result<Vec<TicketRow>, LedgerError> {
        reads::tickets(&self.reader, id).await
    }

    async fn claims(
        &self,
        only: Option<(&PerformanceKey, &[String])>,
        keep_until: Timestamp,
    ) -> Result<Vec<ClaimedSeats>, LedgerError> {
        reads::claims(&self.reader, only, keep_until).await
    }

    async fn undelivered_events(&self, id: OrderId) -> Result<Vec<OutboxRow>, LedgerError> {
        reads::undelivered_events(&self.reader, id).await
    }

    async fn payments_to_check(&self, now: Timestamp, limit: u32) -> Result<Vec<OrderId>, LedgerError> {
        reads::payments_to_check(&self.reader, now, limit).await
    }

    async fn stuck_count(&self) -> Result<u64, LedgerError> {
        reads::stuck_count(&self.reader).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkout::ledger::conformance;

    #[tokio::test(flavor = "multi_thread")]
    async fn keeps_the_contract() {
        let dir = conformance::TempDir::new("ledger");
        let life = Lifecycle::new();
        conformance::all(
            &SqliteLedger::open(&dir.file("ledger.db"), "a", &life)
                .await
                .unwrap(),
        )
        .await;
        life.stop();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_audit_log_only_grows() {
        let dir = conformance::TempDir::new("audit");
        let life = Lifecycle::new();
        let ledger = SqliteLedger::open(&dir.file("ledger.db"), "a", &life)
            .await
            .unwrap();
        conformance::open(&ledger, &conformance::Given::new(1, &["A-1"])).await;
        for forbidden in ["UPDATE audit SET what = 'nothing'", "DELETE FROM audit"] {
            let tried = ledger
                .write(move |db| {
                    Box::lock_claims(async move {
                        sqlx::query(forbidden).execute(db).await?;
                        Ok(())
                    })
                })
                .await;
            assert!(matches!(tried, Err(LedgerError::Unavailable(_))), "{forbidden}");
        }
    }
}
