//! What the auditor looks at: plain facts, gathered from clients, from the ledger, from the journal and from the
//! gateway's own book. Nothing here is a type of the code that is judged.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::kernel::Timestamp;

/// Everything known about one sale.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// When the final state was read.
    pub observed_at: Timestamp,
    /// Whether faults have stopped and every deadline has passed since: only then must all sagas have ended.
    pub settled: bool,
    /// The door's settings over time, oldest first; the first is in force from the beginning.
    pub door: Vec<DoorSetting>,
    /// Of the entries while both lanes wanted in, the share that returners may take.
    pub returner_share: f64,
    /// How long a claimant's slot is kept for her.
    pub claimant_lapse: Duration,

    /// Places that clients were told they have.
    pub acknowledged_joins: Vec<AcknowledgedJoin>,
    /// Subjects whose queue token was no longer honoured.
    pub lost_places: Vec<String>,
    /// Places in the journal.
    pub journal_joins: Vec<JournalJoin>,
    /// What `now serving` was seen or recorded to be, in the order of time.
    pub calls: Vec<Called>,
    /// Entries that clients were told they have.
    pub acknowledged_entries: Vec<AcknowledgedEntry>,
    /// Entries in the journal, in the order in which they were granted.
    pub entries: Vec<Entry>,
    /// Claimants who were told that the house is full for a moment.
    pub refusals: Vec<Refusal>,

    /// Stretches in which the house was down. Who stands at the door is memory: after it everybody knocks anew.
    pub outages: Vec<(Timestamp, Timestamp)>,

    /// Orders in the ledger.
    pub orders: Vec<Order>,
    /// Orders as clients were last told.
    pub acknowledged_orders: Vec<AcknowledgedOrder>,
    pub claims: Vec<Claim>,
    pub tickets: Vec<Ticket>,
    /// The gateway's own book, one row a payment.
    pub payments: Vec<Payment>,
    /// `(performance, seat)` booked, as the engine says.
    pub engine_booked: BTreeSet<(String, String)>,
    /// `(performance, seat)` booked, as the ledger says.
    pub ledger_booked: BTreeSet<(String, String)>,
    /// Holds that the engine still keeps at `observed_at`.
    pub holds: Vec<LiveHold>,
    /// How often expired holds are swept.
    pub sweep_every: Duration,

    /// Calls made without the proof they need.
    pub probes: Vec<Probe>,
    /// What the shop's database saw, when it was watched.
    pub shop: Option<ShopUse>,
    /// A stretch after the faults in which the queue was watched.
    pub movement: Option<Movement>,
}

/// In force from `from` on.
#[derive(Clone, Copy, Debug)]
pub struct DoorSetting {
    pub from: Timestamp,
    pub capacity: u32,
    pub rate_per_minute: u32,
    pub burst: u32,
}

/// A place as a client was told. `number` is none before a draw.
#[derive(Clone, Debug)]
pub struct AcknowledgedJoin {
    pub subject: String,
    pub number: Option<u64>,
    pub acknowledged_at: Timestamp,
    /// She left on purpose, at this time; her next place is another one.
    pub left_at: Option<Timestamp>,
}

/// A place in the journal, where subjects are keyed hashes.
#[derive(Clone, Copy, Debug)]
pub struct JournalJoin {
    pub subject_hash: u64,
    pub number: u64,
    pub left: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Called {
    pub at: Timestamp,
    pub now_serving: u64,
}

/// She asked to be let in at `asked_at` and read at `at` that she was: it was decided in between.
#[derive(Clone, Debug)]
pub struct AcknowledgedEntry {
    pub subject: String,
    pub number: u64,
    pub asked_at: Timestamp,
    pub at: Timestamp,
}

/// One visit behind the door.
#[derive(Clone, Debug)]
pub struct Entry {
    pub number: u64,
    pub subject_hash: u64,
    pub visit: String,
    pub entered_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// She was passed over before and came back.
    pub returner: bool,
}

/// A claimant was told that the house is full: she asked at `asked_at` and read the answer at `answered_at`.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    pub number: u64,
    pub asked_at: Timestamp,
    pub answered_at: Timestamp,
    pub returner: bool,
}

/// How an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrderState {
    /// A saga is under way, forwards or backwards.
    Open,
    /// Tickets were issued.
    Paid,
    /// It ended without tickets: declined, expired, cancelled or refunded.
    Ended,
    /// A person must look at it.
    Stuck,
}

#[derive(Clone, Debug)]
pub struct Order {
    pub id: String,
    pub state: OrderState,
    pub visit: String,
    pub performance: String,
    pub seats: Vec<String>,
    /// In the currency's minor unit.
    pub total: i64,
}

#[derive(Clone, Debug)]
pub struct AcknowledgedOrder {
    pub id: String,
    pub state: OrderState,
    pub seats: Vec<String>,
    pub total: i64,
}

#[derive(Clone, Debug)]
pub struct Claim {
    pub performance: String,
    pub seat: String,
    pub order: String,
    /// Not dropped: whoever else claims the seat must be refused.
    pub live: bool,
}

#[derive(Clone, Debug)]
pub struct Ticket {
    pub order: String,
    pub performance: String,
    pub seat: String,
    pub valid: bool,
}

/// One payment in the gateway's book, amounts in the minor unit.
#[derive(Clone, Debug)]
pub struct Payment {
    /// The order that it names.
    pub order: String,
    pub captured: i64,
    pub refunded: i64,
    /// Money that is reserved and neither captured nor let go.
    pub reserved: i64,
}

#[derive(Clone, Debug)]
pub struct LiveHold {
    pub id: String,
    pub expires_at: Timestamp,
    /// A payment keeps it alive beyond its deadline.
    pub paying: bool,
}

/// A call without its proof; `before` and `after` say what the house looked like around it.
#[derive(Clone, Debug)]
pub struct Probe {
    pub what: String,
    pub status: u16,
    pub before: BTreeMap<String, String>,
    pub after: BTreeMap<String, String>,
}

/// The shop's side of things.
#[derive(Clone, Copy, Debug)]
pub struct ShopUse {
    pub connections_seen_max: u32,
    pub connections_max: u32,
    pub queries_per_second_seen_max: u32,
    pub queries_per_second_max: u32,
}

/// Whether the queue moved between `since` and `until`.
#[derive(Clone, Copy, Debug)]
pub struct Movement {
    pub since: Timestamp,
    pub until: Timestamp,
    /// Fans who wanted in during all of it.
    pub waiting: u32,
}
