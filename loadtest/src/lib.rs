//! Load tests: crowds over real HTTP, and figures beside the floors that they stand on.
//!
//! | module | does |
//! |---|---|
//! | [`run`], [`merge`] | one run from its beginning to its verdict; the parts of one as a whole |
//! | [`crowd`], [`visitor`], [`bots`], [`watching`] | who comes, and what they do |
//! | [`watchers`], [`overload`] | ten thousand streams at once; more than can be answered |
//! | [`ratios`], [`floors`] | the table of figures, each over its floor |
//! | [`arrivals`] | when they come, whatever the server does |
//! | [`wire`] | HTTP as lean as a generator needs it |
//! | [`book`], [`told`] | latencies and outcomes; what clients were told |
//! | [`audit`] | the house's independent auditor over both sides |
//! | [`ground`], [`process`], [`target`] | the house: started on either engine, or found |
//! | [`result`], [`report`] | one JSON file, one page with plots; comparing and merging |

pub mod arrivals;
pub mod audit;
pub mod book;
pub mod bots;
pub mod crowd;
pub mod floors;
pub mod ground;
pub mod merge;
pub mod overload;
pub mod process;
pub mod ratios;
pub mod report;
pub mod result;
pub mod run;
pub mod target;
pub mod told;
pub mod visitor;
pub mod watchers;
pub mod watching;
pub mod wire;
