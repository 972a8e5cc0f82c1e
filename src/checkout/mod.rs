//! Checkout: turns a hold into tickets, or leaves nothing behind.
//!
//! An order is a saga (`saga`): a table of steps, each of which is recorded before it runs and may run
//! twice. One row of the ledger ([`ledger`]) decides who owns a seat, whatever the seat store ([`seats`])
//! says. The payment gateway ([`payment`]) decides whether money moved; checkout asks it by key until it
//! answers.
//!
//! Invariants: a seat has at most one live claim; captured money means tickets or a refund; once faults stop,
//! every order ends.

mod context;
mod errors;
pub mod gateways;
mod history;
pub mod ledger;
mod order;
mod order_limiter;
mod outbox;
mod outcomes;
pub mod payment;
mod placement;
pub(crate) mod saga;
pub mod seats;
mod service;
#[cfg(test)]
mod tests;
mod tickets;
mod types;
pub mod webhooks;

pub use self::{
    errors::{CheckoutError, OpenError},
    order::{HistoryEntry, OrderState, OrderView, PaymentAction},
    outbox::{
        event::{
            CloudEvent, EVENT_TYPES, OrderEvent, SaleEvent, SaleMilestone, TestEvent, TicketEvent,
            VisitorEvent,
        },
        port::{DeadLetter, EventId, OutboxCounts, ReplayRange},
        receiver::{InvalidReceiver, WebhookReceiver, receiver_url, webhook_secret},
        service::{EventDelivery, Events, FeedPage},
    },
    outcomes::{CancelOutcome, OperatorCancellation, PlaceOrder, PlaceOutcome, WebhookOutcome},
    service::{Checkout, Deps, LedgerLocation},
    tickets::{Ticket, TicketClaims, qr_png, qr_svg, verify_ticket},
    types::{ClaimedSeats, Config, HeldSeats, PerformanceKey, SaleConfig, SeatInfo},
};
