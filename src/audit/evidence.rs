//! What the auditor examines: plain facts from clients, the ledger, the journal and the gateway's statement.
//!
//! Nothing here is a type of the code that is judged.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::kernel::Timestamp;

/// Everything that is known about one sale.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// When the final state was read.
    pub observed_at: Timestamp,
    /// Whether faults have stopped and every deadline has passed since. Only then must all orders have ended.
    pub settled: bool,
    /// Settings of admission over time, oldest first; the first is in force from the beginning.
    pub admission_settings: Vec<AdmissionSettings>,
    /// Share of the admissions that late arrivals may take while visitors of both lanes wait.
    pub late_arrival_share: f64,
    /// How long a claimant's slot is kept without another request.
    pub claim_timeout: Duration,

    /// Joins that clients received.
    pub acknowledged_joins: Vec<AcknowledgedJoin>,
    /// Subjects whose queue token was no longer accepted.
    pub lost_entries: Vec<String>,
    /// Joins in the journal.
    pub journal_joins: Vec<JournalJoin>,
    /// Values of "now serving", observed or recorded, by time.
    pub calls: Vec<Call>,
    /// Admissions that clients received.
    pub acknowledged_admissions: Vec<AcknowledgedAdmission>,
    /// Admissions in the journal, in the order in which they were granted.
    pub admissions: Vec<Admission>,
    /// Claimants that were refused because the limit of active visits was reached.
    pub refusals: Vec<Refusal>,

    /// Stretches, from and until, in which the service was down. Claimants are kept in memory only, so they
    /// have to ask again after it.
    pub outages: Vec<(Timestamp, Timestamp)>,

    /// Orders in the ledger.
    pub orders: Vec<Order>,
    /// Orders as clients last received them.
    pub acknowledged_orders: Vec<AcknowledgedOrder>,
    /// Claims in the ledger.
    pub claims: Vec<Claim>,
    /// Tickets in the ledger.
    pub tickets: Vec<Ticket>,
    /// The gateway's statement, one row per payment; `None` when it was not read.
    pub payments: Option<Vec<Payment>>,
    /// `(performance, seat)` booked in the seat store; `None` when it was not read.
    pub store_booked: Option<BTreeSet<(String, String)>>,
    /// `(performance, seat)` booked in the ledger.
    pub ledger_booked: BTreeSet<(String, String)>,
    /// Holds that the seat store has at `observed_at`.
    pub holds: Vec<LiveHold>,
    /// How often expired holds are removed.
    pub sweep_interval: Duration,

    /// Calls made without the proof that they need.
    pub probes: Vec<Probe>,
    /// Use of the shop's database, if it was measured.
    pub shop: Option<ShopUsage>,
    /// A stretch after the faults in which the queue was watched.
    pub progress: Option<QueueProgress>,
}

impl Evidence {
    /// What was not looked at, so that nothing is said about it.
    #[must_use]
    pub fn not_checked(&self) -> Vec<&'static str> {
        let mut not_checked = Vec::new();
        if self.payments.is_none() {
            not_checked.push("money: the gateway's statement was not read");
        }
        if self.store_booked.is_none() {
            not_checked.push("the seat store: a running service compares it with the ledger itself");
        }
        if self.acknowledged_joins.is_empty() && self.acknowledged_orders.is_empty() {
            not_checked.push("what clients were told: there are no observations");
        }
        not_checked
    }
}

/// Settings of admission, in force from `from` on.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionSettings {
    /// Start of these settings.
    pub from: Timestamp,
    /// Limit of active visits.
    pub active_visits_max: u32,
    /// Admissions per minute.
    pub rate_per_minute: u32,
    /// Admissions that may happen at once.
    pub burst: u32,
}

/// A join as a client received it.
#[derive(Clone, Debug)]
pub struct AcknowledgedJoin {
    /// Who joined.
    pub subject: String,
    /// The queue number; `None` before a draw.
    pub number: Option<u64>,
    /// When the client received it.
    pub acknowledged_at: Timestamp,
    /// When the visitor left the queue on purpose; a later join gets another number.
    pub left_at: Option<Timestamp>,
}

/// A join in the journal, where subjects are keyed hashes.
#[derive(Clone, Copy, Debug)]
pub struct JournalJoin {
    /// Keyed hash of the subject.
    pub subject_hash: u64,
    /// The queue number.
    pub number: u64,
    /// Whether the number was given up: the visitor left, or its visit ended.
    pub left: bool,
}

/// A value of "now serving".
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// When it was observed or recorded.
    pub at: Timestamp,
    /// The highest number called.
    pub now_serving: u64,
}

/// An admission as a client received it. It was decided between `asked_at` and `at`.
#[derive(Clone, Debug)]
pub struct AcknowledgedAdmission {
    /// Who was admitted.
    pub subject: String,
    /// The queue number.
    pub number: u64,
    /// When the client sent the request.
    pub asked_at: Timestamp,
    /// When the client received the answer.
    pub at: Timestamp,
}

/// One visit in the journal.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The queue number.
    pub number: u64,
    /// Keyed hash of the subject.
    pub subject_hash: u64,
    /// Id of the visit.
    pub visit: String,
    /// When the visit began.
    pub admitted_at: Timestamp,
    /// When the visit ended, if it did.
    pub ended_at: Option<Timestamp>,
    /// Whether the visitor had missed the call and arrived late.
    pub is_late_arrival: bool,
}

/// A claimant was refused because the limit of active visits was reached.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// The queue number.
    pub number: u64,
    /// When the client sent the request.
    pub asked_at: Timestamp,
    /// When the client received the answer.
    pub answered_at: Timestamp,
    /// Whether the visitor had missed the call and waits among the late arrivals.
    pub is_late_arrival: bool,
}

/// State of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrderState {
    /// A saga is running, forward or compensating.
    Open,
    /// Tickets were issued.
    Paid,
    /// It ended without tickets: declined, expired, canceled or refunded.
    Ended,
    /// An operator must look at it.
    Stuck,
}

/// An order in the ledger.
#[derive(Clone, Debug)]
pub struct Order {
    /// Id of the order.
    pub id: String,
    /// State of the order.
    pub state: OrderState,
    /// The visit in which it was placed.
    pub visit: String,
    /// The performance.
    pub performance: String,
    /// Its seats.
    pub seats: Vec<String>,
    /// In the currency's minor unit.
    pub total: i64,
}

/// An order as a client last received it.
#[derive(Clone, Debug)]
pub struct AcknowledgedOrder {
    /// Id of the order.
    pub id: String,
    /// State of the order.
    pub state: OrderState,
    /// Its seats.
    pub seats: Vec<String>,
    /// In the currency's minor unit.
    pub total: i64,
}

/// A claim of an order on a seat.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The performance.
    pub performance: String,
    /// The seat.
    pub seat: String,
    /// The order.
    pub order: String,
    /// Not released: no other order may claim the seat.
    pub live: bool,
}

/// A ticket in the ledger.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// The order.
    pub order: String,
    /// The performance.
    pub performance: String,
    /// The seat.
    pub seat: String,
    /// Whether it has not been voided.
    pub valid: bool,
}

/// One payment in the gateway's statement, amounts in the minor unit.
#[derive(Clone, Debug)]
pub struct Payment {
    /// The order that it names.
    pub order: String,
    /// Money taken.
    pub captured: i64,
    /// Money returned.
    pub refunded: i64,
    /// Money that is reserved and neither captured nor voided.
    pub reserved: i64,
}

/// A hold in the seat store.
#[derive(Clone, Debug)]
pub struct LiveHold {
    /// Id of the hold.
    pub id: String,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Whether a payment keeps it alive beyond that.
    pub paying: bool,
}

/// A call without its proof, with the service's visible state before and after it.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What was tried.
    pub what: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// State before the call.
    pub before: BTreeMap<String, String>,
    /// State after the call.
    pub after: BTreeMap<String, String>,
}

/// Use of the shop's database.
#[derive(Clone, Copy, Debug)]
pub struct ShopUsage {
    /// Most connections seen at a time.
    pub connections_seen_max: u32,
    /// Connections that the budget allows.
    pub connections_max: u32,
    /// Most queries seen in one second.
    pub queries_per_second_seen_max: u32,
    /// Queries per second that the budget allows.
    pub queries_per_second_max: u32,
}

/// Whether the queue moved between `since` and `until`.
#[derive(Clone, Copy, Debug)]
pub struct QueueProgress {
    /// Start of the stretch.
    pub since: Timestamp,
    /// End of the stretch.
    pub until: Timestamp,
    /// Visitors that waited during all of it.
    pub waiting: u32,
}
