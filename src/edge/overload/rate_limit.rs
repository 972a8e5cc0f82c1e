//! How often one client may ask.

use std::{net::IpAddr, sync::Arc, time::Duration};

use crate::{
    edge::overload::client_ip::client_network,
    kernel::Clock,
    platform::rate_limit::{Rate, RateLimit},
};

/// One rate limit, kept per client: an IPv4 address or an IPv6 /64.
pub struct IpRateLimit(RateLimit<IpAddr>);

impl IpRateLimit {
    /// A limit that no client has used yet.
    pub fn new(rate: Rate, clock: Arc<dyn Clock>) -> Self {
        Self(RateLimit::new(rate, clock))
    }

    /// Whether there is a limit at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.0.is_enabled()
    }

    /// Takes one request's worth.
    ///
    /// # Errors
    /// How long the client has to wait until one is free.
    pub fn take(&self, address: IpAddr) -> Result<(), Duration> {
        self.0.take(client_network(address))
    }

    /// Gives back what one [`take`](Self::take) took.
    pub fn give_back(&self, address: IpAddr) {
        self.0.give_back(&client_network(address));
    }

    /// How long this client has to wait for one request's worth; `None` when a request would pass. Takes
    /// nothing.
    #[must_use]
    pub fn wait(&self, address: IpAddr) -> Option<Duration> {
        self.0.wait(&client_network(address))
    }

    /// Drops the clients whose allowance is whole again. To be called now and then.
    pub fn remove_idle(&self) {
        self.0.remove_idle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{ManualClock, Timestamp};

    #[test]
    fn addresses_of_one_household_share_a_limit() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let limit = IpRateLimit::new(Rate::per_minute(1), clock);
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        assert!(limit.take(address("2001:db8::1")).is_ok());
        assert!(limit.take(address("2001:db8::2")).is_err());
        assert!(limit.wait(address("2001:db8:0:1::1")).is_none());
        limit.give_back(address("2001:db8::3"));
        assert!(limit.take(address("2001:db8::2")).is_ok());
    }
}
