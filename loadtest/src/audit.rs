//! The audit at the end of a run: what clients observed against what the service's databases say, by the
//! independent auditor.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use stagedoor::{
    audit::{Evidence, LiveHold, audit, databases},
    demo::client::{Observations, messages::QueueEntry, visit::Visit},
    kernel::{Clock, SystemClock, Timestamp},
};
use tokio::sync::watch;

use crate::{crowd::Crowd, environment::Service};

/// The auditor's result.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// Why there was no audit, if there was none.
    pub not_audited: Option<String>,
    /// Every hold and every order deadline had passed before the databases were read.
    pub settled: bool,
    /// The first violations, in words.
    pub violations: Vec<String>,
    /// Audited joins.
    pub joins: usize,
    /// Audited admissions.
    pub entries: usize,
    /// Audited orders.
    pub orders: usize,
    /// Audited sold seats.
    pub booked: usize,
    /// Audited valid tickets.
    pub tickets: usize,
    /// Audited payments.
    pub payments: usize,
    /// Audited calls with a missing or forged proof.
    pub probes: usize,
    /// What was not looked at, in words.
    #[serde(default)]
    pub not_checked: Vec<String>,
    /// All violations, also those that are not listed.
    pub violations_count: usize,
}

impl Verdict {
    /// A verdict without an audit.
    pub fn not_audited(why: impl Into<String>) -> Self {
        Self {
            not_audited: Some(why.into()),
            ..Self::default()
        }
    }

    /// What was audited, in one line.
    pub fn scope(&self) -> String {
        let Self {
            joins,
            entries,
            orders,
            booked,
            tickets,
            payments,
            probes,
            ..
        } = self;
        let unsettled = if self.settled {
            ""
        } else {
            " (not all deadlines had passed)"
        };
        let not_checked = if self.not_checked.is_empty() {
            String::new()
        } else {
            format!("; not checked: {}", self.not_checked.join("; "))
        };
        format!(
            "{joins} joins, {entries} admissions, {orders} orders, {booked} booked seats, {tickets} tickets, \
             {payments} payments, {probes} forged calls{unsettled}{not_checked}"
        )
    }
}

const VIOLATIONS_LISTED_MAX: usize = 50;
/// The customer number of the observer, who stays admitted and reads the seat map at the end.
const OBSERVER: u32 = 0xefff_ffff;

/// Joins before the crowd, enters when called, and keeps the visit alive until `stop` is set. `None`: the
/// observer was not admitted.
pub async fn observe(crowd: Arc<Crowd>, mut stop: watch::Receiver<bool>) -> Option<Visit<Arc<Crowd>>> {
    let mut session = Box::default();
    let reply = crowd
        .sign_in_and_join(OBSERVER, crowd.elapsed(), &mut session)
        .await
        .ok()?;
    let entry: QueueEntry = reply.json()?;
    let token = entry.token?;
    let join = crowd.log.joined(OBSERVER, entry.number, crowd.now());
    let number = match entry.number {
        Some(number) => number,
        None => wait_for_number(&crowd, join, &token, &stop).await?,
    };
    let rng = crowd.rng(OBSERVER, 0);
    let mut visit = Visit::new(Arc::clone(&crowd), rng, OBSERVER, crowd.config.sale.clone());
    visit.number = Some(number);
    visit.credentials.queue_token = token;
    visit.credentials.authorization = session;
    while crowd.queue_status().now_serving < number {
        if *stop.borrow() || crowd.is_finished() {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    if !visit.enter().await.ok()? {
        return None;
    }
    loop {
        if *stop.borrow() {
            return Some(visit);
        }
        let _ = tokio::time::timeout(Duration::from_secs(5), stop.changed()).await;
        visit.renew_pass_if_due().await.ok()?;
    }
}

async fn wait_for_number(
    crowd: &Crowd,
    join: usize,
    token: &str,
    stop: &watch::Receiver<bool>,
) -> Option<u64> {
    while !*stop.borrow() && !crowd.is_finished() {
        let (number, pause) = crowd.number_of(token, crowd.elapsed()).await;
        if let Some(number) = number {
            crowd.log.numbered(join, number);
            return Some(number);
        }
        tokio::time::sleep(pause).await;
    }
    None
}

/// The seat map as the service shows it at the end.
pub struct FinalSeatMap {
    /// `(seat GUID, state)` of all seats.
    pub seats: Vec<(String, String)>,
    /// When every hold made by the crowd has ended.
    pub holds_ended_at: Timestamp,
}

/// What a run has gathered for the auditor.
pub struct Gathered<'a> {
    /// What clients observed.
    pub observations: &'a Observations,
    /// The seat map, if an admitted visitor could read it.
    pub seat_map: Option<FinalSeatMap>,
    /// Every hold and every order deadline has passed.
    pub settled: bool,
}

/// Audits a run.
pub async fn judge(service: &Service, gathered: Gathered<'_>) -> Verdict {
    let Some(databases) = &service.databases else {
        return Verdict::not_audited("the service's databases are not on this machine: pass --target-data");
    };
    let mut evidence = match databases::read_from(databases, &service.sale_id).await {
        Ok(evidence) => evidence,
        Err(error) => return Verdict::not_audited(format!("the databases cannot be read: {error}")),
    };
    evidence.observed_at = SystemClock::new().now();
    evidence.admission_settings = service.admission.into_iter().collect();
    evidence.late_arrival_share = service.late_arrival_share();
    evidence.settled = gathered.settled;
    gathered.observations.add_to(&mut evidence);
    databases::reclassify_late_arrivals(&mut evidence);
    match gathered.seat_map {
        // While orders are in progress, seats are booked between the reading of the map and of the ledger.
        Some(map) if gathered.settled => {
            add_seat_map(&mut evidence, map, &service.sale.performances[0].id);
        }
        // Without an admitted observer the store's view is unknown.
        _ => evidence.store_booked = None,
    }
    conclude(&evidence, gathered.settled)
}

fn add_seat_map(evidence: &mut Evidence, map: FinalSeatMap, performance: &str) {
    let mut booked = std::collections::BTreeSet::new();
    for (seat, state) in map.seats {
        match state.as_str() {
            "booked" => {
                booked.insert((performance.to_owned(), seat));
            }
            "held" => evidence.holds.push(LiveHold {
                id: format!("of seat {seat}"),
                expires_at: map.holds_ended_at,
                paying: false,
            }),
            _ => {}
        }
    }
    evidence.store_booked = Some(booked);
}

fn conclude(evidence: &Evidence, settled: bool) -> Verdict {
    let violations = audit(evidence);
    Verdict {
        not_audited: None,
        settled,
        violations_count: violations.len(),
        violations: violations
            .iter()
            .take(VIOLATIONS_LISTED_MAX)
            .map(ToString::to_string)
            .collect(),
        joins: evidence.journal_joins.len(),
        entries: evidence.admissions.len(),
        orders: evidence.orders.len(),
        booked: evidence.ledger_booked.len(),
        tickets: evidence.tickets.iter().filter(|ticket| ticket.valid).count(),
        payments: evidence.payments.as_ref().map_or(0, Vec::len),
        probes: evidence.probes.len(),
        not_checked: evidence.not_checked().into_iter().map(str::to_owned).collect(),
    }
}
