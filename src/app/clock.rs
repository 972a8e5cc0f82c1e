//! One clock for all nodes: that of the database they share.
//!
//! Deadlines that one node writes are judged by others, so all nodes follow the clock of the journal's
//! PostgreSQL server. The machine's own clock and those of the other servers are compared with it, and a node
//! is not ready while one of them differs by more than the tolerance.

use std::{sync::Arc, time::Duration};

use anyhow::Context;

use crate::{
    kernel::{Clock, FollowingClock, SystemClock, Timestamp},
    ops::config::{DatabaseLocation, Settings},
    platform::{
        process::{Condition, Process},
        redis::Redis,
        shutdown::Lifecycle,
        sql::ServerTime,
    },
};

/// Clocks must agree within this time.
const TOLERANCE: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_secs(1);
/// The other servers are asked once in so many intervals.
const OTHERS_EVERY: u32 = 5;
/// A reading that took longer says too little.
const READING_MAX: Duration = Duration::from_millis(500);
const READINGS_AT_START: u32 = 5;
const OFFSET_METRIC: &str = "stagedoor_clock_offset_seconds";

/// The clock of this process. Nodes that share a database follow its clock until `lifecycle` stops.
///
/// # Errors
/// When the database does not answer.
pub(super) async fn open(settings: &Settings, lifecycle: &Lifecycle) -> anyhow::Result<Arc<dyn Clock>> {
    let DatabaseLocation::Postgres(url) = settings.journal_database() else {
        return Ok(Arc::new(SystemClock::new()));
    };
    let reference = ServerTime::new(url.expose())?;
    let clock = Arc::new(FollowingClock::new());
    let mut watch = ClockWatch {
        machine: Agreement::new("machine", "this machine".into(), lifecycle.process()),
        reference_agrees: Agreement::new(
            "postgresql",
            format!("PostgreSQL, {}", reference.database()),
            lifecycle.process(),
        ),
        others: other_clocks(settings, url.expose(), lifecycle.process())?,
        reference,
        clock: Arc::clone(&clock),
    };
    watch.follow_first().await?;
    watch.check_others().await;
    let stopping = lifecycle.clone();
    lifecycle.spawn(async move {
        for round in 1_u32.. {
            if stopping
                .until_stopping(tokio::time::sleep(INTERVAL))
                .await
                .is_none()
            {
                return;
            }
            watch.follow().await;
            if round % OTHERS_EVERY == 0 {
                watch.check_others().await;
            }
        }
    });
    Ok(clock)
}

/// The servers beside the reference, each once.
fn other_clocks(settings: &Settings, reference: &str, process: &Process) -> anyhow::Result<Vec<OtherClock>> {
    let mut others = Vec::new();
    if let DatabaseLocation::Postgres(url) = settings.ledger_database()
        && url.expose() != reference
    {
        let server = ServerTime::new(url.expose())?;
        let name = format!("PostgreSQL, {}", server.database());
        others.push(OtherClock {
            agreement: Agreement::new("postgresql_ledger", name, process),
            server: Server::Postgres(server),
        });
    }
    let (waiting_room, box_office) = (settings.waiting_room_redis(), settings.box_office_redis());
    let is_same = match (&waiting_room, &box_office) {
        (Some(one), Some(other)) => one.url == other.url,
        _ => false,
    };
    let named = [
        ("redis", waiting_room),
        ("redis_box_office", box_office.filter(|_| !is_same)),
    ];
    for (label, config) in named {
        if let Some(config) = config {
            let redis = Redis::new(config)?;
            others.push(OtherClock {
                agreement: Agreement::new(label, format!("Redis, {}", redis.url()), process),
                server: Server::Redis(redis),
            });
        }
    }
    Ok(others)
}

/// Whether one clock agrees with this process's.
struct Agreement {
    /// Value of the metric's label `clock`.
    label: &'static str,
    name: String,
    agrees: Condition,
}

impl Agreement {
    fn new(label: &'static str, name: String, process: &Process) -> Self {
        let agrees = process.condition(format!("the clock of {name} differs by more than {TOLERANCE:?}"));
        Self { label, name, agrees }
    }

    /// Takes in by how many milliseconds the clock is ahead.
    fn observe(&self, ahead_ms: i64) {
        metrics::gauge!(OFFSET_METRIC, "clock" => self.label).set(seconds(ahead_ms));
        let agrees = is_close(ahead_ms);
        if self.agrees.set(agrees) {
            if agrees {
                tracing::info!(clock = self.name, "the clock agrees with this node's again");
            } else {
                tracing::error!(
                    clock = self.name,
                    ahead_s = seconds(ahead_ms),
                    "a clock differs from the one that this node follows by more than {TOLERANCE:?}; this \
                    node is not ready until it agrees"
                );
            }
        }
    }
}

struct OtherClock {
    agreement: Agreement,
    server: Server,
}

enum Server {
    Postgres(ServerTime),
    Redis(Redis),
}

struct ClockWatch {
    clock: Arc<FollowingClock>,
    reference: ServerTime,
    machine: Agreement,
    reference_agrees: Agreement,
    others: Vec<OtherClock>,
}

impl ClockWatch {
    async fn follow_first(&mut self) -> anyhow::Result<()> {
        let mut last = None;
        for _ in 0..READINGS_AT_START {
            match timed(&self.clock, self.reference.read()).await {
                Ok(Some((shown, at))) => {
                    self.clock.follow(shown, at);
                    self.observe_machine();
                    return Ok(());
                }
                Ok(None) => {}
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(READING_MAX).await;
        }
        let context = || format!("cannot read the time of {}", self.reference.database());
        match last {
            Some(error) => Err(error).with_context(context),
            None => anyhow::bail!("{}: it takes longer than {READING_MAX:?}", context()),
        }
    }

    /// Follows the reference. A reference that jumps alone is not followed: its deadlines would be wrong.
    async fn follow(&mut self) {
        // While it cannot be read the monotonic clock goes on, and those who need the database report it.
        if let Ok(Some((shown, at))) = timed(&self.clock, self.reference.read()).await {
            let ahead_ms = shown.as_millis() - self.clock.at(at).as_millis();
            let agrees_with_machine = is_close(shown.as_millis() - self.clock.machine_now().as_millis());
            if is_close(ahead_ms) || agrees_with_machine {
                self.clock.follow(shown, at);
                self.reference_agrees.observe(0);
            } else {
                self.reference_agrees.observe(ahead_ms);
            }
        }
        self.observe_machine();
    }

    fn observe_machine(&self) {
        let ahead_ms = self.clock.machine_now().as_millis() - self.clock.now().as_millis();
        self.machine.observe(ahead_ms);
    }

    /// Compares the other servers' clocks. One that does not answer stays as it was.
    async fn check_others(&self) {
        for other in &self.others {
            let mut farthest: Option<i64> = None;
            let mut take = |reading: Option<(Timestamp, Duration)>| {
                if let Some((shown, at)) = reading {
                    let ahead_ms = shown.as_millis() - self.clock.at(at).as_millis();
                    if farthest.is_none_or(|known| ahead_ms.abs() > known.abs()) {
                        farthest = Some(ahead_ms);
                    }
                }
            };
            match &other.server {
                Server::Postgres(server) => take(timed(&self.clock, server.read()).await.unwrap_or(None)),
                Server::Redis(redis) => {
                    for primary in redis.primary_hosts().await.unwrap_or_default() {
                        take(
                            timed(&self.clock, redis.server_time(&primary))
                                .await
                                .unwrap_or(None),
                        );
                    }
                }
            }
            if let Some(ahead_ms) = farthest {
                other.agreement.observe(ahead_ms);
            }
        }
    }
}

/// Reads a clock, and when that was, by the monotonic clock. `None` if it took too long to say.
async fn timed<E>(
    clock: &FollowingClock,
    read: impl Future<Output = Result<Timestamp, E>>,
) -> Result<Option<(Timestamp, Duration)>, E> {
    let before = clock.monotonic();
    let shown = read.await?;
    let took = clock.monotonic().saturating_sub(before);
    Ok((took <= READING_MAX).then_some((shown, before + took / 2)))
}

fn is_close(ahead_ms: i64) -> bool {
    Duration::from_millis(ahead_ms.unsigned_abs()) <= TOLERANCE
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds are far below 2^53")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}
