//! Checkout with the seating context and the sandbox gateway over HTTP: a crowd buys, the process restarts,
//! nothing is lost.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use testkit::Postgres;
use tokio::net::TcpListener;

use super::world::buyer;
use crate::{
    audit::{
        OrderState,
        databases::{self as audited, DatabaseLocation, Databases},
    },
    checkout::{
        Checkout, Config, Deps, LedgerLocation, PlaceOrder, PlaceOutcome, SaleConfig,
        gateways::sandbox::SandboxGateway, ledger::conformance::fixtures::performance_key,
        webhooks::WebhookSecret,
    },
    demo::sandbox_gateway::{SandboxConfig, serve},
    kernel::{Currency, Money, OsEntropy, SystemClock, Timestamp, VisitId},
    platform::{keys::Keys, shutdown::Lifecycle},
    seating::{self, HoldOutcome, HoldSpec, Plan, Seating, VenueKind, generate},
};

const CROWD: u32 = 60;

async fn open(
    ledger: &LedgerLocation,
    keys: &Keys,
    gateway: &SandboxGateway,
    plan: &Arc<Plan>,
) -> (Arc<Seating>, Arc<Checkout>, Lifecycle) {
    let lifecycle = Lifecycle::new();
    let prices: BTreeMap<_, _> = plan
        .zones()
        .iter()
        .map(|zone| (zone.clone(), Money::new(1_000, Currency::KRW)))
        .collect();
    let config = seating::Config {
        sale: performance_key().sale,
        performance: performance_key().performance,
        prices,
        hold_ttl: Duration::from_mins(5),
        extensions_max: 1,
        seats_per_customer_max: 4,
        seat_streams_max: 10,
        doors_open_at: Timestamp::from_millis(i64::MAX),
    };
    let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(OsEntropy));
    let deps = seating::Deps {
        store: seating::StoreBackend::Memory,
        clock: clock.clone(),
        entropy: entropy.clone(),
        lifecycle: lifecycle.clone(),
    };
    let seats = Seating::open(vec![(config, Arc::clone(plan))], deps)
        .await
        .unwrap();
    let config = Config {
        sales: vec![SaleConfig {
            sale: performance_key().sale,
            title: "Spring".into(),
            seats_per_customer_max: 4,
            doors_open_at: [(performance_key().performance, Timestamp::from_millis(i64::MAX))].into(),
        }],
        issuer: "https://tickets.example".into(),
        order_response_wait: Duration::from_secs(30),
        gateway_timeout: Duration::from_secs(5),
        payment_timeout: Duration::from_secs(20),
        payment_page_timeout: Duration::from_mins(10),
    };
    let deps = Deps {
        clock,
        entropy,
        keys: keys.clone(),
        ledger: ledger.clone(),
        node_name: "a".into(),
        seats: seats.clone(),
        gateway: Arc::new(gateway.clone()),
        events: None,
        lifecycle: lifecycle.clone(),
        ledger_lifecycle: lifecycle.clone(),
    };
    let checkout = Checkout::open(config, deps).await.unwrap();
    (seats, checkout, lifecycle)
}

async fn buy(seats: Arc<Seating>, checkout: Arc<Checkout>, n: u32) -> PlaceOutcome {
    let performance = seats
        .performance(&performance_key().sale, &performance_key().performance)
        .unwrap();
    let (customer, visit) = (buyer(n), VisitId::random(&OsEntropy));
    let request = HoldSpec::BestAvailable {
        quantity: 2,
        zone: None,
        section: None,
        accessible: 0,
    };
    let HoldOutcome::Held(hold) = performance.hold(&customer, visit, request, None).await.unwrap() else {
        panic!("no hold")
    };
    let token = if n.is_multiple_of(6) {
        "tok_declined"
    } else {
        "tok_ok"
    };
    let order = PlaceOrder {
        sale: performance_key().sale,
        buyer: customer,
        visit,
        hold: hold.id,
        token: Some(token.into()),
        idempotency_key: "k".into(),
    };
    checkout.place_order(order).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_buys_and_a_restart_loses_no_order() {
    let dir = tempfile::tempdir().unwrap();
    a_crowd_buys_on(&LedgerLocation::File(dir.path().join("ledger.db"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_buys_on_postgresql() {
    let server = Postgres::start().await.unwrap();
    a_crowd_buys_on(&LedgerLocation::Postgres {
        url: server.create_database("tickets").await.unwrap(),
    })
    .await;
}

async fn a_crowd_buys_on(ledger: &LedgerLocation) {
    let (dir, keys, gateway_lifecycle) = (
        tempfile::tempdir().unwrap(),
        Keys::ephemeral(&OsEntropy),
        Lifecycle::new(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let gateway_config = SandboxConfig {
        database_file: dir.path().join("gateway.db"),
        public_url: base.clone(),
        webhook: None,
        slow: Duration::from_secs(3),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(OsEntropy),
    };
    tokio::spawn(serve(listener, gateway_config, gateway_lifecycle.clone()));
    let gateway = SandboxGateway::new(&base, WebhookSecret::new(b"s"), Duration::from_secs(5)).unwrap();
    let plan = Arc::new(Plan::parse(&generate(VenueKind::Theatre, 300)).unwrap());

    let (seats, checkout, lifecycle) = open(ledger, &keys, &gateway, &plan).await;
    let bought = (0..CROWD).map(|n| tokio::spawn(buy(Arc::clone(&seats), Arc::clone(&checkout), n)));
    let outcomes: Vec<_> = futures_util::future::join_all(bought)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let declined = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, PlaceOutcome::Declined { .. }))
        .count();
    let mut sold: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| {
            if let PlaceOutcome::Paid(order) = outcome {
                Some(order.seats.clone())
            } else {
                None
            }
        })
        .flatten()
        .collect();
    assert_eq!((declined, sold.len()), (10, 100), "{outcomes:?}");
    sold.sort();
    sold.dedup();
    assert_eq!(sold.len(), 100, "I1: no seat twice");
    lifecycle.stop();
    assert!(lifecycle.wait_idle(Duration::from_secs(10)).await);

    let (seats, checkout, lifecycle) = open(ledger, &keys, &gateway, &plan).await;
    let performance = seats
        .performance(&performance_key().sale, &performance_key().performance)
        .unwrap();
    assert_eq!(
        performance.stock().iter().map(|zone| zone.booked).sum::<u32>(),
        100,
        "I8: the seat store has the sold seats again"
    );
    let mine = checkout
        .orders_of(&performance_key().sale, &buyer(1))
        .await
        .unwrap();
    assert_eq!(
        checkout
            .tickets(mine[0].id, &buyer(1))
            .await
            .unwrap()
            .unwrap()
            .len(),
        2,
        "I7"
    );
    lifecycle.stop();
    gateway_lifecycle.stop();

    // The independent auditor reads the same sale from the databases.
    let ledger = match ledger {
        LedgerLocation::File(file) => DatabaseLocation::File(file.clone()),
        LedgerLocation::Postgres { url } => DatabaseLocation::Postgres(url.clone()),
    };
    let journal = dir.path().join("queue.db");
    let mut empty = SqliteConnection::connect_with(
        &SqliteConnectOptions::new()
            .filename(&journal)
            .create_if_missing(true),
    )
    .await
    .unwrap();
    sqlx::raw_sql(include_str!(
        "../../waiting_room/journal/sqlite/migrations/0001_journal.sql"
    ))
    .execute(&mut empty)
    .await
    .unwrap();
    let databases = Databases {
        ledger,
        journal: DatabaseLocation::File(journal),
        gateway: Some(dir.path().join("gateway.db")),
    };
    let evidence = audited::read_from(&databases, &performance_key().sale)
        .await
        .unwrap();
    let with = |state| {
        evidence
            .orders
            .iter()
            .filter(|order| order.state == state)
            .count()
    };
    assert_eq!(
        (
            with(OrderState::Paid),
            with(OrderState::Ended),
            evidence.orders.len()
        ),
        (50, 10, 60)
    );
    assert_eq!(
        (
            evidence.ledger_booked.len(),
            evidence.claims.len(),
            evidence.tickets.len()
        ),
        (100, 100, 100)
    );
    assert!(
        evidence
            .orders
            .iter()
            .all(|order| order.seats.len() == 2 && order.total == 2_000)
    );
    assert_eq!(
        evidence
            .payments
            .iter()
            .flatten()
            .map(|payment| payment.captured)
            .sum::<i64>(),
        100_000
    );
}
