//! The sections about stores and databases, which several nodes can share. The keys are explained in
//! `config/stagedoor.toml`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ops::config::secrets::DatabaseUrl, waiting_room::Durability};

/// The fast store of queue entries and seat holds while a sale runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// "memory" serves one node and needs nothing; "redis" serves any number of nodes and needs PostgreSQL
    /// for ledger and journal.
    pub kind: StoreKind,
    /// The Redis of all stores, unless a context has its own.
    pub redis: RedisSettings,
}

/// The fast store of queue entries and seat holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// This process's memory; only for a single node.
    Memory,
    /// Redis, for any number of nodes.
    Redis,
}

/// The Redis of all stores, unless a context has its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSettings {
    /// `redis://[USER:PASSWORD@]HOST:PORT[/DB]`, `redis+sentinel://...HOST:PORT,HOST:PORT/MASTER` or
    /// `redis+cluster://...`, `rediss` for TLS; best given as STAGEDOOR__STORE__REDIS__URL.
    pub url: DatabaseUrl,
    /// How long one Redis command may take, in milliseconds.
    pub command_timeout_ms: u32,
    /// How long connecting to Redis may take, in milliseconds.
    pub connect_timeout_ms: u32,
    /// Start even if this Redis may evict keys, or has replicas without persistence.
    pub allow_unsafe: bool,
}

/// A context's own Redis. Everything but the URL is configured in `[store.redis]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnRedisSettings {
    /// Empty means `store.redis.url`.
    pub url: DatabaseUrl,
}

/// The waiting rooms of all sales.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitingRoomSettings {
    /// "committed" replies to a join after its commit and loses nothing; "async" replies slightly earlier and
    /// commits right after.
    pub durability: Durability,
    /// The waiting rooms' own Redis.
    pub redis: OwnRedisSettings,
}

/// The box offices of all sales.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxOfficeSettings {
    /// Admin listeners of the nodes with the waiting rooms, such as "http://10.0.0.5:9090"; required where a
    /// box office runs without one.
    pub waiting_room_urls: Vec<String>,
    /// The box offices' own Redis.
    pub redis: OwnRedisSettings,
}

/// Where the ledger or the journal is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    /// Empty means the default: a file in `data.dir`.
    pub url: DatabaseUrl,
}

/// The location of a ledger or journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseLocation {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(DatabaseUrl),
}
