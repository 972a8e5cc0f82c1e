//! Invalid values and relations between keys.

use super::*;
use crate::{platform::drand::QUICKNET_KEY, waiting_room::Durability};

/// The hand-off section of the reference.
const HANDOFF: &str = "issuer = \"\"\n# The claim \"aud\" of the shop's tokens.\naudience = \"\"\n\
    # The secret shared with the shop (HS256), at least 32 bytes. Without it and without jwks_url there are \
    no hand-offs.\nsecret = \"\"";
/// [`HANDOFF`] and the key after it.
const KEY_SET: &str = "issuer = \"\"\n# The claim \"aud\" of the shop's tokens.\naudience = \"\"\n\
    # The secret shared with the shop (HS256), at least 32 bytes. Without it and without jwks_url there are \
    no hand-offs.\nsecret = \"\"\n\
    # Instead of a secret: the shop's JSON Web Key Set (RS256, ES256 or EdDSA), \"https://...\".\n\
    jwks_url = \"\"";

#[test]
fn invalid_values_and_relations_are_refused() {
    let another_key = crate::demo::sandbox_beacon::SandboxSigner::of("another chain")
        .public_key()
        .to_string();
    // (key, text of the example, replacement)
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
            "server.public_base",
            "public_base = \"http://127.0.0.1:8080\"",
            "public_base = \"https://shop.example/tickets/\"",
        ),
        (
            "server.public_base",
            "public_base = \"http://127.0.0.1:8080\"",
            "public_base = \"https://shop.example/a/../tickets\"",
        ),
        (
            "server.public_base",
            "public_base = \"http://127.0.0.1:8080\"",
            "public_base = \"https://shop.example/a//tickets\"",
        ),
        (
            "server.public_base",
            "public_base = \"http://127.0.0.1:8080\"",
            "public_base = \"https://shop.example/%74ickets\"",
        ),
        (
            "server.public_base",
            "public_base = \"http://127.0.0.1:8080\"",
            "public_base = \"https://shop.example/tickets?x=1\"",
        ),
        (
            "server.public_base",
            "public_base = \"http://127.0.0.1:8080\"",
            "public_base = \"https://shop.example/tickets#x\"",
        ),
        (
            "server.public_base",
            "public_base = \"http://127.0.0.1:8080\"",
            "public_base = \"https://user@shop.example\"",
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
        (
            "server.node_name",
            "node_name = \"\"",
            "node_name = \"two words\"",
        ),
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
            "master = \"a master key of at least 32 bytes\"\nmaster_file = \"y\"\n",
        ),
        (
            "limits.proof_of_work.difficulty_bits_max",
            "difficulty_bits_max = 0",
            "difficulty_bits_max = 25",
        ),
        (
            "limits.proof_of_work.difficulty_bits_min",
            "difficulty_bits_min = 0",
            "difficulty_bits_min = 1",
        ),
        (
            "limits.proof_of_work.allow_over_join_limit",
            "allow_over_join_limit = false",
            "allow_over_join_limit = true",
        ),
        (
            "limits.proof_of_work.challenge_ttl_s",
            "\nchallenge_ttl_s = 120",
            "\nchallenge_ttl_s = 3601",
        ),
        (
            "limits.proof_of_work.used_challenges_max",
            "used_challenges_max = 1000000",
            "used_challenges_max = 0",
        ),
        (
            "keys.master",
            "master = \"\"\n",
            "master = \"31 bytes are not enough for it.\"\n",
        ),
        ("log.level", "level = \"info\"", "level = \"info,,=\""),
        ("log.level", "level = \"info\"", "level = \"inof\""),
        ("log.level", "level = \"info\"", "level = \"info, sqlx\""),
        ("log.level", "level = \"info\"", "level = \"stagedoor=debug\""),
        (
            "log.level",
            "level = \"info\"",
            "level = \"info,stagedoor=debgu\"",
        ),
        (
            "shop.session_hours",
            "session_hours = 12",
            "session_hours = 4000000000",
        ),
        (
            "shop.connections_max",
            "connections_max = 2\n",
            "connections_max = 0\n",
        ),
        ("shop.database_url", "sqlite:data/shop.db", "oracle://shop"),
        (
            "shop.tables[0]",
            "tables = [\"auth_user\"]",
            "tables = [\"auth_user; --\"]",
        ),
        (
            "shop.customer_query",
            "email IN (:login, :login_lower)",
            "email = 'x'",
        ),
        ("shop.customer_by_id_query", "WHERE id = :id", "WHERE id = :key"),
        (
            "shop.customer_query_any_case",
            "email = :login COLLATE",
            "email = :mail COLLATE",
        ),
        ("shop.name.fr", "\nname = {}", "\nname = { fr = \"Boutique\" }"),
        (
            "shop.password_sign_in",
            "password_sign_in = true",
            "password_sign_in = false",
        ),
        (
            "shop.forgot_password_url",
            "forgot_password_url = \"\"",
            "forgot_password_url = \"javascript:1\"",
        ),
        (
            "shop.handoff.secret",
            "programs only.\nsign_in_url = \"\"",
            "programs only.\nsign_in_url = \"https://shop.example\"",
        ),
        (
            "shop.handoff.origins[0]",
            "origins = []",
            "origins = [\"https://shop.example/\"]",
        ),
        (
            "shop.handoff.origins[0]",
            "origins = []",
            "origins = [\"https://shop.example:443\"]",
        ),
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
            "shop.handoff.audience",
            KEY_SET,
            "issuer = \"shop\"\njwks_url = \"https://shop.example/jwks.json\"",
        ),
        (
            "shop.handoff.jwks_url",
            KEY_SET,
            "issuer = \"shop\"\naudience = \"us\"\njwks_url = \"http://shop.example/jwks.json\"",
        ),
        (
            "shop.handoff.jwks_url",
            KEY_SET,
            "issuer = \"shop\"\naudience = \"us\"\nsecret = \"0123456789abcdef0123456789abcdef\"\n\
            jwks_url = \"http://127.0.0.1/jwks.json\"",
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
        (
            "checkout.payment_page_timeout_s",
            "payment_page_timeout_s = 600",
            "payment_page_timeout_s = 86401",
        ),
        (
            "sales[0].hold_ttl_s",
            "payment_page_timeout_s = 600",
            "payment_page_timeout_s = 419",
        ),
        ("gateway.url", "\nurl = \"\"", "\nurl = \"gateway\""),
        (
            "sales[0].title",
            concat!(
                "{ ko = \"임히어로 콘서트 2027 서울\", en = \"Hero-Lim in Seoul 2027\", ",
                "ja = \"イム・ヒーロー ソウル公演2027\" }"
            ),
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
        (
            "sales[0].active_visits_max",
            "active_visits_max = 2000",
            "active_visits_max = 0",
        ),
        (
            "sales[0].admission_burst",
            "admission_burst = 20",
            "admission_burst = 0",
        ),
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
        (
            "sales[0].seats_per_customer_max",
            "seats_per_customer_max = 4",
            "seats_per_customer_max = 0",
        ),
        (
            "sales[0].queue_entries_max",
            "queue_entries_max = 1000000",
            "queue_entries_max = 0",
        ),
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
        (
            "sales[0].performances[0].prices.VIP",
            "VIP = 198000",
            "VIP = 1000000000001",
        ),
        (
            "sales[0].performances[0].currency",
            "currency = \"KRW\"",
            "currency = \"ZZZ\"",
        ),
        (
            "sales[0].admission_rate_per_minute",
            "admission_rate_per_minute = 1200",
            "admission_rate_per_minute = 4000000000",
        ),
        (
            "sales[0].active_visits_max",
            "active_visits_max = 2000",
            "active_visits_max = 4000000000",
        ),
        (
            "sales[0].queue_entries_max",
            "queue_entries_max = 1000000",
            "queue_entries_max = 4000000000",
        ),
        (
            "sales[0].performances[0].time_zone",
            "time_zone = \"Asia/Seoul\"\n",
            "",
        ),
        (
            "sales[0].performances[0].time_zone",
            "time_zone = \"Asia/Seoul\"",
            "time_zone = \"KST\"",
        ),
        (
            "sales[0].performances[0].doors_open_at",
            "doors_open_at = \"2027-05-07T08:30:00Z\"",
            "doors_open_at = \"2027-05-07T10:00:01Z\"",
        ),
        (
            "sales[0].artist",
            "artist = \"Hero-Lim\"",
            "artist = \"Hero\u{200b}Lim\"",
        ),
    ];
    for (key, original, replacement) in cases {
        let text = example();
        // Comments mention some values too; the assignment is the last occurrence.
        let at = text
            .rfind(original)
            .unwrap_or_else(|| panic!("{original} is in the example"));
        let mut text = text[..at].to_owned() + replacement + &text[at + original.len()..];
        if *key == "keys.master_file" {
            text = text.replace("\nmaster_file = \"\"", "");
        }
        let problems = refusal("invalid", &text, &[]);
        let keys: BTreeSet<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, BTreeSet::from([*key]), "{original} -> {replacement}");
        assert!(
            problems[0].source.contains("invalid.toml:"),
            "{key}: {}",
            problems[0].source
        );
        assert!(problems[0].message.len() > 15, "{key} names the remedy");
    }
}

#[test]
fn async_durability_needs_redis_or_a_journal_file() {
    let text = "[waiting_room]\ndurability = \"async\"\n";
    let file = File::of("early", text);
    assert_eq!(
        load(Some(&file.path), env(&[])).unwrap().waiting_room.durability,
        Durability::Async
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
fn a_fair_draw_needs_a_beacon_and_a_valid_key() {
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
fn ids_are_unique_and_a_sale_has_performances() {
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
fn an_address_may_hold_what_one_anonymous_visitor_may() {
    let few = example().replace(
        "anonymous_seats_per_ip_max = 16",
        "anonymous_seats_per_ip_max = 3",
    );
    let anonymous = few.replace("sign_in = \"customer\"", "sign_in = \"none\"");
    assert_eq!(
        refusal("few-seats", &anonymous, &[])[0].key,
        "limits.anonymous_seats_per_ip_max"
    );
    let file = File::of("few-seats-customers", &few);
    assert!(load(Some(&file.path), env(&[])).is_ok());
}
