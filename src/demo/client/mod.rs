//! The client that plays a visitor: paths, messages and the calls of a visit, shared by the demo's crowd, the
//! load tests and the integration tests.
//!
//! | module | holds |
//! |---|---|
//! | [`paths`] | every HTTP path and header that a client uses |
//! | [`messages`] | the JSON bodies that a client reads and writes |
//! | [`call`] | a request, its reply, and the [`Transport`] that carries it |
//! | [`rng`] | seeded random decisions of one visitor |
//! | [`observations`], [`observation_log`] | what clients were told, and how it is recorded |
//! | [`credentials`] | the proofs that a visitor holds |
//! | [`visit`] | an admitted visit: enter, hold, pay, leave |
//! | [`retrying`] | a transport with timeouts, retries and a retry budget |

pub mod call;
pub mod credentials;
pub mod messages;
pub mod observation_log;
pub mod observations;
pub mod paths;
pub mod retrying;
pub mod rng;
pub mod visit;

pub use self::call::{Abandoned, Call, Reply, Request, Transport};
pub use self::observation_log::ObservationLog;
pub use self::observations::{
    Observations, ObservedEntry, ObservedJoin, ObservedOrder, ObservedProbe, ObservedRefusal,
};
pub use self::rng::VisitorRng;
