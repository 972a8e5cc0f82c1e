//! What a visitor keeps to prove later that they took part: their leaf, and the service's signature over the
//! group with which they were journaled.
//!
//! Each group of joins that was committed together has a Merkle root of its own, over the leaves of its
//! members. The service signs that root with the group's numbers and the moment when its last member joined;
//! a receipt is the path from the visitor's leaf to it, available from the moment of joining. A list
//! published later that lacks the leaf at its number, or that ends before it although the visitor joined
//! before the opening, contradicts the service's own signature. Ed25519 signatures are deterministic, the
//! same on every node, so none is stored.

use serde::{Deserialize, Serialize};

use crate::waiting_room::draw::{
    digest::Digest,
    merkle,
    numbering::DrawNumbering,
    secrets::leaf_of,
    verify::{ClaimedDraw, Findings},
};
use crate::{
    kernel::{SaleId, Timestamp},
    platform::signing::{VerifyingKeys, from_hex, hex},
};

/// The type of the signed statement, a JWT.
pub const GROUP_TYP: &str = "draw-group+jwt";

/// Proof of a queue entry and of its place in the draw. Meant for the visitor alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DrawReceipt {
    pub sale: SaleId,
    pub arrival: u32,
    /// The keyed hash of the subject, 16 hexadecimal digits.
    pub subject: String,
    pub nonce: Digest,
    pub leaf: Digest,
    pub group: GroupReceipt,
    /// As published; `None` before the entries are closed.
    pub entries: Option<u32>,
    pub root: Option<Digest>,
    /// The path from the leaf to the root; `None` for an entry outside the draw.
    pub path: Option<Vec<Digest>>,
    /// The queue number; `None` before the draw is held.
    pub number: Option<u32>,
}

/// Proof that the entry was journaled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GroupReceipt {
    /// [`GroupClaims`], signed by the service (a JWT of type [`GROUP_TYP`]).
    pub signed: String,
    /// The path from the leaf to the group's root.
    pub path: Vec<Digest>,
}

/// What the service signs of entries that were journaled together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupClaims {
    pub iss: String,
    pub sale: SaleId,
    /// The lowest arrival number.
    pub first: u32,
    pub count: u32,
    pub root: Digest,
    /// When the last of them came.
    pub until: Timestamp,
}

/// The subject as receipts write it.
pub(crate) fn subject_text(subject: u64) -> String {
    hex(&subject.to_be_bytes())
}

/// Verifies a receipt by itself, against the service's public keys where given, and against the published
/// draw. `order` is the one that the published values give.
#[must_use]
pub fn verify_receipt(
    receipt: &DrawReceipt,
    draw: &ClaimedDraw,
    order: Option<&DrawNumbering>,
    keys: Option<&VerifyingKeys>,
) -> Findings {
    let mut findings = Findings::default();
    findings.equal("receipt.sale", &receipt.sale, &draw.sale, "it is of another sale");
    let subject = from_hex(&receipt.subject)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_be_bytes);
    let leaf = subject.map(|subject| leaf_of(&receipt.nonce, receipt.arrival, Some(subject)));
    findings.holds("receipt.leaf", leaf == Some(receipt.leaf), || {
        "it is not made of nonce, arrival and subject".to_owned()
    });
    let claims = keys.and_then(|keys| group(receipt, keys, &mut findings));
    let Some((entries, root)) = draw.entries.zip(draw.root) else {
        return findings;
    };
    if receipt.arrival > entries {
        if let Some((claims, opens_at)) = claims.zip(draw.opens_at) {
            let why = || {
                format!(
                    "the visitor joined before the opening at {opens_at}, and is not among the {entries} entries"
                )
            };
            findings.holds("receipt.arrival", claims.until >= opens_at, why);
        }
    } else {
        if let Some(path) = &receipt.path {
            let leads = merkle::leads_to(
                &root,
                receipt.arrival.wrapping_sub(1),
                entries,
                &receipt.leaf,
                path,
            );
            findings.holds("receipt.path", leads, || {
                "it does not lead from the leaf to the published root".to_owned()
            });
        }
        if let Some(leaves) = &draw.leaves {
            let listed = receipt
                .arrival
                .checked_sub(1)
                .and_then(|at| leaves.get(at as usize));
            findings.holds("receipt.entry", listed == Some(&receipt.leaf), || {
                "the list does not hold this leaf at this arrival".to_owned()
            });
        }
    }
    if let Some((number, order)) = receipt.number.zip(order) {
        findings.equal(
            "receipt.number",
            &number,
            &order.queue_number(receipt.arrival),
            "it is not the one that was drawn",
        );
    }
    findings
}

/// The signed claims, if the signature is the service's and they cover this entry.
fn group(receipt: &DrawReceipt, keys: &VerifyingKeys, findings: &mut Findings) -> Option<GroupClaims> {
    let claims: GroupClaims = match keys.verify(GROUP_TYP, &receipt.group.signed) {
        Ok(claims) => claims,
        Err(error) => {
            findings.wrong("receipt.group", format!("the signed statement: {error}"));
            return None;
        }
    };
    let in_it = receipt
        .arrival
        .checked_sub(claims.first)
        .filter(|_| claims.sale == receipt.sale);
    let leads = in_it.is_some_and(|index| {
        merkle::leads_to(
            &claims.root,
            index,
            claims.count,
            &receipt.leaf,
            &receipt.group.path,
        )
    });
    findings.holds("receipt.group", leads, || {
        "the signed statement is not about this leaf at this arrival".to_owned()
    });
    leads.then_some(claims)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        kernel::SeededEntropy,
        platform::signing::SigningKeys,
        waiting_room::draw::{
            merkle::Tree,
            secrets::{Secrets, commitment, draw_seed},
            shuffle::ALGORITHM,
        },
    };

    /// Twenty entries from before the opening, journaled in groups of eight, and a later one; the receipt is
    /// of arrival 10.
    struct Scene {
        keys: SigningKeys,
        secrets: Secrets,
        leaves: Vec<Digest>,
        draw: Value,
        receipt: DrawReceipt,
    }

    fn scene() -> Scene {
        let secrets = Secrets::new(&SeededEntropy::new(7));
        let keys = SigningKeys::new("receipt", &BTreeMap::from([(1, [9; 32])]));
        let sale: SaleId = "hero".parse().unwrap();
        let leaves: Vec<Digest> = (1..=21)
            .map(|arrival| secrets.leaf(arrival, Some(u64::from(arrival) * 3)))
            .collect();
        let (root, beacon) = (
            Tree::over(20, |range| {
                leaves[range.start as usize..range.end as usize].to_vec()
            }),
            Digest([5; 32]),
        );
        let seed = draw_seed(&secrets.seed(), &beacon, &root.root(), 20);
        let draw = json!({
            "sale": sale, "algorithm": ALGORITHM, "commitment": commitment(&secrets.seed(), &sale), "entries": 20, "root": root.root(),
            "opens_at": "2027-01-01T00:00:00Z", "beacon": beacon, "seed": secrets.seed(), "draw_seed": seed, "leaves": leaves[..20],
        });
        let receipt = receipt(&secrets, &keys, &leaves, 10, 9);
        let path = root.path(9, |range| {
            leaves[range.start as usize..range.end as usize].to_vec()
        });
        let number = Some(DrawNumbering::drawn(&seed, 20).queue_number(10));
        Scene {
            keys,
            secrets,
            draw,
            receipt: DrawReceipt {
                path,
                number,
                ..receipt
            },
            leaves,
        }
    }

    /// A receipt of the group of eight that starts with `first`.
    fn receipt(
        secrets: &Secrets,
        keys: &SigningKeys,
        leaves: &[Digest],
        arrival: u32,
        first: u32,
    ) -> DrawReceipt {
        let of_group = |range: std::ops::Range<u32>| {
            range
                .map(|index| leaves[(first - 1 + index) as usize])
                .collect::<Vec<_>>()
        };
        let count = 8.min(u32::try_from(leaves.len()).unwrap() - first + 1);
        let tree = Tree::over(count, of_group);
        let until = Timestamp::from_secs(1_798_761_600 - 60);
        let claims = GroupClaims {
            iss: "house".into(),
            sale: "hero".parse().unwrap(),
            first,
            count,
            root: tree.root(),
            until,
        };
        DrawReceipt {
            sale: "hero".parse().unwrap(),
            arrival,
            subject: subject_text(u64::from(arrival) * 3),
            nonce: secrets.nonce(arrival),
            leaf: leaves[arrival as usize - 1],
            group: GroupReceipt {
                signed: keys.sign(GROUP_TYP, &claims),
                path: tree.path(arrival - first, of_group).unwrap(),
            },
            entries: None,
            root: None,
            path: None,
            number: None,
        }
    }

    fn faults(receipt: &DrawReceipt, draw: &Value, keys: &SigningKeys) -> Vec<&'static str> {
        let draw: ClaimedDraw = serde_json::from_value(draw.clone()).unwrap();
        let order = draw
            .draw_seed
            .zip(draw.entries)
            .map(|(seed, entries)| DrawNumbering::drawn(&seed, entries));
        let found = verify_receipt(
            receipt,
            &draw,
            order.as_ref(),
            Some(&VerifyingKeys::from_jwks(&keys.jwks())),
        );
        found.faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn a_receipt_holds_at_every_stage() {
        let Scene {
            keys, draw, receipt, ..
        } = scene();
        assert_eq!(faults(&receipt, &draw, &keys), [""; 0]);
        let early = DrawReceipt {
            path: None,
            number: None,
            ..receipt
        };
        let mut promised = draw.clone();
        for field in ["entries", "root", "beacon", "seed", "draw_seed", "leaves"] {
            promised[field] = Value::Null;
        }
        assert_eq!(faults(&early, &promised, &keys), [""; 0], "before the close");
        assert_eq!(
            faults(&early, &draw, &keys),
            [""; 0],
            "one from before the close holds after the draw"
        );
    }

    #[test]
    fn a_list_without_the_entry_contradicts_the_receipt() {
        let Scene {
            keys,
            secrets,
            leaves,
            mut draw,
            receipt: receipt_of_10,
        } = scene();
        let early = DrawReceipt {
            path: None,
            number: None,
            ..receipt_of_10
        };
        let void = secrets.leaf(10, None);
        draw["leaves"][9] = json!(void);
        assert_eq!(
            faults(&early, &draw, &keys),
            ["receipt.entry"],
            "the number was made void"
        );
        let cut = json!({ "sale": "hero", "algorithm": ALGORITHM, "commitment": void, "entries": 9, "root": void, "opens_at": draw["opens_at"] });
        assert_eq!(
            faults(&early, &cut, &keys),
            ["receipt.arrival"],
            "the list ends before the number"
        );
        let late = receipt(&secrets, &keys, &leaves, 21, 21);
        let mut later = cut;
        later["opens_at"] = json!("2026-12-31T23:59:00Z");
        assert_eq!(
            faults(&late, &later, &keys),
            [""; 0],
            "who came after the opening stands behind rightly"
        );
    }

    #[test]
    fn a_changed_receipt_is_detected() {
        let Scene {
            keys, draw, receipt, ..
        } = scene();
        let other = Digest([8; 32]);
        let changes: [(DrawReceipt, &str); 8] = [
            (
                DrawReceipt {
                    sale: "other".parse().unwrap(),
                    ..receipt.clone()
                },
                "receipt.sale",
            ),
            (
                DrawReceipt {
                    arrival: 11,
                    ..receipt.clone()
                },
                "receipt.leaf",
            ),
            (
                DrawReceipt {
                    subject: subject_text(31),
                    ..receipt.clone()
                },
                "receipt.leaf",
            ),
            (
                DrawReceipt {
                    nonce: other,
                    ..receipt.clone()
                },
                "receipt.leaf",
            ),
            (
                DrawReceipt {
                    leaf: other,
                    ..receipt.clone()
                },
                "receipt.group",
            ),
            (
                DrawReceipt {
                    path: Some(vec![other]),
                    ..receipt.clone()
                },
                "receipt.path",
            ),
            (
                DrawReceipt {
                    number: receipt.number.map(|it| it % 20 + 1),
                    ..receipt.clone()
                },
                "receipt.number",
            ),
            (
                DrawReceipt {
                    group: GroupReceipt {
                        path: vec![other],
                        ..receipt.group.clone()
                    },
                    ..receipt.clone()
                },
                "receipt.group",
            ),
        ];
        for (changed, found) in changes {
            assert!(
                faults(&changed, &draw, &keys).contains(&found),
                "{found}: {:?}",
                faults(&changed, &draw, &keys)
            );
        }
        let other = SigningKeys::new("receipt", &BTreeMap::from([(1, [1; 32])]));
        assert_eq!(
            faults(&receipt, &draw, &other),
            ["receipt.group"],
            "signed by another key"
        );
    }
}
