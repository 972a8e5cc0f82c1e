//! Load tests: crowds over real HTTP, and figures of the service beside baselines on the same machine.
//!
//! | module | does |
//! |---|---|
//! | [`run`], [`merge`] | one run from start to verdict; the parts of a run together |
//! | [`crowd`], [`arrivals`] | who comes, when, and what they do |
//! | [`sse_bench`], [`sse_client`] | ten thousand event streams at once |
//! | [`overload`] | load beyond capacity |
//! | [`baseline_table`], [`baselines`] | the table of figures, each over its baseline |
//! | [`side_by_side`] | what a buyer compares: the service beside the usual way of building one |
//! | [`build_pairs`] | two builds of the service in alternation |
//! | [`http1`] | a minimal HTTP client for load generation |
//! | [`recorder`] | latencies and outcomes |
//! | [`audit`] | the independent auditor over observations and databases |
//! | [`environment`], [`process`], [`target`] | the service under test: started on either backend, or found |
//! | [`result`], [`report`], [`comparison`] | the result as JSON and as a page; two results side by side |

pub mod arrivals;
pub mod audit;
pub mod baseline_table;
pub mod baselines;
pub mod build_pairs;
pub mod comparison;
pub mod crowd;
pub mod environment;
pub mod forecast_check;
pub mod http1;
pub mod merge;
pub mod overload;
pub mod process;
pub mod recorder;
pub mod report;
pub mod result;
pub mod run;
pub mod side_by_side;
pub mod sse_bench;
pub mod sse_client;
pub mod target;
