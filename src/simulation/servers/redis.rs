//! Redis servers: one alone, a primary with its replica, the same under the eyes of sentinels, a cluster, and a door
//! before one of them that can be led elsewhere or shut.

mod cluster;
mod door;
mod sentinel;

use std::{fs, io, path::PathBuf, process::Command, time::Duration};

use redis::{Client, ErrorKind, FromRedisValue, RedisError, Value, aio::MultiplexedConnection};

use super::{Folder, LOOK_EVERY, PATIENCE, Process, ServerError, free_port, signal};

pub use self::{
    cluster::RedisCluster,
    door::Door,
    sentinel::{RedisSentinel, RedisSentinels},
};

const NAME: &str = "Redis";
const STARTS_MAX: u32 = 20;
/// Of one command to a server that is asked to do something to itself.
const COMMAND_WITHIN: Duration = Duration::from_secs(10);

/// As in production: what was acknowledged is lost by at most a second of power cut. Lines given to
/// [`RedisServer::start_with`] come after these and win.
const SETTINGS: &str = "\
bind 127.0.0.1
protected-mode no
daemonize no
save \"\"
appendonly yes
appendfsync everysec
repl-diskless-sync-delay 0
";

/// A running server; ended and removed when dropped.
pub struct RedisServer {
    port: u16,
    process: Option<Process>,
    folder: Folder,
    settings: Vec<String>,
}

impl RedisServer {
    /// Starts a new, empty server that keeps an append-only file, and waits until it answers.
    ///
    /// # Errors
    /// [`ServerError`]: it is not installed, or did not start.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_with(&[]).await
    }

    /// As [`RedisServer::start`], with more lines for its configuration.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub async fn start_with(settings: &[&str]) -> Result<Self, ServerError> {
        let settings = settings.iter().map(|it| (*it).to_owned()).collect();
        let mut server = Self {
            port: 0,
            process: None,
            folder: Folder::new("redis")?,
            settings,
        };
        server.bring_up(true).await?;
        Ok(server)
    }

    /// Where it is, with its password if it has one.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}127.0.0.1:{}", self.login(), self.port)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends one command, words apart.
    ///
    /// # Errors
    /// [`ServerError::Refused`], with what the server said.
    pub async fn run(&self, command: &[&str]) -> Result<Value, ServerError> {
        ask(&self.url(), command).await
    }

    /// One field of what it tells about itself.
    ///
    /// # Errors
    /// As [`RedisServer::run`].
    pub async fn info(&self, field: &str) -> Result<String, ServerError> {
        info(&self.url(), field).await
    }

    /// Kills it, as a crash does: what it had written is in the kernel's hands and is kept. While the disk is busy it
    /// answers before it writes, unless `appendfsync always` is set.
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

    /// Starts it again on the same data and port, killing it first when it runs.
    ///
    /// # Errors
    /// [`ServerError::DidNotStart`].
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.kill9()?;
        self.bring_up(false).await
    }

    /// As [`RedisServer::restart`], with nothing left of its data.
    ///
    /// # Errors
    /// As [`RedisServer::restart`].
    pub async fn restart_empty(&mut self) -> Result<(), ServerError> {
        self.kill9()?;
        fs::remove_dir_all(self.data())?;
        self.bring_up(false).await
    }

    /// Empties it.
    ///
    /// # Errors
    /// [`ServerError::Refused`].
    pub async fn flush_all(&self) -> Result<(), ServerError> {
        self.run(&["FLUSHALL"]).await.map(|_| ())
    }

    /// Stops its process where it stands: connections stay open and nothing is answered.
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

    /// A second server that has all of this one's data and follows it.
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
        replica.until("master_link_status", "up").await?;
        Ok(replica)
    }

    /// Makes a replica a primary of its own: what it has not been sent yet is lost to it.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn promote(&mut self) -> Result<(), ServerError> {
        self.run(&["REPLICAOF", "NO", "ONE"]).await?;
        self.settings.retain(|it| !it.starts_with("replicaof"));
        self.until("role", "master").await
    }

    /// Waits until this replica has all that its primary has written so far.
    ///
    /// # Errors
    /// As [`RedisServer::until`].
    pub async fn until_it_has(&self, primary: &Self) -> Result<(), ServerError> {
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
        until("the replica catches up", async || {
            has().await.is_some_and(|it| it >= written)
        })
        .await
    }

    /// Waits until it tells this about itself.
    ///
    /// # Errors
    /// [`ServerError::DidNotStart`] when it does not come to that.
    pub async fn until(&self, field: &str, value: &str) -> Result<(), ServerError> {
        until(&format!("{field} is {value}"), async || {
            self.info(field).await.ok().as_deref() == Some(value)
        })
        .await
    }

    /// A port that is free when it is looked may be taken when it is used: then another one is tried.
    async fn bring_up(&mut self, may_move: bool) -> Result<(), ServerError> {
        for _ in 0..STARTS_MAX {
            if may_move {
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

/// Whether this process, and no other on its port, came to answer; it is gone when it did not.
async fn start_once(
    mut command: Command,
    folder: &Folder,
    is_up: impl AsyncFn(u32) -> bool,
) -> Result<Option<Process>, ServerError> {
    let log = fs::File::create(log_in(folder))?;
    command
        .current_dir(folder.path())
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut process = Process::start(&mut command, "KILL", folder.path()).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => ServerError::NotInstalled("redis-server"),
        _ => ServerError::Io(e),
    })?;
    let pid = process.pid();
    let answered = tokio::time::timeout(PATIENCE, async {
        while process.ended()?.is_none() {
            if is_up(pid).await {
                return Ok::<_, io::Error>(true);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(false)
    });
    if answered.await.unwrap_or(Ok(false))? {
        return Ok(Some(process));
    }
    signal("KILL", &[pid])?;
    process.wait();
    tokio::time::sleep(LOOK_EVERY).await;
    Ok(None)
}

fn did_not_start(folder: &Folder) -> ServerError {
    ServerError::DidNotStart {
        server: NAME,
        log: fs::read_to_string(log_in(folder)).unwrap_or_default(),
    }
}

fn log_in(folder: &Folder) -> PathBuf {
    folder.path().join("server.log")
}

async fn connect(url: &str) -> Result<MultiplexedConnection, RedisError> {
    let late = |_| RedisError::from((ErrorKind::Io, "no connection in time"));
    let client = Client::open(url)?;
    tokio::time::timeout(COMMAND_WITHIN, client.get_multiplexed_async_connection())
        .await
        .map_err(late)?
}

/// One command, words apart.
async fn ask(url: &str, command: &[&str]) -> Result<Value, ServerError> {
    let mut cmd = redis::cmd(command.first().copied().unwrap_or_default());
    cmd.arg(command.get(1..).unwrap_or_default());
    let refused = |e: RedisError| ServerError::Refused {
        server: NAME,
        what: e.to_string(),
    };
    let mut connection = connect(url).await.map_err(refused)?;
    let late = |_| ServerError::Refused {
        server: NAME,
        what: "no answer in time".into(),
    };
    tokio::time::timeout(COMMAND_WITHIN, cmd.query_async(&mut connection))
        .await
        .map_err(late)?
        .map_err(refused)
}

async fn info(url: &str, field: &str) -> Result<String, ServerError> {
    let info: String = read(ask(url, &["INFO", "everything"]).await?)?;
    let found = info
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(found.unwrap_or_default().trim().to_owned())
}

fn read<T: FromRedisValue>(value: Value) -> Result<T, ServerError> {
    redis::from_redis_value(value).map_err(|e| ServerError::Refused {
        server: NAME,
        what: e.to_string(),
    })
}

/// Looks until it is so.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) -> Result<(), ServerError> {
    let waiting = tokio::time::timeout(PATIENCE, async {
        while !is_so().await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    waiting.await.map_err(|_| ServerError::DidNotStart {
        server: NAME,
        log: format!("it did not come to this: {what}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn value(server: &RedisServer) -> Value {
        server.run(&["GET", "a"]).await.unwrap()
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[tokio::test]
    async fn what_was_written_outlives_a_kill_and_a_replica_has_it_too() {
        let mut server = RedisServer::start_with(&["appendfsync always"]).await.unwrap();
        server.run(&["SET", "a", "1"]).await.unwrap();
        server.kill9().unwrap();
        assert!(server.run(&["GET", "a"]).await.is_err(), "it is gone");
        server.restart().await.unwrap();
        assert_eq!(value(&server).await, text("1"));
        let mut replica = server.replica().await.unwrap();
        assert_eq!(value(&replica).await, text("1"));
        replica.promote().await.unwrap();
        server.run(&["SET", "a", "2"]).await.unwrap();
        assert_eq!(value(&replica).await, text("1"), "it follows no longer");
        server.restart_empty().await.unwrap();
        assert_eq!(value(&server).await, Value::Nil);
        let folder = server.folder.path().to_owned();
        drop(server);
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn a_cluster_gives_a_slot_with_all_its_keys_to_another() {
        let cluster = RedisCluster::start(3).await.unwrap();
        let owner = cluster.owner_of("{a}").await.unwrap();
        cluster.member(owner).run(&["SET", "{a}:x", "1"]).await.unwrap();
        cluster.member(owner).run(&["SET", "{a}:y", "2"]).await.unwrap();
        let next = (owner + 1) % 3;
        cluster.move_slot_of("{a}", next).await.unwrap();
        assert_eq!(cluster.owner_of("{a}").await.unwrap(), next);
        assert_eq!(
            cluster.member(next).run(&["GET", "{a}:y"]).await.unwrap(),
            text("2")
        );
        let elsewhere = cluster
            .member(owner)
            .run(&["GET", "{a}:y"])
            .await
            .unwrap_err()
            .to_string();
        assert!(elsewhere.contains("Moved"), "{elsewhere}");
    }

    #[tokio::test]
    async fn a_replica_in_a_cluster_takes_over_when_its_primary_is_killed() {
        let mut cluster = RedisCluster::start(3).await.unwrap();
        let owner = cluster.owner_of("{a}").await.unwrap();
        let replica = cluster.add_replica_of(owner).await.unwrap();
        cluster.member(owner).run(&["SET", "{a}:x", "1"]).await.unwrap();
        cluster
            .member(replica)
            .until_it_has(cluster.member(owner))
            .await
            .unwrap();
        cluster.member_mut(owner).kill9().unwrap();
        cluster.until_owner_of("{a}", replica).await.unwrap();
        assert_eq!(
            cluster.member(replica).run(&["GET", "{a}:x"]).await.unwrap(),
            text("1")
        );
    }

    #[tokio::test]
    async fn sentinels_put_the_replica_in_place_of_a_primary_that_is_killed() {
        let mut watched = RedisSentinels::start().await.unwrap();
        watched.primary().run(&["SET", "a", "1"]).await.unwrap();
        watched.replica().until_it_has(watched.primary()).await.unwrap();
        for sentinel in watched.sentinels() {
            assert_eq!(sentinel.names().await.unwrap(), watched.primary().port());
        }
        watched.primary_mut().kill9().unwrap();
        watched.until_replaced().await.unwrap();
        assert_eq!(watched.replica().info("role").await.unwrap(), "master");
        assert_eq!(value(watched.replica()).await, text("1"));
    }

    #[tokio::test]
    async fn a_door_leads_to_another_server_and_can_be_shut() {
        let (first, second) = (
            RedisServer::start().await.unwrap(),
            RedisServer::start().await.unwrap(),
        );
        second.run(&["SET", "a", "2"]).await.unwrap();
        let door = Door::before(first.port()).await.unwrap();
        let through = async || {
            let mut connection = Client::open(door.url())
                .unwrap()
                .get_multiplexed_async_connection()
                .await?;
            redis::cmd("GET")
                .arg("a")
                .query_async::<Option<String>>(&mut connection)
                .await
        };
        assert_eq!(through().await.unwrap(), None);
        door.lead_to(second.port());
        assert_eq!(through().await.unwrap().as_deref(), Some("2"));
        door.shut();
        assert!(through().await.is_err());
        door.lead_to(first.port());
        assert_eq!(through().await.unwrap(), None);
    }
}
