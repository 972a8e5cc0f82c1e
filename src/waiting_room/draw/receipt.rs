//! What a fan keeps to prove later, to anybody, that she was there: her leaf, and the house's signature over those with whom
//! she was written down.
//!
//! Each group of joins that was committed together has a Merkle root of its own, over the leaves of its members. The house
//! signs that root with the group's numbers and the moment when the last of its members came, and a fan's receipt is the
//! path from her leaf to it. Such a signature can be had as soon as she has her place. So a list that is published later
//! and does not hold her leaf at her number, or ends before it though she came before the opening, is against the house's
//! own word. A signature by Ed25519 is the same whenever and on whichever node it is made, so none is kept.

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

/// That somebody is in a sale's queue, and where she stands in its draw; for herself only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DrawReceipt {
    pub sale: SaleId,
    pub arrival: u32,
    /// The keyed hash of her subject, 16 hexadecimal digits.
    pub subject: String,
    pub nonce: Digest,
    pub leaf: Digest,
    pub group: GroupReceipt,
    /// As published; `None` before the entries are closed.
    pub entries: Option<u32>,
    pub root: Option<Digest>,
    /// From her leaf up to the root; `None` for those who are not in the draw.
    pub path: Option<Vec<Digest>>,
    /// Her queue number; `None` before the draw is held.
    pub number: Option<u32>,
}

/// That she was written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GroupReceipt {
    /// [`GroupClaims`], signed by the house (a JWT of type [`GROUP_TYP`]).
    pub signed: String,
    /// From her leaf up to the group's root.
    pub path: Vec<Digest>,
}

/// What the house signs of those who were written down together.
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

/// Checks a receipt by itself, against the house's public keys where they are given, and against what was published.
/// `order` is the one that the published values give.
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
                format!("she came before the opening at {opens_at}, and is not among the {entries} entries")
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

/// The signed statement, if it is the house's and about her.
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

    /// Twenty who came before the opening, written down in groups of eight, and a later one; her receipt is that of arrival 10.
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

    /// Of somebody in the group of eight that begins with `first`.
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
    fn a_receipt_holds_from_the_first_day_to_the_last() {
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
    fn a_list_that_leaves_her_out_is_against_the_houses_word() {
        let Scene {
            keys,
            secrets,
            leaves,
            mut draw,
            receipt: hers,
        } = scene();
        let early = DrawReceipt {
            path: None,
            number: None,
            ..hers
        };
        let void = secrets.leaf(10, None);
        draw["leaves"][9] = json!(void);
        assert_eq!(
            faults(&early, &draw, &keys),
            ["receipt.entry"],
            "her number was made nobody's"
        );
        let cut = json!({ "sale": "hero", "algorithm": ALGORITHM, "commitment": void, "entries": 9, "root": void, "opens_at": draw["opens_at"] });
        assert_eq!(
            faults(&early, &cut, &keys),
            ["receipt.arrival"],
            "the list ends before her"
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
    fn a_receipt_that_was_changed_or_made_up_is_found() {
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
        let somebody = SigningKeys::new("receipt", &BTreeMap::from([(1, [1; 32])]));
        assert_eq!(
            faults(&receipt, &draw, &somebody),
            ["receipt.group"],
            "signed by somebody else"
        );
    }
}
