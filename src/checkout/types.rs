//! Words that all parts of checkout share: configuration, seats by their ids, and what a buyer holds.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::kernel::{HoldId, Money, PerformanceId, SaleId, Subject, Timestamp, VisitId};

/// Configuration of checkout.
#[derive(Clone, Debug)]
pub struct Config {
    /// The sales whose orders may be placed.
    pub sales: Vec<SaleConfig>,
    /// Issuer claim of tickets: the public base URL.
    pub issuer: String,
    /// How long a request waits for its saga before it answers "in progress".
    pub order_response_wait: Duration,
    /// Timeout of one call to the payment gateway.
    pub gateway_timeout: Duration,
    /// How long the outcome of an authorization may stay unknown before the payment is voided.
    pub payment_timeout: Duration,
    /// How long a buyer whom the gateway asks to visit its page has to come back with an outcome, or to
    /// choose another card. Then the order is canceled and its seats are free.
    pub payment_page_timeout: Duration,
}

/// What checkout must know about one sale.
#[derive(Clone, Debug)]
pub struct SaleConfig {
    /// The sale's id.
    pub sale: SaleId,
    /// The sale's title, which the gateway prints on the buyer's statement.
    pub title: String,
    /// How many seats one customer may own over all performances of the sale.
    pub seats_per_customer_max: u8,
    /// From when on nothing of a performance is sold or canceled by its buyer.
    pub doors_open_at: BTreeMap<PerformanceId, Timestamp>,
}

/// Names one performance of one sale.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PerformanceKey {
    /// The sale.
    pub sale: SaleId,
    /// The performance within the sale.
    pub performance: PerformanceId,
}

/// A seat as it is sold: its labels in the venue and its price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SeatInfo {
    /// The seat's id in the seating plan.
    pub guid: String,
    /// Price zone.
    pub zone: String,
    /// Section label.
    pub section: String,
    /// Row label.
    pub row: String,
    /// Seat number within the row.
    pub number: String,
    /// Price at the time of the order.
    pub price: Money,
}

/// The content of one hold, priced.
#[derive(Clone, Debug)]
pub struct HeldSeats {
    /// The performance to which the seats belong.
    pub performance_key: PerformanceKey,
    /// The held seats.
    pub seats: Vec<SeatInfo>,
    /// Sum of their prices.
    pub total: Money,
}

/// The claim of one order in the ledger, which the seat store must know before it serves anyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedSeats {
    /// The performance to which the seats belong.
    pub performance_key: PerformanceKey,
    /// The hold from which the order was placed.
    pub hold: HoldId,
    /// The buyer.
    pub buyer: Subject,
    /// The visit in which the order was placed.
    pub visit: VisitId,
    /// Seat ids of the plan.
    pub seats: Vec<String>,
    /// True once the seats are sold, false while they are being paid for.
    pub booked: bool,
    /// Earliest time at which a claim that is not booked may end.
    pub until: Timestamp,
}

/// Counts of a sale's orders since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckoutStats {
    /// Orders that run in this process now.
    pub in_progress: u64,
    /// Orders opened.
    pub opened: u64,
    /// Orders paid.
    pub paid: u64,
    /// Orders that ended without tickets, for whatever reason.
    pub unpaid: u64,
    /// Paid orders whose money was returned.
    pub refunded: u64,
    /// Payments that arrived after their order was closed.
    pub late_money: u64,
}
