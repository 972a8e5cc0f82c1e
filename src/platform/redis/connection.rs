//! A store's connection: reconnects by itself, knows the dataset behind it, and runs scripts only under an
//! epoch that the store has activated for this dataset.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::sync::watch;

use crate::{
    kernel::{Entropy, Stopwatch},
    platform::{
        redis::{
            client::{Connection, DatasetId, Redis, read_dataset_id},
            errors::CallError,
            script::{Call, Script},
        },
        shutdown::Lifecycle,
    },
};

const RECONNECT_FIRST: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// How often the dataset and the location of the primary are checked.
const HEALTH_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A call is retried for this many command timeouts, as long as the replies say that it was not executed.
const CALL_TIMEOUTS_MAX: u32 = 4;
/// Retry budget for calls with an unknown outcome: one retry costs ten calls, and so many can be saved up. It
/// keeps retries from doubling the load on a server in trouble.
const RETRY_COST: u32 = 10;
const RETRIES_MAX: u32 = 20;

/// A store's connection, fenced by epochs. Each call reads connection and epoch as one consistent pair.
pub struct FencedConnection {
    redis: Redis,
    tag: String,
    ready_key: String,
    state: ArcSwap<State>,
    /// The last activated epoch and its dataset: a server that comes back with the same dataset needs no new
    /// activation.
    activated: Mutex<Option<(u64, DatasetId)>>,
    /// The last connection, if it was dropped because the slot has moved to another cluster member.
    redirected_from: Mutex<Option<Connection>>,
    changed: watch::Sender<u64>,
    connections_made: AtomicU64,
    entropy: Arc<dyn Entropy>,
    retry_budget: AtomicU32,
}

#[derive(Clone, Default)]
struct State {
    /// `None`: calls fail at once.
    connection: Option<Connection>,
    epoch: Option<u64>,
    /// A connection to another cluster member is being made: calls wait for it.
    is_redirecting: bool,
}

/// How to react to an error.
enum ErrorClass {
    /// It was not executed, and the same server will accept it soon.
    RetrySoon,
    /// It was not executed: another server is responsible.
    OtherServer,
    /// It may have been executed.
    OutcomeUnknown,
    /// The data are of another epoch; it was not executed.
    Recovering,
    /// The server rejected it.
    Rejected,
}

impl FencedConnection {
    /// Starts the task that keeps the connection up. Does not wait for the first connection.
    #[must_use]
    pub fn start(redis: Redis, tag: String, entropy: Arc<dyn Entropy>, lifecycle: &Lifecycle) -> Arc<Self> {
        let connection = Arc::new(Self {
            ready_key: format!("{{{tag}}}:ready"),
            redis,
            tag,
            state: ArcSwap::default(),
            activated: Mutex::default(),
            redirected_from: Mutex::default(),
            changed: watch::Sender::new(0),
            connections_made: AtomicU64::new(0),
            entropy,
            retry_budget: AtomicU32::new(RETRIES_MAX * RETRY_COST),
        });
        let maintained = Arc::clone(&connection);
        let loop_lifecycle = lifecycle.clone();
        lifecycle.supervise("redis connection", RECONNECT_FIRST, move || {
            let (connection, lifecycle) = (Arc::clone(&maintained), loop_lifecycle.clone());
            async move {
                tokio::select! {
                    () = lifecycle.stopping() => {}
                    () = connection.maintain() => {}
                }
            }
        });
        connection
    }

    /// The Redis key `{tag}:name`.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.tag)
    }

    /// The key that holds the epoch whose data are complete.
    #[must_use]
    pub fn ready_key(&self) -> &str {
        &self.ready_key
    }

    /// The dataset behind the current connection, activated or not.
    #[must_use]
    pub fn dataset(&self) -> Option<DatasetId> {
        self.state
            .load()
            .connection
            .as_ref()
            .map(|connection| connection.dataset.clone())
    }

    /// The epoch under which guarded calls run now; `None` while none is active.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.state.load().epoch
    }

    /// Notifies whenever the connection, its dataset or its epoch changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Lets guarded calls run under this epoch, for as long as the server has this dataset.
    pub fn activate(&self, epoch: u64, dataset: &DatasetId) {
        *self.activated.lock() = Some((epoch, dataset.clone()));
        self.rcu(|state| {
            state.epoch = state
                .connection
                .as_ref()
                .filter(|connection| connection.dataset == *dataset)
                .map(|_| epoch);
        });
    }

    /// Fails all guarded calls until the next [`FencedConnection::activate`].
    pub fn deactivate(&self) {
        *self.activated.lock() = None;
        self.rcu(|state| state.epoch = None);
    }

    /// Runs a guarded script under the active epoch. A script may run twice, so each must be idempotent.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, script: &Script, call: Call) -> Result<Value, CallError> {
        self.run(script, call, true).await
    }

    /// Runs an unguarded script, whatever the dataset.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::Recovering`] only when the script itself replies so.
    pub async fn call_unguarded(&self, script: &Script, call: Call) -> Result<Value, CallError> {
        self.run(script, call, false).await
    }

    /// Runs one plain command, whatever the dataset; never retried.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn query(&self, cmd: &Cmd) -> Result<Value, CallError> {
        let connection = self
            .state
            .load()
            .connection
            .clone()
            .ok_or(CallError::Unavailable)?;
        self.send(&connection, cmd)
            .await
            .map_err(|error| self.classify(&connection, &error).1)
    }

    async fn run(&self, script: &Script, call: Call, guarded: bool) -> Result<Value, CallError> {
        self.refill_retry_budget();
        let stopwatch = Stopwatch::start();
        let timeout = self.redis.config().command_timeout * CALL_TIMEOUTS_MAX;
        let result = tokio::time::timeout(timeout, self.call_with_retries(script, &call, guarded))
            .await
            .unwrap_or(Err(CallError::Unavailable));
        metrics::histogram!(
            "db_client_operation_duration_seconds",
            "system" => "redis",
            "operation" => script.name()
        )
        .record(stopwatch.elapsed_s());
        result
    }

    async fn call_with_retries(
        &self,
        script: &Script,
        call: &Call,
        guarded: bool,
    ) -> Result<Value, CallError> {
        loop {
            let state = self.state.load_full();
            let Some(connection) = &state.connection else {
                if state.is_redirecting {
                    self.wait_for(|state| !state.is_redirecting).await;
                    continue;
                }
                return Err(CallError::Unavailable);
            };
            let epoch = match (guarded, state.epoch) {
                (false, _) => None,
                (true, Some(epoch)) => Some(epoch),
                (true, None) => return Err(CallError::Recovering),
            };
            let error = match self.eval(connection, script, call, epoch).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let (class, outcome) = self.classify(connection, &error);
            let again = match class {
                ErrorClass::Recovering | ErrorClass::Rejected => false,
                ErrorClass::RetrySoon | ErrorClass::OtherServer => true,
                // After a timeout the caller has waited long enough; a lost connection fails fast, so one
                // retry is fine.
                ErrorClass::OutcomeUnknown => !error.is_timeout() && self.spend_retry(),
            };
            if !again {
                tracing::debug!(script = script.name(), %error, "a call to Redis failed");
                return Err(outcome);
            }
            if matches!(class, ErrorClass::RetrySoon) {
                tokio::time::sleep(Duration::from_millis(20).mul_f64(1.0 + self.entropy.unit())).await;
            } else {
                self.wait_for(|state| state.connection.is_some()).await;
            }
        }
    }

    async fn eval(
        &self,
        connection: &Connection,
        script: &Script,
        call: &Call,
        epoch: Option<u64>,
    ) -> Result<Value, RedisError> {
        let cmd = call.to_command(script, epoch.map(|epoch| (self.ready_key.as_str(), epoch)));
        match self.send(connection, &cmd).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send(connection, &script.load()).await?;
                self.send(connection, &cmd).await
            }
            reply => reply,
        }
    }

    async fn send(&self, connection: &Connection, cmd: &Cmd) -> Result<Value, RedisError> {
        let mut connection = connection.multiplexed.clone();
        connection
            .send_packed_command(cmd)
            .await
            .and_then(Value::extract_error)
    }

    /// Classifies an error, updates the connection's state accordingly, and returns the caller's error.
    fn classify(&self, connection: &Connection, error: &RedisError) -> (ErrorClass, CallError) {
        let class = match error.kind() {
            ErrorKind::Server(
                ServerErrorKind::TryAgain | ServerErrorKind::Ask | ServerErrorKind::ClusterDown,
            ) => ErrorClass::RetrySoon,
            ErrorKind::Server(
                ServerErrorKind::Moved
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown,
            ) => ErrorClass::OtherServer,
            ErrorKind::Extension if error.code() == Some("REBUILDING") => ErrorClass::Recovering,
            ErrorKind::Server(_)
            | ErrorKind::Client
            | ErrorKind::UnexpectedReturnType
            | ErrorKind::AuthenticationFailed
            | ErrorKind::Extension => ErrorClass::Rejected,
            _ => ErrorClass::OutcomeUnknown,
        };
        match class {
            ErrorClass::RetrySoon => (class, CallError::Unavailable),
            ErrorClass::OtherServer | ErrorClass::OutcomeUnknown => {
                self.drop_connection(
                    connection,
                    error.kind() == ErrorKind::Server(ServerErrorKind::Moved),
                );
                (class, CallError::Unavailable)
            }
            ErrorClass::Recovering => {
                self.deactivate();
                (class, CallError::Recovering)
            }
            ErrorClass::Rejected => {
                metrics::counter!("stagedoor_redis_errors_total").increment(1);
                // Redis's messages about scripts name keys and lines, never arguments, so logging them leaks
                // nothing.
                tracing::error!(%error, "Redis rejected a call; the caller gets an error");
                (class, CallError::Rejected(error.to_string()))
            }
        }
    }

    /// Drops the connection, unless another one has replaced it meanwhile. Until the next one, calls fail at
    /// once.
    fn drop_connection(&self, connection: &Connection, is_redirecting: bool) {
        let is_current = |state: &State| {
            state
                .connection
                .as_ref()
                .is_some_and(|now| now.id == connection.id)
        };
        if is_redirecting && is_current(&self.state.load()) {
            *self.redirected_from.lock() = Some(connection.clone());
        }
        let mut dropped = false;
        self.rcu(|state| {
            dropped = is_current(state);
            if dropped {
                *state = State {
                    is_redirecting,
                    ..State::default()
                };
            }
        });
        if dropped && !is_redirecting {
            metrics::counter!("stagedoor_redis_reconnects_total").increment(1);
            tracing::warn!(
                server = connection.host,
                "lost the connection to Redis; reconnecting"
            );
        }
    }

    async fn wait_for(&self, condition: impl Fn(&State) -> bool) {
        let mut changes = self.changes();
        while !condition(&self.state.load()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Connects, then checks the server once a second, for ever.
    async fn maintain(&self) {
        let mut changes = self.changes();
        let mut failures = 0_u32;
        loop {
            let connection = self.state.load().connection.clone();
            let Some(connection) = connection else {
                // Used for the first attempt only: later the old owner may have failed and been replaced.
                let old = self.redirected_from.lock().take();
                match self.redis.connect(&self.tag).await {
                    Ok(connection) => {
                        failures = 0;
                        if let Some(old) = old {
                            self.follow_slot_migration(old, &connection).await;
                        }
                        self.install(connection);
                    }
                    Err(error) => {
                        self.rcu(|state| state.is_redirecting = false);
                        if failures.is_multiple_of(32) {
                            let url = self.redis.url();
                            tracing::warn!(%error, redis = %url, "cannot connect to Redis; retrying");
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
            if tokio::time::timeout(HEALTH_CHECK_INTERVAL, changes.changed())
                .await
                .is_err()
            {
                self.health_check(connection).await;
            }
        }
    }

    /// Carries the activation over to the new owner of a migrated slot.
    ///
    /// An old owner that still has its dataset, and itself names the new owner, has handed over the slot with
    /// all keys. After a failover this cannot happen: a server that knows of its replacement is no primary
    /// any more, so reading its dataset id fails.
    async fn follow_slot_migration(&self, mut from: Connection, to: &Connection) {
        let timeout = self.redis.config().command_timeout;
        let is_unchanged = read_dataset_id(&mut from.multiplexed, timeout)
            .await
            .is_ok_and(|dataset| dataset == from.dataset);
        if is_unchanged
            && self
                .redis
                .slot_owner_according_to(&from.host, &self.tag)
                .await
                .is_some_and(|host| host == to.host)
        {
            let mut activated = self.activated.lock();
            if let Some((_, dataset)) = activated.as_mut().filter(|(_, dataset)| *dataset == from.dataset) {
                tracing::info!(
                    from = from.host,
                    to = to.host,
                    "Redis Cluster has moved the store's hash slot to another server"
                );
                *dataset = to.dataset.clone();
            }
        }
    }

    fn install(&self, connection: Connection) {
        let connection = Connection {
            id: self.connections_made.fetch_add(1, Ordering::Relaxed) + 1,
            ..connection
        };
        tracing::info!(server = connection.host, "connected to Redis");
        let epoch = self
            .activated
            .lock()
            .as_ref()
            .filter(|(_, dataset)| *dataset == connection.dataset)
            .map(|(epoch, _)| *epoch);
        self.rcu(|state| {
            *state = State {
                connection: Some(connection.clone()),
                epoch,
                is_redirecting: false,
            }
        });
    }

    /// Drops the connection unless the server still has its dataset and is still the primary.
    async fn health_check(&self, mut connection: Connection) {
        let before = connection.clone();
        let timeout = self.redis.config().command_timeout;
        let is_unchanged = read_dataset_id(&mut connection.multiplexed, timeout)
            .await
            .is_ok_and(|dataset| dataset == before.dataset);
        if is_unchanged && self.is_still_primary(&before).await {
            return;
        }
        self.drop_connection(&before, is_unchanged);
    }

    /// Assumes yes when discovery fails: a server that responds is better than none.
    async fn is_still_primary(&self, connection: &Connection) -> bool {
        self.redis
            .primary_for(&self.tag)
            .await
            .map_or(true, |host| host.to_string() == connection.host)
    }

    /// Applies a change to the state and notifies [`FencedConnection::changes`] if it made a difference.
    fn rcu(&self, mut change: impl FnMut(&mut State)) {
        let seen = |state: &State| {
            (
                state.connection.as_ref().map(|connection| connection.id),
                state.epoch,
                state.is_redirecting,
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

    fn refill_retry_budget(&self) {
        let full = RETRIES_MAX * RETRY_COST;
        let _ = self
            .retry_budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |budget| {
                (budget < full).then_some(budget + 1)
            });
    }

    fn spend_retry(&self) -> bool {
        self.retry_budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |budget| {
                budget.checked_sub(RETRY_COST)
            })
            .is_ok()
    }
}
