//! Words that all parts of the waiting room share: configuration, requests and their outcomes, and what goes
//! out as JSON.

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

/// Configuration of one sale's waiting room.
#[derive(Clone, Debug)]
pub struct Config {
    /// The sale.
    pub sale: SaleId,
    /// From when visitors may join; before it joining answers "not open yet".
    pub prequeue_starts_at: Timestamp,
    /// From when visitors are called.
    pub on_sale_starts_at: Timestamp,
    /// From when no visitor joins or enters any more.
    pub closes_at: Timestamp,
    /// Admissions per minute.
    pub admission_rate_per_minute: u32,
    /// Active visits at most.
    pub active_visits_max: u32,
    /// Admissions that may come at once on top of the rate; one second's worth (at least 1) when `None`.
    pub admission_burst: Option<u32>,
    /// How long a called visitor has to enter before the call is missed.
    pub call_window: Duration,
    /// Share of contested slots that late arrivals may take when both lanes want in, 0 to 1.
    pub late_arrival_share: f64,
    /// Time to live of a pass; it is renewed while the visit lasts.
    pub pass_ttl: Duration,
    /// A visit ends after this long whatever the visitor does.
    pub visit_max: Duration,
    /// Queue entries at most; beyond it joining answers that the queue is full.
    pub queue_entries_max: u32,
    /// Issuer of passes: the public base URL.
    pub issuer: String,
    /// Open status event streams at most.
    pub status_streams_max: usize,
    /// Whether another process verifies passes: then a slot is free only when its pass has expired.
    pub passes_verified_elsewhere: bool,
    /// What a visitor may rely on once the number is assigned.
    pub durability: Durability,
    /// How visitors who joined before the start are shuffled; `None`: first come, first served.
    pub draw: Option<DrawTerms>,
}

impl Config {
    /// How long visits last at which the rate would just fill the slots: what the operator plans with, more
    /// or less.
    pub(crate) fn planned_visit(&self) -> Duration {
        let per_s = f64::from(self.admission_rate_per_minute.max(1)) / 60.0;
        Duration::from_secs_f64(f64::from(self.active_visits_max) / per_s)
    }
}

/// When a join is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Once the journal has it: nothing is lost.
    #[default]
    Committed,
    /// Once the store has it; the journal follows within the commit window. When store and process fail
    /// together, visitors who joined in that moment keep their entry by their token only.
    Async,
}

/// Where the journal is kept. One location may serve several sales.
#[derive(Clone)]
pub enum JournalLocation {
    /// A file of this process.
    File(PathBuf),
    /// A database that several nodes share.
    Postgres {
        /// Connection URL, `postgres://...`; the tables are in the schema `stagedoor_queue`.
        url: String,
    },
}

/// What assigns numbers and slots.
#[derive(Clone)]
pub enum StoreBackend {
    /// This process's memory: one node.
    Memory,
    /// Redis: any number of nodes.
    Redis(Redis),
}

/// Phase of a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Visitors cannot join yet.
    Scheduled,
    /// Visitors join; calls have not begun.
    Prequeue,
    /// The fair draw is being held; no number is final yet.
    Drawing,
    /// Visitors are called and enter.
    OnSale,
    /// Stopped by a command.
    Paused,
    /// Every seat is booked or blocked.
    SoldOut,
    /// No visitor joins or enters any more.
    Closed,
}

/// State of a queue entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// Not called yet; calls begin once the sale has opened and its draw, if any, is held.
    Prequeue,
    /// Not called yet, although calls have begun; also while the sale is paused, sold out or closed.
    Waiting,
    /// The visitor may enter until the call window ends.
    Called,
    /// The visitor has entered, and the visit goes on.
    Admitted,
    /// The call window has ended; the visitor may still enter as a late arrival.
    Missed,
    /// The visitor has left the queue, or the visit is over. Also for a token whose entry is unknown.
    Left,
}

/// Position of one queue entry, as it goes out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Position {
    /// State of the entry.
    pub state: EntryState,
    /// Queue number; `None` before a draw is held.
    pub number: Option<u64>,
    /// 1-based position; 1 is the next to be called. `None` once called.
    pub position: Option<u64>,
    /// People who are called before; those who have left are not counted.
    pub ahead: Option<u64>,
    /// `ahead` is approximate: some of those at that distance have left, and the status does not say which.
    pub approximate: bool,
    /// Forecast of the wait; `None` when none can be made, the wait is over, or hardly a seat will be left.
    pub wait: Option<Wait>,
    /// Chance that a seat is left at this visitor's turn, in percent to the next ten: 90 stands for 80 or
    /// more, and 10 for less than 20. `None` while nothing is known of the stock, and once called.
    pub seat_chance_percent: Option<u32>,
    /// Pause before the next poll, in milliseconds.
    pub poll_after_ms: u32,
    /// When the call ends; only while called.
    pub call_ends_at: Option<Timestamp>,
    /// With the status's masks it decides whether this visitor sends heartbeats.
    pub heartbeat_sample: u16,
}

/// Forecast of a wait: a range in seconds, and a time of day to plan by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Wait {
    /// 10th percentile.
    pub p10_s: u32,
    /// Median.
    pub p50_s: u32,
    /// 90th percentile.
    pub p90_s: u32,
    /// When `p50_s` will have passed.
    pub expected_at: Timestamp,
}

/// A queue entry, and the token that proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Joined {
    /// The queue token.
    pub token: String,
    /// State of the entry.
    pub state: EntryState,
    /// Queue number; `None` before a draw is held.
    pub number: Option<u64>,
    /// When the visitor joined.
    pub joined_at: Timestamp,
    /// As in [`Position`].
    pub heartbeat_sample: u16,
}

/// What became of a request to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinOutcome {
    /// A new entry.
    Joined(Joined),
    /// The subject had an entry already; the same number again.
    Existing(Joined),
    /// Joining is not possible yet.
    NotOpenYet {
        /// From when it is.
        prequeue_starts_at: Timestamp,
    },
    /// The sale is closed for good.
    Closed,
    /// No entries are left.
    Full,
}

/// Load of the box office at this moment, as far as the process that asks for admission can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoxOfficeLoad {
    /// Active visitors are served in time.
    Normal,
    /// Active visitors wait too long.
    Overloaded,
}

/// What became of a request to enter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnterOutcome {
    /// Admitted, or still admitted.
    Admitted {
        /// The pass.
        pass: String,
        /// When it expires.
        expires_at: Timestamp,
    },
    /// Not called yet.
    NotCalledYet(Position),
    /// Called, but no slot is free at this moment; one is kept while the visitor keeps asking.
    AtCapacity(Position),
    /// The sale is closed: no visit begins any more.
    Closed,
    /// The visitor left, or the visit is over: joining again gives a new number.
    Ended(Position),
}

/// What became of a request for a fresh pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenewOutcome {
    /// The visit goes on, also after the sale has closed.
    Renewed {
        /// The fresh pass.
        pass: String,
        /// When the pass expires; it can be renewed before then.
        expires_at: Timestamp,
    },
    /// The visit is over; no further pass is granted.
    Ended,
}

/// Commands of operators. Of contradictory commands the last counts; all are written to the journal, with who
/// gave them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum OperatorCommand {
    /// No visitor is called or enters; call windows stand still. A draw goes on, and the pause holds after
    /// it.
    Pause,
    /// Ends a pause. A rate or a limit of 0 keeps admission stopped.
    Resume,
    /// Sets the admission rate. 0 stops admission as a pause does, until another rate is set.
    SetAdmissionRate {
        /// Admissions per minute.
        per_minute: u32,
    },
    /// Sets the limit of active visits. Below their present number no visitor enters until they are fewer; 0
    /// stops admission as a pause does.
    SetActiveVisitsMax {
        /// Active visits at most.
        visits: u32,
    },
    /// Sets a notice for the status, at most [`NOTICE_CHARS_MAX`] characters; `None` removes it.
    Notice {
        /// What the status shows until the next notice.
        text: Option<String>,
    },
    /// Closes the sale for good, [`CLOSE_DELAY`] after the first such command. Until then admission is
    /// paused, and the command can be withdrawn; afterwards admission cannot be changed any more.
    Close {
        /// The sale's id, as a confirmation.
        confirm: SaleId,
    },
    /// Withdraws [`OperatorCommand::Close`] while the sale is not closed yet.
    WithdrawClose,
    /// Revokes all passes; active visitors get a fresh one by entering again.
    RevokePasses,
}

/// How long the command to close a sale can be withdrawn. A constant and no setting: with another value the
/// journal of a closed sale would say that it is open.
pub const CLOSE_DELAY: Duration = Duration::from_mins(10);

/// Admissions per minute at most, by configuration and by command: more than a node can admit, and far below
/// what arithmetic with rates can hold.
pub const ADMISSION_RATE_PER_MINUTE_MAX: u32 = 6_000_000;

/// Limit of active visits at most, by configuration and by command.
pub const ACTIVE_VISITS_MAX: u32 = 10_000_000;

/// Characters of a notice at most.
pub const NOTICE_CHARS_MAX: usize = 160;

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// Carried out.
    Done,
    /// Refused: nothing has changed, and nothing was written.
    Refused(CommandRefusal),
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandRefusal {
    /// The notice has more than [`NOTICE_CHARS_MAX`] characters.
    NoticeTooLong,
    /// The rate is above [`ADMISSION_RATE_PER_MINUTE_MAX`].
    RateTooHigh,
    /// The limit of active visits is above [`ACTIVE_VISITS_MAX`].
    VisitsTooMany,
    /// The sale is closed.
    Closed,
    /// The confirmation is not the sale's id.
    NotConfirmed,
}

/// Admission settings, and the values derived from them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct AdmissionSettings {
    /// Phase of the sale.
    pub phase: Phase,
    /// As in the status.
    pub reason: Option<DelayReason>,
    /// Commands so far: each makes a new version, and the last one counts.
    pub version: u32,
    /// Paused by command.
    pub paused: bool,
    /// When the sale closes by command; `null` where no such command was given, or it was withdrawn.
    pub closes_by_command_at: Option<Timestamp>,
    /// Configured rate.
    pub admission_rate_per_minute: u32,
    /// Rate in force: less than configured while the box office suffers.
    pub admission_rate_effective_per_minute: u32,
    /// Active visits at most.
    pub active_visits_max: u32,
    /// Active visits.
    pub active_visits: u32,
    /// The notice, if there is one.
    pub notice: Option<String>,
}

/// When the sale reached what it reaches once, by its journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Milestones {
    /// The first visitors could be called.
    pub opened_at: Option<Timestamp>,
    /// Every seat was booked or blocked for the first time.
    pub sold_out_at: Option<Timestamp>,
    /// The sale closed.
    pub closed_at: Option<Timestamp>,
}

/// What became of a request to be told when called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallNoticeOutcome {
    /// It is kept.
    Kept,
    /// The visitor does not wait to be called, so there is nothing to tell.
    NotWaiting,
}

/// A called visitor who asked to be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CalledVisitor {
    /// Arrival number of the entry.
    pub arrival: u32,
    /// The shop's key of the customer, encrypted for this service's own processes.
    pub customer: String,
    /// When the call was noticed.
    pub called_at: Timestamp,
    /// When the call window ends; `null` when it has ended.
    pub enter_by: Option<Timestamp>,
}

/// Report of a box office to the waiting room. May be sent twice and out of order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BoxOfficeReport {
    /// Name of the reporting node.
    pub source: String,
    /// Grows from report to report of one source, also over its restart: at least its clock in microseconds.
    /// The stock of an older report is ignored.
    pub sequence: u64,
    /// Stock of every price zone.
    pub zones: Vec<ZoneStock>,
    /// Visits that have ended.
    pub ended: Vec<VisitId>,
    /// Visits with a payment in progress: they go on until a report names them no longer.
    pub paying: Vec<VisitId>,
    /// Arrival numbers of called visitors, from earlier answers, of whom the shop is told for certain.
    #[serde(default)]
    pub told: Vec<u32>,
    /// Health of its visitors' requests; `None` when it does not report it.
    #[serde(default)]
    pub health: Option<BoxOfficeHealth>,
}

/// Health of the requests of one box office's visitors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BoxOfficeHealth {
    /// 90th percentile of the latency of seat requests in the last two seconds; `None` when there were too
    /// few.
    pub latency_ms: Option<u32>,
    /// The same when the box office is well.
    pub usual_latency_ms: u32,
    /// Failed requests of a thousand.
    pub failures_per_mille: u16,
}

/// Seats of one price zone by state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ZoneStock {
    /// Name of the zone.
    pub zone: String,
    /// Free seats that any visitor can have.
    pub free: u32,
    /// Free seats that only visitors with a wheelchair and their companions can have; absent: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub free_for_wheelchairs: u32,
    /// Held seats.
    pub held: u32,
    /// Booked seats.
    pub booked: u32,
    /// Blocked seats.
    pub blocked: u32,
}

impl ZoneStock {
    /// Free seats, also those for visitors with a wheelchair.
    pub(crate) fn free_in_all(&self) -> u32 {
        self.free.saturating_add(self.free_for_wheelchairs)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Counts for metrics and operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RoomMetrics {
    /// Numbers assigned so far.
    pub numbers_issued: u64,
    /// Highest number that has been called.
    pub now_serving: u64,
    /// Active visits.
    pub active_visits: u32,
    /// Called visitors who wait for a slot.
    pub claimants: u32,
    /// Late arrivals who wait for a slot.
    pub late_arrivals: u32,
    /// Numbers that wait to be called.
    pub waiting: u32,
    /// Of a hundred visitors who are called within two minutes, how many have their page open; `None` when
    /// too few are asked.
    pub online_percent: Option<u32>,
    /// Calls that were missed.
    pub missed: u32,
    /// Admissions per minute in force.
    pub admission_rate_effective_per_minute: u32,
    /// Admissions per minute as configured.
    pub admission_rate_configured_per_minute: u32,
    /// Active visits at most.
    pub active_visits_max: u32,
    /// Admissions so far.
    pub admissions_total: u64,
    /// What became of the waits that this node has published.
    pub forecast_outcomes: ForecastOutcomes,
}

/// Why waits are longer than they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DelayReason {
    /// Paused by command.
    Paused,
    /// A rate of 0 was set: stopped until another one is.
    PausedByRate,
    /// A limit of 0 active visits was set: likewise.
    PausedByVisitLimit,
    /// The box office is slow, silent or fails: the rate is reduced until it has recovered.
    BoxOfficeBusy,
    /// Every seat is booked or blocked.
    SoldOut,
    /// No seat is free or held but those for visitors with a wheelchair. Admission goes on for their sake.
    OnlyWheelchairSpaces,
    /// The limit of active visits was lowered.
    VisitLimitLowered,
    /// The admission rate was lowered.
    RateLowered,
    /// Every seat that is not sold is held: visitors are called when one is released.
    AllSeatsHeld,
    /// More visitors came when called, or stay longer, than was forecast.
    SlowerThanForecast,
    /// All slots are taken.
    AtCapacity,
}

/// What became of all forecasts of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ForecastOutcomes {
    /// Called within the range.
    pub within: u64,
    /// Called sooner than forecast.
    pub sooner: u64,
    /// Called later, or not yet when the range was over.
    pub later: u64,
    /// Overtaken by a command or a pause that no forecast could know.
    pub invalidated: u64,
    /// Told that hardly a seat would be left: none was free when called, or all were sold before.
    pub unlikely_missed: u64,
    /// Told that hardly a seat would be left, and one was free when called.
    pub unlikely_served: u64,
}
