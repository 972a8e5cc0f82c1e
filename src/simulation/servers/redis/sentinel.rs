//! A primary and its replica under the eyes of sentinels.

use std::{fs, process::Command};

use super::{
    Folder, Process, RedisServer, STARTS_MAX, ServerError, ask, did_not_start, free_port, info, read, signal,
    start_once, until,
};

/// What the sentinels call the primary.
const WATCHED: &str = "hero";
const COUNT: usize = 3;

/// So many must find the primary down before they replace it, after it was silent for a second: less, and a machine that
/// is busy looks like one that is dead. What does not succeed is tried again soon.
fn settings(port: u16, primary: u16, quorum: usize) -> String {
    format!(
        "port {port}\n\
         bind 127.0.0.1\n\
         protected-mode no\n\
         daemonize no\n\
         sentinel monitor {WATCHED} 127.0.0.1 {primary} {quorum}\n\
         sentinel down-after-milliseconds {WATCHED} 1000\n\
         sentinel failover-timeout {WATCHED} 3000\n"
    )
}

/// Three sentinels, a primary and a replica; ended and removed when dropped.
pub struct RedisSentinels {
    sentinels: Vec<RedisSentinel>,
    primary: RedisServer,
    replica: RedisServer,
}

impl RedisSentinels {
    /// Starts them, and waits until the sentinels know each other and the replica, so that they can replace the primary.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn start() -> Result<Self, ServerError> {
        let primary = RedisServer::start().await?;
        let replica = primary.replica().await?;
        let mut sentinels = Vec::new();
        for _ in 0..COUNT {
            sentinels.push(RedisSentinel::start(primary.port(), COUNT / 2 + 1).await?);
        }
        for sentinel in &sentinels {
            until("the sentinels know all", async || {
                sentinel.knows(COUNT - 1, 1).await
            })
            .await?;
        }
        Ok(Self {
            sentinels,
            primary,
            replica,
        })
    }

    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(WATCHED)
    }

    /// As [`RedisSentinels::url`], for a primary of this name.
    #[must_use]
    pub fn url_of(&self, name: &str) -> String {
        let hosts: Vec<String> = self
            .sentinels
            .iter()
            .map(|it| format!("127.0.0.1:{}", it.port))
            .collect();
        format!("redis+sentinel://{}/{name}", hosts.join(","))
    }

    /// The one that was the primary at first.
    #[must_use]
    pub fn primary(&self) -> &RedisServer {
        &self.primary
    }

    pub fn primary_mut(&mut self) -> &mut RedisServer {
        &mut self.primary
    }

    /// The one that was the replica at first.
    #[must_use]
    pub fn replica(&self) -> &RedisServer {
        &self.replica
    }

    #[must_use]
    pub fn sentinels(&self) -> &[RedisSentinel] {
        &self.sentinels
    }

    pub fn sentinels_mut(&mut self) -> &mut [RedisSentinel] {
        &mut self.sentinels
    }

    /// Has the replica put in the primary's place although nothing is wrong with it, as for maintenance.
    ///
    /// # Errors
    /// [`ServerError::Refused`].
    pub async fn swap(&self) -> Result<(), ServerError> {
        ask(&self.sentinels[0].url(), &["SENTINEL", "FAILOVER", WATCHED])
            .await
            .map(|_| ())
    }

    /// Waits until every sentinel says that the replica is the primary now.
    ///
    /// # Errors
    /// [`ServerError::DidNotStart`] when it does not come to that.
    pub async fn until_replaced(&self) -> Result<(), ServerError> {
        for sentinel in &self.sentinels {
            until("the replica is the primary", async || {
                sentinel.names().await.is_ok_and(|it| it == self.replica.port())
            })
            .await?;
        }
        Ok(())
    }
}

/// A sentinel; ended and removed when dropped.
pub struct RedisSentinel {
    port: u16,
    process: Option<Process>,
    folder: Folder,
}

impl RedisSentinel {
    /// One that knows of no other, and says of this server what the others say of theirs.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn alone(server: &RedisServer) -> Result<Self, ServerError> {
        Self::start(server.port(), 1).await
    }

    async fn start(primary: u16, quorum: usize) -> Result<Self, ServerError> {
        let mut sentinel = Self {
            port: 0,
            process: None,
            folder: Folder::new("sentinel")?,
        };
        for _ in 0..STARTS_MAX {
            sentinel.port = free_port()?;
            // It writes down there what it comes to know.
            let config = sentinel.folder.path().join("sentinel.conf");
            fs::write(&config, settings(sentinel.port, primary, quorum))?;
            let mut command = Command::new("redis-server");
            command.arg(&config).arg("--sentinel");
            let url = sentinel.url();
            let is_up = async |pid: u32| {
                info(&url, "process_id")
                    .await
                    .is_ok_and(|it| it == pid.to_string())
            };
            if let Some(process) = start_once(command, &sentinel.folder, is_up).await? {
                sentinel.process = Some(process);
                return Ok(sentinel);
            }
        }
        Err(did_not_start(&sentinel.folder))
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of the server that it says is the primary.
    ///
    /// # Errors
    /// [`ServerError::Refused`].
    pub async fn names(&self) -> Result<u16, ServerError> {
        let (_, port): (String, u16) =
            read(ask(&self.url(), &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", WATCHED]).await?)?;
        Ok(port)
    }

    /// # Errors
    /// [`ServerError::Io`].
    pub fn kill9(&mut self) -> Result<(), ServerError> {
        let Some(process) = self.process.take() else {
            return Ok(());
        };
        signal("KILL", &[process.pid()])?;
        process.wait();
        Ok(())
    }

    /// Stops its process where it stands. One that stood still for more than two seconds distrusts its clock when it goes
    /// on, and for half a minute only answers questions.
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn pause(&self) -> Result<(), ServerError> {
        Ok(signal("STOP", &self.pids())?)
    }

    /// # Errors
    /// [`ServerError::Io`].
    pub fn resume(&self) -> Result<(), ServerError> {
        Ok(signal("CONT", &self.pids())?)
    }

    async fn knows(&self, others: usize, replicas: usize) -> bool {
        let Ok(said) = ask(&self.url(), &["SENTINEL", "MASTER", WATCHED])
            .await
            .and_then(read::<Vec<String>>)
        else {
            return false;
        };
        let figure = |name: &str| {
            said.chunks(2)
                .find(|pair| pair[0] == name)?
                .get(1)?
                .parse::<usize>()
                .ok()
        };
        (figure("num-other-sentinels"), figure("num-slaves")) == (Some(others), Some(replicas))
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn pids(&self) -> Vec<u32> {
        self.process.iter().map(Process::pid).collect()
    }
}

impl Drop for RedisSentinel {
    fn drop(&mut self) {
        let _ = self.kill9();
    }
}
