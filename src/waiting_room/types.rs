//! The words of the waiting room: what goes in and what comes out.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    kernel::{SaleId, Timestamp, VisitId},
    platform::redis::Redis,
    waiting_room::draw::progress::DrawTerms,
};

/// Shortest pause between two polls that the service asks for, in milliseconds.
pub(crate) const POLL_NEAR_MS: u32 = 1_000;
/// Longest pause between two polls that the service asks for, in milliseconds.
pub(crate) const POLL_FAR_MS: u32 = 20_000;

/// What a promoter decides about one sale's door.
#[derive(Clone, Debug)]
pub struct Config {
    pub sale: SaleId,
    /// From when fans may take a place; before it `join` answers "not open yet".
    pub prequeue_at: Timestamp,
    /// From when fans are called.
    pub opens_at: Timestamp,
    /// After which nobody joins or enters any more.
    pub closes_at: Timestamp,
    pub rate_per_minute: u32,
    /// Active visitors at most.
    pub capacity: u32,
    /// Entries that may come at once on top of the rate; one second's worth (at least 1) when `None`.
    pub burst: Option<u32>,
    /// How long a called fan has to come before she is passed over.
    pub call_window: Duration,
    /// Of each entry slot, the share that those passed over may take when both lanes want it, 0 to 1.
    pub returner_share: f64,
    /// Life of a pass; it is renewed while the visit lasts.
    pub pass_life: Duration,
    /// A visit ends after this long whatever the visitor does.
    pub visit_max: Duration,
    /// Places at most; beyond it `join` says that the queue is full.
    pub max_fans: u32,
    /// Issuer of passes: the public base URL.
    pub issuer: String,
    /// Watchers of the board's event stream at most.
    pub watchers_max: usize,
    /// Whether another process than this one lets passes in: then a slot is free only when its pass is over.
    pub passes_checked_elsewhere: bool,
    /// What a fan may rely on when she has her number.
    pub durability: Durability,
    /// How those who came before the opening are shuffled; `None`: first come, first served.
    pub draw: Option<DrawTerms>,
}

/// When a join is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// When the journal has it: nothing is lost.
    #[default]
    Journaled,
    /// When the engine has it; the journal follows within the commit window. When engine and process die together, who
    /// joined in that moment keeps her place by her token only.
    Acknowledged,
}

/// Where the journal is kept. One place may serve several sales.
#[derive(Clone)]
pub enum JournalPlace {
    /// A file of this process's own.
    File(PathBuf),
    /// A database that nodes share.
    Postgres { url: String },
}

/// What takes numbers and slots.
#[derive(Clone)]
pub enum Engine {
    /// This process's memory: one node.
    Memory,
    /// Any number of nodes.
    Redis(Redis),
}

/// How far a sale has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Scheduled,
    Prequeue,
    Drawing,
    OnSale,
    Paused,
    SoldOut,
    Closed,
}

/// Where somebody stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlaceState {
    Prequeue,
    Waiting,
    Called,
    Entered,
    PassedOver,
    Left,
}

/// One fan's place, as it goes out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Place {
    pub state: PlaceState,
    pub number: Option<u64>,
    /// The how-many-th she is; 1 is the next to be called. `None` once she has been called.
    pub position: Option<u64>,
    /// How many people are called before her: those who have left are not counted.
    pub ahead: Option<u64>,
    /// `ahead` is only about right: some of those at her distance have left, and the board does not say which.
    pub about: bool,
    /// `None` when it cannot be said, or is over.
    pub wait: Option<Wait>,
    pub poll_after_ms: u32,
    pub call_ends_at: Option<Timestamp>,
    /// With the board's masks it says whether she is asked now and then if she is there.
    pub sample: u16,
}

/// How long it will take: a range, and a time of day to plan by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Wait {
    pub p10_s: u32,
    pub p50_s: u32,
    pub p90_s: u32,
    /// When `p50_s` will have passed.
    pub around: Timestamp,
}

/// A place in line, and the token that proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Joined {
    pub token: String,
    pub state: PlaceState,
    pub number: Option<u64>,
    pub joined_at: Timestamp,
    /// As in [`Place`].
    pub sample: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinOutcome {
    Joined(Joined),
    /// She had a place already; the same number again.
    Already(Joined),
    NotOpenYet {
        opens: Timestamp,
    },
    Closed,
    /// No places are left.
    Full,
}

/// How those inside fare at this moment, as far as who asks for somebody's entry can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    Served,
    /// They have to wait for too long.
    Late,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnterOutcome {
    Entered {
        pass: String,
        expires_at: Timestamp,
    },
    NotCalledYet(Place),
    /// Called, but there is no room at this moment; a slot is kept for her while she keeps asking.
    FullForAMoment(Place),
    Closed,
    /// She left, or her visit is over: joining again gives a new number.
    Ended(Place),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenewOutcome {
    Renewed { pass: String, expires_at: Timestamp },
    Ended,
}

/// What an operator may order. Of contradictory orders the last counts; all are written down, with who gave them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum OperatorCommand {
    /// Nobody is called and nobody enters; call windows stand still. A draw goes on, and the pause holds after it.
    Pause,
    /// Takes a pause back. A rate or a capacity of 0 goes on stopping the door.
    Resume,
    /// 0 stops the door as a pause does, until another rate is ordered.
    Rate { per_minute: u32 },
    /// Below the number of those inside nobody enters until they are fewer; 0 stops the door as a pause does.
    Capacity { visitors: u32 },
    /// A sentence for the board, at most [`NOTICE_CHARS_MAX`] characters; `None` takes it down.
    Notice { text: Option<String> },
    /// For good: nothing that concerns coming in can be ordered any more. Closing twice is closing once.
    Close,
    /// All passes are refused from now on; whoever is inside gets a fresh one by entering again.
    RevokePasses,
}

/// Characters of a notice.
pub const NOTICE_CHARS_MAX: usize = 160;

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    Done,
    /// Nothing has changed, and nothing was written down.
    Refused(Refusal),
}

/// Why an order is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The notice has more than [`NOTICE_CHARS_MAX`] characters.
    NoticeTooLong,
    /// The sale is closed.
    Closed,
}

/// How a door is set, and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct DoorState {
    pub phase: Phase,
    /// As on the board.
    pub reason: Option<Reason>,
    /// Orders so far: each makes a new version, and the last one counts.
    pub version: u32,
    pub paused: bool,
    /// As ordered.
    pub rate_per_minute: u32,
    /// What is left of it while the box office suffers.
    pub rate_in_force_per_minute: u32,
    pub capacity: u32,
    pub active: u32,
    pub notice: Option<String>,
}

/// What the box office tells the waiting room. May be sent twice and out of order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BoxOfficeReport {
    /// The node whose box office reports.
    pub source: String,
    /// Grows from report to report of one source, also over its restart: at least its clock in microseconds. The stock of
    /// an older one is ignored.
    pub sequence: u64,
    pub zones: Vec<ZoneStock>,
    /// Visits that are over.
    pub ended: Vec<VisitId>,
    /// Visits with a payment under way: they last on until a report names them no longer.
    pub paying: Vec<VisitId>,
    /// How its visitors fare; `None` from one that does not say.
    #[serde(default)]
    pub health: Option<BoxOfficeHealth>,
}

/// How the visitors of one box office fare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BoxOfficeHealth {
    /// Nine of ten answers about seats took no longer, in the last two seconds; `None` when there were too few.
    pub latency_ms: Option<u32>,
    /// What that is when the box office is well.
    pub usual_ms: u32,
    /// Answers that said that something failed, of a thousand.
    pub failed_per_mille: u16,
}

/// What is left in one price zone, in seats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ZoneStock {
    pub zone: String,
    pub free: u32,
    pub held: u32,
    pub booked: u32,
    pub blocked: u32,
}

/// Counts for metrics and operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Figures {
    pub issued: u64,
    pub now_serving: u64,
    pub active: u32,
    /// Called fans who stand before a full door.
    pub claimants: u32,
    /// Returners who do.
    pub returners: u32,
    pub waiting: u32,
    /// Of a hundred who are called within two minutes, how many have their page open; `None` when too few are asked.
    pub present_percent: Option<u32>,
    pub passed_over: u32,
    /// In force.
    pub rate_per_minute: u32,
    pub rate_ordered_per_minute: u32,
    pub capacity: u32,
    pub entries_total: u64,
    /// What became of the waits that this node has published.
    pub statements: Statements,
}

/// Why the wait is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Paused,
    /// A rate of 0 was ordered: a pause until another one is.
    PausedByRate,
    /// A capacity of 0 was ordered: likewise.
    PausedByCapacity,
    /// The box office is slow, silent or makes errors: fewer come in until it has recovered.
    BoxOfficeBusy,
    SoldOut,
    CapacityLowered,
    RateLowered,
    /// Every seat that is not sold is held by somebody: who waits is called when one comes back.
    AllInBaskets,
    /// More of those who were called came, or they stay longer, than was foreseen.
    MoreStayed,
    FullHouse,
}

/// What became of all statements of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statements {
    pub within: u64,
    /// Called sooner than said; later, or not yet when the range was over.
    pub sooner: u64,
    pub later: u64,
    /// By something that nobody could foresee.
    pub overtaken: u64,
}
