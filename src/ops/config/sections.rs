//! The sections of the configuration, one struct each. The keys are explained in `config/stagedoor.toml`.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    kernel::LocalText,
    ops::config::{
        sales::SaleSettings,
        secrets::{DatabaseUrl, Secret},
        storage::{BoxOfficeSettings, DatabaseSettings, StoreSettings, WaitingRoomSettings},
    },
    shop::ClientAuthentication,
};

/// The whole configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The public listener, and the private admin listener.
    pub server: ServerSettings,
    /// Where the service keeps its files.
    pub data: DataSettings,
    /// The service's signing and MAC keys, which are stored encrypted under one master key.
    pub keys: KeysSettings,
    /// The process's log.
    pub log: LogSettings,
    /// Limits by client IP, account and visit; a whole mobile network can share one IP: be generous.
    pub limits: LimitSettings,
    /// The fast store of queue entries and seat holds while a sale runs.
    pub store: StoreSettings,
    /// The waiting rooms of all sales.
    pub waiting_room: WaitingRoomSettings,
    /// The box offices of all sales.
    pub box_office: BoxOfficeSettings,
    /// The ledger of orders, claims and tickets.
    pub ledger: DatabaseSettings,
    /// The queues' journal: joins, calls, admissions.
    pub journal: DatabaseSettings,
    /// The existing shop, whose customers can sign in.
    pub shop: ShopSettings,
    /// From a hold to tickets.
    pub checkout: CheckoutSettings,
    /// `[gateway]`: where payments are authorized, captured and refunded.
    pub gateway: GatewaySettings,
    /// Operators by name: the SHA-256 of their tokens, in hexadecimal digits.
    pub operators: BTreeMap<String, String>,
    /// All sales.
    #[serde(default)]
    pub sales: Vec<SaleSettings>,
}

/// The public listener, and the private admin listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// This node's name in leases, reports and logs, unique among all nodes; empty means the host name and
    /// the public port.
    pub node_name: String,
    /// Address and port of the public listener.
    pub listen: SocketAddr,
    /// Address and port of the private admin listener (health, metrics, operators); never expose it to the
    /// public.
    pub admin_listen: SocketAddr,
    /// How browsers reach the public listener, without a trailing slash: a host of its own, or a path of
    /// another host such as `https://shop.example/tickets`; also the issuer of passes and tickets.
    pub public_base: String,
    /// Proxies whose X-Forwarded-For is trusted: IP addresses or networks such as "10.0.0.0/8".
    pub trusted_proxies: Vec<String>,
    /// Maximum number of open connections; further ones wait in the operating system's accept queue.
    pub connections_max: usize,
    /// Maximum number of open connections from one client IP; 0 is no limit, which is right behind a proxy.
    pub connections_per_ip_max: usize,
    /// Maximum size of a request head, in bytes.
    pub header_bytes_max: usize,
    /// Maximum size of a request body, in bytes.
    pub body_bytes_max: usize,
    /// How long a client may take to send a request head, in milliseconds.
    pub header_timeout_ms: u32,
    /// How long a client may take to send a request body, in milliseconds.
    pub body_timeout_ms: u32,
    /// After how many seconds without a request a connection is closed.
    pub idle_timeout_s: u32,
    /// How long a request may wait for its response, in milliseconds; a change that has begun is completed
    /// all the same.
    pub request_timeout_ms: u32,
    /// Maximum number of requests in flight; further ones are answered 503 with Retry-After.
    pub requests_in_flight_max: usize,
    /// After SIGTERM, for how many milliseconds the process keeps accepting so that load balancers can take
    /// it out first.
    pub shutdown_notice_ms: u32,
    /// After that notice, for how many seconds the process waits for requests and orders in flight.
    pub shutdown_timeout_s: u32,
}

/// Where the service keeps its files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    /// Directory of queue, ledger, keys and sessions; it must survive a restart.
    pub dir: PathBuf,
}

/// The service's signing and MAC keys, which are stored encrypted under one master key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysSettings {
    /// The master key, best given as STAGEDOOR__KEYS__MASTER; losing it invalidates every queue token and
    /// ticket.
    pub master: Secret,
    /// A file that holds the master key, instead of `master`.
    pub master_file: PathBuf,
}

/// The process's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// error, warn, info, debug or trace, or a list such as "info,stagedoor=debug".
    pub level: String,
    /// "text" for people, "json" for machines.
    pub format: LogFormat,
}

/// How one line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Readable text, colored on a terminal.
    Text,
    /// One JSON object.
    Json,
}

/// Limits by client address, account and visit; 0 is no limit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitSettings {
    /// Sign-ins a minute from one IP; 0 is no limit.
    pub sign_in_per_ip_per_minute: u32,
    /// Wrong passwords a minute for one account, of which one IP may use half; further ones are answered 429;
    /// 0 is no limit.
    pub wrong_passwords_per_account_per_minute: u32,
    /// Joins a minute from one IP; 0 is no limit.
    pub joins_per_ip_per_minute: u32,
    /// Requests a second from one IP; 0 is no limit.
    pub requests_per_ip_per_second: u32,
    /// Requests to hold or swap seats a minute from one visit; 0 is no limit.
    pub hold_requests_per_visit_per_minute: u32,
    /// Seats that anonymous visitors from one IP may hold at once, at each node; customers who joined signed
    /// in do not count; 0 is no limit.
    pub anonymous_seats_per_ip_max: usize,
    /// Wrong operators' tokens a minute from one IP at the admin listener; 0 is no limit.
    pub wrong_operator_tokens_per_ip_per_minute: u32,
    /// The proof of work for joining a sale without sign-in (sign_in = "none"). Visitors who are signed in,
    /// or already in the queue, do none.
    pub proof_of_work: ProofOfWorkSettings,
}

/// The proof of work for joining a sale without sign-in (sign_in = "none"). Visitors who are signed in, or
/// already in the queue, do none.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofOfWorkSettings {
    /// The lowest difficulty, in leading zero bits: 16 keeps a phone busy for about 0.1 s; 0 asks for nothing
    /// in normal load.
    pub difficulty_bits_min: u8,
    /// The highest difficulty, whatever the load: 20 keeps a phone busy for about 2 s; 0 disables the proof
    /// of work.
    pub difficulty_bits_max: u8,
    /// Normal joins a second at one node; each doubling beyond adds a bit, and so does each halving of the
    /// free share of server.requests_in_flight_max.
    pub joins_per_second_normal: u32,
    /// Normal joins a minute from one IP, an IPv6 /64 counting as one; each doubling beyond adds a bit.
    pub joins_per_ip_per_minute_normal: u32,
    /// For how many seconds a challenge can be answered.
    pub challenge_ttl_s: u32,
    /// Used challenges that a node remembers until they expire, about 20 bytes each; beyond this number joins
    /// are answered 503.
    pub used_challenges_max: usize,
    /// Whether an IP beyond joins_per_ip_per_minute may keep joining at the highest difficulty; false answers
    /// 429.
    pub allow_over_join_limit: bool,
}

/// The existing shop, whose customers can sign in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShopSettings {
    /// The shop's database: "sqlite:FILE", "postgres://USER:PASSWORD@HOST/DATABASE" or
    /// "mysql://USER:PASSWORD@HOST/DATABASE" (also MariaDB). It is only read.
    pub database_url: DatabaseUrl,
    /// Finds a customer by :login, as typed without surrounding blanks, or :login_lower, the same in lower
    /// case. Returns the columns id, name, password_hash, active, and login, the stored login, by which
    /// several customers are told apart.
    pub customer_query: String,
    /// The same for logins that customer_query does not find, whatever their case; for shops without an index
    /// that does. "" for none. A query with COLLATE any_case is for SQLite files alone.
    pub customer_query_any_case: String,
    /// Finds a customer by :id, the column id of customer_query, with the same columns; asked before each
    /// purchase, so that who is deactivated buys nothing more after ten seconds. "" for never: then a session
    /// lasts session_hours.
    pub customer_by_id_query: String,
    /// Some customers, with the same columns and no parameter; `stagedoor preflight` tells how many of them
    /// can sign in. "" for none.
    pub customer_sample_query: String,
    /// Tables of the shop with which it is tried at the start that nothing can be written: those that
    /// customer_query reads.
    pub tables: Vec<String>,
    /// Goes on although the account of database_url may change the shop's data. A warning repeats.
    pub allow_write_access: bool,
    /// Maximum number of connections to the shop's database.
    pub connections_max: u32,
    /// Maximum number of queries a second, so that a sale never slows the shop down.
    pub queries_per_second_max: u32,
    /// Maximum number of uses of customer_query_any_case a minute, one at a time: each may read all
    /// customers.
    pub any_case_queries_per_minute_max: u32,
    /// How long one query may take, in milliseconds.
    pub query_timeout_ms: u32,
    /// Threads that verify passwords, one at a time each; 0 means half of this machine's cores, at least one.
    /// A verification takes tens to hundreds of milliseconds of a core: `stagedoor password-formats` measures
    /// it for each format.
    pub password_threads: usize,
    /// Sign-ins that may wait for those threads, fewer where that takes longer than a request may; further
    /// ones are answered 503 with Retry-After.
    pub password_queue_max: usize,
    /// Stored password formats that protect nothing and are verified all the same: "md5", "salted_md5",
    /// "sha1", "salted_sha1", "plain". Shops that still have them should let their customers in by a
    /// hand-off.
    pub unsafe_password_formats: Vec<String>,
    /// The shop's name by language: ko, en, ja. Without it the pages say "the shop".
    pub name: LocalText,
    /// Whether customers can sign in here with their password at the shop; otherwise only at the shop itself.
    pub password_sign_in: bool,
    /// Where customers sign in at the shop, "https://..."; shown where a stored password cannot be verified
    /// here. Where shop.handoff.sign_in_url is given, the page leads there instead.
    pub sign_in_url: String,
    /// Where customers who forgot their password get help, "https://..."; empty shows no link.
    pub forgot_password_url: String,
    /// Where customers open an account, "https://..."; empty shows no link.
    pub new_account_url: String,
    /// How many hours a sign-in session lasts.
    pub session_hours: u32,
    /// Signed hand-offs: the shop signs its customer in and sends them here with a short-lived JWT.
    pub handoff: HandoffSettings,
    /// Sign-in at the shop's OpenID provider, instead of a hand-off: authorization code flow with PKCE.
    pub oidc: OidcSettings,
    /// Events for the shop: what was sold, canceled and refunded (CloudEvents, signed as Standard Webhooks).
    pub events: EventsSettings,
}

/// Signed hand-offs: the shop signs its customer in and sends them here with a short-lived JWT.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandoffSettings {
    /// The claim "iss" of the shop's tokens.
    pub issuer: String,
    /// The claim "aud" of the shop's tokens.
    pub audience: String,
    /// The secret shared with the shop (HS256), at least 32 bytes. Without it and without jwks_url there are
    /// no hand-offs.
    pub secret: Secret,
    /// Instead of a secret: the shop's JSON Web Key Set (RS256, ES256 or EdDSA), "https://...".
    pub jwks_url: String,
    /// The shop's page that signs a customer in and hands them over, "https://..."; the sign-in page leads to
    /// it. Empty takes hand-offs of programs only.
    pub sign_in_url: String,
    /// Origins of the shop's pages whose forms may bring a hand-off, such as `https://shop.example`.
    pub origins: Vec<String>,
}

/// Events for the shop: what was sold, canceled and refunded (CloudEvents, signed as Standard Webhooks).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsSettings {
    /// Where the shop receives them, "https://..."; empty sends none, and the shop may read the feed.
    pub url: String,
    /// The secret shared with the receiver: whsec_ and the base64 of 24 to 64 random bytes.
    pub secret: Secret,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: u32,
    /// Maximum number of requests at a time from one node, so that a sale never slows the shop down.
    pub requests_max: u32,
    /// Whether customers in the queue may ask to be told when they are called: the shop then sends a message
    /// to those whom stagedoor.visitor.called.v1 names.
    pub call_notices: bool,
    /// The SHA-256 of the token with which the shop reads the feed at the admin listener, in hexadecimal
    /// digits; `stagedoor operator-token` makes both.
    pub feed_token: String,
}

/// Sign-in at the shop's OpenID provider, instead of a hand-off: authorization code flow with PKCE.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcSettings {
    /// The provider's issuer, "https://..."; its discovery document lies under it. Empty for none.
    pub issuer: String,
    /// The id of this service at the provider, where <public_base>/v1/sign-in/oidc is its redirect URI.
    pub client_id: String,
    /// Its secret; empty for a public client.
    pub client_secret: Secret,
    /// How the secret is shown to the provider: "client_secret_basic" or "client_secret_post".
    pub client_authentication: ClientAuthentication,
    /// The claim of the ID token that has the shop's key of the customer: the column id of customer_query.
    pub customer_claim: String,
}

/// From a hold to tickets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckoutSettings {
    /// After how many milliseconds an order whose payment is still running is answered "in progress".
    pub order_response_wait_ms: u32,
    /// How long one call to the payment gateway may take, in milliseconds.
    pub gateway_timeout_ms: u32,
    /// After how many seconds a payment with an unknown outcome is voided.
    pub payment_timeout_s: u32,
    /// How many seconds a buyer has at the payment gateway's page, or for another card; then the order is
    /// canceled and its seats are free. Not shorter than a sale's hold_ttl_s.
    pub payment_page_timeout_s: u32,
}

/// `[gateway]`: where payments are authorized, captured and refunded.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySettings {
    /// Which one: "sandbox" moves no money.
    pub kind: GatewayKind,
    /// Its base URL; empty means the built-in sandbox.
    pub url: String,
    /// The secret that signs the gateway's webhooks.
    pub webhook_secret: Secret,
}

/// Which payment gateway takes the payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GatewayKind {
    /// The sandbox gateway, built in or a process of its own.
    Sandbox,
}
