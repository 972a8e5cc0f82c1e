//! [`Plan`], a compiled seating plan: names, zones, neighbors, and which seats are better.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use crate::seating::{plan::document::Attribute, seat::SeatIx};

/// An immutable seating plan. Seats are numbered in the order in which the file lists them.
#[derive(Debug)]
pub struct Plan {
    pub(super) name: String,
    pub(super) hash: String,
    pub(super) json: Bytes,
    pub(super) json_gzip: Bytes,
    pub(super) seats: Vec<PlanSeat>,
    pub(super) rows: Vec<PlanRow>,
    pub(super) zones: Vec<String>,
    pub(super) sections: Vec<String>,
    pub(super) by_guid: HashMap<Arc<str>, SeatIx>,
    pub(super) runs: Vec<Run>,
    /// The seats of all runs, one run after the other.
    pub(super) run_seats: Vec<SeatIx>,
    /// Runs by zone, best first.
    pub(super) runs_by_zone: Vec<Vec<u32>>,
    /// All runs, best first.
    pub(super) runs_by_score: Vec<u32>,
    /// Usual distance between neighbors, in pixels.
    pub(super) spacing: f32,
}

#[derive(Debug)]
pub(super) struct PlanSeat {
    pub(super) guid: Arc<str>,
    /// The guid as a JSON string, with its quotation marks.
    pub(super) guid_json: Box<str>,
    pub(super) number: Box<str>,
    pub(super) row: u32,
    pub(super) zone: u32,
    /// One bit an [`Attribute`], at its discriminant.
    pub(super) attributes: u8,
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) score: f32,
}

#[derive(Debug)]
pub(super) struct PlanRow {
    pub(super) label: String,
    pub(super) section: u32,
}

/// Seats of one row side by side without an aisle between them, in their order.
#[derive(Debug)]
pub(crate) struct Run {
    /// First seat in `Plan::run_seats`.
    pub(super) start: u32,
    /// End of the seats in `Plan::run_seats`, exclusive.
    pub(super) end: u32,
    pub(crate) section: u32,
    /// Score of the best seat.
    pub(crate) score_min: f32,
    /// Center of a circle around all seats.
    pub(super) center: (f32, f32),
    pub(super) radius: f32,
}

/// What is printed on a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatLabel<'p> {
    /// The section's name.
    pub section: &'p str,
    /// The row's label, or its number if the file gives no label.
    pub row: &'p str,
    /// The seat's number within the row.
    pub number: &'p str,
}

impl Plan {
    /// The plan's name from the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first 16 hexadecimal digits of the SHA-256 of the plan as it is served.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The plan as pretix JSON, unknown keys left out.
    pub const fn json(&self) -> &Bytes {
        &self.json
    }

    /// [`Self::json`], compressed with gzip.
    pub const fn json_gzip(&self) -> &Bytes {
        &self.json_gzip
    }

    /// Number of seats, at least 1.
    pub fn seat_count(&self) -> usize {
        self.seats.len()
    }

    /// All seats, in their order.
    pub fn seats(&self) -> impl Iterator<Item = SeatIx> + use<> {
        (0..u32::try_from(self.seats.len()).unwrap_or(u32::MAX)).map(SeatIx)
    }

    /// The seat with this `seat_guid`.
    pub fn index_of(&self, guid: &str) -> Option<SeatIx> {
        self.by_guid.get(guid).copied()
    }

    /// The `seat_guid`; empty for a seat that is not in this plan, as are the other names below.
    pub fn guid(&self, seat: SeatIx) -> &str {
        self.seats.get(seat.index()).map_or("", |seat| &seat.guid)
    }

    /// The `seat_guid` as a JSON string.
    pub(crate) fn guid_json(&self, seat: SeatIx) -> &str {
        &self.seats[seat.index()].guid_json
    }

    /// The price zone: the pretix category's name.
    pub fn zone_of(&self, seat: SeatIx) -> &str {
        self.seats
            .get(seat.index())
            .and_then(|seat| self.zones.get(seat.zone as usize))
            .map_or("", String::as_str)
    }

    /// The name of the seat's section.
    pub fn section_of(&self, seat: SeatIx) -> &str {
        self.label(seat).section
    }

    /// What is printed on the ticket of the seat.
    pub fn label(&self, seat: SeatIx) -> SeatLabel<'_> {
        let Some(seat) = self.seats.get(seat.index()) else {
            return SeatLabel {
                section: "",
                row: "",
                number: "",
            };
        };
        let row = &self.rows[seat.row as usize];
        SeatLabel {
            section: &self.sections[row.section as usize],
            row: &row.label,
            number: &seat.number,
        }
    }

    /// Whether the plan gives the seat this attribute.
    pub fn has_attribute(&self, seat: SeatIx, attribute: Attribute) -> bool {
        self.seats
            .get(seat.index())
            .is_some_and(|seat| seat.attributes & bit(attribute) != 0)
    }

    /// Price zones in the file's order.
    pub fn zones(&self) -> &[String] {
        &self.zones
    }

    /// Sections in the file's order, each name once.
    pub fn sections(&self) -> &[String] {
        &self.sections
    }

    pub(crate) fn zone_index(&self, name: &str) -> Option<u32> {
        position(&self.zones, name)
    }

    pub(crate) fn section_index(&self, name: &str) -> Option<u32> {
        position(&self.sections, name)
    }

    pub(crate) fn zone_index_of(&self, seat: SeatIx) -> u32 {
        self.seats[seat.index()].zone
    }

    pub(crate) fn section_index_of(&self, seat: SeatIx) -> u32 {
        self.rows[self.seats[seat.index()].row as usize].section
    }

    /// Weighted distance of the seat from the stage, in pixels: less is better.
    pub(crate) fn score(&self, seat: SeatIx) -> f32 {
        self.seats[seat.index()].score
    }

    /// The seat's position on the plan, in pixels.
    pub(crate) fn position_of(&self, seat: SeatIx) -> (f32, f32) {
        let seat = &self.seats[seat.index()];
        (seat.x, seat.y)
    }

    /// The usual distance between neighbors, in pixels.
    pub(crate) fn spacing(&self) -> f32 {
        self.spacing
    }

    /// A run by its index.
    pub(crate) fn run(&self, run: u32) -> &Run {
        &self.runs[run as usize]
    }

    /// The seats of a run, in their order.
    pub(crate) fn seats_of(&self, run: u32) -> &[SeatIx] {
        let run = self.run(run);
        &self.run_seats[run.start as usize..run.end as usize]
    }

    /// The runs that have a seat of the zone (of any zone when `None`), best first.
    pub(crate) fn runs_of(&self, zone: Option<u32>) -> &[u32] {
        match zone {
            None => &self.runs_by_score,
            Some(zone) => self.runs_by_zone.get(zone as usize).map_or(&[], Vec::as_slice),
        }
    }
}

impl Run {
    /// A lower bound of the distance from `to` to any seat of the run.
    pub(crate) fn distance_min(&self, to: (f32, f32)) -> f32 {
        ((self.center.0 - to.0).hypot(self.center.1 - to.1) - self.radius).max(0.0)
    }
}

/// The attribute's bit in `PlanSeat::attributes`.
pub(super) fn bit(attribute: Attribute) -> u8 {
    1 << attribute as u8
}

fn position(names: &[String], name: &str) -> Option<u32> {
    let at = names.iter().position(|known| known == name)?;
    u32::try_from(at).ok()
}
