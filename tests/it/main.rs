//! End-to-end tests of the real binary over HTTP, including crashes and restarts.

#![expect(clippy::unwrap_used, reason = "in a test a broken expectation is the result")]
#![expect(
    unreachable_pub,
    reason = "a test binary has no outside; `pub` marks what the files share"
)]

mod architecture;
mod at_the_bank;
mod attacks;
mod backpressure;
mod bad_input;
mod beacon;
mod clocks;
mod closed_account;
mod created;
mod demo;
mod descriptors;
mod doors;
mod draw;
mod entry;
mod environment;
mod error_pages;
mod evidence;
mod fair_shares;
mod fan;
mod faults;
mod faults_disk;
mod faults_nodes;
mod faults_postgres;
mod faults_redis;
mod forward_auth;
mod free_seats;
mod handoff_keys;
mod journeys;
mod load_scenario;
mod misconfigured_backends;
mod money_calls;
mod nodes;
mod oidc;
mod operator_cancellations;
mod operators;
mod own_holds;
mod process;
mod roles;
mod rolling;
mod sale;
mod shop_events;
mod shop_receiver;
mod shop_sign_in;
mod two_nodes;
mod under_path;
mod wheelchair_seats;
mod world;
