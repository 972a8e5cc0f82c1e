//! Collects problems, and predicates that several checks share.

use std::net::IpAddr;

/// Problems found so far: a key's full path and a sentence.
#[derive(Default)]
pub(super) struct Problems(pub(super) Vec<(String, String)>);

impl Problems {
    /// Adds a problem if the condition holds.
    pub(super) fn add_if(&mut self, wrong: bool, key: impl Into<String>, sentence: impl Into<String>) {
        if wrong {
            self.0.push((key.into(), sentence.into()));
        }
    }

    /// Adds a problem for each number of the section that is 0.
    pub(super) fn require_positive(&mut self, numbers: &[(&str, u64)], section: &str) {
        for (key, number) in numbers {
            self.add_if(*number == 0, format!("{section}.{key}"), "must be at least 1");
        }
    }

    /// Adds a problem for each number of the section above its maximum.
    pub(super) fn require_at_most(&mut self, numbers: &[(&str, u64, u64)], section: &str) {
        for (key, number, most) in numbers {
            self.add_if(
                number > most,
                format!("{section}.{key}"),
                format!("must be at most {most}"),
            );
        }
    }
}

/// Whether it is `http://HOST` or `https://HOST` without a trailing slash.
pub(super) fn is_base_url(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
    }) && !text.ends_with('/')
}

/// Whether it is a base URL with or without a path, which must be written one way only: cookies, proxies and
/// the service compare it byte by byte.
pub(super) fn is_public_base(text: &str) -> bool {
    let is_unreserved = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let is_segment = |part: &str| !["", ".", ".."].contains(&part) && part.chars().all(is_unreserved);
    let path = text.splitn(4, '/').nth(3);
    is_base_url(text) && !text.contains(['#', '@']) && path.is_none_or(|path| path.split('/').all(is_segment))
}

/// Whether it is the address of a page that a link can lead to.
pub(super) fn is_page_url(text: &str) -> bool {
    !text.contains('#')
        && text
            .parse::<http::Uri>()
            .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

/// Whether it is an origin as browsers write it in `Origin` (RFC 6454, 6.2).
pub(super) fn is_origin(text: &str) -> bool {
    let own_port = if text.starts_with("https:") { ":443" } else { ":80" };
    is_base_url(text)
        && text.matches('/').count() == 2
        && !text.ends_with(own_port)
        && !text.contains(|c: char| c.is_ascii_uppercase() || c == '@')
}

/// Whether it is an `https://` URL, or an `http://` URL of this machine: answers that cannot be changed on
/// the way.
pub(super) fn is_trusted_url(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let has_user = uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'));
        !host.is_empty()
            && !has_user
            && (uri.scheme_str() == Some("https") || uri.scheme_str() == Some("http") && is_loopback)
    })
}

/// Whether it is an IP address or a network in CIDR notation.
pub(super) fn is_network(text: &str) -> bool {
    let (address, prefix) = text
        .split_once('/')
        .map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    prefix.is_none_or(|prefix| prefix.parse::<u8>().is_ok_and(|length| length <= bits))
}
