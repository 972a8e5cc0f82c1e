//! Proof of work for joins without sign-in: a visitor's browser computes for a moment once, a robot that
//! joins a thousand times computes a thousand times.
//!
//! A challenge has ALTCHA's form: `challenge` is the SHA-256 of `salt` and a secret number of at most
//! `maxnumber`; the client finds the number by trial. Issued challenges are not stored: `signature` proves
//! that a challenge was issued here, and the salt carries its sale, expiry and difficulty. Verifying a
//! solution costs one MAC and one hash.
//!
//! ```text
//! 0123456789abcdef01234567?expires=1795464000&sale=hero-seoul-2027&bits=16&key=1&
//! ```
//! The last `&` separates salt and number: without it digits could move from the number into the salt, and a
//! solved challenge would get a later expiry.
//!
//! The difficulty is a power of two between the configured minimum and maximum. It doubles with each doubling
//! of the joins beyond what is normal, with each halving of this node's free request slots, and with each
//! doubling of the joins from the same address (an IPv6 /64 counts as one) beyond what is normal for one.
//!
//! A solution counts once: each node remembers the challenges that were used until they expire. So one
//! solution may buy one queue entry at each node: with four nodes a robot pays at least a quarter of the
//! price.

mod challenge;
mod service;
mod sliding_count;
mod used;

pub use self::{
    challenge::{BITS_MAX, Challenge, ProofRejection, Solution},
    service::{Config, ProofOfWork},
    used::UsedChallenge,
};
