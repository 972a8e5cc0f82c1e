//! An order: who buys which seats for how much, and where that stands.

use std::fmt;

use serde::Serialize;

use super::seats::{SeatInfo, PerformanceKey};
use crate::kernel::{HoldId, Money, OrderId, PerformanceId, SaleId, Subject, Timestamp, VisitId};

/// Where an order stands, as its buyer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    InProgress,
    /// The buyer is on the gateway's page.
    AwaitingPayment,
    Paid,
    /// No money moved; the seats are held again for a while.
    Declined,
    /// The seats were gone before any money moved.
    Expired,
    Refunding,
    /// The house gave the money back.
    Refunded,
    /// The buyer gave the seats back.
    Canceled,
    /// It takes far longer than it should; it is still being retried, and a person should look.
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
    #[must_use]
    pub fn as_str(self) -> &'static str {
        NAMES
            .iter()
            .find(|(state, _)| *state == self)
            .map_or("stuck", |(_, name)| name)
    }

    /// Reads back what [`OrderState::as_str`] gave.
    #[must_use]
    pub fn from_stored(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(state, _)| *state)
    }

    /// Nothing is left to do for its purchase.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Declined | Self::Expired | Self::Refunded | Self::Canceled
        )
    }
}

/// Why an order did not become tickets. Stored as text, told to the buyer by its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The hold had ended, or was changed meanwhile.
    HoldGone,
    /// The ledger knows another owner of at least one seat.
    SeatsTaken,
    QuotaReached,
    /// The gateway said no, with its reason.
    Declined(String),
    /// The process died before the card reached the gateway.
    Interrupted,
    /// The gateway, or the buyer on its page, did not answer in time.
    TimedOut,
    /// The gateway had reserved the money and then would not pay it out.
    CaptureRefused(String),
    /// Money came when the seats were another's already.
    LateMoney,
    /// The buyer wished it.
    CanceledByBuyer,
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
        }
    }
}

impl Reason {
    /// Reads back what `to_string` gave.
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
            _ => return None,
        })
    }

    /// The state in which an order ends that goes back for this reason.
    #[must_use]
    pub fn final_state(&self) -> OrderState {
        match self {
            Self::HoldGone | Self::SeatsTaken | Self::QuotaReached => OrderState::Expired,
            Self::Declined(_) | Self::Interrupted | Self::TimedOut => OrderState::Declined,
            Self::CaptureRefused(_) | Self::LateMoney => OrderState::Refunded,
            Self::CanceledByBuyer => OrderState::Canceled,
        }
    }
}

/// An order as the ledger has it.
#[derive(Clone, Debug)]
pub struct Order {
    pub id: OrderId,
    pub performance_key: PerformanceKey,
    pub buyer: Subject,
    pub visit: VisitId,
    pub hold: HoldId,
    pub state: OrderState,
    pub reason: Option<Reason>,
    pub stuck: bool,
    pub seats: Vec<SeatInfo>,
    pub total: Money,
    /// The payment's key at the gateway: claim id and fence. None before the seats are claimed.
    pub payment_key: Option<String>,
    /// The gateway's page for the buyer.
    pub action: Option<String>,
    /// When an authorization that is still unknown is given up.
    pub payment_deadline: Timestamp,
    pub created_at: Timestamp,
}

impl Order {
    /// The seats' ids in the plan.
    #[must_use]
    pub fn guids(&self) -> Vec<String> {
        self.seats.iter().map(|it| it.guid.clone()).collect()
    }

    #[must_use]
    pub fn view(&self) -> OrderView {
        let hidden = self.stuck
            && matches!(
                self.state,
                OrderState::InProgress | OrderState::AwaitingPayment | OrderState::Refunding
            );
        OrderView {
            id: self.id,
            state: if hidden { OrderState::Stuck } else { self.state },
            sale: self.performance_key.sale.clone(),
            performance: self.performance_key.performance.clone(),
            seats: self.guids(),
            total: self.total,
            created_at: self.created_at,
            reason: self.reason.as_ref().map(ToString::to_string),
            action: self
                .action
                .clone()
                .filter(|_| self.state == OrderState::AwaitingPayment)
                .map(|url| PaymentAction {
                    kind: "redirect",
                    url,
                }),
        }
    }
}

/// What the buyer must do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PaymentAction {
    /// `redirect`: visit `url`, then come back.
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub url: String,
}

/// An order on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct OrderView {
    pub id: OrderId,
    pub state: OrderState,
    pub sale: SaleId,
    pub performance: PerformanceId,
    /// Seat ids of the plan.
    pub seats: Vec<String>,
    pub total: Money,
    pub created_at: Timestamp,
    /// Why it did not become tickets, as a code: `declined:insufficient_funds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<PaymentAction>,
}

/// What a buyer asks for.
#[derive(Clone)]
pub struct PlaceOrder {
    pub sale: SaleId,
    pub buyer: Subject,
    pub visit: VisitId,
    pub hold: HoldId,
    /// `card`.
    pub method: String,
    /// The card's token: never logged, never stored.
    pub token: String,
    pub idempotency_key: String,
}

impl fmt::Debug for PlaceOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaceOrder")
            .field("sale", &self.sale)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceOutcome {
    /// The seats are hers. The view may say `canceled` when the same key is shown again later.
    Paid(OrderView),
    AwaitingPayment(OrderView),
    InProgress(OrderView),
    /// No money was taken, or it has been given back.
    Declined {
        order: OrderView,
        reason: String,
    },
    HoldGone {
        alternatives: Vec<Vec<String>>,
    },
    /// The same key came with another body.
    KeyReused,
    QuotaReached {
        limit: u8,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    Canceled(OrderView),
    /// Money and seats are on their way back.
    InProgress(OrderView),
    /// It is not paid (yet, or any more).
    NotPaid(OrderView),
    /// There is no such order of hers.
    NotFound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookOutcome {
    /// Taken in; the payment is being read back.
    Accepted,
    /// Seen before, or of a payment that is not ours.
    Ignored,
    /// Not signed by the gateway.
    Refused,
}

/// One line of an order's story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct HistoryEntry {
    pub at: Timestamp,
    /// The saga's step, for instance `claim`.
    pub step: &'static str,
    /// `started done waiting retrying refused undone`.
    pub state: &'static str,
    /// The sentence's key in the pages' translations, for instance `history.claimed`.
    pub text_key: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_reasons_survive_the_ledger() {
        for (state, name) in NAMES {
            assert_eq!(OrderState::from_stored(name), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), name);
        }
        for reason in [
            Reason::Declined("a:b".into()),
            Reason::HoldGone,
            Reason::CaptureRefused("no".into()),
            Reason::LateMoney,
        ] {
            assert_eq!(Reason::from_stored(&reason.to_string()), Some(reason));
        }
        assert_eq!(Reason::from_stored("nonsense"), None);
    }
}
