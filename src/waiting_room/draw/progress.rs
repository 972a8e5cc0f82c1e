//! How far a draw has come, as the journal has it: of each kind the first valid record counts, whoever wrote it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Beacon, Chain, Digest, commitment, draw_seed};
use crate::kernel::{SaleId, Timestamp};

/// Between the publication of the entries and the round that decides, at least.
pub(super) const PUBLIC_BEFORE_ROUND: Duration = Duration::from_secs(30);
/// More than it takes to write the entries down once they are known, or the writing fails.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);
/// After the opening, how long joins that were under way are waited for.
const SETTLE: Duration = Duration::from_secs(1);
/// More than it takes to hash some millions of entries.
const HASHED_WITHIN: Duration = Duration::from_secs(9);

/// How a sale is drawn.
#[derive(Clone, Debug)]
pub struct DrawTerms {
    pub chain: Chain,
    pub beacon: Arc<dyn Beacon>,
}

/// What was promised before anybody joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub commitment: Digest,
    /// The draw's secrets, sealed (base64url).
    pub sealed: String,
    pub chain: Chain,
    /// Named in advance; a later one decides where the entries come too late for it.
    pub planned_round: u64,
}

/// Who takes part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Closed {
    /// Arrival numbers up to this one are in the draw.
    pub entries: u32,
    /// How many of them are somebody's.
    pub persons: u32,
    pub root: Digest,
    /// The round that decides.
    pub round: u64,
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drawn {
    pub round: u64,
    pub beacon: Digest,
    /// The beacon's proof, in hexadecimal digits.
    pub signature: String,
    pub seed: Digest,
}

/// A fold of the draw's records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Draw {
    pub committed: Option<Arc<Committed>>,
    /// And when it was written down.
    pub closed: Option<(Timestamp, Arc<Closed>)>,
    pub drawn: Option<(Timestamp, Arc<Drawn>)>,
    /// One hash for the order that the draw has given.
    pub order: Option<Digest>,
}

impl Draw {
    pub(crate) fn committed(&mut self, committed: &Committed) {
        self.committed.get_or_insert_with(|| Arc::new(committed.clone()));
    }

    pub(crate) fn closed(&mut self, closed: &Closed, at: Timestamp) {
        if self.committed.is_some() {
            self.closed.get_or_insert_with(|| (at, Arc::new(closed.clone())));
        }
    }

    /// The draw seed and the number of entries, if this decides the draw: it is the round that was to decide and the seed
    /// that was promised, and the draw has not been held.
    pub(crate) fn decided_by(&self, drawn: &Drawn, sale: &SaleId) -> Option<(Digest, u32)> {
        let (committed, (_, closed)) = (self.committed.as_ref()?, self.closed.as_ref()?);
        let is_it = self.drawn.is_none() && drawn.round == closed.round && commitment(&drawn.seed, sale) == committed.commitment;
        is_it.then(|| (draw_seed(&drawn.seed, &drawn.beacon, &closed.root, closed.entries), closed.entries))
    }

    /// How many are in the draw, once that is settled.
    pub(crate) fn entries(&self) -> Option<u32> {
        self.closed.as_ref().map(|(_, closed)| closed.entries)
    }
}

/// When the entries of a sale that opens at `opens_at` are counted at the earliest.
pub(crate) fn counted_from(opens_at: Timestamp) -> Timestamp {
    opens_at.plus(SETTLE)
}

/// The round that is named in advance for a sale that opens at `opens_at`.
pub(crate) fn planned_round(chain: &Chain, opens_at: Timestamp) -> u64 {
    chain.first_round_from(counted_from(opens_at).plus(HASHED_WITHIN + WRITTEN_WITHIN + PUBLIC_BEFORE_ROUND))
}

/// The round that decides when the entries are about to be written down at `now`.
pub(crate) fn deciding_round(committed: &Committed, now: Timestamp) -> u64 {
    committed.planned_round.max(committed.chain.first_round_from(now.plus(WRITTEN_WITHIN + PUBLIC_BEFORE_ROUND)))
}
