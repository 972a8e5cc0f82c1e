//! How often one address may ask, and who an address is behind proxies.
//!
//! Each limit is GCRA, the generic cell rate algorithm (ITU-T I.371): one moment per address, no counter to reset.

use std::{net::IpAddr, sync::Arc, time::Duration};

use dashmap::DashMap;
use http::HeaderMap;

use crate::edge::connection::acceptor::network;
use crate::kernel::Clock;

/// So many per period, with a burst of the same size.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// 0 means no limit.
    pub count: u32,
    pub per: Duration,
}

/// One limit for all addresses.
pub struct AddressLimit {
    clock: Arc<dyn Clock>,
    rate: Rate,
    /// Per address, the moment (of the monotonic clock) up to which its requests are paid for.
    paid_until: DashMap<IpAddr, Duration>,
}

impl AddressLimit {
    pub fn new(rate: Rate, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            rate,
            paid_until: DashMap::new(),
        }
    }

    /// Whether there is a limit at all.
    #[must_use]
    pub fn applies(&self) -> bool {
        self.rate.count != 0
    }

    /// Takes one request's worth.
    ///
    /// # Errors
    /// How long to wait until one is free.
    pub fn take(&self, address: IpAddr) -> Result<(), Duration> {
        if !self.applies() {
            return Ok(());
        }
        let now = self.clock.monotonic();
        let mut paid_until = self.paid_until.entry(network(address)).or_insert(now);
        self.next(*paid_until, now).map(|next| *paid_until = next)
    }

    /// How long this address has to wait for one request's worth; `None` when it need not. Takes nothing.
    #[must_use]
    pub fn wait(&self, address: IpAddr) -> Option<Duration> {
        if !self.applies() {
            return None;
        }
        let paid_until = *self.paid_until.get(&network(address))?;
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

    /// Forgets the addresses that owe nothing any more.
    pub fn forget_idle(&self) {
        let now = self.clock.monotonic();
        self.paid_until.retain(|_, paid_until| *paid_until > now);
    }
}

/// An address, or all that share its first bits: `10.0.0.7`, `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

impl std::str::FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be an address or a network such as 10.0.0.0/8";
        let (base, bits) = text
            .split_once('/')
            .map_or((text, None), |(base, bits)| (base, Some(bits)));
        let base: IpAddr = base.parse().map_err(|_| wrong)?;
        let widest = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(widest), str::parse).map_err(|_| wrong)?;
        if bits > widest {
            Err(wrong)
        } else {
            Ok(Self { base, bits })
        }
    }
}

impl Network {
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                self.bits == 0 || (u32::from(a) ^ u32::from(b)) >> (32 - self.bits) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                self.bits == 0 || (u128::from(a) ^ u128::from(b)) >> (128 - self.bits) == 0
            }
            _ => false,
        }
    }
}

/// The address of the client: the right-most hop that is not one of the configured proxies. What stands left of it was
/// written by the client and proves nothing.
#[must_use]
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[Network]) -> IpAddr {
    let trusted = |address: &IpAddr| trusted_proxies.iter().any(|network| network.contains(*address));
    if !trusted(&peer) {
        return peer;
    }
    let lines: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    let mut nearest = peer;
    for hop in hops {
        // An entry that is no address ends the chain: nothing left of it can be believed.
        let Ok(address) = hop.trim().parse::<IpAddr>() else {
            break;
        };
        nearest = address;
        if !trusted(&address) {
            break;
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{ManualClock, Timestamp};

    fn limit(count: u32, clock: &Arc<ManualClock>) -> AddressLimit {
        AddressLimit::new(
            Rate {
                count,
                per: Duration::from_mins(1),
            },
            Arc::clone(clock) as Arc<dyn Clock>,
        )
    }

    #[test]
    fn an_address_gets_its_burst_and_then_its_rate() {
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
        limit.forget_idle();
        assert!(limit.paid_until.is_empty());
    }

    #[test]
    fn zero_means_no_limit() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
        let limit = limit(0, &clock);
        assert!((0..1_000).all(|_| limit.take("192.0.2.1".parse().unwrap()).is_ok()));
    }

    #[test]
    fn only_configured_proxies_are_believed_and_never_the_left_end() {
        let one = |text: &str| -> Network { text.parse().unwrap() };
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "6.6.6.6, 192.0.2.9".parse().unwrap());
        headers.append("x-forwarded-for", "10.0.0.2".parse().unwrap());
        let of = |peer: &str, trusted: &[Network]| {
            client_address(peer.parse().unwrap(), &headers, trusted).to_string()
        };
        assert_eq!(
            of("203.0.113.5", &[one("10.0.0.1")]),
            "203.0.113.5",
            "a stranger's header is not read"
        );
        assert_eq!(of("10.0.0.1", &[one("10.0.0.1")]), "10.0.0.2");
        assert_eq!(of("10.0.0.1", &[one("10.0.0.0/30")]), "192.0.2.9");
    }

    #[test]
    fn a_network_holds_its_own_and_nobody_else() {
        let net: Network = "10.1.0.0/16".parse().unwrap();
        assert!(
            net.contains("10.1.255.9".parse().unwrap()) && net.contains("::ffff:10.1.2.3".parse().unwrap())
        );
        assert!(!net.contains("10.2.0.1".parse().unwrap()) && !net.contains("::1".parse().unwrap()));
        assert!(
            "0.0.0.0/0"
                .parse::<Network>()
                .unwrap()
                .contains("192.0.2.1".parse().unwrap())
        );
        for wrong in ["10.0.0.0/33", "10.0.0/8", "::/129", "x", "1.2.3.4/-1"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
