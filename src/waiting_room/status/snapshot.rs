//! Public status of a queue: what is the same for every visitor, encoded once a second and served as it is.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::watch;

use crate::kernel::{SaleId, Timestamp};
use crate::waiting_room::{
    draw::publication::DrawStatus,
    forecast::{
        scoring::ForecastAccuracy,
        wait_table::WaitPoint,
        zone_availability::{AvailabilityDistances, ZoneStatus},
    },
    journal::verify::ChainHead,
    status::{
        people_ahead::{PeopleAhead, PeopleCount},
        presence::{OnlineShare, PresenceStatus},
    },
    types::{DelayReason, Phase},
};

/// An encoded status, ready to be sent.
#[derive(Clone, Debug)]
pub struct EncodedStatus {
    /// Grows strictly, also over restarts: browsers ignore lower versions.
    pub version: u64,
    /// Entity tag with its quotation marks.
    pub etag: String,
    /// The status as JSON.
    pub json: Bytes,
    /// One whole server-sent event of type `status`, with its blank line.
    pub sse: Bytes,
}

/// Bounds of the pause between two polls, in milliseconds; a browser chooses its own within them.
#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct PollInterval {
    /// Shortest pause.
    pub min: u32,
    /// Longest pause.
    pub max: u32,
}

/// The public status of one queue. Field names are those of its JSON.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct QueueStatus<'a> {
    /// Set when the status is encoded.
    pub version: u64,
    /// When it was composed.
    pub generated_at: Timestamp,
    /// The sale.
    pub sale: &'a SaleId,
    /// Phase of the sale.
    pub phase: Phase,
    /// From when visitors are called.
    pub on_sale_starts_at: Timestamp,
    /// When the sale closes.
    pub closes_at: Timestamp,
    /// Highest number that has been called.
    pub now_serving: u32,
    /// Numbers assigned so far.
    pub numbers_issued: u32,
    /// Numbers that wait to be called.
    pub waiting: u32,
    /// Active visits.
    pub active_visits: u32,
    /// Admissions per minute in force.
    pub admission_rate_per_minute: u32,
    /// Active visits at most.
    pub active_visits_max: u32,
    /// Table of waits; empty while no forecast can be made.
    #[schema(value_type = Vec<(u32, u32, u32, u32)>)]
    pub estimate: Cow<'a, [WaitPoint]>,
    /// People behind the last number called.
    pub people_ahead: PeopleAhead,
    /// Who is asked for heartbeats, and how many are online.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence: Option<PresenceStatus>,
    /// Behind how many numbers the chance that a seat is left, whichever the zone, has fallen to 80, 50 and
    /// 20 in a hundred; `null` where it is higher than that for every waiting position. Absent while nothing
    /// is known of the stock. The table of waits ends at the last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Option<u32>>>)]
    pub available_to_distance: Option<AvailabilityDistances>,
    /// Price zones with their stock.
    pub zones: Vec<ZoneStatus>,
    /// Of a hundred admissions, how many at most go to late arrivals while others wait.
    pub late_arrival_percent: u32,
    /// Of the last waits that are over, how many were within their published range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forecast_accuracy: Option<ForecastAccuracy>,
    /// The operators' notice.
    #[schema(value_type = Option<String>)]
    pub notice: Option<Arc<str>>,
    /// Why waits are longer than they were.
    pub reason: Option<DelayReason>,
    /// The store is away: this is the last known state, and nothing moves until it is back.
    #[serde(skip_serializing_if = "is_false")]
    pub stale: bool,
    /// The fair draw; absent in a sale without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draw: Option<DrawStatus>,
    /// The last link of the journal's chain; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal: Option<ChainHead>,
    /// Bounds of the pause between polls.
    pub poll_interval_ms: PollInterval,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What positions are computed from: the numbers of the published status, whichever node has made it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct PublishedStatus {
    /// Highest number that had been called.
    pub now_serving: u32,
    /// Table of waits.
    pub estimate: Vec<WaitPoint>,
    /// As in the status.
    #[serde(default)]
    pub available_to_distance: Option<AvailabilityDistances>,
    people_ahead: PeopleAhead,
    /// Of a hundred visitors near the front, how many are online; `None` when too few are asked.
    #[serde(default, rename = "presence", deserialize_with = "percent_near")]
    pub online_percent: Option<u32>,
}

impl PublishedStatus {
    /// People with numbers after `from` up to `upto`.
    pub(crate) fn people_between(&self, from: u64, upto: u64) -> PeopleCount {
        let behind = |number: u64| {
            self.people_ahead
                .within(number.saturating_sub(self.now_serving.into()))
        };
        let (gone, all) = (behind(from), behind(upto));
        PeopleCount {
            count: all.count.saturating_sub(gone.count),
            approximate: all.approximate || gone.approximate,
        }
    }
}

fn percent_near<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    #[derive(Deserialize)]
    struct Presence {
        online: Vec<OnlineShare>,
    }
    Ok(Option::<Presence>::deserialize(deserializer)?
        .and_then(|presence| presence.online.first().map(|near| near.percent)))
}

const BYTES_MAX: usize = 2_048;

impl EncodedStatus {
    fn new(version: u64, json: String) -> Self {
        let sse = Bytes::from(format!("id: {version}\nevent: status\ndata: {json}\n\n"));
        Self {
            version,
            etag: format!("\"{version}\""),
            json: json.into(),
            sse,
        }
    }
}

impl QueueStatus<'_> {
    fn encode(mut self, version: u64) -> EncodedStatus {
        self.version = version;
        let mut json = self.to_json();
        // Every byte is sent to every visitor: the queue is described in fewer rows, and a hall with very
        // many price zones shows the first ones and a sum.
        while json.len() > BYTES_MAX && self.people_ahead.coarsen() {
            json = self.to_json();
        }
        while json.len() > BYTES_MAX && self.zones.len() > 1 {
            let last = self.zones.pop().expect("there are two");
            let sum = self.zones.last_mut().expect("there is one");
            sum.available_to_distance = None;
            let (sum, last) = (&mut sum.stock, last.stock);
            "…".clone_into(&mut sum.zone);
            sum.free += last.free;
            sum.free_for_wheelchairs += last.free_for_wheelchairs;
            sum.held += last.held;
            sum.booked += last.booked;
            sum.blocked += last.blocked;
            json = self.to_json();
        }
        // With every number at its limit beside the longest notice: the accuracy can wait for another status.
        if json.len() > BYTES_MAX {
            self.forecast_accuracy = None;
            json = self.to_json();
        }
        // Readers interpolate between rows, so fewer rows cost precision only.
        while json.len() > BYTES_MAX && self.estimate.len() > 4 {
            self.estimate = without_every_other(&self.estimate).into();
            json = self.to_json();
        }
        // And the wait table in fewer points: a browser interpolates between the others.
        while json.len() > BYTES_MAX && self.estimate.len() > 2 {
            let last = self.estimate.len() - 1;
            let mut at = 0;
            self.estimate.to_mut().retain(|_| {
                at += 1;
                at - 1 == last || at % 2 == 1
            });
            json = self.to_json();
        }
        EncodedStatus::new(version, json)
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a status is JSON")
    }
}

/// The rows without every other inner one: the first and the last stay.
fn without_every_other(rows: &[WaitPoint]) -> Vec<WaitPoint> {
    let last = rows.len() - 1;
    let kept = rows
        .iter()
        .enumerate()
        .filter(|(index, _)| index % 2 == 0 || *index == last);
    kept.map(|(_, row)| *row).collect()
}

/// The current status and its subscribers.
#[derive(Debug)]
pub(crate) struct StatusPublisher {
    current: ArcSwap<EncodedStatus>,
    news: watch::Sender<Arc<EncodedStatus>>,
    /// Held while a status is encoded, so that versions are published in order.
    making: Mutex<()>,
    subscribers: Arc<AtomicUsize>,
    subscribers_max: usize,
}

/// A subscription to the status; dropping it frees its place.
#[derive(Debug)]
pub struct StatusSubscription {
    news: watch::Receiver<Arc<EncodedStatus>>,
    subscribers: Arc<AtomicUsize>,
}

impl StatusPublisher {
    /// Starts with `first`, and takes so many subscribers at most.
    pub(crate) fn new(first: QueueStatus<'_>, watchers_max: usize) -> Self {
        let version = u64::try_from(first.generated_at.as_millis()).unwrap_or(0);
        let first = Arc::new(first.encode(version));
        Self {
            current: ArcSwap::from(Arc::clone(&first)),
            news: watch::Sender::new(first),
            making: Mutex::new(()),
            subscribers: Arc::default(),
            subscribers_max: watchers_max,
        }
    }

    /// Publishes a new status; gives what positions are computed from. Versions come from the wall clock, so
    /// they grow over restarts, and still grow when it is set back.
    pub(crate) fn publish(&self, status: QueueStatus<'_>) -> PublishedStatus {
        let published = PublishedStatus {
            now_serving: status.now_serving,
            estimate: status.estimate.to_vec(),
            available_to_distance: status.available_to_distance,
            people_ahead: status.people_ahead.clone(),
            online_percent: status
                .presence
                .as_ref()
                .and_then(|presence| presence.online.first())
                .map(|near| near.percent),
        };
        let _making = self.making.lock();
        let version = u64::try_from(status.generated_at.as_millis())
            .unwrap_or(0)
            .max(self.current.load().version + 1);
        let status = Arc::new(status.encode(version));
        self.current.store(Arc::clone(&status));
        self.news.send_replace(status);
        published
    }

    /// Encodes a status that may be published for all nodes, under a version above both.
    pub(crate) fn draft(&self, status: QueueStatus<'_>, above: u64) -> (u64, Bytes) {
        let version = u64::try_from(status.generated_at.as_millis())
            .unwrap_or(0)
            .max(above.max(self.current.load().version) + 1);
        (version, status.encode(version).json)
    }

    /// Publishes what another node has made; gives what positions are computed from. `None` when it is not
    /// newer, or not a status.
    pub(crate) fn accept(&self, version: u64, json: Vec<u8>) -> Option<PublishedStatus> {
        let _making = self.making.lock();
        if version <= self.current.load().version {
            return None;
        }
        let json = String::from_utf8(json).ok()?;
        let published: PublishedStatus = serde_json::from_str(&json).ok()?;
        let status = Arc::new(EncodedStatus::new(version, json));
        self.current.store(Arc::clone(&status));
        self.news.send_replace(status);
        Some(published)
    }

    /// The current status.
    pub(crate) fn current(&self) -> Arc<EncodedStatus> {
        self.current.load_full()
    }

    /// A subscription; `None` when as many are taken as may be.
    pub(crate) fn subscribe(&self) -> Option<StatusSubscription> {
        let max = self.subscribers_max;
        self.subscribers
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n < max).then_some(n + 1)
            })
            .ok()?;
        let mut news = self.news.subscribe();
        // A new subscriber gets the current status at once, not only the next one.
        news.mark_changed();
        Some(StatusSubscription {
            news,
            subscribers: Arc::clone(&self.subscribers),
        })
    }
}

impl StatusSubscription {
    /// The next status; the first comes at once. A slow subscriber skips to the latest. `None`: there will be
    /// no more.
    pub async fn changed(&mut self) -> Option<Arc<EncodedStatus>> {
        self.news.changed().await.ok()?;
        Some(Arc::clone(&self.news.borrow_and_update()))
    }
}

impl Drop for StatusSubscription {
    fn drop(&mut self) {
        self.subscribers.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiting_room::{
        draw::digest::Digest, forecast::wait_table::table, status::people_ahead, types::ZoneStock,
    };

    fn zone(n: u32) -> ZoneStatus {
        let stock = ZoneStock {
            zone: format!("Parterre {n}"),
            free: 1,
            free_for_wheelchairs: 5,
            held: 2,
            booked: 3,
            blocked: 4,
        };
        ZoneStatus {
            stock,
            available_to_distance: Some([Some(1_000_000), Some(2_000_000), None]),
        }
    }

    fn status<'a>(
        sale: &'a SaleId,
        at_ms: i64,
        estimate: &'a [WaitPoint],
        notice: &'a str,
        zones: u32,
    ) -> QueueStatus<'a> {
        let at = Timestamp::from_millis(at_ms);
        QueueStatus {
            version: 0,
            generated_at: at,
            sale,
            phase: Phase::OnSale,
            on_sale_starts_at: at,
            closes_at: at,
            now_serving: 4_000_000_000,
            numbers_issued: 4_000_000_000,
            waiting: 4_000_000_000,
            active_visits: 4_000_000_000,
            admission_rate_per_minute: 4_000_000_000,
            active_visits_max: 4_000_000_000,
            estimate: estimate.into(),
            people_ahead: PeopleAhead::of(
                people_ahead::distances(4_000_000)
                    .into_iter()
                    .map(|upto| (upto, upto - upto / 7)),
            ),
            presence: Some(PresenceStatus {
                near_distance: 4_096,
                near_mask: 7,
                far_mask: 127,
                online: (0..6)
                    .map(|n| OnlineShare {
                        upto: 4_096 << (2 * n),
                        percent: 93,
                    })
                    .collect(),
            }),
            available_to_distance: Some([Some(1_234_567); 3]),
            zones: (0..zones).map(zone).collect(),
            late_arrival_percent: 20,
            forecast_accuracy: Some(ForecastAccuracy {
                hits: 1_000,
                total: 1_000,
            }),
            stale: false,
            draw: Some(DrawStatus::largest()),
            journal: Some(ChainHead {
                sequence: u64::MAX,
                hash: Digest([255; 32]),
            }),
            notice: Some(notice.into()),
            reason: Some(DelayReason::VisitLimitLowered),
            poll_interval_ms: PollInterval {
                min: 1_000,
                max: 20_000,
            },
        }
    }

    #[test]
    fn the_largest_status_stays_within_its_bytes() {
        let sale = "s".repeat(64).parse().unwrap();
        let estimate = table(
            |ahead| [60.0, 90.0, 140.0].map(|s| s * ahead.powf(0.9)),
            4_000_000,
            90_000,
        );
        let notice = "곧".repeat(crate::waiting_room::NOTICE_CHARS_MAX);
        let status = status(&sale, 1, &estimate, &notice, 60).encode(7);
        assert!(status.json.len() <= BYTES_MAX, "{}", status.json.len());
        let said: serde_json::Value = serde_json::from_slice(&status.json).unwrap();
        let zones = said["zones"].as_array().unwrap();
        assert_eq!(
            zones.iter().map(|z| z["booked"].as_u64().unwrap()).sum::<u64>(),
            180,
            "no seat is lost in the sum"
        );
        let published: PublishedStatus = serde_json::from_slice(&status.json).unwrap();
        assert_eq!(
            (
                published.online_percent,
                published.people_ahead.within(4_000_000).count
            ),
            (Some(93), 3_428_572)
        );
        assert_eq!(
            status.sse,
            format!(
                "id: 7\nevent: status\ndata: {}\n\n",
                std::str::from_utf8(&status.json).unwrap()
            )
        );
    }

    #[tokio::test]
    async fn versions_grow_when_the_clock_is_set_back() {
        let sale: SaleId = "a".parse().unwrap();
        let post = StatusPublisher::new(status(&sale, 5_000, &[], "", 1), 1);
        let mut watch = post.subscribe().unwrap();
        assert!(post.subscribe().is_none(), "one seat only");
        assert_eq!(watch.changed().await.unwrap().version, 5_000);
        post.publish(status(&sale, 4_000, &[], "", 1));
        post.publish(status(&sale, 4_000, &[], "", 1));
        assert_eq!(watch.changed().await.unwrap().version, 5_002);
        assert_eq!(post.current().etag, "\"5002\"");
        drop(watch);
        assert!(post.subscribe().is_some());
    }
}
