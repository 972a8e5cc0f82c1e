//! Real servers for tests, benches and load tests: Redis (one, replicated, under sentinels, clustered),
//! PostgreSQL, MariaDB and nginx, an HTTP server with one response, and a TCP proxy to cut and redirect
//! connections.
//!
//! Each server runs in a temporary folder on a free port of this machine. It is stopped by process id and its
//! folder is removed when its handle is dropped, and also when the owning process is killed (see
//! [`process`]). This crate does not depend on the product.

mod error;
mod http_server;
mod mariadb;
mod nginx;
mod postgres;
pub mod process;
mod redis;

pub use self::error::ServerError;
pub use self::http_server::HttpServer;
pub use self::mariadb::MariaDb;
pub use self::nginx::Nginx;
pub use self::postgres::Postgres;
pub use self::redis::{RedisCluster, RedisSentinel, RedisSentinels, RedisServer, TcpProxy};
