use sqlx::PgPool;

use crate::{
    kernel::{SeededEntropy, Timestamp, VisitId},
    waiting_room::journal::{
        chain,
        chain_conformance::{self, joined},
        conformance,
        notices::conformance::keeps_requests_until_they_are_removed,
        port::{Journal, JournalError},
        postgres::journal::PostgresJournal,
        record::{Event, Join, Record},
    },
};
use testkit::Postgres;

fn joins(first: u32, subjects: std::ops::Range<u64>) -> Record {
    Record::Joins {
        first,
        joins: subjects
            .map(|subject| Join {
                subject,
                joined_at: Timestamp::from_millis(7),
            })
            .collect(),
    }
}

fn event(event: Event) -> Record {
    Record::Event {
        at: Timestamp::from_millis(9),
        event,
    }
}

async fn journal(url: &str, sale: &'static str) -> PostgresJournal {
    let journal = PostgresJournal::open(url, sale.parse().unwrap(), 16)
        .await
        .unwrap();
    journal.raise_ceiling(0, 10_000).await.unwrap();
    journal
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_meets_the_journal_contract() {
    let server = Postgres::start().await.unwrap();
    for (name, test) in [("kept", 0), ("refused", 1), ("notices", 2)] {
        let url = server.create_database(name).await.unwrap();
        let open = |sale: &'static str| journal(&url, sale);
        match test {
            0 => conformance::keeps_what_it_was_given(open).await,
            1 => conformance::refuses_a_number_or_a_visit_twice(open).await,
            _ => keeps_requests_until_they_are_removed(open).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_database_are_chained() {
    let server = Postgres::start().await.unwrap();
    let (one, several) = (
        server.create_database("one").await.unwrap(),
        server.create_database("several").await.unwrap(),
    );
    chain_conformance::links_cover_every_record_once(|sale| journal(&one, sale)).await;
    chain_conformance::concurrent_linkers_add_each_link_once(|sale| journal(&several, sale)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uncommitted_record_blocks_linking_later_ones() {
    let server = Postgres::start().await.unwrap();
    let url = server.create_database("late").await.unwrap();
    let journal = journal(&url, "a").await;
    journal.append(0, &[joined(1)]).await.unwrap();
    let third = PostgresJournal::open(&url, "a".parse().unwrap(), 16)
        .await
        .unwrap();
    // A second node's group is written and not committed; a third's waits behind it.
    let pool = PgPool::connect_with(
        url.parse::<sqlx::postgres::PgConnectOptions>()
            .unwrap()
            .options([("search_path", "stagedoor_queue")]),
    )
    .await
    .unwrap();
    let mut slow = pool.begin().await.unwrap();
    let write = "SELECT * FROM append_records('a', 0, 0, 100, '{joins}', ARRAY['\\x00'::bytea], \
        '{joins}', '{2}', '{2}', '{\"\"}', '{0}')";
    sqlx::query(write).execute(&mut *slow).await.unwrap();
    let third = tokio::spawn(async move { third.append(0, &[joined(3)]).await.unwrap() });
    assert_eq!(chain::extend(&journal).await.unwrap().upto, 1);
    slow.commit().await.unwrap();
    assert_eq!(third.await.unwrap(), 3);
    assert_eq!(chain::extend(&journal).await.unwrap().upto, 3);
    // And if one became visible before those before it, it would wait for them.
    for (seq, linked) in [(5, 3), (4, 5)] {
        sqlx::query("INSERT INTO journal VALUES ('a', $1, 'joins', '')")
            .bind(seq)
            .execute(&pool)
            .await
            .unwrap();
        assert_eq!(chain::extend(&journal).await.unwrap().upto, linked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_write_in_one_order_and_one_call_wins() {
    let server = Postgres::start().await.unwrap();
    let url = server.create_database("nodes").await.unwrap();
    let nodes = [
        journal(&url, "a").await,
        journal(&url, "a").await,
        journal(&url, "a").await,
    ];
    let mut writing = Vec::new();
    for (node, journal) in (0_u32..).zip(nodes) {
        writing.push(tokio::spawn(async move {
            let mut won = 0;
            for round in 0..30_u32 {
                let first = 1 + (round * 3 + node) * 10;
                journal.append(0, &[joins(first, 0..10)]).await.unwrap();
                let called = event(Event::Called {
                    after: round,
                    last: round + 1,
                    window_ends_at: Timestamp::default(),
                });
                won += u32::from(journal.append(0, &[called]).await.is_ok());
            }
            (journal, won)
        }));
    }
    let mut calls = 0;
    let mut last = None;
    for node in writing {
        let (journal, won) = node.await.unwrap();
        calls += won;
        last = Some(journal);
    }
    let all = last.unwrap().read(0, 1_000).await.unwrap();
    assert!(calls <= 30, "{calls} calls counted");
    assert_eq!(
        all.iter().map(|it| it.seq).collect::<Vec<_>>(),
        (1..=90 + u64::from(calls)).collect::<Vec<_>>(),
        "one order, no gaps"
    );
    let mut served = 0;
    for stored in &all {
        if let Record::Event {
            event: Event::Called { after, last, .. },
            ..
        } = stored.record
        {
            assert_eq!(after, served);
            served = last;
        }
    }
    assert!(served > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_of_an_earlier_epoch_are_refused() {
    let server = Postgres::start().await.unwrap();
    let url = server.create_database("epochs").await.unwrap();
    let journal = journal(&url, "a").await;
    assert_eq!(journal.raise_epoch(0, "first").await.unwrap().epoch(), 1);
    let head = journal.raise_epoch(0, "too late").await.unwrap();
    assert_eq!(
        (head.epoch(), head.store_identity.as_str(), head.buckets()),
        (1, "first", 16)
    );
    journal.append(1, &[joins(1, 0..3)]).await.unwrap();
    assert_eq!(journal.raise_epoch(1, "second").await.unwrap().epoch(), 2);
    let left = event(Event::Left { number: 1 });
    assert!(matches!(
        journal.append(1, &[joins(4, 3..4), left]).await,
        Err(JournalError::StaleEpoch)
    ));
    journal.append(1, &[joins(4, 3..4)]).await.unwrap();
    assert!(!journal.settle(1).await.unwrap() && journal.settle(2).await.unwrap());
    assert!(matches!(
        journal.append(1, &[joins(5, 4..5)]).await,
        Err(JournalError::StaleEpoch)
    ));
    assert!(matches!(
        journal.raise_ceiling(1, 5).await,
        Err(JournalError::StaleEpoch)
    ));
    assert!(
        matches!(
            journal.append(2, &[joins(20_000, 5..6)]).await,
            Err(JournalError::Conflict)
        ),
        "above the ceiling"
    );
    assert_eq!(journal.read(0, 10).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draw_closes_once_and_admits_no_later_entry() {
    use crate::waiting_room::draw::{digest::Digest, progress::ClosedEntries};
    let server = Postgres::start().await.unwrap();
    let url = server.create_database("draws").await.unwrap();
    let journal = journal(&url, "a").await;
    let closed = |entries, persons| {
        let journal = &journal;
        let closed = ClosedEntries {
            entries,
            persons,
            root: Digest([0; 32]),
            round: 1,
        };
        async move {
            journal
                .append(0, &[event(Event::EntriesClosed(Box::new(closed)))])
                .await
        }
    };
    let joined = |first, subjects| {
        let journal = &journal;
        async move { journal.append(0, &[joins(first, subjects)]).await }
    };
    joined(1, 0..10).await.unwrap();
    joined(13, 10..20).await.unwrap();
    assert!(
        matches!(closed(15, 12).await, Err(JournalError::Conflict)),
        "one entry was not counted"
    );
    closed(15, 13).await.unwrap();
    assert!(
        matches!(closed(15, 13).await, Err(JournalError::Conflict)),
        "once"
    );
    assert!(
        matches!(joined(11, 30..31).await, Err(JournalError::Conflict)),
        "a number in the draw"
    );
    joined(23, 30..31).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admission_and_its_lapse_exclude_each_other() {
    let server = Postgres::start().await.unwrap();
    let url = server.create_database("lapses").await.unwrap();
    let journal = journal(&url, "a").await;
    let entropy = SeededEntropy::new(1);
    let (late, written) = (VisitId::random(&entropy), VisitId::random(&entropy));
    journal
        .append(
            0,
            &[event(Event::ReservationLapsed {
                number: 1,
                visit: late,
            })],
        )
        .await
        .unwrap();
    let entered = |number, visit| {
        event(Event::Admitted {
            number,
            subject: u64::from(number),
            visit,
        })
    };
    assert!(matches!(
        journal.append(0, &[entered(1, late)]).await,
        Err(JournalError::Conflict)
    ));
    journal.append(0, &[entered(2, written)]).await.unwrap();
    let lapse = [event(Event::ReservationLapsed {
        number: 2,
        visit: written,
    })];
    assert!(matches!(
        journal.append(0, &lapse).await,
        Err(JournalError::Conflict)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_nodes_sees_a_long_silence() {
    let server = Postgres::start().await.unwrap();
    let url = server.create_database("beats").await.unwrap();
    let journal = journal(&url, "a").await;
    let at = Timestamp::from_secs;
    assert_eq!(journal.heartbeat(at(10)).await.unwrap(), None);
    assert_eq!(journal.heartbeat(at(11)).await.unwrap(), Some(at(10)));
    assert_eq!(journal.heartbeat(at(50)).await.unwrap(), Some(at(11)));
    assert_eq!(journal.heartbeat(at(50)).await.unwrap(), Some(at(50)));
    assert_eq!(
        journal.heartbeat(at(49)).await.unwrap(),
        Some(at(50)),
        "a slow clock sets nothing back"
    );
    assert_eq!(journal.heartbeat(at(51)).await.unwrap(), Some(at(50)));
}
