//! Cookies: read without believing, written so that scripts cannot read them and other sites cannot send them along.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderMap, HeaderValue, header};

use crate::kernel::SaleId;

/// How this house names and guards its cookies.
#[derive(Clone, Copy, Debug)]
pub struct CookieRules {
    /// Behind TLS cookies are `Secure` and carry the `__Host-` prefix, which pins them to this host.
    pub secure: bool,
}

/// The names of one sale's cookies.
#[derive(Clone, Debug)]
pub struct SaleCookies {
    /// The queue token's.
    pub queue: String,
    /// The admission pass's.
    pub pass: String,
}

impl SaleCookies {
    #[must_use]
    pub fn of(sale: &SaleId) -> Self {
        Self {
            queue: format!("sd_queue_{sale}"),
            pass: format!("sd_pass_{sale}"),
        }
    }
}

impl CookieRules {
    /// The value of cookie `name`, if the request carries exactly one.
    #[must_use]
    pub fn read<'a>(&self, headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        let prefix = self.prefix();
        let mut values = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(key, _)| key.strip_prefix(prefix) == Some(name))
            .map(|(_, value)| value);
        // Two of one name means that somebody planted one; neither is believed.
        values.next().filter(|_| values.next().is_none())
    }

    /// `Set-Cookie` for a token that must survive until `life` has passed.
    #[must_use]
    pub fn set(&self, name: &str, value: &str, life: Duration) -> HeaderValue {
        self.line(name, value, life.as_secs())
    }

    /// `Set-Cookie` that takes the cookie away.
    #[must_use]
    pub fn remove(&self, name: &str) -> HeaderValue {
        self.line(name, "", 0)
    }

    fn prefix(self) -> &'static str {
        if self.secure { "__Host-" } else { "" }
    }

    fn line(self, name: &str, value: &str, max_age_s: u64) -> HeaderValue {
        let mut line = String::with_capacity(name.len() + value.len() + 96);
        for part in [
            self.prefix(),
            name,
            "=",
            value,
            "; Path=/; HttpOnly; SameSite=Lax; Max-Age=",
        ] {
            line.push_str(part);
        }
        let _ = write!(line, "{max_age_s}");
        if self.secure {
            line.push_str("; Secure");
        }
        HeaderValue::try_from(line).expect("names and tokens are visible ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(line: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(line).unwrap())])
    }

    #[test]
    fn a_cookie_is_found_among_others_and_a_planted_twin_is_not_believed() {
        let rules = CookieRules { secure: false };
        assert_eq!(
            rules.read(&headers("a=1; sd_session=xyz; b=2"), "sd_session"),
            Some("xyz")
        );
        assert_eq!(
            rules.read(&headers("sd_session=xyz; sd_session=abc"), "sd_session"),
            None
        );
        assert_eq!(rules.read(&headers("xsd_session=xyz"), "sd_session"), None);
    }

    #[test]
    fn under_tls_only_the_pinned_name_counts() {
        let rules = CookieRules { secure: true };
        assert_eq!(rules.read(&headers("sd_session=xyz"), "sd_session"), None);
        assert_eq!(
            rules.read(&headers("__Host-sd_session=xyz"), "sd_session"),
            Some("xyz")
        );
        let line = rules.set("sd_session", "v", Duration::from_mins(1));
        assert_eq!(
            line,
            "__Host-sd_session=v; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure"
        );
    }
}
