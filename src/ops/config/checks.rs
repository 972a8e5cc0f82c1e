//! Combinations that cannot work, refused at start with the key and what would be right.

use std::{collections::HashSet, hash::Hash, net::IpAddr, path::Path};

use crate::ops::{
    admin::operators::is_token_hash,
    config::{
        sales::{PerformanceSettings, QueueOrder, SaleSettings},
        sections::{DatabaseUrl, Settings},
        storage::{DatabaseLocation, StoreKind},
    },
};
use crate::{
    edge::overload::proof_of_work::BITS_MAX,
    kernel::LocalText,
    platform::drand::{QUICKNET, QUICKNET_KEY},
    waiting_room::{Durability, draw::Digest},
};

/// Finds out what cannot work; each finding is a key's full path and a sentence.
pub(super) fn find_problems(settings: &Settings) -> Vec<(String, String)> {
    let mut found = Findings::default();
    server(settings, &mut found);
    stores(settings, &mut found);
    databases(settings, &mut found);
    keys_and_log(settings, &mut found);
    proof_of_work(settings, &mut found);
    shop(settings, &mut found);
    checkout(settings, &mut found);
    operators(settings, &mut found);
    sales(settings, &mut found);
    found.0
}

#[derive(Default)]
struct Findings(Vec<(String, String)>);

impl Findings {
    fn when(&mut self, wrong: bool, key: impl Into<String>, sentence: impl Into<String>) {
        if wrong {
            self.0.push((key.into(), sentence.into()));
        }
    }

    fn positive(&mut self, numbers: &[(&str, u64)], section: &str) {
        for (key, number) in numbers {
            self.when(*number == 0, format!("{section}.{key}"), "must be at least 1");
        }
    }
}

fn server(settings: &Settings, found: &mut Findings) {
    let it = &settings.server;
    found.when(
        it.listen == it.admin_listen && it.listen.port() != 0,
        "server.admin_listen",
        "must be another address than server.listen: operations are never served to the public",
    );
    found.when(
        !is_base_url(&it.public_base),
        "server.public_base",
        "must be http://HOST or https://HOST without a slash at the end",
    );
    for (ix, proxy) in it.trusted_proxies.iter().enumerate() {
        found.when(
            !is_network(proxy),
            format!("server.trusted_proxies[{ix}]"),
            "must be an address or a network, such as 10.0.0.1 or 10.0.0.0/8",
        );
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
    found.when(
        it.node_name.len() > 64 || !it.node_name.chars().all(is_name),
        "server.node_name",
        "must be at most 64 letters, digits and . _ : - (empty: the machine's name and the public port)",
    );
    found.when(
        it.shutdown_notice_ms > 60_000,
        "server.shutdown_notice_ms",
        "must be at most 60000: whoever stops a process does not wait longer",
    );
    found.when(
        it.header_bytes_max < 8_192,
        "server.header_bytes_max",
        "must be at least 8192",
    );
    found.positive(
        &[
            ("connections_max", it.connections_max as u64),
            ("body_bytes_max", it.body_bytes_max as u64),
            ("header_timeout_ms", it.header_timeout_ms.into()),
            ("body_timeout_ms", it.body_timeout_ms.into()),
            ("idle_timeout_s", it.idle_timeout_s.into()),
            ("request_timeout_ms", it.request_timeout_ms.into()),
            ("requests_in_flight_max", it.requests_in_flight_max as u64),
        ],
        "server",
    );
}

fn stores(settings: &Settings, found: &mut Findings) {
    let shared = &settings.store.redis;
    let own = [
        ("waiting_room.redis.url", &settings.waiting_room.redis.url),
        ("box_office.redis.url", &settings.box_office.redis.url),
    ];
    for (key, url) in [("store.redis.url", &shared.url)].into_iter().chain(own) {
        let plain = url
            .scheme()
            .strip_suffix("+sentinel")
            .or_else(|| url.scheme().strip_suffix("+cluster"))
            .unwrap_or(url.scheme());
        found.when(
            !url.is_empty() && (!matches!(plain, "redis" | "rediss") || !url.expose().contains("://")),
            key,
            "must be redis://HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/MASTER or redis+cluster://HOST:PORT,HOST:PORT (rediss for TLS)",
        );
        found.when(
            !url.is_empty() && settings.store.kind == StoreKind::Memory,
            key,
            "must be empty while store.kind is \"memory\"; to use this Redis set store.kind to \"redis\"",
        );
    }
    let lacks_one = shared.url.is_empty() && own.iter().any(|(_, url)| url.is_empty());
    found.when(
        settings.store.kind == StoreKind::Redis && lacks_one,
        "store.redis.url",
        "must be given when store.kind is \"redis\", best as STAGEDOOR__STORE__REDIS__URL",
    );
    found.positive(
        &[
            ("command_timeout_ms", shared.command_timeout_ms.into()),
            ("connect_timeout_ms", shared.connect_timeout_ms.into()),
        ],
        "store.redis",
    );
    found.when(
        shared.command_timeout_ms >= settings.server.request_timeout_ms,
        "store.redis.command_timeout_ms",
        format!(
            "must be shorter than server.request_timeout_ms ({})",
            settings.server.request_timeout_ms
        ),
    );
    for (ix, door) in settings.box_office.waiting_room_urls.iter().enumerate() {
        found.when(
            !is_base_url(door) || !door.starts_with("http://"),
            format!("box_office.waiting_room_urls[{ix}]"),
            "must be a waiting room's private listener, http://HOST:PORT without a slash at the end",
        );
    }
}

/// Which books go with which engine: several nodes must read the same ones.
fn databases(settings: &Settings, found: &mut Findings) {
    let mut good = true;
    for (key, url) in [
        ("ledger.url", &settings.ledger.url),
        ("journal.url", &settings.journal.url),
    ] {
        let wrong = !is_database_url(url);
        good &= !wrong;
        found.when(
            wrong,
            key,
            "must be sqlite:FILE or postgres://USER:PASSWORD@HOST/DATABASE",
        );
    }
    if !good {
        return;
    }
    let (ledger, journal) = (settings.ledger_database(), settings.journal_database());
    let is_file = |database: &DatabaseLocation| matches!(database, DatabaseLocation::Sqlite(_));
    if settings.store.kind == StoreKind::Redis {
        let wrong = "must be postgres://... with the redis engine: its nodes share their books, and an SQLite file is one node's own";
        found.when(is_file(&ledger), "ledger.url", wrong);
        found.when(
            is_file(&journal) && !settings.journal.url.is_empty(),
            "journal.url",
            wrong,
        );
    }
    found.when(
        settings.waiting_room.durability == Durability::Acknowledged && settings.store.kind == StoreKind::Memory && !is_file(&journal),
        "waiting_room.durability",
        "must be \"committed\" with the memory engine and a journal on PostgreSQL: it answers earlier only beside a file of its own",
    );
    found.when(
        is_file(&ledger) && ledger == journal,
        "journal.url",
        "must be another file than the ledger's",
    );
}

fn is_database_url(url: &DatabaseUrl) -> bool {
    match url.scheme() {
        "" => url.is_empty(),
        "sqlite" => url.expose().len() > "sqlite:".len() && !url.expose().contains('?'),
        "postgres" | "postgresql" => url.expose().contains("://"),
        _ => false,
    }
}

fn keys_and_log(settings: &Settings, found: &mut Findings) {
    let keys = &settings.keys;
    found.when(
        !keys.master.is_empty() && keys.master_file != Path::new(""),
        "keys.master_file",
        "must be empty when keys.master is given",
    );
    found.when(
        settings.data.dir == Path::new(""),
        "data.dir",
        "must name a directory",
    );
    let level = settings.log.level.parse::<tracing_subscriber::EnvFilter>();
    found.when(
        settings.log.level.is_empty() || level.is_err(),
        "log.level",
        "must be error, warn, info, debug or trace, or a list such as info,stagedoor=debug",
    );
}

fn operators(settings: &Settings, found: &mut Findings) {
    for (name, hash) in &settings.operators {
        found.when(
            !is_token_hash(hash),
            format!("operators.{name}"),
            "must be the SHA-256 of her token, 64 hexadecimal digits; `stagedoor operator-token` makes both",
        );
    }
}

fn proof_of_work(settings: &Settings, found: &mut Findings) {
    let it = &settings.limits.proof_of_work;
    let at = "limits.proof_of_work";
    found.when(
        it.difficulty_bits_max > BITS_MAX,
        format!("{at}.difficulty_bits_max"),
        format!("must be at most {BITS_MAX}: more keeps a phone busy for minutes"),
    );
    found.when(
        it.difficulty_bits_min > it.difficulty_bits_max,
        format!("{at}.difficulty_bits_min"),
        format!("must not be above difficulty_bits_max ({})", it.difficulty_bits_max),
    );
    found.when(
        it.allow_over_join_limit && it.difficulty_bits_max == 0,
        format!("{at}.allow_over_join_limit"),
        "must be false while difficulty_bits_max is 0: nothing would be asked instead of the limit",
    );
    found.when(
        it.challenge_ttl_s > 3_600,
        format!("{at}.challenge_ttl_s"),
        "must be at most 3600: what was answered is remembered for so long",
    );
    found.positive(
        &[
            ("joins_per_second_normal", it.joins_per_second_normal.into()),
            (
                "joins_per_ip_per_minute_normal",
                it.joins_per_ip_per_minute_normal.into(),
            ),
            ("challenge_ttl_s", it.challenge_ttl_s.into()),
            ("used_challenges_max", it.used_challenges_max as u64),
        ],
        at,
    );
}

fn shop(settings: &Settings, found: &mut Findings) {
    let it = &settings.shop;
    found.positive(
        &[
            ("connections_max", it.connections_max.into()),
            ("queries_per_second_max", it.queries_per_second_max.into()),
            ("query_timeout_ms", it.query_timeout_ms.into()),
            ("password_threads", it.password_threads as u64),
            ("password_queue_max", it.password_queue_max as u64),
            ("session_hours", it.session_hours.into()),
        ],
        "shop",
    );
    found.when(
        !it.database_url.expose().starts_with("sqlite:"),
        "shop.database_url",
        "must be sqlite:FILE",
    );
    found.when(
        it.customer_query.matches('?').count() != 1,
        "shop.customer_query",
        "must have exactly one ?, which stands for the login in lower case",
    );
    let handoff = &it.handoff;
    if handoff.secret.is_empty() {
        found.when(
            !handoff.issuer.is_empty(),
            "shop.handoff.secret",
            "must be given when shop.handoff.issuer is",
        );
    } else {
        found.when(
            handoff.secret.expose().len() < 32,
            "shop.handoff.secret",
            "must be at least 32 bytes long",
        );
        found.when(
            handoff.issuer.is_empty(),
            "shop.handoff.issuer",
            "must be given when there is a secret",
        );
        found.when(
            handoff.audience.is_empty(),
            "shop.handoff.audience",
            "must be given when there is a secret",
        );
    }
}

fn checkout(settings: &Settings, found: &mut Findings) {
    let it = &settings.checkout;
    found.positive(
        &[
            ("order_response_wait_ms", it.order_response_wait_ms.into()),
            ("gateway_timeout_ms", it.gateway_timeout_ms.into()),
            ("payment_timeout_s", it.payment_timeout_s.into()),
        ],
        "checkout",
    );
    found.when(
        it.order_response_wait_ms >= settings.server.request_timeout_ms,
        "checkout.order_response_wait_ms",
        format!(
            "must be shorter than server.request_timeout_ms ({})",
            settings.server.request_timeout_ms
        ),
    );
    found.when(
        u64::from(it.payment_timeout_s) * 1_000 < u64::from(it.gateway_timeout_ms),
        "checkout.payment_timeout_s",
        format!(
            "must not be shorter than one gateway call, checkout.gateway_timeout_ms ({})",
            it.gateway_timeout_ms
        ),
    );
    let url = &settings.gateway.url;
    found.when(
        !url.is_empty() && !is_base_url(url),
        "gateway.url",
        "must be empty, or http://HOST or https://HOST without a slash at the end",
    );
}

fn sales(settings: &Settings, found: &mut Findings) {
    let mut sales = HashSet::new();
    for (ix, sale) in settings.sales.iter().enumerate() {
        let at = format!("sales[{ix}]");
        once(&mut sales, &sale.id, &at, found);
        one_sale(sale, &at, found);
        found.when(
            sale.queue_order == QueueOrder::FairDraw && settings.waiting_room.durability == Durability::Acknowledged,
            "waiting_room.durability",
            "must be \"committed\" for a sale with a fair draw: nobody may be told that she is in a list that does not hold her",
        );
        found.when(
            sale.hold_ttl_s < settings.checkout.payment_timeout_s,
            format!("{at}.hold_ttl_s"),
            format!(
                "must not be shorter than a payment may take, checkout.payment_timeout_s ({})",
                settings.checkout.payment_timeout_s
            ),
        );
        let mut performances = HashSet::new();
        for (ix, performance) in sale.performances.iter().enumerate() {
            let at = format!("{at}.performances[{ix}]");
            once(&mut performances, &performance.id, &at, found);
            one_performance(performance, &at, found);
        }
    }
}

fn one_sale(sale: &SaleSettings, at: &str, found: &mut Findings) {
    let key = |name: &str| format!("{at}.{name}");
    local_text(&sale.title, &key("title"), found);
    draw(sale, at, found);
    found.when(
        sale.prequeue_starts_at > sale.on_sale_starts_at,
        key("prequeue_starts_at"),
        format!("must not be after on_sale_starts_at ({})", sale.on_sale_starts_at),
    );
    found.when(
        sale.closes_at <= sale.on_sale_starts_at,
        key("closes_at"),
        format!("must be after on_sale_starts_at ({})", sale.on_sale_starts_at),
    );
    found.positive(
        &[
            ("admission_rate_per_minute", sale.admission_rate_per_minute.into()),
            ("active_visits_max", sale.active_visits_max.into()),
            ("admission_burst", sale.admission_burst.unwrap_or(1).into()),
            ("call_window_s", sale.call_window_s.into()),
            ("pass_ttl_s", sale.pass_ttl_s.into()),
            ("visit_max_s", sale.visit_max_s.into()),
            ("queue_entries_max", sale.queue_entries_max.into()),
            ("seats_per_customer_max", sale.seats_per_customer_max.into()),
            ("hold_ttl_s", sale.hold_ttl_s.into()),
        ],
        at,
    );
    found.when(
        !(0.0..=1.0).contains(&sale.late_arrival_share),
        key("late_arrival_share"),
        "must be between 0.0 and 1.0",
    );
    found.when(
        sale.pass_ttl_s > sale.visit_max_s,
        key("pass_ttl_s"),
        format!("must not be longer than visit_max_s ({})", sale.visit_max_s),
    );
    found.when(
        sale.hold_ttl_s > sale.visit_max_s,
        key("hold_ttl_s"),
        format!("must not be longer than visit_max_s ({})", sale.visit_max_s),
    );
    found.when(
        sale.performances.is_empty(),
        key("performances"),
        "there must be at least one [[sales.performances]]",
    );
}

/// A draw needs a beacon that nobody in the house decides.
fn draw(sale: &SaleSettings, at: &str, found: &mut Findings) {
    let key = |name: &str| format!("{at}.draw.{name}");
    let Some(draw) = &sale.draw else {
        let wrong = sale.queue_order == QueueOrder::FairDraw;
        found.when(
            wrong,
            format!("{at}.queue_order"),
            "fair_draw needs [sales.draw], which names the beacon; else it must be fifo",
        );
        return;
    };
    found.when(
        sale.queue_order == QueueOrder::Fifo,
        format!("{at}.draw"),
        "must not be given when queue_order is \"fifo\"",
    );
    found.when(
        !is_base_url(&draw.beacon_url),
        key("beacon_url"),
        "must be https://HOST or http://HOST without a slash at the end",
    );
    found.when(
        draw.chain.parse::<Digest>().is_err(),
        key("chain"),
        "must be the chain's hash, 64 hexadecimal digits",
    );
    found.when(
        draw.period_s == 0 || draw.period_s > 600,
        key("period_s"),
        "must be between 1 and 600",
    );
    found.when(
        draw.chain.eq_ignore_ascii_case(QUICKNET) && draw.public_key.to_string() != QUICKNET_KEY,
        key("public_key"),
        "is not the public key of this chain, which is quicknet",
    );
    found.when(
        draw.genesis_at > sale.on_sale_starts_at,
        key("genesis_at"),
        format!("must not be after on_sale_starts_at ({})", sale.on_sale_starts_at),
    );
}

fn one_performance(performance: &PerformanceSettings, at: &str, found: &mut Findings) {
    let key = |name: &str| format!("{at}.{name}");
    local_text(&performance.title, &key("title"), found);
    found.when(
        performance.plan.is_empty(),
        key("plan"),
        "must be a plan's file, or generate:KIND:SEATS",
    );
    found.when(
        performance.prices.is_empty(),
        key("prices"),
        "must give the price of each price zone of the plan, such as { VIP = 198000, R = 165000 }",
    );
    for (zone, amount) in &performance.prices {
        found.when(
            *amount < 0,
            key(&format!("prices.{zone}")),
            "must not be negative",
        );
    }
}

fn local_text(text: &LocalText, key: &str, found: &mut Findings) {
    found.when(
        text.0.is_empty(),
        key,
        "must be given in at least one language, such as { en = \"...\" }",
    );
    for (language, words) in &text.0 {
        found.when(
            !matches!(language.as_str(), "ko" | "en" | "ja"),
            format!("{key}.{language}"),
            "is not a language of the pages: ko, en, ja",
        );
        found.when(
            words.trim().is_empty(),
            format!("{key}.{language}"),
            "must not be empty",
        );
    }
}

fn once<'s, I: Eq + Hash + std::fmt::Display>(
    seen: &mut HashSet<&'s I>,
    id: &'s I,
    at: &str,
    found: &mut Findings,
) {
    found.when(
        !seen.insert(id),
        format!("{at}.id"),
        format!("{id} is there twice; each id must be given once"),
    );
}

fn is_base_url(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|h| !h.is_empty())
            && uri.query().is_none()
    }) && !text.ends_with('/')
}

fn is_network(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    prefix.is_none_or(|p| p.parse::<u8>().is_ok_and(|p| p <= bits))
}
