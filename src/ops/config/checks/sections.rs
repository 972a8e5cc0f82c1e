//! Checks of the sections other than stores, databases and sales.

use std::path::Path;

use crate::{
    checkout::{receiver_url, webhook_secret},
    edge::overload::proof_of_work::BITS_MAX,
    ops::{
        admin::operators::is_token_hash,
        config::{
            checks::{
                problems::{
                    Problems, is_base_url, is_network, is_origin, is_page_url, is_public_base, is_trusted_url,
                },
                sales::local_text,
            },
            sales::SignIn,
            sections::{HandoffSettings, OidcSettings, Settings, ShopSettings},
        },
    },
    platform::keys::MASTER_KEY_BYTES_MIN,
    shop::{DatabaseKind, QueryKind, check_customer_query, unsafe_password_formats},
};

pub(super) fn server(settings: &Settings, problems: &mut Problems) {
    let section = &settings.server;
    problems.add_if(
        section.listen == section.admin_listen && section.listen.port() != 0,
        "server.admin_listen",
        "must differ from server.listen: the admin API is never served to the public",
    );
    problems.add_if(
        !is_public_base(&section.public_base),
        "server.public_base",
        "must be http://HOST or https://HOST, with or without a path such as /tickets of letters, digits and \
        - . _ ~, and without a slash at the end",
    );
    for (ix, proxy) in section.trusted_proxies.iter().enumerate() {
        problems.add_if(
            !is_network(proxy),
            format!("server.trusted_proxies[{ix}]"),
            "must be an address or a network, such as 10.0.0.1 or 10.0.0.0/8",
        );
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
    problems.add_if(
        section.node_name.len() > 64 || !section.node_name.chars().all(is_name),
        "server.node_name",
        "must be at most 64 letters, digits and . _ : - (empty: the host name and the public port)",
    );
    problems.add_if(
        section.shutdown_notice_ms > 60_000,
        "server.shutdown_notice_ms",
        "must be at most 60000: process managers do not wait longer for a stop",
    );
    problems.add_if(
        section.header_bytes_max < 8_192,
        "server.header_bytes_max",
        "must be at least 8192",
    );
    problems.require_positive(
        &[
            ("connections_max", section.connections_max as u64),
            ("body_bytes_max", section.body_bytes_max as u64),
            ("header_timeout_ms", section.header_timeout_ms.into()),
            ("body_timeout_ms", section.body_timeout_ms.into()),
            ("idle_timeout_s", section.idle_timeout_s.into()),
            ("request_timeout_ms", section.request_timeout_ms.into()),
            ("requests_in_flight_max", section.requests_in_flight_max as u64),
        ],
        "server",
    );
}

pub(super) fn keys_and_log(settings: &Settings, problems: &mut Problems) {
    let keys = &settings.keys;
    problems.add_if(
        !keys.master.is_empty() && keys.master_file != Path::new(""),
        "keys.master_file",
        "must be empty when keys.master is given",
    );
    problems.add_if(
        settings.data.dir == Path::new(""),
        "data.dir",
        "must name a directory",
    );
    problems.add_if(
        !keys.master.is_empty() && keys.master.expose().trim().len() < MASTER_KEY_BYTES_MIN,
        "keys.master",
        format!(
            "must be at least {MASTER_KEY_BYTES_MIN} bytes long; `openssl rand -base64 32` makes a good one"
        ),
    );
    problems.add_if(
        !is_log_level(&settings.log.level),
        "log.level",
        "must be error, warn, info, debug or trace, or a list such as info,stagedoor=debug",
    );
}

/// Whether it is a level, or a list of one level and of levels for single modules. A word that is no level
/// would be taken for a module, and nothing else would be logged.
fn is_log_level(text: &str) -> bool {
    const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    let (levels, modules): (Vec<&str>, Vec<&str>) = text
        .split(',')
        .map(str::trim)
        .partition(|part| !part.contains('='));
    let is_module = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_:".contains(c))
    };
    levels.len() == 1
        && is_level(levels[0])
        && modules.iter().all(|part| {
            part.split_once('=')
                .is_some_and(|(name, level)| is_module(name) && (is_level(level) || level == "off"))
        })
        && text.parse::<tracing_subscriber::EnvFilter>().is_ok()
}

pub(super) fn operators(settings: &Settings, problems: &mut Problems) {
    for (name, hash) in &settings.operators {
        problems.add_if(
            !is_token_hash(hash),
            format!("operators.{name}"),
            "must be the SHA-256 of the operator's token, 64 hexadecimal digits; `stagedoor operator-token` \
            makes both",
        );
    }
}

pub(super) fn limits(settings: &Settings, problems: &mut Problems) {
    let seats_max = settings.limits.anonymous_seats_per_ip_max;
    let anonymous = settings.sales.iter().filter(|sale| sale.sign_in == SignIn::None);
    let seats_of_one = anonymous
        .map(|sale| sale.seats_per_customer_max)
        .max()
        .unwrap_or(0);
    problems.add_if(
        seats_max != 0 && seats_max < usize::from(seats_of_one),
        "limits.anonymous_seats_per_ip_max",
        format!(
            "must be 0, or at least the seats of one visitor, sales.seats_per_customer_max ({seats_of_one})"
        ),
    );
}

pub(super) fn proof_of_work(settings: &Settings, problems: &mut Problems) {
    let section = &settings.limits.proof_of_work;
    let path = "limits.proof_of_work";
    problems.add_if(
        section.difficulty_bits_max > BITS_MAX,
        format!("{path}.difficulty_bits_max"),
        format!("must be at most {BITS_MAX}: more keeps a phone busy for minutes"),
    );
    problems.add_if(
        section.difficulty_bits_min > section.difficulty_bits_max,
        format!("{path}.difficulty_bits_min"),
        format!(
            "must not be above difficulty_bits_max ({})",
            section.difficulty_bits_max
        ),
    );
    problems.add_if(
        section.allow_over_join_limit && section.difficulty_bits_max == 0,
        format!("{path}.allow_over_join_limit"),
        "must be false while difficulty_bits_max is 0: no work would replace the limit",
    );
    problems.add_if(
        section.challenge_ttl_s > 3_600,
        format!("{path}.challenge_ttl_s"),
        "must be at most 3600: used challenges are remembered for this time",
    );
    problems.require_positive(
        &[
            ("joins_per_second_normal", section.joins_per_second_normal.into()),
            (
                "joins_per_ip_per_minute_normal",
                section.joins_per_ip_per_minute_normal.into(),
            ),
            ("challenge_ttl_s", section.challenge_ttl_s.into()),
            ("used_challenges_max", section.used_challenges_max as u64),
        ],
        path,
    );
}

pub(super) fn shop(settings: &Settings, problems: &mut Problems) {
    let section = &settings.shop;
    problems.require_positive(
        &[
            ("connections_max", section.connections_max.into()),
            ("queries_per_second_max", section.queries_per_second_max.into()),
            ("query_timeout_ms", section.query_timeout_ms.into()),
            (
                "any_case_queries_per_minute_max",
                section.any_case_queries_per_minute_max.into(),
            ),
            ("password_queue_max", section.password_queue_max as u64),
            ("session_hours", section.session_hours.into()),
        ],
        "shop",
    );
    problems.require_at_most(
        &[
            ("connections_max", section.connections_max.into(), 1_000),
            (
                "queries_per_second_max",
                section.queries_per_second_max.into(),
                1_000_000,
            ),
            ("query_timeout_ms", section.query_timeout_ms.into(), 60_000),
            ("password_threads", section.password_threads as u64, 1_024),
            ("session_hours", section.session_hours.into(), 8_760),
        ],
        "shop",
    );
    shop_database(section, problems);
    let unsafe_formats = unsafe_password_formats();
    for (ix, name) in section.unsafe_password_formats.iter().enumerate() {
        problems.add_if(
            !unsafe_formats.contains(&name.as_str()),
            format!("shop.unsafe_password_formats[{ix}]"),
            format!("must be one of {}", unsafe_formats.join(", ")),
        );
    }
    for (key, url) in [
        ("sign_in_url", &section.sign_in_url),
        ("forgot_password_url", &section.forgot_password_url),
        ("new_account_url", &section.new_account_url),
        ("handoff.sign_in_url", &section.handoff.sign_in_url),
    ] {
        problems.add_if(
            !url.is_empty() && !is_page_url(url),
            format!("shop.{key}"),
            "must begin with https:// or http://, and have no #",
        );
    }
    if !section.name.0.is_empty() {
        local_text(&section.name, "shop.name", problems);
    }
    problems.add_if(
        !section.password_sign_in && section.handoff.sign_in_url.is_empty() && section.oidc.issuer.is_empty(),
        "shop.password_sign_in",
        "must be true unless shop.handoff.sign_in_url or shop.oidc.issuer is given: else nothing is left",
    );
    handoff(&section.handoff, problems);
    oidc(section, problems);
}

fn handoff(section: &HandoffSettings, problems: &mut Problems) {
    let (has_secret, has_key_set) = (!section.secret.is_empty(), !section.jwks_url.is_empty());
    let others = [&section.issuer, &section.audience, &section.sign_in_url];
    let is_wanted = others.iter().any(|value| !value.is_empty());
    problems.add_if(
        is_wanted && !has_secret && !has_key_set,
        "shop.handoff.secret",
        "must be given when another key of shop.handoff is, or else shop.handoff.jwks_url",
    );
    problems.add_if(
        has_secret && has_key_set,
        "shop.handoff.jwks_url",
        "must be empty when shop.handoff.secret is given: only one of them verifies hand-offs",
    );
    problems.add_if(
        has_secret && section.secret.expose().len() < 32,
        "shop.handoff.secret",
        "must be at least 32 bytes long",
    );
    problems.add_if(
        has_key_set && !is_trusted_url(&section.jwks_url),
        "shop.handoff.jwks_url",
        "must be https://HOST/PATH, or http:// on the loopback: others on the network could change the keys",
    );
    for (ix, origin) in section.origins.iter().enumerate() {
        problems.add_if(
            !is_origin(origin),
            format!("shop.handoff.origins[{ix}]"),
            "must be https://HOST or http://HOST as browsers write it: in lower case, without a path",
        );
    }
    for (key, value) in [("issuer", &section.issuer), ("audience", &section.audience)] {
        problems.add_if(
            value.is_empty() && (has_secret || has_key_set),
            format!("shop.handoff.{key}"),
            "must be given when shop.handoff.secret or shop.handoff.jwks_url is",
        );
    }
}

fn oidc(section: &ShopSettings, problems: &mut Problems) {
    let OidcSettings {
        issuer,
        client_id,
        client_secret,
        client_authentication: _,
        customer_claim,
    } = &section.oidc;
    let is_wanted = !client_id.is_empty() || !client_secret.is_empty();
    problems.add_if(
        issuer.is_empty() && is_wanted,
        "shop.oidc.issuer",
        "must be given when another key of shop.oidc is",
    );
    if issuer.is_empty() {
        return;
    }
    problems.add_if(
        !is_trusted_url(issuer),
        "shop.oidc.issuer",
        "must be https://HOST, or http:// on the loopback: others on the network could change the keys",
    );
    problems.add_if(
        client_id.is_empty(),
        "shop.oidc.client_id",
        "must be given: the provider knows this service by it",
    );
    problems.add_if(
        customer_claim.is_empty(),
        "shop.oidc.customer_claim",
        "must be given, usually sub",
    );
    problems.add_if(
        !section.handoff.sign_in_url.is_empty(),
        "shop.handoff.sign_in_url",
        "must be empty when shop.oidc.issuer is given: the sign-in page leads to one of them",
    );
}

fn shop_database(section: &ShopSettings, problems: &mut Problems) {
    let kind = DatabaseKind::of(section.database_url.expose());
    problems.add_if(
        kind.is_none(),
        "shop.database_url",
        "must be sqlite:FILE, postgres://USER:PASSWORD@HOST/DATABASE or mysql://USER:PASSWORD@HOST/DATABASE",
    );
    problems.add_if(
        matches!(kind, Some(DatabaseKind::Postgres | DatabaseKind::MySql)) && section.tables.is_empty(),
        "shop.tables",
        "must name the tables that shop.customer_query reads, to try that nothing can be written",
    );
    let is_name = |name: &String| {
        let is_part = |c: char| c.is_alphanumeric() || "_.$`\"".contains(c);
        !name.is_empty() && name.chars().all(is_part)
    };
    if let Some(ix) = section.tables.iter().position(|table| !is_name(table)) {
        problems.add_if(true, format!("shop.tables[{ix}]"), "must be the name of a table");
    }
    let any_case = &section.customer_query_any_case;
    let queries = [
        (
            "shop.customer_query",
            &section.customer_query,
            QueryKind::ByLogin,
            false,
        ),
        ("shop.customer_query_any_case", any_case, QueryKind::ByLogin, true),
        (
            "shop.customer_by_id_query",
            &section.customer_by_id_query,
            QueryKind::ByKey,
            true,
        ),
        (
            "shop.customer_sample_query",
            &section.customer_sample_query,
            QueryKind::Sample,
            true,
        ),
    ];
    for (key, query, kind, may_be_absent) in queries {
        let is_absent = may_be_absent && query.is_empty();
        if let (false, Err(error)) = (is_absent, check_customer_query(query, kind)) {
            problems.add_if(true, key, error.to_string());
        }
    }
    problems.add_if(
        !any_case.is_empty() && section.connections_max == 1,
        "shop.connections_max",
        "must be at least 2 with shop.customer_query_any_case, which may keep one connection busy",
    );
}

pub(super) fn shop_events(settings: &Settings, problems: &mut Problems) {
    let section = &settings.shop.events;
    let limits = [
        ("timeout_ms", section.timeout_ms.into(), 30_000),
        ("requests_max", section.requests_max.into(), 64),
    ];
    problems.require_positive(&limits.map(|(key, number, _)| (key, number)), "shop.events");
    problems.require_at_most(&limits, "shop.events");
    problems.add_if(
        !section.feed_token.is_empty() && !is_token_hash(&section.feed_token),
        "shop.events.feed_token",
        "must be empty, or the SHA-256 of the token, 64 hexadecimal digits; `stagedoor operator-token` makes \
        both",
    );
    problems.add_if(
        section.call_notices && section.url.is_empty() && section.feed_token.is_empty(),
        "shop.events.call_notices",
        "needs shop.events.url or shop.events.feed_token: else the shop never learns whom to tell",
    );
    if section.url.is_empty() {
        problems.add_if(
            !section.secret.is_empty(),
            "shop.events.url",
            "must be given when there is a secret",
        );
        return;
    }
    if let Err(error) = receiver_url(&section.url) {
        problems.add_if(true, "shop.events.url", error.to_string());
    }
    if let Err(error) = webhook_secret(section.secret.expose()) {
        problems.add_if(true, "shop.events.secret", error.to_string());
    }
}

pub(super) fn checkout(settings: &Settings, problems: &mut Problems) {
    let section = &settings.checkout;
    problems.require_positive(
        &[
            ("order_response_wait_ms", section.order_response_wait_ms.into()),
            ("gateway_timeout_ms", section.gateway_timeout_ms.into()),
            ("payment_timeout_s", section.payment_timeout_s.into()),
            ("payment_page_timeout_s", section.payment_page_timeout_s.into()),
        ],
        "checkout",
    );
    problems.require_at_most(
        &[
            ("gateway_timeout_ms", section.gateway_timeout_ms.into(), 600_000),
            ("payment_timeout_s", section.payment_timeout_s.into(), 86_400),
            (
                "payment_page_timeout_s",
                section.payment_page_timeout_s.into(),
                86_400,
            ),
        ],
        "checkout",
    );
    problems.add_if(
        section.order_response_wait_ms >= settings.server.request_timeout_ms,
        "checkout.order_response_wait_ms",
        format!(
            "must be shorter than server.request_timeout_ms ({})",
            settings.server.request_timeout_ms
        ),
    );
    problems.add_if(
        u64::from(section.payment_timeout_s) * 1_000 < u64::from(section.gateway_timeout_ms),
        "checkout.payment_timeout_s",
        format!(
            "must not be shorter than one gateway call, checkout.gateway_timeout_ms ({})",
            section.gateway_timeout_ms
        ),
    );
    let url = &settings.gateway.url;
    problems.add_if(
        !url.is_empty() && !is_base_url(url),
        "gateway.url",
        "must be empty, or http://HOST or https://HOST without a slash at the end",
    );
}
