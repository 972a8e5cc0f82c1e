//! The conformance suite on one server and on a cluster, and the slot rule against its Rust twin.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::{
    kernel::{Entropy, OsEntropy, SaleId, SeededEntropy, Timestamp, VisitId},
    platform::{
        redis::{FencedConnection, Redis, RedisConfig},
        shutdown::Lifecycle,
    },
    waiting_room::{
        admission::{
            call_policy::TokenBucket,
            reserve_slot::{
                AdmissionLanes, CLAIM_LAPSE, CLAIMANTS_MAX, Lane, RETRY_AFTER, RETRY_AFTER_FAR, SPEEDUP_MAX,
            },
        },
        journal::{
            postgres::journal::PostgresJournal,
            record::{Event, Join, Record, StoredRecord},
        },
        store::{
            conformance,
            port::{Assigned, Moment, QueueStore, Reservation},
            redis::{
                reply::{millis, reservation_of},
                scripts::{ReleaseSlot, ReserveSlot, SCRIPTS},
                store::{RedisStore, ScriptClock},
            },
        },
        types::{BoxOfficeLoad, Config},
    },
};
use testkit::{Postgres, RedisCluster, RedisServer};

fn redis(url: String) -> Redis {
    let (call_deadline, connect_deadline) = (Duration::from_secs(2), Duration::from_secs(2));
    Redis::new(RedisConfig {
        url,
        command_timeout: call_deadline,
        connect_timeout: connect_deadline,
        allow_unsafe: false,
    })
    .unwrap()
}

/// A complete store of its own sale.
async fn open_store(
    redis: &Redis,
    url: &str,
    sale: SaleId,
    config: Config,
    life: &Lifecycle,
) -> Arc<RedisStore> {
    let connection = FencedConnection::start(redis.clone(), sale.to_string(), Arc::new(OsEntropy), life);
    let journal = Arc::new(PostgresJournal::open(url, sale, 16).await.unwrap());
    let store = RedisStore::build(
        config,
        "node".into(),
        connection,
        journal,
        conformance::at(0),
        life,
        ScriptClock::Caller,
    )
    .await
    .unwrap();
    complete(&store).await;
    store
}

async fn complete(store: &RedisStore) {
    while !store.is_complete() {
        store.recover_once().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn meets_the_contract(redis: Redis) {
    let server = Postgres::start().await.unwrap();
    let url = server.create_database("queue").await.unwrap();
    let (life, made) = (Lifecycle::new(), AtomicU32::new(0));
    conformance::holds(async |config: Config| {
        let sale: SaleId = format!("contract-{}", made.fetch_add(1, Ordering::Relaxed))
            .parse()
            .unwrap();
        open_store(&redis, &url, sale, config, &life).await
    })
    .await;
    life.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_meets_the_contract() {
    let server = RedisServer::start().await.unwrap();
    meets_the_contract(redis(server.url())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_meets_the_contract() {
    let cluster = RedisCluster::start(3).await.unwrap();
    meets_the_contract(redis(cluster.url())).await;
}

/// The number of an anonymous visitor who joins in this millisecond.
async fn anonymous(store: &RedisStore, name: u64, ms: i64) -> u32 {
    let joined_at = conformance::at(1)
        .now
        .plus(Duration::from_millis(u64::try_from(ms).unwrap()));
    match store
        .assign_number(Join {
            subject: name | 1 << 63,
            joined_at,
        })
        .await
        .unwrap()
    {
        Assigned::New(entry) => entry.number,
        other => panic!("{other:?}"),
    }
}

/// Numbers that were fetched for visitors who did not come leave no place in the queue empty.
#[tokio::test(flavor = "multi_thread")]
async fn the_limit_counts_visitors_and_not_numbers() {
    let (server, database) = (
        RedisServer::start().await.unwrap(),
        Postgres::start().await.unwrap(),
    );
    let url = database.create_database("queue").await.unwrap();
    let life = Lifecycle::new();
    let people_max = 3_000;
    let config = Config {
        queue_entries_max: people_max,
        ..conformance::config(9)
    };
    let sale = "limited".parse().unwrap();
    let store = open_store(&redis(server.url()), &url, sale, config, &life).await;
    let (mut people, mut last, mut refused) = (0, 0, 0);
    // Bursts with pauses: of each one's last block numbers are left over.
    for ms in (0..).flat_map(|burst| (0..150).map(move |ms| burst * 1_000 + ms)) {
        for name in 0..10 {
            let join = Join {
                subject: name | 1 << 63,
                joined_at: conformance::at(1).now.plus(Duration::from_millis(ms)),
            };
            match store.assign_number(join).await.unwrap() {
                Assigned::New(entry) => {
                    people += 1;
                    last = last.max(entry.number);
                }
                Assigned::Full => refused += 1,
                other @ Assigned::Existing { .. } => panic!("{other:?}"),
            }
            if store.allocator.is_low() {
                store.allocator.refill().await;
            }
        }
        if refused > 100 {
            break;
        }
    }
    assert_eq!(people, people_max);
    assert!(last > people_max, "some numbers belong to no visitor: {last}");

    // The rebuild counts what the journal has: no visitor, here.
    server.flush_all().await.unwrap();
    store.mark_stale();
    complete(&store).await;
    let again = store.allocator.assign(vec![Join {
        subject: 0x4d | 1 << 63,
        joined_at: conformance::at(60).now,
    }]);
    assert!(matches!(again.await[..], [Ok(Assigned::New(_))]));
    life.stop();
}

async fn scripts_run(server: &RedisServer) -> u64 {
    let stats = server.info("cmdstat_evalsha").await.unwrap();
    stats
        .trim_start_matches("calls=")
        .split(',')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

async fn keys_in(server: &RedisServer) -> String {
    server
        .info("db0")
        .await
        .unwrap()
        .split(',')
        .next()
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_joins_store_nothing_and_are_prefetched() {
    let (server, database) = (
        RedisServer::start().await.unwrap(),
        Postgres::start().await.unwrap(),
    );
    let url = database.create_database("queue").await.unwrap();
    let life = Lifecycle::new();
    let config = Config {
        queue_entries_max: 100_000,
        ..conformance::config(9)
    };
    let store = open_store(
        &redis(server.url()),
        &url,
        "anonymous".parse().unwrap(),
        config,
        &life,
    )
    .await;
    let keys = keys_in(&server).await;
    let mut numbers = Vec::new();
    for name in 0..20 {
        numbers.push(anonymous(&store, name, 0).await);
    }
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>(), "a few joins leave no gaps");
    // Joins carry their own time and blocks are fetched in between, so that the test does not depend on the
    // speed of this machine.
    let mut calls = 0;
    for ms in 1..200 {
        let before = scripts_run(&server).await;
        for name in 0..20 {
            numbers.push(anonymous(&store, name, ms).await);
            if store.allocator.is_low() {
                store.allocator.refill().await;
            }
        }
        calls += if ms > 150 {
            scripts_run(&server).await - before
        } else {
            0
        };
    }
    assert!(calls <= 100, "{calls} calls for 1,000 joins within 50 ms");
    let last = numbers.iter().max().copied().unwrap();
    let gaps = last - u32::try_from(numbers.len()).unwrap();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 20 + 199 * 20, "no number is assigned twice");
    assert!(gaps <= 200, "{gaps} numbers are unused");
    assert_eq!(keys_in(&server).await, keys);

    // Numbers prefetched before a loss are discarded.
    let prefetched = |ms: u64| {
        store.allocator.take_prefetched(Join {
            subject: 1 << 63,
            joined_at: conformance::at(1).now.plus(Duration::from_millis(ms)),
        })
    };
    assert!(prefetched(199).is_some());
    server.flush_all().await.unwrap();
    store.mark_stale();
    complete(&store).await;
    assert!(prefetched(199).is_none());
    assert_eq!(anonymous(&store, 0, 199).await, 1, "the journal holds no number");
    life.stop();
}

/// The slot rule of the memory store, as the script's twin.
struct SlotRule {
    lanes: AdmissionLanes,
    permits: TokenBucket,
    /// Visits by queue number, and whether the entry is journaled.
    visits: std::collections::BTreeMap<u32, (VisitId, bool)>,
    config: Config,
}

impl SlotRule {
    fn reserve(&mut self, ask: &ReserveSlot, visit: VisitId, at: Moment) -> Reservation {
        if let Some((known, is_journaled)) = self.visits.get(&ask.number) {
            return if *is_journaled {
                Reservation::AlreadyAdmitted { visit: *known }
            } else {
                Reservation::BeingAdmitted
            };
        }
        let lane = if ask.lane == "called" || self.lanes.is_waiting_called(ask.number, at.monotonic) {
            Lane::Called
        } else {
            Lane::LateArrival
        };
        let free = self.config.active_visits_max - u32::try_from(self.visits.len()).unwrap();
        let room = free.min(self.permits.permits(at.monotonic));
        let load = if ask.overloaded == 1 {
            BoxOfficeLoad::Overloaded
        } else {
            BoxOfficeLoad::Normal
        };
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        let expected = ask.expected as f64;
        if self
            .lanes
            .try_admit(lane, ask.number, room, load, expected, at.monotonic)
            && self.permits.take(at.monotonic)
        {
            self.visits.insert(ask.number, (visit, false));
            return Reservation::Reserved { at: at.now };
        }
        let rate = self.config.admission_rate_per_minute;
        Reservation::NoRoom {
            retry_after: self.lanes.retry_after(lane, ask.number, rate, at.monotonic),
        }
    }
}

async fn release(store: &RedisStore, visit: VisitId, at: Moment) {
    let args = ReleaseSlot {
        now_ms: at.now.as_millis(),
        visit: visit.as_uuid().into_bytes(),
    };
    let _: u8 = store.run(&SCRIPTS.release_slot, args).await.unwrap();
}

/// Random claimants of both lanes, with every mix of load, expected visitors, free slots, permits and
/// silence.
#[tokio::test(flavor = "multi_thread")]
async fn the_slot_script_decides_as_the_memory_store_does() {
    const NUMBERS: u64 = 12;
    let (server, database) = (
        RedisServer::start().await.unwrap(),
        Postgres::start().await.unwrap(),
    );
    let url = database.create_database("queue").await.unwrap();
    let (redis, life) = (redis(server.url()), Lifecycle::new());
    let (mut admitted, mut refused) = (0, 0);
    for seed in 0..24 {
        let entropy = SeededEntropy::new(seed);
        let config = conformance::config(1 + u32::try_from(entropy.below(5)).unwrap());
        let sale: SaleId = format!("rule-{seed}").parse().unwrap();
        let store = open_store(&redis, &url, sale, config.clone(), &life).await;
        let start = Duration::from_millis(1);
        let mut rule = SlotRule {
            lanes: AdmissionLanes::new(config.late_arrival_share),
            permits: TokenBucket::empty(config.admission_rate_per_minute, config.admission_burst, start),
            visits: std::collections::BTreeMap::new(),
            config,
        };
        let mut seq = 0;
        let mut record = async |at: Moment, event: Event| {
            seq += 1;
            let record = Record::Event { at: at.now, event };
            store.apply(&[StoredRecord { seq, record }], at).await.unwrap();
        };
        let mut now_ms = 1_000;
        let moment = |now_ms: u64| Moment {
            now: Timestamp::from_millis(i64::try_from(now_ms).unwrap()),
            monotonic: Duration::from_millis(now_ms),
        };
        let called = Event::Called {
            after: 0,
            last: u32::try_from(NUMBERS).unwrap(),
            window_ends_at: Timestamp::from_secs(1_000_000),
        };
        record(moment(now_ms), called).await;
        for step in 0..120 {
            now_ms += [0, 200, 1_000, 5_000, 11_000][usize::try_from(entropy.below(5)).unwrap()];
            let at = moment(now_ms);
            let number = 1 + u32::try_from(entropy.below(NUMBERS)).unwrap();
            match (entropy.below(8), rule.visits.get(&number).copied()) {
                (0, Some((visit, false))) => {
                    release(&store, visit, at).await;
                    rule.visits.remove(&number);
                    rule.permits.put_back();
                }
                (1 | 2, Some((visit, false))) => {
                    let subject = u64::from(number);
                    record(
                        at,
                        Event::Admitted {
                            number,
                            subject,
                            visit,
                        },
                    )
                    .await;
                    rule.visits.insert(number, (visit, true));
                }
                (3, Some((visit, true))) => {
                    record(at, Event::VisitEnded { number, visit }).await;
                    store.sync_state(at).await.unwrap();
                    rule.visits.remove(&number);
                }
                _ => {
                    let visit = VisitId::random(&entropy);
                    let ask = ReserveSlot {
                        now_ms: at.now.as_millis(),
                        number,
                        visit: visit.as_uuid().into_bytes(),
                        lane: ["called", "late"][usize::try_from(entropy.below(2)).unwrap()],
                        expected: usize::try_from(entropy.below(3)).unwrap(),
                        pass_ttl_ms: millis(Duration::from_hours(1)),
                        reservation_ttl_ms: millis(Duration::from_hours(1)),
                        claim_ttl_ms: millis(CLAIM_LAPSE),
                        claimants_max: CLAIMANTS_MAX,
                        overloaded: u8::from(entropy.below(4) == 0),
                        retry_min_ms: millis(*RETRY_AFTER.start()),
                        retry_max_ms: millis(*RETRY_AFTER.end()),
                        retry_far_max_ms: millis(RETRY_AFTER_FAR),
                        speedup_max: SPEEDUP_MAX,
                    };
                    let expected = rule.reserve(&ask, visit, at);
                    let reply: Vec<Vec<u8>> = store.run(&SCRIPTS.reserve_slot, ask).await.unwrap();
                    assert_eq!(
                        reservation_of(&reply).unwrap(),
                        expected,
                        "seed {seed}, step {step}, number {number}"
                    );
                    match expected {
                        Reservation::Reserved { .. } => admitted += 1,
                        _ => refused += 1,
                    }
                }
            }
        }
    }
    assert!(
        admitted > 100 && refused > 500,
        "{admitted} admitted, {refused} refused"
    );
    life.stop();
}
