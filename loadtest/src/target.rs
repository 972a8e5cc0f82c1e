//! The server under test: only on this machine unless allowed otherwise, and only a stagedoor.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, bail};
use stagedoor::demo::client::{
    messages::{SaleInfo, SaleList},
    paths,
};

use crate::http1::{Http1Client, HttpRequest};

/// The checked address of a public listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The first address of the host.
    pub address: SocketAddr,
    /// The value of `Host`.
    pub authority: String,
}

impl Target {
    /// Parses `http://HOST:PORT` and resolves the host.
    ///
    /// # Errors
    /// The URL has another form, or the host resolves to another machine and `allow_remote` is false.
    pub fn parse(url: &str, allow_remote: bool) -> anyhow::Result<Self> {
        let Some(authority) = url.trim_end_matches('/').strip_prefix("http://") else {
            bail!(
                "--target {url}: must be http://HOST:PORT; put a TLS proxy of your own before an https \
                 address"
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
            .with_context(|| format!("--target {url}: the host cannot be resolved"))?
            .collect();
        let Some(address) = addresses.first().copied() else {
            bail!("--target {url}: the host has no address")
        };
        if let Some(remote) = addresses
            .iter()
            .find(|address| !address.ip().to_canonical().is_loopback())
            && !allow_remote
        {
            bail!(
                "--target {url}: {} is not this machine. A load test is an attack on a server that does not \
                 expect it: \
                 pass --allow-remote if it is yours",
                remote.ip()
            );
        }
        Ok(Self {
            address,
            authority: authority.to_owned(),
        })
    }
}

/// The sale of this name, or the only sale.
///
/// # Errors
/// The server does not answer, is not a stagedoor, or has no such sale.
pub async fn find_sale(client: &Http1Client, name: Option<&str>) -> anyhow::Result<SaleInfo> {
    let address = client.address();
    let reply = client
        .send(&HttpRequest::get(paths::SALES))
        .await
        .with_context(|| format!("http://{address}"))?;
    let sales = match reply.json::<SaleList>() {
        Some(list) if reply.status == 200 => list.sales,
        _ => {
            let start: String = String::from_utf8_lossy(&reply.body).chars().take(80).collect();
            bail!(
                "http://{address} is no stagedoor: {} to GET /v1/sales, {start:?}",
                reply.status
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
    match name {
        Some(name) => {
            let found = sales.iter().find(|sale| sale.id == name).cloned();
            found.with_context(|| format!("--sale {name}: no such sale; there are: {}", names()))
        }
        None if sales.len() == 1 => Ok(sales[0].clone()),
        None => bail!("--sale: name one of {}", names()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_target_needs_permission() {
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
    fn a_malformed_target_is_rejected() {
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
