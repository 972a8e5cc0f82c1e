//! Against a small provider whose answers a test chooses.

use std::collections::HashMap;

use axum::{
    Json, Router,
    extract::Query,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use serde_json::{Value, json};

use super::*;
use crate::{
    kernel::{OsEntropy, SystemClock},
    shop::oidc::ClientAuthentication,
};

const REDIRECT_URI: &str = "https://tickets.example/v1/sign-in/oidc";

type Fields = HashMap<String, String>;

/// A provider that knows the client `tickets` with the secret `right`.
async fn provider(change: impl FnOnce(&mut Value)) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let mut document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
    });
    change(&mut document);
    let key = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let key_set = json!({ "keys": [key] });
    let router = Router::new()
        .route(
            "/.well-known/openid-configuration",
            get(move || async { Json(document) }),
        )
        .route("/jwks", get(move || async { Json(key_set) }))
        .route("/authorize", get(authorize))
        .route("/silent", get(|| async { StatusCode::BAD_REQUEST }))
        .route("/token", post(exchange));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    issuer
}

async fn authorize(Query(query): Query<Fields>) -> axum::response::Response {
    assert!(query["nonce"].len() > 20 && query["code_challenge_method"] == "S256");
    let mut headers = HeaderMap::new();
    if query["client_id"] != "tickets" {
        return (StatusCode::BAD_REQUEST, "<p>invalid_client</p>").into_response();
    }
    let error = query["redirect_uri"] != REDIRECT_URI;
    let location = if error {
        "/oops?error=redirect_uri_mismatch%1b"
    } else {
        "/login?for=tickets"
    };
    headers.insert(header::LOCATION, location.parse().unwrap());
    (StatusCode::FOUND, headers).into_response()
}

/// It takes the secret in either way.
async fn exchange(headers: HeaderMap, form: String) -> axum::response::Response {
    let form: Fields = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
    let field = |name: &str| form.get(name).map(String::as_str);
    let basic = headers
        .get(header::AUTHORIZATION)
        .map(|value| value.to_str().unwrap());
    // base64 of `tickets:right%2B+`.
    let is_known = match basic {
        Some(basic) => basic == "Basic dGlja2V0czpyaWdodCUyQis=" && field("client_secret").is_none(),
        None => (field("client_id"), field("client_secret")) == (Some("tickets"), Some("right+ ")),
    };
    let error = if is_known {
        "invalid_grant"
    } else {
        "invalid_client"
    };
    (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response()
}

fn config(issuer: &str) -> OidcConfig {
    OidcConfig {
        issuer: issuer.to_owned(),
        client_id: "tickets".to_owned(),
        client_secret: "right+ ".to_owned(),
        client_authentication: ClientAuthentication::default(),
        customer_claim: "sub".to_owned(),
        redirect_uri: REDIRECT_URI.to_owned(),
    }
}

async fn inspect(config: &OidcConfig) -> Vec<ProviderFinding> {
    inspect_provider(config, Arc::new(SystemClock::new()), &OsEntropy).await
}

fn bad(findings: &[ProviderFinding]) -> Vec<&str> {
    let mut bad = Vec::new();
    for finding in findings {
        if let ProviderFinding::Bad { finding, .. } = finding {
            bad.push(finding.as_str());
        }
    }
    bad
}

#[tokio::test]
async fn a_provider_that_knows_the_client_is_good() {
    let issuer = provider(|_| {}).await;
    for client_authentication in [
        ClientAuthentication::ClientSecretBasic,
        ClientAuthentication::ClientSecretPost,
    ] {
        let config = OidcConfig {
            client_authentication,
            ..config(&issuer)
        };
        let findings = inspect(&config).await;
        assert_eq!(findings.len(), 4);
        let is_good = |finding: &ProviderFinding| matches!(finding, ProviderFinding::Good(_));
        assert!(findings.iter().all(is_good), "{findings:?}");
    }
}

#[tokio::test]
async fn a_client_that_the_provider_does_not_know_is_told() {
    let issuer = provider(|_| {}).await;
    for (wrong, expected) in [
        (
            OidcConfig {
                client_id: "other".to_owned(),
                ..config(&issuer)
            },
            vec![
                "the authorization endpoint refuses this client: invalid_client",
                "the token endpoint refuses this client",
            ],
        ),
        (
            OidcConfig {
                redirect_uri: "https://elsewhere.example/".to_owned(),
                ..config(&issuer)
            },
            vec!["the authorization endpoint refuses this client: redirect_uri_mismatch"],
        ),
        (
            OidcConfig {
                client_secret: "wrong".to_owned(),
                ..config(&issuer)
            },
            vec!["the token endpoint refuses this client"],
        ),
    ] {
        let findings = inspect(&wrong).await;
        assert_eq!(bad(&findings), expected, "{findings:?}");
    }
}

#[tokio::test]
async fn a_provider_that_cannot_be_used_is_told() {
    let other = provider(|document| document["issuer"] = json!("https://other.example")).await;
    let findings = inspect(&config(&other)).await;
    assert!(bad(&findings)[0].contains("another issuer"), "{findings:?}");

    let no_url = provider(|document| document["jwks_uri"] = json!("not a URL")).await;
    let findings = inspect(&config(&no_url)).await;
    assert!(bad(&findings)[0].contains("key set"), "{findings:?}");

    let silent = provider(|document| {
        let issuer = document["issuer"].as_str().unwrap().to_owned();
        document["authorization_endpoint"] = json!(format!("{issuer}/silent"));
        document["token_endpoint"] = json!("http://127.0.0.1:9/token");
    })
    .await;
    let findings = inspect(&config(&silent)).await;
    let bad = bad(&findings);
    assert!(
        bad[0].contains("400") && bad[1].contains("no connection"),
        "{findings:?}"
    );

    let findings = inspect(&config("http://127.0.0.1:9")).await;
    assert!(bad_discovery(&findings), "{findings:?}");
}

fn bad_discovery(findings: &[ProviderFinding]) -> bool {
    findings.len() == 1 && bad(findings)[0].contains("discovery document")
}

#[test]
fn endpoints_of_a_provider_with_tls_have_it_too() {
    let url = |path: &str| format!("https://id.example/{path}");
    let document = DiscoveryDocument {
        issuer: url(""),
        authorization_endpoint: url("authorize"),
        token_endpoint: "http://id.example/token".to_owned(),
        jwks_uri: url("jwks"),
    };
    let finding = [endpoints(&config("https://id.example"), &document)];
    assert_eq!(
        bad(&finding),
        ["token_endpoint of https://id.example are not https"]
    );
}
