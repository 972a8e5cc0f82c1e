//! A visitor signs in at the shop's OpenID provider: what is accepted, and what is not.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use axum::{
    Json, Router,
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use form_urlencoded::parse;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use stagedoor::{kernel::Clock, platform::http_client::Response};

use crate::{
    shop_sign_in::{Browser, location},
    world::{SHOP, SaleConfig, World},
};

const PAGE: &str = "/sales/hero-test";
const KEY_ID: &str = "2026";

/// What the token endpoint does next.
#[derive(Clone)]
enum TokenAnswer {
    Token(String),
    Status(u16),
    Never,
}

/// The shop's provider. It signs with one key.
struct Provider {
    issuer: String,
    pair: Ed25519KeyPair,
    next: Arc<Mutex<TokenAnswer>>,
}

impl Provider {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let pair = Ed25519KeyPair::generate().unwrap();
        let x = BASE64URL.encode(pair.public_key());
        let key =
            json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": KEY_ID, "x": x});
        let key_set = json!({ "keys": [key] });
        let document = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/jwks"),
        });
        let next = Arc::new(Mutex::new(TokenAnswer::Status(400)));
        let answers = Arc::clone(&next);
        let exchange = move || {
            let answer = answers.lock().clone();
            async move {
                match answer {
                    TokenAnswer::Token(token) => (StatusCode::OK, Json(json!({ "id_token": token }))),
                    TokenAnswer::Status(status) => (
                        StatusCode::from_u16(status).unwrap(),
                        Json(json!({ "error": "invalid_grant" })),
                    ),
                    TokenAnswer::Never => std::future::pending().await,
                }
            }
        };
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(move || async { Json(document) }),
            )
            .route("/jwks", get(move || async { Json(key_set) }))
            .route("/token", post(exchange));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { issuer, pair, next }
    }

    fn answer(&self, answer: TokenAnswer) {
        *self.next.lock() = answer;
    }

    fn claims(&self, world: &World, nonce: &str) -> Value {
        let now = world.clock.now().as_secs();
        json!({
            "iss": self.issuer, "aud": "tickets", "sub": 7, "name": "Mina", "nonce": nonce,
            "iat": now, "exp": now + 60,
        })
    }

    fn sign(&self, claims: &Value) -> String {
        signed(&json!({"alg": "EdDSA", "kid": KEY_ID}), claims, |text| {
            self.pair.sign(text).as_ref().to_vec()
        })
    }

    /// Tokens that must not sign anybody in, each with what is wrong with it.
    fn bad_tokens(&self, world: &World, nonce: &str) -> Vec<(&'static str, String)> {
        let good = self.claims(world, nonce);
        let with = |claim: &str, value: Value| {
            let mut claims = good.clone();
            claims[claim] = value;
            self.sign(&claims)
        };
        let stranger = Ed25519KeyPair::generate().unwrap();
        let by_stranger = |text: &[u8]| stranger.sign(text).as_ref().to_vec();
        let public_key = hmac::Key::new(hmac::HMAC_SHA256, self.pair.public_key().as_ref());
        let by_public_key = |text: &[u8]| hmac::sign(&public_key, text).as_ref().to_vec();
        let now = world.clock.now().as_secs();
        vec![
            (
                "no algorithm",
                signed(&json!({"alg": "none"}), &good, |_| Vec::new()),
            ),
            (
                "the public key as a secret",
                signed(&json!({"alg": "HS256", "kid": KEY_ID}), &good, by_public_key),
            ),
            (
                "a stranger's signature",
                signed(&json!({"alg": "EdDSA", "kid": KEY_ID}), &good, by_stranger),
            ),
            (
                "an unknown key",
                signed(&json!({"alg": "EdDSA", "kid": "2027"}), &good, by_stranger),
            ),
            ("another sign-in", with("nonce", json!("of another sign-in"))),
            ("another service", with("aud", json!("other"))),
            ("another issuer", with("iss", json!("https://evil.example"))),
            ("over", with("exp", json!(now - 60))),
            ("too long", with("name", json!("x".repeat(20_000)))),
            ("no token", "x".to_owned()),
        ]
    }
}

fn signed(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let text = [header, claims].map(|part| BASE64URL.encode(part.to_string()));
    let text = text.join(".");
    let signature = sign(text.as_bytes());
    format!("{text}.{}", BASE64URL.encode(signature))
}

async fn world_with(provider: &Provider) -> World {
    let mut world = World::prepared(SaleConfig::default()).await;
    let file = world.site().config_file();
    let config = std::fs::read_to_string(&file).unwrap();
    let page = format!("sign_in_url = \"{SHOP}/hand-over?lang=ko\"\n");
    assert!(config.contains(&page));
    std::fs::write(&file, config.replace(&page, "")).unwrap();
    world.add_to_config(&format!(
        "[shop.oidc]\nissuer = \"{}\"\nclient_id = \"tickets\"\nclient_secret = \"of the test\"\n",
        provider.issuer
    ));
    world.start().await;
    world
}

/// Leaves for the provider; returns the state and the nonce that it gets.
async fn leaves(browser: &mut Browser) -> (String, String) {
    let path = format!("/v1/sign-in/shop?return_to={PAGE}");
    for _ in 0..100 {
        let response = browser.send(Method::GET, &path, &[], String::new()).await;
        if response.status == StatusCode::SERVICE_UNAVAILABLE {
            // The provider is discovered in the background.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        let location = location(&response);
        let (_, query) = location.split_once('?').unwrap();
        let query: BTreeMap<String, String> = parse(query.as_bytes()).into_owned().collect();
        return (query["state"].clone(), query["nonce"].clone());
    }
    panic!("the provider is not discovered");
}

async fn returns(browser: &mut Browser, query: &str) -> Response {
    let path = format!("/v1/sign-in/oidc?{query}");
    browser.send(Method::GET, &path, &[], String::new()).await
}

fn is_signed_in(browser: &Browser) -> bool {
    browser.cookies.contains_key("sd_session")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_providers_token_for_this_sign_in_signs_in() {
    let provider = Provider::start().await;
    let world = world_with(&provider).await;
    let mut browser = Browser::new(&world, 0);
    let (state, nonce) = leaves(&mut browser).await;
    let query = format!("code=c&state={state}");
    for (wrong, token) in provider.bad_tokens(&world, &nonce) {
        provider.answer(TokenAnswer::Token(token));
        let response = returns(&mut browser, &query).await;
        assert_eq!(response.status, 401, "{wrong}: {response:?}");
        assert!(!is_signed_in(&browser), "{wrong}");
    }
    for (answer, status) in [
        (TokenAnswer::Status(400), 401),
        (TokenAnswer::Status(401), 503),
        (TokenAnswer::Status(500), 503),
        (TokenAnswer::Never, 503),
    ] {
        provider.answer(answer);
        assert_eq!(returns(&mut browser, &query).await.status, status);
        assert!(!is_signed_in(&browser));
    }

    // What failed did not use the state up; a sign-in does.
    provider.answer(TokenAnswer::Token(
        provider.sign(&provider.claims(&world, &nonce)),
    ));
    let mut other = Browser::new(&world, 0);
    leaves(&mut other).await;
    assert_eq!(returns(&mut other, &query).await.status, 401, "another browser's");
    assert!(!is_signed_in(&other));
    let kept = browser.cookies.clone();
    let response = returns(&mut browser, &query).await;
    assert_eq!(response.status, 303);
    assert_eq!(location(&response), format!("{PAGE}#signed_in=Mina"));
    assert!(is_signed_in(&browser));
    browser.cookies = kept;
    assert_eq!(returns(&mut browser, &query).await.status, 401, "used");
    assert!(!is_signed_in(&browser));
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_at_the_provider_comes_back_to_the_page() {
    let provider = Provider::start().await;
    let world = world_with(&provider).await;
    let mut browser = Browser::new(&world, 0);
    let (state, _) = leaves(&mut browser).await;
    let response = returns(&mut browser, &format!("error=access_denied&state={state}")).await;
    assert_eq!(
        (response.status.as_u16(), location(&response)),
        (303, PAGE.to_owned())
    );
    assert!(!is_signed_in(&browser));
}
