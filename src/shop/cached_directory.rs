//! The directory behind its protection: cache, single flight, breaker, budget, in this order.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;

use crate::shop::{
    directory::{Customer, CustomerDirectory, Unavailable},
    protection::{CircuitBreaker, QueryBudget},
};
use crate::{
    kernel::{Clock, Entropy},
    platform::shutdown::Lifecycle,
};

/// A repeated sign-in does not ask the shop again; short, because passwords are changed and customers blocked.
const FRESH_FOR: Duration = Duration::from_secs(10);
/// While the shop is down, whoever was seen within this time can sign in.
const STALE_FOR: Duration = Duration::from_hours(24);
/// Some hundred bytes each, hashes included; in memory only.
const CACHED_MAX: usize = 50_000;

/// What is known of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    Found(Customer),
    /// From memory, because the shop does not answer now; `why` says so.
    Stale {
        customer: Customer,
        why: Unavailable,
    },
    NotFound,
    Unavailable(Unavailable),
}

type Flight = Shared<BoxFuture<'static, Lookup>>;

/// Customers, with no more questions to the shop than it can bear.
#[derive(Clone)]
pub(crate) struct CachedDirectory(Arc<Inner>);

struct Inner {
    directory: Arc<dyn CustomerDirectory>,
    budget: QueryBudget,
    breaker: CircuitBreaker,
    /// How long a question may wait for its turn.
    queue_timeout: Duration,
    cache: Mutex<Cache>,
    /// One question at a time for each login.
    flights: Mutex<HashMap<String, Flight>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    life: Lifecycle,
}

impl CachedDirectory {
    pub(crate) fn new(
        directory: Arc<dyn CustomerDirectory>,
        queries_per_second_max: u32,
        patience: Duration,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        life: Lifecycle,
    ) -> Self {
        Self(Arc::new(Inner {
            directory,
            budget: QueryBudget::new(queries_per_second_max),
            breaker: CircuitBreaker::new(Arc::clone(&clock), Arc::clone(&entropy)),
            queue_timeout: patience,
            cache: Mutex::default(),
            flights: Mutex::default(),
            clock,
            entropy,
            life,
        }))
    }

    pub(crate) async fn find(&self, login: &str) -> Lookup {
        let now = self.0.clock.monotonic();
        if let Some(customer) = self.0.cache.lock().get(login, now, FRESH_FOR) {
            return Lookup::Found(customer);
        }
        let flight = self.join_flight(login);
        flight.await
    }

    fn join_flight(&self, login: &str) -> Flight {
        let mut flights = self.0.flights.lock();
        if let Some(flight) = flights.get(login) {
            return flight.clone();
        }
        let (this, asked) = (self.clone(), login.to_owned());
        // A task of its own: when its first asker hangs up, the others still get their answer.
        let task = self.0.life.spawn(async move {
            let _landing = FlightGuard {
                inner: &this.0,
                login: &asked,
            };
            this.0.fetch(&asked).await
        });
        let broken = Lookup::Unavailable(Unavailable::Down {
            retry_after: self.0.queue_timeout,
        });
        let flight = task.map(move |answer| answer.unwrap_or(broken)).boxed().shared();
        flights.insert(login.to_owned(), flight.clone());
        flight
    }
}

/// Ends a flight however its question ended.
struct FlightGuard<'f> {
    inner: &'f Inner,
    login: &'f str,
}

impl Drop for FlightGuard<'_> {
    fn drop(&mut self) {
        self.inner.flights.lock().remove(self.login);
    }
}

impl Inner {
    async fn fetch(&self, login: &str) -> Lookup {
        match self.query(login).await {
            Ok(Some(customer)) => {
                self.cache
                    .lock()
                    .insert(login, &customer, self.clock.monotonic());
                Lookup::Found(customer)
            }
            Ok(None) => {
                self.cache.lock().remove(login);
                Lookup::NotFound
            }
            Err(why) => match self
                .cache
                .lock()
                .get(login, self.clock.monotonic(), STALE_FOR)
            {
                Some(customer) => Lookup::Stale { customer, why },
                None => Lookup::Unavailable(why),
            },
        }
    }

    async fn query(&self, login: &str) -> Result<Option<Customer>, Unavailable> {
        if let Some(left) = self.breaker.open_for() {
            return Err(self.unreachable(left));
        }
        match self.budget.reserve(self.clock.monotonic(), self.queue_timeout) {
            Ok(wait) if wait.is_zero() => {}
            Ok(wait) => tokio::time::sleep(wait).await,
            Err(wait) => {
                metrics::counter!("shop_queries_total", "outcome" => "over_budget").increment(1);
                return Err(Unavailable::OverBudget {
                    retry_after: self.jittered(wait),
                });
            }
        }
        let Some(permit) = self.breaker.try_acquire() else {
            return Err(self.unreachable(self.breaker.open_for().unwrap_or_default()));
        };
        if let Ok(found) = self.directory.find(login).await {
            permit.succeeded();
            metrics::counter!("shop_queries_total", "outcome" => "answered").increment(1);
            Ok(found)
        } else {
            drop(permit);
            metrics::counter!("shop_queries_total", "outcome" => "failed").increment(1);
            Err(self.unreachable(self.breaker.open_for().unwrap_or_default()))
        }
    }

    fn unreachable(&self, left: Duration) -> Unavailable {
        Unavailable::Down {
            retry_after: self.jittered(left),
        }
    }

    /// At least a second, and up to twice as long for some, so that a crowd does not come back as one.
    fn jittered(&self, wait: Duration) -> Duration {
        wait.max(Duration::from_secs(1))
            .mul_f64(1.0 + self.entropy.unit())
    }
}

/// The customers seen last, oldest first out.
#[derive(Default)]
struct Cache {
    by_login: HashMap<String, CachedCustomer>,
    by_age: BTreeMap<u64, String>,
    sequence: u64,
}

struct CachedCustomer {
    customer: Customer,
    at: Duration,
    sequence: u64,
}

impl Cache {
    fn get(&self, login: &str, now: Duration, younger_than: Duration) -> Option<Customer> {
        self.by_login
            .get(login)
            .filter(|seen| now.saturating_sub(seen.at) < younger_than)
            .map(|seen| seen.customer.clone())
    }

    fn insert(&mut self, login: &str, customer: &Customer, at: Duration) {
        self.remove(login);
        self.sequence += 1;
        self.by_age.insert(self.sequence, login.to_owned());
        self.by_login.insert(
            login.to_owned(),
            CachedCustomer {
                customer: customer.clone(),
                at,
                sequence: self.sequence,
            },
        );
        if self.by_login.len() > CACHED_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_login.remove(&oldest);
        }
    }

    fn remove(&mut self, login: &str) {
        if let Some(seen) = self.by_login.remove(login) {
            self.by_age.remove(&seen.sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use async_trait::async_trait;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        kernel::{ManualClock, SeededEntropy, SystemClock, Timestamp},
        shop::directory::DirectoryError,
    };

    /// A shop with one customer, `fan`, that can be taken away and held up.
    struct FakeShop {
        asked: AtomicU32,
        away: AtomicBool,
        gate: Semaphore,
    }

    impl FakeShop {
        fn open(permits: usize) -> Arc<Self> {
            Arc::new(Self {
                asked: AtomicU32::new(0),
                away: AtomicBool::new(false),
                gate: Semaphore::new(permits),
            })
        }
    }

    #[async_trait]
    impl CustomerDirectory for FakeShop {
        async fn find(&self, login: &str) -> Result<Option<Customer>, DirectoryError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await.unwrap().forget();
            if self.away.load(Ordering::SeqCst) {
                return Err(DirectoryError);
            }
            Ok((login == "fan").then(fan))
        }
    }

    fn fan() -> Customer {
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
            per_second,
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
    async fn askers_of_one_login_share_one_question() {
        let shop = FakeShop::open(0);
        let known = known(&shop, manual(), 1_000);
        let first = tokio::spawn({
            let known = known.clone();
            async move { known.find("fan").await }
        });
        let others: Vec<_> = (0..20).map(|_| known.join_flight("fan")).collect();
        first.abort();
        shop.gate.add_permits(1);
        for other in others {
            assert_eq!(other.await, Lookup::Found(fan()), "though the first one hung up");
        }
        assert_eq!(shop.asked.load(Ordering::SeqCst), 1);
        assert!(known.0.flights.lock().is_empty());
    }

    #[tokio::test]
    async fn a_customer_seen_before_is_known_while_the_shop_is_away_and_the_breaker_recovers() {
        let (shop, clock) = (FakeShop::open(1_000), manual());
        let known = known(&shop, clock.clone(), 1_000_000);
        assert_eq!(known.find("fan").await, Lookup::Found(fan()));
        assert_eq!(known.find("stranger").await, Lookup::NotFound);
        assert_eq!(known.find("fan").await, Lookup::Found(fan()));
        assert_eq!(
            shop.asked.load(Ordering::SeqCst),
            2,
            "a fresh memory does not ask"
        );

        shop.away.store(true, Ordering::SeqCst);
        clock.advance(Duration::from_secs(11));
        for _ in 0..10 {
            assert!(
                matches!(known.find("fan").await, Lookup::Stale { customer, why: Unavailable::Down { .. } } if customer == fan())
            );
            clock.advance(Duration::from_millis(1));
        }
        assert_eq!(
            shop.asked.load(Ordering::SeqCst),
            2 + 5,
            "after five failures nobody asks"
        );
        let Lookup::Unavailable(Unavailable::Down { retry_after }) = known.find("stranger").await
        else {
            panic!("the shop is away")
        };
        assert!(retry_after >= Duration::from_secs(1));

        shop.away.store(false, Ordering::SeqCst);
        clock.advance(Duration::from_secs(3));
        assert_eq!(
            known.find("stranger").await,
            Lookup::NotFound,
            "the probe closes the breaker"
        );
        assert_eq!(known.find("fan").await, Lookup::Found(fan()));

        shop.away.store(true, Ordering::SeqCst);
        clock.advance(STALE_FOR);
        assert!(
            matches!(known.find("fan").await, Lookup::Unavailable(_)),
            "after a day memory is too old"
        );
    }

    #[tokio::test]
    async fn the_budget_holds_against_a_crowd() {
        let shop = FakeShop::open(10_000);
        let clock = Arc::new(SystemClock::new());
        let known = known(&shop, clock.clone(), 50);
        let begun = clock.monotonic();
        let crowd: Vec<_> = (0..500)
            .map(|n| (known.clone(), n))
            .map(|(known, n)| tokio::spawn(async move { known.find(&format!("login-{n}")).await }))
            .collect();
        let mut refused = 0;
        for one in crowd {
            refused += u32::from(matches!(
                one.await.unwrap(),
                Lookup::Unavailable(Unavailable::OverBudget { .. })
            ));
        }
        let seconds = clock.monotonic().saturating_sub(begun).as_secs_f64();
        let asked = shop.asked.load(Ordering::SeqCst);
        assert_eq!(asked + refused, 500);
        assert!(f64::from(asked) <= seconds * 50.0 + 1.0, "{asked} in {seconds} s");
        assert!(asked >= 20, "the budget is used: {asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_that_the_shop_is_away_spends_no_budget() {
        let (shop, clock) = (FakeShop::open(1_000), manual());
        let known = known(&shop, clock, 10);
        shop.away.store(true, Ordering::SeqCst);
        for n in 0..100 {
            let answer = known.find(&format!("login-{n}")).await;
            assert!(
                matches!(answer, Lookup::Unavailable(Unavailable::Down { .. })),
                "{n}: {answer:?}"
            );
        }
        assert_eq!(shop.asked.load(Ordering::SeqCst), 5);
    }

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let mut memory = Cache::default();
        for n in 0..=CACHED_MAX {
            memory.insert(&n.to_string(), &fan(), Duration::ZERO);
            memory.insert("1", &fan(), Duration::ZERO);
        }
        assert_eq!(
            (memory.by_login.len(), memory.by_age.len()),
            (CACHED_MAX, CACHED_MAX)
        );
        assert!(memory.get("0", Duration::ZERO, FRESH_FOR).is_none());
        assert!(
            memory.get("1", Duration::ZERO, FRESH_FOR).is_some(),
            "she was seen again"
        );
    }
}
