//! The demo: a sale that opens a minute from now, with everything around it made on the spot.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::{
    DemoHooks, Listeners, Roles,
    directory::{self, secret_file},
    listen, open,
};
use crate::{
    demo::{
        crowd::{self, CrowdConfig, Pace},
        sandbox_beacon::{self, BeaconConfig, SandboxSigner},
    },
    edge::handlers::sales::DemoLogin,
    kernel::{Clock, Currency, Entropy, LocalText, OsEntropy, SystemClock, Timestamp},
    ops::config::{
        DatabaseUrl, DrawSettings, PerformanceSettings, QueueOrder, SaleSettings, Secret, Settings, SignIn,
    },
    platform::{keys::write_private, signing::hex},
    shop,
};

/// What the command line says.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    pub data: Option<PathBuf>,
    /// How browsers reach the demo when a balancer stands before it; its own public listener when `None`.
    pub public_base: Option<String>,
    pub open_in_s: u32,
    pub prequeue_in_s: u32,
    pub seats: u32,
    pub crowd: u32,
    pub admission_rate_per_minute: u32,
    pub active_visits_max: u32,
    /// Whether the order is drawn at the opening.
    pub fair_draw: bool,
}

/// The sale, kept with its data so that a restart goes on with the same one.
#[derive(Serialize, Deserialize)]
struct DemoSale {
    sale: SaleSettings,
}

const CUSTOMERS: u32 = 10_000;
/// The crowd's customers are counted from here, so that the first hundred logins are left for people.
const FIRST_OF_CROWD: u32 = 101;
const LOGIN: &str = "fan00001@example.com";
/// The demo's sale, beside its books.
const DEMO_FILE: &str = "demo.toml";
/// What the crowd was told: the auditor holds the books to it.
pub(crate) const CROWD_FILE: &str = "crowd.json";
const SALE: &str = "hero-lim";
const SALE_LASTS: Duration = Duration::from_hours(6);
/// As often as drand's fastest chain.
const BEACON_PERIOD_S: u32 = 3;
const HANDOFF_PARTY: &str = "stagedoor-demo";

/// Runs the demo until SIGTERM or SIGINT.
pub async fn run(options: DemoOptions, mut settings: Settings) -> anyhow::Result<()> {
    let clock = SystemClock::new();
    if options.crowd > CUSTOMERS - FIRST_OF_CROWD + 1 {
        bail!(
            "--crowd: the demo's shop has {CUSTOMERS} customers, {} of them for a crowd",
            CUSTOMERS - FIRST_OF_CROWD + 1
        );
    }
    let listeners = Listeners {
        public: listen(options.listen)?,
        admin: listen(options.admin_listen)?,
    };
    let (public, ops) = (listeners.public.local_addr()?, listeners.admin.local_addr()?);
    let data = options
        .data
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("data/demo-{}", clock.now().as_secs())));
    directory::create(&data)?;

    settings.server.listen = public;
    settings.server.admin_listen = ops;
    settings.server.public_base = options
        .public_base
        .clone()
        .unwrap_or_else(|| format!("http://{public}"));
    settings.data.dir.clone_from(&data);
    let (mut sale, is_new) = prepare(&mut settings, &options, &clock).await?;
    if let Some(draw) = &mut sale.draw {
        draw.beacon_url = sandbox_beacon(draw)?;
    }
    print_summary(&options, &settings, &sale, is_new, clock.now());
    let crowd = crowd_config(&options, &settings, &sale, clock.now());
    settings.sales = vec![sale];
    settings.check()?;

    let demo_login = Some(DemoLogin {
        login: LOGIN.to_owned(),
        password: shop::DEMO_PASSWORD.to_owned(),
    });
    let extras = DemoHooks {
        demo_login,
        on_open: None,
    };
    let extras = match crowd {
        None => extras,
        Some(crowd) => DemoHooks {
            on_open: Some(Box::new(move |life| {
                let told = data.join(CROWD_FILE);
                let life = life.clone();
                let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
                life.clone().spawn(async move {
                    let report = crowd::run(crowd, clock, life).await;
                    println!("crowd:   {}", report.summary());
                    if let Err(error) = fs::write(&told, serde_json::to_vec(&report).unwrap_or_default()) {
                        tracing::warn!(%error, "cannot write down what the crowd saw");
                    }
                });
            })),
            ..extras
        },
    };
    open(settings, Roles::All, listeners, extras).await
}

/// Makes what is missing in the data directory: of nodes that share it the first makes all, and the others find it.
async fn prepare(
    settings: &mut Settings,
    options: &DemoOptions,
    clock: &SystemClock,
) -> anyhow::Result<(SaleSettings, bool)> {
    let data = settings.data.dir.clone();
    let _alone = directory::setup_lock(&data).await?;
    let (sale, is_new) = load_or_create_sale(&data, options, clock.now())?;
    let shop_file = data.join("shop.db");
    shop::create_demo_shop(&shop_file, CUSTOMERS)
        .await
        .context("cannot make the demo's shop")?;
    settings.shop.database_url = DatabaseUrl::new(format!("sqlite:{}", shop_file.display()));
    settings.keys.master_file = data.join("master.key");
    secret_file(&settings.keys.master_file, &OsEntropy)?;
    HANDOFF_PARTY.clone_into(&mut settings.shop.handoff.issuer);
    HANDOFF_PARTY.clone_into(&mut settings.shop.handoff.audience);
    settings.shop.handoff.secret = Secret::new(secret_file(&data.join("handoff.key"), &OsEntropy)?);
    if settings.gateway.webhook_secret.is_empty() {
        settings.gateway.webhook_secret = Secret::new(secret_file(&data.join("webhook.key"), &OsEntropy)?);
    }
    // One machine plays the whole world here, so one address is everybody.
    settings.server.connections_per_ip_max = 0;
    settings.limits.sign_in_per_ip_per_minute = 0;
    settings.limits.joins_per_ip_per_minute = 0;
    settings.limits.requests_per_ip_per_second = 0;
    if !settings.shares_state() {
        // Nobody turns elsewhere from the only node.
        settings.server.shutdown_notice_ms = 0;
    }
    Ok((sale, is_new))
}

/// A beacon for one sale; where it is, each start decides.
fn new_beacon(now: Timestamp) -> DrawSettings {
    let mut chain = [0; 32];
    OsEntropy.fill(&mut chain);
    let chain = hex(&chain);
    let public_key = SandboxSigner::of(&chain).public_key();
    DrawSettings {
        beacon_url: String::new(),
        chain,
        genesis_at: now,
        period_s: BEACON_PERIOD_S,
        public_key,
    }
}

/// Starts the sale's beacon; gives its address.
fn sandbox_beacon(draw: &DrawSettings) -> anyhow::Result<String> {
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let url = format!("http://{}", listener.local_addr()?);
    let DrawSettings {
        chain,
        genesis_at,
        period_s,
        ..
    } = draw.clone();
    let config = BeaconConfig {
        chain,
        genesis_at,
        period_s,
        clock: Arc::new(SystemClock::new()),
    };
    tokio::spawn(async move {
        if let Err(error) = sandbox_beacon::serve(listener, config).await {
            tracing::error!(%error, "the sandbox beacon ended");
        }
    });
    Ok(url)
}

/// The sale of a demo's data directory.
pub fn load_sale(data: &Path) -> anyhow::Result<SaleSettings> {
    let file = data.join(DEMO_FILE);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let kept: DemoSale =
        toml::from_str(&text).with_context(|| format!("{} is not a demo's sale", file.display()))?;
    Ok(kept.sale)
}

/// The sale in the data directory, or a new one; and which of the two.
fn load_or_create_sale(data: &Path, options: &DemoOptions, now: Timestamp) -> anyhow::Result<(SaleSettings, bool)> {
    let file = data.join(DEMO_FILE);
    if !file.exists() {
        let new = DemoSale {
            sale: new_sale(options, now)?,
        };
        write_private(&file, toml::to_string(&new)?.as_bytes())
            .with_context(|| format!("cannot write {}", file.display()))?;
        return Ok((new.sale, true));
    }
    let sale = load_sale(data)?;
    if now >= sale.closes_at {
        bail!(
            "the sale in {} closed at {}; give another --data, or none for a new sale",
            data.display(),
            sale.closes_at
        );
    }
    Ok((sale, false))
}

fn new_sale(options: &DemoOptions, now: Timestamp) -> anyhow::Result<SaleSettings> {
    let seconds = |s: u32| Duration::from_secs(u64::from(s));
    if options.prequeue_in_s > options.open_in_s {
        bail!("--prequeue-in: fans take places before the opening, so it may not be later than --open-in");
    }
    let opens_at = now.plus(seconds(options.open_in_s));
    let kind = match options.seats {
        0..3_000 => "theatre",
        3_000..30_000 => "arena",
        _ => "stadium",
    };
    let text = |ko: &str, en: &str, ja: &str| {
        LocalText(
            [("ko", ko), ("en", en), ("ja", ja)]
                .into_iter()
                .map(|(lang, text)| (lang.to_owned(), text.to_owned()))
                .collect(),
        )
    };
    let performance = PerformanceSettings {
        id: "day-1".parse()?,
        title: text(
            "첫째 날 · 별이 빛나는 밤",
            "Day 1 · A night of stars",
            "初日・星の輝く夜",
        ),
        starts_at: curtain(now),
        venue: "Hero Dome, Seoul".to_owned(),
        plan: format!("generate:{kind}:{}", options.seats),
        seat_streams_max: 10_000,
        prices: [("VIP", 198_000), ("R", 165_000), ("S", 132_000), ("A", 99_000)]
            .map(|(zone, price)| (zone.to_owned(), price))
            .into(),
        currency: Currency::KRW,
    };
    Ok(SaleSettings {
        id: SALE.parse()?,
        title: text(
            "임히어로 콘서트 — 다시, 우리",
            "Hero-Lim in concert — Us, again",
            "イム・ヒーロー コンサート ―ふたたび、私たち",
        ),
        artist: "Hero-Lim".to_owned(),
        sign_in: SignIn::Customer,
        queue_order: if options.fair_draw {
            QueueOrder::FairDraw
        } else {
            QueueOrder::Fifo
        },
        draw: options.fair_draw.then(|| new_beacon(now)),
        prequeue_starts_at: now.plus(seconds(options.prequeue_in_s)),
        on_sale_starts_at: opens_at,
        closes_at: opens_at.plus(SALE_LASTS),
        admission_rate_per_minute: options.admission_rate_per_minute,
        active_visits_max: options.active_visits_max,
        admission_burst: None,
        call_window_s: 180,
        late_arrival_share: 0.2,
        pass_ttl_s: 120,
        visit_max_s: 1_200,
        queue_entries_max: 1_000_000,
        status_streams_max: 10_000,
        seats_per_customer_max: 4,
        hold_ttl_s: 420,
        hold_extensions_max: 2,
        performances: vec![performance],
    })
}

/// Two months from now, at seven in the evening in Seoul.
fn curtain(now: Timestamp) -> Timestamp {
    const DAY_S: i64 = 24 * 60 * 60;
    Timestamp::from_secs((now.as_secs().div_euclid(DAY_S) + 60) * DAY_S + 10 * 60 * 60)
}

fn crowd_config(
    options: &DemoOptions,
    settings: &Settings,
    sale: &SaleSettings,
    now: Timestamp,
) -> Option<CrowdConfig> {
    if options.crowd == 0 {
        return None;
    }
    let handoff = settings.shop().handoff?;
    let signer = move |customer: u32| {
        shop::sign_handoff(
            &handoff,
            SystemClock::new().now(),
            &OsEntropy,
            &customer.to_string(),
            &format!("Fan {customer}"),
        )
    };
    // Most come before the opening, some after it.
    let until_open = sale.on_sale_starts_at.since(now);
    Some(CrowdConfig {
        base: settings.server.public_base.clone(),
        sale: sale.id.clone(),
        fans: options.crowd,
        seed: 1,
        handoff: Arc::new(signer),
        arrive_within: until_open.max(Duration::from_secs(5)) + Duration::from_secs(5),
        first_customer: FIRST_OF_CROWD,
        pace: Pace::Human,
    })
}

fn print_summary(options: &DemoOptions, settings: &Settings, sale: &SaleSettings, is_new: bool, now: Timestamp) {
    let base = &settings.server.public_base;
    let until = |at: Timestamp| at.since(now).as_secs();
    println!("fans:    {base}/sales/{}", sale.id);
    println!("console: http://{}/metrics", settings.server.admin_listen);
    println!(
        "data:    {}{}",
        settings.data.dir.display(),
        if is_new {
            ""
        } else {
            "  (goes on with the sale that is there; --open-in, --seats, --rate and --capacity are its own)"
        }
    );
    println!(
        "sign in: {LOGIN} to fan00100@example.com, password {}",
        shop::DEMO_PASSWORD
    );
    println!(
        "doors:   places from {} (in {} s), the sale opens at {} (in {} s)",
        sale.prequeue_starts_at,
        until(sale.prequeue_starts_at),
        sale.on_sale_starts_at,
        until(sale.on_sale_starts_at)
    );
    println!(
        "rules:   {} entries a minute, {} visitors at once, {} seats a fan",
        sale.admission_rate_per_minute, sale.active_visits_max, sale.seats_per_customer_max
    );
    if options.crowd > 0 {
        println!("crowd:   {} simulated fans", options.crowd);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::config;

    fn options() -> DemoOptions {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        DemoOptions {
            listen,
            admin_listen: listen,
            data: None,
            public_base: None,
            open_in_s: 60,
            prequeue_in_s: 0,
            seats: 500,
            crowd: 0,
            admission_rate_per_minute: 600,
            active_visits_max: 100,
            fair_draw: false,
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nodes_that_start_together_find_one_sale_and_one_set_of_secrets() {
        let mut name = [0; 8];
        crate::kernel::Entropy::fill(&OsEntropy, &mut name);
        let dir = std::env::temp_dir().join(format!("stagedoor-demo-{:016x}", u64::from_le_bytes(name)));
        directory::create(&dir).unwrap();
        let node = |gateway_secret: &'static str| {
            let dir = dir.clone();
            tokio::spawn(async move {
                let mut settings = config::load(None, std::iter::empty()).unwrap();
                settings.data.dir = dir;
                settings.gateway.webhook_secret = Secret::new(gateway_secret);
                let (sale, is_new) = prepare(&mut settings, &options(), &SystemClock::new())
                    .await
                    .unwrap();
                (
                    toml::to_string(&sale).unwrap(),
                    settings.shop.handoff.secret,
                    settings.gateway.webhook_secret,
                    is_new,
                )
            })
        };
        let (one, two, three) = (node(""), node(""), node("shared with a gateway elsewhere"));
        let (one, two, three) = (one.await.unwrap(), two.await.unwrap(), three.await.unwrap());
        assert_eq!((&one.0, &one.1, &one.2), (&two.0, &two.1, &two.2));
        assert_eq!(
            [one.3, two.3, three.3].iter().filter(|is_new| **is_new).count(),
            1,
            "one of them made it"
        );
        assert_eq!(
            (three.0 == one.0, three.2.expose()),
            (true, "shared with a gateway elsewhere")
        );
        fs::remove_dir_all(&dir).unwrap();
    }
}
