//! Redis servers: standalone with optional replicas, under sentinels, or clustered; and a TCP proxy in front
//! of one.

mod cluster;
mod proxy;
mod sentinel;
mod server;
#[cfg(test)]
mod tests;

pub use self::cluster::RedisCluster;
pub use self::proxy::TcpProxy;
pub use self::sentinel::{RedisSentinel, RedisSentinels};
pub use self::server::RedisServer;
