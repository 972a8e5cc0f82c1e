//! `stagedoor`: a virtual waiting room and a box office for sales that millions of visitors attend.
//!
//! Start with the [`guide`]: concepts, architecture, operations. Then read the modules in this order. Each
//! line says what a part does and what it deliberately does *not* know.
//!
//! | module | does | does not know |
//! |---|---|---|
//! | [`guide`] | explains the ideas, the structure and the operation | - |
//! | [`kernel`] | words that mean the same everywhere: ids, clock, randomness, money | I/O, async |
//! | [`platform`] | plumbing: Redis, SQL, group commit, signatures, keys, shutdown | any word of ticketing |
//! | [`waiting_room`] | who comes in, and when: queue, draw, admission, forecast, status | what is sold |
//! | [`seating`] | which seats there are, and whose they are now | money, queues |
//! | [`checkout`] | turns a hold into tickets, or into nothing; sends events to the shop | the waiting room |
//! | [`shop`] | the anti-corruption layer before the existing shop | what customers buy |
//! | [`edge`] | the public listener: routes, overload, authentication, pages | stores, SQL |
//! | [`ops`] | configuration, admin API, telemetry, health, reports | business decisions |
//! | [`simulate`] | whole sales in virtual time with the real policy and forecasts | I/O |
//! | [`audit`] | the independent auditor of journal, ledger and statement | the code it judges |
//! | [`demo`] | the simulated crowd, its client, the sandbox gateway and beacon | what it exercises |
//! | [`app`] | the composition root: builds, serves, drains | decisions of any kind |
//! | [`cli`] | the command line, one file a command | what a command does |
//!
//! The waiting room and the seats never meet in code: the bridge is the signed admission pass, which
//! `edge/auth` turns into the proof `Admitted`. `tests/it/architecture` keeps who may name whom.

pub mod app;
pub mod audit;
pub mod checkout;
pub mod cli;
pub mod demo;
pub mod edge;
pub mod guide;
pub mod kernel;
pub mod ops;
pub mod platform;
pub mod seating;
pub mod shop;
pub mod simulate;
pub mod waiting_room;
