//! The sections of the configuration file, each a type. What a key means is said in `config/stagedoor.toml`.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ops::config::{
    sales::SaleSettings,
    storage::{DatabaseSettings, BoxOfficeSettings, StoreSettings, WaitingRoomSettings},
};
use crate::{checkout, edge::overload::proof_of_work, shop};

/// A text that no log, error or listing ever shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. The name makes each use easy to find.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An unset secret shows as such: whoever looks for a missing one must see it.
    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { "[secret]" }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde's own message would quote the value.
        let value = toml::Value::deserialize(deserializer)
            .map_err(|_| de::Error::custom("must be a text in quotes"))?;
        match value {
            toml::Value::String(text) => Ok(Self(text)),
            _ => Err(de::Error::custom("must be a text in quotes")),
        }
    }
}

/// A database's address, whose secrets are never shown: users, passwords and parameters may hold one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text before the first colon.
    pub(super) fn scheme(&self) -> &str {
        self.0.split_once(':').map_or("", |(scheme, _)| scheme)
    }

    /// Scheme and hosts. Whatever is written otherwise than expected shows nothing: it may be a password in the wrong
    /// place.
    fn shown(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            let is_plain_file =
                self.0.is_empty() || (self.0.starts_with("sqlite:") && !self.0.contains(['?', '@']));
            return if is_plain_file {
                self.0.clone()
            } else {
                "[secret]".to_owned()
            };
        };
        let parameters = rest.find(['?', '#']);
        let hosts = rest.rfind('@').map_or(0, |at| at + 1);
        if parameters.is_some_and(|at| at < hosts) {
            return format!("{scheme}://[secret]");
        }
        let user = if hosts > 0 { "[secret]@" } else { "" };
        let more = if parameters.is_some() { "?[secret]" } else { "" };
        format!(
            "{scheme}://{user}{}{more}",
            &rest[hosts..parameters.unwrap_or(rest.len())]
        )
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Secret::deserialize(deserializer).map(|text| Self(text.0))
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown())
    }
}

/// Everything that can be configured.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub server: ServerSettings,
    pub data: DataSettings,
    pub keys: KeysSettings,
    pub log: LogSettings,
    pub limits: LimitSettings,
    pub store: StoreSettings,
    pub waiting_room: WaitingRoomSettings,
    pub box_office: BoxOfficeSettings,
    pub ledger: DatabaseSettings,
    pub journal: DatabaseSettings,
    pub shop: ShopSettings,
    pub checkout: CheckoutSettings,
    pub gateway: GatewaySettings,
    /// Name -> SHA-256 of the token, in hexadecimal digits.
    pub operators: BTreeMap<String, String>,
    #[serde(default)]
    pub sales: Vec<SaleSettings>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Empty: the machine's name and the public listener's port.
    pub node_name: String,
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub public_base: String,
    /// Addresses or networks (`10.0.0.0/8`).
    pub trusted_proxies: Vec<String>,
    pub connections_max: usize,
    pub connections_per_ip_max: usize,
    pub header_bytes_max: usize,
    pub body_bytes_max: usize,
    pub header_timeout_ms: u32,
    pub body_timeout_ms: u32,
    pub idle_timeout_s: u32,
    pub request_timeout_ms: u32,
    pub requests_in_flight_max: usize,
    pub shutdown_notice_ms: u32,
    pub shutdown_timeout_s: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    pub dir: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysSettings {
    pub master: Secret,
    /// Empty: none.
    pub master_file: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

/// Limits by client address; 0 is no limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    pub sign_in_per_ip_per_minute: u32,
    pub joins_per_ip_per_minute: u32,
    pub requests_per_ip_per_second: u32,
    pub proof_of_work: ProofOfWorkSettings,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofOfWorkSettings {
    pub difficulty_bits_min: u8,
    pub difficulty_bits_max: u8,
    pub joins_per_second_normal: u32,
    pub joins_per_ip_per_minute_normal: u32,
    pub challenge_ttl_s: u32,
    pub used_challenges_max: usize,
    pub allow_over_join_limit: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShopSettings {
    pub database_url: DatabaseUrl,
    pub customer_query: String,
    pub connections_max: u32,
    pub queries_per_second_max: u32,
    pub query_timeout_ms: u32,
    pub password_threads: usize,
    pub password_queue_max: usize,
    pub session_hours: u32,
    pub handoff: HandoffSettings,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandoffSettings {
    pub issuer: String,
    pub audience: String,
    pub secret: Secret,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckoutSettings {
    pub order_response_wait_ms: u32,
    pub gateway_timeout_ms: u32,
    pub payment_timeout_s: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySettings {
    pub kind: GatewayKind,
    /// Empty: the built-in one.
    pub url: String,
    pub webhook_secret: Secret,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GatewayKind {
    Sandbox,
}

impl Settings {
    #[must_use]
    pub fn checkout(&self) -> checkout::Config {
        checkout::Config {
            sales: self
                .sales
                .iter()
                .map(|sale| checkout::SaleConfig {
                    sale: sale.id.clone(),
                    title: sale.title.in_language("en").to_owned(),
                    seats_per_customer_max: sale.seats_per_customer_max,
                })
                .collect(),
            issuer: self.server.public_base.clone(),
            order_response_wait: millis(self.checkout.order_response_wait_ms),
            gateway_timeout: millis(self.checkout.gateway_timeout_ms),
            payment_timeout: seconds(self.checkout.payment_timeout_s),
        }
    }

    #[must_use]
    pub fn proof_of_work(&self) -> proof_of_work::Config {
        let it = &self.limits.proof_of_work;
        proof_of_work::Config {
            difficulty_bits_min: it.difficulty_bits_min,
            bits_max: it.difficulty_bits_max,
            joins_per_second_normal: it.joins_per_second_normal,
            joins_per_ip_per_minute_normal: it.joins_per_ip_per_minute_normal,
            challenge_ttl: seconds(it.challenge_ttl_s),
            used_challenges_max: it.used_challenges_max,
            lifts_join_limit: it.allow_over_join_limit,
        }
    }

    #[must_use]
    pub fn shop(&self) -> shop::Config {
        let shop = &self.shop;
        shop::Config {
            database_url: shop.database_url.expose().to_owned(),
            customer_query: shop.customer_query.clone(),
            connections_max: shop.connections_max,
            queries_per_second_max: shop.queries_per_second_max,
            query_timeout: millis(shop.query_timeout_ms),
            password_threads: shop.password_threads,
            password_queue_max: shop.password_queue_max,
            session_ttl: Duration::from_secs(u64::from(shop.session_hours) * 3_600),
            handoff: (!shop.handoff.secret.is_empty()).then(|| shop::HandoffConfig {
                issuer: shop.handoff.issuer.clone(),
                audience: shop.handoff.audience.clone(),
                secret: shop.handoff.secret.expose().to_owned(),
            }),
        }
    }
}

pub(super) fn seconds(s: u32) -> Duration {
    Duration::from_secs(u64::from(s))
}

pub(super) fn millis(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}
