//! A cluster of primaries, without replicas at first.

use redis::Value;

use super::{NAME, RedisServer, ServerError, free_port, read, until};

const SLOTS: usize = 16_384;
/// Keys handed over in one go.
const BATCH: usize = 64;

/// Several primaries that share the slots, and what replicas they were given; ended and removed when dropped.
pub struct RedisCluster {
    members: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts so many primaries, gives each its share of the slots, and waits until all agree.
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
        cluster.agreed().await?;
        Ok(cluster)
    }

    /// Starts one more member, which follows the one at this place and takes over from it when it fails; gives the new
    /// one's place. A failure is noticed after two seconds.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn add_replica_of(&mut self, at: usize) -> Result<usize, ServerError> {
        let replica = RedisServer::start_member().await?;
        replica.meet(&self.members[at]).await?;
        self.members.push(replica);
        self.agreed().await?;
        let (place, primary) = (self.members.len() - 1, self.members[at].id().await?);
        self.members[place]
            .run(&["CLUSTER", "REPLICATE", &primary])
            .await?;
        self.members[place].until("master_link_status", "up").await?;
        // Nobody votes for a replica that she does not know to be one.
        for member in &self.members {
            until("all know the replica", async || {
                member.names_replica_of(&primary).await
            })
            .await?;
        }
        Ok(place)
    }

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
    pub fn member(&self, at: usize) -> &RedisServer {
        &self.members[at]
    }

    pub fn member_mut(&mut self, at: usize) -> &mut RedisServer {
        &mut self.members[at]
    }

    /// Which of the running members has the slot of this key.
    ///
    /// # Errors
    /// [`ServerError::Refused`].
    pub async fn owner_of(&self, key: &str) -> Result<usize, ServerError> {
        for (at, member) in self
            .members
            .iter()
            .enumerate()
            .filter(|(_, it)| it.process.is_some())
        {
            let slot: i64 = read(member.run(&["CLUSTER", "KEYSLOT", key]).await?)?;
            let id = member.id().await?;
            let ranges: Vec<Vec<Value>> = read(member.run(&["CLUSTER", "SLOTS"]).await?)?;
            for range in ranges {
                let [Value::Int(from), Value::Int(to), Value::Array(primary), ..] = range.as_slice() else {
                    continue;
                };
                let name: String = read(primary.get(2).cloned().unwrap_or(Value::Nil))?;
                if (*from..=*to).contains(&slot) && name == id {
                    return Ok(at);
                }
            }
        }
        Err(ServerError::Refused {
            server: NAME,
            what: format!("nobody has the slot of {key}"),
        })
    }

    /// Waits until this member has the slot of this key.
    ///
    /// # Errors
    /// [`ServerError::DidNotStart`] when it does not come to that.
    pub async fn until_owner_of(&self, key: &str, at: usize) -> Result<(), ServerError> {
        until("the slot changes hands", async || {
            self.owner_of(key).await.is_ok_and(|owner| owner == at)
        })
        .await
    }

    /// Hands the slot of this key to another member while it is in use, the way `redis-cli --cluster reshard` does.
    ///
    /// # Errors
    /// [`ServerError::Refused`].
    pub async fn move_slot_of(&self, key: &str, to: usize) -> Result<(), ServerError> {
        let from = self.owner_of(key).await?;
        if from == to {
            return Ok(());
        }
        let slot: i64 = read(self.members[0].run(&["CLUSTER", "KEYSLOT", key]).await?)?;
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
            let keys: Vec<String> = read(
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

    async fn agreed(&self) -> Result<(), ServerError> {
        for member in &self.members {
            until("the cluster's members agree", async || {
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
            .find_map(|it| it.strip_prefix("cluster-port "))
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
        read(self.run(&["CLUSTER", "MYID"]).await?)
    }

    async fn sees(&self, members: usize) -> bool {
        let Ok(info) = self.run(&["CLUSTER", "INFO"]).await.and_then(read::<String>) else {
            return false;
        };
        let known = format!("cluster_known_nodes:{members}");
        info.lines().any(|it| it == "cluster_state:ok") && info.lines().any(|it| it == known)
    }

    async fn names_replica_of(&self, primary: &str) -> bool {
        let Ok(replicas) = self
            .run(&["CLUSTER", "REPLICAS", primary])
            .await
            .and_then(read::<Vec<String>>)
        else {
            return false;
        };
        !replicas.is_empty()
    }
}
