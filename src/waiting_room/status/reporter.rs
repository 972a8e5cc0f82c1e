//! Composes the public status once a second: measures, forecasts, and hands the result to the publisher.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::waiting_room::{
    context::RoomContext,
    draw::publication,
    forecast::{
        interval_calibration::Calibration,
        seats_per_visit::Seats,
        observation::Glimpse,
        wait_model::Pace,
        wait_table::{self, Point},
        zone_availability::{Inside, Supply, ZoneOnBoard},
    },
    journal::verify::LogHead,
    phase::reason_of,
    state::{Settings, Situation},
    status::{
        presence::{self, Presence},
        snapshot::{BoardPost, BoardWatch, Content, EncodedBoard, Poll, Told},
    },
    store::port::{SharedBoard, Stock},
    types::{POLL_FAR_MS, POLL_NEAR_MS, Phase, Reason, Statements, ZoneStock},
};

/// How often a new status is published.
pub(crate) const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// Publishers of several nodes wake up a little early or late; a status this much short of its age is not fresh.
const FRESHNESS_TOLERANCE: Duration = Duration::from_millis(100);

/// What the status says that its reporter does not know by itself.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// As at the last admission tick; `None` before the first.
    pub admission: Option<Situation>,
    pub stock: Stock,
    /// The last link of the journal's chain; `None` before the first.
    pub journal: Option<LogHead>,
}

/// One sale's status: its models, who is online, and what is published.
#[derive(Debug)]
pub(crate) struct StatusReporter {
    context: Arc<RoomContext>,
    publisher: BoardPost,
    published: ArcSwap<Told>,
    presence: Presence,
    wait_model: Mutex<Pace>,
    calibration: Mutex<Calibration>,
    availability: Mutex<Supply>,
}

impl StatusReporter {
    /// Publishes a first status that says nothing of waits, so that there is always one to serve.
    pub(crate) fn new(context: Arc<RoomContext>) -> Self {
        let first = plain_status(&context, &[], None, Vec::new());
        let publisher = BoardPost::new(first, context.config.watchers_max);
        Self {
            context,
            publisher,
            published: ArcSwap::default(),
            presence: Presence::default(),
            wait_model: Mutex::default(),
            calibration: Mutex::default(),
            availability: Mutex::default(),
        }
    }

    /// The current status, ready to be sent.
    pub(crate) fn current(&self) -> Arc<EncodedBoard> {
        self.publisher.current()
    }

    /// A subscription to the status; `None` when as many are taken as may be.
    pub(crate) fn subscribe(&self) -> Option<BoardWatch> {
        self.publisher.watch()
    }

    /// What positions are computed from: the status that is published, whichever node has made it.
    pub(crate) fn published(&self) -> Guard<Arc<Told>> {
        self.published.load()
    }

    pub(crate) fn presence(&self) -> &Presence {
        &self.presence
    }

    /// What became of the waits that this node has published.
    pub(crate) fn statements(&self) -> Statements {
        self.calibration.lock().statements()
    }

    /// Exchanges heartbeats with the other nodes. Best effort: clients resend theirs.
    pub(crate) async fn share_presence(&self) {
        match self
            .context
            .store
            .share_presence(&self.presence.take_news())
            .await
        {
            Ok(heartbeats) => self.presence.learn(&heartbeats),
            Err(error) => {
                tracing::debug!(sale = %self.context.config.sale, %error, "heartbeats are not shared between the nodes");
            }
        }
    }

    /// A second has passed: every model learns from it.
    pub(crate) fn measure_second(&self, inputs: &Inputs) {
        let settings = self.context.store.settings();
        let seen = self.observe(&settings, inputs);
        self.wait_model.lock().second(&seen);
        self.availability
            .lock()
            .second(&inputs.stock.zones, &admitted(&seen));
        let published = self.published.load();
        let random_below = |n: u32| u32::try_from(self.context.entropy.below(n.into())).unwrap_or(0);
        self.calibration.lock().second(
            seen.now,
            seen.phase,
            &settings,
            published.now_serving,
            &published.estimate,
            random_below,
        );
    }

    /// Publishes what all nodes serve: the status of another node while it is fresh; a new one when it is not, or when
    /// something has happened that all visitors should see `at_once`.
    pub(crate) async fn renew(&self, inputs: &Inputs, at_once: bool) {
        let (store, sale) = (&self.context.store, &self.context.config.sale);
        let shared = match store.share_board(0, None).await {
            Ok(Some(shared)) => shared,
            Ok(None) => return self.publish(inputs),
            Err(error) => {
                tracing::debug!(%sale, %error, "the store is away: the status is served as it was");
                let (estimate, reason) = self.estimate(inputs);
                self.publisher.hang(Content {
                    stale: true,
                    ..self.compose(inputs, &estimate, reason)
                });
                return;
            }
        };
        let (version, is_fresh) = (
            shared.version,
            shared.version > 0 && shared.age + FRESHNESS_TOLERANCE < PUBLISH_EVERY,
        );
        self.accept(shared);
        if is_fresh && !at_once {
            return;
        }
        let (estimate, reason) = self.estimate(inputs);
        let (next, json) = self
            .publisher
            .draft(self.compose(inputs, &estimate, reason), version);
        match store.share_board(version, Some((next, &json))).await {
            Ok(Some(shared)) => self.accept(shared),
            Ok(None) => {}
            Err(error) => tracing::debug!(%sale, %error, "the status could not be shared"),
        }
    }

    /// Publishes a new status on this node alone.
    pub(crate) fn publish(&self, inputs: &Inputs) {
        let (estimate, reason) = self.estimate(inputs);
        let published = self.publisher.hang(self.compose(inputs, &estimate, reason));
        self.published.store(Arc::new(published));
    }

    fn accept(&self, shared: SharedBoard) {
        if let Some(published) = self.publisher.adopt(shared.version, shared.json) {
            self.published.store(Arc::new(published));
        }
    }

    fn observe<'a>(&self, settings: &'a Settings, inputs: &Inputs) -> Glimpse<'a> {
        let context = &self.context;
        let at = context.moment();
        // Calls begin after the draw, where there is one.
        let calls_from = publication::status_of(&context.store.draw(), at.now)
            .map_or(context.config.opens_at, |draw| {
                draw.round_at.max(context.config.opens_at)
            });
        Glimpse {
            now: at.now,
            phase: context.phase_at(at.now),
            settings,
            situation: inputs.admission,
            counts: context.store.counts(at),
            visits: context.store.visits(at.now),
            call_window: context.config.call_window,
            seats: Seats::of(&inputs.stock.zones),
            until_open_s: u32::try_from(calls_from.since(at.now).as_secs()).unwrap_or(u32::MAX),
        }
    }

    fn compose<'a>(
        &'a self,
        inputs: &Inputs,
        estimate: &'a [Point],
        reason: Option<Reason>,
    ) -> Content<'a> {
        let context = &self.context;
        let mut status = plain_status(context, estimate, reason, inputs.stock.zones.clone());
        self.add_zone_forecast(&mut status, inputs);
        let presence = matches!(status.phase, Phase::OnSale | Phase::Paused | Phase::SoldOut).then(|| {
            let near = presence::near(status.rate_per_minute);
            self.presence.on_board(
                &context.store.asked(near),
                status.now_serving,
                status.issued,
                near,
                status.generated_at,
            )
        });
        let accuracy = self.calibration.lock().kept_word();
        Content {
            draw: publication::status_of(&context.store.draw(), context.clock.now()),
            presence,
            kept_word: (accuracy.of > 0).then_some(accuracy),
            log: inputs.journal,
            ..status
        }
    }

    fn add_zone_forecast(&self, status: &mut Content<'_>, inputs: &Inputs) {
        if status.phase != Phase::OnSale {
            return;
        }
        let settings = self.context.store.settings();
        let admitted = admitted(&self.observe(&settings, inputs));
        let zones: Vec<ZoneStock> = status.zones.iter().map(|zone| zone.stock.clone()).collect();
        let length = status.issued.saturating_sub(status.now_serving);
        let distances = self
            .availability
            .lock()
            .left_for(&zones, &admitted, &status.survivors, length);
        for (zone, distance) in status.zones.iter_mut().zip(distances) {
            zone.left_for = distance;
        }
    }

    /// The wait table, empty while no forecast can be made, and why waits have grown.
    fn estimate(&self, inputs: &Inputs) -> (Vec<Point>, Option<Reason>) {
        let settings = self.context.store.settings();
        let seen = self.observe(&settings, inputs);
        let wait_model = self.wait_model.lock();
        let estimate = if settings.is_stopped() {
            Vec::new()
        } else {
            wait_model.estimate(&seen)
        };
        (estimate, self.reason(&seen, wait_model.reason(&seen)))
    }

    /// A command counts before what has happened, and an exception before a sale that is merely full.
    fn reason(&self, seen: &Glimpse<'_>, of_model: Option<Reason>) -> Option<Reason> {
        let is_commanded = !matches!(of_model, None | Some(Reason::AllInBaskets | Reason::FullHouse));
        let of_settings = reason_of(seen.phase, seen.settings, seen.counts.active);
        if of_settings.is_some() {
            of_settings
        } else if seen.phase != Phase::OnSale || is_commanded {
            of_model
        } else if seen.situation.is_some_and(|state| state.box_office_silent) {
            Some(Reason::BoxOfficeBusy)
        } else if of_model != Some(Reason::AllInBaskets) && self.calibration.lock().is_outgrown(seen.now) {
            Some(Reason::MoreStayed)
        } else {
            of_model
        }
    }
}

fn admitted(seen: &Glimpse<'_>) -> Inside {
    Inside {
        active: seen.counts.active,
        capacity: seen.settings.capacity,
        ended_total: seen.counts.ended_total,
        share: seen.share(),
        expected: seen.expected(),
    }
}

/// The status without what is forecast or measured.
fn plain_status<'a>(
    context: &'a RoomContext,
    estimate: &'a [Point],
    reason: Option<Reason>,
    zones: Vec<ZoneStock>,
) -> Content<'a> {
    let (config, store, at) = (&context.config, &context.store, context.moment());
    let (settings, counts) = (store.settings(), store.counts(at));
    Content {
        version: 0,
        generated_at: at.now,
        sale: &config.sale,
        phase: context.phase_at(at.now),
        opens_at: config.opens_at,
        closes_at: config.closes_at,
        now_serving: counts.now_serving,
        issued: counts.issued,
        waiting: counts.waiting,
        active: counts.active,
        rate_per_minute: settings.rate_per_minute,
        capacity: settings.capacity,
        estimate,
        survivors: store.survivors(),
        presence: None,
        zones: ZoneOnBoard::plain(zones),
        returner_percent: wait_table::whole(config.returner_share * 100.0),
        kept_word: None,
        notice: settings.notice,
        reason,
        stale: false,
        draw: None,
        log: None,
        poll: Poll {
            near_ms: POLL_NEAR_MS,
            far_ms: POLL_FAR_MS,
        },
    }
}
