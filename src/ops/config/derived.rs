//! What the settings imply: which stores and databases are used, and the node's name.

use std::{fs, path::PathBuf};

use crate::{
    ops::config::{
        secrets::DatabaseUrl,
        sections::Settings,
        storage::{DatabaseLocation, OwnRedisSettings, StoreKind},
        units::millis,
    },
    platform::redis::RedisConfig,
};

impl Settings {
    /// Whether several nodes can serve the same sales.
    #[must_use]
    pub fn shares_state(&self) -> bool {
        self.store.kind == StoreKind::Redis
    }

    /// The waiting rooms' Redis; `None` for the memory store.
    #[must_use]
    pub fn waiting_room_redis(&self) -> Option<RedisConfig> {
        self.redis_of(&self.waiting_room.redis)
    }

    /// The box offices' Redis; `None` for the memory store.
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
            allow_unsafe: shared.allow_unsafe,
        })
    }

    /// The ledger; by default `ledger.db` in the data directory.
    #[must_use]
    pub fn ledger_database(&self) -> DatabaseLocation {
        database(&self.ledger.url)
            .unwrap_or_else(|| DatabaseLocation::Sqlite(self.data.dir.join("ledger.db")))
    }

    /// The journal; by default `queue.db` beside a ledger that is a file, else the ledger's PostgreSQL.
    #[must_use]
    pub fn journal_database(&self) -> DatabaseLocation {
        database(&self.journal.url).unwrap_or_else(|| match self.ledger_database() {
            DatabaseLocation::Sqlite(file) => DatabaseLocation::Sqlite(file.with_file_name("queue.db")),
            shared @ DatabaseLocation::Postgres(_) => shared,
        })
    }

    /// Threads that verify passwords: the other cores serve visitors meanwhile.
    #[must_use]
    pub fn password_threads(&self) -> usize {
        match self.shop.password_threads {
            0 => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1)),
            threads => threads,
        }
    }

    /// The unique name of this node.
    #[must_use]
    pub fn node_name(&self) -> String {
        if !self.server.node_name.is_empty() {
            return self.server.node_name.clone();
        }
        let host_name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host_name = if host_name.trim().is_empty() {
            "node"
        } else {
            host_name.trim()
        };
        format!("{host_name}:{}", self.server.listen.port())
    }
}

/// `None` when the URL is empty. Its scheme was checked before.
fn database(url: &DatabaseUrl) -> Option<DatabaseLocation> {
    if url.is_empty() {
        return None;
    }
    Some(match url.expose().strip_prefix("sqlite:") {
        Some(file) => DatabaseLocation::Sqlite(PathBuf::from(file.strip_prefix("//").unwrap_or(file))),
        None => DatabaseLocation::Postgres(url.clone()),
    })
}
