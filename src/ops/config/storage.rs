//! The sections that say what several nodes share: engines, books, and the way from the box office to the door. What a
//! key means is said in `config/stagedoor.toml`.

use std::{fs, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::ops::config::sections::{DatabaseUrl, Settings, millis};
use crate::{platform::redis::RedisConfig, waiting_room::Durability};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    pub kind: StoreKind,
    pub redis: RedisSettings,
}

/// What remembers queue and seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// This process, so there is one node.
    Memory,
    Redis,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSettings {
    pub url: DatabaseUrl,
    pub command_timeout_ms: u32,
    pub connect_timeout_ms: u32,
    pub accept_risky: bool,
}

/// A Redis that one context has for itself; all but the address is that of `[engine.redis]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnRedisSettings {
    /// Empty: `engine.redis.url`.
    pub url: DatabaseUrl,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitingRoomSettings {
    pub durability: Durability,
    pub redis: OwnRedisSettings,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxOfficeSettings {
    /// Base URLs of the waiting rooms' private listeners.
    pub waiting_room_urls: Vec<String>,
    pub redis: OwnRedisSettings,
}

/// Where a book is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    /// Empty: see [`Settings::ledger_database`] and [`Settings::journal_database`].
    pub url: DatabaseUrl,
}

/// A book's database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseLocation {
    Sqlite(PathBuf),
    Postgres(DatabaseUrl),
}

impl Settings {
    /// Whether several nodes may serve the same sales.
    #[must_use]
    pub fn shares_state(&self) -> bool {
        self.store.kind == StoreKind::Redis
    }

    /// `None` for the memory engine.
    #[must_use]
    pub fn waiting_room_redis(&self) -> Option<RedisConfig> {
        self.redis_of(&self.waiting_room.redis)
    }

    /// `None` for the memory engine.
    #[must_use]
    pub fn box_office_redis(&self) -> Option<RedisConfig> {
        self.redis_of(&self.box_office.redis)
    }

    fn redis_of(&self, own: &OwnRedisSettings) -> Option<RedisConfig> {
        let shared = &self.store.redis;
        (self.store.kind == StoreKind::Redis).then(|| RedisConfig {
            url: if own.url.is_empty() {
                shared.url.expose()
            } else {
                own.url.expose()
            }
            .to_owned(),
            command_timeout: millis(shared.command_timeout_ms),
            connect_timeout: millis(shared.connect_timeout_ms),
            allow_unsafe: shared.accept_risky,
        })
    }

    /// `ledger.db` in the data directory unless another is given.
    #[must_use]
    pub fn ledger_database(&self) -> DatabaseLocation {
        database(&self.ledger.url).unwrap_or_else(|| DatabaseLocation::Sqlite(self.data.dir.join("ledger.db")))
    }

    /// Unless another is given: `queue.db` beside a ledger that is a file, else the ledger's PostgreSQL.
    #[must_use]
    pub fn journal_database(&self) -> DatabaseLocation {
        database(&self.journal.url).unwrap_or_else(|| match self.ledger_database() {
            DatabaseLocation::Sqlite(file) => DatabaseLocation::Sqlite(file.with_file_name("queue.db")),
            shared @ DatabaseLocation::Postgres(_) => shared,
        })
    }

    /// The name of this node among all.
    #[must_use]
    pub fn node_name(&self) -> String {
        if !self.server.node_name.is_empty() {
            return self.server.node_name.clone();
        }
        let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let machine = if machine.trim().is_empty() {
            "node"
        } else {
            machine.trim()
        };
        format!("{machine}:{}", self.server.listen.port())
    }
}

/// `None` when no address is given. Which schemes there are has been checked.
fn database(url: &DatabaseUrl) -> Option<DatabaseLocation> {
    if url.is_empty() {
        return None;
    }
    Some(match url.expose().strip_prefix("sqlite:") {
        Some(file) => DatabaseLocation::Sqlite(PathBuf::from(file.strip_prefix("//").unwrap_or(file))),
        None => DatabaseLocation::Postgres(url.clone()),
    })
}
