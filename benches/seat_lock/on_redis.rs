//! The store on its own Redis server, compared with a baseline: the least that gives all seats or none over
//! the same kind of connection. The baseline's script checks the seats' fields and sets them. It has no limit
//! per customer, no deadline, no epoch and no change feed, and it is not safe to run twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Json, Router, routing::post};
use redis::{Script, aio::MultiplexedConnection};
use stagedoor::{
    kernel::{HoldId, OsEntropy, Subject, VisitId},
    platform::{
        redis::{Redis, RedisConfig},
        shutdown::Lifecycle,
    },
    seating::{HoldReply, RedisStore, SeatIx, SeatStore, StoreError, StoreHold},
};
use testkit::{RedisServer, ServerError};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::cycles::{Requests, TERMS, VENUE_SIZES};

/// Callers at a time, on one connection.
const CALLERS: u32 = 64;
const ROUNDS: u64 = 20_000;
const PAIRS: usize = 9;
/// Seats of the HTTP measurement; each request takes four of them, once.
const HTTP_SEATS: u32 = 40_000;

pub(super) struct Baseline {
    connection: MultiplexedConnection,
    hold: Script,
    release: Script,
}

impl Baseline {
    pub(super) async fn on(url: &str) -> Self {
        let client = redis::Client::open(url).expect("a URL");
        let connection = client
            .get_multiplexed_async_connection()
            .await
            .expect("the server answers");
        let hold = "for _, holder in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV, 2))) do \
                    if holder then return 0 end end \
                    local set = {} for i = 2, #ARGV do set[2 * i - 3], set[2 * i - 2] = ARGV[i], ARGV[1] end \
                    redis.call('HSET', KEYS[1], unpack(set)) return 1";
        let release = "return redis.call('HDEL', KEYS[1], unpack(ARGV))";
        Self {
            connection,
            hold: Script::new(hold),
            release: Script::new(release),
        }
    }

    async fn hold(&self, request: &StoreHold) {
        let mut call = self.hold.prepare_invoke();
        call.key("{baseline}:seats")
            .arg(&request.id.as_uuid().as_bytes()[..]);
        for seat in request.seats.iter() {
            call.arg(seat.0);
        }
        let held: i64 = call
            .invoke_async(&mut self.connection.clone())
            .await
            .expect("the server answers");
        assert_eq!(held, 1, "the seats are free");
    }

    async fn release(&self, request: &StoreHold) {
        let mut call = self.release.prepare_invoke();
        call.key("{baseline}:seats");
        for seat in request.seats.iter() {
            call.arg(seat.0);
        }
        let _: i64 = call
            .invoke_async(&mut self.connection.clone())
            .await
            .expect("the server answers");
    }
}

/// An activated store with only free seats.
async fn redis_store(url: &str, seats_total: u32, lifecycle: &Lifecycle) -> RedisStore {
    let deadline = Duration::from_secs(5);
    let config = RedisConfig {
        url: url.to_owned(),
        command_timeout: deadline,
        connect_timeout: deadline,
        allow_unsafe: false,
    };
    let redis = Redis::new(config).expect("a URL");
    let name = (
        "bench".parse().expect("a sale"),
        format!("venue-{seats_total}").parse().expect("a performance"),
    );
    let store = RedisStore::start(
        redis,
        (&name.0, &name.1),
        (seats_total as usize, TERMS),
        Arc::new(OsEntropy),
        lifecycle,
    );
    let mut changes = store.dataset_changes();
    let status = loop {
        match store.dataset_status().await {
            Ok(Some(status)) => break status,
            _ => changes.changed().await.expect("the connection is maintained"),
        }
    };
    let nothing = async { Ok::<_, StoreError>(Vec::new()) };
    store
        .rebuild(1, &status.dataset_id, nothing)
        .await
        .expect("the dataset can be rebuilt");
    store.activate(1, &status.dataset_id);
    store
}

async fn cycle(store: &RedisStore, request: &StoreHold) {
    let request = StoreHold {
        id: HoldId::random(&OsEntropy),
        ..request.clone()
    };
    let reply = store.hold(&request).await.expect("the server answers");
    assert!(matches!(reply, HoldReply::Held { .. }), "{reply:?}");
    assert!(
        store
            .release(request.id, &request.subject)
            .await
            .expect("the server answers")
    );
}

/// Rounds a second of all callers together, each with requests for its own part of the seats.
async fn rate<F: Future<Output = ()> + Send>(
    seats_total: u32,
    group: u32,
    round: impl Fn(StoreHold) -> F + Clone + Send + 'static,
) -> f64 {
    let nanos = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let (round, nanos) = (round.clone(), Arc::clone(&nanos));
        let mut requests = Requests::of_part(seats_total, group, caller, CALLERS);
        tokio::spawn(async move {
            for _ in 0..ROUNDS / u64::from(CALLERS) {
                round(requests.next().clone()).await;
            }
            nanos.fetch_max(
                u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
                Ordering::Relaxed,
            );
        })
    });
    futures_util::future::join_all(callers)
        .await
        .into_iter()
        .for_each(|caller| caller.expect("no caller fails"));
    ROUNDS as f64 / (nanos.load(Ordering::Relaxed) as f64 / 1e9)
}

/// Microseconds of server time a script of these rounds took. Several holds share one script of the store.
async fn server_us(server: &RedisServer, rounds: impl Future<Output = f64>) -> f64 {
    server
        .run(&["CONFIG", "RESETSTAT"])
        .await
        .expect("the server answers");
    rounds.await;
    let stats = server.info("cmdstat_evalsha").await.expect("the server answers");
    let field = stats
        .split(',')
        .find_map(|field| field.strip_prefix("usec_per_call="));
    field.and_then(|field| field.parse().ok()).unwrap_or(f64::NAN)
}

/// Whole HTTP requests for 4 seats: a handler reads a list of seats, calls the store or the baseline, and
/// replies.
async fn over_http(server: &RedisServer, lifecycle: &Lifecycle, baseline: &Arc<Baseline>) {
    let mut ratios = Vec::new();
    let mut rates = (0.0_f64, 0.0_f64);
    for n in 0..PAIRS {
        let store = redis_store(
            &server.url(),
            HTTP_SEATS + u32::try_from(n).unwrap_or_default(),
            lifecycle,
        )
        .await;
        let by_store = move |Json(seats): Json<Vec<u32>>| {
            let store = store.clone();
            async move {
                let request = request_of(&seats);
                let reply = store.hold(&request).await.expect("the server answers");
                assert!(matches!(reply, HoldReply::Held { .. }), "{reply:?}");
                Json(request.id)
            }
        };
        let baseline_again = Arc::clone(baseline);
        let by_baseline = move |Json(seats): Json<Vec<u32>>| {
            let baseline = Arc::clone(&baseline_again);
            async move {
                let request = request_of(&seats);
                baseline.hold(&request).await;
                Json(request.id)
            }
        };
        let store_rate = requests_a_second(Router::new().route("/holds", post(by_store))).await;
        let baseline_rate = requests_a_second(Router::new().route("/holds", post(by_baseline))).await;
        server
            .run(&["UNLINK", "{baseline}:seats"])
            .await
            .expect("the server answers");
        ratios.push(store_rate / baseline_rate);
        rates = (rates.0.max(store_rate), rates.1.max(baseline_rate));
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "  a hold of 4 over HTTP: store / baseline {:.2} ({:.2} to {:.2}), \
         at best {:.0}/s and {:.0}/s  target 0.85",
        ratios[PAIRS / 2],
        ratios[PAIRS / 5],
        ratios[PAIRS - 1 - PAIRS / 5],
        rates.0,
        rates.1
    );
}

fn request_of(seats: &[u32]) -> StoreHold {
    let who = Subject::customer(&format!("{}", seats[0])).expect("a short key");
    let (id, visit) = (HoldId::random(&OsEntropy), VisitId::from_uuid(uuid::Uuid::nil()));
    StoreHold {
        id,
        subject: who,
        visit,
        seats: seats.iter().map(|seat| SeatIx(*seat)).collect(),
        idempotency_key: None,
    }
}

/// Requests a second over kept-alive connections, each for seats that no other request names.
async fn requests_a_second(router: Router) -> f64 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("the listener is bound");
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let start = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        tokio::spawn(async move {
            let mut connection =
                BufReader::new(TcpStream::connect(address).await.expect("the server listens"));
            for group in (caller..HTTP_SEATS / 4).step_by(CALLERS as usize) {
                let first = group * 4;
                let body = format!("[{first},{},{},{}]", first + 1, first + 2, first + 3);
                let head =
                    "POST /holds HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: ";
                let request = format!("{head}{}\r\n\r\n{body}", body.len());
                connection
                    .write_all(request.as_bytes())
                    .await
                    .expect("the server reads");
                read_answer(&mut connection).await;
            }
        })
    });
    futures_util::future::join_all(callers)
        .await
        .into_iter()
        .for_each(|caller| caller.expect("no caller fails"));
    let spent = start.elapsed().as_secs_f64();
    serving.abort();
    f64::from(HTTP_SEATS / 4) / spent
}

async fn read_answer(connection: &mut BufReader<TcpStream>) {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        connection.read_line(&mut line).await.expect("the server answers");
        assert!(!line.starts_with("HTTP") || line.contains(" 200 "), "{line}");
        if let Some(stats) = line.strip_prefix("content-length: ") {
            length = stats.trim().parse().expect("a number");
        }
        if line == "\r\n" {
            break;
        }
    }
    connection
        .read_exact(&mut vec![0; length])
        .await
        .expect("the whole body");
}

pub(super) async fn figures() {
    let server = match RedisServer::start().await {
        Ok(server) => server,
        Err(ServerError::NotInstalled(what)) => {
            return println!("\nOn Redis: skipped, {what} is not installed");
        }
        Err(error) => panic!("{error}"),
    };
    println!(
        "\nOn Redis (appendonly yes, appendfsync everysec), {CALLERS} callers on one connection, \
         hold and release:"
    );
    println!("median of {PAIRS} interleaved pairs of {ROUNDS} rounds");
    let lifecycle = Lifecycle::new();
    let baseline = Arc::new(Baseline::on(&server.url()).await);
    for seats_total in [VENUE_SIZES[1], VENUE_SIZES[2]] {
        let store = redis_store(&server.url(), seats_total, &lifecycle).await;
        for group in [1, 4] {
            let by_store = {
                let store = store.clone();
                move |request: StoreHold| {
                    let store = store.clone();
                    async move { cycle(&store, &request).await }
                }
            };
            let by_baseline = {
                let baseline = Arc::clone(&baseline);
                move |request: StoreHold| {
                    let baseline = Arc::clone(&baseline);
                    async move {
                        baseline.hold(&request).await;
                        baseline.release(&request).await;
                    }
                }
            };
            let (mut ratios, mut rates) = (Vec::new(), Vec::new());
            for _ in 0..PAIRS {
                let store_rate = rate(seats_total, group, by_store.clone()).await;
                rates.push(store_rate);
                ratios.push(store_rate / rate(seats_total, group, by_baseline.clone()).await);
            }
            ratios.sort_by(f64::total_cmp);
            rates.sort_by(f64::total_cmp);
            let (ratio, per_s) = (ratios[PAIRS / 2], rates[PAIRS / 2]);
            let store_us = server_us(&server, rate(seats_total, group, by_store)).await;
            let baseline_us = server_us(&server, rate(seats_total, group, by_baseline)).await;
            println!(
                "  {group} of {seats_total} seats: store / baseline {ratio:.2}, {per_s:.0} rounds/s; \
                 server time a script {store_us:.1} us, baseline {baseline_us:.1} us"
            );
        }
    }
    over_http(&server, &lifecycle, &baseline).await;
    lifecycle.stop();
}
