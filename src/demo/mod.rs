//! What the demo, load tests and integration tests run beside the service: a simulated crowd and its HTTP
//! client, a payment gateway that misbehaves on demand, and a randomness beacon without a secret.
//!
//! Nothing here knows the inside of the service: the crowd speaks the public HTTP contract only.

pub mod client;
pub mod crowd;
pub mod sandbox_beacon;
pub mod sandbox_gateway;
