//! A Redis cluster of primaries, to which replicas can be added.

use redis::Value;

use super::server::{NAME, RedisServer, parse, wait_until};
use crate::{error::ServerError, process::free_port};

const SLOTS: usize = 16_384;
/// Keys that one `MIGRATE` moves.
const BATCH: usize = 64;

/// Primaries that share the slots evenly, and their replicas; stopped and removed when dropped.
pub struct RedisCluster {
    members: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts `count` primaries, assigns the slots, and waits until all members agree on the layout.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn start(count: usize) -> Result<Self, ServerError> {
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(RedisServer::start_member().await?);
        }
        let cluster = Self { members };
        for (at, member) in cluster.members.iter().enumerate() {
            let (from, to) = (at * SLOTS / count, (at + 1) * SLOTS / count - 1);
            member
                .run(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()])
                .await?;
            member
                .run(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()])
                .await?;
            if at > 0 {
                member.meet(&cluster.members[0]).await?;
            }
        }
        cluster.wait_until_agreed().await?;
        Ok(cluster)
    }

    /// Starts a replica of the member at index `at` and returns its index. The replica takes over two seconds
    /// after that member fails.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn add_replica_of(&mut self, at: usize) -> Result<usize, ServerError> {
        let replica = RedisServer::start_member().await?;
        replica.meet(&self.members[at]).await?;
        self.members.push(replica);
        self.wait_until_agreed().await?;
        let (index, primary) = (self.members.len() - 1, self.members[at].id().await?);
        self.members[index]
            .run(&["CLUSTER", "REPLICATE", &primary])
            .await?;
        self.members[index]
            .wait_until_info("master_link_status", "up")
            .await?;
        // Members vote only for a replica that they know as one.
        for member in &self.members {
            wait_until("all know the replica", async || {
                member.knows_replica_of(&primary).await
            })
            .await?;
        }
        Ok(index)
    }

    /// Connection URL that names all members, `redis+cluster://HOST:PORT,HOST:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self
            .members
            .iter()
            .map(|it| format!("127.0.0.1:{}", it.port))
            .collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    #[must_use]
    /// The member at this index; primaries first, in start order.
    pub fn member(&self, at: usize) -> &RedisServer {
        &self.members[at]
    }

    /// As [`RedisCluster::member`], to control the process.
    pub fn member_mut(&mut self, at: usize) -> &mut RedisServer {
        &mut self.members[at]
    }

    /// The index of the running member that owns the slot of this key.
    ///
    /// # Errors
    /// [`ServerError::Rejected`].
    pub async fn owner_of_key(&self, key: &str) -> Result<usize, ServerError> {
        for (at, member) in self
            .members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.process.is_some())
        {
            let slot: i64 = parse(member.run(&["CLUSTER", "KEYSLOT", key]).await?)?;
            let id = member.id().await?;
            let ranges: Vec<Vec<Value>> = parse(member.run(&["CLUSTER", "SLOTS"]).await?)?;
            for range in ranges {
                let [Value::Int(from), Value::Int(to), Value::Array(primary), ..] = range.as_slice() else {
                    continue;
                };
                let name: String = parse(primary.get(2).cloned().unwrap_or(Value::Nil))?;
                if (*from..=*to).contains(&slot) && name == id {
                    return Ok(at);
                }
            }
        }
        Err(ServerError::Rejected {
            server: NAME,
            reason: format!("no member owns the slot of {key}"),
        })
    }

    /// Waits until the member at index `at` owns the slot of this key.
    ///
    /// # Errors
    /// [`ServerError::DidNotStart`] on timeout.
    pub async fn wait_until_owner_of(&self, key: &str, at: usize) -> Result<(), ServerError> {
        wait_until("the slot moves", async || {
            self.owner_of_key(key).await.is_ok_and(|owner| owner == at)
        })
        .await
    }

    /// Moves the slot of this key to another member while it is in use, as `redis-cli --cluster reshard`
    /// does.
    ///
    /// # Errors
    /// [`ServerError::Rejected`].
    pub async fn move_slot_of_key(&self, key: &str, to: usize) -> Result<(), ServerError> {
        let from = self.owner_of_key(key).await?;
        if from == to {
            return Ok(());
        }
        let slot: i64 = parse(self.members[0].run(&["CLUSTER", "KEYSLOT", key]).await?)?;
        let slot = slot.to_string();
        let (source, target) = (&self.members[from], &self.members[to]);
        let (source_id, target_id) = (source.id().await?, target.id().await?);
        target
            .run(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id])
            .await?;
        source
            .run(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id])
            .await?;
        let port = target.port.to_string();
        loop {
            let keys: Vec<String> = parse(
                source
                    .run(&["CLUSTER", "GETKEYSINSLOT", &slot, &BATCH.to_string()])
                    .await?,
            )?;
            if keys.is_empty() {
                break;
            }
            let mut command = vec!["MIGRATE", "127.0.0.1", port.as_str(), "", "0", "5000", "KEYS"];
            command.extend(keys.iter().map(String::as_str));
            source.run(&command).await?;
        }
        target
            .run(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id])
            .await?;
        source
            .run(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id])
            .await?;
        for (_, member) in self
            .members
            .iter()
            .enumerate()
            .filter(|(at, _)| ![from, to].contains(at))
        {
            member
                .run(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id])
                .await?;
        }
        Ok(())
    }

    async fn wait_until_agreed(&self) -> Result<(), ServerError> {
        for member in &self.members {
            wait_until("the cluster's members agree", async || {
                member.sees(self.members.len()).await
            })
            .await?;
        }
        Ok(())
    }
}

impl RedisServer {
    async fn start_member() -> Result<Self, ServerError> {
        let bus = format!("cluster-port {}", free_port()?);
        let settings = [
            "cluster-enabled yes",
            "cluster-config-file nodes.conf",
            "cluster-node-timeout 2000",
            &bus,
        ];
        Self::start_with(&settings).await
    }

    fn bus_port(&self) -> String {
        self.settings
            .iter()
            .find_map(|line| line.strip_prefix("cluster-port "))
            .unwrap_or_default()
            .to_owned()
    }

    async fn meet(&self, other: &Self) -> Result<(), ServerError> {
        self.run(&[
            "CLUSTER",
            "MEET",
            "127.0.0.1",
            &other.port.to_string(),
            &other.bus_port(),
        ])
        .await
        .map(|_| ())
    }

    async fn id(&self) -> Result<String, ServerError> {
        parse(self.run(&["CLUSTER", "MYID"]).await?)
    }

    async fn sees(&self, members: usize) -> bool {
        let Ok(info) = self.run(&["CLUSTER", "INFO"]).await.and_then(parse::<String>) else {
            return false;
        };
        let known = format!("cluster_known_nodes:{members}");
        info.lines().any(|line| line == "cluster_state:ok") && info.lines().any(|line| line == known)
    }

    async fn knows_replica_of(&self, primary: &str) -> bool {
        let Ok(replicas) = self
            .run(&["CLUSTER", "REPLICAS", primary])
            .await
            .and_then(parse::<Vec<String>>)
        else {
            return false;
        };
        !replicas.is_empty()
    }
}
