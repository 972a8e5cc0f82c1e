//! What failed is a page for a person and a problem for a program, from a node and from nginx.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use stagedoor::platform::http_client::{HttpClient, Response};
use testkit::{Nginx, process::free_port};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    fan::header_fields,
    nodes::loopback,
    world::{SaleConfig, World},
};

/// What Chromium sends with a navigation.
const NAVIGATION: &str =
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";

/// A call with these headers to any server.
async fn call(
    method: Method,
    url: &str,
    headers: &[(&'static str, &str)],
    body: impl Into<Bytes>,
) -> Response {
    let headers = header_fields(headers);
    let client = HttpClient::new(Duration::from_secs(10), 1 << 20);
    client
        .send(method, url.parse().unwrap(), &headers, body.into())
        .await
        .unwrap()
}

async fn get(url: &str, headers: &[(&'static str, &str)]) -> Response {
    call(Method::GET, url, headers, "").await
}

/// Asserts that the response is the page of this status, in this language.
#[track_caller]
fn assert_page(response: &Response, status: u16, lang: &str) {
    let text = String::from_utf8_lossy(&response.body);
    assert_eq!(response.status, status, "{text}");
    assert_eq!(
        response.headers["content-type"], "text/html; charset=utf-8",
        "{text}"
    );
    assert!(text.contains(&format!("<html lang=\"{lang}\">")), "{text}");
    let comes_back = status >= 500 || [408, 429].contains(&status);
    assert_eq!(response.headers.contains_key("refresh"), comes_back, "{status}");
    if comes_back {
        let after: u64 = response.headers["refresh"].to_str().unwrap().parse().unwrap();
        assert!((1..=40).contains(&after), "{after}");
    }
    for word in ["/problems/", "panicked", "Failed to", "stagedoor", "nginx"] {
        assert!(!text.contains(word), "`{word}` is no word for visitors: {text}");
    }
}

/// Asserts that the response is a problem document of this status.
#[track_caller]
fn assert_problem(response: &Response, status: u16, slug: &str) {
    let text = String::from_utf8_lossy(&response.body);
    assert_eq!(response.status, status, "{text}");
    assert_eq!(
        response.headers["content-type"], "application/problem+json",
        "{text}"
    );
    let problem: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(problem["type"], format!("/problems/{slug}"), "{text}");
    assert!(!response.headers.contains_key("refresh"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_navigation_gets_a_page_and_a_program_a_problem() {
    let mut world = World::prepared(SaleConfig::default()).await;
    world.nodes[0].set("STAGEDOOR__SERVER__BODY_TIMEOUT_MS", "1000".into());
    world.start().await;
    let base = world.base.clone();
    let large = "x".repeat(100_000);
    let session = [
        ("cookie", "sd_session=forged"),
        ("origin", "https://evil.example"),
    ];
    for (method, path, status, slug, more, body) in [
        (Method::GET, "/nothing/here", 404, "not-found", &[][..], ""),
        (Method::GET, "/sales/nothing", 404, "not-found", &[], ""),
        (Method::GET, "/sales/nothing/seats", 404, "not-found", &[], ""),
        (Method::GET, "/v1/orders", 401, "sign-in-required", &[], ""),
        (Method::DELETE, "/v1/session", 403, "cross-origin", &session, ""),
        (Method::POST, "/sales/x", 405, "method-not-allowed", &[], ""),
        (
            Method::POST,
            "/v1/sign-in",
            413,
            "body-too-large",
            &[("content-type", "application/json")],
            &large,
        ),
    ] {
        let url = format!("{base}{path}");
        for (language, lang) in [("ja-JP,en;q=0.5", "ja"), ("ko", "ko"), ("fr", "en")] {
            let mut headers = vec![("accept", NAVIGATION), ("accept-language", language)];
            headers.extend_from_slice(more);
            let response = call(method.clone(), &url, &headers, body.to_owned()).await;
            assert_page(&response, status, lang);
            assert_eq!(response.headers["content-language"], lang);
            let policy = response.headers["content-security-policy"].to_str().unwrap();
            assert!(
                policy.starts_with("default-src 'none'; style-src 'sha256-"),
                "{policy}"
            );
        }
        for accept in ["*/*", "application/json"] {
            let headers = [&[("accept", accept)], more].concat();
            let response = call(method.clone(), &url, &headers, body.to_owned()).await;
            assert_problem(&response, status, slug);
        }
    }
    let chosen = get(
        &format!("{base}/nothing?lang=ko"),
        &[("accept", NAVIGATION), ("cookie", "sd_lang=ja")],
    )
    .await;
    assert_page(&chosen, 404, "ko");

    let slow = format!(
        "POST /v1/sign-in HTTP/1.1\r\nHost: x\r\nAccept: {NAVIGATION}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{{"
    );
    let answer = answer_to(&base, slow.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("\r\nrefresh: ") && answer.contains("<html"),
        "{answer}"
    );
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shed_navigation_comes_back_by_itself() {
    let mut world = World::prepared(SaleConfig::default()).await;
    world.nodes[0].set("STAGEDOOR__SERVER__REQUESTS_IN_FLIGHT_MAX", "2".into());
    world.nodes[0].set("STAGEDOOR__LIMITS__REQUESTS_PER_IP_PER_SECOND", "20".into());
    world.start().await;
    let url = format!("{}/sales/{}", world.base, world.sale);
    // A request whose body does not end takes the half of the limit that pages may use.
    let mut slow = TcpStream::connect(world.base.trim_start_matches("http://"))
        .await
        .unwrap();
    slow.write_all(
        b"POST /v1/sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
          Content-Length: 9\r\n\r\n{",
    )
    .await
    .unwrap();
    let headers = [("accept", NAVIGATION), ("accept-language", "ko")];
    let shed = loop {
        let response = get(&url, &headers).await;
        if response.status != 200 {
            break response;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_page(&shed, 503, "ko");
    assert_eq!(shed.headers["refresh"], shed.headers["retry-after"]);
    assert_problem(&get(&url, &[]).await, 503, "overloaded");
    drop(slow);
    // The limit by address: a page as well.
    let limited = loop {
        let response = get(&url, &headers).await;
        if response.status == 429 {
            break response;
        }
    };
    assert_page(&limited, 429, "ko");
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_cannot_be_read_is_answered_with_a_body() {
    let world = World::open(SaleConfig::default()).await;
    let long = "x".repeat(40_000);
    let page = format!("Accept: {NAVIGATION}\r\nAccept-Language: ja\r\n");
    for (head, status, slug) in [
        (
            format!("GET / HTTP/1.1\r\nHost: x\r\n{page}Cookie: a={long}\r\n\r\n"),
            431,
            "head-too-large",
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: x\r\n{page}{}\r\n",
                "X-More: y\r\n".repeat(200)
            ),
            431,
            "head-too-large",
        ),
        (
            format!("GET / HTTP/9\r\nHost: x\r\n{page}\r\n"),
            400,
            "malformed-request",
        ),
        (format!("GET / HTTP/1.1\r\n{page}\r\n"), 400, "malformed-request"),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n{page}\r\n"),
            400,
            "malformed-request",
        ),
    ] {
        let short = &head[..head.len().min(60)];
        let answer = answer_to(&world.base, head.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{short}: {answer}"
        );
        assert!(answer.contains("<html lang=\"ja\">"), "{short}: {answer}");
        assert!(
            answer.to_lowercase().contains("\r\ncontent-length: "),
            "{short}: {answer}"
        );
        let program = head.replace(NAVIGATION, "*/*");
        let answer = answer_to(&world.base, program.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{short}: {answer}"
        );
        assert!(
            answer.contains("\r\ncontent-type: application/problem+json\r\n")
                && answer.contains(&format!("\"/problems/{slug}\"")),
            "{short}: {answer}"
        );
    }
    // Of a head that was readable but for its meaning, hyper keeps nothing.
    let odd = format!("POST / HTTP/1.1\r\nHost: x\r\n{page}Content-Length: -1\r\n\r\n");
    let answer = answer_to(&world.base, odd.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"/problems/malformed-request\""),
        "{answer}"
    );
    let address = format!("GET /{long}{long} HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = answer_to(&world.base, address.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 4") && answer.contains("/problems/"),
        "{answer}"
    );
    // HTTP/1.0 knows no Host.
    let answer = answer_to(&world.base, b"GET /robots.txt HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains(" 200 OK"), "{answer}");
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn links_as_people_share_them_lead_to_the_page() {
    let world = World::open(SaleConfig::default()).await;
    let (base, sale) = (&world.base, world.sale.as_str());
    let headers = [("accept", NAVIGATION), ("accept-language", "en")];
    let upper = sale.to_uppercase();
    for path in [
        format!("/sales/{sale}?fbclid=IwAR0&utm_source=kakao"),
        format!("/sales/{sale}?"),
        format!("/sales/{sale}?lang="),
        format!("/sales/{sale}?lang=ko&lang=en"),
        format!("/sales/{sale}?lang=%ff&plain&plain"),
        "/favicon.ico".to_owned(),
        "/robots.txt".to_owned(),
    ] {
        let response = get(&format!("{base}{path}"), &headers).await;
        assert_eq!(response.status, 200, "{path}");
    }
    for (path, expected) in [
        (format!("/sales/{sale}/"), format!("/sales/{sale}")),
        (
            format!("//sales/{sale}/?lang=ja"),
            format!("/sales/{sale}?lang=ja"),
        ),
        (format!("/sales/{sale}/seats/"), format!("/sales/{sale}/seats")),
        (format!("/sales/{upper}"), format!("/sales/{sale}")),
        (
            format!("/sales/{upper}/seats?x=1"),
            format!("/sales/{sale}/seats?x=1"),
        ),
        ("/sales".to_owned(), "/".to_owned()),
        ("/index.html".to_owned(), "/".to_owned()),
    ] {
        let response = get(&format!("{base}{path}"), &headers).await;
        assert_eq!(
            (
                response.status.as_u16(),
                response.headers["location"].to_str().unwrap()
            ),
            (308, expected.as_str()),
            "{path}"
        );
    }
    let evil = get(&format!("{base}//evil.example/"), &headers).await;
    assert_page(&evil, 404, "en");
    // An API call with two values for one parameter would be answered for one of them only.
    let doubled = get(&format!("{base}/v1/orders?sale=a&sale=b"), &[]).await;
    assert_eq!(doubled.status, 401, "who asks comes first");
    world.assert_no_panic();
}

#[tokio::test]
async fn nginx_has_a_page_and_a_problem_while_no_node_answers() {
    let dead = loopback(free_port().unwrap());
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nginx = Nginx::start(&[dead], &[silent.local_addr().unwrap()])
        .await
        .unwrap();
    let base = nginx.url();
    for (headers, lang) in [
        (vec![("accept-language", "ja,en;q=0.8")], "ja"),
        (vec![("accept-language", "de-DE,de;q=0.9,ko;q=0.5")], "ko"),
        (vec![("accept-language", "fr")], "en"),
        (vec![], "ko"),
        (
            vec![("accept-language", "en"), ("cookie", "a=b; sd_lang=ja; c=d")],
            "ja",
        ),
        (
            vec![("accept-language", "en"), ("cookie", "__Host-sd_lang=ko")],
            "ko",
        ),
    ] {
        let headers = [&headers[..], &[("accept", NAVIGATION)]].concat();
        let response = get(&format!("{base}/sales/x"), &headers).await;
        assert_page(&response, 503, lang);
        assert_eq!(response.headers["refresh"], response.headers["retry-after"]);
        assert_eq!(response.headers["cache-control"], "no-store");
    }
    let headers = [("accept", NAVIGATION), ("accept-language", "en")];
    assert_page(
        &get(&format!("{base}/sales/x?lang=ko"), &headers).await,
        503,
        "ko",
    );
    let problem = get(&format!("{base}/v1/sales"), &[]).await;
    assert_problem(&problem, 503, "temporarily-unavailable");
    assert!(problem.headers.contains_key("retry-after"));
    let problem = call(Method::POST, &format!("{base}/v1/sign-in"), &[], "{}").await;
    assert_problem(&problem, 503, "temporarily-unavailable");

    let large = "x".repeat(200_000);
    let url = format!("{base}/v1/sign-in");
    assert_page(
        &call(Method::POST, &url, &headers, large.clone()).await,
        413,
        "en",
    );
    assert_problem(&call(Method::POST, &url, &[], large).await, 413, "body-too-large");
    assert_page(
        &get(&format!("{base}/errors/503.ko.html"), &headers).await,
        404,
        "en",
    );

    let cookies = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nAccept: {NAVIGATION}\r\nAccept-Language: en\r\nCookie: {}\r\n\r\n",
        "x".repeat(90_000)
    );
    let answer = answer_to(&base, cookies.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 431 ") && answer.contains("<html lang=\"en\">"),
        "{answer}"
    );
}

#[tokio::test]
async fn every_error_page_of_nginx_is_among_its_files() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/config/deploy");
    let config = std::fs::read_to_string(format!("{root}/nginx.conf")).unwrap();
    let pages: Vec<&str> = config
        .lines()
        .filter_map(|line| line.trim().strip_prefix("error_page "))
        .map(|line| line.split("/errors/").nth(1).unwrap().split('.').next().unwrap())
        .collect();
    assert!(pages.len() > 8, "{pages:?}");
    for status in pages {
        for form in ["json", "ko.html", "en.html", "ja.html"] {
            let file = format!("{root}/errors/{status}.{form}");
            assert!(std::path::Path::new(&file).exists(), "{file}");
        }
    }
}

/// The whole response to these bytes, until the connection is closed or nothing more comes.
async fn answer_to(base: &str, bytes: &[u8]) -> String {
    let address: SocketAddr = base.trim_start_matches("http://").parse().unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The service may answer before it has read everything.
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut part = vec![0; 16_384];
    let mut patience = Duration::from_secs(6);
    while let Ok(Ok(n)) = tokio::time::timeout(patience, socket.read(&mut part)).await {
        if n == 0 {
            break;
        }
        answer.extend_from_slice(&part[..n]);
        patience = Duration::from_millis(500);
    }
    String::from_utf8_lossy(&answer).into_owned()
}
