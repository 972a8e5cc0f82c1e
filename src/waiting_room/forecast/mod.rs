//! Forecast: how long the wait will be, and for which price zones seats will be left.
//!
//! Pure models that are stepped once a second. Each file holds one model; [`wait_model`] combines them into
//! the published wait table, and [`scoring`] compares what was published with what happened.

pub(crate) mod call_curve;
pub(crate) mod calls_per_entry;
pub(crate) mod interval_calibration;
pub(crate) mod late_arrivals;
pub(crate) mod limit_use;
pub(crate) mod observation;
pub(crate) mod projection;
pub(crate) mod scoring;
pub(crate) mod seats_per_visit;
pub(crate) mod stock_reach;
pub(crate) mod visit_length;
pub(crate) mod wait_model;
pub(crate) mod wait_table;
pub(crate) mod zone_availability;
