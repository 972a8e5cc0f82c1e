//! What is handed to the journal's writer, and how.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    kernel::Timestamp,
    platform::group_commit::{GroupCommit, GroupCommitError},
    waiting_room::{
        journal::record::{Event, Promise},
        store::port::{EndedVisit, Finished, QueueStore, StoreError},
    },
};

/// Something to be written down.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Join(Promise),
    /// Somebody goes in, since her slot was taken. It was taken under this epoch; under a later one it is nobody's.
    Entry {
        event: Event,
        at: Timestamp,
        epoch: u64,
    },
    /// All of them or none.
    Events(Vec<Event>),
}

impl Ask {
    /// Under which epoch alone it makes sense.
    pub(super) fn epoch(&self) -> Option<u64> {
        match self {
            Self::Join(promise) => Some(promise.epoch),
            Self::Entry { epoch, .. } => Some(*epoch),
            Self::Events(_) => None,
        }
    }

    /// When it happened, if that was before the writing.
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

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Written,
    /// It was not written, or nobody knows.
    Failed,
}

pub(crate) type Pen = GroupCommit<Ask, Answer>;

/// Whether the journal lacks something that was promised: nothing more is promised meanwhile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behind(pub(super) Arc<AtomicBool>);

impl Behind {
    pub(crate) fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Hands events to the pen for the house itself and waits until they are written; says whether they are.
pub(crate) async fn write_for_the_house(pen: &Pen, events: Vec<Event>) -> bool {
    pen.submit_when_free(Ask::Events(events)).await == Ok(Answer::Written)
}

/// Brings memory up to a journal that others write too; beside one of its own there is nothing to follow.
pub(crate) async fn follow(pen: &Pen) -> Result<(), GroupCommitError> {
    pen.submit(Ask::Events(Vec::new())).await.map(|_| ())
}

/// Hands a visitor's event to the pen. When there is no room for it, what it has taken is freed at once.
pub(crate) async fn write_for_a_visitor(
    pen: &Pen,
    store: &dyn QueueStore,
    ask: Ask,
) -> Result<Answer, GroupCommitError> {
    let written = pen.submit(ask.clone()).await;
    if written == Err(GroupCommitError::QueueFull) {
        // The embedded engine cannot fail here; another one lets the reservation lapse.
        for event in ask.events() {
            let _ = undo_event(store, event).await;
        }
    }
    written
}

/// Frees at once what an event that will not be written has taken in memory.
pub(crate) async fn undo_event(store: &dyn QueueStore, event: &Event) -> Result<(), StoreError> {
    match event {
        Event::Entered { visit, .. } => store.give_back(*visit).await,
        Event::VisitEnded { number, visit } => {
            store
                .reopen_visits(&[EndedVisit {
                    visit: *visit,
                    number: *number,
                    how: Finished::Ended,
                }])
                .await
        }
        _ => Ok(()),
    }
}
