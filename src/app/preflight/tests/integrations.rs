//! What the shop's side answers: key set, sign-in page, OpenID provider, receiver of events.

use std::time::Duration;

use testkit::HttpServer;
use tokio::net::TcpListener;

use super::*;
use crate::ops::config::Secret;

const KEY_SET: &str =
    r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
const SECRET: &str = "whsec_dGhlIHNob3AncyBvd24gc2VjcmV0IGZvciBldmVudHM=";

fn verdicts(report: &Report, name: &str) -> Vec<Verdict> {
    finding(report, name).iter().map(|check| check.verdict).collect()
}

/// Customers sign in at the shop only, and events go to it.
fn connect(settings: &mut Settings, shop: &str) {
    settings.shop.password_sign_in = false;
    settings.shop.handoff.issuer = "https://shop.example".to_owned();
    settings.shop.handoff.audience = "stagedoor".to_owned();
    settings.shop.handoff.jwks_url = format!("{shop}/jwks.json");
    settings.shop.handoff.sign_in_url = format!("{shop}/hand-over?lang=ko");
    receive(settings, shop);
}

fn receive(settings: &mut Settings, shop: &str) {
    settings.shop.events.url = format!("{shop}/events");
    settings.shop.events.secret = Secret::new(SECRET);
    settings.shop.events.timeout_ms = 400;
}

#[tokio::test]
async fn hand_offs_and_the_receiver_are_tried() {
    let (_dir, mut settings) = installation(&prices()).await;
    let shop = HttpServer::start("200 OK", KEY_SET).await.unwrap();
    connect(&mut settings, shop.url());
    settings.check().unwrap();
    let report = check(&settings).await;
    assert_eq!(report.count(Verdict::Failed), 0, "{report}");
    assert_eq!(
        finding(&report, "sign-in")[0].finding,
        "customers sign in by a hand-off of the shop's page"
    );
    let handoff = finding(&report, "hand-off");
    assert!(handoff[0].finding.contains("1 usable keys (EdDSA)"), "{report}");
    assert!(handoff[1].finding.contains("answers 200"), "{report}");
    assert_eq!(verdicts(&report, "events"), [Verdict::Ok], "{report}");
    assert!(
        finding(&report, "shop customers").is_empty(),
        "no database is asked"
    );
    assert_eq!(shop.requests(), 3);
    assert!(!report.to_string().contains(SECRET));

    let elsewhere = HttpServer::start("200 OK", KEY_SET).await.unwrap();
    shop.answer(&format!("302 Found\r\nLocation: {}", elsewhere.url()), "");
    let report = check(&settings).await;
    assert_eq!(
        verdicts(&report, "hand-off"),
        [Verdict::Failed, Verdict::Ok],
        "{report}"
    );
    let events = finding(&report, "events")[0];
    assert!(events.finding.contains("redirects are not followed"), "{report}");
    assert!(
        events.verdict == Verdict::Failed && events.remedy.is_some(),
        "{report}"
    );
    assert_eq!(elsewhere.requests(), 0);

    shop.answer("404 Not Found", "");
    let report = check(&settings).await;
    assert_eq!(
        verdicts(&report, "hand-off"),
        [Verdict::Failed, Verdict::Failed],
        "{report}"
    );
    assert!(
        finding(&report, "events")[0].finding.contains("answered 404"),
        "{report}"
    );
}

#[tokio::test]
async fn a_token_under_the_secret_is_tried() {
    let (_dir, mut settings) = installation(&prices()).await;
    settings.shop.handoff.issuer = "https://shop.example".to_owned();
    settings.shop.handoff.audience = "stagedoor".to_owned();
    settings.shop.handoff.secret = Secret::new("s".repeat(32));
    let report = check(&settings).await;
    let handoff = finding(&report, "hand-off");
    assert!(handoff[0].finding.contains("is accepted"), "{report}");
    assert!(
        handoff[1].finding.contains("programs hand customers over"),
        "{report}"
    );
}

#[tokio::test]
async fn a_receiver_that_talks_too_much_or_never_answers_is_bounded() {
    let (_dir, mut settings) = installation(&prices()).await;
    let talker = HttpServer::start("200 OK", &"x".repeat(10 << 20)).await.unwrap();
    receive(&mut settings, talker.url());
    let asking = tokio::time::timeout(Duration::from_secs(30), check(&settings));
    let report = asking.await.unwrap();
    assert_eq!(
        verdicts(&report, "events"),
        [Verdict::Ok],
        "it answered 200: {report}"
    );

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    receive(&mut settings, &format!("http://{}", silent.local_addr().unwrap()));
    let asking = tokio::time::timeout(Duration::from_secs(30), check(&settings));
    let report = asking.await.unwrap();
    assert!(
        finding(&report, "events")[0]
            .finding
            .contains("no response within 400ms"),
        "{report}"
    );
    assert_eq!(verdicts(&report, "events"), [Verdict::Failed], "{report}");
}

#[tokio::test]
async fn a_provider_that_is_away_is_told_with_its_remedy() {
    let (_dir, mut settings) = installation(&prices()).await;
    settings.shop.password_sign_in = false;
    settings.shop.oidc.issuer = "http://127.0.0.1:9".to_owned();
    settings.shop.oidc.client_id = "tickets".to_owned();
    let json = serde_json::to_value(check(&settings).await).unwrap();
    let checks = json["checks"].as_array().unwrap();
    let oidc = checks
        .iter()
        .find(|check| check["name"] == "OpenID Connect")
        .unwrap();
    assert_eq!(oidc["verdict"], "failed", "{oidc}");
    assert!(
        oidc["remedy"].as_str().unwrap().contains("shop.oidc.issuer"),
        "{oidc}"
    );

    settings.shop.oidc.issuer = String::new();
    let report = check(&settings).await;
    assert_eq!(
        verdicts(&report, "sign-in"),
        [Verdict::Failed],
        "nothing is offered: {report}"
    );
}

#[tokio::test]
async fn a_sale_with_more_seats_than_sign_ins_is_warned_of() {
    let (_dir, mut settings) = installation(&prices()).await;
    let sale = &mut settings.sales[0];
    sale.prequeue_starts_at = sale.on_sale_starts_at.minus(Duration::from_secs(1));
    let report = check(&settings).await;
    let capacity = finding(&report, "sign-in capacity");
    assert_eq!(capacity[1].verdict, Verdict::Warning, "{report}");
    settings.server.request_timeout_ms = 1;
    let report = check(&settings).await;
    assert_eq!(
        verdicts(&report, "sign-in capacity"),
        [Verdict::Failed],
        "{report}"
    );
}
