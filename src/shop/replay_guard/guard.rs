//! The replay guard: an in-memory set of used tokens over a durable store.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;

use crate::{
    kernel::{Clock, Entropy, Timestamp},
    platform::{group_commit::GroupCommit, shutdown::Lifecycle},
    shop::{
        replay_guard::{
            postgres::PostgresUsedTokens,
            sqlite::SqliteUsedTokens,
            store::{ReplayGuardLocation, UsedToken, UsedTokenStore},
        },
        types::{OpenError, ShopError},
    },
};

/// Maximum number of used tokens in memory, about 100 bytes each.
const USED_TOKENS_MAX: usize = 1_000_000;
const WRITE_QUEUE_MAX: usize = 4_096;
const GROUP_MAX: usize = 256;
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);
/// A session that was signed out at another process is refused here after this time at most.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// How long the store is asked whether a session was ended elsewhere.
const LOOK_UP_TIMEOUT: Duration = Duration::from_millis(500);

/// Checks tokens in memory and records used ones durably.
pub(crate) struct ReplayGuard {
    /// Used tokens and when they expire.
    used: RwLock<HashMap<UsedToken, Timestamp>>,
    /// The result is `None` when writing failed.
    writes: GroupCommit<(UsedToken, Timestamp), Option<bool>>,
    store: Arc<dyn UsedTokenStore>,
    /// The last refresh failed, so the next one must read everything: changes may be older than
    /// `changes_since` covers.
    must_reload: AtomicBool,
    clock: Arc<dyn Clock>,
}

impl ReplayGuard {
    pub(crate) async fn open(
        location: &ReplayGuardLocation,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        lifecycle: &Lifecycle,
    ) -> Result<Arc<Self>, OpenError> {
        let store: Arc<dyn UsedTokenStore> = match location {
            ReplayGuardLocation::File(file) => Arc::new(SqliteUsedTokens::open(file, lifecycle).await?),
            ReplayGuardLocation::Postgres { url } => Arc::new(PostgresUsedTokens::open(url, entropy).await?),
        };
        Self::open_with(store, clock, lifecycle).await
    }

    async fn open_with(
        store: Arc<dyn UsedTokenStore>,
        clock: Arc<dyn Clock>,
        lifecycle: &Lifecycle,
    ) -> Result<Arc<Self>, OpenError> {
        let used = store
            .all(clock.now())
            .await
            .map_err(OpenError::UsedTokens)?
            .into_iter()
            .collect();
        let written = Arc::clone(&store);
        let writes = GroupCommit::start(lifecycle, WRITE_QUEUE_MAX, GROUP_MAX, move |group| {
            write(Arc::clone(&written), group)
        });
        let this = Arc::new(Self {
            used: RwLock::new(used),
            writes,
            store,
            must_reload: AtomicBool::new(false),
            clock,
        });
        for (name, every) in [
            ("used token sweep", SWEEP_INTERVAL),
            ("used token refresh", REFRESH_INTERVAL),
        ] {
            let (guard, lifecycle_of_loop) = (Arc::clone(&this), lifecycle.clone());
            lifecycle.supervise(name, Duration::from_secs(1), move || {
                let (guard, lifecycle) = (Arc::clone(&guard), lifecycle_of_loop.clone());
                async move {
                    while lifecycle
                        .until_stopping(tokio::time::sleep(every))
                        .await
                        .is_some()
                    {
                        if every == SWEEP_INTERVAL {
                            guard.sweep().await;
                        } else {
                            guard.refresh().await;
                        }
                    }
                }
            });
        }
        Ok(this)
    }

    /// Whether the token was used. From memory; other processes' tokens are known after [`REFRESH_INTERVAL`].
    pub(crate) fn contains(&self, token: &UsedToken) -> bool {
        self.used.read().contains_key(token)
    }

    /// Whether the token was used at any process, by the store where the copy in memory does not know it.
    /// While the store does not answer, the copy decides: no sign-out can be recorded then either.
    pub(crate) async fn is_used(&self, token: &UsedToken) -> bool {
        self.contains(token)
            || matches!(
                tokio::time::timeout(LOOK_UP_TIMEOUT, self.store.contains(token)).await,
                Ok(Ok(true))
            )
    }

    /// Uses a token, durably when this returns. `false` when it was used before, here or in another process.
    /// After an error the token is unused and can be tried again.
    pub(crate) async fn use_once(&self, token: UsedToken, expires_at: Timestamp) -> Result<bool, ShopError> {
        {
            let mut used = self.used.write();
            let full = used.len() >= USED_TOKENS_MAX;
            match used.entry(token.clone()) {
                Entry::Occupied(_) => return Ok(false),
                // Evicting another token instead would let it be used again.
                Entry::Vacant(_) if full => return Err(ShopError::TooManyUsedTokens),
                Entry::Vacant(slot) => slot.insert(expires_at),
            };
        }
        if let Ok(Some(is_first)) = self.writes.submit((token.clone(), expires_at)).await {
            return Ok(is_first);
        }
        self.used.write().remove(&token);
        Err(ShopError::Storage)
    }

    /// Reads the tokens that other processes have recorded.
    async fn refresh(&self) {
        let now = self.clock.now();
        let read = if self.must_reload.load(Ordering::Relaxed) {
            self.store.all(now).await
        } else {
            self.store.changes_since(now).await
        };
        match read {
            Ok(changes) => {
                if self.must_reload.swap(false, Ordering::Relaxed) {
                    tracing::info!("tokens used at other processes can be read again");
                }
                if !changes.is_empty() {
                    self.used.write().extend(changes);
                }
            }
            Err(error) => {
                if !self.must_reload.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %error,
                        "cannot read which sessions other processes have ended: they stay valid here until \
                         it can"
                    );
                }
            }
        }
    }

    async fn sweep(&self) {
        let now = self.clock.now();
        self.used.write().retain(|_, expires_at| *expires_at > now);
        if let Err(error) = self.store.sweep(now).await {
            tracing::warn!(%error, "cannot delete expired used tokens; retrying later");
        }
    }
}

async fn write(store: Arc<dyn UsedTokenStore>, group: Vec<(UsedToken, Timestamp)>) -> Vec<Option<bool>> {
    match store.record(&group).await {
        Ok(are_first) => are_first.into_iter().map(Some).collect(),
        Err(error) => {
            tracing::error!(%error, "cannot record used tokens; their sign-ins and sign-outs are refused");
            vec![None; group.len()]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{ManualClock, SeededEntropy};
    use testkit::Postgres;
    use uuid::Uuid;

    async fn open(
        location: &ReplayGuardLocation,
        clock: &Arc<ManualClock>,
        seed: u64,
        lifecycle: &Lifecycle,
    ) -> Arc<ReplayGuard> {
        ReplayGuard::open(
            location,
            clock.clone(),
            Arc::new(SeededEntropy::new(seed)),
            lifecycle,
        )
        .await
        .unwrap()
    }

    fn jti(n: u32) -> UsedToken {
        UsedToken::Handoff(format!("jti-{n}"))
    }

    async fn tokens_work_once_survive_a_restart_and_are_swept(location: ReplayGuardLocation) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let lifecycle = Lifecycle::new();
        let guard = open(&location, &clock, 1, &lifecycle).await;
        let session = UsedToken::Session(Uuid::from_u128(7));
        assert_eq!(
            guard.use_once(session.clone(), Timestamp::from_secs(100)).await,
            Ok(true)
        );
        assert_eq!(
            guard.use_once(session.clone(), Timestamp::from_secs(100)).await,
            Ok(false)
        );

        let tries: Vec<_> = (0..100).map(|n| (Arc::clone(&guard), jti(n % 50))).collect();
        let tries: Vec<_> = tries
            .into_iter()
            .map(|(s, m)| tokio::spawn(async move { s.use_once(m, Timestamp::from_secs(10)).await }))
            .collect();
        let mut firsts = 0;
        for one in tries {
            firsts += u32::from(one.await.unwrap().unwrap());
        }
        assert_eq!(firsts, 50, "of two concurrent uses one succeeds");

        lifecycle.stop();
        assert!(lifecycle.wait_idle(Duration::from_secs(5)).await);
        drop(guard);
        let again = open(&location, &clock, 2, &Lifecycle::new()).await;
        assert!(again.contains(&session));
        for n in 0..50 {
            assert_eq!(again.use_once(jti(n), Timestamp::from_secs(10)).await, Ok(false));
        }

        clock.advance(Duration::from_secs(10));
        again.sweep().await;
        assert!(again.contains(&session) && !again.contains(&jti(0)));
        assert_eq!(
            again.use_once(jti(0), Timestamp::from_secs(20)).await,
            Ok(true),
            "its token has expired by now"
        );
        assert_eq!(
            again.store.all(Timestamp::from_secs(20)).await.unwrap(),
            [(session, Timestamp::from_secs(100))]
        );
    }

    async fn a_token_used_at_one_process_is_used_at_another(location: ReplayGuardLocation) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let lifecycle = Lifecycle::new();
        let (one, other) = (
            open(&location, &clock, 1, &lifecycle).await,
            open(&location, &clock, 2, &lifecycle).await,
        );
        let mut firsts = [0; 2];
        for n in 0..50 {
            let at = Timestamp::from_secs(10);
            let (here, there) = tokio::join!(one.use_once(jti(n), at), other.use_once(jti(n), at));
            let (here, there) = (here.unwrap(), there.unwrap());
            assert!(here != there, "exactly one process is first: {here} {there}");
            firsts[usize::from(there)] += 1;
        }
        let session = UsedToken::Session(Uuid::from_u128(7));
        assert_eq!(
            one.use_once(session.clone(), Timestamp::from_secs(100)).await,
            Ok(true)
        );
        assert!(!other.contains(&session), "not refreshed yet");
        assert!(other.is_used(&session).await, "the store knows it at once");
        assert!(!other.is_used(&UsedToken::Session(Uuid::from_u128(8))).await);
        other.refresh().await;
        assert!(other.contains(&session));
        // After a failed refresh everything is read.
        other.used.write().clear();
        other.must_reload.store(true, Ordering::Relaxed);
        other.refresh().await;
        assert!(other.contains(&session) && !other.must_reload.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn tokens_in_sqlite_work_once() {
        let dir = tempfile::tempdir().unwrap();
        tokens_work_once_survive_a_restart_and_are_swept(ReplayGuardLocation::File(
            dir.path().join("used.db"),
        ))
        .await;
        a_token_used_at_one_process_is_used_at_another(ReplayGuardLocation::File(dir.path().join("both.db")))
            .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn tokens_in_postgresql_work_once() {
        let server = Postgres::start().await.unwrap();
        let location = |url: String| ReplayGuardLocation::Postgres { url };
        tokens_work_once_survive_a_restart_and_are_swept(location(
            server.create_database("alone").await.unwrap(),
        ))
        .await;
        a_token_used_at_one_process_is_used_at_another(location(
            server.create_database("pair").await.unwrap(),
        ))
        .await;
    }

    #[tokio::test]
    async fn a_failed_write_leaves_the_token_unused() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let lifecycle = Lifecycle::new();
        let store = Arc::new(
            SqliteUsedTokens::open(&dir.path().join("used.db"), &lifecycle)
                .await
                .unwrap(),
        );
        let guard = ReplayGuard::open_with(Arc::clone(&store) as _, clock, &lifecycle)
            .await
            .unwrap();
        store.writer().close().await;
        let token = UsedToken::Handoff("x".into());
        for _ in 0..2 {
            assert_eq!(
                guard.use_once(token.clone(), Timestamp::from_secs(1)).await,
                Err(ShopError::Storage)
            );
            assert!(!guard.contains(&token));
        }
    }
}
