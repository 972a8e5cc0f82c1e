//! Protection against overload and abuse: load shedding, rate limits, proof of work, and the box office's
//! health.

pub mod anonymous_seats;
pub mod client_ip;
pub mod client_slot;
pub mod health;
pub mod monitor;
pub mod proof_of_work;
pub mod rate_limit;
pub mod shed;
