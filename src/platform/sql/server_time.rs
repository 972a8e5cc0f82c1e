//! The time of a PostgreSQL server.

use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::{
    kernel::Timestamp,
    platform::sql::{
        database_ref::DatabaseRef,
        errors::OpenError,
        postgres::{CONNECT_TIMEOUT, parse, serving_options},
    },
};

/// Reads the time of a server, on a connection of its own.
#[derive(Clone, Debug)]
pub struct ServerTime {
    pool: PgPool,
    database: DatabaseRef,
}

impl ServerTime {
    /// Parses the URL; connects to nothing yet.
    ///
    /// # Errors
    /// [`OpenError::Url`].
    pub fn new(url: &str) -> Result<Self, OpenError> {
        let (options, database) = parse(url)?;
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(CONNECT_TIMEOUT)
            .connect_lazy_with(serving_options(&options.application_name("stagedoor clock")));
        Ok(Self { pool, database })
    }

    /// The server's time.
    ///
    /// # Errors
    /// The driver's error.
    pub async fn read(&self) -> Result<Timestamp, sqlx::Error> {
        sqlx::query_scalar("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
            .fetch_one(&self.pool)
            .await
            .map(Timestamp::from_millis)
    }

    /// The database, without its credentials.
    #[must_use]
    pub fn database(&self) -> &DatabaseRef {
        &self.database
    }
}
