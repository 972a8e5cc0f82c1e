//! The numbering of a drawn sale, computed from the journal by the definition of the shuffle.

use serde_json::Value;

use crate::platform::signing::sha256;

/// The draw of a sale, as far as the journal has it.
#[derive(Default)]
pub(crate) struct Draw {
    entries: Option<u64>,
    root: Option<[u8; 32]>,
    shuffle_seed: Option<[u8; 32]>,
}

impl Draw {
    /// Applies an event of the journal. Of each kind the first counts.
    pub(crate) fn apply(&mut self, kind: &str, event: &Value) {
        match kind {
            "entries_closed" if self.entries.is_none() => {
                (self.entries, self.root) = (event["entries"].as_u64(), bytes(&event["root"]));
            }
            "drawn" if self.shuffle_seed.is_none() => {
                let parts = (
                    bytes(&event["seed"]),
                    bytes(&event["beacon"]),
                    self.root,
                    self.entries,
                );
                if let (Some(seed), Some(beacon), Some(root), Some(entries)) = parts {
                    self.shuffle_seed = Some(sha256(
                        &[&seed[..], &beacon, &root, &entries.to_be_bytes()].concat(),
                    ));
                }
            }
            _ => {}
        }
    }

    /// The queue number of an arrival number; the same number without a draw.
    pub(crate) fn queue_number(&self, arrival: u64) -> u64 {
        match (self.shuffle_seed, self.entries) {
            (Some(seed), Some(entries)) if (1..=entries).contains(&arrival) => {
                1 + shuffled(arrival - 1, entries, &seed)
            }
            _ => arrival,
        }
    }
}

fn bytes(text: &Value) -> Option<[u8; 32]> {
    let text = text.as_str().filter(|text| text.len() == 64 && text.is_ascii())?;
    let bytes: Option<Vec<u8>> = (0..32)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok())
        .collect();
    bytes?.try_into().ok()
}

/// `compute_shuffled_index` of the Ethereum consensus specification.
fn shuffled(mut index: u64, count: u64, seed: &[u8; 32]) -> u64 {
    for round in 0..90_u8 {
        let hash = sha256(&[&seed[..], &[round]].concat());
        let pivot = u64::from_le_bytes(*hash.first_chunk().expect("32 bytes hold 8")) % count;
        let flip = (pivot + count - index) % count;
        let position = index.max(flip);
        let block = u32::try_from(position / 256).unwrap_or(u32::MAX);
        let source = sha256(&[&seed[..], &[round], &block.to_le_bytes()].concat());
        let byte = source[usize::try_from(position % 256 / 8).unwrap_or(0)];
        if byte >> (position % 8) & 1 == 1 {
            index = flip;
        }
    }
    index
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::waiting_room::draw::{Digest, DrawNumbering, draw_seed};

    #[test]
    fn the_shuffle_matches_the_product() {
        let digest = |of: u8| Digest([of; 32]);
        let mut draw = Draw::default();
        assert_eq!(draw.queue_number(7), 7);
        draw.apply("entries_closed", &json!({ "entries": 600, "root": digest(3) }));
        draw.apply("entries_closed", &json!({ "entries": 2, "root": digest(9) }));
        draw.apply("drawn", &json!({ "seed": digest(1), "beacon": digest(2) }));
        let order = DrawNumbering::drawn(&draw_seed(&digest(1), &digest(2), &digest(3), 600), 600);
        assert!(
            (1..=601_u32)
                .all(|arrival| draw.queue_number(arrival.into()) == u64::from(order.queue_number(arrival)))
        );
    }
}
