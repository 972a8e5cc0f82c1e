//! Checkout against a seat store that loses data and a gateway that breaks its word, checked independently.

mod at_the_gateway;
mod crash_points;
mod end_to_end;
mod free_seats;
mod operator_cancellations;
mod random_schedules;
mod scenarios;
mod seat_store_recovery;
mod world;
