//! Where a crowd is sent: only to this machine unless somebody says otherwise, and only to a house.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::wire::{Ask, Wire};

/// A checked address of a public listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub address: SocketAddr,
    /// What stands in `Host`.
    pub authority: String,
}

/// The facts of a sale that a crowd needs.
#[derive(Clone, Debug, Deserialize)]
pub struct SaleFacts {
    pub id: String,
    pub phase: String,
    pub sign_in: String,
    #[serde(default)]
    pub queueing: String,
    pub performances: Vec<PerformanceFacts>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct PerformanceFacts {
    pub id: String,
    pub seat_count: u64,
}

#[derive(Deserialize)]
struct SaleList {
    sales: Vec<SaleFacts>,
}

impl Target {
    /// `http://HOST:PORT`, with every address that the name has on this machine.
    ///
    /// # Errors
    /// Says what is wrong with it; an address elsewhere is refused unless `allow_remote`.
    pub fn parse(url: &str, allow_remote: bool) -> anyhow::Result<Self> {
        let Some(authority) = url.trim_end_matches('/').strip_prefix("http://") else {
            bail!(
                "--target {url}: must be http://HOST:PORT; put a TLS proxy of your own before an https address"
            );
        };
        if authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
            bail!("--target {url}: must be http://HOST:PORT without a path");
        }
        let with_port =
            if authority.contains("]:") || (!authority.starts_with('[') && authority.contains(':')) {
                authority.to_owned()
            } else {
                format!("{authority}:80")
            };
        let addresses: Vec<SocketAddr> = with_port
            .to_socket_addrs()
            .with_context(|| format!("--target {url}: the host cannot be looked up"))?
            .collect();
        let Some(address) = addresses.first().copied() else {
            bail!("--target {url}: the host has no address")
        };
        if let Some(elsewhere) = addresses.iter().find(|it| !it.ip().to_canonical().is_loopback())
            && !allow_remote
        {
            bail!(
                "--target {url}: {} is not this machine. A load test is an attack on a house that does not expect it: say --allow-remote if it is yours",
                elsewhere.ip()
            );
        }
        Ok(Self {
            address,
            authority: authority.to_owned(),
        })
    }
}

/// The sale of this name, or the only one; an error when whoever answers is no house of ours.
///
/// # Errors
/// Says who answered what instead.
pub async fn find_sale(wire: &Wire, named: Option<&str>) -> anyhow::Result<SaleFacts> {
    let ask = Ask {
        method: "GET",
        path: "/v1/sales",
        headers: &[],
        body: None,
    };
    let answer = wire
        .ask(&ask)
        .await
        .map_err(|lost| anyhow::anyhow!("http://{}: {}", wire.address(), lost.name()))?;
    let sales = match answer.json::<SaleList>() {
        Some(list) if answer.status == 200 => list.sales,
        _ => {
            let begins: String = String::from_utf8_lossy(&answer.body).chars().take(80).collect();
            bail!(
                "http://{}: somebody answers, but no stagedoor: {} to GET /v1/sales, {:?}",
                wire.address(),
                answer.status,
                begins
            );
        }
    };
    let names = || {
        sales
            .iter()
            .map(|sale| sale.id.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match named {
        Some(name) => {
            let found = sales.iter().find(|sale| sale.id == name).cloned();
            found.with_context(|| format!("--sale {name}: there is no such sale; there are: {}", names()))
        }
        None if sales.len() == 1 => Ok(sales[0].clone()),
        None => bail!("--sale: which of them? {}", names()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_unless_told() {
        assert!(Target::parse("http://127.0.0.1:8080/", false).is_ok());
        assert!(Target::parse("http://[::1]:8080", false).is_ok());
        assert_eq!(
            Target::parse("http://127.0.0.9", false).unwrap().address.port(),
            80
        );
        for url in [
            "http://192.0.2.1:80",
            "http://[2001:db8::1]:80",
            "http://0.0.0.0:80",
        ] {
            let error = Target::parse(url, false).unwrap_err().to_string();
            assert!(error.contains("--allow-remote"), "{error}");
            assert!(Target::parse(url, true).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_said() {
        for url in [
            "https://127.0.0.1",
            "127.0.0.1:80",
            "http://",
            "http://127.0.0.1:80/v1",
            "http://me@127.0.0.1",
            "http://127.0.0.1:x",
        ] {
            assert!(Target::parse(url, true).is_err(), "{url}");
        }
    }
}
