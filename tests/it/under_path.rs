//! The service under a path of the shop's host: a whole visit through the nginx of a shop, and every other
//! address of the shop as before.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use stagedoor::platform::http_client::Response;
use testkit::{Nginx, process::free_port};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    fan::{Fan, header_fields},
    nodes::loopback,
    world::{SaleConfig, World},
};

const NAVIGATION: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

/// A shop that tells in each answer, byte by byte, what has reached it.
async fn echoing_shop() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(echo(connection));
        }
    });
    address
}

async fn echo(mut connection: TcpStream) -> Option<()> {
    let mut request = Vec::new();
    let (head, length) = loop {
        connection.read_buf(&mut request).await.ok().filter(|n| *n > 0)?;
        if let Some(head) = request.windows(4).position(|part| part == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
            let length = text.split("content-length: ").nth(1);
            let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
            break (head + 4, length);
        }
    };
    while request.len() < head + length {
        connection.read_buf(&mut request).await.ok().filter(|n| *n > 0)?;
    }
    let status = if request.starts_with(b"GET /account") {
        "403 Forbidden"
    } else {
        "200 OK"
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nServer: shop\r\nSet-Cookie: basket=7; Path=/; HttpOnly\r\n\
         Set-Cookie: sd_lang=shop; Path=/\r\nX-Shop: \t yes\r\nETag: \"s\"\r\nContent-Type: text/html\r\n\
         Location: /tickets-are-here\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        request.len()
    );
    connection.write_all(answer.as_bytes()).await.ok()?;
    connection.write_all(&request).await.ok()
}

/// The whole answer to these bytes, without the two headers that tell the time.
async fn answer_to(nginx: &Nginx, request: &str) -> String {
    let mut connection = TcpStream::connect(loopback(nginx.port())).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    let tells_time = |line: &&str| line.starts_with("Date: ") || line.starts_with("Expires: ");
    text.split_inclusive('\n')
        .filter(|line| !tells_time(line))
        .collect()
}

#[tokio::test]
async fn every_other_address_of_the_shop_is_answered_as_before() {
    let shop = echoing_shop().await;
    let dead = loopback(free_port().unwrap());
    let off = Nginx::of_shop(shop, &[dead], false).await.unwrap();
    let on = Nginx::of_shop(shop, &[dead], true).await.unwrap();
    let get = |target: &str, more: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n{more}\r\n")
    };
    let targets = "/ /?tickets /ticketsx /tickets.html /tickets-are-here /Tickets/ /TICKETS /ticket \
        /shop/tickets/ /v1/sales /v1/sales/hero/status /v1/orders/x/return /sales/x /orders /assets/a.js \
        /a%2Fb/%2e/c //double//slash/ /x/..%2fy /%ED%91%9C?q=%00%ff /a%20b+c;d=e /errors/503.ko.html \
        /stagedoor/errors/ /health /health/ready /metrics /robots.txt /favicon.ico /openapi.json \
        /.well-known/jwks.json /style.css /tickets/../account /account";
    let mut requests: Vec<String> = targets.split_whitespace().map(|target| get(target, "")).collect();
    requests.push(get(
        "/basket",
        "Cookie: basket=7; sd_lang=ja; __Secure-sd_session=x\r\n",
    ));
    requests.push(get("/page", "Accept-Encoding: gzip\r\nAccept: text/html\r\n"));
    requests.push(get(
        "/page",
        "If-None-Match: \"s\"\r\nX-Forwarded-For: 1.2.3.4\r\n",
    ));
    requests.push(get("/page", &format!("Cookie: a={}\r\n", "x".repeat(40_000))));
    requests.push("GET /none HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned());
    requests.push("GET /old HTTP/1.0\r\n\r\n".to_owned());
    for (method, target) in [
        ("POST", "/checkout"),
        ("PUT", "/v1/orders"),
        ("DELETE", "/tickets_old/1"),
    ] {
        let body = "a=1&b=%00\u{1}표".repeat(1_000);
        requests.push(format!(
            "{method} {target} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }
    for request in &requests {
        let (before, after) = (answer_to(&off, request).await, answer_to(&on, request).await);
        assert!(before.starts_with("HTTP/1.1 "), "{request}: {before}");
        assert_eq!(before, after, "{request}");
    }
    // Of the path itself the comment gives back all that the line took.
    for target in ["/tickets", "/tickets/", "/tickets/assets/a.css"] {
        let (before, after) = (
            answer_to(&off, &get(target, "")).await,
            answer_to(&on, &get(target, "")).await,
        );
        assert!(before.contains("X-Shop:"), "{before}");
        assert!(!after.contains("X-Shop:"), "{after}");
    }
    let redirect = answer_to(&on, &get("/tickets?lang=ko", "")).await;
    assert!(
        redirect.starts_with("HTTP/1.1 308 ") && redirect.contains("\r\nLocation: /tickets/?lang=ko\r\n"),
        "{redirect}"
    );
    // While no node answers, people and programs read so.
    let page = answer_to(
        &on,
        &get(
            "/tickets/sales/x",
            &format!("Accept: {NAVIGATION}\r\nCookie: __Secure-sd_lang=ja\r\n"),
        ),
    )
    .await;
    assert!(
        page.starts_with("HTTP/1.1 503 ")
            && page.contains("<html lang=\"ja\">")
            && page.contains("\r\nRefresh: "),
        "{page}"
    );
    let problem = answer_to(&on, &get("/tickets/v1/sales", "")).await;
    assert!(
        problem.starts_with("HTTP/1.1 503 ") && problem.contains("/problems/temporarily-unavailable"),
        "{problem}"
    );
}

/// A service whose public address is a path of the shop's nginx.
async fn under_path(sale_config: SaleConfig) -> (World, Nginx) {
    let mut world = World::prepared(sale_config).await;
    let nginx = Nginx::of_shop(echoing_shop().await, &[world.nodes[0].public], true)
        .await
        .unwrap();
    world.base = format!("{}/tickets", nginx.url());
    let base = world.base.clone();
    world.nodes[0].set("STAGEDOOR__SERVER__PUBLIC_BASE", base);
    world.start().await;
    (world, nginx)
}

async fn send(
    world: &World,
    method: Method,
    url: &str,
    headers: &[(&'static str, &str)],
    body: &'static str,
) -> Response {
    let headers = header_fields(headers);
    let uri = url.parse().unwrap();
    world
        .client
        .send(method, uri, &headers, Bytes::from_static(body.as_bytes()))
        .await
        .unwrap()
}

async fn get(world: &World, path: &str, headers: &[(&'static str, &str)]) -> Response {
    send(world, Method::GET, &format!("{}{path}", world.base), headers, "").await
}

#[track_caller]
fn location(response: &Response) -> &str {
    response.headers["location"].to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_visit_takes_place_under_the_path() {
    let (world, nginx) = under_path(SaleConfig::default()).await;
    let host = nginx.url();
    let sales = get(&world, "/v1/sales", &[]).await.json::<Value>().unwrap();
    let plan = sales["sales"][0]["performances"][0]["plan_url"].as_str().unwrap();
    assert!(plan.starts_with("/tickets/v1/sales/"), "{plan}");
    let plan = send(&world, Method::GET, &format!("{host}{plan}"), &[], "").await;
    assert_eq!(plan.status, 200);

    let mut fan = Fan::sign_in(&world, 1).await;
    let joined = fan.join(&world).await;
    let cookie = joined.answer.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(
        cookie.starts_with("sd_queue_hero-test=")
            && cookie.contains("; Path=/tickets; HttpOnly; SameSite=Lax;"),
        "{cookie}"
    );
    joined.expect(201);
    for _ in 0..2 {
        let status = get(&world, &world.sale_path("status"), &[]).await;
        assert!(
            status.headers.contains_key("x-cache-status"),
            "{:?}",
            status.headers
        );
    }
    fan.enter_within(&world, Duration::from_secs(20)).await;
    let hold = fan.hold_best(&world, 2).await.expect(201);
    let paid = fan.pay(hold["id"].as_str().unwrap(), "tok_ok").await;
    let order = paid.json["id"].as_str().unwrap().to_owned();
    assert_eq!(location(&paid.answer), format!("/tickets/v1/orders/{order}"));
    assert_eq!(paid.expect(201)["state"], "paid");
    let tickets = fan
        .call(Method::GET, &format!("/v1/orders/{order}/tickets"), None)
        .await;
    for ticket in tickets.expect(200)["tickets"].as_array().unwrap() {
        let code = ticket["qr_svg_url"].as_str().unwrap();
        let code = code.strip_prefix("/tickets").unwrap();
        fan.call(Method::GET, code, None).await.expect(200);
    }
    let back = get(&world, &format!("/v1/orders/{order}/return"), &[]).await;
    assert_eq!(
        (back.status.as_u16(), location(&back)),
        (303, &*format!("/tickets/orders/{order}"))
    );
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_redirects_stay_under_the_path() {
    let (world, nginx) = under_path(SaleConfig::default()).await;
    let navigation = [("accept", NAVIGATION), ("accept-language", "en")];
    let mut addresses = 0;
    for page in [
        "/",
        "/sales/hero-test",
        "/sales/hero-test?plain",
        "/sales/hero-test/seats",
        "/orders",
        "/orders/x",
    ] {
        let response = get(&world, page, &navigation).await;
        assert_eq!(response.status, 200, "{page}");
        let policies = response.headers.get_all("content-security-policy").iter().count();
        assert_eq!(policies, 1, "{page}: the shop's own does not hold here");
        let html = String::from_utf8(response.body.to_vec()).unwrap();
        for address in html
            .split("=\"/")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
        {
            assert!(address.starts_with("tickets/"), "{page}: /{address}");
            let url = format!("{}/{address}", nginx.url());
            let status = send(&world, Method::GET, &url, &navigation, "").await.status;
            assert!(
                status == 200 || address.contains("/v1/sign-in/shop"),
                "{url}: {status}"
            );
            addresses += 1;
        }
    }
    assert!(addresses > 40, "{addresses}");
    for (path, status, expected) in [
        (
            "/sales/HERO-TEST/seats?x=1",
            308,
            "/tickets/sales/hero-test/seats?x=1",
        ),
        ("/sales/hero-test/", 308, "/tickets/sales/hero-test"),
        ("/sales", 308, "/tickets/"),
        ("//sales//hero-test", 308, "/tickets/sales/hero-test"),
    ] {
        let response = get(&world, path, &navigation).await;
        assert_eq!(
            (response.status.as_u16(), location(&response)),
            (status, expected),
            "{path}"
        );
    }
    let missing = get(&world, "/nothing", &navigation).await;
    let html = String::from_utf8(missing.body.to_vec()).unwrap();
    assert!(
        missing.status == 404 && html.contains("href=\"/tickets/\""),
        "{html}"
    );
    let robots = get(&world, "/robots.txt", &[]).await;
    let robots = String::from_utf8(robots.body.to_vec()).unwrap();
    assert!(robots.contains("\nDisallow: /tickets/v1/\n"), "{robots}");
    let api: Value = get(&world, "/openapi.json", &[]).await.json().unwrap();
    assert_eq!(api["servers"], json!([{ "url": "/tickets/" }]));

    // A proxy that takes the path off is told what to change.
    let node = format!("http://{}/v1/sales", world.nodes[0].public);
    let stripped = send(&world, Method::GET, &node, &[], "").await;
    let problem: Value = stripped.json().unwrap();
    assert_eq!(stripped.status, 404);
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains(&format!("{}/", world.base)) && detail.contains("server.public_base"),
        "{detail}"
    );
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn sign_in_at_the_shop_comes_back_under_the_path() {
    let (world, nginx) = under_path(SaleConfig::default()).await;
    for (return_to, expected) in [
        (
            "/tickets/sales/hero-test?lang=ko",
            "/tickets/sales/hero-test?lang=ko",
        ),
        ("/account", "/tickets/"),
        ("//evil.example", "/tickets/"),
    ] {
        let query: String = form_urlencoded::byte_serialize(return_to.as_bytes()).collect();
        let leaves = get(&world, &format!("/v1/sign-in/shop?return_to={query}"), &[]).await;
        let shop = location(&leaves).to_owned();
        let parameters: Vec<(String, String)> =
            form_urlencoded::parse(shop.split_once('?').unwrap().1.as_bytes())
                .into_owned()
                .collect();
        let value = |name: &str| parameters.iter().find(|(key, _)| key == name).unwrap().1.clone();
        assert_eq!(value("return_to"), format!("{}/v1/sign-in/return", world.base));
        let state = value("state");
        let cookie = leaves.headers["set-cookie"].to_str().unwrap();
        assert!(cookie.contains("; Path=/tickets;"), "{cookie}");

        let deposit = json!({ "token": world.handoff()(7) });
        let deposited = Fan::anonymous(&world, 7)
            .call(Method::POST, "/v1/handoffs", Some(deposit))
            .await
            .expect(201);
        let cookie = format!("sd_sign_in={state}");
        let path = format!(
            "/v1/sign-in/return?code={}&state={state}",
            deposited["code"].as_str().unwrap()
        );
        let returned = get(&world, &path, &[("cookie", &cookie)]).await;
        assert_eq!(returned.status, 303, "{:?}", returned.body);
        assert!(
            location(&returned).starts_with(&format!("{expected}#signed_in=")),
            "{return_to}"
        );
        let mut cookies = returned.headers.get_all("set-cookie").iter();
        let session = cookies.find(|line| line.as_bytes().starts_with(b"sd_session="));
        let session = session.unwrap().to_str().unwrap();
        assert!(session.contains("; Path=/tickets; HttpOnly"), "{session}");

        // A change that the cookie proves must come from a page of this origin.
        let join = world.sale_path("queue");
        let session = session.split(';').next().unwrap();
        for (origin, status) in [(nginx.url(), 201), ("http://evil.example".to_owned(), 403)] {
            let headers = [("cookie", session), ("origin", &*origin)];
            let url = format!("{}{join}", world.base);
            let joined = send(&world, Method::POST, &url, &headers, "").await;
            let status = if return_to.starts_with("/tickets") || status == 403 {
                status
            } else {
                200
            };
            assert_eq!(joined.status.as_u16(), status, "{origin}: {:?}", joined.body);
        }
    }
    world.assert_no_panic();
}
