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

mod address;
mod fitness;
mod line;
mod script;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection};

use self::address::{Host, Topology};
pub use self::{
    address::{Address, AddressError},
    fitness::Unfit,
    line::{Line, Link},
    script::{Call, Script},
};

/// So often a member of a cluster may name another one that names yet another.
const HOPS_MAX: u32 = 3;

/// How one Redis is used.
#[derive(Clone)]
pub struct RedisConfig {
    pub url: String,
    /// Of one command, from sending it to its answer.
    pub call_deadline: Duration,
    pub connect_deadline: Duration,
    /// Starts even where Redis may drop keys, or has replicas and no persistence.
    pub accept_risky: bool,
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig").field("call_deadline", &self.call_deadline).finish_non_exhaustive()
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
        Ok(Self(Arc::new(Service { address: Address::parse(&config.url)?, config })))
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
    /// The driver's; or an I/O error when no primary can be found.
    pub async fn connect(&self, tag: &str) -> Result<Link, RedisError> {
        let host = self.primary_of(tag).await?;
        self.link_to(&host, Some(self.0.config.call_deadline)).await
    }

    /// As [`Redis::connect`], for commands that wait on purpose (`XREAD BLOCK`): without a deadline of its own.
    ///
    /// # Errors
    /// As [`Redis::connect`].
    pub async fn connect_to_wait(&self, tag: &str) -> Result<Link, RedisError> {
        let host = self.primary_of(tag).await?;
        self.link_to(&host, None).await
    }

    async fn link_to(&self, host: &Host, deadline: Option<Duration>) -> Result<Link, RedisError> {
        let mut connection = self.open(self.0.address.connection_to(host), deadline).await?;
        let identity = identify(&mut connection, self.0.config.call_deadline).await?;
        Ok(Link { connection, identity, host: host.to_string(), number: 0 })
    }

    async fn open(&self, to: redis::ConnectionInfo, deadline: Option<Duration>) -> Result<MultiplexedConnection, RedisError> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(self.0.config.connect_deadline)).set_response_timeout(deadline);
        Client::open(to)?.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Where the tag's data are now.
    async fn primary_of(&self, tag: &str) -> Result<Host, RedisError> {
        match &self.0.address.topology {
            Topology::Single(host) => Ok(host.clone()),
            Topology::Sentinel(sentinels, name) => self.first_answer(sentinels, |host| Box::pin(self.ask_sentinel(host, name))).await,
            Topology::Cluster(members) => {
                let slot = i64::from(address::slot_of(tag));
                self.first_answer(members, |host| Box::pin(self.owner_by(host, slot))).await
            }
        }
    }

    /// Members learn of a move one after the other; whoever has the slot by one's word must say so herself.
    async fn owner_by(&self, member: &Host, slot: i64) -> Result<Host, RedisError> {
        let mut owner = self.ask_member(member, slot).await?;
        for _ in 0..HOPS_MAX {
            let named = self.ask_member(&owner, slot).await?;
            if named == owner {
                return Ok(owner);
            }
            owner = named;
        }
        Err(no_primary("the cluster's members do not agree on a slot"))
    }

    /// Whose the tag's data are by the word of this member of a cluster.
    async fn says_owner(&self, member: &str, tag: &str) -> Option<String> {
        let Topology::Cluster(_) = self.0.address.topology else { return None };
        let (name, port) = member.rsplit_once(':')?;
        let member = Host::new(name, port.parse().ok()?);
        self.ask_member(&member, i64::from(address::slot_of(tag))).await.ok().map(|it| it.to_string())
    }

    /// Every primary, once: for what is checked at start.
    async fn primaries(&self) -> Result<Vec<Host>, RedisError> {
        let Topology::Cluster(members) = &self.0.address.topology else { return Ok(vec![self.primary_of("").await?]) };
        let ranges = self.first_answer(members, |host| Box::pin(self.slots_by(host))).await?;
        let mut primaries: Vec<Host> = Vec::new();
        for (_, _, host) in ranges {
            if !primaries.contains(&host) {
                primaries.push(host);
            }
        }
        Ok(primaries)
    }

    async fn first_answer<'f, T>(
        &'f self,
        hosts: &'f [Host],
        ask: impl Fn(&'f Host) -> BoxFuture<'f, Result<T, RedisError>> + Send,
    ) -> Result<T, RedisError> {
        let mut last = None;
        for host in hosts {
            match ask(host).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| no_primary("no host is configured")))
    }

    async fn ask_sentinel(&self, host: &Host, name: &str) -> Result<Host, RedisError> {
        let mut sentinel = self.open(self.0.address.connection_to_sentinel(host), Some(self.0.config.call_deadline)).await?;
        let found: Option<(String, u16)> =
            redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg(name).query_async(&mut sentinel).await?;
        found.map(|(name, port)| Host::new(name, port)).ok_or_else(|| no_primary("the sentinels know no primary of that name"))
    }

    async fn ask_member(&self, host: &Host, slot: i64) -> Result<Host, RedisError> {
        let ranges = self.slots_by(host).await?;
        let owner = ranges.into_iter().find(|(from, to, _)| (*from..=*to).contains(&slot));
        owner.map(|(_, _, host)| host).ok_or_else(|| no_primary("the cluster has no primary for a slot"))
    }

    /// First slot, last slot, primary.
    async fn slots_by(&self, host: &Host) -> Result<Vec<(i64, i64, Host)>, RedisError> {
        let mut member = self.open(self.0.address.connection_to(host), Some(self.0.config.call_deadline)).await?;
        let ranges: Vec<Vec<Value>> = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut member).await?;
        let range = |row: &Vec<Value>| {
            let [Value::Int(from), Value::Int(to), Value::Array(primary), ..] = row.as_slice() else { return None };
            let name: String = redis::from_redis_value(primary.first()?.clone()).ok()?;
            let port: u16 = redis::from_redis_value(primary.get(1)?.clone()).ok()?;
            // A member that does not know its own address leaves it out: it is the one that was asked.
            Some((*from, *to, Host::new(if name.is_empty() { host.name.clone() } else { name }, port)))
        };
        ranges.iter().map(range).collect::<Option<_>>().ok_or_else(|| no_primary("the cluster's map cannot be read"))
    }
}

fn no_primary(why: &'static str) -> RedisError {
    RedisError::from((ErrorKind::ClusterConnectionNotFound, why))
}

/// Who answers on this connection; an error when it is no primary.
async fn identify(connection: &mut MultiplexedConnection, deadline: Duration) -> Result<Identity, RedisError> {
    let late = |_| RedisError::from((ErrorKind::Io, "no answer in time"));
    let info: String = tokio::time::timeout(deadline, redis::cmd("INFO").query_async(connection)).await.map_err(late)??;
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim();
    if field("loading") == "1" {
        return Err(RedisError::from((ErrorKind::Server(ServerErrorKind::BusyLoading), "the server is loading its data")));
    }
    if field("role") != "master" {
        return Err(RedisError::from((ErrorKind::Server(ServerErrorKind::ReadOnly), "the server is a replica")));
    }
    Ok(Identity(format!("{}/{}", field("run_id"), field("master_replid"))))
}
