//! What a visitor keeps to prove later that they took part: their leaf, and the service's signature over the
//! group with which they were journaled.
//!
//! Each group of joins that was committed together has a Merkle root of its own, over the leaves of its
//! members. The service signs that root with the group's numbers and the moment when its last member joined;
//! a receipt is the path from the visitor's leaf to it, available from the moment of joining. A list
//! published later that lacks the leaf at its number, or that ends before it although the visitor joined
//! before the opening, contradicts the service's own signature. Ed25519 signatures are deterministic, the
//! same on every node, so none is stored.

#[cfg(test)]
mod tests;

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
    /// The sale whose queue the entry is in.
    pub sale: SaleId,
    /// Arrival number, from 1.
    pub arrival: u32,
    /// The keyed hash of the subject, 16 hexadecimal digits.
    pub subject: String,
    /// HMAC key of `leaf`. Without it the leaf does not reveal whose entry it is.
    pub nonce: Digest,
    /// HMAC-SHA-256 of `arrival` and `subject` under `nonce`.
    pub leaf: Digest,
    /// Signed proof of the entry, available before the entries are closed.
    pub group: GroupReceipt,
    /// As published; `None` before the entries are closed.
    pub entries: Option<u32>,
    /// Merkle root over all entries, as published; `None` before the entries are closed.
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
    /// Issuer: the service's public base URL.
    pub iss: String,
    /// The sale whose queue the entries are in.
    pub sale: SaleId,
    /// The lowest arrival number.
    pub first: u32,
    /// Number of entries; their arrival numbers are consecutive.
    pub count: u32,
    /// Merkle root over the group's leaves, in order of arrival.
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
        if let Some((claims, on_sale_starts_at)) = claims.zip(draw.on_sale_starts_at) {
            let why = || {
                format!(
                    "the visitor joined before the opening at {on_sale_starts_at}, and is not among the \
                     {entries} entries"
                )
            };
            findings.holds("receipt.arrival", claims.until >= on_sale_starts_at, why);
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
