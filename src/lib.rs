//! `stagedoor`: a waiting room that can be believed, and a box office that cannot sell a seat twice.
//!
//! Read the modules in this order. Each paragraph says what a part does and what it deliberately does *not* know.
//!
//! | module | does | does not know |
//! |---|---|---|
//! | [`kernel`] | the words that mean the same everywhere: ids, time, randomness, money | I/O, async |
//! | [`platform`] | plumbing: SQL databases, group commit, signatures, keys, shutdown, an HTTP client | any word of ticketing |
//! | [`waiting_room`] | who comes in, and when: queue, admission, estimate, board, pass | what is sold behind the door |
//! | [`seating`] | which seats there are, and whose they are now: plans, holds, availability | money, queues |
//! | [`checkout`] | turns a hold into tickets, or into nothing: saga, ledger, payment port | the waiting room, HTTP |
//! | [`shop`] | the anti-corruption layer before the company's existing shop: customers, passwords, hand-off | what the customers came for |
//! | [`simulate`] | whole sales in virtual time with the real admission policy and forecasts | I/O |
//! | [`audit`] | an independent auditor of journal, ledger and payment statements | the code it judges |
//! | [`demo`] | the simulated crowd and its HTTP client, the sandbox payment gateway, the sandbox beacon | the inside of what it exercises |
//! | [`edge`] | the public listener: every URL, every layer, proofs, pages | stores, SQL |
//! | [`ops`] | configuration, metrics, health: what runs the house | business decisions |
//! | [`app`] | the composition root: builds, serves, drains | decisions of any kind |
//!
//! The waiting room and the seats never meet in code: the bridge is the signed admission pass, which
//! `edge/extract.rs` turns into the proof `Admitted`. Who may name whom is kept by `tests/it/architecture.rs`.

pub mod app;
pub mod audit;
pub mod checkout;
pub mod demo;
pub mod edge;
pub mod kernel;
pub mod ops;
pub mod platform;
pub mod seating;
pub mod shop;
pub mod simulate;
pub mod waiting_room;
