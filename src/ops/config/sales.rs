//! The sales of the configuration. The keys are explained in `config/stagedoor.toml`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    kernel::{Currency, Entropy, LocalText, Money, PerformanceId, SaleId, TimeZone, Timestamp},
    ops::{config::units::seconds, plans},
    platform::{
        drand::{ChainKey, DrandClient},
        http_client::TrustStore,
    },
    seating,
    waiting_room::{
        self,
        draw::{BeaconChain, DrawTerms},
    },
};

/// One sale: its waiting room and its performances.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaleSettings {
    /// The sale's id in URLs: lower-case letters, digits and hyphens.
    pub id: SaleId,
    /// The title by language: ko, en, ja.
    pub title: LocalText,
    /// Who performs.
    pub artist: String,
    /// Who may join: "customer" requires the shop's sign-in, "none" accepts any browser.
    #[serde(default)]
    pub sign_in: SignIn,
    /// The order of visitors who join before the sale starts: "fifo", first come, first served, or
    /// "fair_draw", shuffled by a public beacon; default "fifo".
    #[serde(default)]
    pub queue_order: QueueOrder,
    /// The beacon of a fair draw; `None` for `fifo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw: Option<DrawSettings>,
    /// From when visitors may join the queue.
    pub prequeue_starts_at: Timestamp,
    /// From when visitors are called.
    pub on_sale_starts_at: Timestamp,
    /// After when no visitor is admitted any more.
    pub closes_at: Timestamp,
    /// Maximum number of admissions a minute.
    pub admission_rate_per_minute: u32,
    /// Maximum number of visits that are active at once.
    pub active_visits_max: u32,
    /// Admissions that may come at once on top of the rate; default one second's worth.
    #[serde(default)]
    pub admission_burst: Option<u32>,
    /// How many seconds a called visitor has to enter before the next one is called.
    #[serde(default = "default_call_window_s")]
    pub call_window_s: u32,
    /// The share of admissions that visitors who missed their call may take, 0.0 to 1.0.
    #[serde(default = "default_late_arrival_share")]
    pub late_arrival_share: f64,
    /// After how many seconds an admission pass must be renewed; the page does it.
    #[serde(default = "default_pass_ttl_s")]
    pub pass_ttl_s: u32,
    /// After how many seconds a visit ends, whatever the visitor does.
    #[serde(default = "default_visit_max_s")]
    pub visit_max_s: u32,
    /// Maximum number of queue entries. Visitors count; numbers that belong to none do not.
    #[serde(default = "default_queue_entries_max")]
    pub queue_entries_max: u32,
    /// Maximum number of open event streams of the queue status; other visitors poll.
    #[serde(default = "default_streams_max")]
    pub status_streams_max: usize,
    /// Seats that one customer may own over all performances of the sale.
    #[serde(default = "default_seats_per_customer_max")]
    pub seats_per_customer_max: u8,
    /// How many seconds a hold lasts; not shorter than checkout.payment_timeout_s, not longer than
    /// checkout.payment_page_timeout_s.
    #[serde(default = "default_hold_ttl_s")]
    pub hold_ttl_s: u32,
    /// How often a customer may extend a hold.
    #[serde(default = "default_hold_extensions_max")]
    pub hold_extensions_max: u8,
    /// One performance of the sale.
    #[serde(default)]
    pub performances: Vec<PerformanceSettings>,
}

/// The beacon of a sale's fair draw.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrawSettings {
    /// One of the network's servers, or a relay of your own; signatures are verified, so it need not be
    /// trusted. It may change between restarts; the other keys are committed to when the sale is first
    /// opened.
    pub beacon_url: String,
    /// The chain's hash.
    pub chain: String,
    /// When its first round was published.
    pub genesis_at: Timestamp,
    /// Seconds between rounds.
    pub period_s: u32,
    /// The public key that verifies all rounds.
    pub public_key: ChainKey,
}

/// Who may join a sale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignIn {
    /// Customers of the shop who have signed in.
    #[default]
    Customer,
    /// Any browser.
    None,
}

/// In which order visitors who join before the sale starts are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueOrder {
    /// First come, first served.
    #[default]
    Fifo,
    /// Shuffled by a public beacon.
    FairDraw,
}

/// One performance of a sale.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerformanceSettings {
    /// The performance's id in URLs, unique within its sale.
    pub id: PerformanceId,
    /// The title by language: ko, en, ja.
    pub title: LocalText,
    /// When it starts.
    pub starts_at: Timestamp,
    /// From when on nothing is sold or canceled by its buyer any more; default starts_at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doors_open_at: Option<Timestamp>,
    /// The venue's time zone in the IANA database, such as "Asia/Seoul"; pages and tickets show its time.
    #[serde(default)]
    pub time_zone: TimeZone,
    /// Where it takes place.
    pub venue: String,
    /// The seating plan: a file, or "generate:arena:15000".
    pub plan: String,
    /// Maximum number of open event streams of the seats; other visitors poll.
    #[serde(default = "default_streams_max")]
    pub seat_streams_max: usize,
    /// The face price of each price zone of the plan.
    #[serde(default)]
    pub prices: BTreeMap<String, i64>,
    /// The currency of the prices (ISO 4217).
    #[serde(default = "default_currency")]
    pub currency: Currency,
}

impl SaleSettings {
    /// The terms of the sale's fair draw; `None` for first come, first served.
    #[must_use]
    pub fn draw_terms(&self, entropy: &Arc<dyn Entropy>) -> Option<DrawTerms> {
        let draw = self
            .draw
            .as_ref()
            .filter(|_| self.queue_order == QueueOrder::FairDraw)?;
        let DrawSettings {
            beacon_url,
            chain,
            genesis_at,
            period_s,
            public_key,
        } = draw.clone();
        let trust_store = TrustStore::for_url(&beacon_url);
        let beacon = Arc::new(DrandClient::new(
            &beacon_url,
            &chain,
            public_key,
            &trust_store,
            Arc::clone(entropy),
        ));
        Some(DrawTerms {
            chain: BeaconChain {
                chain,
                genesis_at,
                period_s,
                public_key,
            },
            beacon,
        })
    }

    /// When admission ends: at `closes_at`, and not after the doors of the last performance have opened,
    /// because there is nothing left to buy.
    #[must_use]
    pub fn admission_ends_at(&self) -> Timestamp {
        let last_doors = self
            .performances
            .iter()
            .map(PerformanceSettings::doors_open_at)
            .max();
        let ends_at = last_doors.map_or(self.closes_at, |doors| doors.min(self.closes_at));
        ends_at.max(self.on_sale_starts_at.plus(Duration::from_millis(1)))
    }

    /// Why the sale, while its queue is empty, should not begin at `now`: its performances are past, or it
    /// would go on after them. A sale that has begun must start whatever its times, for its buyers' sake.
    #[must_use]
    pub fn reasons_not_to_begin(&self, now: Timestamp) -> Vec<String> {
        let mut reasons = Vec::new();
        for performance in &self.performances {
            let doors = performance.doors_open_at();
            if doors <= now {
                reasons.push(format!(
                    "performance {}: its doors opened at {doors}, which is past",
                    performance.id
                ));
            }
        }
        let last_doors = self
            .performances
            .iter()
            .map(PerformanceSettings::doors_open_at)
            .max();
        if let Some(doors) = last_doors.filter(|doors| self.closes_at > *doors) {
            reasons.push(format!(
                "closes_at ({}) must not be after the last performance's doors_open_at, by default its \
                starts_at ({doors})",
                self.closes_at
            ));
        }
        reasons
    }

    /// The configuration of the sale's waiting room, for a process that also has a box office. `issuer` is
    /// the public base URL.
    #[must_use]
    pub fn waiting_room(&self, issuer: &str) -> waiting_room::Config {
        waiting_room::Config {
            sale: self.id.clone(),
            prequeue_starts_at: self.prequeue_starts_at,
            on_sale_starts_at: self.on_sale_starts_at,
            closes_at: self.admission_ends_at(),
            admission_rate_per_minute: self.admission_rate_per_minute,
            active_visits_max: self.active_visits_max,
            admission_burst: self.admission_burst,
            call_window: seconds(self.call_window_s),
            late_arrival_share: self.late_arrival_share,
            pass_ttl: seconds(self.pass_ttl_s),
            visit_max: seconds(self.visit_max_s),
            queue_entries_max: self.queue_entries_max,
            issuer: issuer.to_owned(),
            status_streams_max: self.status_streams_max,
            passes_verified_elsewhere: false,
            durability: waiting_room::Durability::Committed,
            draw: None,
        }
    }
}

impl PerformanceSettings {
    /// From when on nothing is sold or canceled by its buyer any more.
    #[must_use]
    pub fn doors_open_at(&self) -> Timestamp {
        self.doors_open_at.unwrap_or(self.starts_at)
    }

    /// The configuration of the performance's seating.
    #[must_use]
    pub fn seating(&self, sale: &SaleSettings) -> seating::Config {
        seating::Config {
            sale: sale.id.clone(),
            performance: self.id.clone(),
            doors_open_at: self.doors_open_at(),
            prices: self
                .prices
                .iter()
                .map(|(zone, &amount)| (zone.clone(), Money::new(amount, self.currency)))
                .collect(),
            hold_ttl: seconds(sale.hold_ttl_s),
            extensions_max: sale.hold_extensions_max,
            seats_per_customer_max: sale.seats_per_customer_max,
            seat_streams_max: self.seat_streams_max,
        }
    }

    /// The zones of the plan that have no price; their seats could not be sold.
    #[must_use]
    pub fn zones_without_price<'z>(&self, zones: impl IntoIterator<Item = &'z str>) -> Vec<&'z str> {
        zones
            .into_iter()
            .filter(|zone| !self.prices.contains_key(*zone))
            .collect()
    }

    /// The zones that have a price and that the plan does not have; a typo, most likely. A generated plan has
    /// only as many of its zones as it has seats for.
    #[must_use]
    pub fn prices_without_zone<'z>(&self, zones: impl IntoIterator<Item = &'z str>) -> Vec<&str> {
        if self.plan.starts_with(plans::GENERATE) {
            return Vec::new();
        }
        let zones: Vec<&str> = zones.into_iter().collect();
        let priced = self.prices.keys().map(String::as_str);
        priced.filter(|zone| !zones.contains(zone)).collect()
    }
}

fn default_call_window_s() -> u32 {
    180
}

fn default_late_arrival_share() -> f64 {
    0.2
}

fn default_pass_ttl_s() -> u32 {
    120
}

fn default_visit_max_s() -> u32 {
    1_200
}

fn default_queue_entries_max() -> u32 {
    1_000_000
}

fn default_streams_max() -> usize {
    10_000
}

fn default_seats_per_customer_max() -> u8 {
    4
}

fn default_hold_ttl_s() -> u32 {
    420
}

fn default_hold_extensions_max() -> u8 {
    2
}

fn default_currency() -> Currency {
    Currency::KRW
}
