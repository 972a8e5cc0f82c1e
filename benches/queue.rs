//! The queue in process, each figure beside the floor that it stands on. Joins are journaled: answered after
//! a commit with a flush (`synchronous = FULL`), one commit for all who ask together.

use std::{
    collections::BTreeMap,
    hint::black_box,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use stagedoor::{
    kernel::{Clock, Entropy, OsEntropy, Subject, SystemClock},
    platform::{keys::Keys, shutdown::Lifecycle, signing::MacKeys},
    waiting_room::{Config, Deps, Durability, JoinOutcome, JournalLocation, StoreBackend, WaitingRoom},
};
use tokio::runtime::Runtime;

/// Bytes that a join takes in the journal's packed record.
const JOIN_LEN: usize = 12;

/// A folder that goes with the run.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("stagedoor-bench-{:016x}", OsEntropy.below(u64::MAX)));
        std::fs::create_dir(&dir).expect("a folder for the run");
        Self(dir)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn room(dir: &Path, life: &Lifecycle) -> Arc<WaitingRoom> {
    let clock = Arc::new(SystemClock::new());
    let now = clock.now();
    let config = Config {
        sale: "bench".parse().expect("a sale's id"),
        prequeue_starts_at: now,
        on_sale_starts_at: now.plus(Duration::from_hours(1)),
        closes_at: now.plus(Duration::from_hours(2)),
        admission_rate_per_minute: 600,
        active_visits_max: 1_000,
        admission_burst: None,
        call_window: Duration::from_mins(3),
        late_arrival_share: 0.25,
        pass_ttl: Duration::from_mins(2),
        visit_max: Duration::from_mins(20),
        queue_entries_max: u32::MAX,
        issuer: "https://tickets.example".into(),
        status_streams_max: 10,
        passes_verified_elsewhere: false,
        durability: Durability::Committed,
        draw: None,
    };
    let keys = Keys::ephemeral(&OsEntropy);
    let deps = Deps {
        clock,
        entropy: Arc::new(OsEntropy),
        keys,
        journal: JournalLocation::File(dir.join("queue.db")),
        store: StoreBackend::Memory,
        node_name: String::new(),
        lifecycle: life.clone(),
    };
    stagedoor::waiting_room::open(config, deps)
        .await
        .expect("a new room opens")
}

/// A file opened as the journal's is, with one table and nothing around it.
async fn bare_file(dir: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(dir.join("bare.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .expect("a new file opens");
    sqlx::query("CREATE TABLE bare (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT")
        .execute(&pool)
        .await
        .expect("a new table");
    pool
}

fn joins(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let (dir, life) = (TempDir::new(), Lifecycle::new());
    let (room, bare) = runtime.block_on(async { (room(&dir.0, &life).await, bare_file(&dir.0).await) });
    let next = AtomicU64::new(0);
    let mut group = c.benchmark_group("join, journaled");
    group
        .measurement_time(Duration::from_secs(2))
        .warm_up_time(Duration::from_millis(500))
        .sample_size(20);
    for together in [1_usize, 64, 512] {
        group.throughput(Throughput::Elements(together as u64));
        group.bench_function(BenchmarkId::new("room", together), |b| {
            b.to_async(&runtime).iter(|| {
                let first = next.fetch_add(together as u64, Ordering::Relaxed);
                let room = &room;
                let asks = (first..first + together as u64).map(|n| async move {
                    let who = Subject::customer(&n.to_string()).expect("a number is a key");
                    let outcome = room.join(&who).await.expect("the journal writes");
                    assert!(matches!(outcome, JoinOutcome::Joined(_)));
                });
                join_all(asks)
            });
        });
        group.bench_function(
            BenchmarkId::new("floor: one commit of as many bytes", together),
            |b| {
                b.to_async(&runtime).iter(|| {
                    let body = vec![7_u8; together * JOIN_LEN];
                    let bare = &bare;
                    async move {
                        sqlx::query("INSERT INTO bare (body) VALUES (?)")
                            .bind(body)
                            .execute(bare)
                            .await
                            .expect("a row is written")
                    }
                });
            },
        );
    }
    group.finish();
    life.stop();
}

fn reading(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let (dir, life) = (TempDir::new(), Lifecycle::new());
    let room = runtime.block_on(room(&dir.0, &life));
    let joined = runtime.block_on(async {
        let mut last = None;
        for n in 0..1_000_u32 {
            last = Some(
                room.join(&Subject::customer(&n.to_string()).expect("a number is a key"))
                    .await
                    .expect("the journal writes"),
            );
        }
        last
    });
    let Some(JoinOutcome::Joined(joined)) = joined else {
        panic!("a new fan joins")
    };
    let token = room.verify_token(&joined.token).expect("our own token");
    let keys = MacKeys::new(&BTreeMap::from([(1, [7; 32])]));
    let message = [7; 35];
    let tag = keys.tag(1, &message).expect("a key");
    let board = room.status().json.clone();

    let mut group = c.benchmark_group("reading");
    group
        .measurement_time(Duration::from_secs(2))
        .warm_up_time(Duration::from_millis(500));
    group.bench_function("token and place", |b| {
        b.iter(|| {
            room.position(
                &room
                    .verify_token(black_box(&joined.token))
                    .expect("our own token"),
            )
        });
    });
    group.bench_function("token", |b| {
        b.iter(|| room.verify_token(black_box(&joined.token)));
    });
    group.bench_function("place", |b| b.iter(|| room.position(black_box(&token))));
    group.bench_function("floor: MAC of a token", |b| {
        b.iter(|| keys.verify(1, black_box(&message), black_box(&tag)));
    });
    group.bench_function("board", |b| b.iter(|| room.status()));
    let bytes: Arc<Bytes> = Arc::new(board);
    group.bench_function("floor: clone of shared bytes", |b| {
        b.iter(|| Arc::clone(black_box(&bytes)));
    });
    group.finish();
    life.stop();
}

criterion_group!(queue, joins, reading);
criterion_main!(queue);
