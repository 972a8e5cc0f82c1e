//! The binary as it is used: whole runs with their audit, and wrong arguments or targets.

#![expect(clippy::unwrap_used, reason = "in a test a broken expectation is the result")]

mod errors;
mod parts;
mod runs;
mod support;
