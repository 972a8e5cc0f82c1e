//! A visitor signs in at the shop and comes back, with a form that the shop's page sends or with the code of
//! a hand-off that the shop deposited, at one node and at several.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use form_urlencoded::{byte_serialize, parse};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use stagedoor::platform::http_client::{HttpClient, Response};

use testkit::process::free_port;
use tokio::process::Command;

use crate::{
    environment::Deployment,
    fan::{Fan, header_fields},
    world::{HANDOFF_SECRET, SALE, SHOP, SaleConfig, World},
};

const RETURN: &str = "/v1/sign-in/return";
const FORM: &str = "application/x-www-form-urlencoded";
const BACK: &str = "/sales/hero-test/seats?performance=friday";

/// A browser at one node. It keeps cookies, and follows no redirect.
pub struct Browser {
    client: HttpClient,
    base: String,
    pub cookies: BTreeMap<String, String>,
}

impl Browser {
    pub fn new(world: &World, node: usize) -> Self {
        Self {
            client: world.client.clone(),
            base: format!("http://{}", world.nodes[node].public),
            cookies: BTreeMap::new(),
        }
    }

    /// Another node gets the next requests.
    fn goes_to(&mut self, world: &World, node: usize) {
        self.base = format!("http://{}", world.nodes[node].public);
    }

    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: String,
    ) -> Response {
        let cookies: Vec<String> = self.cookies.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let cookies = cookies.join("; ");
        let headers = header_fields(&[headers, &[("cookie", cookies.as_str())]].concat());
        let uri = format!("{}{path}", self.base).parse().unwrap();
        let response = self
            .client
            .send(method, uri, &headers, Bytes::from(body))
            .await
            .unwrap();
        for line in response.headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if line.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        response
    }

    /// Follows the page's link to the shop; returns the state that the shop gets.
    async fn leaves_for_shop(&mut self) -> String {
        let back: String = byte_serialize(BACK.as_bytes()).collect();
        let path = format!("/v1/sign-in/shop?return_to={back}");
        let response = self.send(Method::GET, &path, &[], String::new()).await;
        let location = location(&response);
        let (page, query) = location.split_once("?lang=ko&").unwrap();
        assert_eq!(page, format!("{SHOP}/hand-over"));
        let query: BTreeMap<String, String> = parse(query.as_bytes()).into_owned().collect();
        assert!(query["return_to"].ends_with(RETURN), "{query:?}");
        assert_eq!(self.cookies["sd_sign_in"], query["state"]);
        query["state"].clone()
    }

    /// The shop's page sends a form: a browser adds only the cookie that other sites may make it send. Where
    /// the service leads on, it has all of them.
    async fn comes_with_form(&mut self, origin: &str, token: &str, state: &str) -> Response {
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token)
            .append_pair("state", state)
            .finish();
        let headers = [("content-type", FORM), ("origin", origin)];
        let mut kept = self.cookies.clone();
        self.cookies.retain(|name, _| name == "sd_sign_in");
        let response = self.send(Method::POST, RETURN, &headers, body).await;
        kept.append(&mut self.cookies);
        self.cookies = kept;
        match response.headers.get("location") {
            Some(next) => {
                let next = next.to_str().unwrap().to_owned();
                self.send(Method::GET, &next, &[], String::new()).await
            }
            None => response,
        }
    }

    async fn comes_with_code(&mut self, code: &str, state: &str) -> Response {
        let path = format!("{RETURN}?code={code}&state={state}");
        self.send(Method::GET, &path, &[], String::new()).await
    }

    /// Whether the browser's session is a customer's.
    async fn is_signed_in(&mut self) -> bool {
        let orders = self.send(Method::GET, "/v1/orders", &[], String::new()).await;
        orders.status == StatusCode::OK
    }
}

#[track_caller]
pub fn location(response: &Response) -> String {
    assert_eq!(response.status, 303, "{:?}", response.body);
    assert_eq!(response.headers["cache-control"], "private, no-store");
    response.headers["location"].to_str().unwrap().to_owned()
}

/// The detail of a problem of this status.
#[track_caller]
fn refused(response: &Response, status: u16) -> String {
    assert_eq!(response.status, status, "{:?}", response.body);
    let problem: Value = response.json().unwrap();
    problem["detail"].as_str().unwrap_or_default().to_owned()
}

async fn deposit(world: &World, node: usize, token: &str) -> Response {
    let uri = format!("http://{}/v1/handoffs", world.nodes[node].public);
    let body = json!({ "token": token });
    world
        .client
        .post_json(uri.parse().unwrap(), &[], &body)
        .await
        .unwrap()
}

/// The first node and the last one, which may be the same.
async fn a_form_signs_in(world: &World) {
    let (first, last) = (0, world.nodes.len() - 1);
    let token = world.handoff();
    let mut browser = Browser::new(world, first);
    let state = browser.leaves_for_shop().await;
    let mut other = Browser::new(world, last);
    other.leaves_for_shop().await;

    for origin in ["https://evil.example", "null", &world.base] {
        let response = browser.comes_with_form(origin, &token(7), &state).await;
        refused(&response, 403);
    }
    let response = other.comes_with_form(SHOP, &token(7), &state).await;
    assert!(refused(&response, 401).starts_with("state:"), "another browser's");
    let response = browser.comes_with_form(SHOP, "a.b.c", &state).await;
    assert!(refused(&response, 401).starts_with("token:"));
    assert!(!browser.is_signed_in().await);

    // The customer before at the same computer.
    let mut before = Fan::sign_in(world, 6).await;
    before.join(world).await.expect(201);
    let queue_cookie = format!("sd_queue_{SALE}");
    browser
        .cookies
        .insert(queue_cookie.clone(), before.queue.unwrap());

    browser.goes_to(world, last);
    let used = token(7);
    let response = browser.comes_with_form(SHOP, &used, &state).await;
    assert_eq!(location(&response), format!("{BACK}#signed_in=Fan+7"));
    assert!(browser.is_signed_in().await);
    assert!(!browser.cookies.contains_key("sd_sign_in"), "its work is done");
    assert!(!browser.cookies.contains_key(&queue_cookie), "another customer's");

    browser.goes_to(world, first);
    browser.cookies.insert("sd_sign_in".to_owned(), state.clone());
    let response = browser.comes_with_form(SHOP, &token(7), &state).await;
    assert!(
        refused(&response, 401).starts_with("state:"),
        "a state works once"
    );
    let state = browser.leaves_for_shop().await;
    let response = browser.comes_with_form(SHOP, &used, &state).await;
    assert!(refused(&response, 401).starts_with("jti:"), "a token works once");
}

async fn a_code_signs_in(world: &World) {
    let (first, last) = (0, world.nodes.len() - 1);
    let token = world.handoff();
    let used = token(8);
    let deposited = deposit(world, first, &used).await;
    assert_eq!(deposited.status, 201, "{:?}", deposited.body);
    let deposited: Value = deposited.json().unwrap();
    let code = deposited["code"].as_str().unwrap();
    let again = deposit(world, last, &used).await;
    assert!(
        refused(&again, 401).starts_with("jti:"),
        "a token is deposited once"
    );
    let wrong = deposit(world, last, "a.b.c").await;
    assert!(refused(&wrong, 401).starts_with("token:"));

    let mut browser = Browser::new(world, first);
    let state = browser.leaves_for_shop().await;
    let mut other = Browser::new(world, last);
    let response = other.comes_with_code(code, &state).await;
    assert!(refused(&response, 401).starts_with("state:"), "another browser's");
    for forged in ["forged", &state] {
        let response = browser.comes_with_code(forged, &state).await;
        assert!(refused(&response, 401).starts_with("code:"));
    }

    browser.goes_to(world, last);
    let response = browser.comes_with_code(code, &state).await;
    assert_eq!(location(&response), format!("{BACK}#signed_in=Fan+8"));
    assert!(browser.is_signed_in().await);

    let state = other.leaves_for_shop().await;
    let response = other.comes_with_code(code, &state).await;
    assert!(refused(&response, 401).starts_with("code:"), "a code works once");
    assert!(!other.is_signed_in().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_comes_back_from_the_shop_signed_in() {
    let world = World::open(SaleConfig::default()).await;
    a_form_signs_in(&world).await;
    a_code_signs_in(&world).await;
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_comes_back_from_the_shop_to_another_node() {
    let deployment = Deployment {
        nodes: 2,
        ..Deployment::default()
    };
    let world = World::open_on(deployment, SaleConfig::default()).await;
    a_form_signs_in(&world).await;
    a_code_signs_in(&world).await;
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_return_that_cannot_be_read_is_refused() {
    let world = World::open(SaleConfig::default()).await;
    let mut browser = Browser::new(&world, 0);
    let state = browser.leaves_for_shop().await;
    let good = [("content-type", FORM), ("origin", SHOP)];
    for (body, named) in [
        (String::new(), "token"),
        ("token=a.b.c".to_owned(), "state"),
        (format!("token=a&token=b&state={state}"), "token"),
    ] {
        let response = browser.send(Method::POST, RETURN, &good, body).await;
        assert!(refused(&response, 400).starts_with(named));
    }
    let too_long = format!("state={state}&token={}", "a".repeat(5_000));
    let response = browser.send(Method::POST, RETURN, &good, too_long).await;
    assert!(refused(&response, 401).starts_with("token:"));
    let as_json = [("content-type", "application/json"), ("origin", SHOP)];
    let response = browser
        .send(Method::POST, RETURN, &as_json, "{}".to_owned())
        .await;
    refused(&response, 400);
    for query in ["?code=a", "?state=a", "?code=a&code=b&state=c"] {
        let path = format!("{RETURN}{query}");
        let response = browser.send(Method::GET, &path, &[], String::new()).await;
        refused(&response, 400);
    }
    let repeated = browser.send(Method::GET, RETURN, &[], String::new()).await;
    assert_eq!(location(&repeated), BACK, "the page of a busy moment asks again");
    let without_state = Browser::new(&world, 0)
        .send(Method::GET, RETURN, &[], String::new())
        .await;
    assert_eq!(location(&without_state), "/");

    // A person gets a page, which says nothing of the token.
    let navigation = [("content-type", FORM), ("origin", SHOP), ("accept", "text/html")];
    let body = format!("token=a.b.c&state={state}");
    let response = browser.send(Method::POST, RETURN, &navigation, body).await;
    let page = String::from_utf8_lossy(&response.body).into_owned();
    assert_eq!(response.status, 401);
    assert!(page.contains("<html") && !page.contains("JWT"), "{page}");

    let elsewhere = "/v1/sign-in/shop?return_to=%2F%2Fevil.example";
    browser.send(Method::GET, elsewhere, &[], String::new()).await;
    let state = browser.cookies["sd_sign_in"].clone();
    let token = world.handoff()(9);
    let response = browser.comes_with_form(SHOP, &token, &state).await;
    assert_eq!(location(&response), "/#signed_in=Fan+9");
}

/// What comes between two texts.
#[track_caller]
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text
        .split_once(before)
        .unwrap_or_else(|| panic!("{before} in {text}"));
    rest.split_once(after).unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn the_samples_of_a_shop_hand_their_customer_over() {
    let world = World::open(SaleConfig::default()).await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config/shops/samples");
    for (program, file) in [
        ("python3", "handoff.py"),
        ("node", "handoff.mjs"),
        ("php", "handoff.php"),
    ] {
        let source = std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
        assert!(source.lines().count() <= 30, "{file}");
        let port = free_port().unwrap();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(program);
        if program == "php" {
            command.args(["-S", &address]);
        }
        let _shop = command
            .arg(file)
            .current_dir(folder)
            .env("TICKETS", &world.base)
            .env("HANDOFF_SECRET", HANDOFF_SECRET)
            .env("PORT", port.to_string())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("{program}: {e}"));
        let shop = async |path: String| {
            let uri: http::Uri = format!("http://{address}{path}").parse().unwrap();
            for _ in 0..200 {
                let sent = world.client.send(Method::GET, uri.clone(), &[], Bytes::new());
                match sent.await {
                    Ok(response) => return response,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
            panic!("{file} does not serve");
        };

        let mut browser = Browser::new(&world, 0);
        let state = browser.leaves_for_shop().await;
        let page = shop(format!("/by-form?state={state}&return_to=x")).await;
        assert_eq!(page.headers["referrer-policy"], "strict-origin", "{file}");
        let html = String::from_utf8_lossy(&page.body).into_owned();
        assert_eq!(
            between(&html, "action=\"", "\""),
            format!("{}{RETURN}", world.base),
            "{file}"
        );
        let given = between(&html, "name=\"state\" value=\"", "\"");
        let token = between(&html, "name=\"token\" value=\"", "\"");
        let response = browser.comes_with_form(SHOP, token, given).await;
        assert_eq!(
            location(&response),
            format!("{BACK}#signed_in=Kim+%26+Lee"),
            "{file}"
        );

        let state = browser.leaves_for_shop().await;
        let redirect = shop(format!("/by-code?state={state}&return_to=x")).await;
        assert_eq!(redirect.status, 303, "{file}: {redirect:?}");
        let path = redirect.headers["location"].to_str().unwrap();
        let path = path.strip_prefix(&world.base).unwrap();
        let response = browser.send(Method::GET, path, &[], String::new()).await;
        assert_eq!(
            location(&response),
            format!("{BACK}#signed_in=Kim+%26+Lee"),
            "{file}"
        );
    }
}
