//! Types that mean the same everywhere: ids, clock, randomness, money, localized text. Pure: no I/O, no
//! async, no other module of this crate.

mod clock;
mod ids;
mod money;
mod rng;
mod text;
mod time_zone;

pub use self::rng::{Entropy, OsEntropy, SeededEntropy};
pub use clock::{Clock, FollowingClock, ManualClock, Stopwatch, SystemClock, Timestamp};
pub use ids::{HoldId, IdError, OrderId, PerformanceId, SaleId, Subject, VisitId};
pub use money::{Currency, Money};
pub use text::{LocalText, invisible_character, look_alike_key};
pub use time_zone::TimeZone;
