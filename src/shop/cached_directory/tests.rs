use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::*;
use crate::kernel::{ManualClock, SeededEntropy, SystemClock, Timestamp};

/// A shop with one customer, `fan`, that can be taken down and delayed.
struct FakeShop {
    queries: AtomicU32,
    is_down: AtomicBool,
    permits: Semaphore,
    any_case: bool,
}

impl FakeShop {
    fn open(permits: usize) -> Arc<Self> {
        Self::with_search(permits, false)
    }

    fn with_search(permits: usize, any_case: bool) -> Arc<Self> {
        Arc::new(Self {
            any_case,
            queries: AtomicU32::new(0),
            is_down: AtomicBool::new(false),
            permits: Semaphore::new(permits),
        })
    }
}

#[async_trait]
impl CustomerDirectory for FakeShop {
    async fn find(&self, wanted: &Wanted, search: Search) -> Result<Option<Customer>, DirectoryError> {
        self.queries.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        if self.is_down.load(Ordering::SeqCst) {
            return Err(DirectoryError::Failed);
        }
        let Wanted::Login(login) = wanted else {
            return Ok(None);
        };
        match (login.lower_case(), search) {
            ("twins", _) => Err(DirectoryError::Unclear),
            ("fan", Search::AnyCase) => Ok(Some(sample_customer())),
            _ => Ok((login.as_typed() == "fan").then(sample_customer)),
        }
    }

    fn searches_any_case(&self) -> bool {
        self.any_case
    }
}

fn sample_customer() -> Customer {
    Customer {
        key: "7".into(),
        name: "Fan".into(),
        password_hash: "x".into(),
        active: true,
    }
}

fn known(shop: &Arc<FakeShop>, clock: Arc<dyn Clock>, per_second: u32) -> CachedDirectory {
    CachedDirectory::new(
        shop.clone(),
        Budgets {
            queries_per_second_max: per_second,
            any_case_queries_per_minute_max: 60,
        },
        Duration::from_millis(500),
        clock,
        Arc::new(SeededEntropy::new(1)),
        Lifecycle::new(),
    )
}

fn manual() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_millis(0)))
}

#[tokio::test]
async fn concurrent_lookups_of_a_login_share_one_query() {
    let shop = FakeShop::open(0);
    let known = known(&shop, manual(), 1_000);
    let first = tokio::spawn({
        let known = known.clone();
        async move { known.find(&Wanted::login("fan")).await }
    });
    let others: Vec<_> = (0..20)
        .map(|_| known.join_flight(&Wanted::login("fan")))
        .collect();
    first.abort();
    shop.permits.add_permits(1);
    for other in others {
        assert_eq!(
            other.await,
            Lookup::Found(sample_customer()),
            "though the first caller was dropped"
        );
    }
    assert_eq!(shop.queries.load(Ordering::SeqCst), 1);
    assert!(known.0.flights.lock().is_empty());
}

#[tokio::test]
async fn cached_customers_are_found_while_the_shop_is_down() {
    let (shop, clock) = (FakeShop::open(1_000), manual());
    let known = known(&shop, clock.clone(), 1_000_000);
    assert_eq!(
        known.find(&Wanted::login("fan")).await,
        Lookup::Found(sample_customer())
    );
    assert_eq!(known.find(&Wanted::login("unknown")).await, Lookup::NotFound);
    assert_eq!(
        known.find(&Wanted::login("fan")).await,
        Lookup::Found(sample_customer())
    );
    assert_eq!(
        shop.queries.load(Ordering::SeqCst),
        2,
        "a fresh cache entry needs no query"
    );

    shop.is_down.store(true, Ordering::SeqCst);
    clock.advance(Duration::from_secs(11));
    for _ in 0..10 {
        let lookup = known.find(&Wanted::login("fan")).await;
        let Lookup::Stale { customer, why } = lookup else {
            panic!("{lookup:?}")
        };
        assert_eq!(customer, sample_customer());
        assert!(matches!(why, Unavailable::Down { .. }), "{why:?}");
        clock.advance(Duration::from_millis(1));
    }
    assert_eq!(
        shop.queries.load(Ordering::SeqCst),
        2 + 5,
        "after five failures there are no queries"
    );
    let Lookup::Unavailable(Unavailable::Down { retry_after }) = known.find(&Wanted::login("unknown")).await
    else {
        panic!("the shop is down")
    };
    assert!(retry_after >= Duration::from_secs(1));

    shop.is_down.store(false, Ordering::SeqCst);
    clock.advance(Duration::from_secs(3));
    assert_eq!(
        known.find(&Wanted::login("unknown")).await,
        Lookup::NotFound,
        "the probe closes the breaker"
    );
    assert_eq!(
        known.find(&Wanted::login("fan")).await,
        Lookup::Found(sample_customer())
    );

    shop.is_down.store(true, Ordering::SeqCst);
    clock.advance(STALE_FOR);
    assert!(
        matches!(known.find(&Wanted::login("fan")).await, Lookup::Unavailable(_)),
        "after a day the cache entry is too old"
    );
}

#[tokio::test]
async fn a_crowd_does_not_exceed_the_budget() {
    let shop = FakeShop::open(10_000);
    let clock = Arc::new(SystemClock::new());
    let known = known(&shop, clock.clone(), 50);
    let started_at = clock.monotonic();
    let crowd: Vec<_> = (0..500)
        .map(|n| (known.clone(), n))
        .map(|(known, n)| {
            tokio::spawn(async move { known.find(&Wanted::login(&format!("login-{n}"))).await })
        })
        .collect();
    let mut refused = 0;
    for one in crowd {
        refused += u32::from(matches!(
            one.await.unwrap(),
            Lookup::Unavailable(Unavailable::OverBudget { .. })
        ));
    }
    let seconds = clock.monotonic().saturating_sub(started_at).as_secs_f64();
    let queries = shop.queries.load(Ordering::SeqCst);
    assert_eq!(queries + refused, 500);
    assert!(
        f64::from(queries) <= seconds * 50.0 + 1.0,
        "{queries} in {seconds} s"
    );
    assert!(queries >= 20, "the budget is used: {queries}");
}

#[tokio::test(start_paused = true)]
async fn lookups_refused_by_the_breaker_spend_no_budget() {
    let (shop, clock) = (FakeShop::open(1_000), manual());
    let known = known(&shop, clock, 10);
    shop.is_down.store(true, Ordering::SeqCst);
    for n in 0..100 {
        let lookup = known.find(&Wanted::login(&format!("login-{n}"))).await;
        assert!(
            matches!(lookup, Lookup::Unavailable(Unavailable::Down { .. })),
            "{n}: {lookup:?}"
        );
    }
    assert_eq!(shop.queries.load(Ordering::SeqCst), 5);
}

#[tokio::test(start_paused = true)]
async fn a_login_of_another_case_is_searched_for_within_its_own_budget() {
    let (shop, clock) = (FakeShop::with_search(1_000, true), manual());
    let known = known(&shop, clock.clone(), 1_000_000);
    let found = Lookup::Found(sample_customer());
    assert_eq!(known.find(&Wanted::login("FAN")).await, found);
    assert_eq!(shop.queries.load(Ordering::SeqCst), 2, "first by the index");
    assert_eq!(known.find(&Wanted::login("fan")).await, found);
    assert_eq!(shop.queries.load(Ordering::SeqCst), 3, "the index has found it");
    for n in 1..ANY_CASE_BURST {
        assert_eq!(
            known.find(&Wanted::login(&format!("unknown-{n}"))).await,
            Lookup::NotFound
        );
    }
    let over = known.find(&Wanted::login("Fan")).await;
    assert_eq!(over, Lookup::NotFound, "it must not tell which logins there are");
    clock.advance(Duration::from_secs(1));
    assert_eq!(known.find(&Wanted::login("Fan")).await, found);
}

#[tokio::test]
async fn customers_that_cannot_be_told_apart_are_no_failure_of_the_shop() {
    let shop = FakeShop::open(1_000);
    let known = known(&shop, manual(), 1_000_000);
    for _ in 0..20 {
        assert_eq!(known.find(&Wanted::login("twins")).await, Lookup::Unclear);
    }
    let found = known.find(&Wanted::login("fan")).await;
    assert_eq!(found, Lookup::Found(sample_customer()), "the breaker is closed");
}

#[test]
fn the_cache_is_bounded_and_evicts_the_oldest() {
    let mut cache = Cache::default();
    for n in 0..=CACHED_MAX {
        cache.insert(&Wanted::login(&n.to_string()), &sample_customer(), Duration::ZERO);
        cache.insert(&Wanted::login("1"), &sample_customer(), Duration::ZERO);
    }
    assert_eq!(
        (cache.by_wanted.len(), cache.by_age.len()),
        (CACHED_MAX, CACHED_MAX)
    );
    assert!(
        cache
            .get(&Wanted::login("0"), Duration::ZERO, FRESH_FOR)
            .is_none()
    );
    assert!(
        cache
            .get(&Wanted::login("1"), Duration::ZERO, FRESH_FOR)
            .is_some(),
        "it was seen again"
    );
}
