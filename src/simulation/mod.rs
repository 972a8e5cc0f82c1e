//! A crowd of fans, a payment gateway that misbehaves on demand, a beacon that has no secret, an auditor, real servers to
//! run against.

pub mod auditor;
pub mod crowd;
pub mod sandbox_beacon;
pub mod sandbox_gateway;
pub mod servers;
