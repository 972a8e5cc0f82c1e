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
use tokio::sync::Semaphore;

use crate::{
    kernel::{Clock, Entropy},
    platform::shutdown::Lifecycle,
    shop::{
        circuit_breaker::CircuitBreaker,
        directory::{Customer, CustomerDirectory, DirectoryError, Search, Unavailable, Wanted},
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
    /// The shop's data do not say who this is.
    Unclear,
    Unavailable(Unavailable),
}

/// How many searches in any case may be made at once, before their rate is limited.
const ANY_CASE_BURST: u32 = 10;

type Flight = Shared<BoxFuture<'static, Lookup>>;

/// What the shop can bear.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budgets {
    pub(crate) queries_per_second_max: u32,
    pub(crate) any_case_queries_per_minute_max: u32,
}

/// A customer directory that never queries the shop more than it can bear. Cheap to clone.
#[derive(Clone)]
pub(crate) struct CachedDirectory(Arc<Inner>);

struct Inner {
    directory: Arc<dyn CustomerDirectory>,
    budget: QueryBudget,
    /// Searches in any case: each may read the shop's whole table, so there are few of them, one at a time.
    any_case_budget: QueryBudget,
    any_case_turn: Semaphore,
    breaker: CircuitBreaker,
    /// How long a query may wait for its turn.
    queue_timeout: Duration,
    cache: Mutex<Cache>,
    /// Single flight: the running query of each customer.
    flights: Mutex<HashMap<Wanted, Flight>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    lifecycle: Lifecycle,
}

impl CachedDirectory {
    pub(crate) fn new(
        directory: Arc<dyn CustomerDirectory>,
        budgets: Budgets,
        patience: Duration,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        lifecycle: Lifecycle,
    ) -> Self {
        Self(Arc::new(Inner {
            directory,
            budget: QueryBudget::per_second(budgets.queries_per_second_max),
            any_case_budget: QueryBudget::per_minute(budgets.any_case_queries_per_minute_max, ANY_CASE_BURST),
            any_case_turn: Semaphore::new(1),
            breaker: CircuitBreaker::new(Arc::clone(&clock), Arc::clone(&entropy)),
            queue_timeout: patience,
            cache: Mutex::default(),
            flights: Mutex::default(),
            clock,
            entropy,
            lifecycle,
        }))
    }

    /// Whether customers can be found by their key.
    pub(crate) fn finds_by_key(&self) -> bool {
        self.0.directory.finds_by_key()
    }

    pub(crate) fn remind(&self) {
        self.0.directory.remind();
    }

    pub(crate) async fn find(&self, wanted: &Wanted) -> Lookup {
        let now = self.0.clock.monotonic();
        if let Some(customer) = self.0.cache.lock().get(wanted, now, FRESH_FOR) {
            return Lookup::Found(customer);
        }
        let flight = self.join_flight(wanted);
        flight.await
    }

    fn join_flight(&self, wanted: &Wanted) -> Flight {
        let mut flights = self.0.flights.lock();
        if let Some(flight) = flights.get(wanted) {
            return flight.clone();
        }
        let (this, requested) = (self.clone(), wanted.clone());
        // A task of its own: when the first caller is dropped, the others still get the result.
        let task = self.0.lifecycle.spawn(async move {
            let _guard = FlightGuard {
                inner: &this.0,
                wanted: &requested,
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
        flights.insert(wanted.clone(), flight.clone());
        flight
    }
}

/// Removes a flight however its query ended, panics included.
struct FlightGuard<'f> {
    inner: &'f Inner,
    wanted: &'f Wanted,
}

impl Drop for FlightGuard<'_> {
    fn drop(&mut self) {
        self.inner.flights.lock().remove(self.wanted);
    }
}

impl Inner {
    async fn fetch(&self, wanted: &Wanted) -> Lookup {
        let mut answer = self.query(wanted).await;
        let is_login = matches!(wanted, Wanted::Login(_));
        if is_login && matches!(answer, Ok(Answer::NotFound)) && self.directory.searches_any_case() {
            answer = Ok(self.query_any_case(wanted).await);
        }
        match answer {
            Ok(Answer::Found(customer)) => {
                self.cache
                    .lock()
                    .insert(wanted, &customer, self.clock.monotonic());
                Lookup::Found(customer)
            }
            Ok(Answer::NotFound) => {
                self.cache.lock().remove(wanted);
                Lookup::NotFound
            }
            Ok(Answer::Unclear) => Lookup::Unclear,
            Err(why) => match self.cache.lock().get(wanted, self.clock.monotonic(), STALE_FOR) {
                Some(customer) => Lookup::Stale { customer, why },
                None => Lookup::Unavailable(why),
            },
        }
    }

    async fn query(&self, wanted: &Wanted) -> Result<Answer, Unavailable> {
        if let Some(left) = self.breaker.open_for() {
            return Err(self.unreachable(left));
        }
        self.take_turn(&self.budget).await?;
        let Some(permit) = self.breaker.try_acquire() else {
            return Err(self.unreachable(self.breaker.open_for().unwrap_or_default()));
        };
        if let Some(answer) = answer_of(self.directory.find(wanted, Search::Exact).await) {
            permit.succeeded();
            Ok(answer)
        } else {
            drop(permit);
            Err(self.unreachable(self.breaker.open_for().unwrap_or_default()))
        }
    }

    /// A slow search says nothing about the shop's health: it does not count in the circuit breaker. A login
    /// that cannot be searched for now is answered like an unknown one: another answer would tell which
    /// logins the shop has.
    async fn query_any_case(&self, wanted: &Wanted) -> Answer {
        if self.take_turn(&self.any_case_budget).await.is_err() {
            return Answer::NotFound;
        }
        let turn = tokio::time::timeout(self.queue_timeout, self.any_case_turn.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            count("over_budget");
            return Answer::NotFound;
        };
        answer_of(self.directory.find(wanted, Search::AnyCase).await).unwrap_or(Answer::NotFound)
    }

    async fn take_turn(&self, budget: &QueryBudget) -> Result<(), Unavailable> {
        match budget.reserve(self.clock.monotonic(), self.queue_timeout) {
            Ok(wait) if wait.is_zero() => Ok(()),
            Ok(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Err(wait) => Err(self.over_budget(wait)),
        }
    }

    fn over_budget(&self, wait: Duration) -> Unavailable {
        count("over_budget");
        Unavailable::OverBudget {
            retry_after: self.jittered(wait),
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

/// What a query has said.
enum Answer {
    Found(Customer),
    NotFound,
    Unclear,
}

/// `None`: the shop did not answer.
fn answer_of(found: Result<Option<Customer>, DirectoryError>) -> Option<Answer> {
    let answer = match found {
        Ok(Some(customer)) => Some(Answer::Found(customer)),
        Ok(None) => Some(Answer::NotFound),
        Err(DirectoryError::Unclear) => Some(Answer::Unclear),
        Err(DirectoryError::Failed) => None,
    };
    count(if answer.is_some() { "answered" } else { "failed" });
    answer
}

fn count(outcome: &'static str) {
    metrics::counter!("stagedoor_shop_queries_total", "outcome" => outcome).increment(1);
}

/// The most recently seen customers; evicts the oldest.
#[derive(Default)]
struct Cache {
    by_wanted: HashMap<Wanted, CachedCustomer>,
    by_age: BTreeMap<u64, Wanted>,
    sequence: u64,
}

struct CachedCustomer {
    customer: Customer,
    at: Duration,
    sequence: u64,
}

impl Cache {
    fn get(&self, wanted: &Wanted, now: Duration, younger_than: Duration) -> Option<Customer> {
        self.by_wanted
            .get(wanted)
            .filter(|seen| now.saturating_sub(seen.at) < younger_than)
            .map(|seen| seen.customer.clone())
    }

    fn insert(&mut self, wanted: &Wanted, customer: &Customer, at: Duration) {
        self.remove(wanted);
        self.sequence += 1;
        self.by_age.insert(self.sequence, wanted.clone());
        self.by_wanted.insert(
            wanted.clone(),
            CachedCustomer {
                customer: customer.clone(),
                at,
                sequence: self.sequence,
            },
        );
        if self.by_wanted.len() > CACHED_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_wanted.remove(&oldest);
        }
    }

    fn remove(&mut self, wanted: &Wanted) {
        if let Some(seen) = self.by_wanted.remove(wanted) {
            self.by_age.remove(&seen.sequence);
        }
    }
}

#[cfg(test)]
mod tests;
