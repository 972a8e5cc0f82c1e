//! Hashes of requests and subjects: idempotency keys, and the seed that spreads competing customers.

use aws_lc_rs::digest;

use crate::{
    kernel::Subject,
    seating::{hold::HoldSpec, store::IdempotencyKey},
};

/// The store's key of a request. The order of named seats does not matter.
pub(super) fn idempotency_key(subject: &Subject, key: &str, spec: &HoldSpec) -> IdempotencyKey {
    let mut request = Vec::new();
    match spec {
        HoldSpec::Seats(seats) => {
            let mut sorted = seats.clone();
            sorted.sort_unstable();
            request.push(b's');
            request.extend(sorted.iter().flat_map(|seat| seat.0.to_le_bytes()));
        }
        HoldSpec::BestAvailable {
            quantity,
            zone,
            section,
            accessible,
        } => {
            request.extend([b'b', *quantity, *accessible]);
            for name in [zone, section] {
                request.push(u8::from(name.is_some()));
                request.extend(name.iter().flat_map(|name| name.bytes().chain([0])));
            }
        }
    }
    let key = [subject.as_str().as_bytes(), &[0], key.as_bytes()].concat();
    IdempotencyKey {
        key_hash: truncated_sha256(&key),
        request_hash: truncated_sha256(&request),
    }
}

/// A number that differs between subjects and stays the same for one.
pub(super) fn spread_seed(subject: &Subject) -> u64 {
    truncated_sha256(subject.as_str().as_bytes())
        .first_chunk()
        .map_or(0, |first| u64::from_le_bytes(*first))
}

fn truncated_sha256(bytes: &[u8]) -> [u8; 16] {
    let digest = digest::digest(&digest::SHA256, bytes);
    std::array::from_fn(|i| digest.as_ref()[i])
}
