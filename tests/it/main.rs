//! The house as its visitors find it: the real binary, spoken to over HTTP, killed and started again.

#![expect(clippy::unwrap_used, reason = "in a test a broken expectation is the result")]
#![expect(
    unreachable_pub,
    reason = "a test binary has no outside; `pub` marks what the files share"
)]

mod architecture;
mod attacks;
mod misconfigured_backends;
mod bad_input;
mod beacon;
mod backpressure;
mod demo;
mod draw;
mod entry;
mod evidence;
mod fan;
mod faults;
mod faults_nodes;
mod faults_postgres;
mod faults_redis;
mod environment;
mod journeys;
mod nodes;
mod operators;
mod roles;
mod rolling;
mod load_scenario;
mod sale;
mod world;
