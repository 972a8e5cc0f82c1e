//! Operations of the random draw.

use serde_json::json;

use super::{examples, operation::OperationDoc, security::Credential};
use crate::{
    edge::{errors::problem::ProblemType, handlers::draws::DrawEntriesResponse},
    waiting_room::{
        PublishedDraw,
        draw::{Digest, DrawReceipt, GroupReceipt},
    },
};

const TAG: &str = "draw";

pub(super) fn operations() -> Vec<OperationDoc> {
    vec![get_draw(), list_draw_entries(), get_draw_receipt()]
}

fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

fn get_draw() -> OperationDoc {
    let example = json!({
        "sale": examples::sale(),
        "algorithm": crate::waiting_room::draw::ALGORITHM,
        "commitment": digest(0x11),
        "chain": {
            "chain": "52db9ba70e0cc0f6eaf7803dd07447a1f5477735fd3f661792ba94600c84e971",
            "genesis_at": "2023-08-23T15:09:27Z",
            "period_s": 3,
            "public_key": "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c",
        },
        "on_sale_starts_at": examples::at(0),
        "planned_round": 28_000_000,
        "planned_round_at": examples::at(6),
        "entries": null, "root": null, "closed_at": null, "round": null, "round_at": null, "beacon": null,
        "signature": null, "seed": null, "draw_seed": null, "order": null, "drawn_at": null,
    });
    OperationDoc::new("get_draw", TAG, "Get what is published of the draw")
        .describe(
            "The commitment, the algorithm and the planned round of the beacon before the queue opens; then \
             entries and Merkle root; then beacon value and seeds, from which anyone can compute the order.",
        )
        .in_sale()
        .json_value::<PublishedDraw>(200, "What is published so far; the rest is `null`.", example)
        .cacheable("public, max-age=1")
}

fn list_draw_entries() -> OperationDoc {
    let example = DrawEntriesResponse {
        entries: 2,
        root: digest(0x22),
        leaves: vec![digest(0x33), digest(0x44)],
    };
    OperationDoc::new("list_draw_entries", TAG, "List the entries of the draw")
        .describe("The leaves of the Merkle tree in order of arrival, once entries are closed.")
        .in_sale()
        .json(
            200,
            "All leaves; as `application/octet-stream`, 32 bytes each.",
            &example,
        )
        .or_as("application/octet-stream", &json!({}))
        .cacheable("public, max-age=3600")
}

fn get_draw_receipt() -> OperationDoc {
    let example = DrawReceipt {
        sale: examples::sale(),
        arrival: 2,
        subject: "00f1e2d3c4b5a697".to_owned(),
        nonce: digest(0x55),
        leaf: digest(0x44),
        group: GroupReceipt {
            signed: "eyJ0eXAiOiJkcmF3LWdyb3VwK2p3dCJ9.e30.c2ln".to_owned(),
            path: vec![digest(0x33)],
        },
        entries: Some(2),
        root: Some(digest(0x22)),
        path: Some(vec![digest(0x33)]),
        number: Some(1),
    };
    OperationDoc::new("get_draw_receipt", TAG, "Get the caller's own receipt")
        .describe("Proves to anyone that the entry took part, and later which number the draw gave it.")
        .in_sale()
        .credentials(&[&[Credential::QueueToken]])
        .json(200, "The receipt; it grows with what is published.", &example)
        .problem(ProblemType::QueueTokenRequired)
}
