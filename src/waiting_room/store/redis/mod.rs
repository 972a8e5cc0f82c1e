//! The engine in Redis, for any number of nodes.
//!
//! Redis takes what has to be taken in one step by whoever comes first: numbers, slots, permits, the order of claimants.
//! Everything else each node knows by following the journal ([`super::mirror`]). Redis follows the journal too, fed by
//! the nodes ([`effects`]), each record once and in order; and when it has lost its memory it is rebuilt from a node's
//! mirror under a new epoch ([`rebuild`]), before anything is answered again.
//!
//! Customers are kept with their arrival numbers, which a draw does not change, and strangers not at all ([`number`]); claims
//! and visits go by queue numbers.
//!
//! All keys carry the tag `{sale}`; times are the server's, in milliseconds.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `ready`, `rebuilding` | string | the epoch that is complete; that is being rebuilt |
//! | `b:N` | hash | customers: the part of the hash that does not choose the bucket -> number; 14 bytes a fan |
//! | `state` | hash | `issued`, `ceiling`, `now_serving`, `applied` (the last record followed), `capacity`, `paused`, `rate`, `burst`, `units` and `filled_us` of the permits, `share`, `contested`, `contested_returners` |
//! | `visits` | hash | visit -> number, stage and times (`prelude.lua`); as many as are active |
//! | `by_number` | hash | number -> visit |
//! | `ends` | zset | visits by when they are to be looked at: pass over, entry lapsed, end not written |
//! | `gone` | zset | visits whose end is written and whose slot is not free yet, by record |
//! | `called`, `returners` | zset | claimants by number |
//! | `called_unpassed`, `returners_unpassed` | zset | claimants behind whom nobody has gone in yet, and some who are claimants no more |
//! | `called_asked`, `returners_asked` | zset | the same by when their silence counts from |
//! | `nodes`, `nodes_seen` | zset | nodes by the record they have followed to; by when they were last heard of |
//! | `caller` | string | the node whose turn it is to call |
//! | `stock` | hash | the box offices' last word on stock; `h:SOURCE`: when each last said how its visitors fare, and how |
//! | `board` | hash | the encoded board that all nodes serve |
//! | `present` | zset | who has said that she is there and until when she counts, by when she said it; forgotten after two and a half hours |

mod allocate;
mod bucket;
mod draw;
mod port;
mod rebuild;
mod record_effects;
mod replay;
mod reply;
mod scripts;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use self::store::RedisStore;
