//! The kinds of venues, and their generator.

use crate::seating::plan::{
    generate::{
        layout::{ARENA, STADIUM, around_the_floor, theatre},
        render::document,
    },
    validate_pretix::SEATS_MAX,
};

const SEATS_MIN: u32 = 10;

/// The shape of a generated venue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VenueKind {
    /// Stalls and a balcony in curved rows before a stage.
    Theatre,
    /// Blocks on the floor and rings of numbered sections around it, the stage at one end.
    Arena,
    /// Blocks on the field and up to three rings; about a hundred sections at 66,000 seats.
    Stadium,
}

/// A plan as pretix JSON with exactly `seats` seats, clamped to 10..=100,000. The same arguments give the
/// same plan.
///
/// Price zones are VIP, R, S and A. Some seats are wheelchair spaces with a companion seat beside, and some
/// have a restricted view.
pub fn generate(kind: VenueKind, seats: u32) -> String {
    let seats = seats.clamp(SEATS_MIN, u32::try_from(SEATS_MAX).unwrap_or(u32::MAX)) as usize;
    let sections = match kind {
        VenueKind::Theatre => theatre(seats),
        VenueKind::Arena => around_the_floor(seats, &ARENA),
        VenueKind::Stadium => around_the_floor(seats, &STADIUM),
    };
    let name = match kind {
        VenueKind::Theatre => "Theatre",
        VenueKind::Arena => "Arena",
        VenueKind::Stadium => "Stadium",
    };
    serde_json::to_string(&document(&format!("{name}, {seats} seats"), &sections))
        .expect("a document of plain structs serializes")
}
