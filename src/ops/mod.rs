//! What runs the house.
pub mod config;
