//! Sends the box office's reports to the waiting rooms, twice a second: by a call within one process, else by
//! HTTP to every waiting room that the configuration names.

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
    checkout::{SaleMilestone, VisitorEvent},
    edge::{BoxOfficeState, WaitingRoomState, overload::health::HealthWindow},
    kernel::{Clock, SaleId, VisitId},
    ops::{
        config::Settings,
        reports::{self, ReportAccepted},
    },
    platform::{encryption::EncryptionKeys, http_client::HttpClient, shutdown::Lifecycle, signing::MacKeys},
    seating::Seating,
    waiting_room::{BoxOfficeHealth, BoxOfficeReport, CalledVisitor, Milestones, ZoneStock},
};

const REPORT_INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(1);
/// An answer with a hundred called visitors has about 30 kB.
const RESPONSE_BYTES_MAX: usize = 512 * 1024;
/// Called visitors that are recorded in one transaction.
const CALLED_AT_ONCE: usize = 100;
/// Maximum number of ended visits in one report; the others are in the next ones.
const ENDED_MAX: usize = 8_192;

/// Starts the loop if this process has a box office.
pub(crate) fn start(parts: &Parts, settings: &Settings, background: &Lifecycle) -> anyhow::Result<()> {
    let Some(box_office) = parts.box_office.clone() else {
        return Ok(());
    };
    let destination = if let Some(waiting_room) = &parts.waiting_room {
        Destination::Local(waiting_room.clone())
    } else {
        let urls = settings.box_office.waiting_room_urls.iter().map(|base| {
            Ok((
                base.clone(),
                base.parse().context("box_office.waiting_room_urls")?,
            ))
        });
        Destination::Remote(RemoteFeed {
            bases: urls.collect::<anyhow::Result<_>>()?,
            client: Box::new(HttpClient::new(TIMEOUT, RESPONSE_BYTES_MAX)),
            mac_keys: parts.keys.internal.clone(),
            failing: Mutex::default(),
        })
    };
    let clock = Arc::clone(&parts.state.clock);
    let state = Mutex::new(ReporterState {
        sequence: 0,
        ended: BTreeMap::new(),
        told: BTreeMap::new(),
    });
    let reporter = Arc::new(Reporter {
        box_office,
        destination,
        node: settings.node_name(),
        clock,
        call_notice_keys: parts.keys.call_notice.clone(),
        state,
        health_window: Mutex::default(),
    });
    let lifecycle = background.clone();
    background.supervise("box office report", REPORT_INTERVAL, move || {
        let (reporter, lifecycle) = (Arc::clone(&reporter), lifecycle.clone());
        async move {
            let mut interval = tokio::time::interval(REPORT_INTERVAL);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while lifecycle.until_stopping(interval.tick()).await.is_some() {
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

/// Reports to waiting rooms in other processes.
struct RemoteFeed {
    /// Base URLs, as configured and parsed.
    bases: Vec<(String, Uri)>,
    client: Box<HttpClient>,
    mac_keys: MacKeys,
    /// Base URLs that did not accept the last report, so that each outage is logged once.
    failing: Mutex<HashSet<String>>,
}

struct Reporter {
    box_office: BoxOfficeState,
    destination: Destination,
    node: String,
    clock: Arc<dyn Clock>,
    call_notice_keys: EncryptionKeys,
    state: Mutex<ReporterState>,
    health_window: Mutex<HealthWindow>,
}

struct ReporterState {
    sequence: u64,
    /// Ended visits that no waiting room has accepted yet.
    ended: BTreeMap<SaleId, Vec<VisitId>>,
    /// Called visitors of the last answers who are recorded for the shop, by arrival number.
    told: BTreeMap<SaleId, Vec<u32>>,
}

impl Reporter {
    async fn send_reports(&self) {
        let paying = self.box_office.checkout.visits_with_payment();
        let health = self
            .health_window
            .lock()
            .record(self.box_office.health.take(), self.clock.monotonic());
        for sale in self.box_office.app.sales.keys() {
            let report = self.report(sale, paying.clone(), health);
            let ended_count = report.ended.len();
            let accepted = match &self.destination {
                Destination::Local(waiting_room) => waiting_room.room(sale).map(|room| {
                    room.receive_report(report);
                    ReportAccepted::of(&room)
                }),
                Destination::Remote(remote) => remote.send(sale, &report).await,
            };
            let Some(accepted) = accepted else { continue };
            if let Some(ended) = self.state.lock().ended.get_mut(sale) {
                ended.drain(..ended_count);
            }
            self.note_milestones(sale, accepted.milestones);
            self.record_called(sale, accepted.called).await;
        }
    }

    /// Takes note of what the sale has reached, for the shop.
    fn note_milestones(&self, sale: &SaleId, milestones: Milestones) {
        let reached = [
            (SaleMilestone::Opened, milestones.opened_at),
            (SaleMilestone::SoldOut, milestones.sold_out_at),
            (SaleMilestone::Closed, milestones.closed_at),
        ];
        let events = self.box_office.checkout.events();
        for (milestone, at) in reached {
            if let Some(at) = at {
                events.note_milestone(sale, milestone, at);
            }
        }
    }

    /// Records for the shop who was called; the next report says so. What could not be recorded comes again
    /// with the next answer.
    async fn record_called(&self, sale: &SaleId, called: Vec<CalledVisitor>) {
        for some in called.chunks(CALLED_AT_ONCE) {
            if !self.record_some_called(sale, some).await {
                return;
            }
        }
    }

    /// Says whether they are recorded.
    async fn record_some_called(&self, sale: &SaleId, called: &[CalledVisitor]) -> bool {
        let mut visitors = Vec::with_capacity(called.len());
        for visitor in called {
            let Some(customer) = visitor.customer(&self.call_notice_keys, sale) else {
                tracing::error!(%sale, arrival = visitor.arrival,
                    "a request to be told was encrypted under a key that is gone; it is dropped");
                continue;
            };
            let event = VisitorEvent {
                sale: sale.clone(),
                customer,
                enter_by: visitor.enter_by,
            };
            visitors.push((event, visitor.arrival, visitor.called_at));
        }
        let events = self.box_office.checkout.events();
        match events.record_called(sale, &visitors).await {
            Ok(()) => {
                let mut state = self.state.lock();
                let told = state.told.entry(sale.clone()).or_default();
                told.extend(called.iter().map(|visitor| visitor.arrival));
                true
            }
            Err(error) => {
                tracing::warn!(%sale, %error, visitors = called.len(),
                    "cannot record that visitors were called; retrying with the next report");
                false
            }
        }
    }

    fn report(&self, sale: &SaleId, paying: Vec<VisitId>, health: BoxOfficeHealth) -> BoxOfficeReport {
        let mut state = self.state.lock();
        // From the clock, so that it grows across restarts, and at least one more than before, so that it
        // grows even when the clock steps back.
        let micros = u64::try_from(self.clock.now().as_millis())
            .unwrap_or(0)
            .saturating_mul(1_000);
        state.sequence = micros.max(state.sequence + 1);
        let sequence = state.sequence;
        let pending = state.ended.entry(sale.clone()).or_default();
        pending.extend(self.box_office.ended_visits.take(sale));
        let ended = pending.iter().take(ENDED_MAX).copied().collect();
        let told = state.told.remove(sale).unwrap_or_default();
        BoxOfficeReport {
            source: self.node.clone(),
            sequence,
            zones: zone_stock(&self.box_office.seating, sale),
            ended,
            paying,
            told,
            health: Some(health),
        }
    }
}

impl RemoteFeed {
    /// Sends one report to all waiting rooms; returns the answers of those who accepted it as one: they share
    /// their state, and each has looked up who was called. A failed report is not repeated: the next one
    /// includes it.
    async fn send(&self, sale: &SaleId, report: &BoxOfficeReport) -> Option<ReportAccepted> {
        let body: Bytes = serde_json::to_vec(report)
            .expect("our own wire types are JSON")
            .into();
        let authorization = reports::authorization(&self.mac_keys, sale, &body);
        let accepted = join_all(
            self.bases
                .iter()
                .map(|(name, base)| self.post_report(name, base, sale, &authorization, body.clone())),
        )
        .await;
        accepted.into_iter().flatten().reduce(|mut one, other| {
            one.called.extend(other.called);
            one
        })
    }

    async fn post_report(
        &self,
        name: &str,
        base: &Uri,
        sale: &SaleId,
        authorization: &HeaderValue,
        body: Bytes,
    ) -> Option<ReportAccepted> {
        let headers = [
            (header::AUTHORIZATION, authorization.clone()),
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ];
        let response = match reports_url(base, sale) {
            Ok(uri) => self
                .client
                .send(Method::POST, uri, &headers, body)
                .await
                .map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        };
        let accepted = response.and_then(|response| match response.json::<ReportAccepted>() {
            Ok(accepted) if response.status.is_success() => Ok(accepted),
            _ => Err(format!("responded {}", response.status)),
        });
        let error_text = accepted.as_ref().err();
        let outcome = if error_text.is_none() {
            "accepted"
        } else {
            "failed"
        };
        metrics::counter!("stagedoor_box_office_reports_total", "outcome" => outcome).increment(1);
        match error_text {
            Some(error_text) if self.failing.lock().insert(name.to_owned()) => {
                tracing::warn!(
                    waiting_room = name,
                    error_text,
                    "a waiting room does not accept the box office's reports; retrying with the next report"
                );
            }
            None if self.failing.lock().remove(name) => {
                tracing::info!(
                    waiting_room = name,
                    "a waiting room accepts the box office's reports again"
                );
            }
            _ => {}
        }
        accepted.ok()
    }
}

fn reports_url(base: &Uri, sale: &SaleId) -> Result<Uri, http::Error> {
    let authority = base.authority().map_or("", |authority| authority.as_str());
    Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(format!("/v1/box-office/{sale}/reports"))
        .build()
}

/// The stock of a sale by price zone, summed over its performances.
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
            free_for_wheelchairs: 0,
            held: 0,
            booked: 0,
            blocked: 0,
        });
        zone.free += stock.free;
        zone.free_for_wheelchairs += stock.free_for_wheelchairs;
        zone.held += stock.held;
        zone.booked += stock.booked;
        zone.blocked += stock.blocked;
    }
    zones.into_values().collect()
}
