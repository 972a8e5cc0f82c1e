//! Who comes in, and when.
//!
//! A fan joins once and gets a number that never changes, signed into a token that her browser keeps. What changes is
//! the same for all: the board. Her place is arithmetic on the two. Behind it, one pen (`queue`) writes every change
//! into the `journal` before memory (`store`) and answer follow, and one tick (`gatekeeper`) calls the next by a pure
//! policy (`admission`, `show_up`); those who find the house full stand in their `lanes`.
//!
//! What holds at every moment:
//! - no entry is granted while as many are inside as the capacity says;
//! - entries in any window `w` are at most `rate * w + burst`;
//! - calls follow number order, of waiting claimants the lowest enters first, and those passed over come back through
//!   a lane of their own within their share;
//! - one subject has one number, one number one subject;
//! - what was answered is in the journal.

pub(crate) mod admission;
pub mod draw;
pub(crate) mod forecast;
pub(crate) mod journal;
mod open;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod tokens;
mod types;

#[cfg(test)]
mod tests;

use crate::waiting_room::admission::controller;
use crate::waiting_room::draw::coordinator;
use crate::waiting_room::forecast::wait_table;
use crate::waiting_room::journal::writer;
use crate::waiting_room::status::presence;
use crate::waiting_room::tokens::pass;
use crate::waiting_room::tokens::queue_token;
use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use self::{
    admission::controller::Gatekeeper,
    draw::{DrawTerms, coordinator::Drawing},
    journal::{
        Chain, Event, Join, Link,
        writer::{Answer, Ask, Behind, Pen, Promise},
    },
    status::{
        presence::Presence,
        snapshot::{BoardPost, Told},
    },
    store::{EntryAsk, Moment, Numbered, PassGrant, QueueStore, Reservation, Standing},
};
pub use self::{
    draw::{
        publication::{DrawProgress, PublishedDraw},
        receipts::{DrawLeaves, ReceiptOutcome},
    },
    forecast::interval_calibration::{KeptWord, Statements},
    journal::{CheckedLog, LogError, LogFault, LogHead, LogLine, check_log, read_log},
    status::snapshot::{BoardWatch, EncodedBoard, Reason},
    store::StoreError,
    tokens::{
        pass::{Papers, Pass, PassReader},
        queue_token::QueueToken,
    },
    types::{
        BoxOfficeHealth, BoxOfficeReport, CommandOutcome, Deps, DoorState, Engine, EnterOutcome, Figures,
        Inside, JoinOutcome, Joined, JournalPlace, NOTICE_CHARS_MAX, OpenError, OperatorCommand, Phase,
        Place, PlaceState, Refusal, RenewOutcome, Wait, WaitingRoomError, ZoneStock,
    },
};
use crate::{
    kernel::{Clock, Entropy, SaleId, Subject, Timestamp, VisitId},
    platform::{group_commit::GroupCommitError, keys::Keys, shutdown::Lifecycle, signing::TokenError},
};

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

/// How long a report keeps the visits of those who are paying: some reports may be lost.
const PAYING_KEPT: Duration = Duration::from_secs(10);
const POLL_NEAR_MS: u32 = 1_000;
const POLL_FAR_MS: u32 = 20_000;

/// One sale's waiting room.
pub struct WaitingRoom {
    config: Config,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    keys: Keys,
    life: Lifecycle,
    sale_hash: [u8; 8],
    store: Arc<dyn QueueStore>,
    pen: Pen,
    behind: Behind,
    chain: Arc<dyn Chain>,
    /// The last link that this node knows of.
    linked: ArcSwap<Link>,
    post: BoardPost,
    told: ArcSwap<Told>,
    presence: Presence,
    gatekeeper: Gatekeeper,
    drawing: Drawing,
    passes: PassReader,
}

impl fmt::Debug for WaitingRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WaitingRoom({})", self.config.sale)
    }
}

impl WaitingRoom {
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn phase(&self) -> Phase {
        self.phase_at(self.clock.now())
    }

    fn phase_at(&self, now: Timestamp) -> Phase {
        controller::phase_at(&self.config, &self.store.settings(), now)
    }

    /// Takes a place, or finds the one she has. As durable as the sale's terms say when this returns.
    ///
    /// May be dropped at any moment: what was handed to the pen is written, and a number that was given and not handed to
    /// it is nobody's until she asks again.
    pub async fn join(&self, who: &Subject) -> Result<JoinOutcome, WaitingRoomError> {
        let subject = queue_token::subject_hash(&self.keys.queue, &self.config.sale, who);
        // Most who join twice have merely reloaded the page.
        match self.store.known(subject) {
            Some(found) if !matches!(self.phase(), Phase::Scheduled | Phase::Closed) => {
                Ok(self.already(subject, &found))
            }
            _ => self.take_place(subject).await,
        }
    }

    /// Takes a place for somebody who has shown no name: only the token will say that it is hers. As [`WaitingRoom::join`].
    pub async fn join_stranger(&self) -> Result<JoinOutcome, WaitingRoomError> {
        self.take_place(queue_token::stranger(self.entropy.as_ref()))
            .await
    }

    async fn take_place(&self, subject: u64) -> Result<JoinOutcome, WaitingRoomError> {
        let now = self.clock.now();
        let phase = self.phase_at(now);
        match phase {
            Phase::Scheduled => {
                return Ok(JoinOutcome::NotOpenYet {
                    opens: self.config.prequeue_at,
                });
            }
            Phase::Closed => return Ok(JoinOutcome::Closed),
            _ => {}
        }
        if self.behind.is() && self.config.durability == Durability::Acknowledged {
            return Err(WaitingRoomError::Journal);
        }
        // Read before the engine is asked: whatever it decides is then not written down under a later epoch.
        let epoch = self.store.epoch();
        let join = Join {
            subject,
            joined_at: now,
        };
        match self.number(join).await? {
            Numbered::New(found) => {
                let found = self.write_join(join, found, epoch).await?;
                // When she came, the journal knows best: another node may have been a moment faster.
                let written = self.config.durability == Durability::Journaled;
                let found = if written {
                    self.store.known(subject).unwrap_or(found)
                } else {
                    found
                };
                Ok(JoinOutcome::Joined(
                    self.joined(&token_of(subject, &found), waiting_in(phase)),
                ))
            }
            Numbered::Had { found, written } => {
                if !written {
                    // Another node may have written it just now, or died before it could.
                    writer::follow(&self.pen).await.map_err(not_written)?;
                    if self.store.owner(found.number).is_none() {
                        let found = self.write_join(join, found, epoch).await?;
                        return Ok(self.already(subject, &self.store.known(subject).unwrap_or(found)));
                    }
                }
                let found = self.store.known(subject).unwrap_or(found);
                Ok(self.already(subject, &found))
            }
            Numbered::Full => Ok(JoinOutcome::Full),
        }
    }

    /// Her number, or the next: not one that a draw was closed over before it was written down.
    async fn number(&self, join: Join) -> Result<Numbered, WaitingRoomError> {
        match self.store.number(join).await? {
            Numbered::Had {
                found,
                written: false,
            } if self.store.missed_draw(found.number) => {
                self.store.give_up(join.subject, found.number).await?;
                Ok(self.store.number(join).await?)
            }
            numbered => Ok(numbered),
        }
    }

    /// As durable as the sale's terms say when this returns. Where the entries were closed a moment before, she stands
    /// behind those of the draw, with another number.
    async fn write_join(
        &self,
        join: Join,
        found: store::Found,
        epoch: u64,
    ) -> Result<store::Found, WaitingRoomError> {
        let ask = |found: store::Found| {
            let join = Join {
                joined_at: found.joined_at,
                ..join
            };
            Ask::Join(Promise {
                number: found.number,
                join,
                epoch,
            })
        };
        if self.config.durability == Durability::Acknowledged {
            self.pen.hand_in(ask(found)).map_err(not_written)?;
            return Ok(found);
        }
        let answer = self.pen.submit(ask(found)).await.map_err(not_written)?;
        if answer == Answer::Written {
            return Ok(found);
        }
        if !self.store.missed_draw(found.number) {
            return Err(WaitingRoomError::Journal);
        }
        match self.number(join).await? {
            Numbered::New(found)
            | Numbered::Had {
                found,
                written: false,
            } => match self.pen.submit(ask(found)).await.map_err(not_written)? {
                Answer::Written => Ok(found),
                Answer::Failed => Err(WaitingRoomError::Journal),
            },
            Numbered::Had { found, written: true } => Ok(found),
            Numbered::Full => Err(WaitingRoomError::Busy),
        }
    }

    /// Reads a queue token: key, purpose and sale, without I/O.
    pub fn read_token(&self, token: &str) -> Result<QueueToken, TokenError> {
        QueueToken::open(token, &self.keys.queue, self.sale_hash)
    }

    pub fn belongs_to(&self, token: &QueueToken, who: &Subject) -> bool {
        token.subject_hash == queue_token::subject_hash(&self.keys.queue, &self.config.sale, who)
    }

    /// Where she stands now. No I/O.
    pub fn place(&self, token: &QueueToken) -> Place {
        let at = self.moment();
        let settings = self.store.settings();
        let phase = controller::phase_at(&self.config, &settings, at.now);
        let in_line = self.number_in_line(token);
        let number = in_line.map_or(token.arrival, u64::from);
        let standing = in_line.map_or(Standing::Left, |number| self.store.standing(number, at));
        let (state, call_ends_at) = match standing {
            Standing::Waiting => (waiting_in(phase), None),
            Standing::Called { ends_at } => (PlaceState::Called, Some(ends_at)),
            Standing::PassedOver => (PlaceState::PassedOver, None),
            Standing::Entered => (PlaceState::Entered, None),
            Standing::Left => (PlaceState::Left, None),
        };
        let has_order = coordinator::has_order(&self.config, &settings);
        let (now_serving, told) = (u64::from(self.store.now_serving()), self.told.load());
        let is_behind = standing == Standing::Waiting && has_order;
        let ahead = is_behind.then(|| told.people_between(now_serving, number.saturating_sub(1)));
        let distance = is_behind.then(|| number.saturating_sub(now_serving + 1));
        let wait = distance
            .and_then(|numbers| wait_table::interpolate(&told.estimate, numbers))
            .map(|[p10_s, p50_s, p90_s]| Wait {
                p10_s,
                p50_s,
                p90_s,
                around: at.now.plus(Duration::from_secs(p50_s.into())),
            });
        Place {
            state,
            number: has_order.then_some(number),
            position: ahead.map(|ahead| ahead.count + 1),
            ahead: ahead.map(|ahead| ahead.count),
            about: ahead.is_some_and(|ahead| ahead.about),
            poll_after_ms: poll_after_ms(state, number, wait.map(|w| w.p10_s)),
            wait,
            call_ends_at,
            sample: presence::sample_of(token.subject_hash),
        }
    }

    /// She leaves on purpose; whoever is inside ends her visit with it. Leaving twice is leaving once.
    pub async fn leave(&self, token: &QueueToken) -> Result<(), WaitingRoomError> {
        let at = self.moment();
        let Some(number) = self.number_in_line(token) else {
            return Ok(());
        };
        if self.store.standing(number, at) == Standing::Left {
            return Ok(());
        }
        if let Some(visit) = self.store.visit_of(number) {
            if self.store.standing(number, at) != Standing::Entered {
                // Her entry is just being written down.
                return Err(WaitingRoomError::Busy);
            }
            return self.end(visit).await;
        }
        let Some(arrival) = self.arrival_in_line(token) else {
            return Ok(());
        };
        self.write(Event::Left { number: arrival }).await
    }

    /// She is there. `None`: she is not asked, and nothing has changed. Else how soon she is asked again.
    pub fn present(&self, token: &QueueToken) -> Option<Duration> {
        let at = self.moment();
        let number = self
            .number_in_line(token)
            .filter(|number| self.store.standing(*number, at) == Standing::Waiting)?;
        let settings = self.store.settings();
        if waiting_in(controller::phase_at(&self.config, &settings, at.now)) != PlaceState::Waiting {
            return None;
        }
        let distance = number.saturating_sub(self.store.now_serving());
        let wait_s =
            wait_table::interpolate(&self.told.load().estimate, distance.into()).map(|[_, p50_s, _]| p50_s);
        let again_in = presence::again_in(
            token.subject_hash,
            distance,
            presence::near(settings.rate_per_minute),
            wait_s,
        )?;
        self.presence.heard(number, at.now, again_in);
        Some(again_in)
    }

    /// The current board, ready to be sent.
    pub fn board(&self) -> Arc<EncodedBoard> {
        self.post.current()
    }

    /// A seat before the board; `None` when all are taken.
    pub fn watch_board(&self) -> Option<BoardWatch> {
        self.post.watch()
    }

    /// Goes through the door, unless those `inside` are late. Asking again while the visit lasts gives a fresh pass for the
    /// same visit.
    pub async fn enter(&self, token: &QueueToken, inside: Inside) -> Result<EnterOutcome, WaitingRoomError> {
        if self.phase() == Phase::Closed {
            return Ok(EnterOutcome::Closed);
        }
        let Some(number) = self.number_in_line(token) else {
            return Ok(EnterOutcome::Ended(self.place(token)));
        };
        let at = self.moment();
        let epoch = self.store.epoch();
        let ask = EntryAsk {
            number,
            visit: VisitId::random(self.entropy.as_ref()),
            inside,
        };
        let visit = match self.store.reserve(&ask, at).await? {
            Reservation::Reserved { at } => {
                let entered = Event::Entered {
                    number,
                    subject: token.subject_hash,
                    visit: ask.visit,
                };
                self.hand_to_pen(Ask::Entry {
                    event: entered,
                    at,
                    epoch,
                })
                .await?;
                ask.visit
            }
            Reservation::Inside { visit } => visit,
            Reservation::NotCalledYet => return Ok(EnterOutcome::NotCalledYet(self.place(token))),
            Reservation::NoRoom { ask_again } => {
                let mut place = self.place(token);
                place.poll_after_ms = place
                    .poll_after_ms
                    .max(u32::try_from(ask_again.as_millis()).unwrap_or(POLL_FAR_MS));
                return Ok(EnterOutcome::FullForAMoment(place));
            }
            Reservation::Left => return Ok(EnterOutcome::Ended(self.place(token))),
        };
        let now = self.clock.now();
        Ok(match self.store.grant_pass(visit, now).await? {
            Some(grant) => {
                let (pass, expires_at) = self.seal_pass(visit, token.subject_hash, number.into(), grant, now);
                EnterOutcome::Entered { pass, expires_at }
            }
            None => EnterOutcome::Ended(self.place(token)),
        })
    }

    /// Reads a pass: signature, house, sale, times, generation, and that its visit goes on. No I/O.
    pub fn read_pass(&self, pass: &str) -> Result<Pass, TokenError> {
        let pass = self.passes.read_pass(pass)?;
        if !self.store.is_inside(pass.visit, pass.generation) {
            return Err(TokenError::Expired);
        }
        Ok(pass)
    }

    pub fn pass_belongs_to(&self, pass: &Pass, who: &Subject) -> bool {
        self.passes.pass_belongs_to(pass, who)
    }

    /// A fresh pass for a visit that goes on; whoever is inside when the sale closes may finish.
    pub async fn renew(&self, pass: &Pass) -> Result<RenewOutcome, WaitingRoomError> {
        let now = self.clock.now();
        Ok(match self.store.grant_pass(pass.visit, now).await? {
            Some(grant) => {
                let (pass, expires_at) =
                    self.seal_pass(pass.visit, pass.subject_hash, pass.number, grant, now);
                RenewOutcome::Renewed { pass, expires_at }
            }
            None => RenewOutcome::Ended,
        })
    }

    /// Ends a visit and gives its slot back. Ending twice is ending once.
    pub async fn end_visit(&self, pass: &Pass) -> Result<(), WaitingRoomError> {
        self.end(pass.visit).await
    }

    /// Takes down what the box office reports; it counts from the next tick on.
    pub fn box_office_report(&self, report: BoxOfficeReport) {
        let until = self.clock.now().plus(PAYING_KEPT);
        for visit in &report.paying {
            self.store.keep_visit(*visit, until);
        }
        let (source, zones, health) = (report.source.clone(), report.zones.clone(), report.health);
        let is_news = self.gatekeeper.report(report, self.clock.monotonic());
        self.store.report(&source, is_news.then_some(&zones), health);
    }

    /// Carries out an order of the house's own; see [`WaitingRoom::order`].
    pub async fn command(&self, command: OperatorCommand) -> Result<CommandOutcome, WaitingRoomError> {
        self.ordered(command, None).await
    }

    /// Carries out an operator's order: in the journal with her name, and effective here when this returns; on every
    /// other node with its next tick.
    pub async fn order(
        &self,
        command: OperatorCommand,
        by: &str,
    ) -> Result<CommandOutcome, WaitingRoomError> {
        self.ordered(command, Some(by.to_owned())).await
    }

    async fn ordered(
        &self,
        command: OperatorCommand,
        by: Option<String>,
    ) -> Result<CommandOutcome, WaitingRoomError> {
        let refusal = match &command {
            OperatorCommand::Notice { text }
                if text
                    .as_ref()
                    .is_some_and(|text| text.chars().count() > NOTICE_CHARS_MAX) =>
            {
                Some(Refusal::NoticeTooLong)
            }
            OperatorCommand::Pause
            | OperatorCommand::Resume
            | OperatorCommand::Rate { .. }
            | OperatorCommand::Capacity { .. }
                if self.phase() == Phase::Closed =>
            {
                Some(Refusal::Closed)
            }
            _ => None,
        };
        if let Some(refusal) = refusal {
            return Ok(CommandOutcome::Refused(refusal));
        }
        self.write(Event::Operator { command, by }).await?;
        Ok(CommandOutcome::Done)
    }

    /// How the door is set now.
    pub fn door_state(&self) -> DoorState {
        let (settings, active) = (self.store.settings(), self.store.counts(self.moment()).active);
        let phase = controller::phase_at(&self.config, &settings, self.clock.now());
        DoorState {
            phase,
            reason: controller::reason_of(phase, &settings, active),
            version: settings.orders,
            paused: settings.paused,
            rate_per_minute: settings.rate_ordered,
            rate_in_force_per_minute: settings.rate_per_minute,
            capacity: settings.capacity,
            active,
            notice: settings.notice.as_deref().map(str::to_owned),
        }
    }

    pub fn figures(&self) -> Figures {
        let (counts, settings) = (self.store.counts(self.moment()), self.store.settings());
        Figures {
            issued: counts.issued.into(),
            now_serving: counts.now_serving.into(),
            active: counts.active,
            claimants: counts.claimants,
            returners: counts.returners,
            waiting: counts.waiting,
            present_percent: self.told.load().present_percent,
            passed_over: counts.passed_over,
            rate_per_minute: settings.rate_per_minute,
            rate_ordered_per_minute: settings.rate_ordered,
            capacity: settings.capacity,
            entries_total: counts.entries_total,
            statements: self.gatekeeper.statements(),
        }
    }

    async fn end(&self, visit: VisitId) -> Result<(), WaitingRoomError> {
        let ended = self.store.end_visits(&[visit], self.clock.now()).await?;
        for end in ended {
            self.write(end.event()).await?;
        }
        Ok(())
    }

    /// Her arrival number, if the journal knows her by it: after the loss of a journal an old token must not stand for
    /// somebody else's place.
    fn arrival_in_line(&self, token: &QueueToken) -> Option<u32> {
        u32::try_from(token.arrival)
            .ok()
            .filter(|&arrival| self.store.is_of(arrival, token.subject_hash))
    }

    /// Her queue number: before a draw it stands for her place and is told to nobody.
    fn number_in_line(&self, token: &QueueToken) -> Option<u32> {
        let arrival = self.arrival_in_line(token)?;
        Some(if self.config.draw.is_none() {
            arrival
        } else {
            self.store.queue_number(arrival)
        })
    }

    async fn write(&self, event: Event) -> Result<(), WaitingRoomError> {
        self.hand_to_pen(Ask::Events(vec![event])).await
    }

    async fn hand_to_pen(&self, ask: Ask) -> Result<(), WaitingRoomError> {
        match writer::write_for_a_visitor(&self.pen, self.store.as_ref(), ask)
            .await
            .map_err(not_written)?
        {
            Answer::Written => Ok(()),
            Answer::Failed => Err(WaitingRoomError::Journal),
        }
    }

    fn already(&self, subject_hash: u64, found: &store::Found) -> JoinOutcome {
        let token = token_of(subject_hash, found);
        JoinOutcome::Already(self.joined(&token, self.place(&token).state))
    }

    fn joined(&self, token: &QueueToken, state: PlaceState) -> Joined {
        Joined {
            token: token.seal(&self.keys.queue, self.sale_hash),
            state,
            number: self.told_number(token),
            joined_at: token.joined_at,
            sample: presence::sample_of(token.subject_hash),
        }
    }

    fn told_number(&self, token: &QueueToken) -> Option<u64> {
        if self.config.draw.is_none() {
            return Some(token.arrival);
        }
        let drawn = self.store.settings().drawn;
        u32::try_from(token.arrival)
            .ok()
            .filter(|_| drawn)
            .map(|arrival| self.store.queue_number(arrival).into())
    }

    fn seal_pass(
        &self,
        visit: VisitId,
        subject_hash: u64,
        number: u64,
        grant: PassGrant,
        now: Timestamp,
    ) -> (String, Timestamp) {
        let PassGrant {
            expires_at,
            generation,
        } = grant;
        let expires_at = Timestamp::from_secs(expires_at.as_secs());
        let pass = Pass {
            visit,
            subject_hash,
            number,
            generation,
            issued_at: now,
            expires_at,
        };
        (
            pass::seal(
                &pass,
                &self.keys.pass,
                &self.config.sale,
                &self.config.issuer,
                self.entropy.as_ref(),
            ),
            expires_at,
        )
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.clock.now(),
            monotonic: self.clock.monotonic(),
        }
    }
}

fn token_of(subject_hash: u64, found: &store::Found) -> QueueToken {
    QueueToken {
        arrival: found.number.into(),
        subject_hash,
        joined_at: found.joined_at,
    }
}

/// What a place is that is not called yet.
fn waiting_in(phase: Phase) -> PlaceState {
    match phase {
        Phase::Scheduled | Phase::Prequeue | Phase::Drawing => PlaceState::Prequeue,
        Phase::OnSale | Phase::Paused | Phase::SoldOut | Phase::Closed => PlaceState::Waiting,
    }
}

fn not_written(error: GroupCommitError) -> WaitingRoomError {
    match error {
        GroupCommitError::Full => WaitingRoomError::Busy,
        GroupCommitError::Gone => WaitingRoomError::Journal,
    }
}

/// The nearer, the oftener; spread by number so that those who came together do not ask together.
fn poll_after_ms(state: PlaceState, number: u64, soonest_s: Option<u32>) -> u32 {
    let base = match state {
        PlaceState::Called => return POLL_NEAR_MS,
        PlaceState::PassedOver => 3 * POLL_NEAR_MS,
        PlaceState::Entered | PlaceState::Left => POLL_FAR_MS,
        // A twentieth of the wait: late by 5 % at worst.
        PlaceState::Prequeue | PlaceState::Waiting => {
            soonest_s.map_or(5 * POLL_NEAR_MS, |s| s.saturating_mul(50))
        }
    };
    let base = base.clamp(POLL_NEAR_MS, POLL_FAR_MS);
    let spread =
        u32::try_from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).expect("32 bits") % (base / 4);
    if base == POLL_NEAR_MS {
        base
    } else {
        base - base / 8 + spread
    }
}
