//! The box office's word to the door, where the two are different processes: `POST /v1/box-office/{sale}/reports` on the
//! private listener, a JSON body under a MAC of the house's own keys.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    routing::post,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parking_lot::Mutex;

use crate::{
    edge::errors::problem::{Kind, Problem},
    kernel::SaleId,
    platform::signing::{MacKeys, base64url, from_base64url},
    waiting_room::{BoxOfficeReport, WaitingRoom},
};

/// Twenty thousand payments under way at once have some 800 kB.
const REPORT_BYTES_MAX: usize = 2 * 1024 * 1024;
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);
const SOURCE_LENGTH_MAX: usize = 128;

/// Takes reports once the waiting rooms are open. Cheap to clone.
#[derive(Clone, Default)]
pub struct BoxOfficeFeed(Arc<OnceLock<OpenFeed>>);

struct OpenFeed {
    rooms: BTreeMap<SaleId, Arc<WaitingRoom>>,
    seal: MacKeys,
    /// The last report of each source.
    last_sequences: Mutex<HashMap<(SaleId, String), u64>>,
}

impl BoxOfficeFeed {
    /// From now on reports under `seal` reach these rooms.
    pub fn open(&self, rooms: &BTreeMap<SaleId, Arc<WaitingRoom>>, seal: MacKeys) {
        let desk = OpenFeed {
            rooms: rooms.clone(),
            mac,
            last_sequences: Mutex::default(),
        };
        if self.0.set(desk).is_err() {
            tracing::error!("the desk for reports was open already");
        }
    }

    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/v1/box-office/{sale}/reports", post(accept_report))
            .with_state(self)
    }
}

/// The header that proves a report's sender.
///
/// # Panics
/// Never: the key in force is one of the keys.
#[must_use]
pub fn mac(keys: &MacKeys, sale: &SaleId, body: &[u8]) -> HeaderValue {
    let kid = keys.current();
    let tag = keys
        .tag(kid, &mac_input(sale, body))
        .expect("the current key is one of the keys");
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

/// With the sale in it, so that a report cannot be sent on to another sale's door.
fn mac_input(sale: &SaleId, body: &[u8]) -> Vec<u8> {
    [b"box office report\0", sale.as_str().as_bytes(), b"\0", body].concat()
}

async fn accept_report(
    State(desk): State<BoxOfficeFeed>,
    Path(sale): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let desk = desk.0.get().ok_or_else(|| {
        Problem::new(Kind::TemporarilyUnavailable)
            .detail("no waiting room is open here")
            .retry_after_s(1)
    })?;
    let sale: SaleId = sale.parse().map_err(|_| no_such_sale())?;
    // Said before it is sent, where it says its length.
    if body.size_hint().lower() > REPORT_BYTES_MAX as u64 {
        return Err(Problem::new(Kind::BodyTooLarge));
    }
    let body = match tokio::time::timeout(REPORT_TIMEOUT, Limited::new(body, REPORT_BYTES_MAX).collect()).await
    {
        Err(_) => return Err(Problem::new(Kind::BodyTooSlow)),
        Ok(Err(e)) if e.is::<LengthLimitError>() => return Err(Problem::new(Kind::BodyTooLarge)),
        Ok(Err(_)) => return Err(Problem::new(Kind::MalformedRequest).detail("the body broke off")),
        Ok(Ok(body)) => body.to_bytes(),
    };
    if !is_authentic(&desk.seal, &sale, &body, &headers) {
        return Err(Problem::new(Kind::NotSigned).detail("not under this house's keys"));
    }
    let room = desk.rooms.get(&sale).ok_or_else(no_such_sale)?;
    let report: BoxOfficeReport = serde_json::from_slice(&body)
        .map_err(|e| Problem::new(Kind::MalformedRequest).detail(e.to_string()))?;
    if report.source.is_empty() || report.source.len() > SOURCE_LENGTH_MAX {
        return Err(Problem::new(Kind::InvalidField).with("field", &"source"));
    }
    if desk.is_newer(&sale, &report) {
        room.box_office_report(report);
    }
    Ok(StatusCode::NO_CONTENT)
}

impl OpenFeed {
    /// What comes late or twice says nothing: whoever sent it has said more since.
    fn is_newer(&self, sale: &SaleId, report: &BoxOfficeReport) -> bool {
        let mut heard = self.last_sequences.lock();
        let last = heard.entry((sale.clone(), report.source.clone())).or_insert(0);
        let is_news = report.sequence > *last;
        *last = report.sequence.max(*last);
        is_news
    }
}

fn no_such_sale() -> Problem {
    Problem::new(Kind::NotFound).detail("there is no such sale")
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
    fn a_seal_holds_for_its_sale_body_and_house() {
        let (one, two): (SaleId, SaleId) = ("one".parse().unwrap(), "two".parse().unwrap());
        let sealed = headers(mac(&keys(1), &one, b"report"));
        assert!(is_authentic(&keys(1), &one, b"report", &sealed));
        assert!(!is_authentic(&keys(1), &two, b"report", &sealed));
        assert!(!is_authentic(&keys(1), &one, b"reporT", &sealed));
        assert!(!is_authentic(&keys(2), &one, b"report", &sealed));
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
    fn each_source_is_heard_in_its_own_order() {
        let desk = OpenFeed {
            rooms: BTreeMap::new(),
            seal: keys(1),
            last_sequences: Mutex::default(),
        };
        let sale: SaleId = "one".parse().unwrap();
        let said = |source: &str, sequence| {
            let report = BoxOfficeReport {
                source: source.to_owned(),
                sequence,
                ..BoxOfficeReport::default()
            };
            desk.is_newer(&sale, &report)
        };
        assert!(said("a", 5) && said("b", 3) && said("a", 6));
        assert!(!said("a", 6) && !said("a", 5) && !said("b", 3));
        assert!(said("b", 4));
    }
}
