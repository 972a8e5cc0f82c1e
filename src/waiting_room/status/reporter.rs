//! Composes the public status once a second: measures, forecasts, and hands the result to the publisher.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::waiting_room::{
    context::RoomContext,
    draw::publication,
    forecast::{
        observation::Observation,
        scoring::{ForecastScoring, Scored},
        seats_per_visit::SeatCounts,
        stock_reach::reach_end,
        wait_model::WaitModel,
        wait_table::{self, WaitPoint},
        zone_availability::{AdmittedCounts, AvailabilityDistances, ZoneAvailability, ZoneStatus},
    },
    journal::verify::ChainHead,
    phase::reason_of,
    state::{AdmissionState, Settings},
    status::{
        presence::{self, Presence},
        snapshot::{
            EncodedStatus, PollInterval, PublishedStatus, QueueStatus, StatusPublisher, StatusSubscription,
        },
    },
    store::port::{SharedStatus, Stock},
    types::{DelayReason, ForecastOutcomes, POLL_FAR_MS, POLL_NEAR_MS, Phase, ZoneStock},
};

/// How often a new status is published.
pub(crate) const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// Publishers of several nodes wake up a little early or late; a status this much short of its age is not
/// fresh.
const FRESHNESS_TOLERANCE: Duration = Duration::from_millis(100);

/// What the status says that its reporter does not know by itself.
#[derive(Debug)]
pub(crate) struct Inputs {
    /// As at the last admission tick; `None` before the first.
    pub admission: Option<AdmissionState>,
    /// Stock and health as the box offices reported them last.
    pub stock: Stock,
    /// The last link of the journal's chain; `None` before the first.
    pub journal: Option<ChainHead>,
}

/// What the models say of the queue in one second.
struct Forecast {
    /// The wait table, empty while no forecast can be made.
    waits: Vec<WaitPoint>,
    /// How far back there will be a seat.
    reach: Option<AvailabilityDistances>,
    /// Why waits have grown.
    reason: Option<DelayReason>,
}

/// One sale's status: its models, who is online, and what is published.
#[derive(Debug)]
pub(crate) struct StatusReporter {
    context: Arc<RoomContext>,
    publisher: StatusPublisher,
    published: ArcSwap<PublishedStatus>,
    presence: Presence,
    wait_model: Mutex<WaitModel>,
    calibration: Mutex<ForecastScoring>,
    availability: Mutex<ZoneAvailability>,
}

impl StatusReporter {
    /// Publishes a first status that says nothing of waits, so that there is always one to serve.
    pub(crate) fn new(context: Arc<RoomContext>) -> Self {
        let first = plain_status(&context, &[], None, Vec::new());
        let publisher = StatusPublisher::new(first, context.config.status_streams_max);
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
    pub(crate) fn current(&self) -> Arc<EncodedStatus> {
        self.publisher.current()
    }

    /// A subscription to the status; `None` when as many are taken as may be.
    pub(crate) fn subscribe(&self) -> Option<StatusSubscription> {
        self.publisher.subscribe()
    }

    /// What positions are computed from: the status that is published, whichever node has made it.
    pub(crate) fn published(&self) -> Guard<Arc<PublishedStatus>> {
        self.published.load()
    }

    /// Heartbeats of the sale.
    pub(crate) fn presence(&self) -> &Presence {
        &self.presence
    }

    /// What became of the waits that this node has published.
    pub(crate) fn statements(&self) -> ForecastOutcomes {
        self.calibration.lock().outcomes()
    }

    /// Exchanges heartbeats with the other nodes. Best effort: clients resend theirs.
    pub(crate) async fn share_presence(&self) {
        match self
            .context
            .store
            .share_heartbeats(&self.presence.take_unshared())
            .await
        {
            Ok(heartbeats) => self.presence.merge(&heartbeats),
            Err(error) => {
                tracing::debug!(sale = %self.context.config.sale, %error,
                    "heartbeats are not shared between the nodes");
            }
        }
    }

    /// A second has passed: every model learns from it.
    pub(crate) fn measure_second(&self, inputs: &Inputs) {
        let settings = self.context.store.settings();
        let seen = self.observe(&settings, inputs);
        self.wait_model.lock().observe(&seen);
        self.availability
            .lock()
            .observe(&inputs.stock.zones, &admitted(&seen));
        let published = self.published.load();
        let choose = |numbers| self.random_person(published.now_serving, numbers);
        self.calibration.lock().observe(
            &Scored {
                now: seen.now,
                phase: seen.phase,
                settings: &settings,
                now_serving: published.now_serving,
                numbers_issued: seen.counts.numbers_issued,
                table: &published.estimate,
                reach: reach_end(published.available_to_distance),
                free_seats: seen.seats.map(|seats| seats.free),
            },
            choose,
        );
    }

    /// A random waiting person among the next `numbers` numbers: how many of these are ahead of them.
    fn random_person(&self, now_serving: u32, numbers: u32) -> Option<u32> {
        let store = &self.context.store;
        let issued = store.counts(self.context.moment()).numbers_issued;
        let behind = issued.saturating_sub(now_serving).min(numbers);
        if behind == 0 {
            return None;
        }
        let ahead = u32::try_from(self.context.entropy.below(behind.into())).ok()?;
        store.is_person_waiting(now_serving + 1 + ahead).then_some(ahead)
    }

    /// Publishes what all nodes serve: the status of another node while it is fresh; a new one when it is
    /// not, or when something has happened that all visitors should see `at_once`.
    pub(crate) async fn renew(&self, inputs: &Inputs, at_once: bool) {
        let (store, sale) = (&self.context.store, &self.context.config.sale);
        let shared = match store.share_status(0, None).await {
            Ok(Some(shared)) => shared,
            Ok(None) => return self.publish(inputs),
            Err(error) => {
                tracing::debug!(%sale, %error, "the store is unavailable; serving the last known status");
                let forecast = self.forecast(inputs);
                self.publisher.publish(QueueStatus {
                    stale: true,
                    ..self.compose(inputs, &forecast)
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
        let forecast = self.forecast(inputs);
        let (next, json) = self.publisher.draft(self.compose(inputs, &forecast), version);
        match store.share_status(version, Some((next, &json))).await {
            Ok(Some(shared)) => self.accept(shared),
            Ok(None) => {}
            Err(error) => tracing::debug!(%sale, %error, "the status could not be shared"),
        }
    }

    /// Publishes a new status on this node alone.
    pub(crate) fn publish(&self, inputs: &Inputs) {
        let forecast = self.forecast(inputs);
        let published = self.publisher.publish(self.compose(inputs, &forecast));
        self.published.store(Arc::new(published));
    }

    fn accept(&self, shared: SharedStatus) {
        if let Some(published) = self.publisher.accept(shared.version, shared.json) {
            self.published.store(Arc::new(published));
        }
    }

    fn observe<'a>(&self, settings: &'a Settings, inputs: &Inputs) -> Observation<'a> {
        let context = &self.context;
        let at = context.moment();
        // Calls begin after the draw, where there is one.
        let calls_from = publication::status_of(&context.store.draw(), at.now)
            .map_or(context.config.on_sale_starts_at, |draw| {
                draw.round_at.max(context.config.on_sale_starts_at)
            });
        Observation {
            now: at.now,
            phase: context.phase_at(at.now),
            settings,
            admission: inputs.admission,
            counts: context.store.counts(at),
            visits: context.store.visit_lengths(at.now),
            call_window: context.config.call_window,
            seats: SeatCounts::of(&inputs.stock.zones),
            until_open_s: u32::try_from(calls_from.since(at.now).as_secs()).unwrap_or(u32::MAX),
        }
    }

    fn compose<'a>(&'a self, inputs: &Inputs, forecast: &'a Forecast) -> QueueStatus<'a> {
        let context = &self.context;
        let mut status = plain_status(
            context,
            &forecast.waits,
            forecast.reason,
            inputs.stock.zones.clone(),
        );
        status.available_to_distance = forecast.reach;
        self.add_zone_forecast(&mut status, inputs);
        let presence = matches!(status.phase, Phase::OnSale | Phase::Paused | Phase::SoldOut).then(|| {
            let near = presence::near_distance(status.admission_rate_per_minute);
            self.presence.status(
                &context.store.heartbeat_sample(near),
                status.now_serving,
                status.numbers_issued,
                near,
                status.generated_at,
            )
        });
        let accuracy = self.calibration.lock().accuracy();
        QueueStatus {
            draw: publication::status_of(&context.store.draw(), context.clock.now()),
            presence,
            forecast_accuracy: (accuracy.total > 0).then_some(accuracy),
            journal: inputs.journal,
            ..status
        }
    }

    fn add_zone_forecast(&self, status: &mut QueueStatus<'_>, inputs: &Inputs) {
        if status.phase != Phase::OnSale {
            return;
        }
        let settings = self.context.store.settings();
        let admitted = admitted(&self.observe(&settings, inputs));
        let zones: Vec<ZoneStock> = status.zones.iter().map(|zone| zone.stock.clone()).collect();
        let length = status.numbers_issued.saturating_sub(status.now_serving);
        let distances =
            self.availability
                .lock()
                .available_to_distance(&zones, &admitted, &status.people_ahead, length);
        for (zone, distance) in status.zones.iter_mut().zip(distances) {
            zone.available_to_distance = distance;
        }
    }

    fn forecast(&self, inputs: &Inputs) -> Forecast {
        let settings = self.context.store.settings();
        let seen = self.observe(&settings, inputs);
        let wait_model = self.wait_model.lock();
        let published = self.published.load();
        let before = published
            .available_to_distance
            .map(|reach| (reach, published.now_serving));
        let reach = wait_model.stock_reach(&seen, &self.context.store.people_ahead(), before);
        let waits = if settings.is_stopped() {
            Vec::new()
        } else {
            wait_model.estimate(&seen, reach_end(reach))
        };
        Forecast {
            waits,
            reach,
            reason: self.reason(&seen, wait_model.reason(&seen)),
        }
    }

    /// A command counts before what has happened, and an exception before a sale that is merely full. That
    /// most visitors can buy nothing counts before all that makes them wait longer.
    fn reason(&self, seen: &Observation<'_>, of_model: Option<DelayReason>) -> Option<DelayReason> {
        if of_model == Some(DelayReason::OnlyWheelchairSpaces) {
            return of_model;
        }
        let is_commanded = !matches!(
            of_model,
            None | Some(DelayReason::AllSeatsHeld | DelayReason::AtCapacity)
        );
        let of_settings = reason_of(seen.phase, seen.settings, seen.counts.active_visits);
        if of_settings.is_some() {
            of_settings
        } else if seen.phase != Phase::OnSale || is_commanded {
            of_model
        } else if seen.admission.is_some_and(|state| state.box_office_silent) {
            Some(DelayReason::BoxOfficeBusy)
        } else if of_model != Some(DelayReason::AllSeatsHeld)
            && self.calibration.lock().has_recently_grown(seen.now)
        {
            Some(DelayReason::SlowerThanForecast)
        } else {
            of_model
        }
    }
}

fn admitted(seen: &Observation<'_>) -> AdmittedCounts {
    AdmittedCounts {
        active: seen.counts.active_visits,
        capacity: seen.settings.active_visits_max,
        ended_total: seen.counts.visits_ended_total,
        share: seen.show_share(),
        expected: seen.expected_entries(),
    }
}

/// The status without what is forecast or measured.
fn plain_status<'a>(
    context: &'a RoomContext,
    estimate: &'a [WaitPoint],
    reason: Option<DelayReason>,
    zones: Vec<ZoneStock>,
) -> QueueStatus<'a> {
    let (config, store, at) = (&context.config, &context.store, context.moment());
    let (settings, counts) = (store.settings(), store.counts(at));
    QueueStatus {
        version: 0,
        generated_at: at.now,
        sale: &config.sale,
        phase: context.phase_at(at.now),
        on_sale_starts_at: config.on_sale_starts_at,
        closes_at: config.closes_at,
        now_serving: counts.now_serving,
        numbers_issued: counts.numbers_issued,
        waiting: counts.waiting,
        active_visits: counts.active_visits,
        admission_rate_per_minute: settings.rate_effective_per_minute,
        active_visits_max: settings.active_visits_max,
        estimate: estimate.into(),
        people_ahead: store.people_ahead(),
        presence: None,
        available_to_distance: None,
        zones: ZoneStatus::plain(zones),
        late_arrival_percent: wait_table::round_to_u32(config.late_arrival_share * 100.0),
        forecast_accuracy: None,
        notice: settings.notice,
        reason,
        stale: false,
        draw: None,
        journal: None,
        poll_interval_ms: PollInterval {
            min: POLL_NEAR_MS,
            max: POLL_FAR_MS,
        },
    }
}
