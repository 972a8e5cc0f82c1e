//! A Redis primary with a replica, monitored by sentinels.

use std::{fs, process::Command};

use tempfile::TempDir;

use super::server::{
    RedisServer, STARTS_MAX, did_not_start, info, parse, send_command, start_once, wait_until,
};
use crate::{
    error::ServerError,
    process::{Process, free_port, signal, temp_folder},
};

/// The master name in the sentinels' configuration.
const MASTER_NAME: &str = "hero";
const COUNT: usize = 3;

/// A sentinel's configuration. The primary counts as down after a second of silence: with less, a busy test
/// machine looks like a dead server. `quorum` sentinels must agree; a failed failover is retried after three
/// seconds.
fn settings(port: u16, primary: u16, quorum: usize) -> String {
    format!(
        "port {port}\n\
         bind 127.0.0.1\n\
         protected-mode no\n\
         daemonize no\n\
         sentinel monitor {MASTER_NAME} 127.0.0.1 {primary} {quorum}\n\
         sentinel down-after-milliseconds {MASTER_NAME} 1000\n\
         sentinel failover-timeout {MASTER_NAME} 3000\n"
    )
}

/// Three sentinels, a primary and a replica; stopped and removed when dropped.
pub struct RedisSentinels {
    sentinels: Vec<RedisSentinel>,
    primary: RedisServer,
    replica: RedisServer,
}

impl RedisSentinels {
    /// Starts all and waits until the sentinels know each other and the replica, so that a failover is
    /// possible.
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
            wait_until("the sentinels know each other and the replica", async || {
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

    /// The URL of the monitored primary, `redis+sentinel://HOST,HOST,HOST/NAME`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(MASTER_NAME)
    }

    /// As [`RedisSentinels::url`], with another master name.
    #[must_use]
    pub fn url_of(&self, name: &str) -> String {
        let hosts: Vec<String> = self
            .sentinels
            .iter()
            .map(|it| format!("127.0.0.1:{}", it.port))
            .collect();
        format!("redis+sentinel://{}/{name}", hosts.join(","))
    }

    /// The server that was the primary at the start.
    #[must_use]
    pub fn primary(&self) -> &RedisServer {
        &self.primary
    }

    /// As [`RedisSentinels::primary`], to control the process.
    pub fn primary_mut(&mut self) -> &mut RedisServer {
        &mut self.primary
    }

    /// The server that was the replica at the start.
    #[must_use]
    pub fn replica(&self) -> &RedisServer {
        &self.replica
    }

    /// The three sentinels.
    #[must_use]
    pub fn sentinels(&self) -> &[RedisSentinel] {
        &self.sentinels
    }

    /// As [`RedisSentinels::sentinels`], to control the processes.
    pub fn sentinels_mut(&mut self) -> &mut [RedisSentinel] {
        &mut self.sentinels
    }

    /// Requests a planned failover from a healthy primary to the replica, as for maintenance.
    ///
    /// # Errors
    /// [`ServerError::Rejected`].
    pub async fn fail_over(&self) -> Result<(), ServerError> {
        send_command(&self.sentinels[0].url(), &["SENTINEL", "FAILOVER", MASTER_NAME])
            .await
            .map(|_| ())
    }

    /// Waits until every sentinel reports the former replica as the primary.
    ///
    /// # Errors
    /// [`ServerError::DidNotStart`] on timeout.
    pub async fn wait_until_failed_over(&self) -> Result<(), ServerError> {
        for sentinel in &self.sentinels {
            wait_until("the replica is the primary", async || {
                sentinel
                    .primary_port()
                    .await
                    .is_ok_and(|it| it == self.replica.port())
            })
            .await?;
        }
        Ok(())
    }
}

/// One sentinel; stopped and removed when dropped.
pub struct RedisSentinel {
    port: u16,
    process: Option<Process>,
    folder: TempDir,
}

impl RedisSentinel {
    /// Starts a sentinel with a quorum of one that monitors this server alone.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn single(server: &RedisServer) -> Result<Self, ServerError> {
        Self::start(server.port(), 1).await
    }

    async fn start(primary: u16, quorum: usize) -> Result<Self, ServerError> {
        let mut sentinel = Self {
            port: 0,
            process: None,
            folder: temp_folder("sentinel")?,
        };
        for _ in 0..STARTS_MAX {
            sentinel.port = free_port()?;
            // The sentinel rewrites this file with what it discovers.
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

    /// The port that the sentinel listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of the server that this sentinel reports as the primary.
    ///
    /// # Errors
    /// [`ServerError::Rejected`].
    pub async fn primary_port(&self) -> Result<u16, ServerError> {
        let (_, port): (String, u16) =
            parse(send_command(&self.url(), &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME]).await?)?;
        Ok(port)
    }

    /// Kills the sentinel, as a crash does.
    ///
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

    /// Suspends the process. A sentinel that was suspended for more than two seconds enters TILT mode when it
    /// continues, and for half a minute only answers queries.
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn pause(&self) -> Result<(), ServerError> {
        Ok(signal("STOP", &self.pids())?)
    }

    /// Continues after [`RedisSentinel::pause`].
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn resume(&self) -> Result<(), ServerError> {
        Ok(signal("CONT", &self.pids())?)
    }

    async fn knows(&self, others: usize, replicas: usize) -> bool {
        let Ok(fields) = send_command(&self.url(), &["SENTINEL", "MASTER", MASTER_NAME])
            .await
            .and_then(parse::<Vec<String>>)
        else {
            return false;
        };
        let field = |name: &str| {
            fields
                .chunks(2)
                .find(|pair| pair[0] == name)?
                .get(1)?
                .parse::<usize>()
                .ok()
        };
        (field("num-other-sentinels"), field("num-slaves")) == (Some(others), Some(replicas))
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
