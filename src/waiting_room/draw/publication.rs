//! What everybody may know of a draw, and from when on.

use serde::Serialize;

use crate::waiting_room::draw::coordinator::BEACON_LATE;
use crate::{
    kernel::{SaleId, Timestamp},
    waiting_room::{
        WaitingRoom,
        draw::{self, ALGORITHM, Chain, Digest, Draw},
    },
};

/// What the public may know of a draw, `None` until it may: the body of `GET /v1/sales/{sale}/draw`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublishedDraw {
    pub sale: SaleId,
    pub algorithm: &'static str,
    pub commitment: Digest,
    pub chain: Chain,
    /// Whoever came before it is in the draw.
    pub opens_at: Timestamp,
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
    /// The round that is to decide, and when its value becomes known.
    pub round: u64,
    pub round_at: Timestamp,
    /// It should be known, and is not.
    pub beacon_is_late: bool,
}

/// What the board says of a draw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DrawOnBoard {
    commitment: Digest,
    round: u64,
    pub(crate) round_at: Timestamp,
    entries: Option<u32>,
    root: Option<Digest>,
    drawn: bool,
    /// The round is over and its value cannot be had: the sale waits for it. It follows from what all nodes know, whichever
    /// of them has asked.
    beacon_away: bool,
}

#[cfg(test)]
impl DrawOnBoard {
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
            beacon_away: false,
        }
    }
}

impl WaitingRoom {
    /// What is published of the draw; `None` in a sale without one.
    pub fn published_draw(&self) -> Option<PublishedDraw> {
        let Draw {
            committed,
            closed,
            drawn,
            order,
        } = self.store.draw();
        let committed = committed?;
        let chain = committed.chain.clone();
        let the_closed = closed.as_ref().map(|(_, closed)| closed);
        let the_drawn = drawn.as_ref().map(|(_, drawn)| drawn);
        let draw_seed = the_closed
            .zip(the_drawn)
            .map(|(c, d)| draw::draw_seed(&d.seed, &d.beacon, &c.root, c.entries));
        Some(PublishedDraw {
            sale: self.config.sale.clone(),
            algorithm: ALGORITHM,
            commitment: committed.commitment,
            opens_at: self.config.opens_at,
            planned_round: committed.planned_round,
            planned_round_at: chain.round_at(committed.planned_round),
            entries: the_closed.map(|it| it.entries),
            root: the_closed.map(|it| it.root),
            closed_at: closed.as_ref().map(|(at, _)| *at),
            round: the_closed.map(|it| it.round),
            round_at: the_closed.map(|it| chain.round_at(it.round)),
            beacon: the_drawn.map(|it| it.beacon),
            signature: the_drawn.map(|it| it.signature.clone()),
            seed: the_drawn.map(|it| it.seed),
            draw_seed,
            order,
            drawn_at: drawn.as_ref().map(|(at, _)| *at),
            chain,
        })
    }

    pub(crate) fn draw_on_board(&self) -> Option<DrawOnBoard> {
        let Draw {
            committed,
            closed,
            drawn,
            ..
        } = self.store.draw();
        let committed = committed?;
        let closed = closed.map(|(_, closed)| closed);
        let round = closed
            .as_ref()
            .map_or(committed.planned_round, |closed| closed.round);
        let round_at = committed.chain.round_at(round);
        Some(DrawOnBoard {
            commitment: committed.commitment,
            round,
            round_at,
            entries: closed.as_ref().map(|it| it.entries),
            root: closed.as_ref().map(|it| it.root),
            drawn: drawn.is_some(),
            beacon_away: closed.is_some()
                && drawn.is_none()
                && self.clock.now() >= round_at.plus(BEACON_LATE),
        })
    }

    /// `None` in a sale without a draw.
    pub fn draw_progress(&self) -> Option<DrawProgress> {
        let DrawOnBoard {
            round,
            round_at,
            entries,
            drawn,
            beacon_away,
            ..
        } = self.draw_on_board()?;
        let step = u8::from(entries.is_some()) + u8::from(drawn);
        Some(DrawProgress {
            step,
            entries: entries.unwrap_or(0),
            round,
            round_at,
            beacon_is_late: beacon_away,
        })
    }
}
