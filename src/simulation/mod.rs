//! A crowd of fans, a payment gateway that misbehaves on demand, a beacon that has no secret, an auditor, real servers to
//! run against.

pub mod servers;
