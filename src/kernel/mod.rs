//! Words that mean the same everywhere. Pure: no I/O, no async, nothing else of this crate.

mod clock;
mod ids;
mod money;
mod rng;
mod text;

pub use self::rng::{Entropy, OsEntropy, SeededEntropy};
pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use ids::{HoldId, IdError, OrderId, PerformanceId, SaleId, Subject, VisitId};
pub use money::{Currency, Money};
pub use text::LocalText;
