//! `stagedoor demo`: a sale that starts a minute from now, with a shop, a payment gateway and an optional
//! crowd.

mod options;
mod sale;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail};

use self::sale::load_or_create_sale;
pub use self::{options::DemoOptions, sale::load_sale};
use crate::{
    app::{
        directory::{self, secret_file},
        listeners::{Listeners, listen},
        roles::Roles,
        serve::{DemoHooks, open},
    },
    demo::{
        crowd::{self, CrowdConfig, Pace},
        sandbox_beacon::{self, BeaconConfig},
    },
    edge::DemoLogin,
    kernel::{Clock, OsEntropy, SystemClock, Timestamp},
    ops::config::{DatabaseUrl, DrawSettings, SaleSettings, Secret, Settings},
    platform::private_file::write_private,
    shop::{self, HandoffIssuer},
};

const CUSTOMERS: u32 = 10_000;
/// The crowd's first customer; the first hundred logins are reserved for people.
const FIRST_OF_CROWD: u32 = 101;
const LOGIN: &str = "fan00001@example.com";
/// What the crowd observed; the auditor compares the databases with it.
pub(crate) const CROWD_FILE: &str = "crowd.json";
const HANDOFF_PARTY: &str = "stagedoor-demo";

/// Runs the demo until SIGTERM or SIGINT.
///
/// # Errors
/// When an option is out of range, a port is in use, or the data directory cannot be used.
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
    // The stored sale cannot be edited, and payments may have other limits now than when it was stored.
    sale.hold_ttl_s = sale
        .hold_ttl_s
        .max(settings.checkout.payment_timeout_s)
        .min(settings.checkout.payment_page_timeout_s)
        .min(sale.visit_max_s);
    print_summary(&options, &settings, &sale, is_new, clock.now());
    let crowd = crowd_config(&options, &settings, &sale, clock.now());
    settings.sales = vec![sale];
    settings.check()?;

    let demo_login = Some(DemoLogin {
        login: LOGIN.to_owned(),
        password: shop::DEMO_PASSWORD.to_owned(),
    });
    let hooks = DemoHooks {
        demo_login,
        on_open: None,
    };
    let hooks = match crowd {
        None => hooks,
        Some(crowd) => DemoHooks {
            on_open: Some(Box::new(move |lifecycle| {
                let report_file = data.join(CROWD_FILE);
                let lifecycle = lifecycle.clone();
                let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
                lifecycle.clone().spawn(async move {
                    let report = crowd::run(crowd, clock, lifecycle).await;
                    println!("crowd:   {}", report.summary());
                    let content = serde_json::to_vec(&report).unwrap_or_default();
                    if let Err(error) = write_private(&report_file, &content) {
                        tracing::warn!(%error, "cannot write the crowd's report; the audit will lack it");
                    }
                });
            })),
            ..hooks
        },
    };
    open(settings, Roles::All, listeners, hooks).await
}

/// Creates what is missing in the data directory, and completes the settings with it. Of nodes that share a
/// directory the first creates everything and the others use it.
async fn prepare(
    settings: &mut Settings,
    options: &DemoOptions,
    clock: &SystemClock,
) -> anyhow::Result<(SaleSettings, bool)> {
    let data = settings.data.dir.clone();
    let _setup_lock = directory::setup_lock(&data).await?;
    let (sale, is_new) = load_or_create_sale(&data, options, clock.now())?;
    let shop_file = data.join("shop.db");
    shop::create_demo_shop(&shop_file, CUSTOMERS)
        .await
        .context("cannot create the demo's shop")?;
    settings.shop.database_url = DatabaseUrl::new(format!("sqlite:{}", shop_file.display()));
    settings.keys.master_file = data.join("master.key");
    secret_file(&settings.keys.master_file, &OsEntropy)?;
    HANDOFF_PARTY.clone_into(&mut settings.shop.handoff.issuer);
    HANDOFF_PARTY.clone_into(&mut settings.shop.handoff.audience);
    settings.shop.handoff.secret = Secret::new(secret_file(&data.join("handoff.key"), &OsEntropy)?);
    if settings.gateway.webhook_secret.is_empty() {
        settings.gateway.webhook_secret = Secret::new(secret_file(&data.join("webhook.key"), &OsEntropy)?);
    }
    // All visitors have one IP here, so limits by IP would hit everyone.
    settings.server.connections_per_ip_max = 0;
    settings.limits.sign_in_per_ip_per_minute = 0;
    settings.limits.joins_per_ip_per_minute = 0;
    settings.limits.requests_per_ip_per_second = 0;
    settings.limits.anonymous_seats_per_ip_max = 0;
    if !settings.shares_state() {
        // With one node there is no other to move to, so the notice would only delay the stop.
        settings.server.shutdown_notice_ms = 0;
    }
    Ok((sale, is_new))
}

/// Starts the sale's sandbox beacon; returns its base URL.
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
            tracing::error!(%error, "the sandbox beacon failed; the draw will be late");
        }
    });
    Ok(url)
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
    let handoff = &settings.shop.handoff;
    let issuer = HandoffIssuer {
        issuer: handoff.issuer.clone(),
        audience: handoff.audience.clone(),
        secret: handoff.secret.expose().to_owned(),
    };
    let signer = move |customer: u32| {
        issuer.sign(
            SystemClock::new().now(),
            &OsEntropy,
            &customer.to_string(),
            &format!("Fan {customer}"),
        )
    };
    // Most fans arrive before the sale starts, some after.
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

fn print_summary(
    options: &DemoOptions,
    settings: &Settings,
    sale: &SaleSettings,
    is_new: bool,
    now: Timestamp,
) {
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
            "  (resumes the sale there; --open-in, --seats, --admission-rate and --active-visits-max are \
            its own)"
        }
    );
    println!(
        "sign in: {LOGIN} to fan00100@example.com, password {}",
        shop::DEMO_PASSWORD
    );
    println!(
        "times:   joining from {} (in {} s), on sale from {} (in {} s)",
        sale.prequeue_starts_at,
        until(sale.prequeue_starts_at),
        sale.on_sale_starts_at,
        until(sale.on_sale_starts_at)
    );
    println!(
        "limits:  {} admissions a minute, {} active visits, {} seats a customer",
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
    async fn nodes_that_start_together_share_sale_and_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_owned();
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
            "one of them created it"
        );
        assert_eq!(
            (three.0 == one.0, three.2.expose()),
            (true, "shared with a gateway elsewhere")
        );
    }
}
