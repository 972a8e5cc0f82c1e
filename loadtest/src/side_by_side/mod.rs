//! What a buyer compares: the service beside the usual way of building a waiting room and a seat lock.
//!
//! Eight rows are measured in one run on one machine. The usual way has a Redis of its own and is built with
//! care (see [`crate::baselines::usual_queue`]); both sides are driven by the same client. The HTTP rows
//! alternate the two sides as the baseline table does ([`crate::baseline_table`]); the other rows measure one
//! side after the other.
//!
//! | row | the service | the usual way |
//! |---|---|---|
//! | join | acknowledged at the chosen durability | `ZADD NX` and `ZRANK` |
//! | position | verified token, no look-up | `ZRANK` and a counter |
//! | status | prepared bytes | `ZCARD` and a counter |
//! | status, cached | prepared bytes | the same bytes as a static file of nginx |
//! | hold of 4 seats | one all-or-none script | `SET NX EX` per seat with roll back |
//! | memory | per waiting visitor | per member of the sorted set |
//! | a million arrivals | joins until all are acknowledged | the same |
//! | overload | goodput with far too many clients, over the peak | the same |

mod args;
mod command;
mod http_rows;
mod render;
mod scale_rows;
mod usual;

pub use self::args::SideBySideArgs;
pub use self::command::run;
