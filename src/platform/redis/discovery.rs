//! Where the data are: asked of sentinels, or of a cluster's members.

use std::time::Duration;

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use redis::{RedisError, Value};

use crate::platform::redis::{
    Redis,
    url::{self, Host, Topology},
};

/// So often a member of a cluster may name another one that names yet another.
const HOPS_MAX: u32 = 3;
/// Whoever has not answered after so long may be the very one that has failed: another one is asked as well.
const NEXT_AFTER: Duration = Duration::from_millis(100);

/// Why no primary was reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Driver(#[from] RedisError),
    /// What the last one that failed came to.
    #[error("no sentinel says where the primary is: {0}")]
    NoSentinel(RedisError),
    #[error("the sentinels watch no primary named {0}")]
    UnknownName(String),
    #[error("the sentinels do not agree where the primary is")]
    SentinelsDisagree,
    #[error("the cluster's members do not agree on a slot")]
    MembersDisagree,
    #[error("the cluster has no primary for a slot")]
    NoOwner,
    #[error("the cluster's map cannot be read")]
    UnreadableMap,
    #[error("no host is configured")]
    NoHost,
}

impl Redis {
    /// Where the tag's data are now.
    pub(crate) async fn primary_of(&self, tag: &str) -> Result<Host, ConnectError> {
        match &self.0.address.topology {
            Topology::Single(host) => Ok(host.clone()),
            Topology::Sentinel(sentinels, name) => self.by_most_sentinels(sentinels, name).await,
            Topology::Cluster(members) => {
                let slot = i64::from(url::slot_of(tag));
                first_answer(members, |host| Box::pin(self.owner_by(host, slot))).await
            }
        }
    }

    /// Whose the tag's data are by the word of this member of a cluster.
    pub(crate) async fn says_owner(&self, member: &str, tag: &str) -> Option<String> {
        let Topology::Cluster(_) = self.0.address.topology else {
            return None;
        };
        let (name, port) = member.rsplit_once(':')?;
        let member = Host::new(name, port.parse().ok()?);
        self.ask_member(&member, i64::from(url::slot_of(tag)))
            .await
            .ok()
            .map(|it| it.to_string())
    }

    /// Every primary, once: for what is checked at start.
    pub(crate) async fn primaries(&self) -> Result<Vec<Host>, ConnectError> {
        let Topology::Cluster(members) = &self.0.address.topology else {
            return Ok(vec![self.primary_of("").await?]);
        };
        let ranges = first_answer(members, |host| Box::pin(self.slots_by(host))).await?;
        let mut primaries: Vec<Host> = Vec::new();
        for (_, _, host) in ranges {
            if !primaries.contains(&host) {
                primaries.push(host);
            }
        }
        Ok(primaries)
    }

    /// All are asked at once, and more than half of them must agree, or the most of those who answer when no more do: one
    /// that slept through a failover names the old primary until it has heard of it, and a primary that has come back
    /// says the same of itself until the sentinels tell it otherwise.
    async fn by_most_sentinels(&self, sentinels: &[Host], name: &str) -> Result<Host, ConnectError> {
        let mut answers: FuturesUnordered<_> =
            sentinels.iter().map(|it| self.ask_sentinel(it, name)).collect();
        let mut votes: Vec<(usize, Host)> = Vec::new();
        let mut failure = ConnectError::NoHost;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(Some(host)) => {
                    let at = votes.iter().position(|(_, it)| *it == host).unwrap_or_else(|| {
                        votes.push((0, host));
                        votes.len() - 1
                    });
                    votes[at].0 += 1;
                    if votes[at].0 > sentinels.len() / 2 {
                        return Ok(votes.swap_remove(at).1);
                    }
                }
                Ok(None) => failure = ConnectError::UnknownName(name.to_owned()),
                // That one does not answer says less than that another knows nothing.
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

    /// `None`: it watches no primary of that name.
    async fn ask_sentinel(&self, host: &Host, name: &str) -> Result<Option<Host>, RedisError> {
        let mut sentinel = self
            .open(
                self.0.address.connection_to_sentinel(host),
                Some(self.0.config.command_timeout),
            )
            .await?;
        let found: Option<(String, u16)> = redis::cmd("SENTINEL")
            .arg("get-master-addr-by-name")
            .arg(name)
            .query_async(&mut sentinel)
            .await?;
        Ok(found.map(|(name, port)| Host::new(name, port)))
    }

    /// Members learn of a move one after the other; whoever has the slot by one's word must say so herself.
    async fn owner_by(&self, member: &Host, slot: i64) -> Result<Host, ConnectError> {
        let mut owner = self.ask_member(member, slot).await?;
        for _ in 0..HOPS_MAX {
            let named = self.ask_member(&owner, slot).await?;
            if named == owner {
                return Ok(owner);
            }
            owner = named;
        }
        Err(ConnectError::MembersDisagree)
    }

    async fn ask_member(&self, host: &Host, slot: i64) -> Result<Host, ConnectError> {
        let ranges = self.slots_by(host).await?;
        let owner = ranges
            .into_iter()
            .find(|(from, to, _)| (*from..=*to).contains(&slot));
        owner.map(|(_, _, host)| host).ok_or(ConnectError::NoOwner)
    }

    /// First slot, last slot, primary.
    async fn slots_by(&self, host: &Host) -> Result<Vec<(i64, i64, Host)>, ConnectError> {
        let mut member = self
            .open(
                self.0.address.connection_to(host),
                Some(self.0.config.command_timeout),
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
            // A member that does not know its own address leaves it out: it is the one that was asked.
            Some((
                *from,
                *to,
                Host::new(if name.is_empty() { host.name.clone() } else { name }, port),
            ))
        };
        ranges
            .iter()
            .map(range)
            .collect::<Option<_>>()
            .ok_or(ConnectError::UnreadableMap)
    }
}

/// The first good answer: one after the other is asked, and the next one as well when one does not answer at once.
async fn first_answer<'f, T>(
    hosts: &'f [Host],
    ask: impl Fn(&'f Host) -> BoxFuture<'f, Result<T, ConnectError>> + Send,
) -> Result<T, ConnectError> {
    let (mut hosts, mut asked, mut failure) = (hosts.iter(), FuturesUnordered::new(), ConnectError::NoHost);
    asked.extend(hosts.next().map(&ask));
    loop {
        tokio::select! {
            answer = asked.next() => match answer {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(error)) => {
                    failure = error;
                    asked.extend(hosts.next().map(&ask));
                }
                None => return Err(failure),
            },
            () = tokio::time::sleep(NEXT_AFTER), if hosts.len() > 0 => asked.extend(hosts.next().map(&ask)),
        }
    }
}
