//! What customers see of the seats: snapshots of all states, and a stream of changes.
//!
//! Each node keeps a replica of the store's states. Ten times a second the changes since the last frame
//! become one server-sent event, encoded once for all subscribers. A snapshot is encoded on demand and cached
//! until the next change, so that a snapshot at version `V` plus the frames after `V` always gives the
//! current states.

mod frames;
mod publisher;
mod replica;

pub(super) use self::publisher::{Availability, FRAME_INTERVAL};
pub use self::publisher::{EncodedSnapshot, SeatSubscription, ZoneStock};
