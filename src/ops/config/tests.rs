mod nodes;

use std::{collections::BTreeSet, path::PathBuf};

use super::*;
use crate::{
    kernel::{Currency, Money},
    platform::drand::QUICKNET_KEY,
    waiting_room::Durability,
};

/// A file of its own for each test.
struct File(PathBuf);

impl File {
    fn of(test: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stagedoor-config-{}-{test}.toml", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
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
    load(Some(&file.0), env(variables))
        .expect_err("it is refused")
        .problems
}

/// The hand-off's part of the reference.
const HANDOFF: &str = "issuer = \"\"\n# The claim \"aud\" of the shop's tokens.\naudience = \"\"\n\
    # The secret shared with the shop, at least 32 bytes; empty means no hand-off.\nsecret = \"\"";

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
fn the_defaults_stand_alone_and_sell_nothing() {
    let settings = load(None, env(&[])).unwrap();
    assert!(settings.sales.is_empty());
    assert_eq!(settings.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.checkout().payment_timeout.as_secs(), 120);
    assert!(settings.shop().handoff.is_none());
    assert!(settings.keys.master.is_empty());
}

#[test]
fn a_variable_overrides_the_file_and_the_file_the_defaults() {
    let file = File::of(
        "order",
        "[server]\ndrain_s = 7\nidle_timeout_s = 8\n[log]\nformat = \"json\"\n",
    );
    let variables = [
        ("STAGEDOOR__SERVER__IDLE_TIMEOUT_S", "9"),
        ("STAGEDOOR__LOG__LEVEL", "info,stagedoor=debug"),
        ("STAGEDOOR__SERVER__TRUSTED_PROXIES", r#"["10.0.0.0/8", "::1"]"#),
        ("STAGEDOOR__KEYS__MASTER", "12345"),
        ("STAGEDOOR_ELSEWHERE", "not ours"),
    ];
    let settings = load(Some(&file.0), env(&variables)).unwrap();
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
        "12345",
        "digits are a password too"
    );
}

#[test]
fn an_unknown_key_is_refused_with_its_name_and_place() {
    let problems = refusal("unknown", "[server]\ndrain_s = 7\n  drain = 8\n", &[]);
    assert_eq!(problems[0].key, "server.drain");
    assert!(
        problems[0].source.ends_with("unknown.toml:3:3"),
        "{}",
        problems[0].source
    );
    assert!(
        problems[0].message.contains("shutdown_timeout_s"),
        "it says what is right: {}",
        problems[0].message
    );

    let problems = refusal("unknown-env", "", &[("STAGEDOOR__SERVER__DRAIN", "8")]);
    assert_eq!(
        (problems[0].key.as_str(), problems[0].source.as_str()),
        ("server.drain", "STAGEDOOR__SERVER__DRAIN")
    );
    let problems = refusal("unknown-section", "", &[("STAGEDOOR__SERVICE__SHUTDOWN_TIMEOUT_S", "8")]);
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
fn wrong_types_and_unreadable_files_are_refused_with_their_place() {
    let problems = refusal("type", "[server]\ndrain_s = \"soon\"\n", &[]);
    assert_eq!(problems[0].key, "server.shutdown_timeout_s");
    assert!(problems[0].source.ends_with(":2:1"), "{}", problems[0].source);
    let problems = refusal("syntax", "[server]\ndrain_s = = 7\n", &[]);
    assert!(problems[0].source.ends_with(":2:11"), "{}", problems[0].source);
    let missing = load(Some(Path::new("/nowhere/stagedoor.toml")), env(&[])).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("/nowhere/stagedoor.toml: cannot be read"),
        "{missing}"
    );
    let problems = refusal(
        "time",
        &example().replace("\"2027-03-02T11:00:00Z\"", "2027-03-02T11:00:00"),
        &[],
    );
    assert_eq!(
        problems[0].key, "sales[0].on_sale_starts_at",
        "a time without its offset is no moment"
    );
}

#[test]
fn impossible_combinations_are_refused() {
    let another_key = crate::demo::sandbox_beacon::SandboxSigner::of("another chain")
        .public_key()
        .to_string();
    // (key, what stands in the example, what is put there instead)
    let cases: &[(&str, &str, &str)] = &[
        ("server.admin_listen", "127.0.0.1:9090", "127.0.0.1:8080"),
        (
            "server.public_base",
            "public_base = \"http://127.0.0.1:8080\"",
            "public_base = \"https://tickets.example/\"",
        ),
        (
            "server.public_base",
            "public_base = \"http://127.0.0.1:8080\"",
            "public_base = \"tickets.example\"",
        ),
        (
            "server.trusted_proxies[1]",
            "trusted_proxies = []",
            "trusted_proxies = [\"::1\", \"10.0.0.0/33\"]",
        ),
        (
            "server.header_bytes_max",
            "header_bytes_max = 16384",
            "header_bytes_max = 4096",
        ),
        (
            "server.connections_max",
            "connections_max = 20000",
            "connections_max = 0",
        ),
        (
            "server.body_timeout_ms",
            "body_timeout_ms = 10000",
            "body_timeout_ms = 0",
        ),
        ("server.node_name", "node_name = \"\"", "node_name = \"two words\""),
        (
            "server.shutdown_notice_ms",
            "shutdown_notice_ms = 3000",
            "shutdown_notice_ms = 60001",
        ),
        (
            "store.redis.command_timeout_ms",
            "command_timeout_ms = 500",
            "command_timeout_ms = 5000",
        ),
        (
            "store.redis.connect_timeout_ms",
            "connect_timeout_ms = 1000",
            "connect_timeout_ms = 0",
        ),
        (
            "waiting_room.durability",
            "durability = \"committed\"",
            "durability = \"async\"",
        ),
        (
            "box_office.waiting_room_urls[1]",
            "waiting_room_urls = []",
            "waiting_room_urls = [\"http://10.0.0.5:9090\", \"https://10.0.0.6:9090\"]",
        ),
        ("data.dir", "dir = \"data\"", "dir = \"\""),
        (
            "keys.master_file",
            "master = \"\"\n",
            "master = \"x\"\nmaster_file = \"y\"\n",
        ),
        ("limits.proof_of_work.difficulty_bits_max", "difficulty_bits_max = 0", "difficulty_bits_max = 25"),
        ("limits.proof_of_work.difficulty_bits_min", "difficulty_bits_min = 0", "difficulty_bits_min = 1"),
        (
            "limits.proof_of_work.allow_over_join_limit",
            "allow_over_join_limit = false",
            "allow_over_join_limit = true",
        ),
        ("limits.proof_of_work.challenge_ttl_s", "\nlife_s = 120", "\nlife_s = 3601"),
        (
            "limits.proof_of_work.used_challenges_max",
            "used_challenges_max = 1000000",
            "used_challenges_max = 0",
        ),
        ("log.level", "level = \"info\"", "level = \"info,,=\""),
        (
            "shop.connections_max",
            "connections_max = 2\n",
            "connections_max = 0\n",
        ),
        ("shop.database_url", "sqlite:data/shop.db", "mysql://shop"),
        ("shop.customer_query", "lower(email) = ?", "lower(email) = 'x'"),
        (
            "shop.handoff.secret",
            "issuer = \"\"\n# The claim \"aud\" of the shop's tokens.\naudience = \"\"",
            "issuer = \"shop\"\naudience = \"us\"",
        ),
        (
            "shop.handoff.audience",
            HANDOFF,
            "issuer = \"shop\"\naudience = \"\"\nsecret = \"0123456789abcdef0123456789abcdef\"",
        ),
        (
            "shop.handoff.issuer",
            HANDOFF,
            "issuer = \"\"\naudience = \"us\"\nsecret = \"0123456789abcdef0123456789abcdef\"",
        ),
        (
            "shop.handoff.secret",
            HANDOFF,
            "issuer = \"shop\"\naudience = \"us\"\nsecret = \"short\"",
        ),
        (
            "checkout.order_response_wait_ms",
            "order_response_wait_ms = 3000",
            "order_response_wait_ms = 5000",
        ),
        (
            "checkout.payment_timeout_s",
            "payment_timeout_s = 120",
            "payment_timeout_s = 9",
        ),
        ("gateway.url", "\nurl = \"\"", "\nurl = \"gateway\""),
        (
            "sales[0].title",
            "{ ko = \"임히어로 콘서트 2027 서울\", en = \"Hero-Lim in Seoul 2027\", ja = \"イム・ヒーロー ソウル公演2027\" }",
            "{}",
        ),
        (
            "sales[0].performances[0].title.fr",
            "en = \"Friday\"",
            "fr = \"vendredi\"",
        ),
        ("sales[0].draw", "\"fair_draw\"\n", "\"fifo\"\n"),
        (
            "sales[0].draw.beacon_url",
            "\"https://api.drand.sh\"\n",
            "\"drand\"\n",
        ),
        ("sales[0].draw.chain", "\"52db9ba7", "\"52db9ba"),
        ("sales[0].draw.genesis_at", "2023-08-23", "2123-08-23"),
        ("sales[0].draw.period_s", "period_s = 3\n", "period_s = 0\n"),
        ("sales[0].draw.public_key", QUICKNET_KEY, &another_key),
        ("sales[0].prequeue_starts_at", "T10:30:00Z", "T11:00:01Z"),
        ("sales[0].closes_at", "T23:00:00Z", "T11:00:00Z"),
        (
            "sales[0].admission_rate_per_minute",
            "admission_rate_per_minute = 1200",
            "admission_rate_per_minute = 0",
        ),
        ("sales[0].active_visits_max", "active_visits_max = 2000", "active_visits_max = 0"),
        ("sales[0].admission_burst", "admission_burst = 20", "admission_burst = 0"),
        (
            "sales[0].call_window_s",
            "call_window_s = 180",
            "call_window_s = 0",
        ),
        (
            "sales[0].late_arrival_share",
            "late_arrival_share = 0.2",
            "late_arrival_share = 1.5",
        ),
        (
            "sales[0].late_arrival_share",
            "late_arrival_share = 0.2",
            "late_arrival_share = nan",
        ),
        ("sales[0].pass_ttl_s", "pass_ttl_s = 120", "pass_ttl_s = 1201"),
        ("sales[0].hold_ttl_s", "hold_ttl_s = 420", "hold_ttl_s = 119"),
        ("sales[0].hold_ttl_s", "hold_ttl_s = 420", "hold_ttl_s = 1201"),
        ("sales[0].seats_per_customer_max", "seats_per_customer_max = 4", "seats_per_customer_max = 0"),
        ("sales[0].queue_entries_max", "queue_entries_max = 1000000", "queue_entries_max = 0"),
        (
            "sales[0].performances[0].plan",
            "generate:arena:15000\"\n",
            "\"\n",
        ),
        (
            "sales[0].performances[0].prices",
            "{ VIP = 198000, R = 165000, S = 143000, A = 121000 }",
            "{}",
        ),
        ("sales[0].performances[0].prices.VIP", "VIP = 198000", "VIP = -1"),
    ];
    for (key, stands, instead) in cases {
        let text = example();
        // Prose mentions some values too; the assignment is the last mention.
        let at = text
            .rfind(stands)
            .unwrap_or_else(|| panic!("{stands} stands in the example"));
        let mut text = text[..at].to_owned() + instead + &text[at + stands.len()..];
        if *key == "keys.master_file" {
            text = text.replace("\nmaster_file = \"\"", "");
        }
        let problems = refusal("impossible", &text, &[]);
        let keys: BTreeSet<&str> = problems.iter().map(|p| p.key.as_str()).collect();
        assert_eq!(keys, BTreeSet::from([*key]), "{stands} -> {instead}");
        assert!(
            problems[0].source.contains("impossible.toml:"),
            "{key}: {}",
            problems[0].source
        );
        assert!(problems[0].message.len() > 15, "{key} says what is right");
    }
}

#[test]
fn joins_are_answered_early_beside_redis_or_a_journal_of_their_own() {
    let text = "[waiting_room]\ndurability = \"async\"\n";
    let file = File::of("early", text);
    assert_eq!(
        load(Some(&file.0), env(&[])).unwrap().waiting_room.durability,
        Durability::Acknowledged
    );
    let problems = refusal(
        "late",
        text,
        &[("STAGEDOOR__JOURNAL__URL", "postgres://u:p@127.0.0.1/queue")],
    );
    assert_eq!(problems[0].key, "waiting_room.durability");
    assert!(
        problems[0].message.contains("a file of its own"),
        "{}",
        problems[0].message
    );
}

#[test]
fn a_fair_draw_needs_a_beacon_and_a_key_that_is_one() {
    let text = example();
    let (from, to) = (
        text.find("[sales.draw]").unwrap(),
        text.find("[[sales.performances]]").unwrap(),
    );
    assert_eq!(
        refusal("no-beacon", &(text[..from].to_owned() + &text[to..]), &[])[0].key,
        "sales[0].queue_order"
    );
    let problems = refusal("no-key", &text.replace(QUICKNET_KEY, "83cf"), &[]);
    assert_eq!(problems[0].key, "sales[0].draw.public_key");
    assert!(
        problems[0].message.contains("192 hexadecimal digits"),
        "{}",
        problems[0].message
    );
}

#[test]
fn everything_that_is_impossible_is_said_at_once() {
    let variables = [
        ("STAGEDOOR__SALES__0__ACTIVE_VISITS_MAX", "0"),
        ("STAGEDOOR__SALES__0__PERFORMANCES__0__PRICES", "{}"),
    ];
    let problems = refusal(
        "at-once",
        &example().replace("admission_rate_per_minute = 1200", "admission_rate_per_minute = 0"),
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
        "each with the place it came from"
    );
}

#[test]
fn a_variable_reaches_a_price_whatever_its_zones_case() {
    let price = "STAGEDOOR__SALES__0__PERFORMANCES__0__PRICES__VIP";
    let file = File::of("price", &example());
    let settings = load(Some(&file.0), env(&[(price, "7")])).unwrap();
    let prices = &settings.sales[0].performances[0].prices;
    assert_eq!((prices["VIP"], prices.len()), (7, 4));
    let problems = refusal("price-wrong", &example(), &[(price, "-7")]);
    assert_eq!(
        (problems[0].key.as_str(), problems[0].source.as_str()),
        ("sales[0].performances[0].prices.VIP", price)
    );
}

#[test]
fn ids_are_given_once_and_a_sale_has_performances() {
    let text = example();
    let sale = &text[text.find("[[sales]]").unwrap()..];
    let performance = &sale[sale.find("[[sales.performances]]").unwrap()..];
    assert_eq!(
        refusal("twice", &format!("{text}{sale}"), &[])[0].key,
        "sales[1].id"
    );
    assert_eq!(
        refusal("twice-inside", &format!("{text}{performance}"), &[])[0].key,
        "sales[0].performances[1].id"
    );
    assert_eq!(
        refusal("none", &text.replace(performance, ""), &[])[0].key,
        "sales[0].performances"
    );
}

#[test]
fn port_zero_may_be_given_twice() {
    let both = [
        ("STAGEDOOR__SERVER__LISTEN", "127.0.0.1:0"),
        ("STAGEDOOR__SERVER__ADMIN_LISTEN", "127.0.0.1:0"),
    ];
    assert!(
        load(None, env(&both)).is_ok(),
        "the system gives each its own port"
    );
}

#[test]
fn settings_changed_in_code_are_checked_alike() {
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
        ("STAGEDOOR__KEYS__MASTER", "hush-master"),
        ("STAGEDOOR__GATEWAY__WEBHOOK_SECRET", "hush-webhook"),
        (
            "STAGEDOOR__SHOP__HANDOFF__SECRET",
            "hush-hush-hush-hush-hush-hush-hush",
        ),
        ("STAGEDOOR__SHOP__HANDOFF__ISSUER", "shop"),
        ("STAGEDOOR__SHOP__HANDOFF__AUDIENCE", "stagedoor"),
    ];
    let mut settings = load(None, env(&variables)).unwrap();
    assert!(
        settings
            .shop()
            .handoff
            .is_some_and(|h| h.secret.starts_with("hush")),
        "the one who needs it has it"
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
fn what_is_shown_can_be_given_back() {
    let file = File::of("shown", &example());
    let settings = load(Some(&file.0), env(&[])).unwrap();
    let again = File::of("shown-again", &show(&settings));
    assert_eq!(show(&load(Some(&again.0), env(&[])).unwrap()), show(&settings));
}

#[test]
fn every_key_of_the_reference_has_its_sentence() {
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
    let settings = load(Some(&file.0), env(&[])).unwrap();
    let mut known = BTreeSet::new();
    collect_keys(&toml::from_str(&show(&settings)).unwrap(), &mut known);
    assert_eq!(
        known.difference(&keys).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "keys without a place in the reference"
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
fn the_contexts_get_their_part() {
    let file = File::of("parts", &example());
    let settings = load(Some(&file.0), env(&[])).unwrap();
    let sale = &settings.sales[0];
    let door = sale.waiting_room(&settings.server.public_base);
    assert_eq!(
        (
            door.rate_per_minute,
            door.capacity,
            door.burst,
            door.call_window.as_secs()
        ),
        (1_200, 2_000, Some(20), 180)
    );
    assert_eq!(door.issuer, "http://127.0.0.1:8080");
    let seats = sale.performances[0].seating(sale);
    assert_eq!(seats.prices["VIP"], Money::new(198_000, Currency::KRW));
    assert_eq!(
        (seats.hold_ttl.as_secs(), seats.extensions_max, seats.seats_per_customer_max),
        (420, 2, 4)
    );
    assert_eq!(sale.performances[0].zones_without_price(["VIP", "B"]), ["B"]);
    assert_eq!(settings.checkout().sales[0].title, "Hero-Lim in Seoul 2027");
    assert_eq!(sale.title.in_language("ja"), "イム・ヒーロー ソウル公演2027");
    assert_eq!(sale.title.in_language("fr"), "Hero-Lim in Seoul 2027");
}

#[tokio::test]
async fn the_default_query_finds_the_demo_shops_customers() {
    use std::sync::Arc;

    use crate::{
        kernel::{SeededEntropy, SystemClock},
        platform::{keys::Keys, shutdown::Lifecycle},
        shop::{DEMO_PASSWORD, Deps, Shop, SignInOutcome, ReplayGuardLocation, create_demo_shop},
    };

    let dir = std::env::temp_dir().join(format!("stagedoor-config-{}-demo", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    create_demo_shop(&dir.join("shop.db"), 20).await.unwrap();
    let mut settings = load(None, env(&[])).unwrap();
    settings.shop.database_url = DatabaseUrl::new(format!("sqlite:{}", dir.join("shop.db").display()));
    let entropy = Arc::new(SeededEntropy::new(1));
    let keys = Keys::ephemeral(&*entropy);
    let deps = Deps {
        clock: Arc::new(SystemClock::new()),
        entropy,
        keys,
        replay_guard: ReplayGuardLocation::File(dir.join("revoked.db")),
        life: Lifecycle::new(),
    };
    let shop = Shop::open(settings.shop(), deps).await.unwrap();
    let outcome = shop.sign_in("Fan00019@example.com", DEMO_PASSWORD).await;
    let SignInOutcome::SignedIn(fan) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (fan.session.subject.as_str(), fan.name.as_str()),
        ("customer:19", "James Green")
    );
    fs::remove_dir_all(&dir).unwrap();
}
