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
    Claimed, EngineMemory, KeyUse, Lease, LeasedSaga, Ledger, LedgerError, LogEntry, NewEvent, NewOrder,
    NewTicket, Opened, OutboxRow, Position, Progress, Right, TicketRow,
};
use crate::{
    checkout::{
        order::{Order, OrderState, Reason},
        seats::{ClaimedSeats, Show},
    },
    kernel::{Entropy, OrderId, SaleId, Subject, Timestamp},
    platform::sql::{self, Database, Trouble},
};

static MIGRATIONS: Migrator = sqlx::migrate!("src/checkout/ledger/postgres/migrations");

/// Connections of one node.
pub const CONNECTIONS: u32 = 16;
/// After this long a call is answered that the ledger is not available; the server gives up its part as well.
const DEADLINE: Duration = Duration::from_secs(3);
/// For what is read once, before the house opens: all live claims.
const BULK_DEADLINE: Duration = Duration::from_mins(1);

/// How a transaction's parts answer.
type Work<T> = Result<T, Trouble<LedgerError>>;

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

impl From<LedgerError> for Trouble<LedgerError> {
    fn from(error: LedgerError) -> Self {
        Self::Refused(error)
    }
}

impl From<Trouble<Self>> for LedgerError {
    fn from(trouble: Trouble<Self>) -> Self {
        match trouble {
            Trouble::Refused(error) => error,
            Trouble::Sql(error) => error.into(),
        }
    }
}

/// Refuses whoever is not the latest to have leased the order, and keeps the order for this transaction: nobody leases
/// it before the transaction's end.
async fn check(db: &mut PgConnection, right: Right) -> Work<()> {
    let held = sqlx::query("SELECT 1 FROM saga WHERE order_id = $1 AND fence = $2 FOR NO KEY UPDATE")
        .bind(right.order.to_string())
        .bind(right.fence)
        .fetch_optional(db)
        .await?;
    Ok(held.map(|_| ()).ok_or(LedgerError::Lost)?)
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

    async fn open_order(&self, order: NewOrder, lease: Lease) -> Result<Opened, LedgerError> {
        Ok(self
            .db
            .write((order, lease), |db, (order, lease)| {
                Box::pin(open_order::open_order(db, order, lease))
            })
            .await?)
    }

    async fn claim(&self, right: Right, seats_per_fan: u8, at: Timestamp) -> Result<Claimed, LedgerError> {
        let given = (right, seats_per_fan, at);
        Ok(self
            .db
            .write(given, |db, (right, seats_per_fan, at)| {
                Box::pin(attempts::claim(db, right, seats_per_fan, at))
            })
            .await?)
    }

    async fn pin(&self, right: Right) -> Result<bool, LedgerError> {
        Ok(self
            .db
            .write(right, |db, right| Box::pin(attempts::pin(db, right)))
            .await?)
    }

    async fn await_payment(
        &self,
        right: Right,
        url: &str,
        until: Timestamp,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let given = (right, url.to_owned(), until, at);
        Ok(self
            .db
            .write(given, |db, (right, url, until, at)| {
                Box::pin(attempts::await_payment(db, right, url, until, at))
            })
            .await?)
    }

    async fn book(
        &self,
        right: Right,
        tickets: Vec<NewTicket>,
        event: NewEvent,
        at: Timestamp,
    ) -> Result<bool, LedgerError> {
        let given = (right, tickets, event, at);
        Ok(self
            .db
            .write(given, |db, (right, tickets, event, at)| {
                Box::pin(attempts::book(db, right, tickets, event, at))
            })
            .await?)
    }

    async fn captured(&self, right: Right, at: Timestamp) -> Result<(), LedgerError> {
        Ok(self
            .db
            .write((right, at), |db, (right, at)| {
                Box::pin(attempts::captured(db, right, at))
            })
            .await?)
    }

    async fn delivered(&self, right: Right, at: Timestamp) -> Result<(), LedgerError> {
        Ok(self
            .db
            .write((right, at), |db, (right, at)| {
                Box::pin(attempts::delivered(db, right, at))
            })
            .await?)
    }

    async fn withdraw(&self, right: Right, at: Timestamp) -> Result<(), LedgerError> {
        Ok(self
            .db
            .write((right, at), |db, (right, at)| {
                Box::pin(attempts::withdraw(db, right, at))
            })
            .await?)
    }

    async fn drop_claims(&self, right: Right, at: Timestamp) -> Result<(), LedgerError> {
        Ok(self
            .db
            .write((right, at), |db, (right, at)| {
                Box::pin(attempts::drop_claims(db, right, at))
            })
            .await?)
    }

    async fn close(
        &self,
        right: Right,
        state: OrderState,
        event: Option<NewEvent>,
        check_at: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<(), LedgerError> {
        let given = (right, state, event, check_at, at);
        let close = self.db.write(given, |db, (right, state, event, check_at, at)| {
            Box::pin(attempts::close(db, right, state, event, check_at, at))
        });
        Ok(close.await?)
    }

    async fn record(&self, right: Right, progress: Progress) -> Result<(), LedgerError> {
        // Written twice, its lines would stand in the order's story twice.
        Ok(self
            .db
            .write_once((right, progress), |db, (right, progress)| {
                Box::pin(leases::record(db, right, progress))
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
        lease: Lease,
    ) -> Result<Option<LeasedSaga>, LedgerError> {
        let given = (order, from, to, reason, position, lease);
        // A second run would find the order in its new state and answer that there was nothing to start.
        let start = self
            .db
            .write_once(given, |db, (order, from, to, reason, position, lease)| {
                Box::pin(leases::start_saga(db, order, from, to, reason, position, lease))
            });
        Ok(start.await?)
    }

    async fn lease_due(
        &self,
        lease: Lease,
        own_too: bool,
        limit: u32,
    ) -> Result<Vec<LeasedSaga>, LedgerError> {
        let db = if own_too { &self.bulk } else { &self.db };
        let given = (lease, own_too, limit);
        Ok(db
            .write_once(given, |db, (lease, own_too, limit)| {
                Box::pin(leases::lease_due(db, lease, own_too, limit))
            })
            .await?)
    }

    async fn take_in(&self, gateway: &str, event: &str, at: Timestamp) -> Result<bool, LedgerError> {
        let given = (gateway.to_owned(), event.to_owned(), at);
        // A second run would call the message known, and nobody would look at it.
        Ok(self
            .db
            .write_once(given, |db, (gateway, event, at)| {
                Box::pin(inbox::take_in(db, gateway, event, at))
            })
            .await?)
    }

    async fn event_delivered(&self, order: OrderId, sequence: i64, at: Timestamp) -> Result<(), LedgerError> {
        let given = (order, sequence, at);
        Ok(self
            .db
            .write(given, |db, (order, sequence, at)| {
                Box::pin(inbox::event_delivered(db, order, sequence, at))
            })
            .await?)
    }

    async fn check_again(&self, order: OrderId, check_at: Option<Timestamp>) -> Result<(), LedgerError> {
        Ok(self
            .db
            .write((order, check_at), |db, (order, check_at)| {
                Box::pin(inbox::check_again(db, order, check_at))
            })
            .await?)
    }

    async fn engine_memory(&self, show: &Show) -> Result<EngineMemory, LedgerError> {
        Ok(self
            .db
            .read(show.clone(), |db, show| Box::pin(inbox::engine_memory(db, show)))
            .await?)
    }

    async fn raise_epoch(&self, show: &Show, seen: u64, identity: &str) -> Result<EngineMemory, LedgerError> {
        let given = (show.clone(), seen, identity.to_owned());
        Ok(self
            .db
            .write(given, |db, (show, seen, identity)| {
                Box::pin(inbox::raise_epoch(db, show, seen, identity))
            })
            .await?)
    }

    async fn link_audit(&self) -> Result<u64, LedgerError> {
        Ok(self.db.write((), |db, ()| Box::pin(audit::link(db))).await?)
    }

    async fn order(&self, id: OrderId) -> Result<Option<Order>, LedgerError> {
        Ok(self.db.read(id, |db, id| Box::pin(reads::order(db, id))).await?)
    }

    async fn order_by_payment(&self, payment_key: &str) -> Result<Option<OrderId>, LedgerError> {
        Ok(self
            .db
            .read(payment_key.to_owned(), |db, key| {
                Box::pin(reads::order_by_payment(db, key))
            })
            .await?)
    }

    async fn key_use(&self, buyer: &Subject, key: &str) -> Result<Option<KeyUse>, LedgerError> {
        Ok(self
            .db
            .read((buyer.clone(), key.to_owned()), |db, (buyer, key)| {
                Box::pin(reads::key_use(db, buyer, key))
            })
            .await?)
    }

    async fn orders_of(&self, sale: &SaleId, buyer: &Subject) -> Result<Vec<Order>, LedgerError> {
        Ok(self
            .db
            .read((sale.clone(), buyer.clone()), |db, (sale, buyer)| {
                Box::pin(reads::orders_of(db, sale, buyer))
            })
            .await?)
    }

    async fn log(&self, id: OrderId) -> Result<Vec<LogEntry>, LedgerError> {
        Ok(self.db.read(id, |db, id| Box::pin(reads::log(db, id))).await?)
    }

    async fn tickets(&self, id: OrderId) -> Result<Vec<TicketRow>, LedgerError> {
        Ok(self
            .db
            .read(id, |db, id| Box::pin(reads::tickets(db, id)))
            .await?)
    }

    async fn claims(
        &self,
        only: Option<(&Show, &[String])>,
        keep_until: Timestamp,
    ) -> Result<Vec<ClaimedSeats>, LedgerError> {
        let Some((show, seats)) = only else {
            return Ok(self
                .bulk
                .write(keep_until, |db, keep_until| {
                    Box::pin(reads::all_claims(db, keep_until))
                })
                .await?);
        };
        let given = (show.clone(), seats.to_vec(), keep_until);
        Ok(self
            .db
            .read(given, |db, (show, seats, keep_until)| {
                Box::pin(reads::claims(db, show, seats, keep_until))
            })
            .await?)
    }

    async fn undelivered(&self, id: OrderId) -> Result<Vec<OutboxRow>, LedgerError> {
        Ok(self
            .db
            .read(id, |db, id| Box::pin(reads::undelivered(db, id)))
            .await?)
    }

    async fn to_check(&self, now: Timestamp, limit: u32) -> Result<Vec<OrderId>, LedgerError> {
        Ok(self
            .db
            .read((now, limit), |db, (now, limit)| {
                Box::pin(reads::to_check(db, now, limit))
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
