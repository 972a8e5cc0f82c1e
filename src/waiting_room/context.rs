//! What every active part of one sale's waiting room works with: configuration, clocks, keys, store and
//! journal writer.

use std::{fmt, sync::Arc};

use crate::{
    kernel::{Clock, Entropy, Timestamp},
    platform::{group_commit::GroupCommitError, keys::Keys},
    waiting_room::{
        journal::{
            record::Event,
            request::{self, WriteLag, WriteRequest, WriteResult, WriterHandle},
        },
        phase::phase_at,
        store::port::{Moment, QueueStore, StoreError},
        types::{Config, Phase},
    },
};

/// The waiting room cannot do it now. Safe to retry: nothing is done twice.
#[derive(Debug, thiserror::Error)]
pub enum WaitingRoomError {
    /// Too many requests wait for the journal.
    #[error("too many requests wait for the journal")]
    Busy,
    /// The journal does not answer, or refused the change.
    #[error("the journal could not be written")]
    Journal,
    /// Another request of the same visitor was faster, at this node or another.
    #[error("another request of the same visitor was faster")]
    Overtaken,
    /// The store does not answer, or is being rebuilt.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<GroupCommitError> for WaitingRoomError {
    fn from(error: GroupCommitError) -> Self {
        match error {
            GroupCommitError::QueueFull => Self::Busy,
            GroupCommitError::WriterStopped => Self::Journal,
        }
    }
}

/// Shared by the parts of one waiting room; each part holds an `Arc` of it.
pub(crate) struct RoomContext {
    /// Configuration of the sale.
    pub config: Config,
    /// Wall clock and steady clock.
    pub clock: Arc<dyn Clock>,
    /// Source of randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Keys of tokens, passes and receipts.
    pub keys: Keys,
    /// Fast state of the queue.
    pub store: Arc<dyn QueueStore>,
    /// Handle of the journal's writer.
    pub writer: WriterHandle,
    /// Whether the journal lags behind what was answered.
    pub lag: WriteLag,
}

impl fmt::Debug for RoomContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoomContext({})", self.config.sale)
    }
}

impl RoomContext {
    /// Both clocks at this moment.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            now: self.clock.now(),
            monotonic: self.clock.monotonic(),
        }
    }

    /// The sale's phase now.
    pub(crate) fn phase(&self) -> Phase {
        self.phase_at(self.clock.now())
    }

    /// The sale's phase at `now`, by the store's current settings.
    pub(crate) fn phase_at(&self, now: Timestamp) -> Phase {
        phase_at(&self.config, &self.store.settings(), now)
    }

    /// Writes one event to the journal for a visitor; durable when this returns.
    ///
    /// # Errors
    /// [`WaitingRoomError::Busy`] when the writer's queue is full, [`WaitingRoomError::Journal`] when the
    /// write failed.
    pub(crate) async fn write(&self, event: Event) -> Result<(), WaitingRoomError> {
        self.submit(WriteRequest::Events(vec![event])).await
    }

    /// Hands a request to the journal's writer for a visitor and waits until it is durable. When the writer's
    /// queue is full, what the request has reserved is released at once.
    ///
    /// # Errors
    /// As [`RoomContext::write`].
    pub(crate) async fn submit(&self, request: WriteRequest) -> Result<(), WaitingRoomError> {
        match request::write_for_visitor(&self.writer, self.store.as_ref(), request).await? {
            WriteResult::Written => Ok(()),
            WriteResult::Excluded => Err(WaitingRoomError::Overtaken),
            WriteResult::Failed => Err(WaitingRoomError::Journal),
        }
    }

    /// Applies what other nodes have journaled, where this node's store is a copy that may lack it.
    ///
    /// # Errors
    /// [`WaitingRoomError::Busy`], [`WaitingRoomError::Journal`].
    pub(crate) async fn catch_up(&self) -> Result<(), WaitingRoomError> {
        if self.store.is_copy() {
            request::catch_up_with_others(&self.writer).await?;
        }
        Ok(())
    }

    /// Writes events on the service's own behalf and waits as long as it takes; says whether they were
    /// written.
    pub(crate) async fn write_patiently(&self, events: Vec<Event>) -> bool {
        request::write_internal(&self.writer, events).await
    }
}
