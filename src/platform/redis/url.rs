//! Parses the URLs of Redis servers, sentinels and clusters.

use std::{fmt, iter};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

/// A parsed URL: `redis://[user:password@]host[:port][/db]`,
/// `redis+sentinel://[user:password@]host:port,.../NAME` or `redis+cluster://[user:password@]host:port,...`;
/// each also with `rediss`, over TLS.
#[derive(Clone)]
pub struct RedisUrl {
    pub(crate) topology: Topology,
    credentials: RedisConnectionInfo,
    tls: bool,
}

#[derive(Clone)]
pub(crate) enum Topology {
    Single(HostPort),
    /// The sentinels, and the name under which they monitor the primary.
    Sentinel(Vec<HostPort>, String),
    /// Some of the members; they know the others.
    Cluster(Vec<HostPort>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// Why a text is not a Redis URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlError {
    /// Another scheme, or several hosts without sentinel or cluster.
    #[error(
        "must begin with redis://, redis+sentinel:// or redis+cluster:// (or rediss..., for TLS); for \
        instance redis://127.0.0.1:6379"
    )]
    Scheme,
    /// A host is empty.
    #[error("has no host")]
    NoHost,
    /// A port is not a number.
    #[error("its port is not a number")]
    Port,
    /// User or password is not percent-encoded.
    #[error("its user or password is not percent-encoded")]
    Credentials,
    /// The path is not a database number.
    #[error("the path must be the number of a database, for instance /0")]
    Database,
    /// The path is not a primary's name.
    #[error("the path must be the name of the primary that the sentinels monitor, for instance /mymaster")]
    PrimaryName,
    /// A cluster URL has a path.
    #[error("a cluster has no databases: leave the path out")]
    ClusterPath,
}

impl RedisUrl {
    /// Parses a URL; the port defaults to 6379.
    ///
    /// # Errors
    /// [`RedisUrlError`]; it never quotes the URL, which may hold a password.
    pub fn parse(url: &str) -> Result<Self, RedisUrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(RedisUrlError::Scheme)?;
        let (family, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match family {
            "redis" => false,
            "rediss" => true,
            _ => return Err(RedisUrlError::Scheme),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = authority
            .rsplit_once('@')
            .map_or((None, authority), |(credentials, hosts)| {
                (Some(credentials), hosts)
            });
        let mut login = RedisConnectionInfo::default();
        if let Some(credentials) = credentials {
            // The driver parses credentials; the host is a placeholder.
            let probe = format!("redis://{credentials}@localhost");
            let info = probe
                .as_str()
                .into_connection_info()
                .map_err(|_| RedisUrlError::Credentials)?;
            login = info.redis_settings().clone();
        }
        let hosts: Vec<HostPort> = hosts.split(',').map(HostPort::parse).collect::<Result<_, _>>()?;
        let topology = match kind {
            "" => {
                if !path.is_empty() {
                    login = login.set_db(path.parse().map_err(|_| RedisUrlError::Database)?);
                }
                match <[HostPort; 1]>::try_from(hosts) {
                    Ok([host]) => Topology::Single(host),
                    Err(_) => return Err(RedisUrlError::Scheme),
                }
            }
            "sentinel" if path.is_empty() || path.contains('/') => return Err(RedisUrlError::PrimaryName),
            "sentinel" => Topology::Sentinel(hosts, path.to_owned()),
            "cluster" if !path.is_empty() => return Err(RedisUrlError::ClusterPath),
            "cluster" => Topology::Cluster(hosts),
            _ => return Err(RedisUrlError::Scheme),
        };
        Ok(Self {
            topology,
            credentials: login,
            tls,
        })
    }

    /// Connection parameters of the data server at `host`.
    pub(crate) fn connection_to(&self, host: &HostPort) -> ConnectionInfo {
        self.connection_info(host)
            .set_redis_settings(self.credentials.clone())
    }

    /// Connection parameters of a sentinel, which has no databases; the credentials are the data servers'.
    pub(crate) fn connection_to_sentinel(&self, host: &HostPort) -> ConnectionInfo {
        self.connection_info(host)
    }

    fn connection_info(&self, host: &HostPort) -> ConnectionInfo {
        let HostPort { name, port } = host.clone();
        let addr = if self.tls {
            ConnectionAddr::TcpTls {
                host: name,
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(name, port)
        };
        addr.into_connection_info().expect("an address is one")
    }

    pub(crate) fn hosts(&self) -> &[HostPort] {
        match &self.topology {
            Topology::Single(host) => std::slice::from_ref(host),
            Topology::Sentinel(hosts, _) | Topology::Cluster(hosts) => hosts,
        }
    }
}

impl HostPort {
    pub(crate) fn new(name: impl Into<String>, port: u16) -> Self {
        Self {
            name: name.into(),
            port,
        }
    }

    fn parse(text: &str) -> Result<Self, RedisUrlError> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => {
                (name, port.parse().map_err(|_| RedisUrlError::Port)?)
            }
            _ => (text, 6379),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        if name.is_empty() {
            Err(RedisUrlError::NoHost)
        } else {
            Ok(Self::new(name, port))
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

/// Without credentials.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (between, host) in iter::once("").chain(iter::repeat(",")).zip(self.hosts()) {
            write!(f, "{between}{host}")?;
        }
        if let Topology::Sentinel(_, name) = &self.topology {
            write!(f, "/{name}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

/// The cluster slot of a hash tag (CRC-16/XMODEM modulo 16384, Redis Cluster specification).
pub(crate) fn slot_of(tag: &str) -> u16 {
    let mut crc = 0_u16;
    for byte in tag.bytes() {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                crc << 1 ^ 0x1021
            };
        }
    }
    crc % 16_384
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_parsed_and_no_password_is_shown() {
        for (url, shown) in [
            ("redis://127.0.0.1:6380/2", "127.0.0.1:6380"),
            ("redis://cache", "cache:6379"),
            ("rediss://app:s%40cret@cache.example:6390", "cache.example:6390"),
            ("redis://:s%40cret@[::1]:7000", "::1:7000"),
            ("redis+sentinel://:s%40cret@a:1,b:2,c:3/hero", "a:1,b:2,c:3/hero"),
            ("redis+cluster://a:1,b:2", "a:1,b:2"),
        ] {
            let parsed = RedisUrl::parse(url).unwrap();
            assert_eq!(parsed.to_string(), shown, "{url}");
            assert!(!format!("{parsed:?}").contains("cret"));
        }
        let parsed = RedisUrl::parse("redis://app:s%40cret@a:1/3").unwrap();
        let login = parsed.connection_to(&HostPort::new("a", 1));
        assert_eq!(
            (
                login.redis_settings().username(),
                login.redis_settings().password()
            ),
            (Some("app"), Some("s@cret"))
        );
        assert_eq!(login.redis_settings().db(), 3);
    }

    #[test]
    fn invalid_urls_are_refused() {
        for (url, error) in [
            ("127.0.0.1:6379", RedisUrlError::Scheme),
            ("http://a", RedisUrlError::Scheme),
            ("redis+magic://a", RedisUrlError::Scheme),
            ("redis://a:1,b:2", RedisUrlError::Scheme),
            ("redis://", RedisUrlError::NoHost),
            ("redis://a:x", RedisUrlError::Port),
            ("redis://a/first", RedisUrlError::Database),
            ("redis+sentinel://a:1", RedisUrlError::PrimaryName),
            ("redis+cluster://a:1/0", RedisUrlError::ClusterPath),
        ] {
            assert_eq!(RedisUrl::parse(url).unwrap_err(), error, "{url}");
        }
    }

    #[test]
    fn slots_match_the_cluster_specification() {
        assert_eq!((slot_of("123456789"), slot_of("foo")), (0x31C3, 12_182));
    }
}
