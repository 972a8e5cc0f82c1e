//! The store's port: the traits that both backends implement, and the words of their answers.

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    kernel::{Timestamp, VisitId},
    waiting_room::{
        BoxOfficeHealth, Inside, ZoneStock,
        draw::progress::Draw,
        forecast::visit_length::VisitsOutlook,
        journal::record::{Event, Join, Promise, Stored},
        status::{people_ahead::Survivors, presence::Heard},
        state::{Counts, Settings, Situation},
        tokens::pass::LEEWAY_S,
    },
};

/// How long after a pass has expired its slot is used again: the verifiers' leeway and a bound on their clocks' skew.
pub(crate) const SLOT_GRACE: Duration = Duration::from_secs(LEEWAY_S.unsigned_abs() + 1);

/// Both clocks at one moment: the wall's for what is written down, the steady one for rates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub now: Timestamp,
    pub monotonic: Duration,
}

/// Where a subject stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Her arrival number.
    pub number: u32,
    pub joined_at: Timestamp,
}

/// What somebody who joins is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbered {
    /// Hers from now on; to be written down.
    New(Found),
    /// She had it. Where the journal is not known to have it, it is to be written down again: whoever was to write it
    /// may have died.
    Had { found: Found, written: bool },
    /// No number is left.
    Full,
}

/// What has become of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Waiting,
    Called { ends_at: Timestamp },
    PassedOver,
    Entered,
    Left,
}

/// Somebody asks to enter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryAsk {
    /// Her queue number.
    pub number: u32,
    /// The name of the visit if she gets in.
    pub visit: VisitId,
    /// While those inside cannot be served nobody comes in; whoever asks stands before the door and keeps her turn.
    pub inside: Inside,
}

/// Whether she gets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reservation {
    /// A slot and a permit are hers; to be journaled, or given back.
    Reserved {
        /// When she got them, by the engine's clock: that is when she came in, however long the writing takes.
        at: Timestamp,
    },
    /// She is inside already.
    Inside {
        visit: VisitId,
    },
    NotCalledYet,
    /// No room at this moment, or her entry is just being written down.
    NoRoom {
        /// When it may be her turn, by those who stand before her in her lane; her claim lives until she has asked then.
        ask_again: Duration,
    },
    Left,
}

/// What a pass is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PassGrant {
    pub expires_at: Timestamp,
    pub generation: u32,
}

/// A visit whose slot comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndedVisit {
    pub visit: VisitId,
    /// Its visitor's queue number.
    pub number: u32,
    pub how: Finished,
}

/// How a slot came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    Ended,
    /// The visit never began: whoever was to write the entry down did not.
    Lapsed,
}

impl EndedVisit {
    pub(crate) fn event(self) -> Event {
        let Self { visit, number, how } = self;
        match how {
            Finished::Ended => Event::VisitEnded { number, visit },
            Finished::Lapsed => Event::Lapsed { number, visit },
        }
    }
}

/// The box office's last word, from whichever node heard it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stock {
    pub zones: Vec<ZoneStock>,
    pub age: Duration,
    /// How the visitors of each box office fare that has said so lately.
    pub healths: Vec<BoxOfficeHealth>,
}

/// The board that all nodes serve; version 0 before there is one.
#[derive(Clone, Debug)]
pub(crate) struct SharedBoard {
    pub version: u64,
    pub json: Vec<u8>,
    pub age: Duration,
}

#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum StoreError {
    /// The record does not continue what the store holds.
    #[error("the store and the journal have parted: {0}")]
    Parted(&'static str),
    /// The engine does not answer. What was asked may have been done; everything may be asked again.
    #[error("the engine does not answer")]
    Away,
    /// The engine has lost its memory, and is being given it back.
    #[error("the engine is being rebuilt")]
    Rebuilding,
}

/// Those who were written down together. Their leaves have a root of their own, which the house signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JoinGroup {
    /// Its lowest arrival number.
    pub first: u32,
    pub count: u32,
    /// When the last of them came.
    pub until: Timestamp,
}

/// Owners read under one lock.
const OWNERS_AT_ONCE: u32 = 1_024;

/// What an engine knows of its sale's draw, from the journal: this process's view, without I/O.
pub(crate) trait DrawnStore {
    /// How far the draw has come.
    fn draw(&self) -> Draw;
    /// Where an arrival stands in line: as it came without a draw, and before it.
    fn queue_number(&self, arrival: u32) -> u32;
    /// The highest arrival number of those whom the journal has and who came before this moment.
    fn arrived_before(&self, at: Timestamp) -> u32;
    /// Whose the arrival numbers from `first` on are, `count` of them; `None` for those that the journal does not have.
    fn owners(&self, first: u32, count: u32) -> Vec<Option<u64>>;
    /// A draw was closed over this number while nobody had come with it.
    fn missed_draw(&self, arrival: u32) -> bool;
    /// How many of the first `entries` arrival numbers the journal assigns to a subject.
    fn count_persons(&self, entries: u32) -> u32 {
        let persons: usize = (1..=entries)
            .step_by(OWNERS_AT_ONCE as usize)
            .map(|first| {
                let owners = self.owners(first, OWNERS_AT_ONCE.min(entries - first + 1));
                owners.into_iter().flatten().count()
            })
            .sum();
        u32::try_from(persons).unwrap_or(u32::MAX)
    }
    /// With whom somebody was written down. Kept only where there is a draw.
    fn group_of(&self, arrival: u32) -> Option<JoinGroup>;
}

/// One sale's engine. State changes only by [`QueueStore::apply`], a fold of journal records, and by what is taken
/// ahead of its record: numbers, which stay taken, and reservations, which last until their record is applied or they
/// are given back.
#[async_trait]
pub(crate) trait QueueStore: DrawnStore + Send + Sync + 'static {
    /// The number of whoever joins: her own, or the next. A number is never given to two subjects.
    async fn number(&self, join: Join) -> Result<Numbered, StoreError>;

    /// This number was given and never written down, and a draw has been closed over it: it is nobody's, and its subject
    /// gets another one when she asks again.
    async fn give_up(&self, subject: u64, arrival: u32) -> Result<(), StoreError>;

    /// These numbers were promised under an epoch that is over and never written down: they stand, unless their subject
    /// has another one by now. Gives those that stand.
    async fn adopt(&self, promised: &[Promise]) -> Result<Vec<Promise>, StoreError> {
        Ok(promised.to_vec())
    }

    /// What the journal holds is now so. In order, without gaps; a call that does not follow on is refused, and a number
    /// that is somebody else's.
    async fn apply(&self, records: &[Stored], at: Moment) -> Result<(), StoreError>;

    /// Which of its memories decides, as far as is known here. What is decided under one is written down under it.
    fn epoch(&self) -> u64;

    /// Whether it answers, and has all its data.
    fn is_complete(&self) -> bool {
        true
    }

    /// The journal knows a later epoch.
    fn is_stale(&self) {}

    /// Called once after the journal has been replayed: passes of visits that go on are taken to be fresh.
    async fn recovered(&self, at: Moment) -> Result<(), StoreError>;

    /// Takes a slot and a permit in one step, if it is her turn.
    async fn reserve(&self, ask: &EntryAsk, at: Moment) -> Result<Reservation, StoreError>;

    /// The entry of this visit did not take place.
    async fn give_back(&self, visit: VisitId) -> Result<(), StoreError>;

    /// Another pass for a visit that goes on: the slot is kept until it has expired. `None`: the visit is over.
    async fn grant_pass(&self, visit: VisitId, now: Timestamp) -> Result<Option<PassGrant>, StoreError>;

    /// Marks the visits that end now: those named, and those whose pass has expired. They accept no pass any more;
    /// their slots come back with their records.
    async fn end_visits(&self, named: &[VisitId], now: Timestamp) -> Result<Vec<EndedVisit>, StoreError>;

    /// Their end could not be written down: they go on, until they are ended again.
    async fn reopen_visits(&self, ended: &[EndedVisit]) -> Result<(), StoreError>;

    /// What the policy needs to know.
    async fn situation(&self, at: Moment) -> Result<Situation, StoreError>;

    /// The number reached when `count` more of those in line are called.
    async fn reach(&self, count: u32) -> Result<u32, StoreError>;

    /// The board that hangs out for all nodes; `own` (version and bytes) is hung in its place if it is still `seen`.
    /// `None` where there is one node only.
    async fn share_board(
        &self,
        _seen: u64,
        _own: Option<(u64, &[u8])>,
    ) -> Result<Option<SharedBoard>, StoreError> {
        Ok(None)
    }

    /// Takes down what a box office says, for all nodes: its stock, where it is news, and how its visitors fare.
    fn report(&self, _source: &str, _zones: Option<&[ZoneStock]>, _health: Option<BoxOfficeHealth>) {}

    /// What it said last, to whichever node. `None` where this node is the only one to hear it.
    fn stock(&self) -> Option<Stock> {
        None
    }

    /// Tells the other nodes who has been heard of here; gives what they have heard since this was last asked.
    async fn share_presence(&self, _heard: &[Heard]) -> Result<Vec<Heard>, StoreError> {
        Ok(Vec::new())
    }

    // What follows is this process's view and does no I/O: an engine elsewhere keeps a mirror of it.

    /// Where a subject stands, if the journal has it and she has not left.
    fn known(&self, subject: u64) -> Option<Found>;
    /// Whose arrival number it is, if the journal has it.
    fn owner(&self, arrival: u32) -> Option<u64>;
    /// Whether a token that says so is to be believed.
    fn is_of(&self, arrival: u32, subject: u64) -> bool;
    fn standing(&self, number: u32, at: Moment) -> Standing;
    fn visit_of(&self, number: u32) -> Option<VisitId>;
    /// Whether a pass of this visit and generation opens the door.
    fn is_inside(&self, visit: VisitId, generation: u32) -> bool;
    /// The visit's slot lasts at least until then.
    fn keep_visit(&self, visit: VisitId, until: Timestamp);
    fn settings(&self) -> Settings;
    fn now_serving(&self) -> u32;
    /// How many people stand how far behind the last number called.
    fn survivors(&self) -> Survivors;
    /// The queue numbers behind it of those in line who are asked whether they are there, in order: of the next `near`
    /// numbers those of the one sample, of the others those of the other one.
    fn asked(&self, near: u32) -> Vec<u32>;
    fn counts(&self, at: Moment) -> Counts;
    /// How long visits last, as far as it has been seen.
    fn visits(&self, now: Timestamp) -> VisitsOutlook;
}
