//! How often one client may ask.
//!
//! Each limit is GCRA, the generic cell rate algorithm (ITU-T I.371): one moment per client, no counter to
//! reset. The crate `governor` implements the same but cannot tell whether a request would pass without
//! taking it, which a join has to know before it asks for a proof of work.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;

use crate::{edge::overload::client_ip::client_network, kernel::Clock};

/// A number of requests per period, with a burst of the same size.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Requests per period; 0 means no limit.
    pub count: u32,
    /// The period.
    pub per: Duration,
}

/// Clients that are tracked at once, some 60 bytes each. Beyond it new clients pass: a flood of addresses
/// must not fill the memory, and the load shedder bounds what they can cost.
const CLIENTS_MAX: usize = 1_000_000;

/// One rate limit, kept per client: an IPv4 address or an IPv6 /64.
pub struct IpRateLimit {
    clock: Arc<dyn Clock>,
    rate: Rate,
    /// Per client, the moment (of the monotonic clock) up to which its requests are paid for: GCRA's
    /// theoretical arrival time.
    paid_until: DashMap<IpAddr, Duration>,
    /// About the length of `paid_until`, whose own `len` locks every shard.
    clients: AtomicUsize,
    clients_max: usize,
}

impl IpRateLimit {
    /// A limit that no client has used yet.
    pub fn new(rate: Rate, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            rate,
            paid_until: DashMap::new(),
            clients: AtomicUsize::new(0),
            clients_max: CLIENTS_MAX,
        }
    }

    /// Whether there is a limit at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.rate.count != 0
    }

    /// Takes one request's worth.
    ///
    /// # Errors
    /// How long the client has to wait until one is free.
    pub fn take(&self, address: IpAddr) -> Result<(), Duration> {
        if !self.is_enabled() {
            return Ok(());
        }
        let now = self.clock.monotonic();
        match self.paid_until.entry(client_network(address)) {
            dashmap::Entry::Occupied(mut paid_until) => {
                let next = self.next(*paid_until.get(), now)?;
                paid_until.insert(next);
            }
            dashmap::Entry::Vacant(client) => {
                let next = self.next(now, now)?;
                if self.clients.load(Ordering::Relaxed) < self.clients_max {
                    client.insert(next);
                    self.clients.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// How long this client has to wait for one request's worth; `None` when a request would pass. Takes
    /// nothing.
    #[must_use]
    pub fn wait(&self, address: IpAddr) -> Option<Duration> {
        if !self.is_enabled() {
            return None;
        }
        let paid_until = *self.paid_until.get(&client_network(address))?;
        self.next(paid_until, self.clock.monotonic()).err()
    }

    /// Up to when one request more would be paid for, or how long to wait until it may be made.
    fn next(&self, paid_until: Duration, now: Duration) -> Result<Duration, Duration> {
        let next = paid_until.max(now) + self.rate.per / self.rate.count;
        let burst_ends = now + self.rate.per;
        next.checked_sub(burst_ends)
            .filter(|wait| !wait.is_zero())
            .map_or(Ok(next), Err)
    }

    /// Drops the clients whose allowance is whole again. To be called now and then.
    pub fn remove_idle(&self) {
        let now = self.clock.monotonic();
        self.paid_until.retain(|_, paid_until| *paid_until > now);
        self.clients.store(self.paid_until.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{ManualClock, Timestamp};

    fn limit(count: u32, clock: &Arc<ManualClock>) -> IpRateLimit {
        IpRateLimit::new(
            Rate {
                count,
                per: Duration::from_mins(1),
            },
            Arc::clone(clock) as Arc<dyn Clock>,
        )
    }

    #[test]
    fn a_client_gets_its_burst_and_then_its_rate() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let limit = limit(6, &clock);
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!((0..6).all(|_| limit.wait(one).is_none() && limit.take(one).is_ok()));
        assert_eq!(limit.take(one), Err(Duration::from_secs(10)));
        assert_eq!(limit.wait(one), Some(Duration::from_secs(10)));
        assert!(limit.wait(other).is_none() && limit.take(other).is_ok());
        clock.advance(Duration::from_secs(10));
        assert!(limit.take(one).is_ok());
        assert!(limit.take(one).is_err());
        clock.advance(Duration::from_mins(1));
        limit.remove_idle();
        assert!(limit.paid_until.is_empty());
    }

    #[test]
    fn zero_means_no_limit() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let limit = limit(0, &clock);
        assert!((0..1_000).all(|_| limit.take("192.0.2.1".parse().unwrap()).is_ok()));
    }

    #[test]
    fn tracked_clients_are_bounded_and_idle_ones_make_room() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let limit = IpRateLimit {
            clients_max: 1,
            ..limit(1, &clock)
        };
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!(limit.take(one).is_ok() && limit.take(one).is_err());
        assert!(
            (0..3).all(|_| limit.take(other).is_ok()),
            "not tracked, so it passes"
        );
        clock.advance(Duration::from_mins(2));
        limit.remove_idle();
        assert!(limit.take(other).is_ok() && limit.take(other).is_err());
    }
}
