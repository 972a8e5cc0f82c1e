//! The seats, as checkout uses them: the port, its implementation on the seating context, and the recovery of
//! seat stores that lost their data.

pub mod port;
pub(crate) mod recovery;
mod seat_mapping;
mod seating_adapter;
pub mod volatile;
