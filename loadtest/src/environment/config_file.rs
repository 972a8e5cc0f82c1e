//! The configuration of a service that is started for a measurement.

use std::time::Duration;

use stagedoor::{kernel::Timestamp, shop::HandoffIssuer};

use super::args::Durability;
use crate::process::DataFolder;

/// The sale's identifier.
pub const SALE: &str = "load";
/// The performance's identifier.
pub const PERFORMANCE: &str = "night";
/// The share of active visits that late arrivals may use.
pub const LATE_ARRIVAL_SHARE: f64 = 0.2;
/// The webhook secret that the service and its sandbox gateway share.
pub const WEBHOOK_SECRET: &str = "whsec_dGhlIGdhdGV3YXkncyBvd24gc2VjcmV0IGZvciB0ZXN0cw==";
const SALE_LASTS: Duration = Duration::from_hours(3);

/// A sale of a service that is started.
#[derive(Clone, Debug)]
pub struct SaleSpec {
    /// How many seats there are.
    pub seats: u32,
    /// `admission_rate_per_minute`.
    pub admission_rate_per_minute: u32,
    /// `active_visits_max`.
    pub active_visits_max: u32,
    /// `visit_max_s`.
    pub visit_max_s: u32,
    /// `hold_ttl_s`.
    pub hold_ttl_s: u32,
    /// `queue_entries_max`.
    pub queue_entries_max: u32,
    /// From the start of the service to the on-sale start.
    pub open_in: Duration,
    /// `status_streams_max`.
    pub status_streams_max: u32,
}

/// Everything but the backend and the sales. No limit per IP address applies, because one machine plays all
/// visitors.
pub fn service_config(folder: &DataFolder, public_port: u16, admin_port: u16, backend: &str) -> String {
    let dir = folder.path.display();
    let gateway = if backend.contains("[gateway]") {
        String::new()
    } else {
        format!("[gateway]\nwebhook_secret = \"{WEBHOOK_SECRET}\"\n")
    };
    format!(
        "[server]\n\
         listen = \"127.0.0.1:{public_port}\"\n\
         admin_listen = \"127.0.0.1:{admin_port}\"\n\
         public_base = \"http://127.0.0.1:{public_port}\"\n\
         shutdown_notice_ms = 0\n\
         connections_max = 40000\n\
         connections_per_ip_max = 0\n\
         [data]\ndir = \"{dir}/data\"\n\
         [keys]\nmaster = \"only for this load test, and long enough\"\n\
         [log]\nlevel = \"warn\"\n\
         [limits]\n\
         sign_in_per_ip_per_minute = 0\n\
         joins_per_ip_per_minute = 0\n\
         requests_per_ip_per_second = 0\n\
         hold_requests_per_visit_per_minute = 0\n\
         anonymous_seats_per_ip_max = 0\n\
         [shop]\ndatabase_url = \"sqlite:{dir}/shop.db\"\n\
         [checkout]\ngateway_timeout_ms = 5000\npayment_timeout_s = 10\n\
         payment_page_timeout_s = 900\n\
         {gateway}{backend}"
    )
}

/// The configuration of the embedded backend.
pub fn embedded(durability: Durability) -> String {
    format!("[waiting_room]\ndurability = \"{}\"\n", durability.name())
}

/// The configuration of the `redis+postgresql` backend, with the sandbox gateway at `gateway_url`.
pub fn redis_postgresql(
    redis_url: &str,
    database_url: &str,
    durability: Durability,
    gateway_url: &str,
) -> String {
    let durability = durability.name();
    format!(
        "[store]\nkind = \"redis\"\n\
         [store.redis]\nurl = \"{redis_url}\"\ncommand_timeout_ms = 2000\n\
         [waiting_room]\ndurability = \"{durability}\"\n\
         [ledger]\nurl = \"{database_url}\"\n\
         [gateway]\nurl = \"{gateway_url}\"\nwebhook_secret = \"{WEBHOOK_SECRET}\"\n"
    )
}

/// The hand-off of the run's own shop.
pub fn handoff(shop: &HandoffIssuer) -> String {
    let HandoffIssuer {
        issuer,
        audience,
        secret,
    } = shop;
    format!("[shop.handoff]\nissuer = \"{issuer}\"\naudience = \"{audience}\"\nsecret = \"{secret}\"\n")
}

/// One sale with one performance and without a sign-in.
pub fn sale(
    id: &str,
    spec: &SaleSpec,
    prequeue_starts_at: Timestamp,
    on_sale_starts_at: Timestamp,
) -> String {
    let closes_at = on_sale_starts_at.plus(SALE_LASTS);
    let SaleSpec {
        seats,
        admission_rate_per_minute,
        active_visits_max,
        visit_max_s,
        hold_ttl_s,
        queue_entries_max,
        status_streams_max,
        open_in: _,
    } = spec;
    let plan = match seats {
        0..3_000 => "theatre",
        3_000..30_000 => "arena",
        _ => "stadium",
    };
    format!(
        "[[sales]]\nid = \"{id}\"\ntitle = {{ en = \"Load\" }}\nartist = \"Load test\"\nsign_in = \"none\"\n\
         prequeue_starts_at = \"{prequeue_starts_at}\"\n\
         on_sale_starts_at = \"{on_sale_starts_at}\"\n\
         closes_at = \"{closes_at}\"\n\
         admission_rate_per_minute = {admission_rate_per_minute}\n\
         active_visits_max = {active_visits_max}\n\
         call_window_s = 30\n\
         late_arrival_share = {LATE_ARRIVAL_SHARE}\n\
         visit_max_s = {visit_max_s}\n\
         queue_entries_max = {queue_entries_max}\n\
         status_streams_max = {status_streams_max}\n\
         seats_per_customer_max = 4\n\
         hold_ttl_s = {hold_ttl_s}\n\
         [[sales.performances]]\nid = \"{PERFORMANCE}\"\ntitle = {{ en = \"Night\" }}\n\
         starts_at = \"{closes_at}\"\ntime_zone = \"UTC\"\nvenue = \"Hall\"\n\
         plan = \"generate:{plan}:{seats}\"\nprices = {{ VIP = 4, R = 3, S = 2, A = 1 }}\n"
    )
}
