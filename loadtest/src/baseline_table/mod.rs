//! The table of figures, each over its baseline: measured in one run, on one machine, in alternation.
//!
//! The two sides of a figure take turns of one second. The ratio is taken for each pair of turns; the table
//! shows the median of the pairs with the interval that contains the true median in nineteen of twenty cases
//! (for nine pairs: from the second lowest to the second highest). Client, service, baseline, Redis and
//! PostgreSQL share the machine, so a ratio includes the cost of the whole path.
//!
//! | module | does |
//! |---|---|
//! | [`args`], [`command`] | the command line; repetitions and output |
//! | [`table`], [`render`], [`repetitions`] | rows and tables; as text; several runs of the table together |
//! | `paired`, `fixture` | two sides in alternation; the service and its baseline |
//! | `http_rows`, `hold_bench`, `order_bench`, `memory`, `prefill`, `origin_load` | figures over HTTP |
//! | `redis_pipeline`, `in_process`, `other_rows` | the other figures |

pub mod args;
pub mod command;
pub(crate) mod fixture;
pub(crate) mod hold_bench;
mod http_rows;
mod in_process;
pub(crate) mod memory;
pub(crate) mod order_bench;
mod origin_load;
mod other_rows;
pub(crate) mod paired;
mod prefill;
mod redis_pipeline;
pub mod render;
pub mod repetitions;
pub mod table;

pub use self::args::BaselineArgs;
pub use self::command::run;
