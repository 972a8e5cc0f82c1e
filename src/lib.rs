//! `stagedoor`: a virtual waiting room and a box office for sales that millions of visitors attend at once.
//!
//! Start with the [`guide`]: concepts, architecture, operations. Then read the modules in this order. Each line says
//! what a part does and what it deliberately does *not* know.
//!
//! | module | does | does not know |
//! |---|---|---|
//! | [`guide`] | explains the ideas, the structure and the operation | - |
//! | [`kernel`] | the words that mean the same everywhere: ids, clock, randomness, money, localized text | I/O, async |
//! | [`platform`] | plumbing: Redis, SQL, group commit, signatures, keys, shutdown, an HTTP client | any word of ticketing |
//! | [`waiting_room`] | who comes in, and when: queue, draw, admission, forecast, status, pass | what is sold |
//! | [`seating`] | which seats there are, and whose they are now: plans, holds, availability | money, queues |
//! | [`checkout`] | turns a hold into tickets, or into nothing: saga, ledger, payment port | the waiting room, HTTP |
//! | [`shop`] | the anti-corruption layer before the existing shop: customers, passwords, handoff | what customers buy |
//! | [`edge`] | the public listener: routes, overload, authentication, errors, handlers, pages | stores, SQL |
//! | [`ops`] | configuration, admin API, telemetry, health, reports | business decisions |
//! | [`simulate`] | whole sales in virtual time with the real admission policy and forecasts | I/O |
//! | [`audit`] | the independent auditor of journal, ledger and payment statement | the code it judges |
//! | [`demo`] | the simulated crowd, its HTTP client, the sandbox payment gateway and beacon | the inside of what it exercises |
//! | [`app`] | the composition root: builds, serves, drains | decisions of any kind |
//!
//! The waiting room and the seats never meet in code: the bridge is the signed admission pass, which `edge/auth`
//! turns into the proof `Admitted`. `tests/it/architecture` keeps who may name whom.

pub mod app;
pub mod audit;
pub mod checkout;
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
