//! The gateway over real HTTP, called through the adapter that checkout uses.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{Router, body::Bytes, extract::State as Shared, http::HeaderMap, routing::post};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::{Payment, PaymentState as StoredState, SandboxConfig, WebhookTarget, serve};
use crate::{
    checkout::{
        gateways::sandbox::SandboxGateway,
        payment::{
            AuthorizeOutcome, CardToken, Charge, LookupOutcome, PaymentGateway, PaymentState, SettleOutcome,
        },
        webhooks::WebhookSecret,
    },
    kernel::{Clock, Currency, Entropy, Money, OsEntropy, SystemClock},
    platform::{http_client::HttpClient, shutdown::Lifecycle, signing::base64url},
};

const PRICE: Money = Money::new(132_000, Currency::KRW);

type Received = Arc<Mutex<Vec<(Vec<(String, String)>, Vec<u8>)>>>;

struct Bank {
    base: String,
    gateway: SandboxGateway,
    database_file: std::path::PathBuf,
    received: Received,
    life: Lifecycle,
}

fn secret() -> WebhookSecret {
    WebhookSecret::new(b"shared secret")
}

async fn receive(Shared(received): Shared<Received>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let mut received = received.lock();
    received.push((headers, body.to_vec()));
    // The first delivery of all is refused, so that it must come again.
    if received.len() == 1 {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::NO_CONTENT
    }
}

impl Bank {
    async fn open() -> Self {
        let mut unique = [0; 6];
        OsEntropy.fill(&mut unique);
        Self::open_on(std::env::temp_dir().join(format!("stagedoor-bank-{}.db", base64url(&unique)))).await
    }

    async fn open_on(database_file: std::path::PathBuf) -> Self {
        let (life, received) = (Lifecycle::new(), Received::default());
        let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", receiver.local_addr().unwrap())
            .parse()
            .unwrap();
        let router = Router::new()
            .route("/hook", post(receive))
            .with_state(Arc::clone(&received));
        tokio::spawn(async move { axum::serve(receiver, router).await });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let config = SandboxConfig {
            database_file: database_file.clone(),
            public_url: base.clone(),
            webhook: Some(WebhookTarget {
                url,
                secret: secret(),
            }),
            slow: Duration::from_millis(300),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(OsEntropy),
        };
        tokio::spawn(serve(listener, config, life.clone()));
        let gateway = SandboxGateway::new(&base, secret(), Duration::from_millis(800)).unwrap();
        Self {
            base,
            gateway,
            database_file,
            received,
            life,
        }
    }

    async fn authorize(&self, key: &str, token: &str) -> AuthorizeOutcome {
        let charge = Charge {
            key: key.into(),
            amount: PRICE,
            token: CardToken::new(token.into()),
            description: "Spring <Tour>".into(),
            return_url: "http://localhost/v1/orders/1/return".into(),
        };
        self.gateway.authorize(&charge).await
    }

    async fn post(&self, url: String) -> (StatusCode, Option<String>) {
        let client = HttpClient::new(Duration::from_secs(2), 100_000);
        let answer = client
            .send(Method::POST, url.parse().unwrap(), &[], Bytes::new())
            .await
            .unwrap();
        (
            answer.status,
            answer
                .headers
                .get("location")
                .map(|it| it.to_str().unwrap().to_owned()),
        )
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let client = HttpClient::new(Duration::from_secs(2), 1_000_000);
        let answer = client
            .send(
                Method::GET,
                format!("{}{path}", self.base).parse().unwrap(),
                &[],
                Bytes::new(),
            )
            .await
            .unwrap();
        (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
    }

    async fn statement(&self) -> BTreeMap<String, StoredState> {
        let (_, body) = self.get("/v1/statement").await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let payments: Vec<Payment> = serde_json::from_value(body["payments"].clone()).unwrap();
        payments.into_iter().map(|it| (it.key, it.state)).collect()
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.life.stop();
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.database_file.display()));
        }
    }
}

fn is_authorized(outcome: &AuthorizeOutcome) -> bool {
    matches!(outcome, AuthorizeOutcome::Authorized { .. })
}

fn found(outcome: LookupOutcome) -> PaymentState {
    match outcome {
        LookupOutcome::Found(state) => state,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn good_cards_are_authorized_captured_refunded_once() {
    let bank = Bank::open().await;
    for card in ["tok_ok", "tok_slow"] {
        let first = bank.authorize(card, card).await;
        assert!(is_authorized(&first), "{card}: {first:?}");
        assert_eq!(
            bank.authorize(card, card).await,
            first,
            "{card}: a repeat has the same outcome"
        );
        let cheaper = Money::new(1, Currency::KRW);
        assert!(
            matches!(
                bank.gateway.capture(card, cheaper).await,
                SettleOutcome::Refused { .. }
            ),
            "never another amount"
        );
        for _ in 0..2 {
            assert_eq!(bank.gateway.capture(card, PRICE).await, SettleOutcome::Done);
        }
        assert!(
            matches!(bank.gateway.void(card).await, SettleOutcome::Refused { .. }),
            "taken money is refunded, not voided"
        );
        for _ in 0..2 {
            assert_eq!(bank.gateway.refund(card, PRICE).await, SettleOutcome::Done);
        }
        assert_eq!(found(bank.gateway.lookup(card).await), PaymentState::Refunded);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_card_fails_in_its_way() {
    let bank = Bank::open().await;
    let declined = |reason: &str| AuthorizeOutcome::Declined {
        reason: reason.into(),
    };
    assert_eq!(
        bank.authorize("d", "tok_declined").await,
        declined("card_declined")
    );
    assert_eq!(
        bank.authorize("u", "4111 1111 1111 1111").await,
        declined("unknown_card")
    );
    assert!(
        !bank.get("/v1/statement").await.1.contains("4111"),
        "a card number typed by mistake is not stored"
    );

    for _ in 0..3 {
        assert_eq!(bank.authorize("e", "tok_error").await, AuthorizeOutcome::Unknown);
        assert_eq!(
            bank.gateway.lookup("e").await,
            LookupOutcome::NotFound,
            "nothing was booked"
        );
    }
    assert_eq!(
        bank.authorize("e", "tok_error").await,
        declined("processing_error")
    );

    assert_eq!(
        bank.authorize("t", "tok_timeout_after_success").await,
        AuthorizeOutcome::Unknown
    );
    assert!(matches!(
        found(bank.gateway.lookup("t").await),
        PaymentState::Authorized { .. }
    ));
    assert!(
        is_authorized(&bank.authorize("t", "tok_timeout_after_success").await),
        "the second time it answers"
    );

    assert!(is_authorized(&bank.authorize("c", "tok_capture_fails").await));
    assert_eq!(
        bank.gateway.capture("c", PRICE).await,
        SettleOutcome::Refused {
            reason: "capture_refused".into()
        }
    );
    assert_eq!(bank.gateway.void("c").await, SettleOutcome::Done);
    assert_eq!(bank.gateway.void("c").await, SettleOutcome::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voided_key_never_takes_money() {
    let bank = Bank::open().await;
    assert_eq!(bank.gateway.lookup("k").await, LookupOutcome::NotFound);
    assert_eq!(bank.gateway.void("k").await, SettleOutcome::Done);
    assert!(!is_authorized(&bank.authorize("k", "tok_ok").await));
    assert_eq!(found(bank.gateway.lookup("k").await), PaymentState::Voided);
    assert!(matches!(
        bank.gateway.refund("never seen", PRICE).await,
        SettleOutcome::Refused { .. } | SettleOutcome::Unknown
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_decided_on_the_gateway_page() {
    let bank = Bank::open().await;
    for (key, button, approved) in [("r1", "approve", true), ("r2", "decline", false)] {
        let AuthorizeOutcome::Redirect { url } = bank.authorize(key, "tok_redirect").await else {
            panic!("no redirect")
        };
        let (status, page) = bank.get(url.strip_prefix(&bank.base).unwrap()).await;
        assert_eq!(status, StatusCode::OK);
        assert!(
            page.contains("132000 KRW") && page.contains("Spring &lt;Tour&gt;"),
            "{page}"
        );
        assert_eq!(
            found(bank.gateway.lookup(key).await),
            PaymentState::AwaitingBuyer { url: url.clone() }
        );
        for _ in 0..2 {
            let (status, location) = bank.post(format!("{url}/{button}")).await;
            assert_eq!(
                (status, location.as_deref()),
                (StatusCode::SEE_OTHER, Some("http://localhost/v1/orders/1/return"))
            );
        }
        assert_eq!(
            matches!(
                found(bank.gateway.lookup(key).await),
                PaymentState::Authorized { .. }
            ),
            approved
        );
    }
    let AuthorizeOutcome::Redirect { url } = bank.authorize("r3", "tok_redirect").await else {
        panic!("no redirect")
    };
    assert_eq!(bank.gateway.void("r3").await, SettleOutcome::Done);
    bank.post(format!("{url}/approve")).await;
    assert_eq!(
        found(bank.gateway.lookup("r3").await),
        PaymentState::Voided,
        "too late"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_survive_a_restart() {
    let mut bank = Bank::open().await;
    assert!(is_authorized(&bank.authorize("k", "tok_ok").await));
    let file = std::mem::take(&mut bank.database_file);
    drop(bank);
    let bank = Bank::open_on(file).await;
    assert_eq!(
        bank.statement().await,
        BTreeMap::from([("k".to_owned(), StoredState::Authorized)])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_signed_and_sent_at_least_once() {
    let bank = Bank::open().await;
    assert!(is_authorized(&bank.authorize("w", "tok_webhook_storm").await));
    assert_eq!(bank.gateway.capture("w", PRICE).await, SettleOutcome::Done);
    // Two changes in three copies each, and the one delivery that was refused.
    let all = async {
        while bank.received.lock().len() < 7 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all)
        .await
        .expect("all webhooks come");
    let received = bank.received.lock().clone();
    let now = SystemClock::new().now();
    let mut copies: BTreeMap<String, u32> = BTreeMap::new();
    for (headers, body) in &received {
        let webhook = bank.gateway.verify_webhook(headers, body, now).expect("signed");
        assert_eq!(webhook.key, "w");
        *copies.entry(webhook.event).or_default() += 1;
        let mut forged = body.clone();
        forged.push(b' ');
        assert!(bank.gateway.verify_webhook(headers, &forged, now).is_err());
    }
    assert_eq!(copies.values().sum::<u32>(), 7);
    assert_eq!(copies.len(), 2, "a message keeps its id");
}
