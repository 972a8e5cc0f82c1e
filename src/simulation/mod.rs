//! A crowd of fans, a payment gateway that misbehaves on demand, an auditor.

pub mod auditor;
pub mod crowd;
pub mod sandbox_gateway;
