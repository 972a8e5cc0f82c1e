//! Operations: configuration, logs, metrics, health, admin API, and the parts of operators' commands. Only
//! [`crate::app`] and the command line name it.
//!
//! # Partial failures
//!
//! An unavailable dependency fails only what needs it. Every refusal is a 503 `application/problem+json` with
//! a stable type and a jittered `Retry-After`; retrying is always safe.
//!
//! - **Redis is unavailable.** Still served: the last queue status, positions, the seats' map, passes where
//!   no store is needed; orders in progress are paid and booked in the ledger. Refused with
//!   `/problems/store-unavailable`: joins, admissions, renewals, holds and new orders.
//! - **Redis lost its data, or is another dataset.** Still served: the same. Nodes rebuild the store from
//!   journal and ledger under a new epoch; until then the same requests are refused with
//!   `/problems/store-recovering`.
//! - **PostgreSQL is unavailable.** Still served: status, positions, renewals, the seats' map; holds last and
//!   new ones are taken. Refused: admissions, and joins with `durability = "committed"`, with
//!   `/problems/journal-unavailable`; orders, new or queried, with `/problems/ledger-unavailable`. Orders in
//!   progress wait for it.
//! - **The payment gateway is unavailable.** Nothing is refused. An order is answered 202; its payment is
//!   queried by its idempotency key until `checkout.payment_timeout_s` has passed, or, while its buyer is at
//!   the gateway's page, `checkout.payment_page_timeout_s`. Then it is voided; its seats stay taken until the
//!   gateway confirms that.
//! - **The shop's database is unavailable.** Still served: sessions, recently seen customers, signed
//!   hand-offs. Refused with `/problems/shop-unreachable`: sign-in of other customers.
//! - **The waiting room's processes are down.** Still served: admitted visitors until their pass expires,
//!   because the box office verifies passes by their signature; the status from the proxy's cache. The proxy
//!   refuses joins and admissions.
//! - **The box office's processes are down.** Still served: queue and admission, by the last reported stock.
//!   The proxy refuses seats and orders.
//! - **One of several nodes is down.** Everything is served: the proxy uses the next one.
//! - **Overload.** Requests in flight are completed. Then the lowest priority is shed first, with
//!   `/problems/overloaded`: pages and plans, then queue and admission, then admitted visitors; last
//!   webhooks, confirmations and the status.
//!
//! Each failure shows in the metric `stagedoor_http_problems_total` by type, and in the log once when it
//! begins and once when it ends.

pub mod admin;
pub mod config;
pub mod draws;
pub mod journal_cli;
pub mod plans;
pub mod reports;
pub mod telemetry;
pub mod tickets;
