//! Receipts, and the list of all leaves: work for a thread aside.

use std::{ops::Range, sync::Arc};

use futures_util::{Stream, stream};
use tokio::sync::OwnedSemaphorePermit;

use crate::waiting_room::draw::coordinator::LEAVES_AT_ONCE;
use crate::waiting_room::{
    QueueToken, WaitingRoom,
    draw::{Digest, DrawReceipt, GROUP_TYP, GroupClaims, GroupReceipt, Secrets, merkle::Tree, subject_text},
    store::{JoinGroup, QueueStore},
};

/// Why there is no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptOutcome {
    /// The sale has no draw.
    NoDraw,
    /// The place is not known here, or not yet: another node has just written it down.
    Unknown,
}

impl WaitingRoom {
    /// What she needs to prove that she is in the queue, and once the entries are closed, in the draw. Some milliseconds of
    /// work, and once after a start some seconds for millions of entries, so it is done aside, and a few at a time.
    ///
    /// # Errors
    /// [`ReceiptOutcome`]
    pub async fn draw_receipt(&self, token: &QueueToken) -> Result<DrawReceipt, ReceiptOutcome> {
        let Some(secrets) = self.drawing.secrets.clone() else {
            return Err(ReceiptOutcome::NoDraw);
        };
        let arrival = self.arrival_in_line(token).ok_or(ReceiptOutcome::Unknown)?;
        let group = self.store.group_of(arrival).ok_or(ReceiptOutcome::Unknown)?;
        let closed = self.store.draw().closed.map(|(_, closed)| closed);
        let (entries, root) = (
            closed.as_ref().map(|it| it.entries),
            closed.as_ref().map(|it| it.root),
        );
        let number = self
            .store
            .settings()
            .drawn
            .then(|| self.store.queue_number(arrival));
        let Ok(_turn) = self.drawing.receipts.acquire().await else {
            return Err(ReceiptOutcome::Unknown);
        };
        let (store, known, sale) = (
            Arc::clone(&self.store),
            self.drawing.tree.lock().clone(),
            self.config.sale.clone(),
        );
        let (keys, issuer, subject) = (
            Arc::clone(&self.keys.receipt),
            self.config.issuer.clone(),
            token.subject_hash,
        );
        let making = tokio::task::spawn_blocking(move || {
            let store = store.as_ref();
            let JoinGroup { first, count, until } = group;
            let of_group =
                |range: Range<u32>| leaves(store, &secrets, first + range.start..first + range.end);
            let together = Tree::over(count, of_group);
            let claims = GroupClaims {
                iss: issuer,
                sale: sale.clone(),
                first,
                count,
                root: together.root(),
                until,
            };
            let group = GroupReceipt {
                signed: keys.sign(GROUP_TYP, &claims),
                path: together.path(arrival - first, of_group)?,
            };
            let is_in_it = entries.filter(|entries| arrival <= *entries);
            let tree = is_in_it
                .map(|entries| known.unwrap_or_else(|| Arc::new(tree_over(store, &secrets, entries))));
            let path = tree
                .as_ref()
                .and_then(|tree| tree.path(arrival - 1, of_entries(store, &secrets)));
            let (nonce, leaf) = (secrets.nonce(arrival), secrets.leaf(arrival, Some(subject)));
            let subject = subject_text(subject);
            Some((
                DrawReceipt {
                    sale,
                    arrival,
                    subject,
                    nonce,
                    leaf,
                    group,
                    entries,
                    root,
                    path,
                    number,
                },
                tree,
            ))
        });
        let Ok(Some((receipt, tree))) = making.await else {
            return Err(ReceiptOutcome::Unknown);
        };
        if let Some(tree) = tree {
            *self.drawing.tree.lock() = Some(tree);
        }
        Ok(receipt)
    }

    /// All leaves in order of arrival, some at a time; `None` before the entries are closed. `Err`: as many lists are being
    /// sent as may be.
    pub fn draw_leaves(&self) -> Option<Result<DrawLeaves, ()>> {
        let secrets = self.drawing.secrets.clone()?;
        let (_, closed) = self.store.draw().closed?;
        let Ok(permit) = Arc::clone(&self.drawing.lists).try_acquire_owned() else {
            return Some(Err(()));
        };
        let (store, entries, root) = (Arc::clone(&self.store), closed.entries, closed.root);
        Some(Ok(DrawLeaves {
            store,
            secrets,
            entries,
            root,
            next: 0,
            _permit: permit,
        }))
    }
}

/// A list of leaves under way.
pub struct DrawLeaves {
    store: Arc<dyn QueueStore>,
    secrets: Secrets,
    pub entries: u32,
    pub root: Digest,
    next: u32,
    _permit: OwnedSemaphorePermit,
}

impl std::fmt::Debug for DrawLeaves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DrawLeaves({} of {})", self.next, self.entries)
    }
}

impl DrawLeaves {
    pub fn into_stream(self) -> impl Stream<Item = Vec<Digest>> + Send {
        stream::unfold(self, |mut list| async move {
            let count = LEAVES_AT_ONCE.min(list.entries - list.next);
            if count == 0 {
                return None;
            }
            let first = list.next + 1;
            list.next += count;
            let leaves = leaves(list.store.as_ref(), &list.secrets, first..first + count);
            // Somebody else's turn: this is work, not waiting.
            tokio::task::yield_now().await;
            Some((leaves, list))
        })
    }
}

/// The leaves of these arrivals.
fn leaves(store: &dyn QueueStore, secrets: &Secrets, arrivals: Range<u32>) -> Vec<Digest> {
    let owners = store.owners(arrivals.start, arrivals.end - arrivals.start);
    arrivals
        .zip(owners)
        .map(|(arrival, owner)| secrets.leaf(arrival, owner))
        .collect()
}

/// As the tree of all entries wants them: by index, from 0 on.
fn of_entries(store: &dyn QueueStore, secrets: &Secrets) -> impl Fn(Range<u32>) -> Vec<Digest> {
    |indices: Range<u32>| leaves(store, secrets, indices.start + 1..indices.end + 1)
}

/// Reads the owners of one block at a time, so that nobody waits for the whole.
pub(crate) fn tree_over(store: &dyn QueueStore, secrets: &Secrets, entries: u32) -> Tree {
    Tree::over(entries, of_entries(store, secrets))
}
