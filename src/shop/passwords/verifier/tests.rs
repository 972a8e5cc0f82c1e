use std::{net::Ipv4Addr, num::NonZeroU32};

use super::*;
use crate::kernel::{SeededEntropy, SystemClock};

const FEW: NonZeroU32 = NonZeroU32::new(10).unwrap();
const ONE: IpAddr = network(1);

const fn network(client: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, client))
}

fn threads(threads: usize, waiting_max: usize) -> PasswordVerifier {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let entropy = Arc::new(SeededEntropy::new(1));
    let limits = PasswordLimits {
        threads,
        queue_max: waiting_max,
        wait_max: Duration::from_mins(1),
    };
    PasswordVerifier::start(limits, Vec::new(), &clock, entropy).unwrap()
}

#[tokio::test]
async fn slots_are_released_after_verification() {
    let threads = threads(2, 1);
    let hash = django_hash("hero-lim", "salt", FEW);
    for _ in 0..10 {
        for (password, stored, verdict) in [
            ("hero-lim", Some(&*hash), Verdict::Right),
            ("hero", Some(&*hash), Verdict::Wrong),
            ("", None, Verdict::Wrong),
            ("x", Some("!unusable"), Verdict::Wrong),
        ] {
            let slot = threads.try_reserve(ONE).unwrap();
            assert_eq!(threads.verify(slot, password, stored).await, verdict);
        }
    }
    let slots: Vec<_> = [1, 1, 2]
        .map(|client| threads.try_reserve(network(client)).unwrap())
        .into();
    let wait = threads
        .try_reserve(network(3))
        .err()
        .expect("two running and one waiting");
    assert!(wait >= Duration::from_secs(1));
    assert_ne!(
        threads.try_reserve(ONE).err(),
        Some(wait),
        "clients return at different times"
    );
    drop(slots);
    assert!(threads.try_reserve(ONE).is_ok());
    assert!(threads.slots.taken.lock().by_client.is_empty());
}

#[test]
fn one_client_leaves_slots_for_others() {
    let threads = threads(1, 15);
    let take_all =
        |client| -> Vec<_> { std::iter::from_fn(|| threads.try_reserve(network(client)).ok()).collect() };
    let storm = take_all(1);
    assert_eq!(storm.len(), 8, "half of what there is");
    let second_storm = take_all(2);
    assert_eq!(second_storm.len(), 4, "half of what is left");
    let honest = threads.try_reserve(network(3));
    assert!(honest.is_ok(), "another client finds a slot");
    drop(storm);
    assert_eq!(take_all(4).len(), 6, "11 were free");
}

#[tokio::test]
async fn an_unknown_login_costs_as_much_as_a_known_one() {
    let threads = threads(1, 1);
    assert!(
        *threads.decoy.lock() == first_decoy(),
        "before the first hash: Django's default"
    );
    let hash = django_hash("x", "salt", NonZeroU32::new(77).unwrap());
    threads
        .verify(threads.try_reserve(ONE).unwrap(), "x", Some(&hash))
        .await;
    assert!(*threads.decoy.lock() == StoredHash::parse(&hash, &[]).unwrap());
    for unknown in [None, Some("!"), Some("")] {
        let slot = threads.try_reserve(ONE).unwrap();
        let verdict = threads.verify(slot, "x", unknown).await;
        assert_eq!(verdict, Verdict::Wrong, "the decoy's own password is not right");
    }
}

#[tokio::test]
async fn a_hash_that_cannot_be_verified_is_no_wrong_password() {
    let threads = threads(1, 1);
    *threads.decoy.lock() = StoredHash::parse(&django_hash("x", "salt", FEW), &[]).unwrap();
    for stored in ["$y$j9T$salt$hash", "5f4dcc3b5aa765d61d8327deb882cf99", "hero-lim"] {
        let slot = threads.try_reserve(ONE).unwrap();
        let verdict = threads.verify(slot, "x", Some(stored)).await;
        assert_eq!(verdict, Verdict::NotVerifiable, "{stored}");
    }
}

#[tokio::test]
async fn a_dropped_request_costs_no_verification() {
    let threads = threads(1, 4);
    // Would take seconds if it were verified.
    let costly = django_hash("x", "salt", FEW).replace("$10$", "$5000000$");
    for client in 2..6 {
        let slot = threads.try_reserve(network(client)).unwrap();
        let waiting = threads.verify(slot, "x", Some(&costly));
        assert!(tokio::time::timeout(Duration::ZERO, waiting).await.is_err());
    }
    let quick = django_hash("x", "salt", FEW);
    let clock = SystemClock::new();
    let slot = threads.try_reserve(ONE).unwrap();
    assert_eq!(threads.verify(slot, "x", Some(&quick)).await, Verdict::Right);
    assert!(
        clock.monotonic() < Duration::from_secs(12),
        "at most the first of four had started"
    );
}

/// The share of honest sign-ins, each from an address of its own, that get a slot while one address floods
/// the queue. Both come at random moments; `honest` and `flood` are their rates as parts of what the threads
/// can verify. Time is simulated: a verification takes 250 ms of one of two threads, in the order of arrival.
fn served_in_flood(honest: f64, flood: f64) -> f64 {
    const CHECK_MS: f64 = 250.0;
    let slots = Arc::new(Slots {
        limits: PasswordLimits {
            threads: 2,
            queue_max: 64,
            wait_max: Duration::from_secs(4),
        },
        average_check_ms: Arc::new(AtomicU64::new(250)),
        taken: Mutex::default(),
    });
    let entropy = SeededEntropy::new(7);
    let pause_ms = |load: f64| -(1.0 - entropy.unit()).ln() * CHECK_MS / 2.0 / load;
    let (mut next_honest_ms, mut next_flood_ms) = (pause_ms(honest), pause_ms(flood));
    let (mut came, mut served) = (0_u32, 0_u32);
    let mut threads_free_ms = [0.0_f64; 2];
    let mut running = std::collections::VecDeque::new();
    while came < 20_000 {
        let now_ms = next_honest_ms.min(next_flood_ms);
        let is_honest = next_honest_ms < next_flood_ms;
        while running.front().is_some_and(|(ends_ms, _)| *ends_ms <= now_ms) {
            running.pop_front();
        }
        let client = if is_honest {
            came += 1;
            next_honest_ms += pause_ms(honest);
            IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + came))
        } else {
            next_flood_ms += pause_ms(flood);
            ONE
        };
        let Some(slot) = slots.try_take(client) else {
            continue;
        };
        served += u32::from(is_honest);
        let thread = usize::from(threads_free_ms[1] < threads_free_ms[0]);
        let ends_ms = threads_free_ms[thread].max(now_ms) + CHECK_MS;
        assert!(
            ends_ms - now_ms <= 4_000.0 + 2.0 * CHECK_MS,
            "answered within a request's time"
        );
        threads_free_ms[thread] = ends_ms;
        running.push_back((ends_ms, slot));
    }
    f64::from(served) / f64::from(came)
}

#[test]
fn a_flood_from_one_address_takes_nothing_from_honest_customers() {
    for (honest, flood) in [(0.45, 0.5), (0.45, 10.0)] {
        let served = served_in_flood(honest, flood);
        assert!(
            served >= 0.95,
            "{honest} of the capacity, a flood of {flood}: {served}"
        );
    }
}
