//! What buyers and gateways ask of checkout, and how it ends.

use std::fmt;

use crate::checkout::order::OrderView;
use crate::kernel::{HoldId, SaleId, Subject, VisitId};

/// A request to buy the content of a hold.
#[derive(Clone)]
pub struct PlaceOrder {
    /// The sale.
    pub sale: SaleId,
    /// The buyer.
    pub buyer: Subject,
    /// The buyer's visit.
    pub visit: VisitId,
    /// The hold to buy.
    pub hold: HoldId,
    /// Token of the card that pays; not needed for free seats. Never logged, never stored.
    pub token: Option<String>,
    /// Idempotency key of the request, unique per buyer.
    pub idempotency_key: String,
}

impl fmt::Debug for PlaceOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaceOrder")
            .field("sale", &self.sale)
            .finish_non_exhaustive()
    }
}

/// Outcome of placing an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceOutcome {
    /// The order is paid. Its state is `canceled` if it was canceled later, before the request was repeated.
    Paid(OrderView),
    /// The buyer has to visit the gateway's page.
    AwaitingPayment(OrderView),
    /// No decision within the response time; the order continues.
    InProgress(OrderView),
    /// No money was taken, or it has been returned.
    Declined {
        /// The order.
        order: OrderView,
        /// Code of the reason, for instance `declined:insufficient_funds`.
        reason: String,
        /// Whether the time for other cards is over, so that the seats are free again.
        is_hold_over: bool,
    },
    /// The hold has expired, or another order owns a seat.
    HoldGone {
        /// Up to three groups of seats, as good as those in the hold, that are free.
        alternatives: Vec<Vec<String>>,
    },
    /// The seats are not free, and the request has no card.
    PaymentRequired,
    /// The doors of the performance are open: nothing is sold any more.
    DoorsOpen,
    /// The idempotency key was used with another request.
    KeyReused,
    /// The buyer would own more seats than the sale allows.
    QuotaReached {
        /// Seats that one customer may own in the sale.
        limit: u8,
    },
}

/// An operator's cancellation of an order.
#[derive(Clone, PartialEq, Eq)]
pub struct OperatorCancellation {
    /// The operator's name.
    pub operator: String,
    /// Why the operator cancels it. The order journal keeps it; buyers never see it.
    pub reason: String,
}

impl fmt::Debug for OperatorCancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorCancellation")
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}

/// Outcome of canceling an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// Money and seats were returned.
    Canceled(OrderView),
    /// Money and seats are being returned.
    InProgress(OrderView),
    /// The order is neither paid nor awaiting payment, or no longer; or its payment succeeded first.
    NotCancelable(OrderView),
    /// The doors of the performance are open: its buyer cannot cancel any more.
    DoorsOpen(OrderView),
    /// The buyer, or the sale, has no such order.
    NotFound,
}

impl CancelOutcome {
    /// Name in logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Canceled(_) => "canceled",
            Self::InProgress(_) => "in_progress",
            Self::NotCancelable(_) => "not_cancelable",
            Self::DoorsOpen(_) => "doors_open",
            Self::NotFound => "not_found",
        }
    }
}

/// Outcome of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookOutcome {
    /// Recorded; checkout reads the payment back.
    Accepted,
    /// Received before, or about a payment that no order has.
    Ignored,
    /// From another gateway, or not signed by it.
    Refused,
}
