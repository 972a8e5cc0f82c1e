//! [`PostgresLedger`]: schema `stagedoor_ledger` of a database that all nodes share.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use async_trait::async_trait;
use sqlx::migrate::Migrator;

use super::{attempts, inbox, journal, leases, open_order, reads, transaction::BULK_TIMEOUT};
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
    kernel::{Entropy, HoldId, OrderId, SaleId, Subject, Timestamp},
    platform::sql::{self, Database},
};

static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| sql::migrator(&[(1, "ledger", include_str!("migrations/0001_ledger.sql"))]));

/// Connections of one node.
pub const CONNECTIONS: u32 = 16;
/// Timeout of a call. The server cancels its part after the same time.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);
/// The ledger in schema `stagedoor_ledger` of a PostgreSQL database.
pub struct PostgresLedger {
    node_name: String,
    pub(super) db: Database,
    bulk: Database,
}

impl PostgresLedger {
    /// Opens the ledger for the node of this name, and creates or migrates its tables if needed.
    ///
    /// # Errors
    /// [`sql::OpenError`], which never contains the password.
    pub async fn open(url: &str, node_name: &str, entropy: Arc<dyn Entropy>) -> Result<Self, sql::OpenError> {
        let pool = sql::open_postgres(url, "ledger", &MIGRATIONS, CONNECTIONS).await?;
        let bulk = Database::new(pool.clone(), BULK_TIMEOUT, Arc::clone(&entropy));
        Ok(Self {
            node_name: node_name.to_owned(),
            db: Database::new(pool, TIMEOUT, entropy),
            bulk,
        })
    }
}

#[async_trait]
impl Ledger for PostgresLedger {
    fn owner(&self) -> String {
        self.node_name.clone()
    }

    async fn open_order(&self, order: NewOrder, request: LeaseRequest) -> Result<OpenOutcome, LedgerError> {
        Ok(self
            .db
            .write((order, request), |db, (order, request)| {
                Box::pin(open_order::open_order(db, order, request))
            })
            .await?)
    }

    async fn claim(
        &self,
        lease: FencedLease,
        seats_per_customer_max: u8,
        at: Timestamp,
    ) -> Result<ClaimOutcome, LedgerError> {
        let given = (lease, seats_per_customer_max, at);
        Ok(self
            .db
            .write(given, |db, (lease, seats_per_customer_max, at)| {
                Box::pin(attempts::claim(db, lease, seats_per_customer_max, at))
            })
            .await?)
    }

    async fn lock_claims(&self, lease: FencedLease) -> Result<bool, LedgerError> {
        Ok(self
            .db
            .write(lease, |db, lease| Box::pin(attempts::lock_claims(db, lease)))
            .await?)
    }

    async fn await_payment(
        &self,
        lease: FencedLease,
        url: &str,
        until: Timestamp,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let given = (lease, url.to_owned(), until, at);
        Ok(self
            .db
            .write(given, |db, (lease, url, until, at)| {
                Box::pin(attempts::await_payment(db, lease, url, until, at))
            })
            .await?)
    }

    async fn book(
        &self,
        lease: FencedLease,
        tickets: Vec<NewTicket>,
        event: NewEvent,
        at: Timestamp,
    ) -> Result<bool, LedgerError> {
        let given = (lease, tickets, event, at);
        Ok(self
            .db
            .write(given, |db, (lease, tickets, event, at)| {
                Box::pin(attempts::book(db, lease, tickets, event, at))
            })
            .await?)
    }

    async fn record_capture(
        &self,
        lease: FencedLease,
        event: NewEvent,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        Ok(self
            .db
            .write((lease, event, at), |db, (lease, event, at)| {
                Box::pin(attempts::record_capture(db, lease, event, at))
            })
            .await?)
    }

    async fn record_delivery(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError> {
        Ok(self
            .db
            .write((lease, at), |db, (lease, at)| {
                Box::pin(attempts::record_delivery(db, lease, at))
            })
            .await?)
    }

    async fn void_tickets(
        &self,
        lease: FencedLease,
        events: Vec<NewEvent>,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        Ok(self
            .db
            .write((lease, events, at), |db, (lease, events, at)| {
                Box::pin(attempts::void_tickets(db, lease, events, at))
            })
            .await?)
    }

    async fn release_claims(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError> {
        Ok(self
            .db
            .write((lease, at), |db, (lease, at)| {
                Box::pin(attempts::release_claims(db, lease, at))
            })
            .await?)
    }

    async fn close_order(
        &self,
        lease: FencedLease,
        state: OrderState,
        event: Option<NewEvent>,
        payment_check_at: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let given = (lease, state, event, payment_check_at, at);
        let close = self
            .db
            .write(given, |db, (lease, state, event, payment_check_at, at)| {
                Box::pin(attempts::close_order(
                    db,
                    lease,
                    state,
                    event,
                    payment_check_at,
                    at,
                ))
            });
        Ok(close.await?)
    }

    async fn record_progress(&self, lease: FencedLease, progress: Progress) -> Result<(), LedgerError> {
        // Not repeated after an unknown outcome: the log entries would be written twice.
        Ok(self
            .db
            .write_once((lease, progress), |db, (lease, progress)| {
                Box::pin(leases::record_progress(db, lease, progress))
            })
            .await?)
    }

    async fn start_saga(
        &self,
        order: OrderId,
        start: SagaStart,
        request: LeaseRequest,
    ) -> Result<Option<LeasedSaga>, LedgerError> {
        let given = (order, start, request);
        // Not repeated after an unknown outcome: a second run would find the new state and report that
        // nothing started.
        let started = self.db.write_once(given, |db, (order, start, request)| {
            Box::pin(leases::start_saga(db, order, start, request))
        });
        Ok(started.await?)
    }

    async fn lease_due_sagas(
        &self,
        request: LeaseRequest,
        include_own: bool,
        limit: u32,
    ) -> Result<Vec<LeasedSaga>, LedgerError> {
        let db = if include_own { &self.bulk } else { &self.db };
        let given = (request, include_own, limit);
        Ok(db
            .write_once(given, |db, (request, include_own, limit)| {
                Box::pin(leases::lease_due_sagas(db, request, include_own, limit))
            })
            .await?)
    }

    async fn record_webhook(&self, gateway: &str, event: &str, at: Timestamp) -> Result<bool, LedgerError> {
        let given = (gateway.to_owned(), event.to_owned(), at);
        // Not repeated after an unknown outcome: a second run would report the webhook as known, and it would
        // be lost.
        Ok(self
            .db
            .write_once(given, |db, (gateway, event, at)| {
                Box::pin(inbox::record_webhook(db, gateway, event, at))
            })
            .await?)
    }

    async fn schedule_payment_check(
        &self,
        order: OrderId,
        payment_check_at: Option<Timestamp>,
    ) -> Result<(), LedgerError> {
        Ok(self
            .db
            .write((order, payment_check_at), |db, (order, payment_check_at)| {
                Box::pin(inbox::schedule_payment_check(db, order, payment_check_at))
            })
            .await?)
    }

    async fn seat_store_epoch(
        &self,
        performance_key: &PerformanceKey,
    ) -> Result<SeatStoreEpoch, LedgerError> {
        Ok(self
            .db
            .read(performance_key.clone(), |db, performance_key| {
                Box::pin(inbox::seat_store_epoch(db, performance_key))
            })
            .await?)
    }

    async fn advance_epoch(
        &self,
        performance_key: &PerformanceKey,
        seen: u64,
        identity: &str,
    ) -> Result<SeatStoreEpoch, LedgerError> {
        let given = (performance_key.clone(), seen, identity.to_owned());
        Ok(self
            .db
            .write(given, |db, (performance_key, seen, identity)| {
                Box::pin(inbox::advance_epoch(db, performance_key, seen, identity))
            })
            .await?)
    }

    async fn chain_journal(&self) -> Result<u64, LedgerError> {
        Ok(self.db.write((), |db, ()| Box::pin(journal::chain(db))).await?)
    }

    async fn order(&self, id: OrderId) -> Result<Option<Order>, LedgerError> {
        Ok(self.db.read(id, |db, id| Box::pin(reads::order(db, id))).await?)
    }

    async fn order_by_payment_key(&self, payment_key: &str) -> Result<Option<OrderId>, LedgerError> {
        Ok(self
            .db
            .read(payment_key.to_owned(), |db, key| {
                Box::pin(reads::order_by_payment_key(db, key))
            })
            .await?)
    }

    async fn idempotency_record(
        &self,
        buyer: &Subject,
        key: &str,
    ) -> Result<Option<IdempotencyRecord>, LedgerError> {
        Ok(self
            .db
            .read((buyer.clone(), key.to_owned()), |db, (buyer, key)| {
                Box::pin(reads::idempotency_record(db, buyer, key))
            })
            .await?)
    }

    async fn first_failure_at(&self, hold: HoldId) -> Result<Option<Timestamp>, LedgerError> {
        let db = &self.db;
        let read = db.read(hold, |db, hold| Box::pin(reads::first_failure_at(db, hold)));
        Ok(read.await?)
    }

    async fn orders_of(&self, sale: &SaleId, buyer: &Subject) -> Result<Vec<Order>, LedgerError> {
        Ok(self
            .db
            .read((sale.clone(), buyer.clone()), |db, (sale, buyer)| {
                Box::pin(reads::orders_of(db, sale, buyer))
            })
            .await?)
    }

    async fn saga_log(&self, id: OrderId) -> Result<Vec<SagaLogEntry>, LedgerError> {
        Ok(self
            .db
            .read(id, |db, id| Box::pin(reads::saga_log(db, id)))
            .await?)
    }

    async fn tickets(&self, id: OrderId) -> Result<Vec<TicketRow>, LedgerError> {
        Ok(self
            .db
            .read(id, |db, id| Box::pin(reads::tickets(db, id)))
            .await?)
    }

    async fn claims(
        &self,
        only: Option<(&PerformanceKey, &[String])>,
        keep_until: Timestamp,
    ) -> Result<Vec<ClaimedSeats>, LedgerError> {
        let Some((performance_key, seats)) = only else {
            return Ok(self
                .bulk
                .write(keep_until, |db, keep_until| {
                    Box::pin(reads::all_claims(db, keep_until))
                })
                .await?);
        };
        let given = (performance_key.clone(), seats.to_vec(), keep_until);
        Ok(self
            .db
            .read(given, |db, (performance_key, seats, keep_until)| {
                Box::pin(reads::claims(db, performance_key, seats, keep_until))
            })
            .await?)
    }

    async fn payments_to_check(&self, now: Timestamp, limit: u32) -> Result<Vec<OrderId>, LedgerError> {
        Ok(self
            .db
            .read((now, limit), |db, (now, limit)| {
                Box::pin(reads::payments_to_check(db, now, limit))
            })
            .await?)
    }

    async fn stuck_count(&self) -> Result<u64, LedgerError> {
        Ok(self
            .db
            .read((), |db, ()| Box::pin(reads::stuck_count(db)))
            .await?)
    }
}
