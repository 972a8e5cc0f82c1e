//! What is published of a draw, and when.

use std::time::Duration;

use serde::Serialize;

use crate::{
    kernel::{SaleId, Timestamp},
    waiting_room::{
        draw::{beacon::BeaconChain, digest::Digest, progress::DrawState, secrets, shuffle::ALGORITHM},
        types::Config,
    },
};

/// So long after its round a beacon without a known value counts as late.
const BEACON_LATE: Duration = Duration::from_secs(3);

/// What the public may know of a draw, `None` until it may: the body of `GET /v1/sales/{sale}/draw`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PublishedDraw {
    /// The sale whose queue is drawn.
    pub sale: SaleId,
    /// Name of the shuffle that turns `draw_seed` into queue numbers.
    pub algorithm: &'static str,
    /// SHA-256 of `seed` and the sale's id. It binds the service to its seed in advance.
    pub commitment: Digest,
    /// The beacon chain whose round decides.
    pub chain: BeaconChain,
    /// Entries that joined before it are in the draw.
    pub on_sale_starts_at: Timestamp,
    /// The round named in advance. A later one decides when the entries are closed too late for it.
    pub planned_round: u64,
    /// When the value of `planned_round` is published.
    pub planned_round_at: Timestamp,
    /// How many are in the draw: arrival numbers from 1 on, void ones among them.
    pub entries: Option<u32>,
    /// Merkle root over the leaves of all entries, in order of arrival.
    pub root: Option<Digest>,
    /// When `entries` and `root` were written to the journal.
    pub closed_at: Option<Timestamp>,
    /// The round that decides.
    pub round: Option<u64>,
    /// When the value of `round` is published.
    pub round_at: Option<Timestamp>,
    /// Value of `round`: the SHA-256 of `signature`.
    pub beacon: Option<Digest>,
    /// The chain's signature of `round`, in hexadecimal digits.
    pub signature: Option<String>,
    /// The service's seed; it is secret until the draw is held.
    pub seed: Option<Digest>,
    /// SHA-256 of `seed`, `beacon`, `root` and `entries`: the seed of the shuffle.
    pub draw_seed: Option<Digest>,
    /// One hash for the whole order.
    pub order: Option<Digest>,
    /// When `beacon` and `seed` were written to the journal.
    pub drawn_at: Option<Timestamp>,
}

/// How far a draw has come, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DrawProgress {
    /// 0: promised, 1: its entries are closed, 2: held.
    pub step: u8,
    /// Entries in the draw; 0 until they are closed.
    pub entries: u32,
    /// The deciding round, and when its value is published.
    pub round: u64,
    /// When the value of `round` is published.
    pub round_at: Timestamp,
    /// The value is overdue.
    pub beacon_is_late: bool,
}

/// The draw's part of the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct DrawStatus {
    commitment: Digest,
    round: u64,
    pub(crate) round_at: Timestamp,
    entries: Option<u32>,
    root: Option<Digest>,
    drawn: bool,
    /// The round is over and its value cannot be had: the sale waits for it. It follows from what all nodes
    /// know, whichever of them has asked.
    beacon_is_late: bool,
}

#[cfg(test)]
impl DrawStatus {
    /// With the longest values.
    pub(crate) fn largest() -> Self {
        let (digest, at) = (Digest([0xff; 32]), Timestamp::from_secs(1_900_000_000));
        Self {
            commitment: digest,
            round: 4_000_000_000,
            round_at: at,
            entries: Some(u32::MAX),
            root: Some(digest),
            drawn: false,
            beacon_is_late: false,
        }
    }
}

/// What is published of the draw; `None` in a sale without one.
pub(crate) fn publish(config: &Config, draw: DrawState) -> Option<PublishedDraw> {
    let DrawState {
        committed,
        closed,
        drawn,
        order,
    } = draw;
    let committed = committed?;
    let chain = committed.chain.clone();
    let entries = closed.as_ref().map(|(_, closed)| closed);
    let decided = drawn.as_ref().map(|(_, drawn)| drawn);
    let draw_seed = entries
        .zip(decided)
        .map(|(closed, drawn)| secrets::draw_seed(&drawn.seed, &drawn.beacon, &closed.root, closed.entries));
    Some(PublishedDraw {
        sale: config.sale.clone(),
        algorithm: ALGORITHM,
        commitment: committed.commitment,
        on_sale_starts_at: config.on_sale_starts_at,
        planned_round: committed.planned_round,
        planned_round_at: chain.round_at(committed.planned_round),
        entries: entries.map(|closed| closed.entries),
        root: entries.map(|closed| closed.root),
        closed_at: closed.as_ref().map(|(at, _)| *at),
        round: entries.map(|closed| closed.round),
        round_at: entries.map(|closed| chain.round_at(closed.round)),
        beacon: decided.map(|drawn| drawn.beacon),
        signature: decided.map(|drawn| drawn.signature.clone()),
        seed: decided.map(|drawn| drawn.seed),
        draw_seed,
        order,
        drawn_at: drawn.as_ref().map(|(at, _)| *at),
        chain,
    })
}

/// What the status says of the draw at `now`; `None` in a sale without one.
pub(crate) fn status_of(draw: &DrawState, now: Timestamp) -> Option<DrawStatus> {
    let committed = draw.committed.as_ref()?;
    let closed = draw.closed.as_ref().map(|(_, closed)| closed);
    let is_drawn = draw.drawn.is_some();
    let round = closed.map_or(committed.planned_round, |closed| closed.round);
    let round_at = committed.chain.round_at(round);
    Some(DrawStatus {
        commitment: committed.commitment,
        round,
        round_at,
        entries: closed.map(|closed| closed.entries),
        root: closed.map(|closed| closed.root),
        drawn: is_drawn,
        beacon_is_late: closed.is_some() && !is_drawn && now >= round_at.plus(BEACON_LATE),
    })
}

/// How far the draw has come at `now`; `None` in a sale without one.
pub(crate) fn progress(draw: &DrawState, now: Timestamp) -> Option<DrawProgress> {
    let status = status_of(draw, now)?;
    Some(DrawProgress {
        step: u8::from(status.entries.is_some()) + u8::from(status.drawn),
        entries: status.entries.unwrap_or(0),
        round: status.round,
        round_at: status.round_at,
        beacon_is_late: status.beacon_is_late,
    })
}
