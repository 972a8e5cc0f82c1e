//! The address under which browsers reach the service: a host of its own, or a path of the shop's host.
//!
//! Under a path the dispatcher takes the path off each request and puts it before each redirect, so that
//! routes and handlers know nothing of it. What else leaves the service with an address in it (pages,
//! cookies, answers) asks this type.

use std::borrow::Cow;

use axum::{extract::Request, response::Response};
use http::{HeaderValue, Uri, header, uri::PathAndQuery};

/// `server.public_base`, taken apart.
#[derive(Clone, Debug)]
pub struct PublicBase {
    origin: String,
    path: String,
}

impl PublicBase {
    /// Takes `https://host` or `https://host/path` apart; the configuration's checks exclude all else.
    #[must_use]
    pub fn new(base: &str) -> Self {
        let host_at = base.find("://").map_or(0, |at| at + 3);
        let path_at = base[host_at..].find('/').map_or(base.len(), |at| host_at + at);
        let origin = base[..path_at].to_ascii_lowercase();
        let own_port = if origin.starts_with("https:") {
            ":443"
        } else {
            ":80"
        };
        Self {
            origin: origin.strip_suffix(own_port).unwrap_or(&origin).to_owned(),
            path: base[path_at..].to_owned(),
        }
    }

    /// The origin as browsers write it in `Origin` (RFC 6454, 6.2): in lower case, without the scheme's own
    /// port.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The path, such as `/tickets`; empty on a host of its own.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether browsers come over TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.origin.starts_with("https:")
    }

    /// The URL of a path of the service.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        [&self.origin, &self.path, path].concat()
    }

    /// The path of the host for a path of the service.
    #[must_use]
    pub fn host_path(&self, path: &str) -> String {
        [&self.path, path].concat()
    }

    /// The service's own path, with its query, for a path of the host; `None` for one of another service.
    #[must_use]
    pub fn own_path<'a>(&self, path: &'a str) -> Option<Cow<'a, str>> {
        let rest = path.strip_prefix(&self.path)?;
        match rest.bytes().next() {
            Some(b'/') => Some(rest.into()),
            None | Some(b'?') => Some(format!("/{rest}").into()),
            Some(_) => None,
        }
    }

    /// Makes the request's path one that the routes know; `None` where it is not the service's.
    pub(super) fn enter(&self, request: &mut Request) -> Option<()> {
        if self.path.is_empty() {
            return Some(());
        }
        let path = self.own_path(request.uri().path_and_query()?.as_str())?;
        let mut uri = request.uri().clone().into_parts();
        uri.path_and_query = Some(PathAndQuery::try_from(path.as_ref()).ok()?);
        *request.uri_mut() = Uri::from_parts(uri).ok()?;
        Some(())
    }

    /// Makes the response what browsers must see: a redirect within the service names the path of the host.
    pub(super) fn leave(&self, response: &mut Response) {
        if self.path.is_empty() {
            return;
        }
        let own = response.headers().get(header::LOCATION);
        let own = own.filter(|location| location.as_bytes().starts_with(b"/"));
        if let Some(location) = own.map(|location| [self.path.as_bytes(), location.as_bytes()].concat())
            && let Ok(location) = HeaderValue::from_bytes(&location)
        {
            response.headers_mut().insert(header::LOCATION, location);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_do() {
        for (base, origin, path) in [
            ("https://Tickets.Example", "https://tickets.example", ""),
            ("https://tickets.example:443", "https://tickets.example", ""),
            ("https://tickets.example:80", "https://tickets.example:80", ""),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", ""),
            ("http://[::1]:80", "http://[::1]", ""),
            ("https://Shop.Example/Tickets", "https://shop.example", "/Tickets"),
            ("https://shop.example:443/a/b", "https://shop.example", "/a/b"),
        ] {
            let base = PublicBase::new(base);
            assert_eq!((base.origin(), base.path()), (origin, path));
        }
    }

    fn entered(base: &str, uri: &str) -> Option<String> {
        let mut request = Request::builder().uri(uri).body(Body::empty()).unwrap();
        PublicBase::new(base).enter(&mut request)?;
        Some(request.uri().to_string())
    }

    #[test]
    fn only_the_path_itself_is_taken_off_a_request() {
        for (uri, expected) in [
            ("/tickets/sales/x?lang=ko", Some("/sales/x?lang=ko")),
            ("/tickets/", Some("/")),
            ("/tickets", Some("/")),
            ("/tickets?lang=ko", Some("/?lang=ko")),
            ("/tickets/tickets/x", Some("/tickets/x")),
            ("/tickets/a%2Fb//c", Some("/a%2Fb//c")),
            ("http://shop.example/tickets/x", Some("http://shop.example/x")),
            ("/ticketsx", None),
            ("/tickets%2Fx", None),
            ("/Tickets/x", None),
            ("/", None),
            ("/x/tickets/", None),
            ("//tickets/x", None),
        ] {
            assert_eq!(
                entered("https://shop.example/tickets", uri).as_deref(),
                expected,
                "{uri}"
            );
            assert_eq!(entered("https://shop.example", uri).as_deref(), Some(uri));
        }
    }

    #[test]
    fn only_redirects_within_the_service_get_the_path() {
        let base = PublicBase::new("https://shop.example/tickets");
        for (location, expected) in [
            ("/orders/1", "/tickets/orders/1"),
            ("//evil.example", "/tickets//evil.example"),
            ("https://bank.example/pay", "https://bank.example/pay"),
        ] {
            let mut response = Response::new(Body::empty());
            response
                .headers_mut()
                .insert(header::LOCATION, HeaderValue::from_static(location));
            base.leave(&mut response);
            assert_eq!(response.headers()[header::LOCATION], expected);
        }
        let mut without = Response::new(Body::empty());
        base.leave(&mut without);
        assert!(!without.headers().contains_key(header::LOCATION));
        assert_eq!(base.url("/sales/x"), "https://shop.example/tickets/sales/x");
    }
}
