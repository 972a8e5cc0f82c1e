//! The relay on both ledgers, by a clock that the test moves, against receivers that fail in every way.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use testkit::Postgres;

use super::{
    conformance::{LedgerWithOutbox, book, pay},
    port::{LeasedEvent, Outbox},
    receiver::{DeliveryOutcome, EventReceiver},
    relay::{RETRY_FOR, Relay},
};
use crate::{
    checkout::ledger::{
        conformance::fixtures::at, port::FencedLease, postgres::PostgresLedger, sqlite::SqliteLedger,
    },
    kernel::{Clock, ManualClock, OsEntropy, SeededEntropy},
    platform::shutdown::Lifecycle,
};

/// What a receiver answers to its nth call, counted from 0.
type Answers = Box<dyn Fn(u64) -> DeliveryOutcome + Send + Sync>;

struct FakeReceiver {
    answers: Mutex<Answers>,
    calls: AtomicU64,
    accepted: Mutex<Vec<(String, Value)>>,
    /// Answers of a receiver that is being waited for are lost with the process that waits.
    is_hanging: AtomicBool,
}

impl FakeReceiver {
    fn new(answers: impl Fn(u64) -> DeliveryOutcome + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(Box::new(answers)),
            calls: AtomicU64::new(0),
            accepted: Mutex::default(),
            is_hanging: AtomicBool::new(false),
        })
    }

    fn answer_with(&self, answers: impl Fn(u64) -> DeliveryOutcome + Send + Sync + 'static) {
        *self.answers.lock() = Box::new(answers);
    }

    /// The sequences of each order as they were first accepted.
    fn first_seen(&self) -> BTreeMap<String, Vec<i64>> {
        let mut seen: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for (id, _) in self.accepted.lock().iter() {
            let (stream, sequence) = id.split_once(':').unwrap();
            let of_stream = seen.entry(stream.to_owned()).or_default();
            let sequence = sequence.parse().unwrap();
            if !of_stream.contains(&sequence) {
                of_stream.push(sequence);
            }
        }
        seen
    }
}

#[async_trait]
impl EventReceiver for FakeReceiver {
    async fn deliver(&self, id: &str, body: Bytes) -> DeliveryOutcome {
        if self.is_hanging.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let outcome = (self.answers.lock())(self.calls.fetch_add(1, Ordering::SeqCst));
        if outcome == DeliveryOutcome::Accepted {
            let event = serde_json::from_slice(&body).unwrap();
            self.accepted.lock().push((id.to_owned(), event));
        }
        outcome
    }
}

fn accepted(_: u64) -> DeliveryOutcome {
    DeliveryOutcome::Accepted
}

fn down(_: u64) -> DeliveryOutcome {
    DeliveryOutcome::Failed("no connection: nothing was sent".into())
}

fn relay(outbox: Arc<dyn Outbox>, receiver: &Arc<FakeReceiver>, clock: &Arc<ManualClock>) -> Relay {
    Relay {
        outbox,
        receiver: Arc::clone(receiver) as _,
        clock: Arc::clone(clock) as _,
        entropy: Arc::new(SeededEntropy::new(7)),
        lifecycle: Lifecycle::new(),
        public_base: "https://tickets.example/".into(),
        timeout: Duration::from_secs(5),
        requests_max: 4,
        last_failure_at: Mutex::default(),
    }
}

/// Sends what is due now; returns how many streams were.
async fn pass(relay: &Relay) -> usize {
    let leased = relay.lease(100).await.unwrap();
    let count = leased.len();
    for event in leased {
        relay.deliver_stream(event).await;
    }
    count
}

/// Lets time pass, in steps, until nothing is to be sent.
async fn until_delivered(relays: &[&Relay], clock: &ManualClock, outbox: &dyn Outbox) -> Duration {
    let started = clock.now();
    while outbox.outbox_counts().await.unwrap().undelivered > 0 {
        for relay in relays {
            pass(relay).await;
        }
        clock.advance(Duration::from_secs(1));
        assert!(clock.now().since(started) < RETRY_FOR, "never delivered");
    }
    clock.now().since(started)
}

async fn orders(ledger: &dyn LedgerWithOutbox, count: u32) -> Vec<FencedLease> {
    let mut orders = Vec::new();
    for buyer in 0..count {
        let order = book(ledger, buyer, 0).await;
        pay(ledger, order, 1).await;
        orders.push(order);
    }
    orders
}

fn assert_each_order_in_order(receiver: &FakeReceiver, orders: &[FencedLease]) {
    let expected: BTreeMap<_, _> = orders
        .iter()
        .map(|order| (order.order.to_string(), vec![1, 2]))
        .collect();
    assert_eq!(receiver.first_seen(), expected);
}

/// Both ledgers, each in `case` twice: as two nodes see it.
async fn on_both<F: Future<Output = ()>>(
    case: impl Fn(Arc<dyn LedgerWithOutbox>, [Arc<dyn Outbox>; 2]) -> F,
) {
    let (dir, lifecycle) = (tempfile::tempdir().unwrap(), Lifecycle::new());
    let file = dir.path().join("ledger.db");
    let ledger = Arc::new(SqliteLedger::open(&file, "a", &lifecycle).await.unwrap());
    case(Arc::clone(&ledger) as _, [Arc::clone(&ledger) as _, ledger]).await;
    lifecycle.stop();
    let server = Postgres::start().await.unwrap();
    let url = server.create_database("ledger").await.unwrap();
    let [one, other] = ["a", "b"].map(|name| PostgresLedger::open(&url, name, Arc::new(OsEntropy)));
    let (one, other) = (Arc::new(one.await.unwrap()), Arc::new(other.await.unwrap()));
    case(Arc::clone(&one) as _, [one, other]).await;
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(at(10)))
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_cloud_events_that_keep_their_ids() {
    on_both(async |ledger, [outbox, _]| {
        let (receiver, clock) = (
            FakeReceiver::new(|n| if n == 0 { down(n) } else { accepted(n) }),
            clock(),
        );
        let order = book(ledger.as_ref(), 1, 0).await.order.to_string();
        let relay = relay(Arc::clone(&outbox), &receiver, &clock);
        until_delivered(&[&relay], &clock, outbox.as_ref()).await;
        let (id, event) = receiver.accepted.lock()[0].clone();
        assert_eq!(id, format!("{order}:1"));
        let expected = serde_json::json!({
            "specversion": "1.0",
            "id": id,
            "source": "https://tickets.example/v1/sales/spring",
            "type": "stagedoor.order.booked.v1",
            "subject": order,
            "time": at(0),
            "datacontenttype": "application/json",
            "sequence": "0000000001",
            "data": {},
        });
        assert_eq!(event, expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_down_gets_everything_in_order() {
    on_both(async |ledger, [outbox, _]| {
        let (receiver, clock) = (FakeReceiver::new(down), clock());
        let orders = orders(ledger.as_ref(), 5).await;
        let relay = relay(Arc::clone(&outbox), &receiver, &clock);
        for _ in 0..3_600 {
            pass(&relay).await;
            clock.advance(Duration::from_secs(1));
        }
        let attempts = receiver.calls.load(Ordering::SeqCst);
        assert!((50..120).contains(&attempts), "pauses grow: {attempts}");
        receiver.answer_with(accepted);
        let recovered_in = until_delivered(&[&relay], &clock, outbox.as_ref()).await;
        assert!(recovered_in <= Duration::from_mins(11), "{recovered_in:?}");
        assert_each_order_in_order(&receiver, &orders);
        assert_eq!(outbox.dead_letters("", 9).await.unwrap(), []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_every_second_time_gets_everything() {
    on_both(async |ledger, [outbox, _]| {
        let every_second = |n: u64| {
            if n.is_multiple_of(2) {
                DeliveryOutcome::Failed("answered 500".into())
            } else {
                DeliveryOutcome::Accepted
            }
        };
        let (receiver, clock) = (FakeReceiver::new(every_second), clock());
        let orders = orders(ledger.as_ref(), 20).await;
        let relay = relay(Arc::clone(&outbox), &receiver, &clock);
        until_delivered(&[&relay], &clock, outbox.as_ref()).await;
        assert_each_order_in_order(&receiver, &orders);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_dead_after_three_days() {
    on_both(async |ledger, [outbox, _]| {
        let (receiver, clock) = (FakeReceiver::new(down), clock());
        let order = orders(ledger.as_ref(), 1).await[0].order.to_string();
        let relay = relay(Arc::clone(&outbox), &receiver, &clock);
        pass(&relay).await;
        clock.advance(RETRY_FOR.saturating_sub(Duration::from_secs(1)));
        assert_eq!(pass(&relay).await, 1);
        assert_eq!(outbox.outbox_counts().await.unwrap().dead, 0);
        clock.advance(Duration::from_mins(11));
        assert_eq!(pass(&relay).await, 1);
        let letters = outbox.dead_letters("", 9).await.unwrap();
        assert_eq!(letters[0].event.id.to_string(), format!("{order}:1"));
        assert_eq!((letters[0].attempts, letters[0].waiting), (3, 1));
        clock.advance(RETRY_FOR);
        assert_eq!(pass(&relay).await, 0, "it stops its order");

        let id = letters[0].event.id.clone();
        assert!(outbox.resend_dead_letter(&id, clock.now()).await.unwrap());
        pass(&relay).await;
        assert_eq!(
            outbox.outbox_counts().await.unwrap().dead,
            0,
            "with three more days"
        );
        clock.advance(RETRY_FOR + Duration::from_mins(11));
        pass(&relay).await;
        assert_eq!(outbox.outbox_counts().await.unwrap().dead, 1);
        receiver.answer_with(accepted);
        assert!(outbox.skip_dead_letter(&id, "kim", clock.now()).await.unwrap());
        until_delivered(&[&relay], &clock, outbox.as_ref()).await;
        assert_eq!(receiver.first_seen(), [(order, vec![2])].into());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_share_the_work_and_send_nothing_twice() {
    on_both(async |ledger, outboxes| {
        let (receiver, clock) = (FakeReceiver::new(accepted), clock());
        let orders = orders(ledger.as_ref(), 40).await;
        let relays = outboxes.map(|outbox| relay(outbox, &receiver, &clock));
        // Both have one before either delivers: on a busy machine one could be done before the other begins.
        let mut firsts = Vec::new();
        for relay in &relays {
            firsts.push(relay.lease(1).await.unwrap());
        }
        let send = async |relay: &Relay, first: Vec<LeasedEvent>| {
            let (mut streams, mut leased) = (0, first);
            while !leased.is_empty() {
                streams += leased.len();
                for event in leased {
                    relay.deliver_stream(event).await;
                }
                leased = relay.lease(1).await.unwrap();
            }
            streams
        };
        let (second, first) = (firsts.pop().unwrap(), firsts.pop().unwrap());
        let (one, other) = tokio::join!(send(&relays[0], first), send(&relays[1], second));
        assert_eq!(one + other, 40);
        assert!(one > 0 && other > 0, "{one} and {other}");
        assert_eq!(receiver.accepted.lock().len(), 80);
        assert_each_order_in_order(&receiver, &orders);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_of_a_killed_relay_pass_on() {
    on_both(async |ledger, [outbox, other]| {
        let (receiver, clock) = (FakeReceiver::new(accepted), clock());
        let orders = orders(ledger.as_ref(), 3).await;
        let killed = relay(outbox, &receiver, &clock);
        receiver.is_hanging.store(true, Ordering::SeqCst);
        // Its process dies while it waits for the receiver.
        assert!(
            tokio::time::timeout(Duration::from_millis(200), pass(&killed))
                .await
                .is_err()
        );
        receiver.is_hanging.store(false, Ordering::SeqCst);
        let heir = relay(Arc::clone(&other), &receiver, &clock);
        assert_eq!(pass(&heir).await, 0, "leased by the dead one");
        let took = until_delivered(&[&heir], &clock, other.as_ref()).await;
        assert!(took < Duration::from_secs(20), "{took:?}");
        assert_each_order_in_order(&receiver, &orders);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_relay_leaves_its_streams_to_others() {
    on_both(async |ledger, [outbox, other]| {
        let (receiver, clock) = (FakeReceiver::new(accepted), clock());
        orders(ledger.as_ref(), 2).await;
        let stopped = relay(outbox, &receiver, &clock);
        let leased = stopped.lease(9).await.unwrap();
        stopped.lifecycle.stop();
        for event in leased {
            stopped.deliver_stream(event).await;
        }
        assert_eq!(receiver.calls.load(Ordering::SeqCst), 0);
        assert_eq!(pass(&relay(other, &receiver, &clock)).await, 2);
    })
    .await;
}
