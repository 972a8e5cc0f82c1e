//! Redis: how its servers are found, spoken to and, above all, recognised.
//!
//! Redis forgets: a server that was emptied, restarted, or replaced by a replica which missed the last second answers as
//! cheerfully as before. So each [`Line`] is one TCP connection whose server was identified when it was made, and a
//! script runs only under an *epoch* that somebody has vouched for: the store that has compared the server's identity
//! with the one in its journal, and rebuilt what was lost. Every script checks the epoch against a key that is lost
//! with the data, in the same atomic step (the guard of [`Script`]).
//!
//! All keys of one store carry one hash tag, so that on Redis Cluster they live on one server, and a line is a
//! connection to that server.
//!
//! | key | holds |
//! |---|---|
//! | `{tag}:ready` | the epoch whose data are complete; missing while they are not |

mod connection;
mod discovery;
mod fitness;
mod script;
#[cfg(test)]
mod tests;
mod url;

use std::{fmt, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind, aio::MultiplexedConnection,
};

use self::url::Host;
pub use self::{
    connection::{Line, Link},
    discovery::ConnectError,
    fitness::Unfit,
    script::{Call, Script},
    url::{Address, AddressError},
};

/// How one Redis is used.
#[derive(Clone)]
pub struct RedisConfig {
    pub url: String,
    /// Of one command, from sending it to its answer.
    pub command_timeout: Duration,
    pub connect_timeout: Duration,
    /// Starts even where Redis may drop keys, or has replicas and no persistence.
    pub allow_unsafe: bool,
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("call_deadline", &self.command_timeout)
            .finish_non_exhaustive()
    }
}

/// Which memory answers: the server's run id and its replication id. Either changes when the memory may have lost something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(pub String);

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody answers. What was sent may have been done.
    #[error("Redis does not answer")]
    Away,
    /// Its data are not, or not yet, those of this epoch. Nothing was done.
    #[error("Redis has lost its memory; it is being rebuilt")]
    Rebuilding,
    /// It answered, and refused. Nothing was done.
    #[error("Redis refused: {0}")]
    Refused(String),
}

/// One Redis: a server, a primary found through sentinels, or a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Redis(Arc<Service>);

struct Service {
    address: Address,
    config: RedisConfig,
}

impl Redis {
    /// # Errors
    /// [`AddressError`]: the URL cannot be read.
    pub fn new(config: RedisConfig) -> Result<Self, AddressError> {
        Ok(Self(Arc::new(Service {
            address: Address::parse(&config.url)?,
            config,
        })))
    }

    /// Without credentials, for logs.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.0.address
    }

    #[must_use]
    pub fn config(&self) -> &RedisConfig {
        &self.0.config
    }

    /// A connection to the primary that owns the tag's slot, whose identity is known.
    ///
    /// # Errors
    /// [`ConnectError`]: no primary is found, or it does not answer, or is none any more.
    pub async fn connect(&self, tag: &str) -> Result<Link, ConnectError> {
        let host = self.primary_of(tag).await?;
        self.link_to(&host, Some(self.0.config.command_timeout)).await
    }

    /// As [`Redis::connect`], for commands that wait on purpose (`XREAD BLOCK`): without a deadline of its own.
    ///
    /// # Errors
    /// As [`Redis::connect`].
    pub async fn connect_to_wait(&self, tag: &str) -> Result<Link, ConnectError> {
        let host = self.primary_of(tag).await?;
        self.link_to(&host, None).await
    }

    async fn link_to(&self, host: &Host, deadline: Option<Duration>) -> Result<Link, ConnectError> {
        let mut connection = self.open(self.0.address.connection_to(host), deadline).await?;
        let identity = identify(&mut connection, self.0.config.command_timeout).await?;
        Ok(Link {
            connection,
            identity,
            host: host.to_string(),
            number: 0,
        })
    }

    async fn open(
        &self,
        to: redis::ConnectionInfo,
        deadline: Option<Duration>,
    ) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.0.config.connect_timeout))
            .set_response_timeout(deadline);
        Client::open(to)?
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }
}

/// Who answers on this connection; an error when it is no primary.
async fn identify(
    connection: &mut MultiplexedConnection,
    deadline: Duration,
) -> Result<Identity, RedisError> {
    let late = |_| RedisError::from((ErrorKind::Io, "no answer in time"));
    let info: String = tokio::time::timeout(deadline, redis::cmd("INFO").query_async(connection))
        .await
        .map_err(late)??;
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
            .trim()
    };
    if field("loading") == "1" {
        return Err(RedisError::from((
            ErrorKind::Server(ServerErrorKind::BusyLoading),
            "the server is loading its data",
        )));
    }
    if field("role") != "master" {
        return Err(RedisError::from((
            ErrorKind::Server(ServerErrorKind::ReadOnly),
            "the server is a replica",
        )));
    }
    Ok(Identity(format!(
        "{}/{}",
        field("run_id"),
        field("master_replid")
    )))
}
