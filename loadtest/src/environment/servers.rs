//! Redis and PostgreSQL of one service.

use testkit::{Postgres, RedisServer};

/// The servers of the `redis+postgresql` backend; stopped on drop.
pub struct BackendServers {
    /// The store.
    pub redis: RedisServer,
    /// The server of journal and ledger.
    pub postgres: Postgres,
    /// The URL of the database with journal and ledger.
    pub database_url: String,
}

impl BackendServers {
    /// Starts both.
    ///
    /// # Errors
    /// One of them is not installed or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let redis = RedisServer::start().await?;
        let postgres = Postgres::start().await?;
        let database_url = postgres.create_database("loadtest").await?;
        Ok(Self {
            redis,
            postgres,
            database_url,
        })
    }
}
