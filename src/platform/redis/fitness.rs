//! Whether a Redis can be relied on, asked before anything is served.

use redis::{ErrorKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection};

use crate::platform::redis::{Redis, discovery::ConnectError, url::Host};

/// Before 7.0 scripts were replicated by their text, which is not what these scripts are written for.
const VERSION_MIN: (u32, u32) = (7, 0);

const PROBE: &str = "{stagedoor}:probe";

/// Why a node does not start on this Redis, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("Redis at {at} cannot be reached: {why}; is the address right, is it running?")]
    Unreachable { at: String, why: String },
    #[error(
        "the sentinels at {at} do not say where the primary is: {why}; are their addresses right, are they running, do they answer without a password?"
    )]
    Sentinels { at: String, why: String },
    #[error(
        "the sentinels at {at} watch no primary named {name}; end the URL with the name that they have in `sentinel monitor NAME ...`"
    )]
    UnknownName { at: String, name: String },
    #[error(
        "Redis at {at} refuses the login; set the user and password in the URL: redis://USER:PASSWORD@HOST:PORT"
    )]
    Login { at: String },
    #[error(
        "Redis at {at} is a replica and takes no writes; name its primary, or the sentinels that know it: redis+sentinel://..."
    )]
    Replica { at: String },
    #[error("Redis at {at} is version {version}; at least 7.0 is needed")]
    TooOld { at: String, version: String },
    #[error(
        "Redis at {at} does not permit what is needed ({what}); give its user these rights: ~* +@all -@admin +info +cluster|slots +script|load"
    )]
    NotPermitted { at: String, what: String },
    #[error(
        "Redis at {at} has maxmemory-policy {policy} and would drop places and holds when it is full; set noeviction, or engine.redis.accept_risky"
    )]
    Evicts { at: String, policy: String },
    #[error(
        "Redis at {at} has replicas and no persistence: when it restarts, it comes back empty and empties them too; \
         set appendonly yes, or engine.redis.accept_risky"
    )]
    ForgetsWithReplicas { at: String },
}

impl Redis {
    /// Looks at every primary.
    ///
    /// # Errors
    /// [`Unfit`], the first that is found.
    pub async fn examine(&self) -> Result<(), Unfit> {
        let primaries = self
            .primaries()
            .await
            .map_err(|error| unfound(self.address().to_string(), error))?;
        for host in primaries {
            let at = host.to_string();
            self.examine_one(&host).await.map_err(|error| match error {
                Finding::Answer(error) => unfit(at.clone(), &error),
                Finding::Unfit(unfit) => unfit,
            })?;
        }
        Ok(())
    }

    async fn examine_one(&self, host: &Host) -> Result<(), Finding> {
        let at = host.to_string();
        let deadline = Some(self.config().command_timeout);
        let mut connection = self.open(self.address().connection_to(host), deadline).await?;
        let info: String = redis::cmd("INFO").query_async(&mut connection).await?;
        let field = |name: &str| {
            info.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or_default()
                .trim()
        };
        let version = field("redis_version").to_owned();
        let mut parts = version.split('.').map(|it| it.parse::<u32>().unwrap_or(0));
        if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < VERSION_MIN {
            return Err(Unfit::TooOld { at, version }.into());
        }
        if field("role") != "master" {
            return Err(Unfit::Replica { at }.into());
        }
        // A script that calls nothing can be run wherever scripts can; what it would write is seen at the first real one.
        let eval = redis::cmd("EVAL")
            .arg("return redis.call('EXISTS', KEYS[1])")
            .arg(1)
            .arg(PROBE)
            .query_async(&mut connection)
            .await;
        permitted(eval)?;
        permitted(
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
            && setting(&mut connection, "save")
                .await?
                .is_some_and(|save| save.is_empty())
        {
            return Err(Unfit::ForgetsWithReplicas { at }.into());
        }
        Ok(())
    }

    /// Makes room for `entries` in the compact form of a hash on every primary; says whether there is.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn compact_hashes(&self, entries: u32) -> Result<bool, ConnectError> {
        const NAME: &str = "hash-max-listpack-entries";
        let mut all = true;
        for host in self.primaries().await? {
            let mut connection = self
                .open(
                    self.address().connection_to(&host),
                    Some(self.config().command_timeout),
                )
                .await?;
            let now = setting(&mut connection, NAME)
                .await?
                .and_then(|it| it.parse::<u32>().ok());
            if now.is_none_or(|now| now < entries) {
                let set: Result<(), _> = redis::cmd("CONFIG")
                    .arg("SET")
                    .arg(NAME)
                    .arg(entries)
                    .query_async(&mut connection)
                    .await;
                all &= set.is_ok();
            }
        }
        Ok(all)
    }
}

enum Finding {
    Answer(RedisError),
    Unfit(Unfit),
}

impl From<RedisError> for Finding {
    fn from(error: RedisError) -> Self {
        Self::Answer(error)
    }
}

impl From<Unfit> for Finding {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

/// A member of a cluster that does not have the probe's slot says whose it is, but only to those who may do this at all.
fn permitted(answer: Result<Value, RedisError>) -> Result<(), RedisError> {
    match answer {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) => Ok(()),
        answer => answer.map(|_| ()),
    }
}

/// A setting's value; `None` where it may not be asked for, as at many providers.
async fn setting(connection: &mut MultiplexedConnection, name: &str) -> Result<Option<String>, RedisError> {
    let asked: Result<Vec<String>, _> = redis::cmd("CONFIG")
        .arg("GET")
        .arg(name)
        .query_async(connection)
        .await;
    match asked {
        Ok(pair) => Ok(pair.into_iter().nth(1)),
        Err(error) if matches!(error.kind(), ErrorKind::Server(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn unfound(at: String, error: ConnectError) -> Unfit {
    match error {
        ConnectError::Driver(error) => unfit(at, &error),
        ConnectError::UnknownName(name) => Unfit::UnknownName { at, name },
        ConnectError::NoSentinel(error) => Unfit::Sentinels {
            at,
            why: error.to_string(),
        },
        ConnectError::SentinelsDisagree => Unfit::Sentinels {
            at,
            why: "they do not agree".into(),
        },
        other => Unfit::Unreachable {
            at,
            why: other.to_string(),
        },
    }
}

fn unfit(at: String, error: &RedisError) -> Unfit {
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
