//! Problems as pages: a person who navigates gets a small page in their language where a program gets the
//! problem document.

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use crate::edge::{
    errors::problem::{PROBLEM_JSON, Problem, ProblemType},
    pages::Lang,
    state::AppState,
};

/// The cookie with the visitor's choice of language.
pub const LANG_COOKIE: &str = "sd_lang";

/// Seconds until a page that comes back by itself does so, where the problem has no `Retry-After`.
const COMES_BACK_AFTER_S: (u64, u64) = (4, 12);

/// The language of a navigation, which is to be answered with a page; `None` for a program's call.
pub(crate) fn navigation(app: &AppState, request: &Request) -> Option<Lang> {
    prefers_html(request.headers()).then(|| language(app, request.uri(), request.headers()))
}

/// The language for a visitor: of `?lang=`, else of their cookie, else of their browser.
pub(crate) fn language(app: &AppState, uri: &Uri, headers: &HeaderMap) -> Lang {
    let accept = headers
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|value| value.to_str().ok());
    Lang::choose(
        accept,
        app.cookies.read(headers, LANG_COOKIE),
        query_value(uri, "lang"),
    )
}

/// The last value of a query parameter, as it is written in the address.
pub(crate) fn query_value<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let mut pairs = uri.query()?.rsplit('&');
    pairs.find_map(|pair| match pair.strip_prefix(name)? {
        "" => Some(""),
        value => value.strip_prefix('='),
    })
}

/// Whether HTML is what the client prefers, as a browser's navigation does: at least as much as JSON.
pub(crate) fn prefers_html(headers: &HeaderMap) -> bool {
    // Programs rarely name HTML, so most requests cost no more than this.
    let names_html = |value: &HeaderValue| value.as_bytes().windows(9).any(|part| part == b"text/html");
    let accepts = || headers.get_all(header::ACCEPT).iter();
    if !accepts().any(names_html) {
        return false;
    }
    let (mut html, mut json) = (0.0_f32, 0.0_f32);
    let ranges = accepts().filter_map(|value| value.to_str().ok());
    for range in ranges.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let weight = parts
            .find_map(|parameter| parameter.strip_prefix("q="))
            .map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
        match kind {
            "text/html" => html = html.max(weight),
            "application/json" | "application/problem+json" => json = json.max(weight),
            _ => {}
        }
    }
    html > 0.0 && html >= json
}

/// The page of a problem's status instead of the problem; every other response as it is.
pub(crate) fn page_instead_of_problem(app: &AppState, lang: Lang, response: Response) -> Response {
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == PROBLEM_JSON);
    if !is_problem {
        return response;
    }
    let (mut head, _) = response.into_parts();
    let page = app.pages.error(head.status.as_u16(), lang);
    let headers = &mut head.headers;
    // The router has set the problem's.
    headers.remove(header::CONTENT_LENGTH);
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::VARY, "accept, accept-language, cookie"),
        (header::CONTENT_LANGUAGE, lang.tag()),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_maybe_shared(page.security_policy.clone()) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    if page.comes_back {
        let after = headers.get(header::RETRY_AFTER).cloned().unwrap_or_else(|| {
            let (from_s, to_s) = COMES_BACK_AFTER_S;
            HeaderValue::from(app.retry_after_jitter_s(from_s, to_s))
        });
        headers.insert(header::REFRESH, after);
    }
    Response::from_parts(head, Body::from(page.html.clone()))
}

/// The response to a request head that cannot be read. `head` is as much of it as has arrived.
pub(crate) fn unreadable_head(app: Option<&AppState>, status: StatusCode, head: &[u8]) -> Response {
    let kind = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ProblemType::HeadTooLarge,
        StatusCode::URI_TOO_LONG => ProblemType::AddressTooLong,
        _ => ProblemType::MalformedRequest,
    };
    let response = Problem::new(kind).into_response();
    let headers = readable_headers(head);
    match app {
        Some(app) if prefers_html(&headers) => {
            let lang = language(app, &Uri::default(), &headers);
            page_instead_of_problem(app, lang, response)
        }
        _ => response,
    }
}

/// The headers of an unreadable head that decide the form of its answer.
fn readable_headers(head: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let Some((name, value)) = line.trim_end().split_once(':') else {
            continue;
        };
        for known in [header::ACCEPT, header::ACCEPT_LANGUAGE, header::COOKIE] {
            if name.eq_ignore_ascii_case(known.as_str())
                && let Ok(value) = HeaderValue::from_str(value.trim())
            {
                headers.append(known, value);
            }
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::Path};

    use super::*;
    use crate::edge::pages::{Pages, STATUSES, SignInOptions};

    fn accepting(accept: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))])
    }

    #[test]
    fn a_navigation_prefers_html_and_a_program_does_not() {
        for (accept, expected) in [
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
                true,
            ),
            ("text/html", true),
            ("application/json;q=0.9, text/html", true),
            ("*/*", false),
            ("application/json", false),
            ("application/json, text/html;q=0.5", false),
            ("text/html;q=0, */*", false),
            ("text/event-stream", false),
            ("image/avif,image/webp,*/*;q=0.8", false),
        ] {
            assert_eq!(prefers_html(&accepting(accept)), expected, "{accept}");
        }
        assert!(!prefers_html(&HeaderMap::new()));
    }

    #[test]
    fn the_last_of_doubled_query_keys_counts() {
        let uri = |text: &'static str| Uri::from_static(text);
        assert_eq!(query_value(&uri("/?lang=ko&lang=en"), "lang"), Some("en"));
        assert_eq!(query_value(&uri("/?language=ko"), "lang"), None);
        assert_eq!(query_value(&uri("/?plain"), "plain"), Some(""));
        assert_eq!(query_value(&uri("/"), "lang"), None);
    }

    #[test]
    fn an_unreadable_head_still_says_who_asks() {
        let head = b"GET / HTTP/1.1\r\nACCEPT: text/html\r\nX: \xff\r\naccept-language: ja\r\nCookie: a=";
        let headers = readable_headers(head);
        assert_eq!(headers[header::ACCEPT], "text/html");
        assert_eq!(headers[header::ACCEPT_LANGUAGE], "ja");
        assert!(!readable_headers(b"accept: text/html").contains_key(header::ACCEPT));
    }

    /// The problem that a balancer answers a program with, by status.
    const OF_THE_BALANCER: [ProblemType; 9] = [
        ProblemType::MalformedRequest,
        ProblemType::NotFound,
        ProblemType::BodyTooSlow,
        ProblemType::BodyTooLarge,
        ProblemType::AddressTooLong,
        ProblemType::TooManyRequests,
        ProblemType::HeadTooLarge,
        ProblemType::Internal,
        ProblemType::TemporarilyUnavailable,
    ];

    #[test]
    fn the_balancer_has_the_same_error_pages() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/deploy/errors");
        let pages = Pages::load(&SignInOptions::default(), "");
        let mut files = BTreeMap::new();
        for status in STATUSES {
            for lang in Lang::ALL {
                let html = pages.error(status, lang).html.to_vec();
                files.insert(format!("{status}.{}.html", lang.tag()), html);
            }
        }
        for kind in OF_THE_BALANCER {
            let body = serde_json::to_vec(&Problem::new(kind).body()).unwrap();
            files.insert(format!("{}.json", kind.status().as_u16()), body);
        }
        if std::env::var_os("STAGEDOOR_UPDATE_GENERATED").is_some() {
            fs::create_dir_all(&folder).unwrap();
            for (name, content) in &files {
                fs::write(folder.join(name), content).unwrap();
            }
        }
        let deployed: BTreeMap<_, _> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (
                    entry.file_name().into_string().unwrap(),
                    fs::read(entry.path()).unwrap(),
                )
            })
            .collect();
        assert!(
            deployed == files,
            "run this test with STAGEDOOR_UPDATE_GENERATED=1 to update {}",
            folder.display()
        );
    }

    #[test]
    fn an_error_page_says_what_to_do_and_needs_nothing_else() {
        let pages = Pages::load(&SignInOptions::default(), "");
        for status in STATUSES {
            for lang in Lang::ALL {
                let page = pages.error(status, lang);
                let html = std::str::from_utf8(&page.html).unwrap();
                assert!(html.contains(&format!("<html lang=\"{}\">", lang.tag())));
                assert!(
                    html.contains(&status.to_string()) && !html.contains("<!--"),
                    "{html}"
                );
                assert!(!html.contains("src=") && !html.contains("/assets/"), "{html}");
                let next = if page.comes_back {
                    "href=\"\""
                } else {
                    "href=\"/\""
                };
                assert_eq!(html.matches(next).count(), 1, "{status} {lang:?}");
                assert_eq!(page.comes_back, matches!(status, 408 | 429 | 500..), "{status}");
                assert!(html.len() < 4_096, "{}", html.len());
            }
        }
        let text = |status| pages.error(status, Lang::En).html.clone();
        assert_eq!(
            (text(422), text(507)),
            (text(400), text(500)),
            "the text of their class"
        );
    }
}
