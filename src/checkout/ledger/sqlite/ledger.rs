//! [`SqliteLedger`]: one SQLite file, one writer that commits whole groups, and read-only connections beside
//! it.

use std::{any::Any, path::Path, sync::LazyLock, time::Duration};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sqlx::{SqliteConnection, SqlitePool, migrate::Migrator};

use super::{
    attempts, inbox, leases, open_order, reads, seat_store_epoch,
    write_group::{Answer, Job, write_group},
};
use crate::{
    checkout::{
        ledger::port::{
            ClaimOutcome, FencedLease, IdempotencyRecord, LeaseRequest, LeasedSaga, Ledger, LedgerError,
            NewEvent, NewOrder, NewTicket, OpenOutcome, Progress, SagaLogEntry, SagaStart, SeatStoreEpoch,
            TicketRow,
        },
        order::{Order, OrderState},
        types::{ClaimedSeats, PerformanceKey},
    },
    kernel::{HoldId, OrderId, SaleId, Subject, Timestamp},
    platform::{
        group_commit::{GroupCommit, GroupCommitError},
        shutdown::Lifecycle,
        sql,
    },
};

static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| sql::migrator(&[(1, "ledger", include_str!("migrations/0001_ledger.sql"))]));

const QUEUE_MAX: usize = 8_192;
const GROUP_MAX: usize = 256;
/// Least time between two small groups. Running orders write often, and each group costs the disk a flush.
const GROUP_INTERVAL: Duration = Duration::from_millis(2);
const READERS: u32 = 4;

/// The ledger in a SQLite file.
pub struct SqliteLedger {
    node_name: String,
    writer: GroupCommit<Job, Answer>,
    reader: SqlitePool,
}

impl SqliteLedger {
    /// Opens or creates the file, for the node of this name.
    ///
    /// # Errors
    /// [`sql::OpenError`], which names the file.
    pub async fn open(file: &Path, node_name: &str, lifecycle: &Lifecycle) -> Result<Self, sql::OpenError> {
        let (file_writer, reader) = sql::open_sqlite(file, &MIGRATIONS, READERS, lifecycle).await?;
        let writer = GroupCommit::start_paced(
            lifecycle,
            QUEUE_MAX,
            GROUP_MAX,
            GROUP_INTERVAL,
            move |jobs: Vec<Job>| {
                let file_writer = file_writer.clone();
                async move { write_group(&file_writer, jobs).await }
            },
        );
        Ok(Self {
            node_name: node_name.to_owned(),
            writer,
            reader,
        })
    }

    /// Connections that cannot write.
    pub(super) fn reader(&self) -> &SqlitePool {
        &self.reader
    }

    pub(super) async fn write<T, F>(&self, job: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, LedgerError>> + Send + 'static,
    {
        let job: Job = Box::new(move |db| {
            Box::pin(async move { job(db).await.map(|value| Box::new(value) as Box<dyn Any + Send>) })
        });
        let answer = self.writer.submit_when_free(job).await.map_err(|e| match e {
            GroupCommitError::QueueFull => LedgerError::Busy,
            GroupCommitError::WriterStopped => LedgerError::Unavailable(e.to_string()),
        })??;
        Ok(*answer.downcast::<T>().expect("a job answers with its own type"))
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    fn owner(&self) -> String {
        self.node_name.clone()
    }

    async fn open_order(&self, order: NewOrder, request: LeaseRequest) -> Result<OpenOutcome, LedgerError> {
        self.write(move |db| Box::pin(open_order::open_order(db, order, request)))
            .await
    }

    async fn claim(
        &self,
        lease: FencedLease,
        seats_per_customer_max: u8,
        at: Timestamp,
    ) -> Result<ClaimOutcome, LedgerError> {
        self.write(move |db| Box::pin(attempts::claim(db, lease, seats_per_customer_max, at)))
            .await
    }

    async fn lock_claims(&self, lease: FencedLease) -> Result<bool, LedgerError> {
        self.write(move |db| Box::pin(attempts::lock_claims(db, lease)))
            .await
    }

    async fn await_payment(
        &self,
        lease: FencedLease,
        url: &str,
        until: Timestamp,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let url = url.to_owned();
        self.write(move |db| Box::pin(attempts::await_payment(db, lease, url, until, at)))
            .await
    }

    async fn book(
        &self,
        lease: FencedLease,
        tickets: Vec<NewTicket>,
        event: NewEvent,
        at: Timestamp,
    ) -> Result<bool, LedgerError> {
        self.write(move |db| Box::pin(attempts::book(db, lease, tickets, event, at)))
            .await
    }

    async fn record_capture(
        &self,
        lease: FencedLease,
        event: NewEvent,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        self.write(move |db| Box::pin(attempts::record_capture(db, lease, event, at)))
            .await
    }

    async fn record_delivery(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError> {
        self.write(move |db| Box::pin(attempts::record_delivery(db, lease, at)))
            .await
    }

    async fn void_tickets(
        &self,
        lease: FencedLease,
        events: Vec<NewEvent>,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        self.write(move |db| Box::pin(attempts::void_tickets(db, lease, events, at)))
            .await
    }

    async fn release_claims(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError> {
        self.write(move |db| Box::pin(attempts::release_claims(db, lease, at)))
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
        self.write(move |db| {
            Box::pin(attempts::close_order(
                db,
                lease,
                state,
                event,
                payment_check_at,
                at,
            ))
        })
        .await
    }

    async fn record_progress(&self, lease: FencedLease, progress: Progress) -> Result<(), LedgerError> {
        self.write(move |db| Box::pin(leases::record_progress(db, lease, progress)))
            .await
    }

    async fn start_saga(
        &self,
        order: OrderId,
        start: SagaStart,
        request: LeaseRequest,
    ) -> Result<Option<LeasedSaga>, LedgerError> {
        self.write(move |db| Box::pin(leases::start_saga(db, order, start, request)))
            .await
    }

    async fn lease_due_sagas(
        &self,
        request: LeaseRequest,
        include_own: bool,
        limit: u32,
    ) -> Result<Vec<LeasedSaga>, LedgerError> {
        self.write(move |db| Box::pin(leases::lease_due_sagas(db, request, include_own, limit)))
            .await
    }

    async fn record_webhook(&self, gateway: &str, event: &str, at: Timestamp) -> Result<bool, LedgerError> {
        let (gateway, event) = (gateway.to_owned(), event.to_owned());
        self.write(move |db| Box::pin(inbox::record_webhook(db, gateway, event, at)))
            .await
    }

    async fn schedule_payment_check(
        &self,
        order: OrderId,
        payment_check_at: Option<Timestamp>,
    ) -> Result<(), LedgerError> {
        self.write(move |db| Box::pin(inbox::schedule_payment_check(db, order, payment_check_at)))
            .await
    }

    async fn seat_store_epoch(
        &self,
        performance_key: &PerformanceKey,
    ) -> Result<SeatStoreEpoch, LedgerError> {
        seat_store_epoch::current(&self.reader, performance_key).await
    }

    async fn advance_epoch(
        &self,
        performance_key: &PerformanceKey,
        seen: u64,
        identity: &str,
    ) -> Result<SeatStoreEpoch, LedgerError> {
        let (performance_key, identity) = (performance_key.clone(), identity.to_owned());
        self.write(move |db| Box::pin(seat_store_epoch::advance(db, performance_key, seen, identity)))
            .await
    }

    /// The single writer chains each row as it writes it, so there is nothing left to do.
    async fn chain_journal(&self) -> Result<u64, LedgerError> {
        Ok(0)
    }

    async fn order(&self, id: OrderId) -> Result<Option<Order>, LedgerError> {
        reads::order(&self.reader, id).await
    }

    async fn order_by_payment_key(&self, payment_key: &str) -> Result<Option<OrderId>, LedgerError> {
        reads::order_by_payment_key(&self.reader, payment_key).await
    }

    async fn idempotency_record(
        &self,
        buyer: &Subject,
        key: &str,
    ) -> Result<Option<IdempotencyRecord>, LedgerError> {
        reads::idempotency_record(&self.reader, buyer, key).await
    }

    async fn first_failure_at(&self, hold: HoldId) -> Result<Option<Timestamp>, LedgerError> {
        reads::first_failure_at(&self.reader, hold).await
    }

    async fn orders_of(&self, sale: &SaleId, buyer: &Subject) -> Result<Vec<Order>, LedgerError> {
        reads::orders_of(&self.reader, sale, buyer).await
    }

    async fn saga_log(&self, id: OrderId) -> Result<Vec<SagaLogEntry>, LedgerError> {
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

    async fn payments_to_check(&self, now: Timestamp, limit: u32) -> Result<Vec<OrderId>, LedgerError> {
        reads::payments_to_check(&self.reader, now, limit).await
    }

    async fn stuck_count(&self) -> Result<u64, LedgerError> {
        reads::stuck_count(&self.reader).await
    }
}
