//! Builds the state of the public listener from the settings.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::{
    app::context::{BuildContext, Plans},
    edge::{
        self, AppState, ClientLimits, DemoLogin, PerformanceInfo, PublicBase, SaleInfo,
        auth::cookies::{CookieRules, SaleCookies},
        overload::{
            anonymous_seats::AnonymousSeats,
            client_slot::ClientSlots,
            proof_of_work::ProofOfWork,
            rate_limit::IpRateLimit,
            shed::{InFlightLimit, LoadShedder},
        },
        pages::{Pages, SignInOptions},
    },
    kernel::SaleId,
    ops::config::{self, SaleSettings, Settings},
    platform::rate_limit::{Rate, RateLimit},
    shop::Shop,
    waiting_room::TokenVerifier,
};

/// The state that all handlers share.
pub(super) fn app_state(
    settings: &Settings,
    sales: BTreeMap<SaleId, Arc<SaleInfo>>,
    shop: Arc<Shop>,
    context: &BuildContext,
) -> anyhow::Result<AppState> {
    let (config, limits) = (edge_config(settings)?, &settings.limits);
    let base = &config.public_base;
    let limit = |rate| IpRateLimit::new(rate, Arc::clone(&context.clock));
    Ok(AppState {
        cookies: CookieRules::new(base),
        sales,
        shop,
        pages: Pages::load(&sign_in_options(settings), base.path()),
        openapi_document: serde_json::to_vec(&edge::openapi::public_document(base.path()))?.into(),
        config,
        public_keys: [
            context.keys.pass.jwks(),
            context.keys.receipt.jwks(),
            context.keys.ticket.jwks(),
        ]
        .concat(),
        limits: ClientLimits {
            sign_ins: limit(Rate::per_minute(limits.sign_in_per_ip_per_minute)),
            joins: limit(Rate::per_minute(limits.joins_per_ip_per_minute)),
            requests: limit(Rate::per_second(limits.requests_per_ip_per_second)),
            hold_requests: RateLimit::new(
                Rate::per_minute(limits.hold_requests_per_visit_per_minute),
                Arc::clone(&context.clock),
            ),
            anonymous_seats: AnonymousSeats::new(limits.anonymous_seats_per_ip_max),
            draw_lists: ClientSlots::default(),
        },
        proof_of_work: ProofOfWork::new(
            settings.proof_of_work(),
            context.keys.proof_of_work.clone(),
            Arc::clone(&context.clock),
            Arc::clone(&context.entropy),
        ),
        in_flight: InFlightLimit::new(settings.server.requests_in_flight_max),
        load_shedder: LoadShedder::default(),
        clock: Arc::clone(&context.clock),
        entropy: Arc::clone(&context.entropy),
        lifecycle: context.lifecycles.visitors.clone(),
    })
}

/// What the handlers know of one sale.
pub(super) fn sale_info(
    sale: &SaleSettings,
    plans: &Plans,
    tokens: Arc<dyn TokenVerifier>,
    demo_login: Option<DemoLogin>,
) -> SaleInfo {
    SaleInfo {
        id: sale.id.clone(),
        cookies: SaleCookies::of(&sale.id),
        title: sale.title.clone(),
        artist: sale.artist.clone(),
        sign_in: match sale.sign_in {
            config::SignIn::Customer => edge::SignIn::Customer,
            config::SignIn::None => edge::SignIn::None,
        },
        queue_order: match sale.queue_order {
            config::QueueOrder::Fifo => "fifo",
            config::QueueOrder::FairDraw => "fair_draw",
        },
        prequeue_starts_at: sale.prequeue_starts_at,
        on_sale_starts_at: sale.on_sale_starts_at,
        closes_at: sale.admission_ends_at(),
        seats_per_customer_max: sale.seats_per_customer_max,
        hold_ttl: Duration::from_secs(u64::from(sale.hold_ttl_s)),
        performances: sale
            .performances
            .iter()
            .zip(plans)
            .map(|(performance, plan)| PerformanceInfo {
                id: performance.id.clone(),
                title: performance.title.clone(),
                venue: performance.venue.clone(),
                starts_at: performance.starts_at,
                doors_open_at: performance.doors_open_at(),
                time_zone: performance.time_zone.clone(),
                seat_count: plan.seat_count(),
                plan_hash: plan.hash().to_owned(),
                prices: performance.seating(sale).prices,
            })
            .collect(),
        demo_login,
        address_code: OnceLock::new(),
        tokens,
    }
}

fn edge_config(settings: &Settings) -> anyhow::Result<edge::Config> {
    let server = &settings.server;
    let trusted_proxies = server
        .trusted_proxies
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>();
    Ok(edge::Config {
        public_base: PublicBase::new(&server.public_base),
        trusted_proxies: trusted_proxies.map_err(|e: &str| anyhow::anyhow!("server.trusted_proxies: {e}"))?,
        body_bytes_max: server.body_bytes_max,
        body_timeout: Duration::from_millis(u64::from(server.body_timeout_ms)),
        request_timeout: Duration::from_millis(u64::from(server.request_timeout_ms)),
        shop_sign_in: shop_sign_in(settings),
        call_notices: settings.shop.events.call_notices,
    })
}

fn shop_sign_in(settings: &Settings) -> Option<edge::ShopSignIn> {
    let handoff = &settings.shop.handoff;
    if !settings.shop.oidc.issuer.is_empty() {
        return Some(edge::ShopSignIn::Provider);
    }
    (!handoff.sign_in_url.is_empty()).then(|| edge::ShopSignIn::Page {
        url: handoff.sign_in_url.clone(),
        origins: handoff.origins.clone(),
    })
}

/// What the sign-in page offers.
fn sign_in_options(settings: &Settings) -> SignInOptions {
    let shop = &settings.shop;
    let link = |url: &str| (!url.is_empty()).then(|| url.to_owned());
    SignInOptions {
        shop_name: shop.name.clone(),
        takes_passwords: shop.password_sign_in,
        leads_to_shop: shop_sign_in(settings).is_some(),
        forgot_password_url: link(&shop.forgot_password_url),
        new_account_url: link(&shop.new_account_url),
    }
}
