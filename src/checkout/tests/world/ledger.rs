//! A real ledger behind a crash point.

use std::sync::Arc;

use async_trait::async_trait;

use super::crash_point::CrashPoint;
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
};

macro_rules! crashing {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        #[async_trait]
        impl Ledger for CrashingLedger {
            fn owner(&self) -> String {
                self.0.owner()
            }
            $(async fn $name(&self, $($arg: $ty),*) -> Result<$out, LedgerError> {
                self.1.guard(self.0.$name($($arg),*)).await
            })*
        }
    };
}

pub(super) struct CrashingLedger(pub(super) Arc<dyn Ledger>, pub(super) Arc<CrashPoint>);

crashing! {
    fn open_order(order: NewOrder, request: LeaseRequest) -> OpenOutcome;
    fn claim(lease: FencedLease, seats_per_customer_max: u8, at: Timestamp) -> ClaimOutcome;
    fn lock_claims(lease: FencedLease) -> bool;
    fn await_payment(lease: FencedLease, url: &str, until: Timestamp, at: Timestamp) -> ();
    fn book(lease: FencedLease, tickets: Vec<NewTicket>, event: NewEvent, at: Timestamp) -> bool;
    fn record_capture(lease: FencedLease, event: NewEvent, at: Timestamp) -> ();
    fn record_delivery(lease: FencedLease, at: Timestamp) -> ();
    fn void_tickets(lease: FencedLease, events: Vec<NewEvent>, at: Timestamp) -> ();
    fn release_claims(lease: FencedLease, at: Timestamp) -> ();
    fn close_order(lease: FencedLease, state: OrderState, event: Option<NewEvent>,
                   payment_check_at: Option<Timestamp>, at: Timestamp) -> ();
    fn record_progress(lease: FencedLease, progress: Progress) -> ();
    fn start_saga(order: OrderId, start: SagaStart, request: LeaseRequest) -> Option<LeasedSaga>;
    fn lease_due_sagas(request: LeaseRequest, include_own: bool, limit: u32) -> Vec<LeasedSaga>;
    fn record_webhook(gateway: &str, event: &str, at: Timestamp) -> bool;
    fn schedule_payment_check(order: OrderId, payment_check_at: Option<Timestamp>) -> ();
    fn seat_store_epoch(performance_key: &PerformanceKey) -> SeatStoreEpoch;
    fn advance_epoch(performance_key: &PerformanceKey, seen: u64, identity: &str) -> SeatStoreEpoch;
    fn chain_journal() -> u64;
    fn order(id: OrderId) -> Option<Order>;
    fn order_by_payment_key(payment_key: &str) -> Option<OrderId>;
    fn idempotency_record(buyer: &Subject, key: &str) -> Option<IdempotencyRecord>;
    fn first_failure_at(hold: HoldId) -> Option<Timestamp>;
    fn orders_of(sale: &SaleId, buyer: &Subject) -> Vec<Order>;
    fn saga_log(id: OrderId) -> Vec<SagaLogEntry>;
    fn tickets(id: OrderId) -> Vec<TicketRow>;
    fn claims(only: Option<(&PerformanceKey, &[String])>, keep_until: Timestamp) -> Vec<ClaimedSeats>;
    fn payments_to_check(now: Timestamp, limit: u32) -> Vec<OrderId>;
    fn stuck_count() -> u64;
}
