//! Checks of stores and databases.

use crate::{
    ops::config::{
        checks::problems::{Problems, is_base_url},
        secrets::DatabaseUrl,
        sections::Settings,
        storage::{DatabaseLocation, StoreKind},
    },
    waiting_room::Durability,
};

pub(super) fn stores(settings: &Settings, problems: &mut Problems) {
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
        problems.add_if(
            !url.is_empty() && (!matches!(plain, "redis" | "rediss") || !url.expose().contains("://")),
            key,
            "must be redis://HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/MASTER or \
            redis+cluster://HOST:PORT,HOST:PORT (rediss for TLS)",
        );
        problems.add_if(
            !url.is_empty() && settings.store.kind == StoreKind::Memory,
            key,
            "must be empty while store.kind is \"memory\"; to use this Redis set store.kind to \"redis\"",
        );
    }
    let lacks_one = shared.url.is_empty() && own.iter().any(|(_, url)| url.is_empty());
    problems.add_if(
        settings.store.kind == StoreKind::Redis && lacks_one,
        "store.redis.url",
        "must be given when store.kind is \"redis\", best as STAGEDOOR__STORE__REDIS__URL",
    );
    problems.require_positive(
        &[
            ("command_timeout_ms", shared.command_timeout_ms.into()),
            ("connect_timeout_ms", shared.connect_timeout_ms.into()),
        ],
        "store.redis",
    );
    problems.add_if(
        shared.command_timeout_ms >= settings.server.request_timeout_ms,
        "store.redis.command_timeout_ms",
        format!(
            "must be shorter than server.request_timeout_ms ({})",
            settings.server.request_timeout_ms
        ),
    );
    for (ix, url) in settings.box_office.waiting_room_urls.iter().enumerate() {
        problems.add_if(
            !is_base_url(url) || !url.starts_with("http://"),
            format!("box_office.waiting_room_urls[{ix}]"),
            "must be a waiting room's admin listener, http://HOST:PORT without a slash at the end",
        );
    }
}

/// Databases must fit the store: several nodes must share them.
pub(super) fn databases(settings: &Settings, problems: &mut Problems) {
    let mut are_urls_valid = true;
    for (key, url) in [
        ("ledger.url", &settings.ledger.url),
        ("journal.url", &settings.journal.url),
    ] {
        let wrong = !is_database_url(url);
        are_urls_valid &= !wrong;
        problems.add_if(
            wrong,
            key,
            "must be sqlite:FILE or postgres://USER:PASSWORD@HOST/DATABASE",
        );
    }
    if !are_urls_valid {
        return;
    }
    let (ledger, journal) = (settings.ledger_database(), settings.journal_database());
    let is_file = |database: &DatabaseLocation| matches!(database, DatabaseLocation::Sqlite(_));
    if settings.store.kind == StoreKind::Redis {
        let wrong = "must be postgres://... with the redis store: its nodes share their databases, and an \
            SQLite file belongs to one node";
        problems.add_if(is_file(&ledger), "ledger.url", wrong);
        problems.add_if(
            is_file(&journal) && !settings.journal.url.is_empty(),
            "journal.url",
            wrong,
        );
    }
    problems.add_if(
        settings.waiting_room.durability == Durability::Async
            && settings.store.kind == StoreKind::Memory
            && !is_file(&journal),
        "waiting_room.durability",
        "must be \"committed\" with the memory store and a journal on PostgreSQL: async needs a journal in \
        a file of its own",
    );
    problems.add_if(
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
