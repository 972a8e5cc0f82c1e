//! The fair draw: all who joined before the sale opens are shuffled once, and anyone can verify it.
//!
//! Three parties contribute, each bound before the others are known. The service's seed is bound by a
//! commitment before the first visitor joins. The entries are bound by a Merkle root before the beacon's
//! round is known. The beacon's value is chosen by neither. All byte encodings are fixed here:
//!
//! - commitment: SHA-256(seed, 32 bytes; the sale's id in UTF-8)
//! - nonce of an arrival: HMAC-SHA-256(key: a secret of the sale that is never published; arrival number, 8
//!   bytes big endian)
//! - leaf of a visitor: HMAC-SHA-256(key: their nonce; arrival number, 8 bytes big endian; keyed hash of the
//!   subject, 8 bytes): the 16 bytes in the queue token from byte 11 on
//! - leaf of a void number: HMAC-SHA-256(key: its nonce; arrival number, 8 bytes big endian)
//! - root: [`merkle`] over the leaves in order of arrival
//! - draw seed: SHA-256(seed; beacon, 32 bytes; root; number of entries, 8 bytes big endian)
//! - queue number: 1 + the position that [`Shuffle`] under the draw seed gives to index arrival - 1
//! - order: SHA-256 of all queue numbers in order of arrival, 4 bytes each, big endian
//!
//! A number that was skipped is an entry without a person: it is drawn like the others, and skipped when it
//! is called.
//!
//! # Who could cheat, and why it fails
//!
//! - The service knows its seed from the first day on, but has published its commitment by then. A journal
//!   accepts only the first commitment, and a result with another seed has no effect; an observer who kept
//!   the commitment detects it.
//! - The service knows who has joined, and could add or leave out entries until the order suits it. But the
//!   order also depends on a round that is signed at least 30 s after number and root of the entries are
//!   public. A visitor with a [receipt](DrawReceipt) can prove that they must be among them.
//! - The service could call a round that it does not like unreachable and take the next. So the deciding
//!   round is fixed when the entries are closed, and the sale waits for its value however long that takes.
//!   Rounds do not go away: any server of the network returns them forever, and the configuration says which
//!   one is asked. A later round than the planned one decides only where the entries were not public in time
//!   for it, and then its value is not known yet either.
//! - The beacon's servers could return another value: the round must be signed under the chain's key, which
//!   was published with the commitment. Its network does not know the seed, so it cannot choose an order. Nor
//!   can a visitor, whose arrival number is one of all that are shuffled.
//! - Service and network together could. That risk remains.

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
    beacon::{Beacon, BeaconChain, BeaconRound, BeaconUnavailable},
    digest::{Digest, InvalidDigest},
    numbering::DrawNumbering,
    progress::DrawTerms,
    receipt::{DrawReceipt, GROUP_TYP, GroupClaims, GroupReceipt, verify_receipt},
    secrets::{Secrets, commitment, draw_seed},
    shuffle::{ALGORITHM, Shuffle},
    verify::{Checked, ClaimedDraw, Fault, Findings, verify},
};
