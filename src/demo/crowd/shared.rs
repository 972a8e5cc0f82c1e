//! What all fans of one process share: connections, the queue status once a second, each seat map once a
//! second.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Mutex, OnceCell, watch};

use super::{
    config::Pace,
    seat_choice::{SeatSnapshot, SeatingPlan},
};
use crate::{
    demo::client::{
        Abandoned, Call, ObservationLog, Reply, Request, Transport, VisitorRng,
        messages::{QueueStatus, SaleInfo},
        paths,
        retrying::RetryingClient,
        visit::Visit,
    },
    kernel::Timestamp,
};

const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

impl Pace {
    /// A human pause around `median` at this pace.
    pub(super) fn pause(self, rng: &VisitorRng, median: Duration) -> Duration {
        rng.pause(match self {
            Self::Human => median,
            Self::Brisk => median / 40,
        })
    }
}

/// The queue status, and how often the server was away until then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StatusView {
    pub(super) status: QueueStatus,
    pub(super) outages: u32,
}

/// One performance, as far as any fan has looked at it.
pub(super) struct Venue {
    pub(super) id: String,
    plan: OnceCell<Arc<SeatingPlan>>,
    /// When the seats were read, on the monotonic clock, and what was read.
    seats: Mutex<Option<(Duration, Arc<SeatSnapshot>)>>,
}

/// The state that the fans share.
pub(super) struct Shared {
    pub(super) client: RetryingClient,
    pub(super) sale: String,
    pub(super) pace: Pace,
    status: watch::Sender<StatusView>,
    venues: OnceCell<Vec<Venue>>,
}

impl Shared {
    pub(super) fn new(client: RetryingClient, sale: String, pace: Pace) -> Self {
        Self {
            client,
            sale,
            pace,
            status: watch::Sender::new(StatusView::default()),
            venues: OnceCell::new(),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<StatusView> {
        self.status.subscribe()
    }

    pub(super) fn error(&self, kind: &str) -> Abandoned {
        self.client.log().error(kind);
        Abandoned
    }

    /// Reads the status once a second until it is aborted.
    pub(super) async fn follow_status(&self) {
        let rng = VisitorRng::new(0, 0);
        let mut etag: Option<String> = None;
        loop {
            let mut request = Request::new(Call::Status, "GET", paths::status(&self.sale));
            if let Some(etag) = &etag {
                request = request.header("if-none-match", etag);
            }
            if let Ok(reply) = self.client.send(&rng, &request).await {
                match (reply.status, reply.json::<QueueStatus>()) {
                    (200, Some(status)) => {
                        etag = reply.etag;
                        self.publish(status);
                    }
                    (304, _) => {}
                    (200, None) => self.client.log().error("status: unreadable"),
                    (status, _) => self.client.log().error(&format!("status {status}")),
                }
            }
            tokio::time::sleep(REFRESH_INTERVAL).await;
        }
    }

    fn publish(&self, mut status: QueueStatus) {
        self.client.log().active(status.active_visits);
        self.status.send_if_modified(|seen| {
            // A restarted server may show an older status for a moment; a call is never taken back.
            status.now_serving = status.now_serving.max(seen.status.now_serving);
            let next = StatusView {
                status,
                outages: self.client.outages(),
            };
            let is_changed = *seen != next;
            *seen = next;
            is_changed
        });
    }

    /// The sale's performances in their published order; read once.
    pub(super) async fn venues(&self, rng: &VisitorRng) -> Result<&[Venue], Abandoned> {
        let venues = self.venues.get_or_try_init(|| async {
            let request = Request::new(Call::Sale, "GET", paths::sale(&self.sale));
            let reply = self.client.send(rng, &request).await?;
            let sale: SaleInfo = reply.json().ok_or_else(|| self.error("sale: unreadable"))?;
            let venue = |id| Venue {
                id,
                plan: OnceCell::new(),
                seats: Mutex::new(None),
            };
            Ok(sale
                .performances
                .into_iter()
                .map(|performance| venue(performance.id))
                .collect())
        });
        Ok(venues.await?)
    }

    /// The plan of a performance; read once.
    pub(super) async fn plan(&self, venue: &Venue, rng: &VisitorRng) -> Result<Arc<SeatingPlan>, Abandoned> {
        let plan = venue.plan.get_or_try_init(|| async {
            let request = Request::new(Call::Plan, "GET", paths::plan(&self.sale, &venue.id));
            let reply = self.client.send(rng, &request).await?;
            SeatingPlan::parse(&reply.body)
                .map(Arc::new)
                .map_err(|_| self.error("plan: unreadable"))
        });
        Ok(Arc::clone(plan.await?))
    }

    /// The seat map, at most a second old. It is read with the proofs of the fan who needs it first.
    pub(super) async fn seats(
        &self,
        venue: &Venue,
        visit: &Visit<Arc<Self>>,
    ) -> Result<Arc<SeatSnapshot>, Abandoned> {
        let plan = self.plan(venue, &visit.rng).await?;
        let mut seats = venue.seats.lock().await;
        if let Some((at, snapshot)) = &*seats
            && self.client.monotonic().saturating_sub(*at) < REFRESH_INTERVAL
        {
            return Ok(Arc::clone(snapshot));
        }
        let request = Request::new(Call::Seats, "GET", paths::seats(&self.sale, &venue.id))
            .header("accept", "application/octet-stream");
        let reply = visit.send(request).await?;
        if reply.status != 200 {
            return Err(self.error(&format!("seats {}", reply.status)));
        }
        let snapshot = SeatSnapshot::parse(reply.body, plan.seat_count())
            .ok_or_else(|| self.error("seats: unreadable"))?;
        let snapshot = Arc::new(snapshot);
        *seats = Some((self.client.monotonic(), Arc::clone(&snapshot)));
        Ok(snapshot)
    }
}

impl Transport for Shared {
    async fn send(&self, rng: &VisitorRng, request: Request) -> Result<Reply, Abandoned> {
        self.client.send(rng, &request).await
    }

    fn error(&self, kind: &str) -> Abandoned {
        Shared::error(self, kind)
    }

    fn observations(&self) -> &ObservationLog {
        self.client.log()
    }

    fn now(&self) -> Timestamp {
        self.client.now()
    }

    fn monotonic(&self) -> Duration {
        self.client.monotonic()
    }

    fn pause(&self, rng: &VisitorRng, median: Duration) -> Duration {
        self.pace.pause(rng, median)
    }

    fn is_over(&self) -> bool {
        self.status.borrow().status.is_over()
    }
}
