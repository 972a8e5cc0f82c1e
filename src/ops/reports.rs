//! Receives the box office's reports where it runs in another process: `POST /v1/box-office/{sale}/reports`
//! on the admin listener, a JSON body authenticated by a MAC under the service's internal keys.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
};
use http::{HeaderMap, HeaderValue, header};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    edge::errors::problem::{Problem, ProblemType},
    kernel::SaleId,
    platform::signing::{MacKeys, base64url, from_base64url},
    waiting_room::{BoxOfficeReport, CalledVisitor, Milestones, WaitingRoom},
};

/// A report with 20,000 payments in progress has about 800 kB.
const REPORT_BYTES_MAX: usize = 2 * 1024 * 1024;
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);
const SOURCE_LENGTH_MAX: usize = 128;

/// Receives reports once the waiting rooms are open. Cheap to clone.
#[derive(Clone, Default)]
pub struct BoxOfficeFeed(Arc<OnceLock<OpenFeed>>);

struct OpenFeed {
    rooms: BTreeMap<SaleId, Arc<WaitingRoom>>,
    keys: MacKeys,
    /// The sequence number of the last report, by sale and source.
    last_sequences: Mutex<HashMap<(SaleId, String), u64>>,
}

/// Answer to a report.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReportAccepted {
    /// What the sale has reached.
    pub milestones: Milestones,
    /// Called visitors who asked to be told; a later report names those of whom the shop is told.
    pub called: Vec<CalledVisitor>,
}

impl ReportAccepted {
    /// What this room answers to a report.
    #[must_use]
    pub fn of(room: &WaitingRoom) -> Self {
        Self {
            milestones: room.milestones(),
            called: room.called_visitors(),
        }
    }
}

impl BoxOfficeFeed {
    /// Starts to accept reports for these rooms, authenticated under `keys`.
    pub fn open(&self, rooms: &BTreeMap<SaleId, Arc<WaitingRoom>>, keys: MacKeys) {
        let feed = OpenFeed {
            rooms: rooms.clone(),
            keys,
            last_sequences: Mutex::default(),
        };
        if self.0.set(feed).is_err() {
            tracing::error!("the box office feed was opened twice; keeping the first");
        }
    }
}

/// The `Authorization` header that authenticates a report: `Bearer {key id}.{MAC}`.
///
/// # Panics
/// Never: the current key exists.
#[must_use]
pub fn authorization(keys: &MacKeys, sale: &SaleId, body: &[u8]) -> HeaderValue {
    let kid = keys.current();
    let tag = keys
        .tag(kid, &mac_input(sale, body))
        .expect("the current key exists");
    HeaderValue::from_str(&format!("Bearer {kid}.{}", base64url(&tag)))
        .expect("digits and base64url are visible ASCII")
}

fn is_authentic(keys: &MacKeys, sale: &SaleId, body: &[u8], headers: &HeaderMap) -> bool {
    let proof = || {
        let (scheme, proof) = headers
            .get(header::AUTHORIZATION)?
            .to_str()
            .ok()?
            .split_once(' ')?;
        let (kid, tag) = proof.split_once('.')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some((kid.parse().ok()?, from_base64url(tag)?))
    };
    proof().is_some_and(|(kid, tag)| keys.verify(kid, &mac_input(sale, body), &tag))
}

/// The MAC's input. Includes the sale, so that a report cannot be replayed for another sale.
fn mac_input(sale: &SaleId, body: &[u8]) -> Vec<u8> {
    [b"box office report\0", sale.as_str().as_bytes(), b"\0", body].concat()
}

/// `POST /v1/box-office/{sale}/reports`: takes one report.
pub(super) async fn accept_report(
    State(feed): State<BoxOfficeFeed>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ReportAccepted>, Problem> {
    let feed = feed.0.get().ok_or_else(|| {
        Problem::new(ProblemType::TemporarilyUnavailable)
            .detail("no waiting room is open here")
            .retry_after_s(1)
    })?;
    let sale: SaleId = sale.parse().map_err(|_| no_such_sale())?;
    // Refuse by Content-Length before reading the body.
    if body.size_hint().lower() > REPORT_BYTES_MAX as u64 {
        return Err(Problem::new(ProblemType::BodyTooLarge));
    }
    let body = match tokio::time::timeout(REPORT_TIMEOUT, Limited::new(body, REPORT_BYTES_MAX).collect())
        .await
    {
        Err(_) => return Err(Problem::new(ProblemType::BodyTooSlow)),
        Ok(Err(e)) if e.is::<LengthLimitError>() => return Err(Problem::new(ProblemType::BodyTooLarge)),
        Ok(Err(_)) => return Err(Problem::new(ProblemType::MalformedRequest).detail("the body ended early")),
        Ok(Ok(body)) => body.to_bytes(),
    };
    if !is_authentic(&feed.keys, &sale, &body, &headers) {
        return Err(Problem::new(ProblemType::NotSigned).detail("not signed with this service's keys"));
    }
    let room = feed.rooms.get(&sale).ok_or_else(no_such_sale)?;
    let report: BoxOfficeReport = serde_json::from_slice(&body)
        .map_err(|e| Problem::new(ProblemType::MalformedRequest).detail(e.to_string()))?;
    if report.source.is_empty() || report.source.len() > SOURCE_LENGTH_MAX {
        return Err(Problem::new(ProblemType::InvalidField).with("field", &"source"));
    }
    if feed.is_newer(&sale, &report) {
        room.receive_report(report);
    }
    Ok(Json(ReportAccepted::of(room)))
}

impl OpenFeed {
    /// Whether the report is newer than the last one of its source. Delayed and repeated reports are dropped,
    /// because later ones hold more.
    fn is_newer(&self, sale: &SaleId, report: &BoxOfficeReport) -> bool {
        let mut last_sequences = self.last_sequences.lock();
        let last = last_sequences
            .entry((sale.clone(), report.source.clone()))
            .or_insert(0);
        let is_newer = report.sequence > *last;
        *last = report.sequence.max(*last);
        is_newer
    }
}

fn no_such_sale() -> Problem {
    Problem::new(ProblemType::NotFound).detail("there is no such sale")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(id: u8) -> MacKeys {
        MacKeys::new(&BTreeMap::from([(id, [id; 32])]))
    }

    fn headers(value: HeaderValue) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    }

    #[test]
    fn a_mac_is_valid_for_its_sale_body_and_keys() {
        let (one, two): (SaleId, SaleId) = ("one".parse().unwrap(), "two".parse().unwrap());
        let signed = headers(authorization(&keys(1), &one, b"report"));
        assert!(is_authentic(&keys(1), &one, b"report", &signed));
        assert!(!is_authentic(&keys(1), &two, b"report", &signed));
        assert!(!is_authentic(&keys(1), &one, b"reporT", &signed));
        assert!(!is_authentic(&keys(2), &one, b"report", &signed));
        assert!(!is_authentic(&keys(1), &one, b"report", &HeaderMap::new()));
        for odd in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 1",
            "Bearer 1.",
            "Bearer x.AAAA",
            "Basic 1.AAAA",
            "Bearer 1.!",
        ] {
            assert!(
                !is_authentic(&keys(1), &one, b"report", &headers(HeaderValue::from_static(odd))),
                "{odd}"
            );
        }
    }

    #[test]
    fn reports_are_ordered_by_source() {
        let feed = OpenFeed {
            rooms: BTreeMap::new(),
            keys: keys(1),
            last_sequences: Mutex::default(),
        };
        let sale: SaleId = "one".parse().unwrap();
        let is_newer = |source: &str, sequence| {
            let report = BoxOfficeReport {
                source: source.to_owned(),
                sequence,
                ..BoxOfficeReport::default()
            };
            feed.is_newer(&sale, &report)
        };
        assert!(is_newer("a", 5) && is_newer("b", 3) && is_newer("a", 6));
        assert!(!is_newer("a", 6) && !is_newer("a", 5) && !is_newer("b", 3));
        assert!(is_newer("b", 4));
    }
}
