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
        "sale": sale, "algorithm": ALGORITHM,
        "commitment": commitment(&secrets.seed(), &sale), "entries": 20, "root": root.root(),
        "on_sale_starts_at": "2027-01-01T00:00:00Z", "beacon": beacon, "seed": secrets.seed(),
        "draw_seed": seed, "leaves": leaves[..20],
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
    let cut = json!({ "sale": "hero", "algorithm": ALGORITHM, "commitment": void, "entries": 9,
    "root": void, "on_sale_starts_at": draw["on_sale_starts_at"] });
    assert_eq!(
        faults(&early, &cut, &keys),
        ["receipt.arrival"],
        "the list ends before the number"
    );
    let late = receipt(&secrets, &keys, &leaves, 21, 21);
    let mut later = cut;
    later["on_sale_starts_at"] = json!("2026-12-31T23:59:00Z");
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
