//! Tells who asked for it that they are called: through the box office, which sends the shop an event.
//!
//! Any node takes a request. Every node hands out what is due with its answers to the box office's reports,
//! again and again until a report says that it was recorded; the box office records each once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::{
    kernel::SaleId,
    platform::{
        encryption::EncryptionKeys,
        group_commit::GroupCommit,
        shutdown::Lifecycle,
        signing::{base64url, from_base64url},
    },
    waiting_room::{
        context::{RoomContext, WaitingRoomError},
        journal::{
            notices::{CallNotice, NoticeStore},
            port::JournalError,
        },
        phase::has_order,
        position,
        store::port::NumberState,
        tokens::queue_token::QueueToken,
        types::{CallNoticeOutcome, CalledVisitor, Phase},
    },
};

/// Requests that wait for their commit at most, and those of one commit.
const QUEUE_MAX: usize = 4_096;
const GROUP_MAX: usize = 512;
/// Called numbers that are looked up at once.
const NUMBERS_AT_ONCE: u32 = 5_000;
/// Called visitors whom the box office has not recorded yet; more are looked up later.
const CALLED_MAX: usize = 5_000;
/// Called visitors of one answer.
const ANSWER_MAX: usize = 100;
/// Questions and withdrawals at a time: they share the journal's connections.
const QUERIES_MAX: usize = 2;
/// A node whose clock is behind may still keep a request: every request is deleted so often, at each step.
const DELETIONS: u32 = 120;

/// The requests of a sale's visitors to be told when they are called.
pub(crate) struct CallNotices {
    context: Arc<RoomContext>,
    store: Arc<dyn NoticeStore>,
    writer: GroupCommit<CallNotice, Result<(), ()>>,
    queries: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Queue numbers up to this one were looked up.
    looked_up_to: u32,
    /// Who was called and asked to be told, by arrival number.
    called: BTreeMap<u32, CalledVisitor>,
    /// Arrival numbers whose request is to be deleted.
    done: BTreeSet<u32>,
    /// Requests that came when their number was called already: a look-up may have missed them.
    late_requests: u64,
    /// How often every request was deleted since the sale closed.
    deletions: u32,
}

impl fmt::Debug for CallNotices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallNotices")
    }
}

impl CallNotices {
    pub(crate) fn new(context: Arc<RoomContext>, store: Arc<dyn NoticeStore>, lifecycle: &Lifecycle) -> Self {
        let keeper = Arc::clone(&store);
        let sale = context.config.sale.clone();
        let writer = GroupCommit::start(
            lifecycle,
            QUEUE_MAX,
            GROUP_MAX,
            move |notices: Vec<CallNotice>| {
                let (keeper, sale) = (Arc::clone(&keeper), sale.clone());
                async move {
                    let kept = keeper.keep(&notices).await.map_err(|error| {
                        let requests = notices.len();
                        tracing::warn!(%sale, %error, requests, "requests to be told are not kept");
                    });
                    vec![kept; notices.len()]
                }
            },
        );
        Self {
            context,
            store,
            writer,
            queries: Semaphore::new(QUERIES_MAX),
            state: Mutex::default(),
        }
    }

    /// Keeps a request, durably when this returns.
    ///
    /// # Errors
    /// [`WaitingRoomError`]; asking again is safe.
    pub(crate) async fn ask(
        &self,
        token: &QueueToken,
        customer: &str,
    ) -> Result<CallNoticeOutcome, WaitingRoomError> {
        let Some((arrival, number)) = self.place_of(token) else {
            return Ok(CallNoticeOutcome::NotWaiting);
        };
        let store = &self.context.store;
        let is_waiting = store.entry_state(number, self.context.moment()) == NumberState::Waiting;
        if !is_waiting || self.context.phase() == Phase::Closed {
            return Ok(CallNoticeOutcome::NotWaiting);
        }
        let notice = CallNotice {
            arrival,
            customer: self
                .context
                .keys
                .call_notice
                .encrypt(self.context.config.sale.as_str().as_bytes(), customer.as_bytes()),
        };
        self.writer
            .submit(notice)
            .await?
            .map_err(|()| WaitingRoomError::Journal)?;
        // Called meanwhile, and looked up before the request was there.
        let mut state = self.state.lock();
        if self.has_order() && store.now_serving() >= number {
            state.looked_up_to = state.looked_up_to.min(number.saturating_sub(1));
            state.late_requests += 1;
        }
        Ok(CallNoticeOutcome::Kept)
    }

    /// Deletes a request, if there is one.
    ///
    /// # Errors
    /// [`WaitingRoomError::Journal`]
    pub(crate) async fn withdraw(&self, token: &QueueToken) -> Result<(), WaitingRoomError> {
        let Some((arrival, _)) = self.place_of(token) else {
            return Ok(());
        };
        let _turn = self.queries.try_acquire().map_err(|_| WaitingRoomError::Busy)?;
        let removed = self.store.remove(&[arrival]).await;
        removed.map_err(|_| WaitingRoomError::Journal)?;
        self.state.lock().called.remove(&arrival);
        Ok(())
    }

    /// Whether there is a request that was not carried out yet.
    ///
    /// # Errors
    /// [`WaitingRoomError::Journal`]
    pub(crate) async fn is_asked(&self, token: &QueueToken) -> Result<bool, WaitingRoomError> {
        let Some((arrival, _)) = self.place_of(token) else {
            return Ok(false);
        };
        let _turn = self.queries.try_acquire().map_err(|_| WaitingRoomError::Busy)?;
        let found = self.store.of_arrivals(&[arrival]).await;
        Ok(!found.map_err(|_| WaitingRoomError::Journal)?.is_empty())
    }

    /// Arrival number and queue number.
    fn place_of(&self, token: &QueueToken) -> Option<(u32, u32)> {
        let arrival = position::arrival_of(&self.context, token)?;
        Some((arrival, position::number_of(&self.context, token)?))
    }

    fn has_order(&self) -> bool {
        has_order(&self.context.config, &self.context.store.settings())
    }

    /// One step of the background work: deletes what is done, and looks up who was called since.
    ///
    /// # Errors
    /// [`JournalError`]; the next step makes up for it.
    pub(crate) async fn step(&self) -> Result<(), JournalError> {
        if self.context.phase() == Phase::Closed {
            return self.finish().await;
        }
        self.remove_done().await?;
        while self.has_order() && self.state.lock().called.len() < CALLED_MAX {
            let first = self.state.lock().looked_up_to + 1;
            let last = self.context.store.now_serving().min(first + NUMBERS_AT_ONCE - 1);
            if last < first {
                break;
            }
            self.look_up(first, last).await?;
        }
        self.remove_done().await
    }

    /// The sale is over: nothing of its visitors is kept.
    async fn finish(&self) -> Result<(), JournalError> {
        let deletions = self.state.lock().deletions;
        if deletions >= DELETIONS {
            return Ok(());
        }
        self.store.remove_all().await?;
        *self.state.lock() = State {
            deletions: deletions + 1,
            ..State::default()
        };
        Ok(())
    }

    async fn remove_done(&self) -> Result<(), JournalError> {
        let done: Vec<u32> = self.state.lock().done.iter().copied().collect();
        if done.is_empty() {
            return Ok(());
        }
        self.store.remove(&done).await?;
        self.state.lock().done.retain(|arrival| !done.contains(arrival));
        Ok(())
    }

    async fn look_up(&self, first: u32, last: u32) -> Result<(), JournalError> {
        let store = &self.context.store;
        let late_requests = self.state.lock().late_requests;
        let arrivals: Vec<u32> = (first..=last).map(|number| store.arrival(number)).collect();
        let notices = self.store.of_arrivals(&arrivals).await?;
        let called_at = self.context.clock.now();
        let mut state = self.state.lock();
        for notice in notices {
            let visitor = CalledVisitor {
                arrival: notice.arrival,
                customer: base64url(&notice.customer),
                called_at,
                enter_by: None,
            };
            state.called.insert(notice.arrival, visitor);
        }
        // Otherwise the range is looked up once more.
        if state.late_requests == late_requests {
            state.looked_up_to = last;
        }
        Ok(())
    }

    /// Some of those who were called, have not entered or left since, and are not known to be told.
    pub(crate) fn called(&self) -> Vec<CalledVisitor> {
        let (store, at) = (&self.context.store, self.context.moment());
        let mut state = self.state.lock();
        let State { called, done, .. } = &mut *state;
        called.retain(|arrival, visitor| {
            visitor.enter_by = match store.entry_state(store.queue_number(*arrival), at) {
                NumberState::Called { ends_at } => Some(ends_at),
                NumberState::Missed => None,
                NumberState::Waiting | NumberState::Admitted | NumberState::Left => {
                    done.insert(*arrival);
                    return false;
                }
            };
            true
        });
        called.values().take(ANSWER_MAX).cloned().collect()
    }

    /// The box office has recorded that these were called.
    pub(crate) fn mark_told(&self, arrivals: &[u32]) {
        let mut state = self.state.lock();
        for arrival in arrivals {
            if state.called.remove(arrival).is_some() {
                state.done.insert(*arrival);
            }
        }
    }
}

impl CalledVisitor {
    /// The shop's key of the customer; `None` when it was encrypted under other keys.
    pub fn customer(&self, keys: &EncryptionKeys, sale: &SaleId) -> Option<String> {
        let plain = keys.decrypt(sale.as_str().as_bytes(), &from_base64url(&self.customer)?)?;
        String::from_utf8(plain).ok()
    }
}
