//! The ledger of many nodes, on PostgreSQL.
//!
//! Who is right is decided by unique rows and by changes of single rows under their own conditions, at READ COMMITTED;
//! no isolation level is relied on. Locks are taken in one order: the order's saga row, its seats by their names, the
//! buyer's quota; so two orders that want the same seats wait for each other and never in a circle.

mod attempts;
mod audit;
mod inbox;
mod leases;
mod open_order;
mod reads;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::{PgConnection, migrate::Migrator};

use super::{
    ClaimOutcome, SeatStoreEpoch, IdempotencyRecord, LeaseRequest, LeasedSaga, Ledger, LedgerError, SagaLogEntry, NewEvent, NewOrder,
    NewTicket, OpenOutcome, OutboxRow, Position, Progress, FencedLease, TicketRow,
};
use crate::{
    checkout::{
        order::{Order, OrderState, Reason},
        seats::{ClaimedSeats, PerformanceKey},
    },
    kernel::{Entropy, OrderId, SaleId, Subject, Timestamp},
    platform::sql::{self, Database, TransactionError},
};

static MIGRATIONS: Migrator = sqlx::migrate!("src/checkout/ledger/postgres/migrations");

/// Connections of one node.
pub const CONNECTIONS: u32 = 16;
/// After this long a call is answered that the ledger is not available; the server gives up its part as well.
const DEADLINE: Duration = Duration::from_secs(3);
/// For what is read once, before the house opens: all live claims.
const BULK_DEADLINE: Duration = Duration::from_mins(1);

/// How a transaction's parts answer.
type Work<T> = Result<T, TransactionError<LedgerError>>;

/// Schema `stagedoor_ledger` of a database that the nodes share.
pub struct PostgresLedger {
    node: String,
    db: Database,
    bulk: Database,
}

impl PostgresLedger {
    /// Opens it for the node of this name, making or migrating its tables when needed.
    ///
    /// # Errors
    /// [`sql::OpenError`], which holds no password.
    pub async fn open(url: &str, node: &str, entropy: Arc<dyn Entropy>) -> Result<Self, sql::OpenError> {
        let pool = sql::open_postgres(url, "ledger", &MIGRATIONS, CONNECTIONS).await?;
        let bulk = Database::new(pool.clone(), BULK_DEADLINE, Arc::clone(&entropy));
        Ok(Self {
            node: node.to_owned(),
            db: Database::new(pool, DEADLINE, entropy),
            bulk,
        })
    }
}

impl From<LedgerError> for TransactionError<LedgerError> {
    fn from(error: LedgerError) -> Self {
        Self::Rejected(error)
    }
}

impl From<TransactionError<Self>> for LedgerError {
    fn from(trouble: TransactionError<Self>) -> Self {
        match trouble {
            TransactionError::Rejected(error) => error,
            TransactionError::Sql(error) => error.into(),
        }
    }
}

/// Refuses whoever is not the latest to have leased the order, and keeps the order for this transaction: nobody leases
/// it before the transaction's end.
async fn check(db: &mut PgConnection, lease: FencedLease) -> Work<()> {
    let held = sqlx::query("SELECT 1 FROM saga WHERE order_id = $1 AND fence = $2 FOR NO KEY UPDATE")
        .bind(lease.order.to_string())
        .bind(lease.fence)
        .fetch_optional(db)
        .await?;
    Ok(held.map(|_| ()).ok_or(LedgerError::LeaseLost)?)
}

/// Appends to the order's outbox, whose saga row is locked.
async fn put_event(db: &mut PgConnection, order: &str, event: &NewEvent, at: Timestamp) -> Work<()> {
    sqlx::query(
        "INSERT INTO outbox (order_id, sequence, kind, data, at)
         SELECT $1, COALESCE(MAX(sequence), 0) + 1, $2, $3, $4 FROM outbox WHERE order_id = $1",
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
impl Ledger for PostgresLedger {
    fn owner(&self) -> String {
        self.node.clone()
    }

    async fn open_order(&self, order: NewOrder, lease_request: LeaseRequest) -> Result<OpenOutcome, LedgerError> {
        Ok(self
            .db
            .write((order, lease_request), |db, (order, lease_request)| {
                Box::lock_claims(open_order::open_order(db, order, lease_request))
            })
            .await?)
    }

    async fn claim(&self, lease: FencedLease, seats_per_fan: u8, at: Timestamp) -> Result<ClaimOutcome, LedgerError> {
        let given = (lease, seats_per_fan, at);
        Ok(self
            .db
            .write(given, |db, (lease, seats_per_fan, at)| {
                Box::lock_claims(attempts::claim(db, lease, seats_per_fan, at))
            })
            .await?)
    }

    async fn lock_claims(&self, lease: FencedLease) -> Result<bool, LedgerError> {
        Ok(self
            .db
            .write(lease, |db, lease| Box::lock_claims(attempts::lock_claims(db, lease)))
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
                Box::lock_claims(attempts::await_payment(db, lease, url, until, at))
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
                Box::lock_claims(attempts::book(db, lease, tickets, event, at))
            })
            .await?)
    }

    async fn record_capture(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError> {
        Ok(self
            .db
            .write((lease, at), |db, (lease, at)| {
                Box::lock_claims(attempts::record_capture(db, lease, at))
            })
            .await?)
    }

    async fn record_delivery(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError> {
        Ok(self
            .db
            .write((lease, at), |db, (lease, at)| {
                Box::lock_claims(attempts::record_delivery(db, lease, at))
            })
            .await?)
    }

    async fn void_tickets(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError> {
        Ok(self
            .db
            .write((lease, at), |db, (lease, at)| {
                Box::lock_claims(attempts::void_tickets(db, lease, at))
            })
            .await?)
    }

    async fn release_claims(&self, lease: FencedLease, at: Timestamp) -> Result<(), LedgerError> {
        Ok(self
            .db
            .write((lease, at), |db, (lease, at)| {
                Box::lock_claims(attempts::release_claims(db, lease, at))
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
        let close = self.db.write(given, |db, (lease, state, event, payment_check_at, at)| {
            Box::lock_claims(attempts::close_order(db, lease, state, event, payment_check_at, at))
        });
        Ok(close.await?)
    }

    async fn record_progress(&self, lease: FencedLease, progress: Progress) -> Result<(), LedgerError> {
        // Written twice, its lines would stand in the order's story twice.
        Ok(self
            .db
            .write_once((lease, progress), |db, (lease, progress)| {
                Box::lock_claims(leases::record_progress(db, lease, progress))
            })
            .await?)
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
        let given = (order, from, to, reason, position, lease_request);
        // A second run would find the order in its new state and answer that there was nothing to start.
        let start = self
            .db
            .write_once(given, |db, (order, from, to, reason, position, lease_request)| {
                Box::lock_claims(leases::start_saga(db, order, from, to, reason, position, lease_request))
            });
        Ok(start.await?)
    }

    async fn lease_due_sagas(
        &self,
        lease_request: LeaseRequest,
        include_own: bool,
        limit: u32,
    ) -> Result<Vec<LeasedSaga>, LedgerError> {
        let db = if include_own { &self.bulk } else { &self.db };
        let given = (lease_request, include_own, limit);
        Ok(db
            .write_once(given, |db, (lease_request, include_own, limit)| {
                Box::lock_claims(leases::lease_due_sagas(db, lease_request, include_own, limit))
            })
            .await?)
    }

    async fn record_webhook(&self, gateway: &str, event: &str, at: Timestamp) -> Result<bool, LedgerError> {
        let given = (gateway.to_owned(), event.to_owned(), at);
        // A second run would call the message known, and nobody would look at it.
        Ok(self
            .db
            .write_once(given, |db, (gateway, event, at)| {
                Box::lock_claims(inbox::record_webhook(db, gateway, event, at))
            })
            .await?)
    }

    async fn record_event_delivery(&self, order: OrderId, sequence: i64, at: Timestamp) -> Result<(), LedgerError> {
        let given = (order, sequence, at);
        Ok(self
            .db
            .write(given, |db, (order, sequence, at)| {
                Box::lock_claims(inbox::record_event_delivery(db, order, sequence, at))
            })
            .await?)
    }

    async fn schedule_payment_check(&self, order: OrderId, payment_check_at: Option<Timestamp>) -> Result<(), LedgerError> {
        Ok(self
            .db
            .write((order, payment_check_at), |db, (order, payment_check_at)| {
                Box::lock_claims(inbox::schedule_payment_check(db, order, payment_check_at))
            })
            .await?)
    }

    async fn seat_store_epoch(&self, performance_key: &PerformanceKey) -> Result<SeatStoreEpoch, LedgerError> {
        Ok(self
            .db
            .read(performance_key.clone(), |db, performance_key| Box::lock_claims(inbox::seat_store_epoch(db, performance_key)))
            .await?)
    }

    async fn advance_epoch(&self, performance_key: &PerformanceKey, seen: u64, identity: &str) -> Result<SeatStoreEpoch, LedgerError> {
        let given = (performance_key.clone(), seen, identity.to_owned());
        Ok(self
            .db
            .write(given, |db, (performance_key, seen, identity)| {
                Box::lock_claims(inbox::advance_epoch(db, performance_key, seen, identity))
            })
            .await?)
    }

    async fn chain_journal(&self) -> Result<u64, LedgerError> {
        Ok(self.db.write((), |db, ()| Box::lock_claims(audit::link(db))).await?)
    }

    async fn order(&self, id: OrderId) -> Result<Option<Order>, LedgerError> {
        Ok(self.db.read(id, |db, id| Box::lock_claims(reads::order(db, id))).await?)
    }

    async fn order_by_payment_key(&self, payment_key: &str) -> Result<Option<OrderId>, LedgerError> {
        Ok(self
            .db
            .read(payment_key.to_owned(), |db, key| {
                Box::lock_claims(reads::order_by_payment_key(db, key))
            })
            .await?)
    }

    async fn idempotency_record(&self, buyer: &Subject, key: &str) -> Result<Option<IdempotencyRecord>, LedgerError> {
        Ok(self
            .db
            .read((buyer.clone(), key.to_owned()), |db, (buyer, key)| {
                Box::lock_claims(reads::idempotency_record(db, buyer, key))
            })
            .await?)
    }

    async fn orders_of(&self, sale: &SaleId, buyer: &Subject) -> Result<Vec<Order>, LedgerError> {
        Ok(self
            .db
            .read((sale.clone(), buyer.clone()), |db, (sale, buyer)| {
                Box::lock_claims(reads::orders_of(db, sale, buyer))
            })
            .await?)
    }

    async fn log(&self, id: OrderId) -> Result<Vec<SagaLogEntry>, LedgerError> {
        Ok(self.db.read(id, |db, id| Box::lock_claims(reads::saga_log(db, id))).await?)
    }

    async fn tickets(&self, id: OrderId) -> Result<Vec<TicketRow>, LedgerError> {
        Ok(self
            .db
            .read(id, |db, id| Box::lock_claims(reads::tickets(db, id)))
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
                    Box::lock_claims(reads::all_claims(db, keep_until))
                })
                .await?);
        };
        let given = (performance_key.clone(), seats.to_vec(), keep_until);
        Ok(self
            .db
            .read(given, |db, (performance_key, seats, keep_until)| {
                Box::lock_claims(reads::claims(db, performance_key, seats, keep_until))
            })
            .await?)
    }

    async fn undelivered_events(&self, id: OrderId) -> Result<Vec<OutboxRow>, LedgerError> {
        Ok(self
            .db
            .read(id, |db, id| Box::lock_claims(reads::undelivered_events(db, id)))
            .await?)
    }

    async fn payments_to_check(&self, now: Timestamp, limit: u32) -> Result<Vec<OrderId>, LedgerError> {
        Ok(self
            .db
            .read((now, limit), |db, (now, limit)| {
                Box::lock_claims(reads::payments_to_check(db, now, limit))
            })
            .await?)
    }

    async fn stuck_count(&self) -> Result<u64, LedgerError> {
        Ok(self
            .db
            .read((), |db, ()| Box::lock_claims(reads::stuck_count(db)))
            .await?)
    }
}
