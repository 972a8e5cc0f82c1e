//! Checks before anything is served that a Redis is fit for use: version, role, rights, eviction,
//! persistence.

use redis::{ErrorKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection};

use crate::platform::redis::{
    client::{Redis, info_field},
    errors::{ConnectError, Unfit},
    url::HostPort,
};

/// Before 7.0 scripts were replicated by their text instead of their effects; these scripts are not
/// deterministic.
const VERSION_MIN: (u32, u32) = (7, 0);

const PROBE: &str = "{stagedoor}:probe";

impl Redis {
    /// Checks every primary.
    ///
    /// # Errors
    /// [`Unfit`], the first finding.
    pub async fn check_fitness(&self) -> Result<(), Unfit> {
        let primaries = self
            .primaries()
            .await
            .map_err(|error| discovery_failure(self.url().to_string(), error))?;
        for host in primaries {
            let at = host.to_string();
            self.check_primary(&host).await.map_err(|error| match error {
                CheckError::Command(error) => command_failure(at.clone(), &error),
                CheckError::Unfit(unfit) => unfit,
            })?;
        }
        Ok(())
    }

    async fn check_primary(&self, host: &HostPort) -> Result<(), CheckError> {
        let at = host.to_string();
        let timeout = Some(self.config().command_timeout);
        let mut connection = self.open(self.url().connection_to(host), timeout).await?;
        let info: String = redis::cmd("INFO").query_async(&mut connection).await?;
        let field = |name: &str| info_field(&info, name);
        let version = field("redis_version").to_owned();
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < VERSION_MIN {
            return Err(Unfit::TooOld { at, version }.into());
        }
        if field("role") != "master" {
            return Err(Unfit::Replica { at }.into());
        }
        // The right to run scripts and the right to write are probed apart; the written key expires at once.
        let eval = redis::cmd("EVAL")
            .arg("return redis.call('EXISTS', KEYS[1])")
            .arg(1)
            .arg(PROBE)
            .query_async(&mut connection)
            .await;
        ignore_moved(eval)?;
        ignore_moved(
            redis::cmd("SET")
                .arg(PROBE)
                .arg(1)
                .arg("PX")
                .arg(1)
                .query_async(&mut connection)
                .await,
        )?;
        let replicas: u32 = field("connected_slaves").parse().unwrap_or(0);
        if self.config().allow_unsafe {
            return Ok(());
        }
        let policy = field("maxmemory_policy").to_owned();
        if policy != "noeviction" {
            return Err(Unfit::Evicts { at, policy }.into());
        }
        if replicas > 0
            && field("aof_enabled") != "1"
            && config_get(&mut connection, "save")
                .await?
                .is_some_and(|save| save.is_empty())
        {
            return Err(Unfit::NotPersistent { at }.into());
        }
        Ok(())
    }

    /// Raises `hash-max-listpack-entries` to at least `entries` on every primary, so that hashes up to this
    /// size stay in their compact encoding. `false` when a server does not permit it.
    ///
    /// # Errors
    /// [`ConnectError`]: a primary cannot be reached.
    pub async fn compact_hashes(&self, entries: u32) -> Result<bool, ConnectError> {
        const NAME: &str = "hash-max-listpack-entries";
        let mut is_compact = true;
        for host in self.primaries().await? {
            let mut connection = self
                .open(
                    self.url().connection_to(&host),
                    Some(self.config().command_timeout),
                )
                .await?;
            let now = config_get(&mut connection, NAME)
                .await?
                .and_then(|value| value.parse::<u32>().ok());
            if now.is_none_or(|now| now < entries) {
                let set: Result<(), _> = redis::cmd("CONFIG")
                    .arg("SET")
                    .arg(NAME)
                    .arg(entries)
                    .query_async(&mut connection)
                    .await;
                is_compact &= set.is_ok();
            }
        }
        Ok(is_compact)
    }
}

enum CheckError {
    Command(RedisError),
    Unfit(Unfit),
}

impl From<RedisError> for CheckError {
    fn from(error: RedisError) -> Self {
        Self::Command(error)
    }
}

impl From<Unfit> for CheckError {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

/// A cluster member that does not own the probe's slot replies `MOVED`, after it has checked the user's
/// rights: the command is permitted.
fn ignore_moved(reply: Result<Value, RedisError>) -> Result<(), RedisError> {
    match reply {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) => Ok(()),
        reply => reply.map(|_| ()),
    }
}

/// A setting's value; `None` where `CONFIG` is not permitted, as with many hosting providers.
async fn config_get(
    connection: &mut MultiplexedConnection,
    name: &str,
) -> Result<Option<String>, RedisError> {
    let reply: Result<Vec<String>, _> = redis::cmd("CONFIG")
        .arg("GET")
        .arg(name)
        .query_async(connection)
        .await;
    match reply {
        Ok(pair) => Ok(pair.into_iter().nth(1)),
        Err(error) if matches!(error.kind(), ErrorKind::Server(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn discovery_failure(at: String, error: ConnectError) -> Unfit {
    match error {
        ConnectError::Driver(error) => command_failure(at, &error),
        ConnectError::UnknownName(name) => Unfit::UnknownName { at, name },
        ConnectError::NoSentinel(error) => Unfit::Sentinels {
            at,
            why: error.to_string(),
        },
        ConnectError::SentinelsDisagree => Unfit::Sentinels {
            at,
            why: "they disagree".into(),
        },
        other => Unfit::Unreachable {
            at,
            why: other.to_string(),
        },
    }
}

fn command_failure(at: String, error: &RedisError) -> Unfit {
    match error.kind() {
        ErrorKind::AuthenticationFailed => Unfit::Login { at },
        ErrorKind::Server(ServerErrorKind::NoPerm) => Unfit::NotPermitted {
            at,
            what: error.detail().unwrap_or_default().to_owned(),
        },
        _ if ["NOAUTH", "WRONGPASS"]
            .iter()
            .any(|code| error.code() == Some(code)) =>
        {
            Unfit::Login { at }
        }
        _ => Unfit::Unreachable {
            at,
            why: error.to_string(),
        },
    }
}
