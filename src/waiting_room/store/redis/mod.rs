//! The Redis store: one sale's queue, shared by any number of nodes.
//!
//! Redis decides what must be decided in one atomic step for all nodes: numbers, slots, permits, the order of claimants.
//! Everything else each node knows by following the journal in a mirror, the memory store. Redis follows the journal too:
//! nodes replay it, each record once and in order. When Redis loses its data, one node rebuilds them from its mirror under a
//! new epoch before any call is answered again.
//!
//! Customers are stored with their arrival numbers, which a draw does not change; anonymous visitors are not stored.
//! Claims and visits go by queue numbers.
//!
//! All keys carry the hash tag `{sale}`. Times are the server's, in milliseconds.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `ready` | string | the epoch whose data are complete |
//! | `rebuilding` | string | the epoch that is being rebuilt; expires when the node that rebuilds dies |
//! | `subjects:N` | hash | customers: the bits of the subject's hash that do not choose the bucket -> arrival number; 14 bytes each |
//! | `state` | hash | `issued`, `max_number` (the ceiling), `now_serving`, `applied_seq` (the last record applied), `active_visits_max`, `stopped`, `rate_per_minute`, `burst`, `permit_units`, `permits_filled_us`, `late_arrival_share`, `contested_entries`, `contested_late` |
//! | `visits` | hash | visit -> queue number, stage and times (`prelude.lua`); one per active visit |
//! | `visit_by_number` | hash | queue number -> visit |
//! | `visit_deadlines` | zset | visits by when they are due: pass expired, reservation lapsed, end not journaled |
//! | `ended_visits` | zset | visits whose end is journaled and whose slot is not free yet, by record |
//! | `called`, `late` | zset | claimants of the two lanes, by queue number |
//! | `called_silent_since`, `late_silent_since` | zset | the same by the time from which their silence counts |
//! | `called_not_overtaken`, `late_not_overtaken` | zset | claimants behind whom no other has entered yet; may hold former claimants |
//! | `node_applied`, `node_seen_at` | zset | nodes by the last record that they have applied; by when they last reported |
//! | `caller` | string | the node that calls now; a lease |
//! | `stock` | hash | `zones` and `at`: the stock last reported; `health:SOURCE`: time and health that a box office reported |
//! | `status` | hash | `version`, `json`, `at`: the encoded status that all nodes serve |
//! | `heartbeats` | zset | heartbeats by arrival; forgotten after two and a half hours |

mod allocate;
mod bucket;
mod draw;
mod port;
mod prefetch;
mod rebuild;
mod record_effects;
mod replay;
mod reply;
mod scripts;
pub(crate) mod store;
mod sync;
#[cfg(test)]
mod tests;
