//! The engine on a Redis of its own, beside the floor: the least that gives all seats or none over the same kind of
//! connection. The floor's script looks at the seats' fields and sets them; it knows no owner's limit, no deadline, no
//! epoch, tells nobody and can be run twice to another effect.

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
        shutdown::Lifecycle,
        redis::{Redis, RedisConfig},
    },
    seating::{HoldReply, StoreHold, RedisStore, SeatIx, SeatStore, StoreError},
};
use testkit::{RedisServer, ServerError};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::cycles::{Fans, HOUSES, TERMS};

/// Callers at a time, on one connection.
const CALLERS: u32 = 64;
const ROUNDS: u64 = 20_000;
const PAIRS: usize = 9;
/// Each request over HTTP takes four seats of it, once.
const HTTP_HOUSE: u32 = 40_000;

pub(super) struct Floor {
    connection: MultiplexedConnection,
    hold: Script,
    release: Script,
}

impl Floor {
    pub(super) async fn on(url: &str) -> Self {
        let client = redis::Client::open(url).expect("a URL");
        let connection = client
            .get_multiplexed_async_connection()
            .await
            .expect("it answers");
        let hold = "for _, it in ipairs(redis.call('HMGET', KEYS[1], unpack(ARGV, 2))) do if it then return 0 end end \
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
        call.key("{floor}:seats")
            .arg(&request.id.as_uuid().as_bytes()[..]);
        for seat in request.seats.iter() {
            call.arg(seat.0);
        }
        let held: i64 = call
            .invoke_async(&mut self.connection.clone())
            .await
            .expect("it answers");
        assert_eq!(held, 1, "the seats are free");
    }

    async fn release(&self, request: &StoreHold) {
        let mut call = self.release.prepare_invoke();
        call.key("{floor}:seats");
        for seat in request.seats.iter() {
            call.arg(seat.0);
        }
        let _: i64 = call
            .invoke_async(&mut self.connection.clone())
            .await
            .expect("it answers");
    }
}

/// An engine that somebody has vouched for.
async fn engine(url: &str, house: u32, life: &Lifecycle) -> RedisStore {
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
        format!("house-{house}").parse().expect("a performance"),
    );
    let store = RedisStore::start(
        redis,
        (&name.0, &name.1),
        (house as usize, TERMS),
        Arc::new(OsEntropy),
        life,
    );
    let mut changes = store.dataset_changes();
    let memory = loop {
        match store.dataset_status().await {
            Ok(Some(memory)) => break memory,
            _ => changes.changed().await.expect("the line is kept up"),
        }
    };
    let nothing = async { Ok::<_, StoreError>(Vec::new()) };
    store
        .rebuild(1, &memory.identity, nothing)
        .await
        .expect("it can be filled");
    store.activate(1, &memory.identity);
    store
}

async fn cycle(store: &RedisStore, request: &StoreHold) {
    let request = StoreHold {
        id: HoldId::random(&OsEntropy),
        ..request.clone()
    };
    let reply = store.hold(&request).await.expect("it answers");
    assert!(matches!(reply, HoldReply::Held { .. }), "{reply:?}");
    assert!(
        store
            .release(request.id, &request.subject)
            .await
            .expect("it answers")
    );
}

/// Rounds a second of all callers together, each with requests of her own part.
async fn rate<F: Future<Output = ()> + Send>(
    house: u32,
    group: u32,
    round: impl Fn(StoreHold) -> F + Clone + Send + 'static,
) -> f64 {
    let nanos = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        let (round, nanos) = (round.clone(), Arc::clone(&nanos));
        let mut fans = Fans::of_part(house, group, caller, CALLERS);
        tokio::spawn(async move {
            for _ in 0..ROUNDS / u64::from(CALLERS) {
                round(fans.next().clone()).await;
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
        .for_each(|it| it.expect("no caller fails"));
    ROUNDS as f64 / (nanos.load(Ordering::Relaxed) as f64 / 1e9)
}

/// Microseconds of the server's own time a script of these rounds took; the engine's holds share theirs.
async fn server_us(server: &RedisServer, rounds: impl Future<Output = f64>) -> f64 {
    server.run(&["CONFIG", "RESETSTAT"]).await.expect("it answers");
    rounds.await;
    let told = server.info("cmdstat_evalsha").await.expect("it answers");
    let field = told.split(',').find_map(|it| it.strip_prefix("usec_per_call="));
    field.and_then(|it| it.parse().ok()).unwrap_or(f64::NAN)
}

/// Whole requests of 4 seats: a handler that reads a list of seats, calls one or the other, and says what came of it.
async fn over_http(server: &RedisServer, life: &Lifecycle, floor: &Arc<Floor>) {
    let mut ratios = Vec::new();
    let mut rates = (0.0_f64, 0.0_f64);
    for n in 0..PAIRS {
        let store = engine(
            &server.url(),
            HTTP_HOUSE + u32::try_from(n).unwrap_or_default(),
            life,
        )
        .await;
        let by_engine = move |Json(seats): Json<Vec<u32>>| {
            let store = store.clone();
            async move {
                let request = request_of(&seats);
                let reply = store.hold(&request).await.expect("it answers");
                assert!(matches!(reply, HoldReply::Held { .. }), "{reply:?}");
                Json(request.id)
            }
        };
        let floor_again = Arc::clone(floor);
        let by_floor = move |Json(seats): Json<Vec<u32>>| {
            let floor = Arc::clone(&floor_again);
            async move {
                let request = request_of(&seats);
                floor.hold(&request).await;
                Json(request.id)
            }
        };
        let of_engine = requests_a_second(Router::new().route("/holds", post(by_engine))).await;
        let of_floor = requests_a_second(Router::new().route("/holds", post(by_floor))).await;
        server
            .run(&["UNLINK", "{floor}:seats"])
            .await
            .expect("it answers");
        ratios.push(of_engine / of_floor);
        rates = (rates.0.max(of_engine), rates.1.max(of_floor));
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "  a hold of 4 over HTTP: engine / floor {:.2} ({:.2} to {:.2}), at best {:.0}/s and {:.0}/s  must reach 0.85",
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
        seats: seats.iter().map(|it| SeatIx(*it)).collect(),
        operation: None,
    }
}

/// Requests a second over connections that are kept, each for seats that nobody else wants.
async fn requests_a_second(router: Router) -> f64 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let start = Instant::now();
    let callers = (0..CALLERS).map(|caller| {
        tokio::spawn(async move {
            let mut connection = BufReader::new(TcpStream::connect(address).await.expect("it listens"));
            for group in (caller..HTTP_HOUSE / 4).step_by(CALLERS as usize) {
                let first = group * 4;
                let body = format!("[{first},{},{},{}]", first + 1, first + 2, first + 3);
                let head =
                    "POST /holds HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: ";
                let request = format!("{head}{}\r\n\r\n{body}", body.len());
                connection.write_all(request.as_bytes()).await.expect("it reads");
                read_answer(&mut connection).await;
            }
        })
    });
    futures_util::future::join_all(callers)
        .await
        .into_iter()
        .for_each(|it| it.expect("no caller fails"));
    let spent = start.elapsed().as_secs_f64();
    serving.abort();
    f64::from(HTTP_HOUSE / 4) / spent
}

async fn read_answer(connection: &mut BufReader<TcpStream>) {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        connection.read_line(&mut line).await.expect("it answers");
        assert!(!line.starts_with("HTTP") || line.contains(" 200 "), "{line}");
        if let Some(told) = line.strip_prefix("content-length: ") {
            length = told.trim().parse().expect("a number");
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
        "\nOn Redis (appendonly yes, appendfsync everysec), {CALLERS} callers on one connection, hold and release:"
    );
    println!("median of {PAIRS} interleaved pairs of {ROUNDS} rounds");
    let life = Lifecycle::new();
    let floor = Arc::new(Floor::on(&server.url()).await);
    for house in [HOUSES[1], HOUSES[2]] {
        let store = engine(&server.url(), house, &life).await;
        for group in [1, 4] {
            let by_engine = {
                let store = store.clone();
                move |request: StoreHold| {
                    let store = store.clone();
                    async move { cycle(&store, &request).await }
                }
            };
            let by_floor = {
                let floor = Arc::clone(&floor);
                move |request: StoreHold| {
                    let floor = Arc::clone(&floor);
                    async move {
                        floor.hold(&request).await;
                        floor.release(&request).await;
                    }
                }
            };
            let (mut ratios, mut rates) = (Vec::new(), Vec::new());
            for _ in 0..PAIRS {
                let of_engine = rate(house, group, by_engine.clone()).await;
                rates.push(of_engine);
                ratios.push(of_engine / rate(house, group, by_floor.clone()).await);
            }
            ratios.sort_by(f64::total_cmp);
            rates.sort_by(f64::total_cmp);
            let (ratio, per_s) = (ratios[PAIRS / 2], rates[PAIRS / 2]);
            let engine_us = server_us(&server, rate(house, group, by_engine)).await;
            let floor_us = server_us(&server, rate(house, group, by_floor)).await;
            println!(
                "  {group} of {house} seats: engine / floor {ratio:.2}, {per_s:.0} rounds/s; server time a script {engine_us:.1} us, floor {floor_us:.1} us"
            );
        }
    }
    over_http(&server, &life, &floor).await;
    life.stop();
}
