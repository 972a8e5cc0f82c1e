//! The store's port: the traits that both backends implement, and the words of their answers.

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    kernel::{Timestamp, VisitId},
    waiting_room::{
        draw::progress::DrawState,
        forecast::visit_length::VisitForecast,
        journal::record::{Event, Join, PendingJoin, StoredRecord},
        state::{AdmissionState, Counts, Settings},
        status::{people_ahead::PeopleAhead, presence::Heartbeat},
        tokens::pass::LEEWAY_S,
        types::{BoxOfficeHealth, BoxOfficeLoad, ZoneStock},
    },
};

/// How long a slot stays taken after its pass has expired: the verifiers' leeway and a bound on their clocks'
/// skew.
pub(crate) const SLOT_GRACE: Duration = Duration::from_secs(LEEWAY_S.unsigned_abs() + 1);

/// One moment on both clocks: the wall clock for what is recorded, the monotonic one for rates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub now: Timestamp,
    pub monotonic: Duration,
}

/// The queue entry of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownEntry {
    /// The arrival number.
    pub number: u32,
    pub joined_at: Timestamp,
}

/// The result of assigning a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assigned {
    /// A number was assigned; it is to be journaled.
    New(KnownEntry),
    /// The subject had a number. Where it is not known to be journaled it is journaled again: the node that
    /// assigned it may have died before it did so.
    Existing { entry: KnownEntry, journaled: bool },
    /// No number is left.
    Full,
}

/// What has become of a queue number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberState {
    /// Not called yet.
    Waiting,
    /// Called; the visitor may enter until `ends_at`.
    Called { ends_at: Timestamp },
    /// The call window ended; the visitor may still enter through the lane of late arrivals.
    Missed,
    /// The visitor has entered.
    Admitted,
    /// The visitor left the queue, or the visit is over.
    Left,
}

/// A request to enter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotRequest {
    /// The queue number.
    pub number: u32,
    /// The visit's id if a slot is reserved.
    pub visit: VisitId,
    /// While the box office is overloaded a claimant keeps its turn, and enters only if a slot was kept for
    /// it.
    pub load: BoxOfficeLoad,
}

/// The result of a request to enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reservation {
    /// A slot and a permit are reserved; the entry is to be journaled, or the slot released.
    Reserved {
        /// When it was reserved, by the store's clock: the start of the visit, however long journaling takes.
        at: Timestamp,
    },
    /// The number has a visit already.
    AlreadyAdmitted {
        visit: VisitId,
    },
    /// Another request of the same visitor has a slot reserved; its admission is being journaled.
    BeingAdmitted,
    NotCalledYet,
    /// No slot or permit is free for this claimant now.
    NoRoom {
        /// When its turn may come, by the claimants before it in its lane. Its claim lives until it has asked
        /// then.
        retry_after: Duration,
    },
    /// The visitor left, or the visit is over.
    Ended,
}

/// What a new pass is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PassGrant {
    pub expires_at: Timestamp,
    /// Passes of an earlier generation were revoked.
    pub generation: u32,
}

/// A visit whose slot becomes free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndedVisit {
    pub visit: VisitId,
    /// The visitor's queue number.
    pub number: u32,
    pub reason: EndReason,
}

/// Why a slot becomes free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// The visit is over.
    Ended,
    /// The visit never began: its entry was not journaled in time.
    Lapsed,
}

impl EndedVisit {
    /// The event to journal.
    pub(crate) fn event(self) -> Event {
        let Self {
            visit,
            number,
            reason,
        } = self;
        match reason {
            EndReason::Ended => Event::VisitEnded { number, visit },
            EndReason::Lapsed => Event::ReservationLapsed { number, visit },
        }
    }
}

/// The stock that box offices last reported, to any node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stock {
    pub zones: Vec<ZoneStock>,
    pub age: Duration,
    /// The health of each box office that reported lately.
    pub healths: Vec<BoxOfficeHealth>,
}

/// The status that all nodes serve.
#[derive(Clone, Debug)]
pub(crate) struct SharedStatus {
    /// 0 while none is published.
    pub version: u64,
    /// The encoded status.
    pub json: Vec<u8>,
    pub age: Duration,
}

/// A store call failed. Every call may be repeated.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum StoreError {
    /// A record contradicts what the store holds. The room cannot go on before this is investigated.
    #[error("the store contradicts the journal: {0}")]
    Diverged(&'static str),
    /// The store does not answer. The call may have taken effect.
    #[error("the store does not answer")]
    Unavailable,
    /// The store lost its data and is being rebuilt from the journal.
    #[error("the store is being rebuilt")]
    Recovering,
}

/// Joins that were journaled as one record. Their draw leaves have a root of their own, which receipts are
/// signed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JoinGroup {
    /// The lowest arrival number.
    pub first: u32,
    pub count: u32,
    /// When the last of them joined.
    pub last_joined_at: Timestamp,
}

/// Subjects read under one lock.
const SUBJECTS_AT_ONCE: u32 = 1_024;

/// What a store knows of its sale's draw, from the journal. Each method answers from this process's memory.
pub(crate) trait DrawStore {
    /// How far the draw has come.
    fn draw(&self) -> DrawState;

    /// The queue number of an arrival number: the same without a draw, and before it.
    fn queue_number(&self, arrival: u32) -> u32;

    /// The arrival number of a queue number: the same without a draw, and before it.
    fn arrival(&self, queue_number: u32) -> u32;

    /// The highest arrival number among the journaled joins before this moment.
    fn last_arrival_before(&self, at: Timestamp) -> u32;

    /// The subjects of `count` arrival numbers from `first` on; `None` for those that are not journaled.
    fn subjects_of(&self, first: u32, count: u32) -> Vec<Option<u64>>;

    /// Whether the draw was closed over this number before it was journaled: then no subject can have it.
    fn is_void_in_draw(&self, arrival: u32) -> bool;

    /// How many of the first `entries` arrival numbers have a journaled subject.
    fn count_persons(&self, entries: u32) -> u32 {
        let persons: usize = (1..=entries)
            .step_by(SUBJECTS_AT_ONCE as usize)
            .map(|first| {
                let subjects = self.subjects_of(first, SUBJECTS_AT_ONCE.min(entries - first + 1));
                subjects.into_iter().flatten().count()
            })
            .sum();
        u32::try_from(persons).unwrap_or(u32::MAX)
    }

    /// The group with which an arrival was journaled. Known only in a sale with a draw.
    fn join_group_of(&self, arrival: u32) -> Option<JoinGroup>;
}

/// The store of one sale.
///
/// State changes only by [`QueueStore::apply`], a fold of journal records, and by what is taken ahead of its
/// record: numbers, which stay assigned, and reservations, which last until their record is applied or they
/// are released.
///
/// Async methods may call another server and fail with [`StoreError`]; the others answer from this process's
/// memory (of a shared store: from a mirror).
#[async_trait]
pub(crate) trait QueueStore: DrawStore + Send + Sync + 'static {
    /// The subject's arrival number: its present one, or the next. No number is assigned to two subjects.
    async fn assign_number(&self, join: Join) -> Result<Assigned, StoreError>;

    /// Abandons a number that was assigned and never journaled, and over which a draw was closed; in a shared
    /// store also one that its subject has left. The subject gets another one when it joins again.
    async fn abandon_number(&self, subject: u64, arrival: u32) -> Result<(), StoreError>;

    /// Reinstates numbers that were assigned under an earlier epoch and never journaled, unless their subject
    /// has another one by now. Returns those that stand.
    async fn reinstate_numbers(&self, pending: &[PendingJoin]) -> Result<Vec<PendingJoin>, StoreError> {
        Ok(pending.to_vec())
    }

    /// Applies journal records: in order, without gaps. Refuses a call that does not continue the last one,
    /// and a number that belongs to another subject, with [`StoreError::Diverged`].
    async fn apply(&self, records: &[StoredRecord], at: Moment) -> Result<(), StoreError>;

    /// The current dataset's epoch, as far as this process knows. What is decided under an epoch is journaled
    /// under it.
    fn epoch(&self) -> u64;

    /// Whether the store answers and has all its data.
    fn is_complete(&self) -> bool {
        true
    }

    /// Tells the store that the journal knows a later epoch.
    fn mark_stale(&self) {}

    /// Whether the methods that answer from this process's memory read a copy, which may lack what another
    /// node has just journaled.
    fn is_copy(&self) -> bool {
        false
    }

    /// Waits until every node that is alive has applied the records that this one has applied; not longer
    /// than a second, as a node that has just died counts for a while.
    async fn wait_until_known_everywhere(&self) {}

    /// Called once after the journal has been replayed: passes of running visits count as fresh.
    async fn finish_replay(&self, at: Moment) -> Result<(), StoreError>;

    /// Reserves a slot and a permit in one step, if it is this claimant's turn.
    async fn reserve_slot(&self, request: &SlotRequest, at: Moment) -> Result<Reservation, StoreError>;

    /// Releases the slot of a reserved visit whose entry did not take place.
    async fn release_slot(&self, visit: VisitId) -> Result<(), StoreError>;

    /// Grants another pass to a running visit: the slot is kept until it has expired. `None`: the visit is
    /// over.
    async fn grant_pass(&self, visit: VisitId, now: Timestamp) -> Result<Option<PassGrant>, StoreError>;

    /// Marks the visits that end now: those named, and those whose pass has expired. They accept no pass any
    /// more; their slots become free with their records.
    async fn end_visits(&self, named: &[VisitId], now: Timestamp) -> Result<Vec<EndedVisit>, StoreError>;

    /// Reopens visits whose end could not be journaled, until they are ended again.
    async fn reopen_visits(&self, ended: &[EndedVisit]) -> Result<(), StoreError>;

    /// The explicit step of a tick: reports what this node knows, learns what other nodes reported, frees
    /// slots, and advances what is measured over time.
    async fn sync_state(&self, at: Moment) -> Result<(), StoreError>;

    /// What the admission policy decides by, as of the last [`QueueStore::sync_state`]. Reads only.
    fn admission_state(&self, at: Moment) -> AdmissionState;

    /// The number reached when `count` more waiting entries are called.
    async fn number_after(&self, count: u32) -> Result<u32, StoreError>;

    /// Publishes `own` (version and JSON) for all nodes if the published version is still `seen`; returns the
    /// published status. `None` where there is one node only.
    async fn share_status(
        &self,
        _seen: u64,
        _own: Option<(u64, &[u8])>,
    ) -> Result<Option<SharedStatus>, StoreError> {
        Ok(None)
    }

    /// Records a box office's report for all nodes, with the next tick: its stock where it is newer, and its
    /// health.
    fn record_report(&self, _source: &str, _zones: Option<&[ZoneStock]>, _health: Option<BoxOfficeHealth>) {}

    /// The stock last reported to any node. `None` where this node is the only one that receives reports.
    fn reported_stock(&self) -> Option<Stock> {
        None
    }

    /// Tells the other nodes which heartbeats this one received; returns those that all nodes received since
    /// the last call.
    async fn share_heartbeats(&self, _received: &[Heartbeat]) -> Result<Vec<Heartbeat>, StoreError> {
        Ok(Vec::new())
    }

    /// The entry of a subject, if it is journaled and the subject has not left.
    fn find_by_subject(&self, subject: u64) -> Option<KnownEntry>;

    /// The subject of an arrival number, if it is journaled.
    fn subject_of(&self, arrival: u32) -> Option<u64>;

    /// Whether a queue token of this number and subject is accepted.
    fn belongs_to(&self, arrival: u32, subject: u64) -> bool;

    /// What has become of a queue number.
    fn entry_state(&self, number: u32, at: Moment) -> NumberState;

    /// Whether a visitor waits with this queue number; some numbers have no visitor.
    fn is_person_waiting(&self, number: u32) -> bool;

    /// The visit of a queue number, reserved or running.
    fn visit_of(&self, number: u32) -> Option<VisitId>;

    /// Whether a pass of this visit and generation is accepted.
    fn is_admitted(&self, visit: VisitId, generation: u32) -> bool;

    /// Keeps the visit's slot at least until then.
    fn extend_visit(&self, visit: VisitId, until: Timestamp);

    /// How admission is set.
    fn settings(&self) -> Settings;

    /// The last number called.
    fn now_serving(&self) -> u32;

    /// How many people wait how far behind the last number called.
    fn people_ahead(&self) -> PeopleAhead;

    /// Queue numbers of waiting entries that are asked for heartbeats, in order: of the next `near` numbers
    /// those of the near sample, behind them those of the far sample.
    fn heartbeat_sample(&self, near: u32) -> Vec<u32>;

    /// Counts for status, metrics and operators.
    fn counts(&self, at: Moment) -> Counts;

    /// How long visits last, as far as it has been observed.
    fn visit_lengths(&self, now: Timestamp) -> VisitForecast;
}
