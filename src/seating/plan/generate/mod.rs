//! Generated venues for demos, rehearsals and tests: a theatre, an arena, a stadium.

mod layout;
mod render;
#[cfg(test)]
mod tests;
mod venue;

pub use self::venue::{VenueKind, generate};
