//! Hand-offs that the shop signs with its own key, whose public half it publishes.

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use http::Method;
use serde_json::{Value, json};
use stagedoor::{demo::client::messages::handoff_request, kernel::Clock};
use testkit::HttpServer;

use crate::{
    fan::{Fan, Reply},
    world::{HANDOFF_SECRET, SHOP, SaleConfig, World},
};

const WITHIN: Duration = Duration::from_secs(30);

/// A shop's key, with the id that its key set gives it.
struct ShopKey {
    id: &'static str,
    pair: Ed25519KeyPair,
}

impl ShopKey {
    fn new(id: &'static str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        Self { id, pair }
    }

    fn public(&self) -> Value {
        let x = BASE64URL.encode(self.pair.public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.id, "x": x})
    }

    fn sign(&self, world: &World, serial: &str) -> String {
        let now = world.clock.now().as_secs();
        let header = json!({"alg": "EdDSA", "kid": self.id});
        let claims = json!({
            "iss": SHOP, "aud": ["stagedoor"], "sub": 7, "iat": now, "exp": now + 60, "jti": serial,
        });
        let signed = [header, claims].map(|part| BASE64URL.encode(part.to_string()));
        let signed = signed.join(".");
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64URL.encode(signature))
    }
}

async fn sign_in(world: &World, token: &str) -> Reply {
    let body = Some(handoff_request(token));
    Fan::anonymous(world, 7)
        .call(Method::POST, "/v1/sign-in/handoff", body)
        .await
}

fn key_set(keys: &[&ShopKey]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.public()).collect();
    json!({ "keys": keys }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_set_of_the_shop_may_come_late_and_go_away() {
    let (old, new) = (ShopKey::new("2026"), ShopKey::new("2027"));
    let shop = HttpServer::start("503 Service Unavailable", "").await.unwrap();
    let mut world = World::prepared(SaleConfig::default()).await;
    let file = world.site().config_file();
    let config = std::fs::read_to_string(&file).unwrap();
    let secret = format!("secret = \"{HANDOFF_SECRET}\"");
    assert!(config.contains(&secret));
    let by_key_set = format!("jwks_url = \"{}/jwks.json\"", shop.url());
    std::fs::write(&file, config.replace(&secret, &by_key_set)).unwrap();
    world.start().await;

    let reply = sign_in(&world, &old.sign(&world, "too early")).await;
    reply.problem(503, "shop-unreachable");
    shop.answer("200 OK", &key_set(&[&old]));
    let first_key = async {
        let mut tries = 0..;
        while sign_in(&world, &old.sign(&world, &format!("a{:?}", tries.next())))
            .await
            .status
            != 200
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(WITHIN, first_key).await.unwrap();

    let forged = ShopKey::new("2026").sign(&world, "forged");
    let problem = sign_in(&world, &forged).await.problem(401, "wrong-credentials");
    assert!(
        problem["detail"].as_str().unwrap().starts_with("token:"),
        "{problem}"
    );
    let problem = sign_in(&world, &new.sign(&world, "b")).await;
    let problem = problem.problem(401, "wrong-credentials");
    assert!(
        problem["detail"].as_str().unwrap().starts_with("kid:"),
        "{problem}"
    );

    drop(shop);
    sign_in(&world, &old.sign(&world, "the shop is away"))
        .await
        .expect(200);
    let metrics = world.metrics(0).await;
    for outcome in ["failed", "fetched"] {
        let series = format!("stagedoor_key_set_fetches_total{{outcome=\"{outcome}\"}}");
        assert!(metrics.contains(&series), "{series}");
    }
    assert!(world.log().contains("cannot fetch the key set"));
    world.assert_no_panic();
}
