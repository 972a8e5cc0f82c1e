//! Databases, Redis and the proxy in front, as this machine reaches them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use serde_json::Value;

use crate::{
    app::preflight::report::Report,
    kernel::{Clock, SystemClock, Timestamp},
    ops::config::{DatabaseLocation, Settings},
    platform::{
        http_client::{HttpClient, Response, TrustStore},
        redis::{Redis, RedisConfig},
        sql::{self, ServerTime},
    },
};

/// As far as clocks may be apart while a node serves.
const CLOCK_TOLERANCE_MS: i64 = 5_000;
/// A proxy must let cookies of this size pass: several sales' tokens, passes and sessions.
const COOKIE_BYTES: usize = 7_000;
const PROXY_TIMEOUT: Duration = Duration::from_secs(5);
const PROXY_BYTES_MAX: usize = 1 << 20;

pub(super) async fn databases(settings: &Settings, report: &mut Report) {
    let (journal, ledger) = (settings.journal_database(), settings.ledger_database());
    let is_one = matches!((&journal, &ledger), (DatabaseLocation::Postgres(a), DatabaseLocation::Postgres(b))
        if a.expose() == b.expose());
    let named = [
        ("journal", Some(journal)),
        ("ledger", (!is_one).then_some(ledger)),
    ];
    for (name, location) in named {
        if let Some(DatabaseLocation::Postgres(url)) = location {
            postgres(name, url.expose(), report).await;
        }
    }
}

async fn postgres(name: &'static str, url: &str, report: &mut Report) {
    if let Err(error) = sql::check_server(url).await {
        report.failed(name, error.to_string(), format!("mend {name}.url or the server"));
        return;
    }
    report.ok(name, "PostgreSQL answers, may be written and commits durably");
    let read = match ServerTime::new(url) {
        Ok(server) => server.read().await.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    clock(&format!("PostgreSQL of the {name}"), read, report);
}

pub(super) async fn redis(settings: &Settings, report: &mut Report) {
    let (room, office) = (settings.waiting_room_redis(), settings.box_office_redis());
    let is_one = matches!((&room, &office), (Some(a), Some(b)) if a.url == b.url);
    for config in [room, office.filter(|_| !is_one)].into_iter().flatten() {
        one_redis(config, report).await;
    }
}

async fn one_redis(config: RedisConfig, report: &mut Report) {
    let redis = match Redis::new(config) {
        Ok(redis) => redis,
        Err(error) => {
            report.failed("redis", error.to_string(), "mend store.redis.url");
            return;
        }
    };
    let name = redis.url().to_string();
    if let Err(unfit) = redis.check_fitness().await {
        report.failed("redis", unfit.to_string(), "mend the server's settings");
        return;
    }
    report.ok(
        "redis",
        format!("{name} answers, evicts nothing, and may be written"),
    );
    for host in redis.primary_hosts().await.unwrap_or_default() {
        let read = redis.server_time(&host).await.map_err(|e| e.to_string());
        clock(&format!("Redis at {host}"), read, report);
    }
}

fn clock(name: &str, read: Result<Timestamp, String>, report: &mut Report) {
    match read {
        Ok(shown) => {
            let ahead_ms = shown.as_millis() - SystemClock::new().now().as_millis();
            let finding = format!("{name} is {ahead_ms} ms ahead of this machine");
            if ahead_ms.abs() <= CLOCK_TOLERANCE_MS {
                report.ok("clock", finding);
            } else {
                report.failed(
                    "clock",
                    finding,
                    "synchronize the clocks (chrony, systemd-timesyncd)",
                );
            }
        }
        Err(error) => report.warn(
            "clock",
            format!("{name} was not read: {error}"),
            "check the connection",
        ),
    }
}

/// Whether it is the answer of this service, and not a page of the shop whose host it shares.
fn lists_sales(response: &Response) -> bool {
    response
        .json::<Value>()
        .is_ok_and(|answer| answer["sales"].is_array())
}

/// A request through the address that browsers use, with as many cookies as they send.
pub(super) async fn proxy(settings: &Settings, report: &mut Report) {
    let base = &settings.server.public_base;
    let Ok(uri) = format!("{base}/v1/sales").parse::<http::Uri>() else {
        return;
    };
    let client = HttpClient::with_trust_store(PROXY_TIMEOUT, PROXY_BYTES_MAX, &TrustStore::for_url(base));
    let cookies = format!("preflight={}", "x".repeat(COOKIE_BYTES));
    let headers: Vec<(HeaderName, HeaderValue)> = HeaderValue::try_from(cookies)
        .map(|cookies| (header::COOKIE, cookies))
        .into_iter()
        .collect();
    match client.send(Method::GET, uri, &headers, Bytes::new()).await {
        Ok(response) if response.status.is_success() && !lists_sales(&response) => report.failed(
            "public address",
            format!("{base}/v1/sales answers, but not for this service"),
            "lead the address in server.public_base to the nodes, with its path unchanged \
                (config/deploy/nginx.conf, or under-path/locations.conf for a path of the shop's host)",
        ),
        Ok(response) if response.status.is_success() => {
            report.ok(
                "public address",
                format!("{base} answers, also with {COOKIE_BYTES} bytes of cookies"),
            );
        }
        Ok(response) if matches!(response.status.as_u16(), 400 | 414 | 431) => report.failed(
            "public address",
            format!(
                "{base} refuses {COOKIE_BYTES} bytes of cookies with {}",
                response.status
            ),
            "raise the proxy's limit of request headers (nginx: large_client_header_buffers 4 16k)",
        ),
        Ok(response) => report.warn(
            "public address",
            format!("{base} answers {}", response.status),
            "check it again when the service runs",
        ),
        Err(error) => report.warn(
            "public address",
            format!("{base} was not reached: {error}"),
            "check it again when the service runs behind its proxy",
        ),
    }
}
