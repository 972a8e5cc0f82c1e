//! Seating plans: the pretix file format, the compiled plan, and a generator of venues.

mod compile;
pub(crate) mod document;
mod errors;
mod generate;
mod geometry;
mod seating_plan;
mod unique_json;
mod validate_places;
mod validate_pretix;

pub use self::{
    document::Attribute,
    errors::{PlanError, PlanErrors},
    generate::{VenueKind, generate},
    seating_plan::{Plan, SeatLabel},
};
