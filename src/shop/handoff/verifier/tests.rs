//! Hand-offs as shops and their libraries sign them, and as others forge them.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256},
};
use serde_json::json;
use testkit::HttpServer;

use super::*;
use crate::{
    kernel::{ManualClock, SeededEntropy, Timestamp},
    platform::signing::{base64url, hmac_sha256},
    shop::handoff::HandoffIssuer,
};

const NOW_S: i64 = 1_800_000_000;
const SECRET: &str = "a secret of thirty-two bytes and more";

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

fn verifier(keys: HandoffKeys) -> HandoffVerifier {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_secs(NOW_S)));
    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(1));
    let config = HandoffConfig {
        issuer: "https://shop.example".into(),
        audience: "stagedoor".into(),
        keys,
    };
    HandoffVerifier::start(&config, &clock, &entropy, &Lifecycle::new())
}

fn by_secret() -> HandoffVerifier {
    verifier(HandoffKeys::Secret(SECRET.into()))
}

fn claims() -> Value {
    json!({
        "iss": "https://shop.example", "aud": "stagedoor", "sub": "42", "name": "임히어로",
        "iat": NOW_S, "nbf": NOW_S, "exp": NOW_S + 60, "jti": "a",
    })
}

fn jwt(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = [header, claims].map(|part| base64url(part.to_string().as_bytes()));
    let signed = signed.join(".");
    format!("{signed}.{}", base64url(&sign(signed.as_bytes())))
}

fn hs256(claims: &Value) -> String {
    jwt(&json!({"alg": "HS256", "typ": "JWT"}), claims, |signed| {
        hmac_sha256(SECRET.as_bytes(), signed).to_vec()
    })
}

/// The part of the token that is refused; empty when it is accepted.
async fn refused_part(verifier: &HandoffVerifier, token: &str) -> &'static str {
    match verifier.verify(token).await {
        Ok(_) => "",
        Err(Refusal::Invalid(error)) => error.part,
        Err(Refusal::NoKeys) => "no keys",
    }
}

async fn refused_claim(change: impl Fn(&mut Value)) -> &'static str {
    let mut claims = claims();
    change(&mut claims);
    refused_part(&by_secret(), &hs256(&claims)).await
}

#[tokio::test]
async fn a_handoff_of_the_own_issuer_is_accepted() {
    let issuer = HandoffIssuer {
        issuer: "https://shop.example".into(),
        audience: "stagedoor".into(),
        secret: SECRET.into(),
    };
    let now = Timestamp::from_secs(NOW_S);
    let token = issuer.sign(now, &SeededEntropy::new(1), "42", "임히어로");
    let Ok(handoff) = by_secret().verify(&token).await else {
        panic!("{token}")
    };
    assert_eq!(
        (handoff.customer.as_str(), handoff.name.as_str()),
        ("customer:42", "임히어로")
    );
    assert!(
        handoff.forget_after > Timestamp::from_secs(NOW_S + 60 + 5),
        "remembered for as long as it could be replayed"
    );
}

#[tokio::test]
async fn claims_are_read_as_libraries_write_them() {
    for (claim, value) in [
        ("aud", json!(["other", "stagedoor"])),
        ("aud", json!(["stagedoor"])),
        ("iat", json!(1_799_999_999.75)),
        ("exp", json!(1_800_000_060.5)),
        ("sub", json!(42)),
        ("name", Value::Null),
        ("nbf", Value::Null),
        ("roles", json!({"admin": false})),
    ] {
        let refused = refused_claim(|claims| claims[claim] = value.clone()).await;
        assert_eq!(refused, "", "{claim} {value}");
    }
    for claim in ["name", "nbf"] {
        let refused = refused_claim(|claims| drop(claims.as_object_mut().unwrap().remove(claim))).await;
        assert_eq!(refused, "", "without {claim}");
    }
    let long = "👨‍👩‍👧".to_owned() + &"k".repeat(400);
    let token = hs256(&{
        let mut claims = claims();
        (claims["sub"], claims["name"]) = (json!(42), long.into());
        claims
    });
    let handoff = by_secret().verify(&token).await.ok().unwrap();
    assert_eq!(
        (handoff.customer.as_str(), handoff.name.chars().count()),
        ("customer:42", 150)
    );
}

#[tokio::test]
async fn a_refusal_names_the_claim() {
    for (claim, value) in [
        ("iss", json!("https://other.example")),
        ("iss", json!(["https://shop.example"])),
        ("aud", json!("elsewhere")),
        ("aud", json!(["elsewhere"])),
        ("aud", json!([])),
        ("sub", json!("")),
        ("sub", json!(4.2)),
        ("sub", json!("k".repeat(200))),
        ("name", json!(42)),
        ("iat", json!("1800000000")),
        ("iat", json!(1e300)),
        ("exp", json!(-1e300)),
        ("nbf", json!(true)),
        ("jti", json!("")),
        ("jti", json!("j".repeat(129))),
    ] {
        let refused = refused_claim(|claims| claims[claim] = value.clone()).await;
        assert_eq!(refused, claim, "{value}");
    }
    for claim in ["iss", "aud", "sub", "iat", "exp", "jti"] {
        let refused = refused_claim(|claims| drop(claims.as_object_mut().unwrap().remove(claim))).await;
        assert_eq!(refused, claim, "without it");
    }
}

#[tokio::test]
async fn times_are_checked_with_five_seconds_of_leeway() {
    for (refused, exp, nbf, iat) in [
        ("", -4, -60, -60),
        ("exp", -5, -60, -60),
        ("", 60, 5, 0),
        ("nbf", 60, 6, 0),
        ("", 65, 0, 5),
        ("iat", 66, 0, 6),
        ("", 300, 0, 0),
        ("exp", 301, 0, 0),
        ("exp", 4, 0, 5),
        ("exp", i64::MAX - NOW_S, 0, 0),
        ("iat", 0, 0, i64::MIN + NOW_S),
    ] {
        let given = refused_claim(|claims| {
            (claims["exp"], claims["nbf"], claims["iat"]) =
                ((NOW_S + exp).into(), (NOW_S + nbf).into(), (NOW_S + iat).into());
        });
        assert_eq!(given.await, refused, "exp {exp} nbf {nbf} iat {iat}");
    }
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let verifier = by_secret();
    let with_secret = |signed: &[u8]| hmac_sha256(SECRET.as_bytes(), signed).to_vec();
    let unsigned = |_: &[u8]| Vec::new();
    let header = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for (refused, token) in [
        ("alg", jwt(&header(r#"{"alg":"none"}"#), &claims(), unsigned)),
        (
            "alg",
            jwt(&header(r#"{"alg":"None","typ":"JWT"}"#), &claims(), unsigned),
        ),
        ("alg", jwt(&header(r#"{"alg":"HS512"}"#), &claims(), with_secret)),
        ("alg", jwt(&header(r#"{"alg":"RS256"}"#), &claims(), with_secret)),
        ("token", jwt(&header(r#"{"typ":"JWT"}"#), &claims(), with_secret)),
        ("token", jwt(&header(r#"{"alg":"HS256"}"#), &claims(), unsigned)),
        (
            "token",
            jwt(&header(r#"{"alg":"HS256"}"#), &claims(), |signed| {
                hmac_sha256(b"another secret", signed).to_vec()
            }),
        ),
        (
            "typ",
            jwt(
                &header(r#"{"alg":"HS256","typ":"at+jwt"}"#),
                &claims(),
                with_secret,
            ),
        ),
        (
            "crit",
            jwt(
                &header(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#),
                &claims(),
                with_secret,
            ),
        ),
        (
            "token",
            jwt(&header(r#"{"alg":"HS256"}"#), &json!([1]), with_secret),
        ),
        ("token", String::new()),
        ("token", "a.b.c".into()),
        ("token", hs256(&claims()) + ".x"),
        ("token", "a".repeat(5_000)),
    ] {
        assert_eq!(refused_part(&verifier, &token).await, refused, "{token:.120}");
    }
    for header in [
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"HS256","typ":"application/handoff+JWT"}"#,
    ] {
        let token = jwt(&serde_json::from_str(header).unwrap(), &claims(), with_secret);
        assert_eq!(refused_part(&verifier, &token).await, "", "{header}");
    }
}

/// Keys of a shop, each with its algorithm and public half.
fn shop_keys() -> [(&'static str, Value, Sign); 3] {
    let random = SystemRandom::new();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = rsa.public_key();
    let rsa_key = json!({
        "kty": "RSA", "kid": "RS256", "use": "sig",
        "n": base64url(public.modulus().big_endian_without_leading_zero()),
        "e": base64url(public.exponent().big_endian_without_leading_zero()),
    });
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
    let (x, y) = ec.public_key().as_ref()[1..].split_at(32);
    let ec_key = json!({
        "kty": "EC", "crv": "P-256", "kid": "ES256", "x": base64url(x), "y": base64url(y),
    });
    let ed = Ed25519KeyPair::generate().unwrap();
    let ed_key = json!({
        "kty": "OKP", "crv": "Ed25519", "kid": "EdDSA", "x": base64url(ed.public_key().as_ref()),
    });
    let sign_rsa: Sign = Box::new(move |signed| {
        let mut signature = vec![0; 256];
        rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed, &mut signature)
            .unwrap();
        signature
    });
    let sign_ec: Sign =
        Box::new(move |signed| ec.sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec());
    let sign_ed: Sign = Box::new(move |signed| ed.sign(signed).as_ref().to_vec());
    [
        ("RS256", rsa_key, sign_rsa),
        ("ES256", ec_key, sign_ec),
        ("EdDSA", ed_key, sign_ed),
    ]
}

#[tokio::test]
async fn the_keys_of_the_shop_verify_only_their_own_algorithm() {
    let keys = shop_keys();
    let public: Vec<&Value> = keys.iter().map(|(_, key, _)| key).collect();
    let server = HttpServer::start("200 OK", &json!({ "keys": public }).to_string())
        .await
        .unwrap();
    let url = format!("{}/jwks.json", server.url());
    let verifier = verifier(HandoffKeys::KeySet(url));
    for (alg, key, sign) in &keys {
        let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid, "typ": "JWT"});
        let token = jwt(&header(alg, alg), &claims(), sign);
        assert_eq!(refused_part(&verifier, &token).await, "", "{alg}");
        for (other, _, sign_other) in keys.iter().filter(|(other, ..)| other != alg) {
            let token = jwt(&header(alg, other), &claims(), sign);
            assert_eq!(
                refused_part(&verifier, &token).await,
                "alg",
                "{alg} under {other}"
            );
            let token = jwt(&header(alg, alg), &claims(), sign_other);
            assert_eq!(refused_part(&verifier, &token).await, "token", "{other} as {alg}");
        }
        // The public key as if it were the shared secret.
        for secret in [key.to_string(), key["n"].as_str().unwrap_or_default().to_owned()] {
            let token = jwt(&header("HS256", alg), &claims(), |signed| {
                hmac_sha256(secret.as_bytes(), signed).to_vec()
            });
            assert_eq!(refused_part(&verifier, &token).await, "alg", "HS256 under {alg}");
        }
        let token = jwt(&header(alg, "unknown"), &claims(), sign);
        assert_eq!(refused_part(&verifier, &token).await, "kid");
        let token = jwt(&json!({ "alg": alg }), &claims(), sign);
        assert_eq!(refused_part(&verifier, &token).await, "kid", "one of several");
    }
    assert!(server.requests() <= 3, "the start, and one unknown key a minute");
}

#[tokio::test]
async fn before_the_first_key_set_no_token_is_called_wrong() {
    let server = HttpServer::start("503 Unavailable", "").await.unwrap();
    let [_, (alg, _, sign), _] = shop_keys();
    let token = jwt(&json!({"alg": alg, "kid": alg}), &claims(), sign);
    let verifier = verifier(HandoffKeys::KeySet(server.url().to_owned()));
    assert_eq!(refused_part(&verifier, &token).await, "no keys");
}
