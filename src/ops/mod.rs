//! What runs the house: configuration, logs, metrics, health. Named by nobody but [`crate::app`].
//!
//! # When something is away
//!
//! A part that is away takes with it what needs it, and nothing else. Every refusal is a 503 `application/problem+json`
//! with a stable type and a `Retry-After` that differs from caller to caller; asking again is always safe.
//!
//! | away | goes on | is refused, and how |
//! |---|---|---|
//! | Redis | the board (its last state), places, the seats' map; passes open what needs no engine; orders under way are paid and booked in the ledger | joins, entries, renewals, holds and new orders: `/problems/engine-away` |
//! | Redis has lost its memory, or is another one | the same; nodes give it back what journal and ledger know, under a new epoch | the same, for the seconds it takes: `/problems/engine-rebuilding` |
//! | PostgreSQL | the board, places, renewals, the seats' map; holds live on and new ones are taken | entries, and joins with `durability = "journaled"`: `/problems/journal-away`; orders, new or looked up: `/problems/ledger-away`; orders under way wait for it |
//! | the payment gateway | everything up to paying; an order answers 202 and its payment is asked after, by key, until `checkout.authorise_within_s` has passed, then voided | nothing |
//! | the shop's database | whoever is signed in, whoever was seen before, signed hand-offs | sign-in of others: `/problems/shop-unreachable` |
//! | the waiting room's processes | whoever is inside, until her pass runs out: the box office reads passes by their signature; the board, from the balancer's cache | the queue and the door: `/problems/temporarily-unavailable`, by the balancer |
//! | the box office's processes | the queue and the door, by the stock that was reported last | seats and orders: the same |
//! | one node of several | everything: the balancer asks the next one | nothing |
//! | too much at once | what is being answered; then, as far as it goes: callbacks, confirmations and the board; visitors inside; the queue and the door; pages and plans | the rest, the last first: `/problems/overloaded` |
//!
//! What is away is seen at `/metrics` (`edge_problems_total` by type) and in the log, once when it goes and once when it
//! comes back.

pub mod admin;
pub mod config;
pub mod draws;
pub mod journal_cli;
pub mod plans;
pub mod reports;
pub mod telemetry;
pub mod tickets;
