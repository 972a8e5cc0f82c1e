//! The independent auditor: judges a sale by what its clients observed and by what its databases say in the
//! end.
//!
//! It is simpler than the code that it judges and shares no types with it. Each check states an invariant a
//! second time. [`audit`] takes [`Evidence`]; the caller gathers it, for instance with [`databases::read`].

mod auditor;
mod checks;
pub mod databases;
mod evidence;
mod findings;
#[cfg(test)]
mod tests;

pub use self::{
    auditor::audit,
    evidence::*,
    findings::{Invariant, Violation},
};
