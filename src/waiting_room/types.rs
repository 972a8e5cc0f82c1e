//! The words of the waiting room: what goes in and what comes out.

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::waiting_room::{Reason, StoreError, forecast::interval_calibration::Statements};
use crate::{
    kernel::{Clock, Entropy, SaleId, Timestamp, VisitId},
    platform::{keys::Keys, redis::Redis, shutdown::Lifecycle, sql},
};

/// What a room is built from.
#[derive(Clone)]
pub struct Deps {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub keys: Keys,
    pub journal: JournalPlace,
    pub engine: Engine,
    /// What this node is called among others.
    pub node: String,
    pub life: Lifecycle,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxOfficeHealth {
    /// Nine of ten answers about seats took no longer, in the last two seconds; `None` when there were too few.
    pub latency_ms: Option<u32>,
    /// What that is when the box office is well.
    pub usual_ms: u32,
    /// Answers that said that something failed, of a thousand.
    pub failed_per_mille: u16,
}

/// What is left in one price zone, in seats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// The room cannot do it now. Safe to try again: nothing is done twice.
#[derive(Debug, thiserror::Error)]
pub enum WaitingRoomError {
    #[error("too many wait for the journal")]
    Busy,
    #[error("the journal could not be written")]
    Journal,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the door of sale {sale} cannot work: {why}")]
    Config { sale: SaleId, why: &'static str },
    #[error(transparent)]
    Sql(#[from] sql::OpenError),
    #[error(transparent)]
    Journal(#[from] crate::waiting_room::journal::OpenError),
    #[error(
        "the engine of sale {sale} does not become ready: is Redis reachable, and does another node keep rebuilding it?"
    )]
    NotReady { sale: SaleId },
    #[error("the journal of sale {sale} cannot be replayed: {why}")]
    Replay { sale: SaleId, why: String },
}
