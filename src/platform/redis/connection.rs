//! One store's connection: kept up, identified, and used only under an epoch that somebody has vouched for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection};
use tokio::sync::watch;

use crate::platform::redis::{Call, CallError, Identity, Redis, Script, identify};
use crate::{kernel::Entropy, platform::shutdown::Lifecycle};

/// A connection and who answers on it.
#[derive(Clone)]
pub struct Link {
    pub connection: MultiplexedConnection,
    pub identity: Identity,
    /// `host:port`
    pub host: String,
    /// Its line's how-many-th.
    pub(crate) number: u64,
}

const RECONNECT_FIRST: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// How often it is asked who answers, and where the primary is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A call goes on trying for so many deadlines while its answers say that it was not done.
const PATIENCE: u32 = 4;
/// Second tries of calls whose fate is not known: a tenth of the calls, and so many at once.
const RETRY_COST: u32 = 10;
const RETRIES_MAX: u32 = 20;

/// One store's connection. Each call takes the connection and the epoch together, as they are at that moment.
pub struct Line {
    redis: Redis,
    tag: String,
    ready_key: String,
    state: ArcSwap<State>,
    /// The last epoch vouched for, and for whom: a server that comes back the same is trusted again.
    vouched: Mutex<Option<(u64, Identity)>>,
    /// The last connection, if it ended because another member of the cluster is to be asked.
    left: Mutex<Option<Link>>,
    changed: watch::Sender<u64>,
    links: AtomicU64,
    entropy: Arc<dyn Entropy>,
    retry_budget: AtomicU32,
}

#[derive(Clone, Default)]
struct State {
    /// `None`: the breaker is open, calls fail at once.
    link: Option<Link>,
    epoch: Option<u64>,
    /// Another member of the cluster has been named and is being reached: calls wait for it.
    is_moving: bool,
}

/// What to do about an error.
enum Trouble {
    /// It was not done, and the same server will take it soon.
    Soon,
    /// It was not done: another server is to be asked.
    Elsewhere,
    /// Nobody knows whether it was done.
    Unknown,
    Rebuilding,
    Refused,
}

impl Line {
    /// Starts to keep the connection up. Nothing waits for the first one.
    #[must_use]
    pub fn start(redis: Redis, tag: String, entropy: Arc<dyn Entropy>, life: &Lifecycle) -> Arc<Self> {
        let line = Arc::new(Self {
            ready_key: format!("{{{tag}}}:ready"),
            redis,
            tag,
            state: ArcSwap::default(),
            vouched: Mutex::default(),
            left: Mutex::default(),
            changed: watch::Sender::new(0),
            links: AtomicU64::new(0),
            entropy,
            retry_budget: AtomicU32::new(RETRIES_MAX * RETRY_COST),
        });
        let (kept, life_of_loop) = (Arc::clone(&line), life.clone());
        life.supervise("redis line", RECONNECT_FIRST, move || {
            let (line, life) = (Arc::clone(&kept), life_of_loop.clone());
            async move {
                tokio::select! {
                    () = life.stopping() => {}
                    () = line.keep_up() => {}
                }
            }
        });
        line
    }

    /// `{tag}:name`
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.tag)
    }

    #[must_use]
    pub fn ready_key(&self) -> &str {
        &self.ready_key
    }

    /// Who answers now, vouched for or not.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.state.load().link.as_ref().map(|link| link.identity.clone())
    }

    /// The epoch under which calls run now.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.state.load().epoch
    }

    /// Changes whenever the connection, its server or its epoch does.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// From now on calls run under this epoch, as long as this server answers.
    pub fn vouch(&self, epoch: u64, identity: &Identity) {
        *self.vouched.lock() = Some((epoch, identity.clone()));
        self.rcu(|state| {
            state.epoch = state
                .link
                .as_ref()
                .filter(|link| link.identity == *identity)
                .map(|_| epoch)
        });
    }

    /// Nothing runs any more until somebody vouches again.
    pub fn distrust(&self) {
        *self.vouched.lock() = None;
        self.rcu(|state| state.epoch = None);
    }

    /// Runs a script under the vouched epoch. Scripts may be run twice: each must be idempotent.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, script: &Script, call: Call) -> Result<Value, CallError> {
        self.run(script, call, true).await
    }

    /// Runs an unguarded script, whoever answers.
    ///
    /// # Errors
    /// [`CallError`], never [`CallError::Rebuilding`] of its own.
    pub async fn call_unguarded(&self, script: &Script, call: Call) -> Result<Value, CallError> {
        self.run(script, call, false).await
    }

    /// One plain command, whoever answers; not tried twice.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ask(&self, cmd: &Cmd) -> Result<Value, CallError> {
        let link = self.state.load().link.clone().ok_or(CallError::Away)?;
        self.send(&link, cmd)
            .await
            .map_err(|error| self.judge(&link, &error).1)
    }

    async fn run(&self, script: &Script, call: Call, guarded: bool) -> Result<Value, CallError> {
        self.earn_retry();
        let patience = self.redis.config().command_timeout * PATIENCE;
        tokio::time::timeout(patience, self.try_until_told(script, &call, guarded))
            .await
            .unwrap_or(Err(CallError::Away))
    }

    async fn try_until_told(&self, script: &Script, call: &Call, guarded: bool) -> Result<Value, CallError> {
        loop {
            let state = self.state.load_full();
            let Some(link) = &state.link else {
                if state.is_moving {
                    self.wait_until(|state| !state.is_moving).await;
                    continue;
                }
                return Err(CallError::Away);
            };
            let epoch = match (guarded, state.epoch) {
                (false, _) => None,
                (true, Some(epoch)) => Some(epoch),
                (true, None) => return Err(CallError::Rebuilding),
            };
            let error = match self.eval(link, script, call, epoch).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let (trouble, outcome) = self.judge(link, &error);
            let again = match trouble {
                Trouble::Rebuilding | Trouble::Refused => false,
                Trouble::Soon | Trouble::Elsewhere => true,
                // A deadline that has passed has used up the caller's patience; a connection that broke has not.
                Trouble::Unknown => !error.is_timeout() && self.spend_retry(),
            };
            if !again {
                tracing::debug!(script = script.name(), %error, "a call to Redis failed");
                return Err(outcome);
            }
            if matches!(trouble, Trouble::Soon) {
                tokio::time::sleep(Duration::from_millis(20).mul_f64(1.0 + self.entropy.unit())).await;
            } else {
                self.wait_until(|state| state.link.is_some()).await;
            }
        }
    }

    async fn eval(
        &self,
        link: &Link,
        script: &Script,
        call: &Call,
        epoch: Option<u64>,
    ) -> Result<Value, RedisError> {
        let cmd = call.of(script, epoch.map(|epoch| (self.ready_key.as_str(), epoch)));
        match self.send(link, &cmd).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send(link, &script.load()).await?;
                self.send(link, &cmd).await
            }
            answer => answer,
        }
    }

    async fn send(&self, link: &Link, cmd: &Cmd) -> Result<Value, RedisError> {
        let mut connection = link.connection.clone();
        connection
            .send_packed_command(cmd)
            .await
            .and_then(Value::extract_error)
    }

    /// What an error means, for the line and for the caller.
    fn judge(&self, link: &Link, error: &RedisError) -> (Trouble, CallError) {
        let trouble = match error.kind() {
            ErrorKind::Server(
                ServerErrorKind::TryAgain | ServerErrorKind::Ask | ServerErrorKind::ClusterDown,
            ) => Trouble::Soon,
            ErrorKind::Server(
                ServerErrorKind::Moved
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown,
            ) => Trouble::Elsewhere,
            ErrorKind::Server(_)
            | ErrorKind::Client
            | ErrorKind::UnexpectedReturnType
            | ErrorKind::AuthenticationFailed => Trouble::Refused,
            ErrorKind::Extension if error.code() == Some("REBUILDING") => Trouble::Rebuilding,
            ErrorKind::Extension => Trouble::Refused,
            _ => Trouble::Unknown,
        };
        match trouble {
            Trouble::Soon => (trouble, CallError::Away),
            Trouble::Elsewhere | Trouble::Unknown => {
                self.drop_link(link, error.kind() == ErrorKind::Server(ServerErrorKind::Moved));
                (trouble, CallError::Away)
            }
            Trouble::Rebuilding => {
                self.distrust();
                (trouble, CallError::Rebuilding)
            }
            Trouble::Refused => {
                metrics::counter!("redis_refusals_total").increment(1);
                // What Redis says of a script names keys and lines, never arguments.
                tracing::error!(%error, "Redis refused a call");
                (trouble, CallError::Refused(error.to_string()))
            }
        }
    }

    /// Opens the breaker, unless another connection has been made meanwhile.
    fn drop_link(&self, link: &Link, is_moving: bool) {
        let is_current = |state: &State| state.link.as_ref().is_some_and(|now| now.number == link.number);
        if is_moving && is_current(&self.state.load()) {
            *self.left.lock() = Some(link.clone());
        }
        let mut dropped = false;
        self.rcu(|state| {
            dropped = is_current(state);
            if dropped {
                *state = State {
                    is_moving,
                    ..State::default()
                };
            }
        });
        if dropped && !is_moving {
            metrics::counter!("redis_connections_lost_total").increment(1);
            tracing::warn!(
                server = link.host,
                "the connection to Redis is lost; trying to get it back"
            );
        }
    }

    async fn wait_until(&self, is_so: impl Fn(&State) -> bool) {
        let mut changes = self.changes();
        while !is_so(&self.state.load()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Connects, and looks once a second who is there.
    async fn keep_up(&self) {
        let mut changes = self.changes();
        let mut failures = 0_u32;
        loop {
            let link = self.state.load().link.clone();
            let Some(link) = link else {
                // Of use for the first try only: later, whoever had the data may have failed and been replaced.
                let left = self.left.lock().take();
                match self.redis.connect(&self.tag).await {
                    Ok(link) => {
                        failures = 0;
                        if let Some(left) = left {
                            self.follow_hand_over(left, &link).await;
                        }
                        self.raise(link);
                    }
                    Err(error) => {
                        self.rcu(|state| state.is_moving = false);
                        if failures.is_multiple_of(32) {
                            tracing::warn!(%error, redis = %self.redis.address(), "Redis cannot be reached");
                        }
                        let most = RECONNECT_FIRST
                            .saturating_mul(1 << failures.min(10))
                            .min(RECONNECT_MAX);
                        failures = failures.saturating_add(1);
                        tokio::time::sleep(most.mul_f64(0.5 + self.entropy.unit() / 2.0)).await;
                    }
                }
                continue;
            };
            if tokio::time::timeout(LOOK_EVERY, changes.changed()).await.is_err() {
                self.look(link).await;
            }
        }
    }

    /// A server that is still who it was, and says itself that the slot is another's, has handed it over with all its keys:
    /// trust goes with them. One that was replaced in a failover is no primary from the moment in which it says so.
    async fn follow_hand_over(&self, mut from: Link, to: &Link) {
        let deadline = self.redis.config().command_timeout;
        let is_itself = identify(&mut from.connection, deadline)
            .await
            .is_ok_and(|it| it == from.identity);
        if is_itself
            && self
                .redis
                .says_owner(&from.host, &self.tag)
                .await
                .is_some_and(|host| host == to.host)
        {
            let mut vouched = self.vouched.lock();
            if let Some((_, identity)) = vouched.as_mut().filter(|(_, it)| *it == from.identity) {
                tracing::info!(from = from.host, to = to.host, "the cluster has moved the data");
                *identity = to.identity.clone();
            }
        }
    }

    fn raise(&self, link: Link) {
        let link = Link {
            number: self.links.fetch_add(1, Ordering::Relaxed) + 1,
            ..link
        };
        tracing::info!(server = link.host, "connected to Redis");
        let epoch = self
            .vouched
            .lock()
            .as_ref()
            .filter(|(_, identity)| *identity == link.identity)
            .map(|(epoch, _)| *epoch);
        self.rcu(|state| {
            *state = State {
                link: Some(link.clone()),
                epoch,
                is_moving: false,
            }
        });
    }

    /// Whether the same server is still there, still the primary, and still the one to be asked.
    async fn look(&self, mut link: Link) {
        let before = link.clone();
        let deadline = self.redis.config().command_timeout;
        let is_itself = identify(&mut link.connection, deadline)
            .await
            .is_ok_and(|it| it == before.identity);
        if is_itself && self.is_still_primary(&before).await {
            return;
        }
        self.drop_link(&before, is_itself);
    }

    /// When nobody can say, the one that answers is kept.
    async fn is_still_primary(&self, link: &Link) -> bool {
        self.redis
            .primary_of(&self.tag)
            .await
            .map_or(true, |host| host.to_string() == link.host)
    }

    fn rcu(&self, mut change: impl FnMut(&mut State)) {
        let seen = |state: &State| {
            (
                state.link.as_ref().map(|it| it.number),
                state.epoch,
                state.is_moving,
            )
        };
        let mut is_new = false;
        self.state.rcu(|before| {
            let mut state = State::clone(before);
            change(&mut state);
            is_new = seen(&state) != seen(before);
            state
        });
        if is_new {
            self.changed.send_modify(|n| *n += 1);
        }
    }

    fn earn_retry(&self) {
        let full = RETRIES_MAX * RETRY_COST;
        let _ = self
            .retry_budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| {
                (it < full).then_some(it + 1)
            });
    }

    fn spend_retry(&self) -> bool {
        self.retry_budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| {
                it.checked_sub(RETRY_COST)
            })
            .is_ok()
    }
}
