//! The fair draw: all who joined before the opening are shuffled once, and everybody can check it.
//!
//! What the house decides (its seed) is bound by a commitment before anybody joins; who takes part is bound by a Merkle
//! root before the beacon's round is known; what nobody decides is the beacon. All byte encodings are fixed here:
//!
//! | value | bytes |
//! |---|---|
//! | commitment | SHA-256(seed, 32 bytes; the sale's id in UTF-8) |
//! | nonce of an arrival | HMAC-SHA-256(key: a secret of the sale that is never published; arrival number, 8 bytes big endian) |
//! | leaf of a fan | HMAC-SHA-256(key: her nonce; arrival number, 8 bytes big endian; keyed hash of her subject, 8 bytes): the 16 bytes stand in her queue token from byte 11 on |
//! | leaf of a void number | HMAC-SHA-256(key: its nonce; arrival number, 8 bytes big endian) |
//! | root | [`merkle`] over the leaves in order of arrival |
//! | draw seed | SHA-256(seed; beacon, 32 bytes; root; number of entries, 8 bytes big endian) |
//! | queue number | 1 + the place that [`Shuffle`] under the draw seed gives to index arrival - 1 |
//! | order | SHA-256 of all queue numbers in order of arrival, 4 bytes each, big endian |
//!
//! A number that was skipped is an entry without a person: it is drawn like the others, and passed when it is called.

mod beacon;
mod digest;
pub mod merkle;
mod order;
mod progress;
mod secrets;
mod shuffle;
mod verify;

pub(super) use self::progress::{Closed, Committed, Draw, Drawn, counted_from, deciding_round, planned_round};
pub use self::{
    beacon::{Beacon, BeaconAway, Chain, Round},
    digest::{Digest, NotADigest},
    order::Order,
    progress::DrawTerms,
    secrets::{Secrets, commitment, draw_seed},
    shuffle::Shuffle,
    verify::{Checked, ClaimedDraw, Fault, verify},
};

/// What the shuffle is called where it is published.
pub const ALGORITHM: &str = "swap-or-not-90-rounds-sha256";
