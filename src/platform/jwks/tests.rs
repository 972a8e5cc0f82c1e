//! The client against a server whose answers change.

use serde_json::{Value, json};
use testkit::HttpServer;

use super::*;
use crate::kernel::{ManualClock, Timestamp};

fn ed25519(id: &str) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
}

fn key_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

async fn client(server: &HttpServer) -> (JwksClient, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let client = JwksClient::new(
        &format!("{}/jwks.json", server.url()),
        clock.clone(),
        &TrustStore::empty(),
    );
    client.fetch().await;
    (client, clock)
}

async fn finds(client: &JwksClient, id: Option<&str>) -> bool {
    matches!(client.find(id).await, KeyLookup::Found(_))
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_at_most_once_a_minute() {
    let server = HttpServer::start("200 OK", &key_set(&[ed25519("old")]))
        .await
        .unwrap();
    let (client, clock) = client(&server).await;
    assert!(finds(&client, Some("old")).await && finds(&client, None).await);
    assert_eq!(server.requests(), 1, "a known key needs no call");

    server.answer("200 OK", &key_set(&[ed25519("old"), ed25519("new")]));
    assert!(finds(&client, Some("new")).await, "a key that the shop added");
    assert_eq!(server.requests(), 2);
    let lookups = (0..20).map(|n| format!("forged-{n}"));
    for id in lookups {
        assert!(matches!(client.find(Some(&id)).await, KeyLookup::Unknown));
    }
    assert!(!finds(&client, None).await, "of two keys, a token must name one");
    assert_eq!(server.requests(), 2);
    clock.advance(UNKNOWN_KEY_INTERVAL);
    assert!(matches!(client.find(Some("forged")).await, KeyLookup::Unknown));
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn lookups_at_once_share_one_request() {
    let server = HttpServer::start("503 Unavailable", "").await.unwrap();
    let (client, _) = client(&server).await;
    server.answer("200 OK", &key_set(&[ed25519("a")]));
    let found = futures_util::future::join_all((0..50).map(|_| finds(&client, Some("a")))).await;
    assert!(found.into_iter().all(|found| found));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn the_last_good_key_set_is_kept() {
    let server = HttpServer::start("200 OK", &key_set(&[ed25519("a")]))
        .await
        .unwrap();
    let (client, _) = client(&server).await;
    let too_many: Vec<Value> = (0..=KEYS_MAX).map(|n| ed25519(&n.to_string())).collect();
    let too_large = key_set(&[ed25519("b"), json!({ "x": "y".repeat(RESPONSE_BYTES_MAX) })]);
    let elsewhere = HttpServer::start("200 OK", &key_set(&[ed25519("b")]))
        .await
        .unwrap();
    let redirect = format!("302 Found\r\nLocation: {}", elsewhere.url());
    for (status, body) in [
        ("500 Internal Server Error", key_set(&[ed25519("b")])),
        (redirect.as_str(), key_set(&[ed25519("b")])),
        ("200 OK", "<html>".to_owned()),
        ("200 OK", key_set(&[])),
        ("200 OK", key_set(&too_many)),
        ("200 OK", too_large),
    ] {
        server.answer(status, &body);
        assert!(!client.fetch().await, "{status} {body:.80}");
        assert!(finds(&client, Some("a")).await, "{status} {body:.80}");
    }
    assert_eq!(elsewhere.requests(), 0, "redirects are not followed");
}

#[tokio::test]
async fn without_any_key_set_a_lookup_says_so() {
    let server = HttpServer::start("503 Unavailable", "").await.unwrap();
    let (client, _) = client(&server).await;
    assert!(matches!(client.find(Some("a")).await, KeyLookup::Unavailable));
}

#[tokio::test]
async fn keys_of_other_kinds_and_uses_are_passed_by() {
    let with = |name: &str, value: &str| {
        let mut key = ed25519(name);
        key[name] = value.into();
        key["kid"] = format!("{name}-{value}").into();
        key
    };
    let keys = [
        json!({"kty": "oct", "kid": "secret", "k": "c2VjcmV0"}),
        json!({"kty": "EC", "crv": "P-384", "kid": "p384", "x": "AA", "y": "AA"}),
        json!({"kty": "unheard of", "kid": "other"}),
        json!("no key"),
        with("use", "enc"),
        with("alg", "HS256"),
        with("use", "sig"),
    ];
    let server = HttpServer::start("200 OK", &key_set(&keys)).await.unwrap();
    let (client, _) = client(&server).await;
    assert!(finds(&client, Some("use-sig")).await);
    for id in ["secret", "p384", "other", "use-enc", "alg-HS256"] {
        assert!(!finds(&client, Some(id)).await, "{id}");
    }
}
