//! What the handlers may reach: [`AppState`] for every process, and for each role what it adds.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::extract::FromRef;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    checkout::Checkout,
    edge::{
        auth::cookies::{CookieRules, SaleCookies},
        overload::{
            anonymous_seats::AnonymousSeats,
            client_ip::Network,
            client_slot::ClientSlots,
            health::HealthCounters,
            proof_of_work::ProofOfWork,
            rate_limit::IpRateLimit,
            shed::{Headroom, InFlightLimit, LoadShedder},
        },
        pages,
        public_base::PublicBase,
    },
    kernel::{Clock, Entropy, LocalText, Money, PerformanceId, SaleId, TimeZone, Timestamp, VisitId},
    platform::{rate_limit::RateLimit, shutdown::Lifecycle, signing::Jwk},
    seating::Seating,
    shop::Shop,
    waiting_room::{TokenVerifier, WaitingRoom},
};

/// Limits and addresses of the public listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where browsers reach the service.
    pub public_base: PublicBase,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Largest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// Time for a whole body to arrive.
    pub body_timeout: Duration,
    /// A request that takes longer is answered 503; a change that it began still completes.
    pub request_timeout: Duration,
    /// The shop's own sign-in, which hands its customers over; `None` where there is none.
    pub shop_sign_in: Option<ShopSignIn>,
    /// Whether visitors may ask to be told when they are called.
    pub call_notices: bool,
}

/// Where customers sign in at the shop.
#[derive(Clone, Debug)]
pub enum ShopSignIn {
    /// At a page of the shop that hands them over.
    Page {
        /// Its address.
        url: String,
        /// Origins of the shop's pages whose forms may bring a hand-off.
        origins: Vec<String>,
    },
    /// At its OpenID provider.
    Provider,
}

/// Whether visitors of a sale sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignIn {
    /// Visitors are anonymous and known by their queue token alone.
    None,
    /// Visitors are customers of the shop.
    Customer,
}

/// Credentials that the demo shows to everyone.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DemoLogin {
    /// Login name.
    pub login: String,
    /// Password in the clear.
    pub password: String,
}

/// The public facts of a performance; its seats are in [`Seating`].
#[derive(Clone, Debug)]
pub struct PerformanceInfo {
    /// Identifies the performance within its sale.
    pub id: PerformanceId,
    /// Title by language.
    pub title: LocalText,
    /// Name of the venue.
    pub venue: String,
    /// When the performance begins.
    pub starts_at: Timestamp,
    /// From when on nothing is sold or canceled by its buyer.
    pub doors_open_at: Timestamp,
    /// The venue's time zone in the IANA database.
    pub time_zone: TimeZone,
    /// Seats in the plan.
    pub seat_count: usize,
    /// Hash of the seating plan; its address changes with it.
    pub plan_hash: String,
    /// Face price by price zone.
    pub prices: BTreeMap<String, Money>,
}

/// The public facts of a sale, the same in every process.
pub struct SaleInfo {
    /// Identifies the sale.
    pub id: SaleId,
    /// Names of its cookies.
    pub cookies: SaleCookies,
    /// Title by language.
    pub title: LocalText,
    /// Name of the artist.
    pub artist: String,
    /// Whether visitors sign in.
    pub sign_in: SignIn,
    /// How queue numbers are ordered: `fifo` or `fair_draw`.
    pub queue_order: &'static str,
    /// When the queue begins to take entries.
    pub prequeue_starts_at: Timestamp,
    /// When visitors are first admitted.
    pub on_sale_starts_at: Timestamp,
    /// When the sale ends.
    pub closes_at: Timestamp,
    /// Seats that one customer may have.
    pub seats_per_customer_max: u8,
    /// How long a hold lasts.
    pub hold_ttl: Duration,
    /// Its performances, in the configured order.
    pub performances: Vec<PerformanceInfo>,
    /// Credentials for everyone; in the demo only.
    pub demo_login: Option<DemoLogin>,
    /// The address of its page as a QR code, made when it is first asked for.
    pub address_code: OnceLock<Bytes>,
    /// Verifies this sale's queue tokens and admission passes.
    pub tokens: Arc<dyn TokenVerifier>,
}

/// Limits of what costs the service or other visitors most, each by client.
pub struct ClientLimits {
    /// Attempts to sign in.
    pub sign_ins: IpRateLimit,
    /// Joins.
    pub joins: IpRateLimit,
    /// Requests of any kind.
    pub requests: IpRateLimit,
    /// Requests for seats, by visit.
    pub hold_requests: RateLimit<VisitId>,
    /// Seats that anonymous visitors hold at once.
    pub anonymous_seats: AnonymousSeats,
    /// Lists of draw entries that are being sent.
    pub draw_lists: ClientSlots,
}

impl ClientLimits {
    /// Drops what no longer counts. To be called now and then.
    pub fn remove_idle(&self, now: Timestamp) {
        for limit in [&self.sign_ins, &self.joins, &self.requests] {
            limit.remove_idle();
        }
        self.hold_requests.remove_idle();
        self.anonymous_seats.remove_expired(now);
    }
}

/// What the handlers of every role may reach.
pub struct AppState {
    /// Limits and addresses of the public listener.
    pub config: Config,
    /// How cookies are named and guarded.
    pub cookies: CookieRules,
    /// All sales of the configuration.
    pub sales: BTreeMap<SaleId, Arc<SaleInfo>>,
    /// The shop's customers and their sessions.
    pub shop: Arc<Shop>,
    /// The rendered pages and their assets.
    pub pages: pages::Pages,
    /// The OpenAPI document of the public API, encoded.
    pub openapi_document: Bytes,
    /// Public halves of the keys that sign passes, draw receipts and tickets.
    pub public_keys: Vec<Jwk>,
    /// Limits by address, visit and client.
    pub limits: ClientLimits,
    /// What a join costs an anonymous visitor.
    pub proof_of_work: ProofOfWork,
    /// Requests in progress on this node.
    pub in_flight: InFlightLimit,
    /// Sheds what cannot be answered in time.
    pub load_shedder: LoadShedder,
    /// The process's clock.
    pub clock: Arc<dyn Clock>,
    /// The process's source of randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Ends the public listener's work at shutdown.
    pub lifecycle: Lifecycle,
}

impl AppState {
    /// The sale of this name; `None` when there is none.
    #[must_use]
    pub fn sale(&self, id: &SaleId) -> Option<Arc<SaleInfo>> {
        self.sales.get(id).cloned()
    }

    /// How many requests this node could still take.
    #[must_use]
    pub fn headroom(&self) -> Headroom {
        self.in_flight.headroom()
    }

    /// Seconds for `Retry-After`, uniform in `from_s..=to_s`, so that clients do not return all at once.
    #[must_use]
    pub fn retry_after_jitter_s(&self, from_s: u64, to_s: u64) -> u64 {
        from_s + self.entropy.below(to_s - from_s + 1)
    }

    /// Seconds for `Retry-After`: at least `wait`, at most twice as long.
    #[must_use]
    pub fn retry_after_at_least_s(&self, wait: Duration) -> u64 {
        let least_s = wait.as_secs().max(1);
        self.retry_after_jitter_s(least_s, least_s * 2)
    }
}

/// What the waiting room's handlers may reach besides.
#[derive(Clone)]
pub struct WaitingRoomState {
    /// What every role has.
    pub app: Arc<AppState>,
    /// One for each sale of the configuration.
    pub rooms: Arc<BTreeMap<SaleId, Arc<WaitingRoom>>>,
}

impl WaitingRoomState {
    /// The waiting room of a sale; `None` when there is no such sale.
    #[must_use]
    pub fn room(&self, sale: &SaleId) -> Option<Arc<WaitingRoom>> {
        self.rooms.get(sale).cloned()
    }

    /// A sale by its name in a path, with its waiting room. Borrowed: many joins at once would contend for
    /// the reference counts.
    pub(crate) fn find(&self, sale: &str) -> Option<(&Arc<SaleInfo>, &Arc<WaitingRoom>)> {
        Some((self.app.sales.get(sale)?, self.rooms.get(sale)?))
    }
}

/// What the box office's handlers may reach besides.
#[derive(Clone)]
pub struct BoxOfficeState {
    /// What every role has.
    pub app: Arc<AppState>,
    /// Seats and holds.
    pub seating: Arc<Seating>,
    /// Orders and payments.
    pub checkout: Arc<Checkout>,
    /// Visits that ended here and are to be reported to the waiting room.
    pub ended_visits: EndedVisits,
    /// Response times and failures, from which the waiting room sets its pace.
    pub health: Arc<HealthCounters>,
}

/// Visits that the box office saw end, until they are reported to the waiting room.
#[derive(Clone, Debug, Default)]
pub struct EndedVisits(Arc<Mutex<BTreeMap<SaleId, Vec<VisitId>>>>);

impl EndedVisits {
    /// Records the end of a visit.
    pub fn add(&self, sale: &SaleId, visit: VisitId) {
        self.0.lock().entry(sale.clone()).or_default().push(visit);
    }

    /// Removes and returns the visits of one sale that ended since the last call.
    #[must_use]
    pub fn take(&self, sale: &SaleId) -> Vec<VisitId> {
        self.0.lock().remove(sale).unwrap_or_default()
    }
}

/// A router's state that contains the [`AppState`]. Extractors work with any of them.
pub trait HasAppState: Send + Sync {
    /// What every role has.
    fn app(&self) -> &Arc<AppState>;
}

impl HasAppState for Arc<AppState> {
    fn app(&self) -> &Arc<AppState> {
        self
    }
}

impl HasAppState for WaitingRoomState {
    fn app(&self) -> &Arc<AppState> {
        &self.app
    }
}

impl HasAppState for BoxOfficeState {
    fn app(&self) -> &Arc<AppState> {
        &self.app
    }
}

impl FromRef<WaitingRoomState> for Arc<AppState> {
    fn from_ref(state: &WaitingRoomState) -> Self {
        Arc::clone(&state.app)
    }
}

impl FromRef<BoxOfficeState> for Arc<AppState> {
    fn from_ref(state: &BoxOfficeState) -> Self {
        Arc::clone(&state.app)
    }
}
