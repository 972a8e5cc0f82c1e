//! Loading, overriding and showing configurations.

mod checks;
mod events;
mod nodes;
mod shop;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::*;
use crate::{
    kernel::{Currency, Money},
    shop::HandoffKeys,
};

/// A configuration file for one test.
struct File {
    path: PathBuf,
    /// Deletes the file when dropped.
    _dir: tempfile::TempDir,
}

impl File {
    fn of(test: &str, text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!("{test}.toml"));
        fs::write(&path, text).unwrap();
        Self { path, _dir: dir }
    }
}

fn env(variables: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    variables
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect::<Vec<_>>()
        .into_iter()
}

fn refusal(test: &str, text: &str, variables: &[(&str, &str)]) -> Vec<Problem> {
    let file = File::of(test, text);
    load(Some(&file.path), env(variables))
        .expect_err("it is refused")
        .problems
}

/// The reference with its example sale switched on.
fn example() -> String {
    REFERENCE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect()
}

#[test]
fn the_defaults_are_valid_and_have_no_sales() {
    let settings = load(None, env(&[])).unwrap();
    assert!(settings.sales.is_empty());
    assert_eq!(settings.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.checkout().payment_timeout.as_secs(), 120);
    assert!(settings.shop().handoff.is_none());
    assert!(settings.keys.master.is_empty());
}

#[test]
fn variables_override_the_file_and_the_file_the_defaults() {
    let file = File::of(
        "order",
        "[server]\nshutdown_timeout_s = 7\nidle_timeout_s = 8\n[log]\nformat = \"json\"\n",
    );
    let variables = [
        ("STAGEDOOR__SERVER__IDLE_TIMEOUT_S", "9"),
        ("STAGEDOOR__LOG__LEVEL", "info,stagedoor=debug"),
        ("STAGEDOOR__SERVER__TRUSTED_PROXIES", r#"["10.0.0.0/8", "::1"]"#),
        ("STAGEDOOR__KEYS__MASTER", "12345678901234567890123456789012"),
        ("STAGEDOOR_ELSEWHERE", "not ours"),
    ];
    let settings = load(Some(&file.path), env(&variables)).unwrap();
    assert_eq!(
        (
            settings.server.shutdown_timeout_s,
            settings.server.idle_timeout_s,
            settings.server.body_timeout_ms
        ),
        (7, 9, 10_000)
    );
    assert_eq!(
        (settings.log.level.as_str(), settings.log.format),
        ("info,stagedoor=debug", LogFormat::Json)
    );
    assert_eq!(settings.server.trusted_proxies, ["10.0.0.0/8", "::1"]);
    assert_eq!(
        settings.keys.master.expose(),
        "12345678901234567890123456789012",
        "digits can be a password"
    );
}

#[test]
fn an_unknown_key_is_refused_with_its_source() {
    let problems = refusal("unknown", "[server]\nshutdown_timeout_s = 7\n  drain = 8\n", &[]);
    assert_eq!(problems[0].key, "server.drain");
    assert!(
        problems[0].source.ends_with("unknown.toml:3:3"),
        "{}",
        problems[0].source
    );
    assert!(
        problems[0].message.contains("shutdown_timeout_s"),
        "it lists the known keys: {}",
        problems[0].message
    );

    let old = "[limits]\njoins_per_address_per_minute = 7\n";
    let message = refusal("old", old, &[])[0].message.clone();
    assert!(
        message.contains("did you mean `joins_per_ip_per_minute`?"),
        "{message}"
    );

    let problems = refusal("unknown-env", "", &[("STAGEDOOR__SERVER__DRAIN", "8")]);
    assert_eq!(
        (problems[0].key.as_str(), problems[0].source.as_str()),
        ("server.drain", "STAGEDOOR__SERVER__DRAIN")
    );
    let problems = refusal(
        "unknown-section",
        "",
        &[("STAGEDOOR__SERVICE__SHUTDOWN_TIMEOUT_S", "8")],
    );
    assert_eq!(
        (problems[0].key.as_str(), problems[0].source.as_str()),
        ("service", "STAGEDOOR__SERVICE__SHUTDOWN_TIMEOUT_S")
    );
    for (variable, value) in [
        ("STAGEDOOR__SERVER__", "1"),
        ("STAGEDOOR__", "1"),
        ("STAGEDOOR__SERVER__SHUTDOWN_TIMEOUT_S__X", "1"),
        ("STAGEDOOR__SALES__0__ID", "x"),
    ] {
        let problems = refusal("misshapen", "", &[(variable, value)]);
        assert_eq!(problems[0].key, variable);
    }
}

#[test]
fn wrong_types_and_unreadable_files_name_their_source() {
    let problems = refusal("type", "[server]\nshutdown_timeout_s = \"soon\"\n", &[]);
    assert_eq!(problems[0].key, "server.shutdown_timeout_s");
    assert!(problems[0].source.ends_with(":2:1"), "{}", problems[0].source);
    let problems = refusal("syntax", "[server]\nshutdown_timeout_s = = 7\n", &[]);
    assert!(problems[0].source.ends_with(":2:22"), "{}", problems[0].source);
    let missing = load(Some(Path::new("/nowhere/stagewaiting_room.toml")), env(&[])).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("/nowhere/stagewaiting_room.toml: cannot be read"),
        "{missing}"
    );
    let problems = refusal(
        "time",
        &example().replace("\"2027-03-02T11:00:00Z\"", "2027-03-02T11:00:00"),
        &[],
    );
    assert_eq!(
        problems[0].key, "sales[0].on_sale_starts_at",
        "a time needs an offset"
    );
}

#[test]
fn all_problems_are_reported_at_once() {
    let variables = [
        ("STAGEDOOR__SALES__0__ACTIVE_VISITS_MAX", "0"),
        ("STAGEDOOR__SALES__0__PERFORMANCES__0__PRICES", "{}"),
    ];
    let problems = refusal(
        "at-once",
        &example().replace(
            "admission_rate_per_minute = 1200",
            "admission_rate_per_minute = 0",
        ),
        &variables,
    );
    let found: Vec<_> = problems
        .iter()
        .map(|p| (p.key.as_str(), p.source.starts_with("STAGEDOOR__")))
        .collect();
    assert_eq!(
        found,
        [
            ("sales[0].admission_rate_per_minute", false),
            ("sales[0].active_visits_max", true),
            ("sales[0].performances[0].prices", true)
        ],
        "each with its source"
    );
}

#[test]
fn a_variable_sets_a_price_whatever_the_zones_case() {
    let price = "STAGEDOOR__SALES__0__PERFORMANCES__0__PRICES__VIP";
    let file = File::of("price", &example());
    let settings = load(Some(&file.path), env(&[(price, "7")])).unwrap();
    let prices = &settings.sales[0].performances[0].prices;
    assert_eq!((prices["VIP"], prices.len()), (7, 4));
    let problems = refusal("price-wrong", &example(), &[(price, "-7")]);
    assert_eq!(
        (problems[0].key.as_str(), problems[0].source.as_str()),
        ("sales[0].performances[0].prices.VIP", price)
    );
}

#[test]
fn both_listeners_may_use_port_zero() {
    let both = [
        ("STAGEDOOR__SERVER__LISTEN", "127.0.0.1:0"),
        ("STAGEDOOR__SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
    ];
    assert!(load(None, env(&both)).is_ok(), "the system chooses two ports");
}

#[test]
fn settings_changed_in_code_are_checked() {
    let mut settings = load(None, env(&[])).unwrap();
    assert_eq!(settings.check(), Ok(()));
    settings.server.request_timeout_ms = 0;
    assert_eq!(
        settings.check().unwrap_err().problems[0].key,
        "server.request_timeout_ms"
    );
}

#[test]
fn secrets_are_never_shown() {
    let variables = [
        ("STAGEDOOR__KEYS__MASTER", "hush-master-of-thirty-two-bytes-x"),
        ("STAGEDOOR__GATEWAY__WEBHOOK_SECRET", "hush-webhook"),
        (
            "STAGEDOOR__SHOP__HANDOFF__SECRET",
            "hush-hush-hush-hush-hush-hush-hush",
        ),
        ("STAGEDOOR__SHOP__EVENTS__URL", "https://shop.example/events"),
        (
            "STAGEDOOR__SHOP__EVENTS__SECRET",
            "whsec_hushhushhushhushhushhushhushhush",
        ),
        ("STAGEDOOR__SHOP__HANDOFF__ISSUER", "shop"),
        ("STAGEDOOR__SHOP__HANDOFF__AUDIENCE", "stagedoor"),
    ];
    let mut settings = load(None, env(&variables)).unwrap();
    assert!(
        settings
            .shop()
            .handoff
            .is_some_and(|h| matches!(h.keys, HandoffKeys::Secret(secret) if secret.starts_with("hush"))),
        "the shop integration gets the secret"
    );
    settings.shop.database_url = DatabaseUrl::new("postgres://reader:hush@db/shop");
    let shown = show(&settings);
    assert!(
        shown.contains("master = \"[secret]\"") && shown.contains("postgres://[secret]@db/shop"),
        "{shown}"
    );
    for text in [shown, format!("{settings:?}"), format!("{:?}", settings.shop())] {
        let text = text.replace("postgres://reader:hush@db/shop", "");
        assert!(!text.contains("hush"), "{text}");
    }
    for (case, text) in [
        ("[keys]\nmaster = 778899\n", "a number"),
        ("[keys]\nmaster = \"778899\n", "an open quote"),
    ] {
        assert!(
            !ConfigError {
                problems: refusal("leak", case, &[])
            }
            .to_string()
            .contains("778899"),
            "{text}"
        );
    }
}

#[test]
fn the_shown_configuration_can_be_loaded() {
    let file = File::of("shown", &example());
    let settings = load(Some(&file.path), env(&[])).unwrap();
    let again = File::of("shown-again", &show(&settings));
    assert_eq!(show(&load(Some(&again.path), env(&[])).unwrap()), show(&settings));
}

#[test]
fn every_key_of_the_reference_has_a_sentence() {
    let mut previous = "";
    let mut keys = BTreeSet::new();
    for line in REFERENCE.lines() {
        let bare = line
            .strip_prefix('#')
            .filter(|rest| !rest.starts_with(' '))
            .unwrap_or(line);
        let name = bare.split(" = ").next().unwrap_or("");
        let is_key = !name.is_empty() && !bare.starts_with('#') && bare.contains(" = ");
        if is_key || (bare.starts_with('[') && !bare.contains(" = ")) {
            assert!(
                previous.starts_with("# ") && previous.ends_with('.') && previous.len() > 10,
                "{line} has no sentence before it"
            );
        }
        if is_key {
            keys.insert(name.to_owned());
        }
        previous = line;
    }
    let file = File::of("reference", &example());
    let settings = load(Some(&file.path), env(&[])).unwrap();
    let mut known = BTreeSet::new();
    collect_keys(&toml::from_str(&show(&settings)).unwrap(), &mut known);
    assert_eq!(
        known.difference(&keys).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "keys that the reference does not explain"
    );
}

fn collect_keys(table: &Table, keys: &mut BTreeSet<String>) {
    for (key, value) in table {
        match value {
            Value::Table(_) if matches!(key.as_str(), "title" | "prices") => {
                keys.insert(key.clone());
            }
            Value::Table(inner) => collect_keys(inner, keys),
            Value::Array(list) if list.iter().any(Value::is_table) => {
                list.iter()
                    .filter_map(Value::as_table)
                    .for_each(|inner| collect_keys(inner, keys));
            }
            _ => {
                keys.insert(key.clone());
            }
        }
    }
}

#[test]
fn the_contexts_get_their_settings() {
    let file = File::of("parts", &example());
    let settings = load(Some(&file.path), env(&[])).unwrap();
    let sale = &settings.sales[0];
    let waiting_room = sale.waiting_room(&settings.server.public_base);
    assert_eq!(
        (
            waiting_room.admission_rate_per_minute,
            waiting_room.active_visits_max,
            waiting_room.admission_burst,
            waiting_room.call_window.as_secs()
        ),
        (1_200, 2_000, Some(20), 180)
    );
    assert_eq!(waiting_room.issuer, "http://127.0.0.1:8080");
    let seats = sale.performances[0].seating(sale);
    assert_eq!(seats.prices["VIP"], Money::new(198_000, Currency::KRW));
    assert_eq!(
        (
            seats.hold_ttl.as_secs(),
            seats.extensions_max,
            seats.seats_per_customer_max
        ),
        (420, 2, 4)
    );
    assert_eq!(sale.performances[0].zones_without_price(["VIP", "B"]), ["B"]);
    let priced: Vec<&str> = sale.performances[0].prices.keys().map(String::as_str).collect();
    let of_a_file = PerformanceSettings {
        plan: "hall.json".to_owned(),
        ..sale.performances[0].clone()
    };
    assert_eq!(of_a_file.prices_without_zone(priced.clone()), [""; 0]);
    assert_eq!(of_a_file.prices_without_zone(["B"]), priced);
    assert_eq!(settings.checkout().sales[0].title, "Hero-Lim in Seoul 2027");
    assert_eq!(sale.title.in_language("ja"), "イム・ヒーロー ソウル公演2027");
    assert_eq!(sale.title.in_language("fr"), "Hero-Lim in Seoul 2027");
}
