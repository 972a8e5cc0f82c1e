//! The conformance suite on PostgreSQL, and what only a ledger of several nodes must guarantee.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sqlx::PgPool;
use testkit::Postgres;

use super::{PostgresLedger, ledger::TIMEOUT};
use crate::{
    checkout::{
        ledger::{
            conformance::{
                self,
                fixtures::{self, Request, at, lease_request},
            },
            port::{ClaimOutcome, Ledger, LedgerError, OpenOutcome},
        },
        order::OrderState,
        outbox::{
            conformance::outbox_conformance,
            event::{ORDER_BOOKED, ORDER_PAID},
        },
    },
    kernel::OsEntropy,
};

async fn node(url: &str, name: &str) -> PostgresLedger {
    PostgresLedger::open(url, name, Arc::new(OsEntropy))
        .await
        .unwrap()
}

async fn a_ledger() -> (Postgres, String) {
    let server = Postgres::start().await.unwrap();
    let url = server.create_database("ledger").await.unwrap();
    (server, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_conformance_suite() {
    let (_server, url) = a_ledger().await;
    conformance::all(&node(&url, "a").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_conformance_suite_of_the_outbox() {
    let server = Postgres::start().await.unwrap();
    let mut databases = 0;
    outbox_conformance!({
        databases += 1;
        let url = server
            .create_database(&format!("outbox_{databases}"))
            .await
            .unwrap();
        node(&url, "a").await
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_on_several_nodes_give_each_seat_once() {
    let (server, url) = a_ledger().await;
    let nodes = [
        node(&url, "a").await,
        node(&url, "b").await,
        node(&url, "c").await,
    ];
    // Every order wants three of twelve seats, in an order of its own, so that they overlap in every way.
    let seat = |n: u32| format!("S-{}", n % 12);
    let mut leases = Vec::new();
    for buyer in 0..72 {
        let step = [1, 5, 7, 11][buyer as usize % 4];
        let wanted = [seat(buyer), seat(buyer + step), seat(buyer + 2 * step)];
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        leases.push((
            fixtures::open(&nodes[0], &Request::new(buyer, &wanted)).await,
            wanted.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ));
    }
    for round in 0..4 {
        let claims = leases
            .iter()
            .zip(nodes.iter().cycle())
            .map(|((lease, _), node)| node.claim(*lease, 4, at(round)));
        let claimed = futures_util::future::join_all(claims).await;
        let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
        let mut winners = Vec::new();
        for ((lease, seats), claim) in leases.iter().zip(&claimed) {
            match claim {
                Ok(ClaimOutcome::Claimed) => {
                    winners.push(*lease);
                    for seat in seats {
                        *owners.entry(seat).or_default() += 1;
                    }
                }
                Ok(ClaimOutcome::SeatsTaken) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(!winners.is_empty(), "some orders get their seats");
        assert!(
            owners.values().all(|count| *count == 1),
            "each seat once: {owners:?}"
        );
        // Request back while others are at it, half of them by another node.
        let releases = winners
            .iter()
            .zip(nodes.iter().cycle())
            .map(|(lease, node)| node.release_claims(*lease, at(round)));
        assert!(
            futures_util::future::join_all(releases)
                .await
                .iter()
                .all(Result::is_ok)
        );
    }
    let log = server.log_text().unwrap();
    assert!(!log.contains("deadlock"), "no transaction deadlocked: {log}");
}

/// A seat that is claimed and released while another order waits for it gets a new fence all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_is_issued_once_however_long_a_claim_waited() {
    let (_server, url) = a_ledger().await;
    let ledger = node(&url, "a").await;
    let pool = PgPool::connect(&url).await.unwrap();
    let blocker = fixtures::open(&ledger, &Request::new(1, &["W-1"])).await;
    let waiter = fixtures::open(&ledger, &Request::new(2, &["W-1", "W-2"])).await;
    let between = fixtures::open(&ledger, &Request::new(3, &["W-2"])).await;
    // Holds the first seat in a transaction that will be rolled back.
    let mut blocking = pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO stagedoor_ledger.seat_claim SELECT 'spring', 'friday', 'W-1', $1, 99, 'claimed', 0",
    )
    .bind(blocker.order.to_string())
    .execute(&mut *blocking)
    .await
    .unwrap();
    let claiming = ledger.claim(waiter, 4, at(1));
    let meanwhile = async {
        let waits = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock')";
        while !sqlx::query_scalar::<_, bool>(waits)
            .fetch_one(&pool)
            .await
            .unwrap()
        {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            ledger.claim(between, 4, at(2)).await.unwrap(),
            ClaimOutcome::Claimed
        );
        ledger.release_claims(between, at(3)).await.unwrap();
        blocking.rollback().await.unwrap();
    };
    let (claimed, ()) = tokio::join!(claiming, meanwhile);
    assert_eq!(claimed.unwrap(), ClaimOutcome::Claimed);
    let fence: i64 = sqlx::query_scalar("SELECT fence FROM stagedoor_ledger.seat_claim WHERE seat = 'W-2'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(fence, 2, "fence 1 was issued to the other order");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_due_sagas_and_fence_off_old_leases() {
    let (_server, url) = a_ledger().await;
    let (a, b) = (node(&url, "a").await, node(&url, "b").await);
    let mut old = Vec::new();
    for buyer in 0..60 {
        old.push(fixtures::open(&a, &Request::new(buyer, &[&format!("D-{buyer}")])).await);
    }
    let mut leased: BTreeMap<String, i64> = BTreeMap::new();
    let rounds =
        (0..8).map(|n| either(n, &a, &b).lease_due_sagas(lease_request(["a", "b"][n % 2], 5_000), false, 20));
    for saga in futures_util::future::join_all(rounds)
        .await
        .into_iter()
        .flat_map(Result::unwrap)
    {
        assert_eq!(
            leased.insert(saga.lease.order.to_string(), saga.lease.fence),
            None,
            "leased twice"
        );
        assert_eq!(saga.lease.fence, 2, "each lease has a fence of its own");
    }
    assert_eq!(leased.len(), 60, "none was left out");
    for lease in &old {
        assert!(matches!(
            a.claim(*lease, 4, at(1)).await,
            Err(LedgerError::LeaseLost)
        ));
        assert!(matches!(
            a.record_progress(*lease, fixtures::progress("claim")).await,
            Err(LedgerError::LeaseLost)
        ));
        assert!(matches!(
            a.close_order(*lease, OrderState::Declined, None, None, at(1))
                .await,
            Err(LedgerError::LeaseLost)
        ));
    }
    assert_eq!(
        a.lease_due_sagas(lease_request("a", 5_500), false, 100)
            .await
            .unwrap()
            .len(),
        0,
        "the leases have not expired"
    );
    let own = a
        .lease_due_sagas(lease_request("a", 5_500), true, 100)
        .await
        .unwrap();
    let others = b
        .lease_due_sagas(lease_request("b", 5_500), true, 100)
        .await
        .unwrap();
    assert_eq!(
        own.len() + others.len(),
        60,
        "after a restart each node finds its own"
    );
}

fn either<'a>(n: usize, a: &'a PostgresLedger, b: &'a PostgresLedger) -> &'a PostgresLedger {
    if n.is_multiple_of(2) { a } else { b }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_on_two_nodes_open_one_order() {
    let (_server, url) = a_ledger().await;
    let (a, b) = (node(&url, "a").await, node(&url, "b").await);
    for buyer in 0..20 {
        let request = Request::new(buyer, &["K-1"]);
        let same_key = (0..6).map(|n| fixtures::try_open(either(n, &a, &b), &request));
        let opened: Vec<_> = futures_util::future::join_all(same_key)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            opened
                .iter()
                .filter(|outcome| matches!(outcome, OpenOutcome::New(_)))
                .count(),
            1,
            "{opened:?}"
        );
        // The same hold under different keys: all get the one open attempt.
        let other = Request::new(buyer + 100, &["K-2"]);
        let keys: Vec<_> = (0..6).map(|n| other.with_key(&n.to_string())).collect();
        let same_hold = keys
            .iter()
            .enumerate()
            .map(|(n, request)| fixtures::try_open(either(n, &a, &b), request));
        let opened: Vec<_> = futures_util::future::join_all(same_hold)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let new: Vec<_> = opened
            .iter()
            .filter_map(|outcome| {
                if let OpenOutcome::New(lease) = outcome {
                    Some(lease.order)
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(new.len(), 1, "{opened:?}");
        assert!(
            opened
                .iter()
                .all(|outcome| !matches!(outcome, OpenOutcome::Existing(order) if *order != new[0])),
            "{opened:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_node_chains_the_journal_which_is_append_only() {
    let (server, url) = a_ledger().await;
    let (a, b) = (node(&url, "a").await, node(&url, "b").await);
    let opening = (0..40).map(|n| {
        let (here, there) = (either(n, &a, &b), either(n + 1, &a, &b));
        let request = Request::new(u32::try_from(n).unwrap(), &[&format!("L-{n}")]);
        async move {
            fixtures::open(here, &request).await;
            there.chain_journal().await.unwrap()
        }
    });
    let linked: u64 = futures_util::future::join_all(opening).await.into_iter().sum();
    assert_eq!(linked + a.chain_journal().await.unwrap(), 40, "each row once");
    assert_eq!(b.chain_journal().await.unwrap(), 0);
    let pool = PgPool::connect(&url).await.unwrap();
    let rows: Vec<(i64, i64, String, String, Vec<u8>)> = sqlx::query_as(
        "SELECT sequence, at, order_id, change, hash FROM stagedoor_ledger.order_journal ORDER BY sequence",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let mut hash = Vec::new();
    for (place, (n, at, order, what, stored)) in rows.into_iter().enumerate() {
        assert_eq!(usize::try_from(n).unwrap(), place + 1, "without a gap");
        hash.extend_from_slice(format!("{at}|{order}|{what}").as_bytes());
        hash = crate::platform::signing::sha256(&hash).to_vec();
        assert_eq!(hash, stored, "row {n}");
    }
    fixtures::open(&a, &Request::new(900, &["L-900"])).await;
    for forbidden in [
        "UPDATE stagedoor_ledger.order_journal SET change = 'nothing'",
        "UPDATE stagedoor_ledger.order_journal SET hash = '' WHERE sequence = 1",
        "UPDATE stagedoor_ledger.order_journal SET change = 'nothing', sequence = 99, hash = ''
         WHERE sequence IS NULL",
        "INSERT INTO stagedoor_ledger.order_journal (at, order_id, change, sequence, hash)
         VALUES (1, 'x', 'booked', 99, '')",
        "DELETE FROM stagedoor_ledger.order_journal",
        "TRUNCATE stagedoor_ledger.order_journal",
    ] {
        let error = server.run("ledger", forbidden).await.expect_err(forbidden);
        assert!(error.to_string().contains("append-only"), "{forbidden}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_server_is_reported_in_time_and_returns() {
    let (mut server, url) = a_ledger().await;
    let ledger = node(&url, "a").await;
    let request = Request::new(1, &["Z-1", "Z-2"]);
    let lease = fixtures::open(&ledger, &request).await;
    assert_eq!(
        ledger.claim(lease, 4, at(1)).await.unwrap(),
        ClaimOutcome::Claimed
    );
    server.kill9().unwrap();
    let authorization_sent = async {
        let away = [
            ledger.lock_claims(lease).await.map(|_| ()),
            ledger.order(lease.order).await.map(|_| ()),
        ];
        assert!(
            away.iter()
                .all(|outcome| matches!(outcome, Err(LedgerError::Unavailable(_)))),
            "{away:?}"
        );
    };
    tokio::time::timeout(TIMEOUT * 2 + Duration::from_millis(500), authorization_sent)
        .await
        .expect("within their timeouts");
    server.restart().await.unwrap();
    assert!(ledger.lock_claims(lease).await.unwrap(), "with the next call");
    assert!(
        ledger
            .book(
                lease,
                fixtures::tickets(&["Z-1", "Z-2"]),
                fixtures::event(ORDER_BOOKED),
                at(2)
            )
            .await
            .unwrap()
    );
    assert_eq!(ledger.tickets(lease.order).await.unwrap().len(), 2);
}

/// Calls that were in progress when the server died are repeated until they are answered. Nothing is lost and
/// nothing happens twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_keeps_every_answer_that_it_gave() {
    let (mut server, url) = a_ledger().await;
    let ledger = Arc::new(node(&url, "a").await);
    let pool = PgPool::connect(&url).await.unwrap();
    let mut buying = Vec::new();
    for buyer in 0..60_u32 {
        let ledger = Arc::clone(&ledger);
        buying.push(tokio::spawn(async move {
            // One after the other, so that the server is killed while some are under way.
            tokio::time::sleep(Duration::from_millis(u64::from(buyer) * 20)).await;
            let seat = format!("X-{}", buyer / 2);
            let request = Request::new(buyer, &[&seat]);
            let order = request.order();
            let lease = loop {
                match ledger.open_order(order.clone(), lease_request("a", 0)).await {
                    Ok(OpenOutcome::New(lease)) => break lease,
                    Ok(other) => panic!("{other:?}"),
                    Err(LedgerError::Unavailable(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            };
            let claimed = until_answered(|| ledger.claim(lease, 4, at(1))).await;
            if claimed == ClaimOutcome::Claimed {
                assert!(until_answered(|| ledger.lock_claims(lease)).await);
                let tickets = fixtures::tickets(&[&seat]);
                assert!(
                    until_answered(|| ledger.book(
                        lease,
                        tickets.clone(),
                        fixtures::event(ORDER_BOOKED),
                        at(2)
                    ))
                    .await
                );
                until_answered(|| ledger.record_capture(lease, fixtures::event(ORDER_PAID), at(3))).await;
            } else {
                assert_eq!(claimed, ClaimOutcome::SeatsTaken);
            }
            (lease, claimed)
        }));
    }
    while sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM stagedoor_ledger.ticket")
        .fetch_one(&pool)
        .await
        .unwrap()
        < 5
    {
        tokio::task::yield_now().await;
    }
    server.kill9().unwrap();
    assert!(
        buying.iter().any(|buyer| !buyer.is_finished()),
        "it was killed in the middle"
    );
    server.restart().await.unwrap();
    let mut sold = 0;
    for buyer in buying {
        let (lease, claimed) = buyer.await.unwrap();
        let tickets = ledger.tickets(lease.order).await.unwrap().len();
        assert_eq!(
            tickets,
            usize::from(claimed == ClaimOutcome::Claimed),
            "what was answered is stored"
        );
        assert_eq!(
            fixtures::events_of(ledger.as_ref(), lease.order).await.len(),
            2 * tickets,
            "exactly once"
        );
        sold += tickets;
    }
    assert_eq!(sold, 30, "each seat once");
}

async fn until_answered<T, F: Future<Output = Result<T, LedgerError>>>(call: impl Fn() -> F) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(LedgerError::Unavailable(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
}
