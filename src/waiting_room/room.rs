//! `WaitingRoom`: everything that a sale's waiting room can be asked, delegated to its parts.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use crate::{
    kernel::Subject,
    platform::{shutdown::Lifecycle, signing::TokenError},
    waiting_room::{
        admission::controller::AdmissionController,
        call_notices::CallNotices,
        commands,
        context::{RoomContext, WaitingRoomError},
        draw::{
            coordinator::DrawCoordinator,
            publication::{self, DrawProgress, PublishedDraw},
            receipt::DrawReceipt,
            receipts::{DrawLeaves, ReceiptMaker, ReceiptOutcome},
            secrets::Secrets,
        },
        join::{self, Entry},
        journal::{
            chain::{self, ChainLink, ChainStore},
            notices::NoticeStore,
            port::JournalError,
            record::Event,
            verify::ChainHead,
        },
        phase::{has_order, uncalled_state},
        position,
        status::{
            presence,
            reporter::{Inputs, StatusReporter},
            snapshot::{EncodedStatus, StatusSubscription},
        },
        store::port::{KnownEntry, NumberState, StoreError},
        tokens::{
            pass::{Pass, PassVerifier, TokenVerifier},
            queue_token::{self, QueueToken},
        },
        types::{
            AdmissionSettings, BoxOfficeLoad, BoxOfficeReport, CallNoticeOutcome, CalledVisitor,
            CommandOutcome, Config, EnterOutcome, EntryState, JoinOutcome, Joined, Milestones,
            OperatorCommand, POLL_FAR_MS, Phase, Position, RenewOutcome, RoomMetrics,
        },
        visits::{self, Admission},
    },
};

/// How long a report keeps the visits of those who are paying: some reports may be lost.
const PAYING_KEPT: Duration = Duration::from_secs(10);

/// One sale's waiting room.
pub struct WaitingRoom {
    context: Arc<RoomContext>,
    life: Lifecycle,
    sale_hash: [u8; 8],
    chain: Arc<dyn ChainStore>,
    /// The last link of the journal's chain that this node knows of.
    linked: ArcSwap<ChainLink>,
    status: StatusReporter,
    admission: AdmissionController,
    draw: DrawCoordinator,
    passes: PassVerifier,
    call_notices: CallNotices,
}

impl fmt::Debug for WaitingRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WaitingRoom({})", self.context.config.sale)
    }
}

impl WaitingRoom {
    /// A room over a recovered store; `linked` is the last link of the journal's `chain`. Publishes a first
    /// status.
    pub(crate) fn new(
        context: RoomContext,
        life: Lifecycle,
        chain: Arc<dyn ChainStore>,
        linked: ChainLink,
        notices: Arc<dyn NoticeStore>,
        secrets: Option<Secrets>,
    ) -> Self {
        let context = Arc::new(context);
        let config = &context.config;
        let room = Self {
            call_notices: CallNotices::new(Arc::clone(&context), notices, &life),
            life,
            sale_hash: queue_token::sale_hash(&config.sale),
            chain,
            linked: ArcSwap::from_pointee(linked),
            status: StatusReporter::new(Arc::clone(&context)),
            admission: AdmissionController::new(Arc::clone(&context)),
            draw: DrawCoordinator::new(Arc::clone(&context), secrets),
            passes: PassVerifier::new(
                config.sale.clone(),
                config.issuer.clone(),
                context.keys.clone(),
                Arc::clone(&context.clock),
            ),
            context,
        };
        room.publish_status();
        room
    }

    /// The sale's configuration.
    pub fn config(&self) -> &Config {
        &self.context.config
    }

    /// The sale's phase now.
    pub fn phase(&self) -> Phase {
        self.context.phase()
    }

    /// Gives a subject a queue entry, or finds the one it has. As durable as the sale's configuration says
    /// when this returns. May be dropped at any moment.
    ///
    /// # Errors
    /// [`WaitingRoomError`]; joining again is safe.
    pub async fn join(&self, who: &Subject) -> Result<JoinOutcome, WaitingRoomError> {
        let context = &self.context;
        let subject = queue_token::subject_hash(&context.keys.queue, &context.config.sale, who);
        // Most who join twice have merely reloaded the page.
        match context.store.find_by_subject(subject) {
            Some(found) if join::is_open_for_joins(self.phase()) => Ok(self.existing(subject, found)),
            _ => self.join_as(subject).await,
        }
    }

    /// Gives a visitor without a name a queue entry: only the token proves whose it is. As
    /// [`WaitingRoom::join`].
    ///
    /// # Errors
    /// As [`WaitingRoom::join`].
    pub async fn join_anonymous(&self) -> Result<JoinOutcome, WaitingRoomError> {
        self.join_as(queue_token::anonymous_subject(self.context.entropy.as_ref()))
            .await
    }

    async fn join_as(&self, subject: u64) -> Result<JoinOutcome, WaitingRoomError> {
        let phase = self.phase();
        match phase {
            Phase::Scheduled => {
                return Ok(JoinOutcome::NotOpenYet {
                    prequeue_starts_at: self.context.config.prequeue_starts_at,
                });
            }
            Phase::Closed => return Ok(JoinOutcome::Closed),
            _ => {}
        }
        Ok(match join::join(&self.context, subject).await? {
            Entry::New(found) => {
                JoinOutcome::Joined(self.joined(&token_of(subject, found), uncalled_state(phase)))
            }
            Entry::Existing(found) => self.existing(subject, found),
            Entry::Full => JoinOutcome::Full,
        })
    }

    fn existing(&self, subject: u64, found: KnownEntry) -> JoinOutcome {
        let token = token_of(subject, found);
        JoinOutcome::Existing(self.joined(&token, self.position(&token).state))
    }

    fn joined(&self, token: &QueueToken, state: EntryState) -> Joined {
        Joined {
            token: token.sign(&self.context.keys.queue, self.sale_hash),
            state,
            number: position::published_number(&self.context, token),
            joined_at: token.joined_at,
            heartbeat_sample: presence::sample_of(token.subject_hash),
        }
    }

    /// Verifies a queue token: key, purpose and sale. No I/O.
    ///
    /// # Errors
    /// [`TokenError`] says what is wrong with it.
    pub fn verify_token(&self, token: &str) -> Result<QueueToken, TokenError> {
        QueueToken::open(token, &self.context.keys.queue, self.sale_hash)
    }

    /// The queue token of a subject's entry; `None` when it has none, or has left.
    pub fn token_of(&self, who: &Subject) -> Option<QueueToken> {
        let context = &self.context;
        let subject = queue_token::subject_hash(&context.keys.queue, &context.config.sale, who);
        let found = context.store.find_by_subject(subject)?;
        Some(token_of(subject, found))
    }

    /// Whether the token was given to this subject.
    pub fn token_belongs_to(&self, token: &QueueToken, who: &Subject) -> bool {
        let context = &self.context;
        token.subject_hash == queue_token::subject_hash(&context.keys.queue, &context.config.sale, who)
    }

    /// Where the token's holder stands now. No I/O.
    pub fn position(&self, token: &QueueToken) -> Position {
        position::position(&self.context, &self.status.published(), token)
    }

    /// As [`WaitingRoom::position`]; a holder who was called may have entered at another node a moment ago,
    /// so the journal is read first. While it cannot be read, the answer is that of this node's copy.
    pub async fn position_now(&self, token: &QueueToken) -> Position {
        let position = self.position(token);
        if !self.is_certain(&position) && self.context.catch_up().await.is_ok() {
            return self.position(token);
        }
        position
    }

    /// Whether nothing that this node has not read yet can have changed this position by its holder's doing.
    /// Who leaves is told so once every node knows.
    pub fn is_certain(&self, position: &Position) -> bool {
        !self.context.store.is_copy() || !matches!(position.state, EntryState::Called | EntryState::Missed)
    }

    /// Leaves the queue on purpose; a visit that goes on ends with it. Leaving twice is leaving once.
    ///
    /// # Errors
    /// [`WaitingRoomError::Busy`] also while the holder's entry is being written.
    pub async fn leave(&self, token: &QueueToken) -> Result<(), WaitingRoomError> {
        // What another node has journaled decides whether there is a visit to end.
        self.context.catch_up().await?;
        let (store, at) = (&self.context.store, self.context.moment());
        let Some(number) = position::number_of(&self.context, token) else {
            return Ok(());
        };
        let standing = store.entry_state(number, at);
        if let Some(visit) = store.visit_of(number) {
            if !matches!(standing, NumberState::Admitted | NumberState::Left) {
                // The admission is just being written.
                return Err(WaitingRoomError::Busy);
            }
            return visits::end(&self.context, visit).await;
        }
        if standing == NumberState::Left {
            return Ok(());
        }
        let Some(arrival) = position::arrival_of(&self.context, token) else {
            return Ok(());
        };
        match self.context.write(Event::Left { number: arrival }).await {
            // It was left, or entered, a moment ago: the client tries again.
            Err(WaitingRoomError::Overtaken) => Err(WaitingRoomError::Busy),
            Err(error) => Err(error),
            Ok(()) => {
                // Another node may have written an admission before this was written.
                if let Some(visit) = store.visit_of(number) {
                    return visits::end(&self.context, visit).await;
                }
                // A node that does not know it yet would hand out the entry that was left.
                store.wait_until_known_everywhere().await;
                Ok(())
            }
        }
    }

    /// A heartbeat: the holder's page is open. Gives the pause until the next one; `None`: the holder is not
    /// in the sample that is asked, and nothing has changed.
    pub fn heartbeat(&self, token: &QueueToken) -> Option<Duration> {
        position::heartbeat(
            &self.context,
            &self.status.published(),
            self.status.presence(),
            token,
        )
    }

    /// The current status, ready to be sent.
    pub fn status(&self) -> Arc<EncodedStatus> {
        self.status.current()
    }

    /// A subscription to the status; `None` when as many are taken as may be.
    pub fn subscribe_status(&self) -> Option<StatusSubscription> {
        self.status.subscribe()
    }

    /// Admits the token's holder if it is their turn, unless those `inside` are served late. Asking again
    /// while the visit lasts gives a fresh pass for the same visit.
    ///
    /// # Errors
    /// [`WaitingRoomError`]; asking again is safe.
    pub async fn enter(
        &self,
        token: &QueueToken,
        inside: BoxOfficeLoad,
    ) -> Result<EnterOutcome, WaitingRoomError> {
        let admission = visits::admit(&self.context, token, inside).await?;
        Ok(match admission {
            Admission::Admitted { pass, expires_at } => EnterOutcome::Admitted { pass, expires_at },
            Admission::NotCalledYet => EnterOutcome::NotCalledYet(self.position(token)),
            Admission::NoSlot { retry_after } => {
                let mut place = self.position(token);
                place.poll_after_ms = place
                    .poll_after_ms
                    .max(u32::try_from(retry_after.as_millis()).unwrap_or(POLL_FAR_MS));
                EnterOutcome::AtCapacity(place)
            }
            Admission::Closed => EnterOutcome::Closed,
            Admission::Ended => EnterOutcome::Ended(self.position(token)),
        })
    }

    /// Verifies a pass: signature, issuer, sale, times, generation, and that its visit goes on. No I/O.
    ///
    /// # Errors
    /// [`TokenError`] says what is wrong with it.
    pub fn verify_pass(&self, pass: &str) -> Result<Pass, TokenError> {
        let pass = self.passes.verify_pass(pass)?;
        if !self.context.store.is_admitted(pass.visit, pass.generation) {
            return Err(TokenError::Expired);
        }
        Ok(pass)
    }

    /// Whether the pass was given to this subject.
    pub fn pass_belongs_to(&self, pass: &Pass, who: &Subject) -> bool {
        self.passes.pass_belongs_to(pass, who)
    }

    /// A fresh pass for a visit that goes on, also after the sale has closed.
    ///
    /// # Errors
    /// [`WaitingRoomError::Store`]
    pub async fn renew(&self, pass: &Pass) -> Result<RenewOutcome, WaitingRoomError> {
        visits::renew(&self.context, pass).await
    }

    /// Ends a visit and releases its slot. Ending twice is ending once.
    ///
    /// # Errors
    /// [`WaitingRoomError`]; ending again is safe.
    pub async fn end_visit(&self, pass: &Pass) -> Result<(), WaitingRoomError> {
        visits::end(&self.context, pass.visit).await
    }

    /// Takes in what the box office reports; it counts from the next tick on.
    pub fn receive_report(&self, report: BoxOfficeReport) {
        let until = self.context.clock.now().plus(PAYING_KEPT);
        for visit in &report.paying {
            self.context.store.extend_visit(*visit, until);
        }
        self.call_notices.mark_told(&report.told);
        self.admission.receive_report(report);
    }

    /// Carries out a command of the service's own; see [`WaitingRoom::command`].
    ///
    /// # Errors
    /// As [`WaitingRoom::command`].
    pub async fn command_by_service(
        &self,
        command: OperatorCommand,
    ) -> Result<CommandOutcome, WaitingRoomError> {
        commands::carry_out(&self.context, command, None).await
    }

    /// Carries out an operator's command: in the journal under the operator's name, and effective here when
    /// this returns; on every other node with its next tick.
    ///
    /// # Errors
    /// [`WaitingRoomError`] when it could not be written; nothing has changed then.
    pub async fn command(
        &self,
        command: OperatorCommand,
        by: &str,
    ) -> Result<CommandOutcome, WaitingRoomError> {
        commands::carry_out(&self.context, command, Some(by.to_owned())).await
    }

    /// How admission is set now.
    pub fn admission_settings(&self) -> AdmissionSettings {
        commands::admission_settings(&self.context)
    }

    /// Keeps the request of the token's holder to be told when they are called, as this customer.
    ///
    /// # Errors
    /// [`WaitingRoomError`]; asking again is safe.
    pub async fn ask_to_be_told(
        &self,
        token: &QueueToken,
        customer: &str,
    ) -> Result<CallNoticeOutcome, WaitingRoomError> {
        self.call_notices.ask(token, customer).await
    }

    /// Deletes that request.
    ///
    /// # Errors
    /// [`WaitingRoomError`]; safe to repeat.
    pub async fn withdraw_call_notice(&self, token: &QueueToken) -> Result<(), WaitingRoomError> {
        self.call_notices.withdraw(token).await
    }

    /// Whether there is such a request.
    ///
    /// # Errors
    /// [`WaitingRoomError`]
    pub async fn is_to_be_told(&self, token: &QueueToken) -> Result<bool, WaitingRoomError> {
        self.call_notices.is_asked(token).await
    }

    /// Called visitors who asked to be told, for the answer to a report.
    pub fn called_visitors(&self) -> Vec<CalledVisitor> {
        self.call_notices.called()
    }

    /// One step of the work on requests to be told.
    pub(crate) async fn step_call_notices(&self) -> Result<(), JournalError> {
        self.call_notices.step().await
    }

    /// What the sale has reached.
    pub fn milestones(&self) -> Milestones {
        self.context.store.settings().milestones
    }

    /// Counts for metrics and operators.
    pub fn metrics(&self) -> RoomMetrics {
        let store = &self.context.store;
        let (counts, settings) = (store.counts(self.context.moment()), store.settings());
        RoomMetrics {
            numbers_issued: counts.numbers_issued.into(),
            now_serving: counts.now_serving.into(),
            active_visits: counts.active_visits,
            claimants: counts.claimants,
            late_arrivals: counts.late_arrivals,
            waiting: counts.waiting,
            online_percent: self.status.published().online_percent,
            missed: counts.missed,
            admission_rate_effective_per_minute: settings.rate_effective_per_minute,
            admission_rate_configured_per_minute: settings.rate_configured_per_minute,
            active_visits_max: settings.active_visits_max,
            admissions_total: counts.admissions_total,
            forecast_outcomes: self.status.statements(),
        }
    }

    /// What is published of the draw; `None` in a sale without one.
    pub fn published_draw(&self) -> Option<PublishedDraw> {
        publication::publish(&self.context.config, self.context.store.draw())
    }

    /// How far the draw has come; `None` in a sale without one.
    pub fn draw_progress(&self) -> Option<DrawProgress> {
        publication::progress(&self.context.store.draw(), self.context.clock.now())
    }

    /// What the token's holder needs to prove that they are in the queue, and once the entries are closed, in
    /// the draw.
    ///
    /// # Errors
    /// [`ReceiptOutcome`] says why there is none.
    pub async fn draw_receipt(&self, token: &QueueToken) -> Result<DrawReceipt, ReceiptOutcome> {
        let receipts = self.draw.receipts().ok_or(ReceiptOutcome::NoDraw)?;
        let receipt = self.receipt_as_known(receipts, token).await;
        // Another node may have journaled the entry a moment ago.
        if receipt != Err(ReceiptOutcome::Unknown) || self.context.catch_up().await.is_err() {
            return receipt;
        }
        self.receipt_as_known(receipts, token).await
    }

    /// The receipt by what this node knows of the journal now.
    async fn receipt_as_known(
        &self,
        receipts: &ReceiptMaker,
        token: &QueueToken,
    ) -> Result<DrawReceipt, ReceiptOutcome> {
        let arrival = position::arrival_of(&self.context, token).ok_or(ReceiptOutcome::Unknown)?;
        receipts.receipt(&self.context, arrival, token.subject_hash).await
    }

    /// All leaves of the draw in order of arrival, some at a time; `None` before the entries are closed.
    /// `Err`: as many lists are being sent as may be.
    pub fn draw_leaves(&self) -> Option<Result<DrawLeaves, ()>> {
        self.draw.receipts()?.leaves(&self.context.store)
    }

    /// One admission tick.
    pub(crate) async fn tick(&self) -> Result<(), StoreError> {
        if self.admission.tick().await? {
            self.renew_status(true).await;
        }
        Ok(())
    }

    /// One second of the status: learn from it, exchange heartbeats, publish.
    pub(crate) async fn status_second(&self) {
        self.measure_second();
        self.status.share_presence().await;
        self.renew_status(false).await;
    }

    /// Lets the status models learn from one second.
    pub(crate) fn measure_second(&self) {
        self.status.measure_second(&self.inputs());
    }

    /// Publishes a new status on this node alone.
    pub(crate) fn publish_status(&self) {
        self.status.publish(&self.inputs());
    }

    async fn renew_status(&self, at_once: bool) {
        self.status.renew(&self.inputs(), at_once).await;
    }

    /// Takes the draw's next step, if it is time for one.
    pub(crate) async fn advance_draw(&self) {
        if self.draw.advance(self.admission.is_caller()).await {
            self.renew_status(true).await;
        }
    }

    /// Whether nothing is left to draw.
    pub(crate) fn has_order(&self) -> bool {
        has_order(&self.context.config, &self.context.store.settings())
    }

    /// Chains the journal's records that are not chained yet, where it is this node's turn; the others see
    /// how far the chain goes.
    pub(crate) async fn extend_chain(&self) -> Result<(), JournalError> {
        let chain = self.chain.as_ref();
        let last = if self.admission.is_caller() {
            chain::extend(chain).await?
        } else {
            chain.last_link().await?
        };
        self.linked.store(Arc::new(last));
        Ok(())
    }

    /// Stops the background loops.
    pub(crate) fn life(&self) -> &Lifecycle {
        &self.life
    }

    fn inputs(&self) -> Inputs {
        let ChainLink { number, hash, .. } = **self.linked.load();
        Inputs {
            admission: self.admission.state(),
            stock: self.admission.stock(),
            journal: (number > 0).then_some(ChainHead {
                sequence: number,
                hash,
            }),
        }
    }

    #[cfg(test)]
    pub(crate) fn presence(&self) -> &presence::Presence {
        self.status.presence()
    }

    #[cfg(test)]
    pub(crate) fn context(&self) -> &RoomContext {
        &self.context
    }
}

/// Also checks that a pass's visit goes on, which keys and clock alone cannot tell.
impl TokenVerifier for WaitingRoom {
    fn verify_token(&self, token: &str) -> Result<QueueToken, TokenError> {
        Self::verify_token(self, token)
    }

    fn verify_pass(&self, pass: &str) -> Result<Pass, TokenError> {
        Self::verify_pass(self, pass)
    }

    fn token_belongs_to(&self, token: &QueueToken, who: &Subject) -> bool {
        Self::token_belongs_to(self, token, who)
    }

    fn pass_belongs_to(&self, pass: &Pass, who: &Subject) -> bool {
        Self::pass_belongs_to(self, pass, who)
    }
}

fn token_of(subject_hash: u64, found: KnownEntry) -> QueueToken {
    QueueToken {
        arrival: found.number.into(),
        subject_hash,
        joined_at: found.joined_at,
    }
}
