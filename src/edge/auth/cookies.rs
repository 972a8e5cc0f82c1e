//! Cookies: scripts cannot read them, and other sites cannot make a browser send them with a change.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderMap, HeaderValue, header};

use crate::{edge::public_base::PublicBase, kernel::SaleId};

/// How cookies are named and guarded. Behind TLS they are `Secure`. On a host of its own the prefix `__Host-`
/// pins them to that host; a path of another host excludes it, and `__Secure-` says only that they came over
/// TLS.
#[derive(Clone, Debug)]
pub struct CookieRules {
    is_secure: bool,
    prefix: &'static str,
    /// `Path=/tickets` is for `/tickets` and for `/tickets/...`, not for `/ticketsx` (RFC 6265, 5.1.4).
    path: String,
}

/// The names of one sale's cookies.
#[derive(Clone, Debug)]
pub struct SaleCookies {
    /// Name of the cookie with the queue token.
    pub queue: String,
    /// Name of the cookie with the admission pass.
    pub pass: String,
}

impl SaleCookies {
    /// The names for this sale.
    #[must_use]
    pub fn of(sale: &SaleId) -> Self {
        Self {
            queue: format!("sd_queue_{sale}"),
            pass: format!("sd_pass_{sale}"),
        }
    }
}

impl CookieRules {
    /// The rules for this address of the service.
    #[must_use]
    pub fn new(base: &PublicBase) -> Self {
        Self {
            is_secure: base.is_secure(),
            prefix: match (base.is_secure(), base.path()) {
                (false, _) => "",
                (true, "") => "__Host-",
                (true, _) => "__Secure-",
            },
            path: match base.path() {
                "" => "/".to_owned(),
                path => path.to_owned(),
            },
        }
    }

    /// The value of cookie `name`, if the request carries exactly one.
    #[must_use]
    pub fn read<'a>(&self, headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        // As bytes: a head holds thousands of cookies, and characters would take twenty times as long as all
        // else that is done for a request.
        let value_of = |pair: &'a [u8]| {
            let key = pair.trim_ascii().strip_prefix(self.prefix.as_bytes())?;
            key.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
        };
        let mut values = headers
            .get_all(header::COOKIE)
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
            .filter_map(value_of);
        // Two of one name mean that one was planted (by a subdomain, say); neither is believed.
        let value = values.next().filter(|_| values.next().is_none())?;
        std::str::from_utf8(value).ok()
    }

    /// `Set-Cookie` for a value that lives for `ttl`.
    #[must_use]
    pub fn set(&self, name: &str, value: &str, ttl: Duration) -> HeaderValue {
        self.line(name, value, "Lax", ttl.as_secs())
    }

    /// `Set-Cookie` for a value that browsers also send when a form on another site leads here. Without TLS
    /// they refuse such a cookie, so there it is sent with links and with forms of the same site only.
    #[must_use]
    pub fn set_for_other_sites(&self, name: &str, value: &str, ttl: Duration) -> HeaderValue {
        let same_site = if self.is_secure { "None" } else { "Lax" };
        self.line(name, value, same_site, ttl.as_secs())
    }

    /// `Set-Cookie` that removes the cookie.
    #[must_use]
    pub fn remove(&self, name: &str) -> HeaderValue {
        self.line(name, "", "Lax", 0)
    }

    fn line(&self, name: &str, value: &str, same_site: &str, max_age_s: u64) -> HeaderValue {
        let mut line = String::with_capacity(name.len() + value.len() + self.path.len() + 96);
        for part in [
            self.prefix,
            name,
            "=",
            value,
            "; Path=",
            &self.path,
            "; HttpOnly; SameSite=",
            same_site,
            "; Max-Age=",
        ] {
            line.push_str(part);
        }
        let _ = write!(line, "{max_age_s}");
        if self.is_secure {
            line.push_str("; Secure");
        }
        HeaderValue::try_from(line).expect("names and tokens are visible ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(base: &str) -> CookieRules {
        CookieRules::new(&PublicBase::new(base))
    }

    fn headers(line: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(line).unwrap())])
    }

    #[test]
    fn a_cookie_is_read_unless_there_are_two_of_its_name() {
        let rules = rules("http://127.0.0.1:8080");
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
    fn under_tls_only_the_host_prefixed_name_counts() {
        let rules = rules("https://tickets.example");
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
        let line = rules.set_for_other_sites("sd_sign_in", "v", Duration::from_mins(10));
        assert_eq!(
            line,
            "__Host-sd_sign_in=v; Path=/; HttpOnly; SameSite=None; Max-Age=600; Secure"
        );
        let plain = self::rules("http://127.0.0.1:8080");
        let line = plain.set_for_other_sites("sd_sign_in", "v", Duration::from_mins(10));
        assert_eq!(line, "sd_sign_in=v; Path=/; HttpOnly; SameSite=Lax; Max-Age=600");
    }

    #[test]
    fn under_a_path_cookies_go_no_further_than_the_path() {
        let rules = rules("https://shop.example/tickets");
        assert_eq!(
            rules.read(
                &headers("__Secure-sd_session=xyz; __Host-sd_session=abc"),
                "sd_session"
            ),
            Some("xyz")
        );
        assert_eq!(
            rules.set_for_other_sites("sd_sign_in", "v", Duration::from_mins(10)),
            "__Secure-sd_sign_in=v; Path=/tickets; HttpOnly; SameSite=None; Max-Age=600; Secure"
        );
        assert_eq!(
            rules.remove("sd_session"),
            "__Secure-sd_session=; Path=/tickets; HttpOnly; SameSite=Lax; Max-Age=0; Secure"
        );
        assert_eq!(
            self::rules("http://127.0.0.1:8080/tickets").set("sd_lang", "ko", Duration::from_mins(1)),
            "sd_lang=ko; Path=/tickets; HttpOnly; SameSite=Lax; Max-Age=60"
        );
    }
}
