//! What all fans of one process look at together: the board once a second, each seat map once a second.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{Method, StatusCode, header};
use serde::Deserialize;
use tokio::sync::{Mutex, OnceCell, watch};

use crate::demo::{
    client::api::{Api, Ask, NoAnswer},
    crowd::{
        Pace,
        choose::{House, Snapshot},
        dice::Dice,
        report::Notebook,
    },
};

/// What matters to a fan on the public board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) phase: String,
    pub(crate) now_serving: u64,
    /// How often the server was away and came back.
    pub(crate) outages: u32,
}

impl Seen {
    /// No seat will be sold any more.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase.as_str(), "sold_out" | "closed")
    }

    /// Every place has its number: the draw, if there is one, is done.
    pub(crate) fn is_drawn(&self) -> bool {
        matches!(self.phase.as_str(), "on_sale" | "paused" | "sold_out")
    }
}

#[derive(Deserialize)]
struct Board {
    phase: String,
    #[serde(default)]
    now_serving: u64,
    #[serde(default)]
    active: u32,
}

/// One performance, as far as it has been looked at.
pub(crate) struct Venue {
    pub(crate) id: String,
    house: OnceCell<Arc<House>>,
    /// When it was read, on the monotonic clock, and what was seen.
    snapshot: Mutex<Option<(Duration, Arc<Snapshot>)>>,
}

#[derive(Deserialize)]
struct SaleFacts {
    performances: Vec<PerformanceFacts>,
}

#[derive(Deserialize)]
struct PerformanceFacts {
    id: String,
}

pub(crate) struct Shared {
    pub(crate) api: Api,
    pub(crate) pace: Pace,
    pub(crate) notebook: Arc<Notebook>,
    board: watch::Sender<Seen>,
    venues: OnceCell<Vec<Venue>>,
}

const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Shared {
    pub(crate) fn new(api: Api, pace: Pace, notebook: Arc<Notebook>) -> Self {
        Self {
            api,
            pace,
            notebook,
            board: watch::Sender::new(Seen::default()),
            venues: OnceCell::new(),
        }
    }

    pub(crate) fn board(&self) -> watch::Receiver<Seen> {
        self.board.subscribe()
    }

    /// Reads the board once a second, for ever.
    pub(crate) async fn read_board(&self) {
        let dice = Dice::new(0, 0);
        let mut known: Option<String> = None;
        loop {
            let mut ask = Ask::new("board", Method::GET, self.api.sale_path("board"));
            if let Some(etag) = &known {
                ask = ask.with("if-none-match", etag);
            }
            if let Ok(answer) = self.api.ask(&dice, &ask).await {
                let read = (answer.status == StatusCode::OK).then(|| answer.json::<Board>());
                match read {
                    Some(Ok(board)) => {
                        known = answer
                            .headers
                            .get(header::ETAG)
                            .and_then(|e| e.to_str().ok())
                            .map(str::to_owned);
                        self.publish(&board);
                    }
                    Some(Err(_)) => self.notebook.error("board unreadable"),
                    None if answer.status == StatusCode::NOT_MODIFIED => {}
                    None => self.notebook.error(&format!("board {}", answer.status.as_u16())),
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn publish(&self, board: &Board) {
        self.notebook.board(board.active);
        self.board.send_if_modified(|seen| {
            let next = Seen {
                phase: board.phase.clone(),
                // Restarted servers may show an older board for a moment; who was called stays called.
                now_serving: seen.now_serving.max(board.now_serving),
                outages: self.api.outages(),
            };
            let changed = *seen != next;
            *seen = next;
            changed
        });
    }

    /// The sale's performances, in the order in which it names them.
    pub(crate) async fn venues(&self, dice: &Dice) -> Result<&[Venue], NoAnswer> {
        let venues = self
            .venues
            .get_or_try_init(|| async {
                let path = format!("/v1/sales/{}", self.api.sale);
                let answer = self.api.ask(dice, &Ask::new("sale", Method::GET, path)).await?;
                let facts: SaleFacts = answer.json().map_err(|_| self.unreadable("sale unreadable"))?;
                let venue = |p: PerformanceFacts| Venue {
                    id: p.id,
                    house: OnceCell::new(),
                    snapshot: Mutex::new(None),
                };
                Ok(facts.performances.into_iter().map(venue).collect())
            })
            .await?;
        Ok(venues)
    }

    pub(crate) fn unreadable(&self, kind: &str) -> NoAnswer {
        self.notebook.error(kind);
        NoAnswer
    }

    /// The plan of a performance; read once.
    pub(crate) async fn house(&self, venue: &Venue, dice: &Dice) -> Result<Arc<House>, NoAnswer> {
        let house = venue
            .house
            .get_or_try_init(|| async {
                let path = self.api.sale_path(&format!("performances/{}/plan", venue.id));
                let answer = self.api.ask(dice, &Ask::new("plan", Method::GET, path)).await?;
                House::read(&answer.body)
                    .map(Arc::new)
                    .map_err(|_| self.unreadable("plan unreadable"))
            })
            .await?;
        Ok(Arc::clone(house))
    }

    /// The seat map as it was at most a second ago. Whoever looks first pays with her own pass; the rest look over her
    /// shoulder.
    pub(crate) async fn seats(
        &self,
        venue: &Venue,
        proofs: &BTreeMap<&'static str, String>,
        dice: &Dice,
    ) -> Result<Arc<Snapshot>, NoAnswer> {
        let house = self.house(venue, dice).await?;
        let mut snapshot = venue.snapshot.lock().await;
        let now = self.api.monotonic();
        if let Some((at, seen)) = &*snapshot
            && now.saturating_sub(*at) < LOOK_EVERY
        {
            return Ok(Arc::clone(seen));
        }
        let mut ask = Ask::new(
            "seats",
            Method::GET,
            self.api.sale_path(&format!("performances/{}/seats", venue.id)),
        )
        .with("accept", "application/octet-stream");
        for (header, value) in proofs {
            ask = ask.with(header, value);
        }
        let answer = self.api.ask(dice, &ask).await?;
        if answer.status != StatusCode::OK {
            return Err(self.unreadable(&format!("seats {}", answer.status.as_u16())));
        }
        let seen = Snapshot::read(answer.body, house.seat_count())
            .ok_or_else(|| self.unreadable("seats unreadable"))?;
        let seen = Arc::new(seen);
        *snapshot = Some((self.api.monotonic(), Arc::clone(&seen)));
        Ok(seen)
    }
}
