//! Settings of several nodes: which databases fit which store.

use super::*;

/// Variables of store, its Redis, ledger and journal.
fn variables_of(store: &str, redis: &str, ledger: &str, journal: &str) -> Vec<(String, String)> {
    [
        ("STORE__KIND", store),
        ("STORE__REDIS__URL", redis),
        ("LEDGER__URL", ledger),
        ("JOURNAL__URL", journal),
    ]
    .map(|(key, value)| (format!("STAGEDOOR__{key}"), value.to_owned()))
    .into()
}

#[test]
fn databases_must_fit_the_store() {
    let (redis, pg) = ("redis://r", "postgres://stagedoor:hush@db/stagedoor");
    let of_files = |ledger: &str, queue: &str| {
        (
            DatabaseLocation::Sqlite(ledger.into()),
            DatabaseLocation::Sqlite(queue.into()),
        )
    };
    let shared = |url: &str| DatabaseLocation::Postgres(DatabaseUrl::new(url));
    let good: Vec<([&str; 4], (DatabaseLocation, DatabaseLocation))> = vec![
        (
            ["memory", "", "", ""],
            of_files("data/ledger.db", "data/queue.db"),
        ),
        (
            ["memory", "", "sqlite:/books/money.db", ""],
            of_files("/books/money.db", "/books/queue.db"),
        ),
        (
            ["memory", "", "sqlite:///books/money.db", "sqlite:q.db"],
            of_files("/books/money.db", "q.db"),
        ),
        (["memory", "", pg, ""], (shared(pg), shared(pg))),
        (
            ["memory", "", "", pg],
            (DatabaseLocation::Sqlite("data/ledger.db".into()), shared(pg)),
        ),
        (["redis", redis, pg, ""], (shared(pg), shared(pg))),
        (
            ["redis", redis, pg, "postgresql://other/db"],
            (shared(pg), shared("postgresql://other/db")),
        ),
    ];
    for ([store, url, ledger, journal], databases) in good {
        let settings = load(None, variables_of(store, url, ledger, journal).into_iter()).unwrap();
        assert_eq!(
            (settings.ledger_database(), settings.journal_database()),
            databases,
            "{store} {ledger} {journal}"
        );
    }
    let refused: &[([&str; 4], &[&str])] = &[
        (["redis", "", pg, ""], &["store.redis.url"]),
        (["redis", redis, "", ""], &["ledger.url"]),
        (["redis", redis, pg, "sqlite:q.db"], &["journal.url"]),
        (["redis", "http://r", pg, ""], &["store.redis.url"]),
        (["redis", "redis:r", pg, ""], &["store.redis.url"]),
        (["redis", "rediss+raft://r", pg, ""], &["store.redis.url"]),
        (["memory", redis, "", ""], &["store.redis.url"]),
        (["memory", "", "sqlite:a/queue.db", ""], &["journal.url"]),
        (["memory", "", "mysql://db/x", ""], &["ledger.url"]),
        (
            ["memory", "", "sqlite:", "postgres:db"],
            &["ledger.url", "journal.url"],
        ),
        (["memory", "", "sqlite:a.db?mode=ro", ""], &["ledger.url"]),
    ];
    for ([store, url, ledger, journal], keys) in refused {
        let problems = load(None, variables_of(store, url, ledger, journal).into_iter())
            .expect_err("it is refused")
            .problems;
        assert_eq!(
            problems.iter().map(|p| p.key.as_str()).collect::<Vec<_>>(),
            *keys,
            "{store} {url} {ledger} {journal}"
        );
        assert!(
            problems
                .iter()
                .all(|p| !p.message.contains("hush") && p.source.starts_with("STAGEDOOR__")),
            "{problems:?}"
        );
    }
}

#[test]
fn each_context_may_have_its_own_redis() {
    let mut variables = variables_of("redis", "redis+cluster://a:1,b:2", "postgres://db/x", "");
    let of = |variables: &[(String, String)]| load(None, variables.iter().cloned());
    let waiting_room = |s: &Settings| s.waiting_room_redis().unwrap().url;
    let box_office = |s: &Settings| s.box_office_redis().unwrap().url;
    let one = of(&variables).unwrap();
    assert_eq!(
        (waiting_room(&one), box_office(&one)),
        ("redis+cluster://a:1,b:2".into(), "redis+cluster://a:1,b:2".into())
    );
    variables.push((
        "STAGEDOOR__WAITING_ROOM__REDIS__URL".into(),
        "rediss+sentinel://s:1/m".into(),
    ));
    let two = of(&variables).unwrap();
    assert_eq!(
        (waiting_room(&two), box_office(&two)),
        ("rediss+sentinel://s:1/m".into(), "redis+cluster://a:1,b:2".into())
    );
    variables[1].1.clear();
    assert_eq!(
        of(&variables).unwrap_err().problems[0].key,
        "store.redis.url",
        "the box office has none"
    );
    variables.push(("STAGEDOOR__BOX_OFFICE__REDIS__URL".into(), "redis://b".into()));
    let own = of(&variables).unwrap();
    assert_eq!(
        (waiting_room(&own), box_office(&own)),
        ("rediss+sentinel://s:1/m".into(), "redis://b".into())
    );
    assert!(load(None, env(&[])).unwrap().waiting_room_redis().is_none());
}

#[test]
fn a_node_has_a_default_name() {
    let named = load(None, env(&[("STAGEDOOR__SERVER__NODE_NAME", "seoul-1")])).unwrap();
    assert_eq!(named.node_name(), "seoul-1");
    let unnamed = load(None, env(&[("STAGEDOOR__SERVER__LISTEN", "127.0.0.1:8123")]))
        .unwrap()
        .node_name();
    assert!(unnamed.ends_with(":8123") && unnamed.len() > 5, "{unnamed}");
}

#[test]
fn database_urls_are_shown_without_secrets() {
    for (url, shown) in [
        ("", ""),
        ("sqlite:data/ledger.db", "sqlite:data/ledger.db"),
        ("redis://10.0.0.1:6379/2", "redis://10.0.0.1:6379/2"),
        ("redis://:hush@h:1", "redis://[secret]@h:1"),
        (
            "redis+sentinel://u:hush@h1:1,h2:2/main",
            "redis+sentinel://[secret]@h1:1,h2:2/main",
        ),
        (
            "redis+cluster://:hush@h1:1,:hush@h2:2",
            "redis+cluster://[secret]@h2:2",
        ),
        ("postgres://u:hu@sh@db/x", "postgres://[secret]@db/x"),
        ("postgres://db/x?password=hush", "postgres://db/x?[secret]"),
        (
            "postgres://u@db/x?sslmode=require&password=hush",
            "postgres://[secret]@db/x?[secret]",
        ),
        ("postgres://db/x?user=a@b&password=hush", "postgres://[secret]"),
        ("redis://:hu?sh@h:1", "redis://[secret]"),
        ("redis://:hu#sh@h:1", "redis://[secret]"),
        ("redis:hush@h", "[secret]"),
        ("hush", "[secret]"),
        ("sqlite:x?key=hush", "[secret]"),
    ] {
        assert_eq!(format!("{:?}", DatabaseUrl::new(url)), shown);
    }
}

#[test]
fn the_production_example_lacks_only_its_secrets() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/production.toml");
    let missing = load(Some(&file), env(&[]))
        .expect_err("the secrets are not in the file")
        .problems;
    let keys: Vec<_> = missing.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(
        keys,
        ["store.redis.url", "ledger.url", "shop.handoff.secret"],
        "{missing:?}"
    );
    let secrets = [
        (
            "STAGEDOOR__STORE__REDIS__URL",
            "redis+sentinel://:hush@10.0.2.1:26379,10.0.2.2:26379/stagedoor",
        ),
        (
            "STAGEDOOR__LEDGER__URL",
            "postgres://stagedoor:hush@10.0.3.1/stagedoor",
        ),
        ("STAGEDOOR__KEYS__MASTER", "hush-master-of-thirty-two-bytes-x"),
        (
            "STAGEDOOR__SHOP__HANDOFF__SECRET",
            "hush-hush-hush-hush-hush-hush-hush",
        ),
        ("STAGEDOOR__GATEWAY__WEBHOOK_SECRET", "hush-webhook"),
    ];
    let settings = load(Some(&file), env(&secrets)).unwrap();
    assert_eq!(settings.store.kind, StoreKind::Redis);
    assert!(
        settings.shares_state()
            && settings.server.public_base.starts_with("https://")
            && !settings.server.trusted_proxies.is_empty()
    );
    assert!(!settings.box_office.waiting_room_urls.is_empty() && !settings.sales.is_empty());
    assert!(!show(&settings).contains("hush"));
}
