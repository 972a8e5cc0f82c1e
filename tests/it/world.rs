//! A service of its own for each test: one or more processes on free ports, with their files in a folder that
//! is removed when the test ends.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use stagedoor::{
    audit::{
        AdmissionSettings,
        databases::{DatabaseLocation, Databases},
    },
    demo::crowd::HandoffSigner,
    kernel::{Clock, SaleId, SystemClock, Timestamp},
    platform::http_client::HttpClient,
};

use crate::{
    environment::{Deployment, Environment},
    nodes::{Node, Site},
};

pub const SALE: &str = "hero-test";
pub const PERFORMANCE: &str = "friday";
/// Customers that the shop knows, numbered from 1.
pub const CUSTOMERS: u32 = 10_000;
/// Customer 1's.
pub const PASSWORD: &str = "a flower for the stage";

pub const WEBHOOK_SECRET: &str = "whsec_dGhlIGdhdGV3YXkncyBvd24gc2VjcmV0IGZvciB0ZXN0cw==";

/// The origin of the shop.
pub const SHOP: &str = "https://shop.example";
const HANDOFF_ISSUER: &str = SHOP;
const HANDOFF_AUDIENCE: &str = "stagedoor";
pub const HANDOFF_SECRET: &str = "the shop and the service share this secret";

/// Settings of the sale.
#[derive(Clone, Debug)]
pub struct SaleConfig {
    pub prequeue_starts_in: Duration,
    pub on_sale_starts_in: Duration,
    /// The sale ends two hours from now, but not after the doors open.
    pub doors_open_in: Duration,
    pub admission_rate_per_minute: u32,
    pub admission_burst: u32,
    pub active_visits_max: u32,
    pub call_window_s: u32,
    pub late_arrival_share: f64,
    pub pass_ttl_s: u32,
    pub visit_max_s: u32,
    pub seats: u32,
    pub seats_per_customer_max: u8,
    pub hold_ttl_s: u32,
    pub hold_extensions_max: u8,
    /// The lease on an order lasts six times as long.
    pub gateway_timeout_ms: u32,
    /// Not shorter than a hold.
    pub payment_page_timeout_s: u32,
}

impl Default for SaleConfig {
    /// A small theatre with practically unlimited admission.
    fn default() -> Self {
        Self {
            prequeue_starts_in: Duration::ZERO,
            on_sale_starts_in: Duration::ZERO,
            doors_open_in: Duration::from_hours(48),
            admission_rate_per_minute: 60_000,
            admission_burst: 1_000,
            active_visits_max: 1_000,
            call_window_s: 180,
            late_arrival_share: 0.2,
            pass_ttl_s: 120,
            visit_max_s: 600,
            seats: 300,
            seats_per_customer_max: 4,
            hold_ttl_s: 120,
            hold_extensions_max: 2,
            gateway_timeout_ms: 5_000,
            payment_page_timeout_s: 120,
        }
    }
}

/// A service under test.
pub struct World {
    pub sale_config: SaleConfig,
    /// `http://127.0.0.1:PORT` of the public listener, or of the balancer before several.
    pub base: String,
    pub sale: SaleId,
    pub clock: Arc<SystemClock>,
    pub on_sale_starts_at: Timestamp,
    pub client: HttpClient,
    /// The processes; one, unless they share an [`Environment`].
    pub nodes: Vec<Node>,
    environment: Option<Environment>,
    site: Site,
}

impl World {
    /// Starts a service of one node and waits until it is ready.
    pub async fn open(sale_config: SaleConfig) -> Self {
        let mut world = Self::prepared(sale_config).await;
        world.start().await;
        world
    }

    /// Starts several nodes on their own Redis and PostgreSQL behind nginx and waits until they are ready.
    pub async fn open_on(deployment: Deployment, sale_config: SaleConfig) -> Self {
        let mut world = Self::prepared_on(deployment, sale_config).await;
        world.start().await;
        world
    }

    /// Prepares a service of one node without starting it.
    pub async fn prepared(sale_config: SaleConfig) -> Self {
        Self::built(sale_config, None).await
    }

    /// As [`World::open_on`], without starting the nodes.
    pub async fn prepared_on(deployment: Deployment, sale_config: SaleConfig) -> Self {
        Self::built(sale_config, Some(deployment)).await
    }

    async fn built(sale_config: SaleConfig, deployment: Option<Deployment>) -> Self {
        let clock = Arc::new(SystemClock::new());
        let client = HttpClient::new(Duration::from_secs(10), 32 << 20);
        let site = Site {
            dir: fresh_dir(),
            clock: Arc::clone(&clock),
            client: client.clone(),
        };
        make_shop(&site.dir.join("shop.db")).await;
        let (environment, nodes) = match deployment {
            None => (
                None,
                vec![Node::new(&site, "all", site.dir.join("data"), Vec::new())],
            ),
            Some(deployment) => {
                let (environment, nodes) = Environment::prepare(deployment, &site).await;
                (Some(environment), nodes)
            }
        };
        // The sale is timed from now, because starting the servers takes a while.
        let now = clock.now();
        let world = Self {
            base: environment
                .as_ref()
                .map_or_else(|| format!("http://{}", nodes[0].public), Environment::base),
            sale: SALE.parse().unwrap(),
            on_sale_starts_at: now.plus(sale_config.on_sale_starts_in),
            client,
            clock,
            nodes,
            environment,
            site,
            sale_config,
        };
        fs::write(world.site.config_file(), world.config(now)).unwrap();
        world
    }

    fn config(&self, now: Timestamp) -> String {
        let SaleConfig {
            admission_rate_per_minute,
            admission_burst,
            active_visits_max,
            call_window_s,
            late_arrival_share,
            pass_ttl_s,
            visit_max_s,
            seats,
            ..
        } = self.sale_config;
        let SaleConfig {
            seats_per_customer_max,
            hold_ttl_s,
            hold_extensions_max,
            prequeue_starts_in,
            doors_open_in,
            gateway_timeout_ms,
            payment_page_timeout_s,
            ..
        } = self.sale_config;
        let (base, dir) = (&self.base, self.site.dir.display());
        let (listen, admin) = (self.nodes[0].public, self.nodes[0].admin);
        let gateway = self
            .environment
            .as_ref()
            .map_or_else(String::new, Environment::gateway_url);
        let shared = self
            .environment
            .as_ref()
            .map_or_else(String::new, Environment::config);
        let (prequeue_starts_at, on_sale_starts_at) = (now.plus(prequeue_starts_in), self.on_sale_starts_at);
        let (closes_at, starts_at) = (
            now.plus(Duration::from_hours(2).min(doors_open_in)),
            now.plus(doors_open_in),
        );
        format!(
            r#"
[server]
listen = "{listen}"
admin_listen = "{admin}"
public_base = "{base}"
shutdown_timeout_s = 15
shutdown_notice_ms = 0
trusted_proxies = ["127.0.0.1"]
connections_per_ip_max = 0
[data]
dir = "{dir}/data"
[keys]
master = "only for this test, and long enough"
[log]
level = "info"
# Visitors of the tests ask faster than people do; fair_shares.rs sets limits.
[limits]
hold_requests_per_visit_per_minute = 0
anonymous_seats_per_ip_max = 0
[shop]
database_url = "sqlite:{dir}/shop.db"
[shop.handoff]
issuer = "{HANDOFF_ISSUER}"
audience = "{HANDOFF_AUDIENCE}"
secret = "{HANDOFF_SECRET}"
sign_in_url = "{SHOP}/hand-over?lang=ko"
origins = ["{SHOP}"]
[checkout]
order_response_wait_ms = 2000
gateway_timeout_ms = {gateway_timeout_ms}
payment_timeout_s = 10
payment_page_timeout_s = {payment_page_timeout_s}
[gateway]
url = "{gateway}"
webhook_secret = "{WEBHOOK_SECRET}"
{shared}
[[sales]]
id = "{SALE}"
title = {{ en = "Hero-Lim in test", ko = "시험 공연" }}
artist = "Hero-Lim"
prequeue_starts_at = "{prequeue_starts_at}"
on_sale_starts_at = "{on_sale_starts_at}"
closes_at = "{closes_at}"
admission_rate_per_minute = {admission_rate_per_minute}
admission_burst = {admission_burst}
active_visits_max = {active_visits_max}
call_window_s = {call_window_s}
late_arrival_share = {late_arrival_share:?}
pass_ttl_s = {pass_ttl_s}
visit_max_s = {visit_max_s}
seats_per_customer_max = {seats_per_customer_max}
hold_ttl_s = {hold_ttl_s}
hold_extensions_max = {hold_extensions_max}
[[sales.performances]]
id = "{PERFORMANCE}"
title = {{ en = "Friday" }}
starts_at = "{starts_at}"
time_zone = "Asia/Seoul"
venue = "Theatre"
plan = "generate:theatre:{seats}"
prices = {{ VIP = 198000, R = 165000, S = 143000, A = 121000 }}
"#
        )
    }

    /// Appends TOML tables to the configuration, before the service is started.
    pub fn add_to_config(&self, more: &str) {
        let file = self.site.config_file();
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text + "\n" + more).unwrap();
    }

    /// The configuration of another sale, which starts now and lasts two hours; `more` holds further keys.
    pub fn another_sale(&self, id: &str, more: &str) -> String {
        let now = self.clock.now();
        let (end, starts) = (
            now.plus(Duration::from_hours(2)),
            now.plus(Duration::from_hours(48)),
        );
        format!(
            "[[sales]]\nid = \"{id}\"\ntitle = {{ en = \"Another\" }}\nartist = \"Hero-Lim\"\n\
             prequeue_starts_at = \"{now}\"\non_sale_starts_at = \"{now}\"\n\
             closes_at = \"{end}\"\nadmission_rate_per_minute = 60000\nadmission_burst = 1000\n\
             active_visits_max = 1000\nhold_ttl_s = 120\nvisit_max_s = 600\n{more}\n\
             [[sales.performances]]\nid = \"{PERFORMANCE}\"\ntitle = {{ en = \"Friday\" }}\n\
             starts_at = \"{starts}\"\ntime_zone = \"Asia/Seoul\"\nvenue = \"Hall\"\n\
             plan = \"generate:theatre:60\"\nprices = {{ VIP = 4, R = 3, S = 2, A = 1 }}\n"
        )
    }

    /// Runs a statement on the shop's database, as the shop does.
    pub async fn change_shop(&self, statement: &'static str) {
        let file = SqliteConnectOptions::new().filename(self.site.dir.join("shop.db"));
        let pool = SqlitePool::connect_with(file).await.unwrap();
        sqlx::query(statement).execute(&pool).await.unwrap();
        pool.close().await;
    }

    pub fn site(&self) -> Site {
        self.site.clone()
    }

    /// The servers that the nodes share.
    pub fn environment(&self) -> &Environment {
        self.environment.as_ref().expect("this service has one node")
    }

    pub fn environment_mut(&mut self) -> &mut Environment {
        self.environment.as_mut().expect("this service has one node")
    }

    /// The data directory of a service with one node.
    pub fn data(&self) -> PathBuf {
        self.nodes[0].data().clone()
    }

    /// The service's databases.
    pub fn databases(&self) -> Databases {
        match &self.environment {
            None => Databases::in_folder(&self.data()),
            Some(environment) => {
                let shared = DatabaseLocation::Postgres(environment.database_url());
                Databases {
                    journal: shared.clone(),
                    ledger: shared,
                    gateway: Some(environment.gateway_statement()),
                }
            }
        }
    }

    /// Starts the processes, or restarts them on the same data, and waits until they are ready.
    pub async fn start(&mut self) {
        join_all(self.nodes.iter_mut().map(Node::start)).await;
    }

    /// kill -9.
    pub fn kill(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
    }

    /// SIGTERM; returns the exit status of the only node once it has drained.
    pub async fn stop(&mut self) -> ExitStatus {
        self.nodes[0].stop().await
    }

    /// The logs of all processes over all their starts.
    pub fn log(&self) -> String {
        self.site.log()
    }

    /// What a node tells its monitoring.
    pub async fn metrics(&self, node: usize) -> String {
        let uri = format!("http://{}/metrics", self.nodes[node].admin);
        let uri = uri.parse().unwrap();
        let reply = self.client.send(Method::GET, uri, &[], Bytes::new()).await;
        String::from_utf8(reply.unwrap().body.to_vec()).unwrap()
    }

    /// Asserts that no process panicked.
    pub fn assert_no_panic(&self) {
        let log = self.log();
        let panics: Vec<&str> = log.lines().filter(|line| line.contains("panicked")).collect();
        assert!(panics.is_empty(), "{panics:#?}");
    }

    /// `/v1/sales/{sale}/{rest}`.
    pub fn sale_path(&self, rest: &str) -> String {
        format!("/v1/sales/{}/{rest}", self.sale)
    }

    /// `/v1/sales/{sale}/performances/{performance}/{rest}`.
    pub fn performance_path(&self, rest: &str) -> String {
        self.sale_path(&format!("performances/{PERFORMANCE}/{rest}"))
    }

    /// The admission settings for the auditor.
    pub fn admission_settings(&self) -> AdmissionSettings {
        AdmissionSettings {
            from: Timestamp::default(),
            active_visits_max: self.sale_config.active_visits_max,
            rate_per_minute: self.sale_config.admission_rate_per_minute,
            burst: self.sale_config.admission_burst,
        }
    }

    /// Signs hand-off tokens as the shop does.
    pub fn handoff(&self) -> HandoffSigner {
        let clock = Arc::clone(&self.clock);
        let serial = std::sync::atomic::AtomicU64::new(0);
        Arc::new(move |customer| {
            let serial = serial.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            handoff_token(
                customer,
                &format!("{customer}-{serial}-{}", clock.now().as_millis()),
                clock.now(),
                HANDOFF_SECRET,
            )
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.nodes.clear();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40 * self.nodes.len().max(1)).collect();
            eprintln!("the end of the service's log ({}):", self.site.dir.display());
            for line in tail.iter().rev() {
                eprintln!("  {line}");
            }
        } else {
            let _ = fs::remove_dir_all(&self.site.dir);
        }
    }
}

/// A hand-off token as the shop signs it (HS256).
pub fn handoff_token(customer: u32, serial: &str, now: Timestamp, secret: &str) -> String {
    let claims = json!({
        "iss": HANDOFF_ISSUER, "aud": HANDOFF_AUDIENCE,
        "sub": customer.to_string(), "name": format!("Fan {customer}"),
        "iat": now.as_secs(), "nbf": now.as_secs(), "exp": now.as_secs() + 60, "jti": serial,
    });
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some("handoff+jwt".into());
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// Runs a command of the binary; returns its status and output.
pub fn command(args: &[&str]) -> (ExitStatus, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_stagedoor"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status, text)
}

/// Creates a fresh temporary directory.
pub fn fresh_dir() -> PathBuf {
    let mut bytes = [0; 8];
    stagedoor::kernel::Entropy::fill(&stagedoor::kernel::OsEntropy, &mut bytes);
    let dir = std::env::temp_dir().join(format!("stagedoor-it-{:016x}", u64::from_le_bytes(bytes)));
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// A Django shop's database: customer 1 has a password, the others sign in by hand-off.
async fn make_shop(file: &Path) {
    let pool = SqlitePool::connect_with(SqliteConnectOptions::new().filename(file).create_if_missing(true))
        .await
        .unwrap();
    let table = "CREATE TABLE auth_user (id INTEGER PRIMARY KEY, email TEXT NOT NULL,
                 first_name TEXT NOT NULL, last_name TEXT NOT NULL,
                 password TEXT NOT NULL, is_active INTEGER NOT NULL)";
    sqlx::query(table).execute(&pool).await.unwrap();
    let all =
        "INSERT INTO auth_user WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
               SELECT i, 'fan' || i || '@shop.example', 'Fan', i, '!', 1 FROM n";
    sqlx::query(all).bind(CUSTOMERS).execute(&pool).await.unwrap();
    sqlx::query("UPDATE auth_user SET password = ? WHERE id = 1")
        .bind(django_hash(PASSWORD))
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
}

/// `pbkdf2_sha256$ITERATIONS$SALT$HASH`, with few iterations to keep the tests fast.
fn django_hash(password: &str) -> String {
    const ITERATIONS: u32 = 1_000;
    let mut hash = [0; 32];
    let rounds = std::num::NonZeroU32::new(ITERATIONS).unwrap();
    aws_lc_rs::pbkdf2::derive(
        aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA256,
        rounds,
        b"salt4tests",
        password.as_bytes(),
        &mut hash,
    );
    format!("pbkdf2_sha256${ITERATIONS}$salt4tests${}", STANDARD.encode(hash))
}
