//! What runs the house: configuration, logs, metrics, health. Named by nobody but [`crate::app`].

pub mod config;
pub mod listener;
pub mod plans;
pub mod reports;
pub mod telemetry;
pub mod tickets;
