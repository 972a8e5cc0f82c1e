//! The sales of the configuration file. What a key means is said in `config/stagedoor.toml`.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::sections::seconds;
use crate::{
    kernel::{Currency, Entropy, LocalText, Money, PerformanceId, SaleId, Timestamp},
    platform::{
        drand::{ChainKey, DrandClient},
        http_client::TrustStore,
    },
    seating,
    waiting_room::{
        self,
        draw::{Chain, DrawTerms},
    },
};

/// One sale: its door and its performances.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaleSettings {
    pub id: SaleId,
    pub title: LocalText,
    pub artist: String,
    #[serde(default)]
    pub sign_in: SignIn,
    #[serde(default)]
    pub queue_order: QueueOrder,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draw: Option<DrawSettings>,
    pub prequeue_starts_at: Timestamp,
    pub on_sale_starts_at: Timestamp,
    pub closes_at: Timestamp,
    pub admission_rate_per_minute: u32,
    pub active_visits_max: u32,
    #[serde(default)]
    pub admission_burst: Option<u32>,
    #[serde(default = "default_call_window_s")]
    pub call_window_s: u32,
    #[serde(default = "default_returner_share")]
    pub late_arrival_share: f64,
    #[serde(default = "default_pass_life_s")]
    pub pass_ttl_s: u32,
    #[serde(default = "default_visit_max_s")]
    pub visit_max_s: u32,
    #[serde(default = "default_max_fans")]
    pub queue_entries_max: u32,
    #[serde(default = "default_watchers_max")]
    pub status_streams_max: usize,
    #[serde(default = "default_seats_per_fan")]
    pub seats_per_customer_max: u8,
    #[serde(default = "default_hold_s")]
    pub hold_ttl_s: u32,
    #[serde(default = "default_hold_extensions_max")]
    pub hold_extensions_max: u8,
    #[serde(default)]
    pub performances: Vec<PerformanceSettings>,
}

/// The beacon that decides a sale's draw.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrawSettings {
    pub beacon_url: String,
    /// The chain's hash.
    pub chain: String,
    pub genesis_at: Timestamp,
    pub period_s: u32,
    pub public_key: ChainKey,
}

/// Who may join a sale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignIn {
    #[default]
    Customer,
    None,
}

/// In which order those who came before the opening are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueOrder {
    #[default]
    Fifo,
    FairDraw,
}

/// One evening of a sale.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerformanceSettings {
    pub id: PerformanceId,
    pub title: LocalText,
    pub starts_at: Timestamp,
    pub venue: String,
    /// A plan's file, or `generate:KIND:SEATS`.
    pub plan: String,
    #[serde(default = "default_watchers_max")]
    pub seat_streams_max: usize,
    /// By price zone, in the currency's minor unit.
    #[serde(default)]
    pub prices: BTreeMap<String, i64>,
    #[serde(default = "default_currency")]
    pub currency: Currency,
}

impl SaleSettings {
    /// How the sale is drawn; `None`: first come, first served.
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
        let roots = if beacon_url.starts_with("https:") {
            TrustStore::system()
        } else {
            TrustStore::empty()
        };
        let beacon = Arc::new(DrandClient::new(
            &beacon_url,
            &chain,
            public_key,
            &roots,
            Arc::clone(entropy),
        ));
        Some(DrawTerms {
            chain: Chain {
                chain,
                genesis_at,
                period_s,
                public_key,
            },
            beacon,
        })
    }

    /// The door's part, for a process that has a box office too; `issuer` is the public base URL.
    #[must_use]
    pub fn waiting_room(&self, issuer: &str) -> waiting_room::Config {
        waiting_room::Config {
            sale: self.id.clone(),
            prequeue_at: self.prequeue_starts_at,
            opens_at: self.on_sale_starts_at,
            closes_at: self.closes_at,
            rate_per_minute: self.admission_rate_per_minute,
            capacity: self.active_visits_max,
            burst: self.admission_burst,
            call_window: seconds(self.call_window_s),
            returner_share: self.late_arrival_share,
            pass_life: seconds(self.pass_ttl_s),
            visit_max: seconds(self.visit_max_s),
            max_fans: self.queue_entries_max,
            issuer: issuer.to_owned(),
            watchers_max: self.status_streams_max,
            passes_checked_elsewhere: false,
            durability: waiting_room::Durability::Journaled,
            draw: None,
        }
    }
}

impl PerformanceSettings {
    /// The seats' part. Limits on holds are the sale's.
    #[must_use]
    pub fn seating(&self, sale: &SaleSettings) -> seating::Config {
        seating::Config {
            sale: sale.id.clone(),
            performance: self.id.clone(),
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

    /// Those of the plan's `zones` that have no price: seats there could not be sold.
    #[must_use]
    pub fn zones_without_price<'z>(&self, zones: impl IntoIterator<Item = &'z str>) -> Vec<&'z str> {
        zones
            .into_iter()
            .filter(|zone| !self.prices.contains_key(*zone))
            .collect()
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
