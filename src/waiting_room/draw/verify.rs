//! Recomputes a published draw from nothing but what was published.

use std::time::Duration;

use serde::Deserialize;

use crate::waiting_room::draw::{
    digest::Digest,
    merkle::Tree,
    numbering::DrawNumbering,
    progress::PUBLIC_BEFORE_ROUND,
    secrets::{commitment, draw_seed},
    shuffle::ALGORITHM,
};
use crate::{
    kernel::{SaleId, Timestamp},
    platform::{
        drand::{ChainKey, QUICKNET, QUICKNET_KEY},
        signing::{from_hex, sha256},
    },
};

/// A draw as it was published. Fields that are `None` are not checked; a draw that was not held lacks its
/// seed.
#[derive(Clone, Debug, Deserialize)]
pub struct ClaimedDraw {
    /// The sale that was drawn; a receipt must be of the same one.
    pub sale: SaleId,
    /// Must be [`ALGORITHM`].
    pub algorithm: String,
    /// Must be the SHA-256 of `seed` and the sale's id.
    pub commitment: Digest,
    /// Number of entries; must be the number of `leaves`.
    pub entries: Option<u32>,
    /// Must be the Merkle root over `leaves`.
    pub root: Option<Digest>,
    /// Value of `round`; must be the SHA-256 of `signature`.
    pub beacon: Option<Digest>,
    /// The service's seed, published once the draw is held.
    pub seed: Option<Digest>,
    /// Must be the SHA-256 of `seed`, `beacon`, `root` and `entries`.
    pub draw_seed: Option<Digest>,
    /// Must be the hash of all queue numbers that `draw_seed` gives.
    pub order: Option<Digest>,
    /// The chain's, in hexadecimal digits; its SHA-256 is the beacon.
    pub signature: Option<String>,
    /// The beacon chain; its key verifies `signature`, its schedule the times of the rounds.
    pub chain: Option<ClaimedChain>,
    /// The round named in advance; `round` must not be an earlier one.
    pub planned_round: Option<u64>,
    /// Must be when the chain publishes `planned_round`.
    pub planned_round_at: Option<Timestamp>,
    /// When the entries were published; must be at least 30 s before `round_at`.
    pub closed_at: Option<Timestamp>,
    /// The round that decided.
    pub round: Option<u64>,
    /// Must be when the chain publishes `round`.
    pub round_at: Option<Timestamp>,
    /// Entries that joined before it are in the draw.
    pub on_sale_starts_at: Option<Timestamp>,
    /// The leaves of all entries in order of arrival.
    pub leaves: Option<Vec<Digest>>,
}

/// Which beacon, when its rounds are, and who signs them.
#[derive(Clone, Debug, Deserialize)]
pub struct ClaimedChain {
    pub chain: String,
    pub genesis_at: Timestamp,
    pub period_s: u32,
    pub public_key: ChainKey,
}

impl ClaimedChain {
    /// Whether this program knows the chain.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.chain.eq_ignore_ascii_case(QUICKNET)
    }
}

/// A value that cannot be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field that is wrong.
    pub field: &'static str,
    /// What is wrong with it; where it was recomputed, with both values.
    pub why: String,
}

/// What was found out about a draw.
#[derive(Debug)]
pub struct Checked {
    /// Fields that were recomputed, or hold what the others say.
    pub right: Vec<&'static str>,
    /// What failed a check; empty when all that was published agrees.
    pub faults: Vec<Fault>,
    /// The order that follows from what was published.
    pub order: DrawNumbering,
}

/// Checks everything that can be checked.
///
/// # Errors
/// The names of the missing fields: the draw was not held.
pub fn verify(claimed: &ClaimedDraw) -> Result<Checked, Vec<&'static str>> {
    let (Some(entries), Some(root), Some(beacon), Some(seed)) =
        (claimed.entries, claimed.root, claimed.beacon, claimed.seed)
    else {
        let fields = [
            ("entries", claimed.entries.is_none()),
            ("root", claimed.root.is_none()),
            ("beacon", claimed.beacon.is_none()),
            ("seed", claimed.seed.is_none()),
        ];
        return Err(fields
            .into_iter()
            .filter_map(|(field, missing)| missing.then_some(field))
            .collect());
    };
    let mut findings = Findings::default();
    findings.equal(
        "algorithm",
        &claimed.algorithm.as_str(),
        &ALGORITHM,
        "this program knows one algorithm",
    );
    findings.equal(
        "commitment",
        &claimed.commitment,
        &commitment(&seed, &claimed.sale),
        "it is not SHA-256(seed, sale)",
    );
    signed(claimed, &beacon, &mut findings);
    if let Some(leaves) = &claimed.leaves {
        findings.equal(
            "entries",
            &(entries as usize),
            &leaves.len(),
            "there are more or fewer leaves",
        );
        let count = u32::try_from(leaves.len()).unwrap_or(u32::MAX);
        let tree = Tree::over(count, |range| {
            leaves[range.start as usize..range.end as usize].to_vec()
        });
        findings.equal("root", &root, &tree.root(), "it is not the root of these leaves");
    }
    let recomputed = draw_seed(&seed, &beacon, &root, entries);
    if let Some(claimed) = &claimed.draw_seed {
        findings.equal(
            "draw_seed",
            claimed,
            &recomputed,
            "it is not SHA-256(seed, beacon, root, entries)",
        );
    }
    let order = DrawNumbering::drawn(&recomputed, entries);
    if let Some(claimed) = &claimed.order {
        findings.equal(
            "order",
            claimed,
            &order.digest(),
            "it is not the order that the draw seed gives",
        );
    }
    schedule(claimed, &mut findings);
    Ok(Checked {
        right: findings.right,
        faults: findings.faults,
        order,
    })
}

/// The beacon is what the chain has signed.
fn signed(claimed: &ClaimedDraw, beacon: &Digest, findings: &mut Findings) {
    if let Some(chain) = claimed.chain.as_ref().filter(|chain| chain.is_known()) {
        findings.equal(
            "public_key",
            &chain.public_key.to_string().as_str(),
            &QUICKNET_KEY,
            "it is not that of the chain quicknet",
        );
    }
    let Some(signature) = &claimed.signature else {
        return;
    };
    let Some(signature) = from_hex(signature) else {
        return findings.wrong("signature", "it is not made of hexadecimal digits".to_owned());
    };
    findings.equal(
        "beacon",
        beacon,
        &Digest(sha256(&signature)),
        "it is not SHA-256(signature)",
    );
    if let (Some(chain), Some(round)) = (&claimed.chain, claimed.round) {
        findings.holds("signature", chain.public_key.verify(round, &signature), || {
            format!("it is not the chain's of round {round}")
        });
    }
}

/// The round was fixed in advance, and its value was unknown when the entries were published.
fn schedule(claimed: &ClaimedDraw, findings: &mut Findings) {
    if let Some(chain) = &claimed.chain {
        let at = |round: u64| {
            chain.genesis_at.plus(Duration::from_secs(
                u64::from(chain.period_s).saturating_mul(round.saturating_sub(1)),
            ))
        };
        for (field, round, said) in [
            (
                "planned_round_at",
                claimed.planned_round,
                claimed.planned_round_at,
            ),
            ("round_at", claimed.round, claimed.round_at),
        ] {
            if let (Some(round), Some(said)) = (round, said) {
                findings.equal(field, &said, &at(round), "the round is at another time");
            }
        }
    }
    if let (Some(planned), Some(round)) = (claimed.planned_round, claimed.round) {
        findings.holds("round", round >= planned, || {
            format!("it is before the planned round {planned}")
        });
    }
    if let (Some(closed), Some(round)) = (claimed.closed_at, claimed.round_at) {
        let in_time = round.since(closed) >= PUBLIC_BEFORE_ROUND;
        findings.holds("closed_at", in_time, || {
            "the entries were not public 30 s before the round".to_owned()
        });
    }
}

/// What was looked at, and how it was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Fields that passed a check, in the order of the checks.
    pub right: Vec<&'static str>,
    /// Fields that failed a check, in the order of the checks.
    pub faults: Vec<Fault>,
}

impl Findings {
    pub(super) fn equal<T: PartialEq + std::fmt::Display>(
        &mut self,
        field: &'static str,
        claimed: &T,
        recomputed: &T,
        why: &str,
    ) {
        self.holds(field, claimed == recomputed, || {
            format!("{why}: {claimed} is published, {recomputed} is right")
        });
    }

    pub(super) fn holds(&mut self, field: &'static str, holds: bool, why: impl FnOnce() -> String) {
        if holds {
            self.right.push(field);
        } else {
            self.wrong(field, why());
        }
    }

    pub(super) fn wrong(&mut self, field: &'static str, why: String) {
        self.faults.push(Fault { field, why });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        demo::sandbox_beacon::SandboxSigner, kernel::SeededEntropy, platform::signing::hex,
        waiting_room::draw::secrets::Secrets,
    };

    fn published() -> Value {
        let signer = SandboxSigner::of("c");
        let secrets = Secrets::new(&SeededEntropy::new(1));
        let leaves: Vec<Digest> = (1..=50)
            .map(|arrival| secrets.leaf(arrival, (arrival % 9 > 0).then_some(arrival.into())))
            .collect();
        let (sale, root) = (
            "hero".parse().unwrap(),
            Tree::over(50, |range| {
                leaves[range.start as usize..range.end as usize].to_vec()
            })
            .root(),
        );
        let signature = signer.sign(4);
        let beacon = Digest(sha256(&signature));
        let seed = draw_seed(&secrets.seed(), &beacon, &root, 50);
        json!({
            "sale": sale, "algorithm": ALGORITHM, "commitment": commitment(&secrets.seed(), &sale),
            "chain": { "chain": "c", "genesis_at": "2027-01-01T00:00:00Z", "period_s": 30,
            "public_key": signer.public_key() },
            "planned_round": 3, "planned_round_at": "2027-01-01T00:01:00Z",
            "closed_at": "2027-01-01T00:01:00Z",
            "round": 4, "round_at": "2027-01-01T00:01:30Z", "entries": 50, "root": root, "beacon": beacon,
            "signature": hex(&signature), "seed": secrets.seed(), "draw_seed": seed,
            "order": DrawNumbering::drawn(&seed, 50).digest(),
            "leaves": leaves,
        })
    }

    fn chain(name: &str, genesis_at: &str, key_of: &str) -> Value {
        json!({ "chain": name, "genesis_at": genesis_at, "period_s": 30,
        "public_key": SandboxSigner::of(key_of).public_key() })
    }

    fn faults(draw: &Value) -> Vec<&'static str> {
        let checked = verify(&serde_json::from_value(draw.clone()).unwrap()).unwrap();
        checked.faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn an_honest_draw_passes_every_check() {
        let checked = verify(&serde_json::from_value(published()).unwrap()).unwrap();
        assert!(checked.faults.is_empty(), "{:?}", checked.faults);
        assert_eq!(checked.right.len(), 12, "{:?}", checked.right);
        let undrawn =
            json!({ "sale": "hero", "algorithm": ALGORITHM, "commitment": "0".repeat(64), "entries": 3 });
        assert_eq!(
            verify(&serde_json::from_value(undrawn).unwrap()).unwrap_err(),
            ["root", "beacon", "seed"]
        );
    }

    #[test]
    fn every_changed_value_is_detected() {
        let right = published();
        let other = Digest([3; 32]);
        let changes = [
            ("sale", json!("other"), "commitment"),
            ("algorithm", json!("fifo"), "algorithm"),
            ("commitment", json!(other), "commitment"),
            ("entries", json!(49), "entries"),
            ("root", json!(other), "root"),
            ("beacon", json!(other), "beacon"),
            ("signature", json!("0707"), "beacon"),
            ("signature", json!("not hex"), "signature"),
            (
                "signature",
                json!(hex(&SandboxSigner::of("c").sign(5))),
                "signature",
            ),
            ("seed", json!(other), "commitment"),
            ("draw_seed", json!(other), "draw_seed"),
            ("order", json!(other), "order"),
            ("planned_round", json!(5), "round"),
            (
                "planned_round_at",
                json!("2027-01-01T00:02:00Z"),
                "planned_round_at",
            ),
            ("closed_at", json!("2027-01-01T00:01:01Z"), "closed_at"),
            ("round", json!(5), "round_at"),
            ("round_at", json!("2027-01-01T00:02:00Z"), "round_at"),
            ("chain", chain("c", "2027-01-01T00:00:01Z", "c"), "round_at"),
            ("chain", chain("c", "2027-01-01T00:00:00Z", "d"), "signature"),
            (
                "chain",
                chain(QUICKNET, "2027-01-01T00:00:00Z", "c"),
                "public_key",
            ),
            ("leaves", json!([other]), "root"),
        ];
        for (field, value, found) in changes {
            let mut wrong = right.clone();
            wrong[field] = value;
            assert!(faults(&wrong).contains(&found), "{field}: {:?}", faults(&wrong));
        }
        let mut without = right;
        without["leaves"] = json!(null);
        without["root"] = json!(other);
        assert_eq!(
            faults(&without),
            ["draw_seed", "order"],
            "the draw seed binds the root too"
        );
    }
}
