//! The service under test: started for a run on either backend, or found running somewhere.
//!
//! | module | holds |
//! |---|---|
//! | [`args`] | the command line's choice of a service |
//! | [`config_file`] | the configuration of a service that is started |
//! | [`servers`] | Redis and PostgreSQL of one service |
//! | [`service`] | the running service |

pub mod args;
pub mod config_file;
pub mod servers;
pub mod service;

pub use self::args::{Backend, Durability, HANDOFF_SECRET, QueueOrder, ServiceArgs, SignIn, VISIT_MAX_S};
pub use self::config_file::{PERFORMANCE, SALE, SaleSpec, WEBHOOK_SECRET};
pub use self::servers::BackendServers;
pub use self::service::{Service, start_gateway, start_service};
