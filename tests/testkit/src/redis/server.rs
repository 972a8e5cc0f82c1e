//! One Redis server, optionally a replica of another.

use std::{fs, io, path::PathBuf, process::Command, time::Duration};

use redis::{Client, ErrorKind, FromRedisValue, RedisError, Value, aio::MultiplexedConnection};

use tempfile::TempDir;

use crate::{
    error::ServerError,
    process::{POLL_INTERVAL, Process, START_TIMEOUT, free_port, signal, temp_folder},
};

pub(super) const NAME: &str = "Redis";
pub(super) const STARTS_MAX: u32 = 20;
/// The timeout of one administrative command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// As in production: a power cut loses at most the last second of acknowledged writes. Lines given to
/// [`RedisServer::start_with`] follow and override these.
const SETTINGS: &str = "\
bind 127.0.0.1
protected-mode no
daemonize no
save \"\"
appendonly yes
appendfsync everysec
repl-diskless-sync-delay 0
";

/// A running Redis server; stopped and removed when dropped.
pub struct RedisServer {
    pub(super) port: u16,
    pub(super) process: Option<Process>,
    pub(super) folder: TempDir,
    pub(super) settings: Vec<String>,
}

impl RedisServer {
    /// Starts a new, empty server with an append-only file and waits until it answers.
    ///
    /// # Errors
    /// [`ServerError::NotInstalled`], [`ServerError::DidNotStart`].
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_with(&[]).await
    }

    /// As [`RedisServer::start`], with additional configuration lines.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub async fn start_with(settings: &[&str]) -> Result<Self, ServerError> {
        let settings = settings.iter().map(|line| (*line).to_owned()).collect();
        let mut server = Self {
            port: 0,
            process: None,
            folder: temp_folder("redis")?,
            settings,
        };
        server.start_process(true).await?;
        Ok(server)
    }

    /// The server's URL, with the password of its `requirepass` line if it has one.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}127.0.0.1:{}", self.login(), self.port)
    }

    /// The port that the server listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends one command, given as separate arguments.
    ///
    /// # Errors
    /// [`ServerError::Rejected`], with the server's error text.
    pub async fn run(&self, command: &[&str]) -> Result<Value, ServerError> {
        send_command(&self.url(), command).await
    }

    /// One field of `INFO`; empty when the server does not report it.
    ///
    /// # Errors
    /// As [`RedisServer::run`].
    pub async fn info(&self, field: &str) -> Result<String, ServerError> {
        info(&self.url(), field).await
    }

    /// Kills the server, as a crash does. Writes that reached the kernel survive. While the disk is busy
    /// Redis may acknowledge before it writes, unless `appendfsync always` is set.
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

    /// Starts the server again on the same data and port; kills it first when it runs.
    ///
    /// # Errors
    /// [`ServerError::DidNotStart`].
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.kill9()?;
        self.start_process(false).await
    }

    /// As [`RedisServer::restart`], but deletes the data first.
    ///
    /// # Errors
    /// As [`RedisServer::restart`].
    pub async fn restart_empty(&mut self) -> Result<(), ServerError> {
        self.kill9()?;
        fs::remove_dir_all(self.data())?;
        self.start_process(false).await
    }

    /// Deletes every key.
    ///
    /// # Errors
    /// [`ServerError::Rejected`].
    pub async fn flush_all(&self) -> Result<(), ServerError> {
        self.run(&["FLUSHALL"]).await.map(|_| ())
    }

    /// Suspends the process: connections stay open and nothing is answered.
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn pause(&self) -> Result<(), ServerError> {
        Ok(signal("STOP", &self.pids())?)
    }

    /// Continues after [`RedisServer::pause`].
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn resume(&self) -> Result<(), ServerError> {
        Ok(signal("CONT", &self.pids())?)
    }

    /// Starts a replica of this server and waits until it is in sync.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn replica(&self) -> Result<Self, ServerError> {
        let follow = format!("replicaof 127.0.0.1 {}", self.port);
        let mut settings: Vec<String> = self.settings.clone();
        if let Some(password) = self.password() {
            settings.push(format!("masterauth {password}"));
        }
        settings.push(follow);
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let replica = Self::start_with(&settings).await?;
        replica.wait_until_info("master_link_status", "up").await?;
        Ok(replica)
    }

    /// Promotes a replica to a primary. Writes that were not replicated yet are lost.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn promote(&mut self) -> Result<(), ServerError> {
        self.run(&["REPLICAOF", "NO", "ONE"]).await?;
        self.settings.retain(|line| !line.starts_with("replicaof"));
        self.wait_until_info("role", "master").await
    }

    /// Waits until this replica has received everything that the primary has written so far.
    ///
    /// # Errors
    /// As [`RedisServer::wait_until_info`].
    pub async fn wait_until_synced_with(&self, primary: &Self) -> Result<(), ServerError> {
        let written: u64 = primary
            .info("master_repl_offset")
            .await?
            .parse()
            .unwrap_or(u64::MAX);
        let has = async || {
            self.info("slave_repl_offset")
                .await
                .ok()
                .and_then(|it| it.parse::<u64>().ok())
        };
        wait_until("the replica catches up", async || {
            has().await.is_some_and(|it| it >= written)
        })
        .await
    }

    /// Waits until an `INFO` field has this value.
    ///
    /// # Errors
    /// [`ServerError::DidNotStart`] on timeout.
    pub async fn wait_until_info(&self, field: &str, value: &str) -> Result<(), ServerError> {
        wait_until(&format!("{field} is {value}"), async || {
            self.info(field).await.ok().as_deref() == Some(value)
        })
        .await
    }

    /// Retries, because a free port may be taken before Redis binds it.
    async fn start_process(&mut self, any_port: bool) -> Result<(), ServerError> {
        for _ in 0..STARTS_MAX {
            if any_port {
                self.port = free_port()?;
            }
            fs::create_dir_all(self.data())?;
            let config = self.folder.path().join("redis.conf");
            fs::write(
                &config,
                format!("port {}\n{SETTINGS}{}\n", self.port, self.settings.join("\n")),
            )?;
            let mut command = Command::new("redis-server");
            command.arg(&config).arg("--dir").arg(self.data());
            let is_up = async |pid: u32| {
                self.info("process_id")
                    .await
                    .is_ok_and(|it| it == pid.to_string())
                    && self.info("loading").await.is_ok_and(|it| it == "0")
            };
            if let Some(process) = start_once(command, &self.folder, is_up).await? {
                self.process = Some(process);
                return Ok(());
            }
        }
        Err(did_not_start(&self.folder))
    }

    fn password(&self) -> Option<&str> {
        self.settings
            .iter()
            .rev()
            .find_map(|it| it.strip_prefix("requirepass "))
    }

    fn login(&self) -> String {
        self.password()
            .map_or_else(String::new, |password| format!(":{password}@"))
    }

    fn pids(&self) -> Vec<u32> {
        self.process.iter().map(Process::pid).collect()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.kill9();
    }
}

/// Starts the process once. `None`: it did not come up, and is stopped. `is_up` checks that this very process
/// answers, not another one on its port.
pub(super) async fn start_once(
    mut command: Command,
    folder: &TempDir,
    is_up: impl AsyncFn(u32) -> bool,
) -> Result<Option<Process>, ServerError> {
    let log = fs::File::create(log_path(folder))?;
    command
        .current_dir(folder.path())
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut process = Process::start(&mut command, "KILL", folder.path()).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => ServerError::NotInstalled("redis-server"),
        _ => ServerError::Io(e),
    })?;
    let pid = process.pid();
    let answered = tokio::time::timeout(START_TIMEOUT, async {
        while process.try_wait()?.is_none() {
            if is_up(pid).await {
                return Ok::<_, io::Error>(true);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(false)
    });
    if answered.await.unwrap_or(Ok(false))? {
        return Ok(Some(process));
    }
    signal("KILL", &[pid])?;
    process.wait();
    tokio::time::sleep(POLL_INTERVAL).await;
    Ok(None)
}

pub(super) fn did_not_start(folder: &TempDir) -> ServerError {
    ServerError::DidNotStart {
        server: NAME,
        log: fs::read_to_string(log_path(folder)).unwrap_or_default(),
    }
}

fn log_path(folder: &TempDir) -> PathBuf {
    folder.path().join("server.log")
}

async fn connect(url: &str) -> Result<MultiplexedConnection, RedisError> {
    let timed_out = |_| RedisError::from((ErrorKind::Io, "connection timed out"));
    let client = Client::open(url)?;
    tokio::time::timeout(COMMAND_TIMEOUT, client.get_multiplexed_async_connection())
        .await
        .map_err(timed_out)?
}

/// Sends one command on a connection of its own.
pub(super) async fn send_command(url: &str, command: &[&str]) -> Result<Value, ServerError> {
    let mut cmd = redis::cmd(command.first().copied().unwrap_or_default());
    cmd.arg(command.get(1..).unwrap_or_default());
    let rejected = |e: RedisError| ServerError::Rejected {
        server: NAME,
        reason: e.to_string(),
    };
    let mut connection = connect(url).await.map_err(rejected)?;
    let timed_out = |_| ServerError::Rejected {
        server: NAME,
        reason: "command timed out".into(),
    };
    tokio::time::timeout(COMMAND_TIMEOUT, cmd.query_async(&mut connection))
        .await
        .map_err(timed_out)?
        .map_err(rejected)
}

/// One field of `INFO` of the server at `url`.
pub(super) async fn info(url: &str, field: &str) -> Result<String, ServerError> {
    let info: String = parse(send_command(url, &["INFO", "everything"]).await?)?;
    let found = info
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(found.unwrap_or_default().trim().to_owned())
}

/// Converts a reply.
pub(super) fn parse<T: FromRedisValue>(value: Value) -> Result<T, ServerError> {
    redis::from_redis_value(value).map_err(|e| ServerError::Rejected {
        server: NAME,
        reason: e.to_string(),
    })
}

/// Polls until `condition` holds; `what` names it in the error.
pub(super) async fn wait_until(what: &str, condition: impl AsyncFn() -> bool) -> Result<(), ServerError> {
    let waiting = tokio::time::timeout(START_TIMEOUT, async {
        while !condition().await {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    });
    waiting.await.map_err(|_| ServerError::DidNotStart {
        server: NAME,
        log: format!("not reached in time: {what}"),
    })
}
