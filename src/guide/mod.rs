//! What to read first: the ideas, the structure and the operation of `stagedoor`.

/// What a visitor goes through: queue, call, admission, visit, hold, order.
#[doc = include_str!("concepts.md")]
pub mod concepts {}

/// The folders, and the life of a join, a wait, an admission, a hold and an order.
#[doc = include_str!("architecture.md")]
pub mod architecture {}

/// Deploying, watching and steering a sale.
#[doc = include_str!("operations.md")]
pub mod operations {}

/// The shop's customers, and the passwords that it stores.
#[doc = include_str!("shop.md")]
pub mod shop {}

/// What the shop hears of orders and sales, and what its receiver does.
#[doc = include_str!("events.md")]
pub mod events {}

/// The random draw, and how to verify it.
#[doc = include_str!("fair_draw.md")]
pub mod fair_draw {}

/// The tamper-evident record of everything that happened to a queue.
#[doc = include_str!("journal.md")]
pub mod journal {}

/// Every term in one sentence.
#[doc = include_str!("glossary.md")]
pub mod glossary {}
