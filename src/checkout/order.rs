//! The order and its states, and the views that buyers see.

use std::fmt;

use serde::Serialize;

use crate::checkout::types::{PerformanceKey, SeatInfo};
use crate::kernel::{HoldId, Money, OrderId, PerformanceId, SaleId, Subject, Timestamp, VisitId};

/// State of an order, as its buyer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// A saga is running; no decision yet.
    InProgress,
    /// The buyer is on the gateway's page.
    AwaitingPayment,
    /// The money was captured and the tickets are issued.
    Paid,
    /// No money moved; the seats are held again for a while.
    Declined,
    /// The seats were gone before any money moved.
    Expired,
    /// The money is being returned, or a payment that the buyer or an operator canceled is being voided.
    Refunding,
    /// The service returned the money, because it could not deliver the seats.
    Refunded,
    /// The buyer or an operator canceled, or the buyer did not come back from the gateway's page in time.
    /// Money, if any moved, and seats were returned.
    Canceled,
    /// The order takes far longer than it should. It is still retried, and an operator should look at it.
    Stuck,
}

const NAMES: [(OrderState, &str); 9] = [
    (OrderState::InProgress, "in_progress"),
    (OrderState::AwaitingPayment, "awaiting_payment"),
    (OrderState::Paid, "paid"),
    (OrderState::Declined, "declined"),
    (OrderState::Expired, "expired"),
    (OrderState::Refunding, "refunding"),
    (OrderState::Refunded, "refunded"),
    (OrderState::Canceled, "canceled"),
    (OrderState::Stuck, "stuck"),
];

impl OrderState {
    /// The stored name, which is also the name in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        NAMES
            .iter()
            .find(|(state, _)| *state == self)
            .map_or("stuck", |(_, name)| name)
    }

    /// Parses a stored name. `None` if it is unknown.
    #[must_use]
    pub fn from_stored(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(state, _)| *state)
    }

    /// Whether the order ended without tickets.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Declined | Self::Expired | Self::Refunded | Self::Canceled
        )
    }
}

/// Why an order did not become tickets. Stored and displayed as the code that `to_string` gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The hold had expired, or its seats were exchanged in the meantime.
    HoldGone,
    /// Another order owns at least one of the seats in the ledger.
    SeatsTaken,
    /// The buyer would own more seats than the sale allows.
    QuotaReached,
    /// The gateway declined the payment, with its reason.
    Declined(String),
    /// The process died before the card reached the gateway.
    Interrupted,
    /// The gateway did not answer in time.
    TimedOut,
    /// The gateway refused to capture the money that it had authorized, with its reason.
    CaptureRefused(String),
    /// The money arrived after the order was closed, and the seats were sold to another order.
    LateMoney,
    /// The buyer canceled the paid order.
    CanceledByBuyer,
    /// An operator canceled the paid order.
    CanceledByOperator,
    /// The buyer canceled while the payment waited at the gateway's page.
    CanceledBeforePayment,
    /// An operator canceled while the payment waited at the gateway's page.
    CanceledByOperatorBeforePayment,
    /// The buyer did not come back from the gateway's page in time.
    PaymentPageTimedOut,
    /// The buyer left the gateway's page and pays for the same hold in another way.
    Replaced,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HoldGone => f.write_str("hold_gone"),
            Self::SeatsTaken => f.write_str("seats_taken"),
            Self::QuotaReached => f.write_str("quota_reached"),
            Self::Declined(why) => write!(f, "declined:{why}"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::TimedOut => f.write_str("timed_out"),
            Self::CaptureRefused(why) => write!(f, "capture_refused:{why}"),
            Self::LateMoney => f.write_str("late_money"),
            Self::CanceledByBuyer => f.write_str("canceled_by_buyer"),
            Self::CanceledByOperator => f.write_str("canceled_by_operator"),
            Self::CanceledBeforePayment => f.write_str("canceled_before_payment"),
            Self::CanceledByOperatorBeforePayment => f.write_str("canceled_by_operator_before_payment"),
            Self::PaymentPageTimedOut => f.write_str("payment_page_timed_out"),
            Self::Replaced => f.write_str("replaced"),
        }
    }
}

impl Reason {
    /// Parses a stored reason. `None` if it is unknown.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        Some(match text.split_once(':').unwrap_or((text, "")) {
            ("hold_gone", _) => Self::HoldGone,
            ("seats_taken", _) => Self::SeatsTaken,
            ("quota_reached", _) => Self::QuotaReached,
            ("declined", why) => Self::Declined(why.into()),
            ("interrupted", _) => Self::Interrupted,
            ("timed_out", _) => Self::TimedOut,
            ("capture_refused", why) => Self::CaptureRefused(why.into()),
            ("late_money", _) => Self::LateMoney,
            ("canceled_by_buyer", _) => Self::CanceledByBuyer,
            ("canceled_by_operator", _) => Self::CanceledByOperator,
            ("canceled_before_payment", _) => Self::CanceledBeforePayment,
            ("canceled_by_operator_before_payment", _) => Self::CanceledByOperatorBeforePayment,
            ("payment_page_timed_out", _) => Self::PaymentPageTimedOut,
            ("replaced", _) => Self::Replaced,
            _ => return None,
        })
    }

    /// The final state of an order that is undone for this reason.
    #[must_use]
    pub fn final_state(&self) -> OrderState {
        match self {
            Self::HoldGone | Self::SeatsTaken | Self::QuotaReached => OrderState::Expired,
            Self::Declined(_) | Self::Interrupted | Self::TimedOut => OrderState::Declined,
            Self::CaptureRefused(_) | Self::LateMoney => OrderState::Refunded,
            Self::CanceledByBuyer
            | Self::CanceledByOperator
            | Self::CanceledBeforePayment
            | Self::CanceledByOperatorBeforePayment
            | Self::PaymentPageTimedOut
            | Self::Replaced => OrderState::Canceled,
        }
    }

    /// Whether an order that is undone for this reason was never paid.
    #[must_use]
    pub fn is_unpaid(&self) -> bool {
        !matches!(
            self,
            Self::CaptureRefused(_) | Self::LateMoney | Self::CanceledByBuyer | Self::CanceledByOperator
        )
    }
}

/// An order as it stands in the ledger.
#[derive(Clone, Debug)]
pub struct Order {
    /// Id of the order.
    pub id: OrderId,
    /// The performance to which the seats belong.
    pub performance_key: PerformanceKey,
    /// The buyer.
    pub buyer: Subject,
    /// The visit in which the order was placed.
    pub visit: VisitId,
    /// The hold that is bought.
    pub hold: HoldId,
    /// State of the order.
    pub state: OrderState,
    /// Why it did not become tickets, if so.
    pub reason: Option<Reason>,
    /// Whether its current step takes far longer than it should.
    pub stuck: bool,
    /// The seats as they are sold, in the order in which they were held.
    pub seats: Vec<SeatInfo>,
    /// Sum of the prices.
    pub total: Money,
    /// Key of the payment at the gateway: order id, colon, fence. `None` before the seats are claimed.
    pub payment_key: Option<String>,
    /// Page of the gateway that the buyer has to visit.
    pub payment_url: Option<String>,
    /// When an authorization that is still unknown is given up; once the buyer has to visit the gateway's
    /// page, when the order is canceled and its seats are free.
    pub payment_deadline: Timestamp,
    /// When the order was placed.
    pub created_at: Timestamp,
}

impl Order {
    /// Whether there is nothing to pay. The payment gateway never hears of such an order.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.total.amount == 0
    }

    /// Seat ids of the plan.
    #[must_use]
    pub fn seat_ids(&self) -> Vec<String> {
        self.seats.iter().map(|seat| seat.guid.clone()).collect()
    }

    /// The order as its buyer sees it.
    #[must_use]
    pub fn view(&self) -> OrderView {
        let is_stuck = self.stuck
            && matches!(
                self.state,
                OrderState::InProgress | OrderState::AwaitingPayment | OrderState::Refunding
            );
        OrderView {
            id: self.id,
            state: if is_stuck { OrderState::Stuck } else { self.state },
            sale: self.performance_key.sale.clone(),
            performance: self.performance_key.performance.clone(),
            seats: self.seat_ids(),
            total: self.total,
            created_at: self.created_at,
            reason: self.reason.as_ref().map(ToString::to_string),
            action: self
                .payment_url
                .clone()
                .filter(|_| self.state == OrderState::AwaitingPayment)
                .map(|url| PaymentAction {
                    kind: "redirect",
                    url,
                }),
            payment_deadline: (self.state == OrderState::AwaitingPayment).then_some(self.payment_deadline),
        }
    }
}

/// What the buyer has to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PaymentAction {
    /// `redirect`: visit `url`, then come back.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Page of the gateway.
    pub url: String,
}

/// An order as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct OrderView {
    /// Id of the order.
    pub id: OrderId,
    /// State of the order.
    pub state: OrderState,
    /// The sale.
    pub sale: SaleId,
    /// The performance.
    pub performance: PerformanceId,
    /// Seat ids of the plan.
    pub seats: Vec<String>,
    /// Sum of the prices.
    pub total: Money,
    /// When the order was placed.
    pub created_at: Timestamp,
    /// Why it did not become tickets, as a code: `declined:insufficient_funds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the buyer has to do next, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<PaymentAction>,
    /// While payment is awaited: when the order is canceled and its seats are free, unless the buyer is back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_deadline: Option<Timestamp>,
}

/// One entry of an order's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct HistoryEntry {
    /// When it was recorded.
    pub at: Timestamp,
    /// Name of the saga step, for instance `claim`.
    pub step: &'static str,
    /// One of `started done waiting retrying refused canceled undone`.
    pub state: &'static str,
    /// Key of the text in the pages' locales, for instance `history.claimed`.
    pub text_key: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_states_and_reasons_parse_back() {
        for (state, name) in NAMES {
            assert_eq!(OrderState::from_stored(name), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), name);
        }
        for reason in [
            Reason::Declined("a:b".into()),
            Reason::HoldGone,
            Reason::CaptureRefused("no".into()),
            Reason::LateMoney,
            Reason::CanceledByBuyer,
            Reason::CanceledByOperator,
            Reason::CanceledBeforePayment,
            Reason::CanceledByOperatorBeforePayment,
            Reason::PaymentPageTimedOut,
            Reason::Replaced,
        ] {
            assert_eq!(Reason::from_stored(&reason.to_string()), Some(reason));
        }
        assert_eq!(Reason::from_stored("nonsense"), None);
    }
}
