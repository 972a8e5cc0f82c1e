//! The board: what is the same for all who wait, encoded once a second and served as it is.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::watch;

use crate::kernel::{SaleId, Timestamp};
use crate::waiting_room::{
    draw::publication::DrawOnBoard,
    journal::verify::LogHead,
    forecast::{interval_calibration::KeptWord, wait_table::Point, zone_availability::ZoneOnBoard},
    status::{
        people_ahead::{People, Survivors},
        presence::{PresenceOnBoard, There},
    },
    types::{Phase, Reason},
};

/// A board as it goes out, bytes and all.
#[derive(Clone, Debug)]
pub struct EncodedBoard {
    /// Grows strictly, also over restarts: a browser ignores lower ones.
    pub version: u64,
    /// With its quotation marks.
    pub etag: String,
    pub json: Bytes,
    /// One whole server-sent event of type `board`, with its blank line.
    pub sse: Bytes,
}

/// What a browser may use to choose its own pace.
#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Poll {
    pub near_ms: u32,
    pub far_ms: u32,
}

/// What the board says.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Content<'a> {
    pub version: u64,
    pub generated_at: Timestamp,
    pub sale: &'a SaleId,
    pub phase: Phase,
    pub opens_at: Timestamp,
    pub closes_at: Timestamp,
    pub now_serving: u32,
    pub issued: u32,
    pub waiting: u32,
    pub active: u32,
    pub rate_per_minute: u32,
    pub capacity: u32,
    #[schema(value_type = Vec<(u32, u32, u32, u32)>)]
    pub estimate: &'a [Point],
    /// People behind the last number called.
    pub survivors: Survivors,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence: Option<PresenceOnBoard>,
    pub zones: Vec<ZoneOnBoard>,
    /// Of a hundred entries, how many at most go to those who come back after they were passed over, while others wait.
    pub returner_percent: u32,
    /// Of the last waits that are over, how many were within the range that had been published for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_word: Option<KeptWord>,
    #[schema(value_type = Option<String>)]
    pub notice: Option<Arc<str>>,
    pub reason: Option<Reason>,
    /// The engine is away: this is how things were, and nothing moves until it is back.
    #[serde(skip_serializing_if = "is_false")]
    pub stale: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draw: Option<DrawOnBoard>,
    /// The last link of the journal's chain; nothing before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogHead>,
    pub poll: Poll,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What a node answers by: what it reads off the board that hangs, whoever has made it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Told {
    pub now_serving: u32,
    pub estimate: Vec<Point>,
    survivors: Survivors,
    #[serde(default, rename = "presence", deserialize_with = "percent_near")]
    pub present_percent: Option<u32>,
}

impl Told {
    /// People with numbers after `from` up to `upto`.
    pub(crate) fn people_between(&self, from: u64, upto: u64) -> People {
        let behind = |number: u64| {
            self.survivors
                .people(number.saturating_sub(self.now_serving.into()))
        };
        let (gone, all) = (behind(from), behind(upto));
        People {
            count: all.count.saturating_sub(gone.count),
            about: all.about || gone.about,
        }
    }
}

fn percent_near<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    #[derive(Deserialize)]
    struct Presence {
        there: Vec<There>,
    }
    Ok(Option::<Presence>::deserialize(deserializer)?
        .and_then(|presence| presence.there.first().map(|near| near.percent)))
}

const BYTES_MAX: usize = 2_048;

impl EncodedBoard {
    fn new(version: u64, json: String) -> Self {
        let sse = Bytes::from(format!("id: {version}\nevent: board\ndata: {json}\n\n"));
        Self {
            version,
            etag: format!("\"{version}\""),
            json: json.into(),
            sse,
        }
    }
}

impl Content<'_> {
    fn encode(mut self, version: u64) -> EncodedBoard {
        self.version = version;
        let mut json = self.to_json();
        // Every byte is paid a million times: the line is told in fewer rows, and a hall with very many price zones shows
        // the first ones and a sum.
        while json.len() > BYTES_MAX && self.survivors.thin() {
            json = self.to_json();
        }
        while json.len() > BYTES_MAX && self.zones.len() > 1 {
            let last = self.zones.pop().expect("there are two");
            let sum = self.zones.last_mut().expect("there is one");
            sum.left_for = None;
            let (sum, last) = (&mut sum.stock, last.stock);
            "…".clone_into(&mut sum.zone);
            sum.free += last.free;
            sum.held += last.held;
            sum.booked += last.booked;
            sum.blocked += last.blocked;
            json = self.to_json();
        }
        // With every number at its limit beside the longest notice: how well waits were foretold can wait for another board.
        if json.len() > BYTES_MAX {
            self.kept_word = None;
            json = self.to_json();
        }
        EncodedBoard::new(version, json)
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a board is JSON")
    }
}

/// Where the current board hangs, and who watches it.
#[derive(Debug)]
pub(crate) struct BoardPost {
    current: ArcSwap<EncodedBoard>,
    news: watch::Sender<Arc<EncodedBoard>>,
    /// Taken while a board is made, so that versions go out in order.
    making: Mutex<()>,
    watchers: Arc<AtomicUsize>,
    watchers_max: usize,
}

/// Somebody's seat before the board; dropping it gives the seat back.
#[derive(Debug)]
pub struct BoardWatch {
    news: watch::Receiver<Arc<EncodedBoard>>,
    watchers: Arc<AtomicUsize>,
}

impl BoardPost {
    pub(crate) fn new(first: Content<'_>, watchers_max: usize) -> Self {
        let version = u64::try_from(first.generated_at.as_millis()).unwrap_or(0);
        let first = Arc::new(first.encode(version));
        Self {
            current: ArcSwap::from(Arc::clone(&first)),
            news: watch::Sender::new(first),
            making: Mutex::new(()),
            watchers: Arc::default(),
            watchers_max,
        }
    }

    /// Hangs out a new board; gives what is to be answered by. Versions come from the wall clock, so they grow over restarts, and still grow when it is
    /// set back.
    pub(crate) fn hang(&self, content: Content<'_>) -> Told {
        let told = Told {
            now_serving: content.now_serving,
            estimate: content.estimate.to_vec(),
            survivors: content.survivors.clone(),
            present_percent: content
                .presence
                .as_ref()
                .and_then(|presence| presence.there.first())
                .map(|near| near.percent),
        };
        let _making = self.making.lock();
        let version = u64::try_from(content.generated_at.as_millis())
            .unwrap_or(0)
            .max(self.current.load().version + 1);
        let board = Arc::new(content.encode(version));
        self.current.store(Arc::clone(&board));
        self.news.send_replace(board);
        told
    }

    /// The bytes of a board that may be hung out for all nodes, under a version above both.
    pub(crate) fn draft(&self, content: Content<'_>, above: u64) -> (u64, Bytes) {
        let version = u64::try_from(content.generated_at.as_millis())
            .unwrap_or(0)
            .max(above.max(self.current.load().version) + 1);
        (version, content.encode(version).json)
    }

    /// Hangs out what hangs for all nodes; gives what is to be answered by. `None` when it is not newer, or no board.
    pub(crate) fn adopt(&self, version: u64, json: Vec<u8>) -> Option<Told> {
        let _making = self.making.lock();
        if version <= self.current.load().version {
            return None;
        }
        let json = String::from_utf8(json).ok()?;
        let told: Told = serde_json::from_str(&json).ok()?;
        let board = Arc::new(EncodedBoard::new(version, json));
        self.current.store(Arc::clone(&board));
        self.news.send_replace(board);
        Some(told)
    }

    pub(crate) fn current(&self) -> Arc<EncodedBoard> {
        self.current.load_full()
    }

    pub(crate) fn watch(&self) -> Option<BoardWatch> {
        let max = self.watchers_max;
        self.watchers
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n < max).then_some(n + 1)
            })
            .ok()?;
        let mut news = self.news.subscribe();
        // Whoever comes sees the board that hangs there, not only the next one.
        news.mark_changed();
        Some(BoardWatch {
            news,
            watchers: Arc::clone(&self.watchers),
        })
    }
}

impl BoardWatch {
    /// The next board; the first comes at once. One that is slow skips to the latest. `None`: there will be no more.
    pub async fn changed(&mut self) -> Option<Arc<EncodedBoard>> {
        self.news.changed().await.ok()?;
        Some(Arc::clone(&self.news.borrow_and_update()))
    }
}

impl Drop for BoardWatch {
    fn drop(&mut self) {
        self.watchers.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiting_room::{ZoneStock, draw::Digest, forecast::wait_table::table, status::people_ahead};

    fn zone(n: u32) -> ZoneOnBoard {
        let stock = ZoneStock {
            zone: format!("Parterre {n}"),
            free: 1,
            held: 2,
            booked: 3,
            blocked: 4,
        };
        ZoneOnBoard {
            stock,
            left_for: Some([Some(1_000_000), Some(2_000_000), None]),
        }
    }

    fn content<'a>(
        sale: &'a SaleId,
        at_ms: i64,
        estimate: &'a [Point],
        notice: &'a str,
        zones: u32,
    ) -> Content<'a> {
        let at = Timestamp::from_millis(at_ms);
        Content {
            version: 0,
            generated_at: at,
            sale,
            phase: Phase::OnSale,
            opens_at: at,
            closes_at: at,
            now_serving: 4_000_000_000,
            issued: 4_000_000_000,
            waiting: 4_000_000_000,
            active: 4_000_000_000,
            rate_per_minute: 4_000_000_000,
            capacity: 4_000_000_000,
            estimate,
            survivors: Survivors::of(
                people_ahead::distances(4_000_000)
                    .into_iter()
                    .map(|upto| (upto, upto - upto / 7)),
            ),
            presence: Some(PresenceOnBoard {
                near: 4_096,
                near_mask: 7,
                mask: 127,
                there: (0..6)
                    .map(|n| There {
                        upto: 4_096 << (2 * n),
                        percent: 93,
                    })
                    .collect(),
            }),
            zones: (0..zones).map(zone).collect(),
            returner_percent: 20,
            kept_word: Some(KeptWord {
                within: 1_000,
                of: 1_000,
            }),
            stale: false,
            draw: Some(DrawOnBoard::largest()),
            log: Some(LogHead {
                link: u64::MAX,
                hash: Digest([255; 32]),
            }),
            notice: Some(notice.into()),
            reason: Some(Reason::CapacityLowered),
            poll: Poll {
                near_ms: 1_000,
                far_ms: 20_000,
            },
        }
    }

    #[test]
    fn it_stays_small_whatever_there_is_to_say() {
        let sale = "s".repeat(64).parse().unwrap();
        let estimate = table(
            |ahead| [60.0, 90.0, 140.0].map(|s| s * ahead.powf(0.9)),
            4_000_000,
            90_000,
        );
        let notice = "곧".repeat(crate::waiting_room::NOTICE_CHARS_MAX);
        let board = content(&sale, 1, &estimate, &notice, 60).encode(7);
        assert!(board.json.len() <= BYTES_MAX, "{}", board.json.len());
        let said: serde_json::Value = serde_json::from_slice(&board.json).unwrap();
        let zones = said["zones"].as_array().unwrap();
        assert_eq!(
            zones.iter().map(|z| z["booked"].as_u64().unwrap()).sum::<u64>(),
            180,
            "no seat is lost in the sum"
        );
        let told: Told = serde_json::from_slice(&board.json).unwrap();
        assert_eq!(
            (told.present_percent, told.survivors.people(4_000_000).count),
            (Some(93), 3_428_572)
        );
        assert_eq!(
            board.sse,
            format!(
                "id: 7\nevent: board\ndata: {}\n\n",
                std::str::from_utf8(&board.json).unwrap()
            )
        );
    }

    #[tokio::test]
    async fn versions_grow_though_the_clock_is_set_back_and_watchers_see_the_latest() {
        let sale: SaleId = "a".parse().unwrap();
        let post = BoardPost::new(content(&sale, 5_000, &[], "", 1), 1);
        let mut watch = post.watch().unwrap();
        assert!(post.watch().is_none(), "one seat only");
        assert_eq!(watch.changed().await.unwrap().version, 5_000);
        post.hang(content(&sale, 4_000, &[], "", 1));
        post.hang(content(&sale, 4_000, &[], "", 1));
        assert_eq!(watch.changed().await.unwrap().version, 5_002);
        assert_eq!(post.current().etag, "\"5002\"");
        drop(watch);
        assert!(post.watch().is_some());
    }
}
