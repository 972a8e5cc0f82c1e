//! Credentials of a request: sessions, queue tokens and passes, from headers or cookies.

use std::time::Duration;

use http::{HeaderMap, Method, request::Parts};

use crate::{
    edge::{
        errors::problem::{Problem, ProblemType},
        state::{AppState, SaleInfo},
    },
    kernel::{SaleId, Subject, Timestamp},
    platform::signing::TokenError,
    shop::Session,
    waiting_room::{QueueToken, is_anonymous_entry},
};

/// The name of the session's cookie.
pub(crate) const SESSION_COOKIE: &str = "sd_session";

/// The subject of a visitor in a sale without sign-in, where the queue entry alone identifies them.
#[must_use]
pub(crate) fn queue_entry_subject(sale: &SaleId, subject_hash: u64) -> Subject {
    Subject::from_stored(&format!("queue:{sale}:{subject_hash:016x}"))
        .expect("short enough: a sale's id has at most 64 characters")
}

/// Whether it is the subject of a queue entry that an anonymous visitor made, and not a signed-in customer.
#[must_use]
pub(crate) fn is_anonymous(subject: &Subject) -> bool {
    subject
        .as_str()
        .strip_prefix("queue:")
        .and_then(|entry| entry.rsplit_once(':'))
        .and_then(|(_, hash)| u64::from_str_radix(hash, 16).ok())
        .is_some_and(is_anonymous_entry)
}

/// The queue token that a request carries, if it is valid, verified and as presented.
pub(crate) fn presented_queue_token(
    parts: &Parts,
    app: &AppState,
    sale: &SaleInfo,
) -> Result<Option<(QueueToken, String)>, Problem> {
    let raw = token_from_header_or_cookie(parts, app, "queue-token", &sale.cookies.queue)?;
    Ok(raw.and_then(|raw| Some((sale.tokens.verify_token(raw).ok()?, raw.to_owned()))))
}

/// The session, if it is valid: where none is required, an expired or forged one counts as none.
pub(crate) fn valid_session(parts: &Parts, app: &AppState) -> Result<Option<Session>, Problem> {
    match session(parts, app) {
        Err(problem) if problem.kind() == ProblemType::SignInRequired => Ok(None),
        other => other,
    }
}

/// The session; `None` when the request carries none.
///
/// # Errors
/// The session is expired or forged, or came by cookie from another site.
pub(super) fn session(parts: &Parts, app: &AppState) -> Result<Option<Session>, Problem> {
    let raw = match bearer(&parts.headers) {
        Some(raw) => Some(raw),
        None => cookie(parts, app, SESSION_COOKIE)?,
    };
    let Some(raw) = raw else { return Ok(None) };
    app.shop
        .read_session(raw)
        .map(Some)
        .map_err(|e| token_problem(ProblemType::SignInRequired, e))
}

/// A token from its header, or else from its cookie.
pub(super) fn token_from_header_or_cookie<'a>(
    parts: &'a Parts,
    app: &AppState,
    header: &str,
    cookie_name: &str,
) -> Result<Option<&'a str>, Problem> {
    if parts.headers.contains_key(header) {
        Ok(single_header(&parts.headers, header))
    } else {
        cookie(parts, app, cookie_name)
    }
}

/// The value of a header that occurs once. Of two, a proxy may have checked the other one, so neither is
/// believed.
pub(crate) fn single_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())?.to_str().ok()
}

/// The value of a cookie. A browser sends cookies with requests that other sites make too, so a request that
/// changes something and proves itself by a cookie must come from this site's own pages.
fn cookie<'a>(parts: &'a Parts, app: &AppState, name: &str) -> Result<Option<&'a str>, Problem> {
    let Some(value) = app.cookies.read(&parts.headers, name) else {
        return Ok(None);
    };
    let is_safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if is_safe || is_same_origin(parts, app) {
        Ok(Some(value))
    } else {
        let own = app.config.public_base.origin();
        Err(Problem::new(ProblemType::CrossOrigin).detail(format!("the Origin of this site is {own}")))
    }
}

/// Whether a page of this site's own made the request. `Host` says nothing: the client that connects to this
/// server's address chooses it.
fn is_same_origin(parts: &Parts, app: &AppState) -> bool {
    single_header(&parts.headers, "origin").is_some_and(|origin| origin == app.config.public_base.origin())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = single_header(headers, "authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// 401 of this kind, for a token that was not accepted.
pub(super) fn token_problem(kind: ProblemType, error: TokenError) -> Problem {
    Problem::new(kind).detail(error.to_string())
}

/// 404 for a sale that is not configured.
pub(super) fn no_such_sale() -> Problem {
    Problem::new(ProblemType::NotFound).detail("there is no such sale")
}

/// How long a queue token's cookie lives: until a day after the sale closes, so that orders can still be
/// looked up.
#[must_use]
pub(crate) fn queue_cookie_ttl(sale: &SaleInfo, now: Timestamp) -> Duration {
    sale.closes_at.since(now) + Duration::from_hours(24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_entries_without_a_customer_are_anonymous() {
        let sale: SaleId = "hero-open".parse().unwrap();
        assert!(is_anonymous(&queue_entry_subject(&sale, 1 << 63 | 7)));
        assert!(!is_anonymous(&queue_entry_subject(&sale, 7)));
        assert!(!is_anonymous(
            &Subject::customer("queue:x:ffffffffffffffff").unwrap()
        ));
    }
}
