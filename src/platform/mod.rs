//! Infrastructure that knows no word of ticketing: databases, Redis, keys and signatures, HTTP client,
//! shutdown.

pub mod blocking_work;
pub mod drand;
pub mod encryption;
pub mod group_commit;
pub mod http_client;
pub mod jwks;
pub mod keys;
pub mod private_file;
pub mod process;
pub mod rate_limit;
pub mod redis;
pub mod shutdown;
pub mod signing;
pub mod sql;
pub mod text_file;
