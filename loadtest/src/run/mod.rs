//! One run, from the start to the verdict.
//!
//! | module | does |
//! |---|---|
//! | [`args`] | the command line and its defaults |
//! | [`plan`] | checks the arguments and derives crowd and sale from them |
//! | [`progress`] | follows the crowd second by second |
//! | [`output`] | writes the result and prints the summary |
//! | [`execute`] | the run itself |

pub mod args;
pub mod execute;
pub mod output;
pub mod plan;
pub mod progress;

pub use self::args::{CrowdArgs, RunKind};
pub use self::execute::run;
