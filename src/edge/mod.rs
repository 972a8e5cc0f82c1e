//! The public listener.

pub mod pages;
