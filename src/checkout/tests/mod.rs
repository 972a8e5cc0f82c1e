//! Checkout against a fake seats' engine that forgets and a fake gateway that lies, judged by a checker of its own.

mod behaviour;
mod seat_store_epoch;
mod generated;
mod random;
mod whole;
mod world;
