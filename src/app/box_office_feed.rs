//! The box office's word to the door, twice a second: a plain call where both are one process, else to every waiting room
//! that the configuration names.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderValue, Method, Uri, header};
use parking_lot::Mutex;

use crate::app::build::Parts;
use crate::{
    edge::{BoxOfficeState, WaitingRoomState, overload::health::HealthWindow},
    kernel::{Clock, SaleId, VisitId},
    ops::{config::Settings, reports},
    platform::{http_client::HttpClient, shutdown::Lifecycle, signing::MacKeys},
    seating::Seating,
    waiting_room::{BoxOfficeHealth, BoxOfficeReport, ZoneStock},
};

const REPORT_INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(1);
const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// Ended visits in one report; the others wait for the next.
const ENDED_MAX: usize = 8_192;

/// Starts it, where there is a box office.
pub(crate) fn start(parts: &Parts, settings: &Settings, background: &Lifecycle) -> anyhow::Result<()> {
    let Some(office) = parts.box_office.clone() else {
        return Ok(());
    };
    let to = if let Some(door) = &parts.waiting_room {
        Destination::Local(door.clone())
    } else {
        let away = settings
            .box_office
            .waiting_room_urls
            .iter()
            .map(|base| Ok((base.clone(), base.parse().context("box_office.waiting_room_urls")?)));
        Destination::Remote(RemoteFeed {
            bases: away.collect::<anyhow::Result<_>>()?,
            client: Box::new(HttpClient::new(TIMEOUT, RESPONSE_BYTES_MAX)),
            mac_keys: parts.open_keys.internal.clone(),
            failing: Mutex::default(),
        })
    };
    let clock = Arc::clone(&parts.house.clock);
    let memory = Mutex::new(ReporterState {
        sequence: 0,
        ended: BTreeMap::new(),
    });
    let reporter = Arc::new(Reporter {
        office,
        destination: to,
        node: settings.node_name(),
        clock,
        state: memory,
        health_window: Mutex::default(),
    });
    let life = background.clone();
    background.supervise("box office report", REPORT_INTERVAL, move || {
        let (reporter, life) = (Arc::clone(&reporter), life.clone());
        async move {
            let mut every = tokio::time::interval(REPORT_INTERVAL);
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while life.until_stopping(every.tick()).await.is_some() {
                reporter.send_reports().await;
            }
        }
    });
    Ok(())
}

enum Destination {
    Local(WaitingRoomState),
    Remote(RemoteFeed),
}

/// The way to doors in other processes.
struct RemoteFeed {
    /// As configured, and parsed.
    bases: Vec<(String, Uri)>,
    client: Box<HttpClient>,
    mac_keys: MacKeys,
    /// Those that did not take the last report, so that each silence is logged once.
    failing: Mutex<HashSet<String>>,
}

struct Reporter {
    office: BoxOfficeState,
    destination: Destination,
    node: String,
    clock: Arc<dyn Clock>,
    state: Mutex<ReporterState>,
    health_window: Mutex<HealthWindow>,
}

struct ReporterState {
    sequence: u64,
    /// Ended visits that no door has taken yet.
    ended: BTreeMap<SaleId, Vec<VisitId>>,
}

impl Reporter {
    async fn send_reports(&self) {
        let paying = self.office.checkout.visits_with_payment();
        let health = self
            .health_window
            .lock()
            .round(self.office.health.take(), self.clock.monotonic());
        for sale in self.office.house.sales.keys() {
            let report = self.report(sale, paying.clone(), health);
            let told = report.ended.len();
            let taken = match &self.destination {
                Destination::Local(door) => door
                    .room(sale)
                    .map(|room| room.box_office_report(report))
                    .is_some(),
                Destination::Remote(wire) => wire.send(sale, &report).await,
            };
            if taken && let Some(ended) = self.state.lock().ended.get_mut(sale) {
                ended.drain(..told);
            }
        }
    }

    fn report(&self, sale: &SaleId, paying: Vec<VisitId>, health: BoxOfficeHealth) -> BoxOfficeReport {
        let mut memory = self.state.lock();
        // By the clock, so that it grows over a restart, and one more each time, so that it grows whatever the clock does.
        let micros = u64::try_from(self.clock.now().as_millis())
            .unwrap_or(0)
            .saturating_mul(1_000);
        memory.sequence = micros.max(memory.sequence + 1);
        let sequence = memory.sequence;
        let waiting = memory.ended.entry(sale.clone()).or_default();
        waiting.extend(self.office.ended_visits.take(sale));
        let ended = waiting.iter().take(ENDED_MAX).copied().collect();
        BoxOfficeReport {
            source: self.node.clone(),
            sequence,
            zones: zone_stock(&self.office.seating, sale),
            ended,
            paying,
            health: Some(health),
        }
    }
}

impl RemoteFeed {
    /// Says whether any of the doors has taken it: they share what they know. Never sent again: the next report says more.
    async fn send(&self, sale: &SaleId, report: &BoxOfficeReport) -> bool {
        let body: Bytes = serde_json::to_vec(report)
            .expect("our own wire types are JSON")
            .into();
        let seal = reports::mac(&self.mac_keys, sale, &body);
        let told = join_all(
            self.bases
                .iter()
                .map(|(name, base)| self.post_report(name, base, sale, &seal, body.clone())),
        )
        .await;
        told.contains(&true)
    }

    async fn post_report(&self, name: &str, base: &Uri, sale: &SaleId, seal: &HeaderValue, body: Bytes) -> bool {
        let headers = [
            (header::AUTHORIZATION, seal.clone()),
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ];
        let told = match reports_url(base, sale) {
            Ok(uri) => self
                .client
                .send(Method::POST, uri, &headers, body)
                .await
                .map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        };
        let trouble = match told {
            Ok(answer) if answer.status.is_success() => None,
            Ok(answer) => Some(format!("answered {}", answer.status)),
            Err(error) => Some(error),
        };
        let outcome = if trouble.is_none() { "taken" } else { "lost" };
        metrics::counter!("box_office_reports_total", "outcome" => outcome).increment(1);
        match &trouble {
            Some(trouble) if self.failing.lock().insert(name.to_owned()) => {
                tracing::warn!(
                    door = name,
                    trouble,
                    "a door does not take the box office's reports"
                );
            }
            None if self.failing.lock().remove(name) => {
                tracing::info!(door = name, "a door takes the box office's reports again")
            }
            _ => {}
        }
        trouble.is_none()
    }
}

fn reports_url(base: &Uri, sale: &SaleId) -> Result<Uri, http::Error> {
    let authority = base.authority().map_or("", |it| it.as_str());
    Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(format!("/v1/box-office/{sale}/reports"))
        .build()
}

/// What is left of a sale, over all its performances.
fn zone_stock(seating: &Seating, sale: &SaleId) -> Vec<ZoneStock> {
    let mut zones: BTreeMap<String, ZoneStock> = BTreeMap::new();
    for stock in seating
        .performances(sale)
        .iter()
        .flat_map(|performance| performance.stock())
    {
        let zone = zones.entry(stock.zone.clone()).or_insert(ZoneStock {
            zone: stock.zone,
            free: 0,
            held: 0,
            booked: 0,
            blocked: 0,
        });
        zone.free += stock.free;
        zone.held += stock.held;
        zone.booked += stock.booked;
        zone.blocked += stock.blocked;
    }
    zones.into_values().collect()
}
