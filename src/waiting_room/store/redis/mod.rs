//! The Redis store: one sale's queue, shared by any number of nodes.
//!
//! Redis decides what must be decided in one atomic step for all nodes: numbers, slots, permits, the order of
//! claimants. Everything else each node knows by following the journal in a mirror, the memory store. Redis
//! follows the journal too: nodes replay it, each record once and in order. When Redis loses its data, one
//! node rebuilds them from its mirror under a new epoch before any call is answered again.
//!
//! Customers are stored with their arrival numbers, which a draw does not change; anonymous visitors are not
//! stored. Claims and visits go by queue numbers.
//!
//! All keys carry the hash tag `{sale}`. Times are the server's, in milliseconds.
//!
//! | key | type | holds |
//! |---|---|---|
//! | `ready` | string | the epoch whose data are complete |
//! | `rebuilding` | string | the epoch that is being rebuilt; expires with the node that rebuilds |
//! | `subjects:N` | hash | customers: part of the subject's hash -> arrival number; 14 bytes each |
//! | `state` | hash | numbers, settings and permits, see below |
//! | `visits` | hash | visit -> queue number, stage and times (`prelude.lua`) |
//! | `visit_by_number` | hash | queue number -> visit |
//! | `visit_deadlines` | zset | visits by when they are due, see below |
//! | `ended_visits` | zset | visits by the record of their end, while their slot is not free |
//! | `called`, `late` | zset | claimants of the two lanes, by queue number |
//! | `called_silent_since`, `late_silent_since` | zset | claimants by when their silence began |
//! | `called_not_overtaken`, `late_not_overtaken` | zset | claimants that none behind has overtaken |
//! | `node_applied` | zset | nodes by the last record that they have applied |
//! | `node_seen_at` | zset | nodes by when they last reported |
//! | `caller` | string | the node that calls now; a lease |
//! | `stock` | hash | `zones`, `at`: the stock last reported; `health:SOURCE`: a box office's health |
//! | `status` | hash | `version`, `json`, `at`: the encoded status that all nodes serve |
//! | `heartbeats` | zset | heartbeats by arrival; forgotten after two and a half hours |
//!
//! `state` has the fields `issued`, `unused` (numbers that belong to no visitor), `max_number` (the ceiling),
//! `now_serving`, `applied_seq` (the last record applied), `active_visits_max`, `stopped`, `rate_per_minute`,
//! `burst`, `permit_units`, `permits_filled_us`, `late_arrival_share`, `contested_entries` and
//! `contested_late`. A visit is due when its pass has expired, when its reservation lapses, or when its end
//! was not journaled in time. The `not_overtaken` sets may hold former claimants.

mod allocate;
mod draw;
mod port;
mod prefetch;
mod rebuild;
mod record_effects;
mod replay;
mod reply;
mod scripts;
pub(crate) mod store;
mod subject_index;
mod sync;
#[cfg(test)]
mod tests;
