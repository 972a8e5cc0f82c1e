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
//!
//! # Who could cheat, and why she cannot
//!
//! - The house knows its seed from the first day on, and has published its commitment by then: a journal takes the first
//!   one only, a record with another seed decides nothing, and whoever holds the commitment finds it out.
//! - The house knows who has come, and could add or leave out entries until the order pleases it: but the order also depends
//!   on a round that is signed at least 30 s after number and root of the entries are public. Whoever has a [receipt](DrawReceipt)
//!   can prove that she must be among them.
//! - The house could call a round that it does not like unreachable and take the next: so the round that decides is fixed
//!   when the entries are closed, and the sale waits for its value however long that takes. Rounds do not go away: any of
//!   the network's servers gives them for ever, and which one is asked may be changed in the configuration. A later round than
//!   the planned one decides only where the entries were not public in time for it, and then none is known yet either.
//! - The beacon's servers could answer with something else: the round must be signed under the chain's key, which was
//!   published with the commitment. Its network does not know the seed, so it cannot choose an order; nor can a fan, whose
//!   arrival number is one of all that are shuffled.
//! - House and network together could. That is what remains.

pub(crate) mod beacon;
pub(crate) mod coordinator;
pub(crate) mod digest;
pub mod merkle;
pub(crate) mod numbering;
pub(crate) mod progress;
pub(crate) mod publication;
pub(crate) mod receipt;
pub(crate) mod receipts;
pub(crate) mod secrets;
pub(crate) mod shuffle;
pub(crate) mod verify;

pub use self::{
    beacon::{Beacon, BeaconUnavailable, BeaconChain, BeaconRound},
    digest::{Digest, InvalidDigest},
    numbering::DrawNumbering,
    progress::DrawTerms,
    receipt::{DrawReceipt, GROUP_TYP, GroupClaims, GroupReceipt, verify_receipt},
    secrets::{Secrets, commitment, draw_seed},
    shuffle::{ALGORITHM, Shuffle},
    verify::{Checked, ClaimedDraw, Fault, Findings, verify},
};
