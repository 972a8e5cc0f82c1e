//! One configured Redis: opens connections and identifies the dataset behind them.

use std::{fmt, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind, aio::MultiplexedConnection,
};

use crate::platform::redis::url::{HostPort, RedisUrl, RedisUrlError};

/// How one Redis is used.
#[derive(Clone)]
pub struct RedisConfig {
    /// See [`RedisUrl`] for its forms.
    pub url: String,
    /// Time limit of one command, from sending it to its reply.
    pub command_timeout: Duration,
    /// Time limit of connecting, TLS included.
    pub connect_timeout: Duration,
    /// Starts even where Redis may evict keys, or has replicas and no persistence.
    pub allow_unsafe: bool,
}

/// Omits the URL, which may hold a password.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("command_timeout", &self.command_timeout)
            .finish_non_exhaustive()
    }
}

/// Identifies a dataset: the server's run id and its replication id. Either changes when data may have been
/// lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetId(pub String);

/// A connection and the dataset behind it. Cheap to clone.
#[derive(Clone)]
pub struct Connection {
    /// The multiplexed TCP connection.
    pub multiplexed: MultiplexedConnection,
    /// The dataset when the connection was made.
    pub dataset: DatasetId,
    /// `host:port` of the server.
    pub host: String,
    /// Counts the connections that one [`FencedConnection`](super::FencedConnection) has made; 0 outside of
    /// one.
    pub(crate) id: u64,
}

/// One Redis: a server, a primary found through sentinels, or a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    url: RedisUrl,
    config: RedisConfig,
}

impl Redis {
    /// Parses the URL; connects to nothing yet.
    ///
    /// # Errors
    /// [`RedisUrlError`]: the URL cannot be parsed.
    pub fn new(config: RedisConfig) -> Result<Self, RedisUrlError> {
        let url = RedisUrl::parse(&config.url)?;
        Ok(Self(Arc::new(Inner { url, config })))
    }

    /// Where it is. Displayed without credentials.
    #[must_use]
    pub fn url(&self) -> &RedisUrl {
        &self.0.url
    }

    /// The configuration it was made from.
    #[must_use]
    pub fn config(&self) -> &RedisConfig {
        &self.0.config
    }

    /// Connects to this host and reads its dataset id. `command_timeout`: of commands on this connection,
    /// `None` for those that block on purpose.
    pub(super) async fn connect_to(
        &self,
        host: &HostPort,
        command_timeout: Option<Duration>,
    ) -> Result<Connection, RedisError> {
        let mut multiplexed = self.open(self.0.url.connection_to(host), command_timeout).await?;
        let dataset = read_dataset_id(&mut multiplexed, self.0.config.command_timeout).await?;
        Ok(Connection {
            multiplexed,
            dataset,
            host: host.to_string(),
            id: 0,
        })
    }

    pub(super) async fn open(
        &self,
        to: redis::ConnectionInfo,
        command_timeout: Option<Duration>,
    ) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.0.config.connect_timeout))
            .set_response_timeout(command_timeout);
        Client::open(to)?
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }
}

/// The dataset behind this connection; an error when the server is loading or not a primary.
pub(super) async fn read_dataset_id(
    connection: &mut MultiplexedConnection,
    timeout: Duration,
) -> Result<DatasetId, RedisError> {
    let late = |_| RedisError::from((ErrorKind::Io, "no reply in time"));
    let info: String = tokio::time::timeout(timeout, redis::cmd("INFO").query_async(connection))
        .await
        .map_err(late)??;
    if info_field(&info, "loading") == "1" {
        return Err(RedisError::from((
            ErrorKind::Server(ServerErrorKind::BusyLoading),
            "the server is loading its data",
        )));
    }
    if info_field(&info, "role") != "master" {
        return Err(RedisError::from((
            ErrorKind::Server(ServerErrorKind::ReadOnly),
            "the server is a replica",
        )));
    }
    Ok(DatasetId(format!(
        "{}/{}",
        info_field(&info, "run_id"),
        info_field(&info, "master_replid")
    )))
}

/// A field of the reply of `INFO`; empty when it is missing.
pub(super) fn info_field<'i>(info: &'i str, name: &str) -> &'i str {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_default()
        .trim()
}
