//! How far a draw has come, by the journal: of each kind the first valid record counts, whichever node wrote
//! it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    kernel::{SaleId, Timestamp},
    waiting_room::draw::{
        beacon::{Beacon, BeaconChain},
        digest::Digest,
        secrets::{commitment, draw_seed},
    },
};

/// Between the publication of the entries and the round that decides, at least.
pub(super) const PUBLIC_BEFORE_ROUND: Duration = Duration::from_secs(30);
/// Longer than journaling the entries may take.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);
/// How long after the sale opens joins in progress are waited for.
const SETTLE: Duration = Duration::from_secs(1);
/// More than it takes to hash some millions of entries.
const HASHED_WITHIN: Duration = Duration::from_secs(9);

/// How a sale is drawn.
#[derive(Clone, Debug)]
pub struct DrawTerms {
    /// The chain whose round decides; it is published with the commitment.
    pub chain: BeaconChain,
    /// Source of that chain's rounds.
    pub beacon: Arc<dyn Beacon>,
}

/// What was committed to before the first visitor joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DrawCommitment {
    pub commitment: Digest,
    /// The draw's secrets, sealed (base64url).
    pub sealed: String,
    pub chain: BeaconChain,
    /// Named in advance; a later one decides where the entries come too late for it.
    pub planned_round: u64,
}

/// The closed entries: who takes part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClosedEntries {
    /// Arrival numbers up to this one are in the draw.
    pub entries: u32,
    /// How many of them have a subject.
    pub persons: u32,
    pub root: Digest,
    /// The round that decides.
    pub round: u64,
}

/// The values that decide the draw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DrawResult {
    pub round: u64,
    pub beacon: Digest,
    /// The beacon's proof, in hexadecimal digits.
    pub signature: String,
    pub seed: Digest,
}

/// A fold of the draw's records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DrawState {
    pub committed: Option<Arc<DrawCommitment>>,
    /// And when it was written down.
    pub closed: Option<(Timestamp, Arc<ClosedEntries>)>,
    pub drawn: Option<(Timestamp, Arc<DrawResult>)>,
    /// One hash for the order that the draw has given.
    pub order: Option<Digest>,
}

impl DrawState {
    pub(crate) fn committed(&mut self, committed: &DrawCommitment) {
        self.committed.get_or_insert_with(|| Arc::new(committed.clone()));
    }

    pub(crate) fn closed(&mut self, closed: &ClosedEntries, at: Timestamp) {
        if self.committed.is_some() {
            self.closed.get_or_insert_with(|| (at, Arc::new(closed.clone())));
        }
    }

    /// The draw seed and the number of entries, if this decides the draw: it is the round that was to decide
    /// and the seed that was promised, and the draw has not been held.
    pub(crate) fn decided_by(&self, drawn: &DrawResult, sale: &SaleId) -> Option<(Digest, u32)> {
        let (committed, (_, closed)) = (self.committed.as_ref()?, self.closed.as_ref()?);
        let is_it = self.drawn.is_none()
            && drawn.round == closed.round
            && commitment(&drawn.seed, sale) == committed.commitment;
        is_it.then(|| {
            (
                draw_seed(&drawn.seed, &drawn.beacon, &closed.root, closed.entries),
                closed.entries,
            )
        })
    }

    /// How many are in the draw, once that is settled.
    pub(crate) fn entries(&self) -> Option<u32> {
        self.closed.as_ref().map(|(_, closed)| closed.entries)
    }
}

/// When the entries of a sale that opens at `on_sale_starts_at` are counted at the earliest.
pub(crate) fn counted_from(on_sale_starts_at: Timestamp) -> Timestamp {
    on_sale_starts_at.plus(SETTLE)
}

/// The round that is named in advance for a sale that opens at `on_sale_starts_at`.
pub(crate) fn planned_round(chain: &BeaconChain, on_sale_starts_at: Timestamp) -> u64 {
    let published = counted_from(on_sale_starts_at).plus(HASHED_WITHIN + WRITTEN_WITHIN);
    chain.first_round_from(published.plus(PUBLIC_BEFORE_ROUND))
}

/// The round that decides when the entries are about to be written down at `now`.
pub(crate) fn deciding_round(committed: &DrawCommitment, now: Timestamp) -> u64 {
    committed.planned_round.max(
        committed
            .chain
            .first_round_from(now.plus(WRITTEN_WITHIN + PUBLIC_BEFORE_ROUND)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::sandbox_beacon::SandboxSigner;

    /// A later record cannot change a draw, even for a writer with access to the journal.
    #[test]
    fn the_first_record_of_each_kind_counts() {
        let sale: SaleId = "hero".parse().unwrap();
        let (seed, other, at) = (Digest([1; 32]), Digest([2; 32]), Timestamp::from_secs(5));
        let public_key = SandboxSigner::of("c").public_key();
        let chain = BeaconChain {
            chain: "c".into(),
            genesis_at: at,
            period_s: 3,
            public_key,
        };
        let promise = |seed: &Digest| DrawCommitment {
            commitment: commitment(seed, &sale),
            sealed: String::new(),
            chain: chain.clone(),
            planned_round: 20,
        };
        let close = |entries| ClosedEntries {
            entries,
            persons: entries,
            root: Digest([3; 32]),
            round: 21,
        };
        let drawn = |round, seed| DrawResult {
            round,
            beacon: Digest([4; 32]),
            signature: String::new(),
            seed,
        };
        let mut draw = DrawState::default();
        draw.closed(&close(5), at);
        assert_eq!(draw.entries(), None, "nothing is closed before it is promised");
        draw.committed(&promise(&seed));
        draw.committed(&promise(&other));
        assert_eq!(
            draw.decided_by(&drawn(21, seed), &sale),
            None,
            "nor drawn before it is closed"
        );
        draw.closed(&close(9), at);
        draw.closed(&close(8), at);
        assert_eq!(
            (draw.entries(), draw.committed.clone().unwrap().commitment),
            (Some(9), commitment(&seed, &sale))
        );
        assert_eq!(
            draw.decided_by(&drawn(21, other), &sale),
            None,
            "another seed than the one that was promised"
        );
        for round in [20, 22] {
            assert_eq!(
                draw.decided_by(&drawn(round, seed), &sale),
                None,
                "another round than the one that was named"
            );
        }
        assert_eq!(
            draw.decided_by(&drawn(21, seed), &sale),
            Some((draw_seed(&seed, &Digest([4; 32]), &Digest([3; 32]), 9), 9))
        );
        draw.drawn = Some((at, Arc::new(drawn(21, seed))));
        assert_eq!(draw.decided_by(&drawn(21, seed), &sale), None, "and once only");
    }

    #[test]
    fn entries_are_public_30_s_before_the_deciding_round() {
        let on_sale_starts_at = Timestamp::from_secs(1_000_000);
        for period_s in [1, 3, 30, 600] {
            let public_key = SandboxSigner::of("c").public_key();
            let chain = BeaconChain {
                chain: "c".into(),
                genesis_at: Timestamp::from_secs(12_345),
                period_s,
                public_key,
            };
            let planned_round = planned_round(&chain, on_sale_starts_at);
            let committed = DrawCommitment {
                commitment: Digest([0; 32]),
                sealed: String::new(),
                chain: chain.clone(),
                planned_round,
            };
            for late_s in [1, 10, 11, 60, 5_000] {
                let now = on_sale_starts_at.plus(Duration::from_secs(late_s));
                let round = deciding_round(&committed, now);
                assert!(
                    round >= planned_round
                        && chain.round_at(round) >= now.plus(PUBLIC_BEFORE_ROUND + WRITTEN_WITHIN),
                    "{period_s} {late_s}"
                );
                let one_before = chain.round_at(round - 1);
                assert!(
                    round == planned_round || one_before < now.plus(PUBLIC_BEFORE_ROUND + WRITTEN_WITHIN),
                    "no later than needed"
                );
            }
        }
    }
}
