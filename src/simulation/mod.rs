//! A crowd of fans, a payment gateway that misbehaves on demand, an auditor, real servers to run against.

pub mod auditor;
pub mod crowd;
pub mod sandbox_gateway;
pub mod servers;
