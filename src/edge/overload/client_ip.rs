//! Who a client is by address: the connection's peer, the client behind trusted proxies, and the network that
//! counts as one client.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

/// The address that a request's connection came from, before any proxy is believed.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// An address, or all that share its first bits: `10.0.0.7`, `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix_bits: u8,
}

impl std::str::FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be an address or a network such as 10.0.0.0/8";
        let (base, prefix_bits) = text
            .split_once('/')
            .map_or((text, None), |(base, prefix_bits)| (base, Some(prefix_bits)));
        let base: IpAddr = base.parse().map_err(|_| wrong)?;
        let prefix_bits_max = if base.is_ipv4() { 32 } else { 128 };
        let prefix_bits = prefix_bits
            .map_or(Ok(prefix_bits_max), str::parse)
            .map_err(|_| wrong)?;
        if prefix_bits > prefix_bits_max {
            Err(wrong)
        } else {
            Ok(Self { base, prefix_bits })
        }
    }
}

impl Network {
    /// Whether `address` lies in this network. An IPv4 address mapped into IPv6 counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                self.prefix_bits == 0 || (u32::from(a) ^ u32::from(b)) >> (32 - self.prefix_bits) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                self.prefix_bits == 0 || (u128::from(a) ^ u128::from(b)) >> (128 - self.prefix_bits) == 0
            }
            _ => false,
        }
    }
}

/// The network that counts as one client: an IPv4 address, or an IPv6 /64, since a household has a /64 of
/// addresses.
#[must_use]
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

/// The address of the client: the right-most hop of `X-Forwarded-For` that is not one of the trusted proxies.
/// What stands left of it was written by the client and proves nothing.
#[must_use]
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[Network]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted_proxies.iter().any(|network| network.contains(*address));
    if !is_trusted(&peer) {
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
        // An entry that is not an address ends the chain: nothing left of it can be believed.
        let Some(address) = hop_address(hop) else {
            break;
        };
        nearest = address;
        if !is_trusted(&address) {
            break;
        }
    }
    nearest
}

/// One hop as balancers write it: an address, also with a port (Azure Application Gateway) or, for IPv6, in
/// brackets.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    hop.parse::<IpAddr>()
        .or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()
        .or_else(|| hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_may_have_a_port_or_brackets() {
        for (hop, address) in [
            ("192.0.2.9", "192.0.2.9"),
            (" 192.0.2.9:50123", "192.0.2.9"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
        ] {
            assert_eq!(hop_address(hop), Some(address.parse().unwrap()), "{hop}");
        }
        for hop in [
            "",
            "unknown",
            "_hidden",
            "192.0.2.9:",
            "192.0.2.9:99999",
            "[192.0.2.9",
        ] {
            assert_eq!(hop_address(hop), None, "{hop}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let network = |text: &str| -> Network { text.parse().unwrap() };
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "6.6.6.6, 192.0.2.9".parse().unwrap());
        headers.append("x-forwarded-for", "10.0.0.2".parse().unwrap());
        let client = |peer: &str, trusted: &[Network]| {
            client_address(peer.parse().unwrap(), &headers, trusted).to_string()
        };
        assert_eq!(
            client("203.0.113.5", &[network("10.0.0.1")]),
            "203.0.113.5",
            "the header of an untrusted peer is ignored"
        );
        assert_eq!(client("10.0.0.1", &[network("10.0.0.1")]), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &[network("10.0.0.0/30")]), "192.0.2.9");
    }

    #[test]
    fn a_network_contains_only_its_own_addresses() {
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

    #[test]
    fn an_ipv6_64_counts_as_one_client() {
        let of = |text: &str| client_network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
        assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
    }
}
