//! Receipts, and the list of all leaves: work for a thread aside.

use std::{ops::Range, sync::Arc};

use futures_util::{Stream, stream};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::platform::{blocking_work::BlockingWork, shutdown::TaskPanicked};
use crate::waiting_room::{
    context::RoomContext,
    draw::{
        digest::Digest,
        merkle::Tree,
        receipt::{DrawReceipt, GROUP_TYP, GroupClaims, GroupReceipt, subject_text},
        secrets::Secrets,
    },
    store::port::{JoinGroup, QueueStore},
};

/// Leaves that are made at once.
const LEAVES_AT_ONCE: u32 = 1_024;
/// Lists of leaves that are being sent at most. Each keeps a block of leaves for as long as its client takes
/// to read it.
const LISTS_MAX: usize = 64;
/// Makes blocks of leaves, one at a time: a list costs seconds of a core for some millions of entries.
static LEAVES: BlockingWork = BlockingWork::new(1);
/// Makes receipts.
static RECEIPTS: BlockingWork = BlockingWork::new(2);
/// Requests for receipts at most that wait or are answered. More would fill the node with waiting requests.
const RECEIPTS_MAX: usize = 64;

/// Why there is no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptOutcome {
    /// The sale has no draw.
    NoDraw,
    /// The entry is not known here, or not yet: another node has just journaled it.
    Unknown,
    /// As many receipts are being made as may be.
    Busy,
}

/// Makes receipts and lists of leaves for one sale with a draw.
#[derive(Debug)]
pub(crate) struct ReceiptMaker {
    secrets: Secrets,
    /// The tree over all entries; made again after a restart.
    tree: Mutex<Option<Arc<Tree>>>,
    lists: Arc<Semaphore>,
    receipts: Semaphore,
}

impl ReceiptMaker {
    pub(crate) fn new(secrets: Secrets) -> Self {
        Self {
            secrets,
            tree: Mutex::default(),
            lists: Arc::new(Semaphore::new(LISTS_MAX)),
            receipts: Semaphore::new(RECEIPTS_MAX),
        }
    }

    /// Keeps the tree of the entries, so that it is not made again.
    pub(crate) fn remember(&self, tree: Tree) {
        *self.tree.lock() = Some(Arc::new(tree));
    }

    /// What a visitor needs to prove that they are in the queue, and once the entries are closed, in the
    /// draw. Some milliseconds of work, and once after a start some seconds for millions of entries, so it is
    /// done on a blocking thread, and a few at a time.
    ///
    /// # Errors
    /// [`ReceiptOutcome::Unknown`], [`ReceiptOutcome::Busy`]
    pub(crate) async fn receipt(
        &self,
        context: &RoomContext,
        arrival: u32,
        subject_hash: u64,
    ) -> Result<DrawReceipt, ReceiptOutcome> {
        let store = Arc::clone(&context.store);
        let group = store.join_group_of(arrival).ok_or(ReceiptOutcome::Unknown)?;
        let closed = store.draw().closed.map(|(_, closed)| closed);
        let number = store.settings().drawn.then(|| store.queue_number(arrival));
        let _waiting = self.receipts.try_acquire().map_err(|_| ReceiptOutcome::Busy)?;
        let known = self.tree.lock().clone();
        let keys = Arc::clone(&context.keys.receipt);
        let (sale, issuer) = (context.config.sale.clone(), context.config.issuer.clone());
        let secrets = self.secrets.clone();
        let making = RECEIPTS.run(move || {
            let store = store.as_ref();
            let JoinGroup {
                first,
                count,
                last_joined_at,
            } = group;
            let of_group =
                |range: Range<u32>| leaves(store, &secrets, first + range.start..first + range.end);
            let together = Tree::over(count, of_group);
            let claims = GroupClaims {
                iss: issuer,
                sale: sale.clone(),
                first,
                count,
                root: together.root(),
                until: last_joined_at,
            };
            let group = GroupReceipt {
                signed: keys.sign(GROUP_TYP, &claims),
                path: together.path(arrival - first, of_group)?,
            };
            let entries = closed.as_ref().map(|closed| closed.entries);
            let is_in_draw = entries.filter(|entries| arrival <= *entries);
            let tree = is_in_draw
                .map(|entries| known.unwrap_or_else(|| Arc::new(tree_over(store, &secrets, entries))));
            let path = tree
                .as_ref()
                .and_then(|tree| tree.path(arrival - 1, of_entries(store, &secrets)));
            let receipt = DrawReceipt {
                sale,
                arrival,
                subject: subject_text(subject_hash),
                nonce: secrets.nonce(arrival),
                leaf: secrets.leaf(arrival, Some(subject_hash)),
                group,
                entries,
                root: closed.as_ref().map(|closed| closed.root),
                path,
                number,
            };
            Some((receipt, tree))
        });
        let Ok(Some((receipt, tree))) = making.await else {
            return Err(ReceiptOutcome::Unknown);
        };
        if let Some(tree) = tree {
            *self.tree.lock() = Some(tree);
        }
        Ok(receipt)
    }

    /// All leaves in order of arrival, some at a time; `None` before the entries are closed. `Err`: as many
    /// lists are being sent as may be.
    pub(crate) fn leaves(&self, store: &Arc<dyn QueueStore>) -> Option<Result<DrawLeaves, ()>> {
        let (_, closed) = store.draw().closed?;
        let Ok(permit) = Arc::clone(&self.lists).try_acquire_owned() else {
            return Some(Err(()));
        };
        Some(Ok(DrawLeaves {
            store: Arc::clone(store),
            secrets: self.secrets.clone(),
            entries: closed.entries,
            root: closed.root,
            next: 0,
            _permit: permit,
        }))
    }
}

/// A list of leaves under way.
pub struct DrawLeaves {
    store: Arc<dyn QueueStore>,
    secrets: Secrets,
    /// How many leaves the list has.
    pub entries: u32,
    /// Merkle root over the leaves, as published.
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
    /// The leaves in order of arrival, in blocks as `encode` writes them; it is told whether a block is the
    /// first. The next block is made when the client has read the one before.
    pub fn into_stream<T: Send + 'static>(
        self,
        encode: fn(&[Digest], bool) -> T,
    ) -> impl Stream<Item = Result<T, TaskPanicked>> + Send {
        stream::try_unfold(self, move |mut list| async move {
            let count = LEAVES_AT_ONCE.min(list.entries - list.next);
            if count == 0 {
                return Ok(None);
            }
            let made = LEAVES.run(move || {
                let first = list.next + 1;
                let leaves = leaves(list.store.as_ref(), &list.secrets, first..first + count);
                let block = encode(&leaves, list.next == 0);
                list.next += count;
                (block, list)
            });
            made.await.map(Some)
        })
    }
}

/// The leaves of these arrivals.
fn leaves(store: &dyn QueueStore, secrets: &Secrets, arrivals: Range<u32>) -> Vec<Digest> {
    let owners = store.subjects_of(arrivals.start, arrivals.end - arrivals.start);
    arrivals
        .zip(owners)
        .map(|(arrival, owner)| secrets.leaf(arrival, owner))
        .collect()
}

/// As the tree of all entries wants them: by index, from 0 on.
fn of_entries(store: &dyn QueueStore, secrets: &Secrets) -> impl Fn(Range<u32>) -> Vec<Digest> {
    |indices: Range<u32>| leaves(store, secrets, indices.start + 1..indices.end + 1)
}

/// Reads the subjects block by block, so that no request waits for the whole list.
pub(crate) fn tree_over(store: &dyn QueueStore, secrets: &Secrets, entries: u32) -> Tree {
    Tree::over(entries, of_entries(store, secrets))
}
