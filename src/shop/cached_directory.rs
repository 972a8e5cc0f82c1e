//! The shop's directory behind a cache, single flight, a circuit breaker and a query budget, in this order.

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

use crate::{
    kernel::{Clock, Entropy},
    platform::shutdown::Lifecycle,
    shop::{
        circuit_breaker::CircuitBreaker,
        directory::{Customer, CustomerDirectory, Unavailable},
        query_budget::QueryBudget,
    },
};

/// A repeated sign-in within this time uses the cache. Short, because passwords change and accounts are
/// disabled.
const FRESH_FOR: Duration = Duration::from_secs(10);
/// While the shop is down, customers cached within this time can sign in.
const STALE_FOR: Duration = Duration::from_hours(24);
/// Maximum number of cached customers, some hundred bytes each. In memory only, because they include hashes.
const CACHED_MAX: usize = 50_000;

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    Found(Customer),
    /// From the cache, because the shop cannot be queried now.
    Stale {
        customer: Customer,
        why: Unavailable,
    },
    NotFound,
    Unavailable(Unavailable),
}

type Flight = Shared<BoxFuture<'static, Lookup>>;

/// A customer directory that never queries the shop more than it can bear. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CachedDirectory(Arc<Inner>);

struct Inner {
    directory: Arc<dyn CustomerDirectory>,
    budget: QueryBudget,
    breaker: CircuitBreaker,
    /// How long a query may wait for its turn.
    queue_timeout: Duration,
    cache: Mutex<Cache>,
    /// Single flight: the running query of each login.
    flights: Mutex<HashMap<String, Flight>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    lifecycle: Lifecycle,
}

impl CachedDirectory {
    pub(crate) fn new(
        directory: Arc<dyn CustomerDirectory>,
        queries_per_second_max: u32,
        patience: Duration,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        lifecycle: Lifecycle,
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
            lifecycle,
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
        let (this, requested) = (self.clone(), login.to_owned());
        // A task of its own: when the first caller is dropped, the others still get the result.
        let task = self.0.lifecycle.spawn(async move {
            let _guard = FlightGuard {
                inner: &this.0,
                login: &requested,
            };
            this.0.fetch(&requested).await
        });
        let panicked = Lookup::Unavailable(Unavailable::Down {
            retry_after: self.0.queue_timeout,
        });
        let flight = task
            .map(move |lookup| lookup.unwrap_or(panicked))
            .boxed()
            .shared();
        flights.insert(login.to_owned(), flight.clone());
        flight
    }
}

/// Removes a flight however its query ended, panics included.
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
                self.cache.lock().insert(login, &customer, self.clock.monotonic());
                Lookup::Found(customer)
            }
            Ok(None) => {
                self.cache.lock().remove(login);
                Lookup::NotFound
            }
            Err(why) => match self.cache.lock().get(login, self.clock.monotonic(), STALE_FOR) {
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
                metrics::counter!("stagedoor_shop_queries_total", "outcome" => "over_budget").increment(1);
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
            metrics::counter!("stagedoor_shop_queries_total", "outcome" => "answered").increment(1);
            Ok(found)
        } else {
            drop(permit);
            metrics::counter!("stagedoor_shop_queries_total", "outcome" => "failed").increment(1);
            Err(self.unreachable(self.breaker.open_for().unwrap_or_default()))
        }
    }

    fn unreachable(&self, left: Duration) -> Unavailable {
        Unavailable::Down {
            retry_after: self.jittered(left),
        }
    }

    /// At least a second, jittered up to twice as long, so that clients do not all retry at once.
    fn jittered(&self, wait: Duration) -> Duration {
        wait.max(Duration::from_secs(1))
            .mul_f64(1.0 + self.entropy.unit())
    }
}

/// The most recently seen customers; evicts the oldest.
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
mod tests;
