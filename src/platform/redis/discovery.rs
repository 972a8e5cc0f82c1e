//! Finds the primary that holds a store's data, by sentinels or by a cluster's map.

use std::time::Duration;

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use redis::{RedisError, Value};

use crate::platform::redis::{
    client::{Connection, Redis},
    errors::ConnectError,
    url::{self, HostPort, Topology},
};

/// A cluster member may name another owner of a slot, and that one yet another, at most this often.
const REDIRECTS_MAX: u32 = 3;
/// Hedging: a host that has not replied after this time may be the one that failed, so the next one is
/// queried as well.
const HEDGE_DELAY: Duration = Duration::from_millis(100);

impl Redis {
    /// Connects to the primary that owns the tag's slot and reads its dataset id.
    ///
    /// # Errors
    /// [`ConnectError`]: no primary is found, or it does not respond, or has become a replica.
    pub async fn connect(&self, tag: &str) -> Result<Connection, ConnectError> {
        let host = self.primary_for(tag).await?;
        Ok(self
            .connect_to(&host, Some(self.config().command_timeout))
            .await?)
    }

    /// Like [`Redis::connect`], for commands that block on purpose (`XREAD BLOCK`): commands have no time
    /// limit.
    ///
    /// # Errors
    /// As [`Redis::connect`].
    pub async fn connect_without_timeout(&self, tag: &str) -> Result<Connection, ConnectError> {
        let host = self.primary_for(tag).await?;
        Ok(self.connect_to(&host, None).await?)
    }

    /// The primary that owns the tag's slot now.
    pub(crate) async fn primary_for(&self, tag: &str) -> Result<HostPort, ConnectError> {
        match &self.url().topology {
            Topology::Single(host) => Ok(host.clone()),
            Topology::Sentinel(sentinels, name) => self.majority_of_sentinels(sentinels, name).await,
            Topology::Cluster(members) => {
                let slot = i64::from(url::slot_of(tag));
                first_success(members, |host| Box::pin(self.confirmed_slot_owner(host, slot))).await
            }
        }
    }

    /// The owner of the tag's slot according to this cluster member; `None` when it does not respond.
    pub(crate) async fn slot_owner_according_to(&self, member: &str, tag: &str) -> Option<String> {
        let Topology::Cluster(_) = self.url().topology else {
            return None;
        };
        let (name, port) = member.rsplit_once(':')?;
        let member = HostPort::new(name, port.parse().ok()?);
        self.slot_owner(&member, i64::from(url::slot_of(tag)))
            .await
            .ok()
            .map(|owner| owner.to_string())
    }

    /// Every primary, once: for the checks at start.
    pub(crate) async fn primaries(&self) -> Result<Vec<HostPort>, ConnectError> {
        let Topology::Cluster(members) = &self.url().topology else {
            return Ok(vec![self.primary_for("").await?]);
        };
        let ranges = first_success(members, |host| Box::pin(self.cluster_slots(host))).await?;
        let mut primaries: Vec<HostPort> = Vec::new();
        for (_, _, host) in ranges {
            if !primaries.contains(&host) {
                primaries.push(host);
            }
        }
        Ok(primaries)
    }

    /// Queries all sentinels at once. Returns the primary that more than half of them name, or, when fewer
    /// reply, the one named most often. A majority is needed because a sentinel that missed a failover still
    /// names the old primary, and an old primary that has come back believes the same of itself.
    async fn majority_of_sentinels(
        &self,
        sentinels: &[HostPort],
        name: &str,
    ) -> Result<HostPort, ConnectError> {
        let mut replies: FuturesUnordered<_> = sentinels
            .iter()
            .map(|sentinel| self.query_sentinel(sentinel, name))
            .collect();
        let mut votes: Vec<(usize, HostPort)> = Vec::new();
        let mut failure = ConnectError::NoHost;
        while let Some(reply) = replies.next().await {
            match reply {
                Ok(Some(host)) => {
                    let at = votes
                        .iter()
                        .position(|(_, voted)| *voted == host)
                        .unwrap_or_else(|| {
                            votes.push((0, host));
                            votes.len() - 1
                        });
                    votes[at].0 += 1;
                    if votes[at].0 > sentinels.len() / 2 {
                        return Ok(votes.swap_remove(at).1);
                    }
                }
                Ok(None) => failure = ConnectError::UnknownName(name.to_owned()),
                // A sentinel that does not know the name explains more than one that does not respond.
                Err(_) if matches!(failure, ConnectError::UnknownName(_)) => {}
                Err(error) => failure = ConnectError::NoSentinel(error),
            }
        }
        votes.sort_unstable_by_key(|(count, _)| *count);
        match (votes.pop(), votes.pop()) {
            (Some((most, _)), Some((next, _))) if most == next => Err(ConnectError::SentinelsDisagree),
            (Some((_, host)), _) => Ok(host),
            (None, _) => Err(failure),
        }
    }

    /// The primary according to one sentinel; `None` when it monitors none of that name.
    async fn query_sentinel(&self, host: &HostPort, name: &str) -> Result<Option<HostPort>, RedisError> {
        let mut sentinel = self
            .open(
                self.url().connection_to_sentinel(host),
                Some(self.config().command_timeout),
            )
            .await?;
        let found: Option<(String, u16)> = redis::cmd("SENTINEL")
            .arg("get-master-addr-by-name")
            .arg(name)
            .query_async(&mut sentinel)
            .await?;
        Ok(found.map(|(name, port)| HostPort::new(name, port)))
    }

    /// The owner of a slot. Members learn of a migration one after the other, so the named owner must confirm
    /// it.
    async fn confirmed_slot_owner(&self, member: &HostPort, slot: i64) -> Result<HostPort, ConnectError> {
        let mut owner = self.slot_owner(member, slot).await?;
        for _ in 0..REDIRECTS_MAX {
            let named = self.slot_owner(&owner, slot).await?;
            if named == owner {
                return Ok(owner);
            }
            owner = named;
        }
        Err(ConnectError::MembersDisagree)
    }

    async fn slot_owner(&self, host: &HostPort, slot: i64) -> Result<HostPort, ConnectError> {
        let ranges = self.cluster_slots(host).await?;
        let owner = ranges
            .into_iter()
            .find(|(from, to, _)| (*from..=*to).contains(&slot));
        owner.map(|(_, _, host)| host).ok_or(ConnectError::NoOwner)
    }

    /// The cluster map according to one member: first slot, last slot, primary.
    async fn cluster_slots(&self, host: &HostPort) -> Result<Vec<(i64, i64, HostPort)>, ConnectError> {
        let mut member = self
            .open(
                self.url().connection_to(host),
                Some(self.config().command_timeout),
            )
            .await?;
        let ranges: Vec<Vec<Value>> = redis::cmd("CLUSTER")
            .arg("SLOTS")
            .query_async(&mut member)
            .await?;
        let range = |row: &Vec<Value>| {
            let [Value::Int(from), Value::Int(to), Value::Array(primary), ..] = row.as_slice() else {
                return None;
            };
            let name: String = redis::from_redis_value(primary.first()?.clone()).ok()?;
            let port: u16 = redis::from_redis_value(primary.get(1)?.clone()).ok()?;
            // A member that does not know its own address omits it: it is the member that was queried.
            Some((
                *from,
                *to,
                HostPort::new(if name.is_empty() { host.name.clone() } else { name }, port),
            ))
        };
        ranges
            .iter()
            .map(range)
            .collect::<Option<_>>()
            .ok_or(ConnectError::UnreadableMap)
    }
}

/// The first success. Queries one host after the other, and the next one early when a host does not reply at
/// once.
async fn first_success<'f, T>(
    hosts: &'f [HostPort],
    query: impl Fn(&'f HostPort) -> BoxFuture<'f, Result<T, ConnectError>> + Send,
) -> Result<T, ConnectError> {
    let mut hosts = hosts.iter();
    let mut pending = FuturesUnordered::new();
    let mut failure = ConnectError::NoHost;
    pending.extend(hosts.next().map(&query));
    loop {
        tokio::select! {
            reply = pending.next() => match reply {
                Some(Ok(value)) => return Ok(value),
                Some(Err(error)) => {
                    failure = error;
                    pending.extend(hosts.next().map(&query));
                }
                None => return Err(failure),
            },
            () = tokio::time::sleep(HEDGE_DELAY), if hosts.len() > 0 => {
                pending.extend(hosts.next().map(&query));
            }
        }
    }
}
