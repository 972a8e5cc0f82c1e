use std::future::Future;

use sqlx::{AssertSqlSafe, PgPool, SqlitePool, postgres::PgConnectOptions};

use crate::platform::shutdown::Lifecycle;
use crate::waiting_room::journal::verify::*;
use crate::waiting_room::{
    journal::{
        chain::{ChainStore, extend},
        chain_conformance::joined,
        port::Journal,
        postgres::journal::PostgresJournal,
        sqlite::SqliteJournal,
    },
    tests::TempDir,
};
use testkit::Postgres;

/// Changes to a sale's journal of twelve records in four links, the link that detects each, and what it
/// reports. `:U` is the last record of link 2.
const CHANGES: &[(&str, u64, &str)] = &[
    (
        "UPDATE journal SET body = (SELECT body FROM journal WHERE seq = :U - 1 AND sale = 'SALE') WHERE \
            seq = :U AND sale = 'SALE'",
        2,
        "not those",
    ),
    (
        "UPDATE journal SET kind = 'event' WHERE seq = :U AND sale = 'SALE'",
        2,
        "not those",
    ),
    (
        "DELETE FROM journal WHERE seq = :U - 1 AND sale = 'SALE'",
        2,
        "covers 3 records, and between",
    ),
    ("DELETE FROM journal WHERE sale = 'SALE'", 1, "there are 0"),
    (
        "UPDATE journal SET seq = 9999 WHERE seq = :U AND sale = 'SALE';
         UPDATE journal SET seq = :U WHERE seq = :U - 1 AND sale = 'SALE';
         UPDATE journal SET seq = :U - 1 WHERE seq = 9999 AND sale = 'SALE'",
        2,
        "not those",
    ),
    (
        "UPDATE journal SET seq = seq + 100000 WHERE seq >= :U AND sale = 'SALE';
         UPDATE journal SET seq = seq - 99999 WHERE seq >= 100000 AND sale = 'SALE';
         INSERT INTO journal (sale, seq, kind, body) SELECT sale, :U, kind, body FROM journal
         WHERE seq = :U - 1 AND sale = 'SALE'",
        2,
        "not those",
    ),
    (
        "UPDATE chain_link SET hash = (SELECT hash FROM chain_link WHERE link_number = 1 AND sale = \
            'SALE') WHERE link_number = 3 AND sale = 'SALE'",
        3,
        "the link itself was changed",
    ),
    (
        "UPDATE chain_link SET records = 2 WHERE link_number = 3 AND sale = 'SALE'",
        3,
        "covers 2 records, \
        and between",
    ),
    (
        "UPDATE chain_link SET last_seq = last_seq + 1 WHERE link_number = 3 AND sale = 'SALE'",
        3,
        "there \
        are 4",
    ),
    (
        "DELETE FROM chain_link WHERE link_number = 3 AND sale = 'SALE'",
        3,
        "it is missing; link 4 comes next",
    ),
];

async fn detects_changes<J: Journal + ChainStore, F: Future<Output = J>>(
    place: &JournalLocation,
    open: impl Fn(String) -> F,
    alter: impl AsyncFn(String),
) {
    let log_of = async |sale: &str| {
        let journal = open(sale.to_owned()).await;
        let mut second = 0;
        for round in 0..4 {
            for number in 1..=3 {
                journal.append(0, &[joined(round * 3 + number)]).await.unwrap();
            }
            let link = extend(&journal).await.unwrap();
            second = if round == 1 { link.upto } else { second };
        }
        (journal, second)
    };
    let of = async |sale: &str, head| {
        verify_journal(place, Some(&sale.parse().unwrap()), head)
            .await
            .unwrap()
            .remove(0)
    };
    for (n, (change, link, says)) in CHANGES.iter().enumerate() {
        let sale = format!("s{n}");
        let (_, second) = log_of(&sale).await;
        let before = of(&sale, None).await;
        assert_eq!(
            (before.records, before.sequence, before.not_linked, &before.fault),
            (12, 4, 0, &None)
        );
        alter(change.replace("SALE", &sale).replace(":U", &second.to_string())).await;
        let fault = of(&sale, None)
            .await
            .fault
            .unwrap_or_else(|| panic!("not detected: {change}"));
        assert!(
            fault.link == *link && fault.why.contains(says),
            "{change}: {fault:?}"
        );
    }

    // Cut, or rewritten from some record on: only an observer who kept a link detects it.
    let (journal, second) = log_of("cut").await;
    let whole = of("cut", None).await;
    let head = Some(ChainHead {
        sequence: whole.sequence,
        hash: whole.hash,
    });
    assert_eq!(of("cut", head).await.fault, None);
    let early = Some(ChainHead {
        sequence: 1,
        hash: whole.hash,
    });
    assert!(
        of("cut", early)
            .await
            .fault
            .unwrap()
            .why
            .contains("not the one that was published")
    );
    alter(format!(
        "DELETE FROM journal WHERE sale = 'cut' AND seq > {second}; DELETE FROM chain_link \
        WHERE sale = 'cut' AND link_number > 2"
    ))
    .await;
    let cut = of("cut", None).await;
    assert_eq!((cut.records, cut.sequence, cut.fault), (6, 2, None));
    assert!(
        of("cut", head)
            .await
            .fault
            .unwrap()
            .why
            .contains("ends with link 2")
    );
    let lines = journal.lines(0, 10).await.unwrap();
    alter("DELETE FROM chain_link WHERE sale = 'cut'".to_owned()).await;
    assert!(of("cut", head).await.fault.unwrap().why.contains("no link now"));
    let mut link = ChainLink::genesis(&"cut".parse().unwrap());
    for line in &lines[..4] {
        link = link.next(std::slice::from_ref(line));
        assert!(journal.add_link(&link).await.unwrap());
    }
    let anew = of("cut", head).await;
    assert!(anew.fault.unwrap().why.contains("rewritten"));
    let anew = of("cut", None).await;
    assert_eq!((anew.records, anew.not_linked, anew.fault), (4, 2, None));

    // The named sale must exist.
    assert!(matches!(
        verify_journal(place, Some(&"unknown".parse().unwrap()), None).await,
        Err(JournalReadError::NoSale(_))
    ));
    assert!(matches!(
        verify_journal(place, None, head).await,
        Err(JournalReadError::WhoseHead)
    ));
    assert_eq!(
        verify_journal(place, None, None).await.unwrap().len(),
        CHANGES.len() + 1
    );
}

/// A journal that was never linked and holds more records than one link covers.
async fn links_an_old_journal<J: Journal + ChainStore, F: Future<Output = J>>(
    place: &JournalLocation,
    open: impl Fn() -> F,
) {
    let old = open().await;
    let records: Vec<_> = (1..=2_500).map(joined).collect();
    old.append(0, &records).await.unwrap();
    let before = verify_journal(place, None, None).await.unwrap().remove(0);
    assert_eq!(
        (before.sequence, before.not_linked, before.fault),
        (0, 2_500, None)
    );
    let again = open().await;
    assert_eq!(extend(&again).await.unwrap().number, 3);
    let after = verify_journal(place, None, None).await.unwrap().remove(0);
    assert_eq!(
        (after.sequence, after.records, after.not_linked, after.fault),
        (3, 2_500, 0, None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_a_file_are_detected() {
    let dir = TempDir::new();
    for name in ["changed.db", "old.db"] {
        let (file, url) = (
            dir.path().join(name),
            format!("sqlite:{}", dir.path().join(name).display()),
        );
        let place = JournalLocation::File(file.clone());
        let open = |sale: String| {
            let file = file.clone();
            async move {
                SqliteJournal::open(&file, sale.parse().unwrap(), &Lifecycle::new())
                    .await
                    .unwrap()
            }
        };
        let alter = async |sql: String| {
            let pool = SqlitePool::connect(&url).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
            pool.close().await;
        };
        match name {
            "changed.db" => detects_changes(&place, open, alter).await,
            _ => links_an_old_journal(&place, || open("a".to_owned())).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_a_database_are_detected() {
    let server = Postgres::start().await.unwrap();
    for name in ["changed", "old"] {
        let url = server.create_database(name).await.unwrap();
        let place = JournalLocation::Postgres { url: url.clone() };
        let open = |sale: String| {
            let url = url.clone();
            async move {
                let journal = PostgresJournal::open(&url, sale.parse().unwrap(), 16)
                    .await
                    .unwrap();
                journal.raise_ceiling(0, 10_000).await.unwrap();
                journal
            }
        };
        let alter = async |sql: String| {
            let options = url
                .parse::<PgConnectOptions>()
                .unwrap()
                .options([("search_path", "stagedoor_queue")]);
            let pool = PgPool::connect_with(options).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
            pool.close().await;
        };
        match name {
            "changed" => detects_changes(&place, open, alter).await,
            _ => links_an_old_journal(&place, || open("a".to_owned())).await,
        }
    }
}
