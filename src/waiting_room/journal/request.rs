//! Requests to the journal's writer.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    kernel::Timestamp,
    platform::group_commit::{GroupCommit, GroupCommitError},
    waiting_room::{
        journal::record::{Event, PendingJoin},
        store::port::{EndReason, EndedVisit, QueueStore, StoreError},
    },
};

/// Something to append to the journal.
#[derive(Clone, Debug)]
pub(crate) enum WriteRequest {
    /// A join whose number is assigned.
    Join(PendingJoin),
    /// An admission whose slot is already reserved. The reservation is valid only in `epoch`.
    Entry { event: Event, at: Timestamp, epoch: u64 },
    /// Events that are appended together or not at all.
    Events(Vec<Event>),
}

impl WriteRequest {
    /// The only epoch under which the request is valid; `None` if it is valid under any.
    pub(super) fn epoch(&self) -> Option<u64> {
        match self {
            Self::Join(promise) => Some(promise.epoch),
            Self::Entry { epoch, .. } => Some(*epoch),
            Self::Events(_) => None,
        }
    }

    /// When it happened, where that is not the time of writing.
    pub(super) fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Entry { at, .. } => Some(*at),
            Self::Join(_) | Self::Events(_) => None,
        }
    }

    pub(super) fn events(&self) -> &[Event] {
        match self {
            Self::Join(_) => &[],
            Self::Entry { event, .. } => std::slice::from_ref(event),
            Self::Events(events) => events,
        }
    }
}

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteResult {
    /// It is in the journal, and applied to the store.
    Written,
    /// It was not written, as the journal holds a record that excludes it. What it had reserved is released.
    Excluded,
    /// It was not written, or whether it was is unknown.
    Failed,
}

/// Submits requests to a running writer.
pub(crate) type WriterHandle = GroupCommit<WriteRequest, WriteResult>;

/// Whether the journal lacks a join whose number was assigned: no further join is answered before it is
/// journaled.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteLag {
    is_behind: Arc<AtomicBool>,
    is_unavailable: Arc<AtomicBool>,
}

impl WriteLag {
    pub(crate) fn is(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// Whether the journal did not answer when it was last asked. The writer asks it several times a second,
    /// so a visitor's request need not wait for that.
    pub(crate) fn is_unavailable(&self) -> bool {
        self.is_unavailable.load(Ordering::Relaxed)
    }

    pub(super) fn set_unavailable(&self, is_unavailable: bool) {
        self.is_unavailable.store(is_unavailable, Ordering::Relaxed);
    }

    pub(super) fn set(&self, is_behind: bool) {
        self.is_behind.store(is_behind, Ordering::Relaxed);
    }
}

/// Appends events of the service itself, waiting for room in the queue; returns whether they were written.
pub(crate) async fn write_internal(writer: &WriterHandle, events: Vec<Event>) -> bool {
    writer.submit_when_free(WriteRequest::Events(events)).await == Ok(WriteResult::Written)
}

/// Applies the records that other processes wrote. Does nothing for a journal that is not shared.
pub(crate) async fn catch_up_with_others(writer: &WriterHandle) -> Result<(), GroupCommitError> {
    writer.submit(WriteRequest::Events(Vec::new())).await.map(|_| ())
}

/// Appends a visitor's event. When the queue is full, what the event has reserved is released at once.
pub(crate) async fn write_for_visitor(
    writer: &WriterHandle,
    store: &dyn QueueStore,
    request: WriteRequest,
) -> Result<WriteResult, GroupCommitError> {
    let written = writer.submit(request.clone()).await;
    if written == Err(GroupCommitError::QueueFull) {
        // The memory store cannot fail here; a shared store lets the reservation lapse.
        for event in request.events() {
            let _ = undo_event(store, event).await;
        }
    }
    written
}

/// Releases what an event that will not be written has reserved in the store.
pub(crate) async fn undo_event(store: &dyn QueueStore, event: &Event) -> Result<(), StoreError> {
    match event {
        Event::Admitted { visit, .. } => store.release_slot(*visit).await,
        Event::VisitEnded { number, visit } => {
            store
                .reopen_visits(&[EndedVisit {
                    visit: *visit,
                    number: *number,
                    reason: EndReason::Ended,
                }])
                .await
        }
        _ => Ok(()),
    }
}
