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
    pub sale: SaleId,
    pub algorithm: &'static str,
    pub commitment: Digest,
    pub chain: BeaconChain,
    /// Entries that joined before it are in the draw.
    pub on_sale_starts_at: Timestamp,
    pub planned_round: u64,
    pub planned_round_at: Timestamp,
    /// How many are in the draw: arrival numbers from 1 on, void ones among them.
    pub entries: Option<u32>,
    pub root: Option<Digest>,
    pub closed_at: Option<Timestamp>,
    /// The round that decides.
    pub round: Option<u64>,
    pub round_at: Option<Timestamp>,
    pub beacon: Option<Digest>,
    pub signature: Option<String>,
    pub seed: Option<Digest>,
    pub draw_seed: Option<Digest>,
    /// One hash for the whole order.
    pub order: Option<Digest>,
    pub drawn_at: Option<Timestamp>,
}

/// How far a draw has come, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DrawProgress {
    /// 0: promised, 1: its entries are closed, 2: held.
    pub step: u8,
    pub entries: u32,
    /// The deciding round, and when its value is published.
    pub round: u64,
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
