//! Sign-in and sign-out against a demo shop.

mod accounts;

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{Connection, SqliteConnection};

use tempfile::TempDir;

use super::{passwords::django_hash, *};
use crate::{
    kernel::{Clock, ManualClock, SeededEntropy, Subject, SystemClock, Timestamp},
    platform::{keys::Keys, shutdown::Lifecycle, signing::TokenError},
};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const QUERY: &str = "SELECT id, trim(first_name || ' ' || last_name) AS name, password AS password_hash, \
    is_active AS active, email AS login FROM auth_user WHERE email IN (:login, :login_lower)";
const BY_ID: &str = "SELECT id, first_name AS name, '' AS password_hash, is_active AS active FROM auth_user \
    WHERE id = :id";

fn config(database: &Path) -> Config {
    Config {
        database_url: format!("sqlite:{}", database.display()),
        customer_query: QUERY.to_owned(),
        customer_query_any_case: String::new(),
        customer_by_id_query: BY_ID.to_owned(),
        customer_sample_query: String::new(),
        tables: vec!["auth_user".to_owned()],
        allow_write_access: false,
        connections_max: 2,
        queries_per_second_max: 10_000,
        any_case_queries_per_minute_max: 60,
        query_timeout: Duration::from_secs(2),
        password_limits: PasswordLimits {
            threads: 1,
            queue_max: 4,
            wait_max: Duration::from_secs(4),
        },
        wrong_passwords_per_minute: 12,
        unsafe_password_formats: Vec::new(),
        password_sign_in: true,
        sign_in_url: None,
        session_ttl: Duration::from_hours(12),
        handoff: Some(handoff_config()),
        oidc: None,
    }
}

fn issuer() -> HandoffIssuer {
    HandoffIssuer {
        issuer: "shop".into(),
        audience: "stagedoor".into(),
        secret: "s".repeat(32),
    }
}

fn handoff_config() -> HandoffConfig {
    let HandoffIssuer {
        issuer,
        audience,
        secret,
    } = issuer();
    HandoffConfig {
        issuer,
        audience,
        keys: HandoffKeys::Secret(secret),
    }
}

fn deps(dir: &TempDir, clock: Arc<dyn Clock>) -> Deps {
    let entropy = Arc::new(SeededEntropy::new(1));
    Deps {
        clock,
        keys: Keys::ephemeral(&*entropy),
        entropy,
        replay_guard: ReplayGuardLocation::File(dir.path().join("revoked.db")),
        lifecycle: Lifecycle::new(),
    }
}

/// A connection that may change the shop.
async fn administrator(file: &Path) -> SqliteConnection {
    let url = format!("sqlite:{}", file.display());
    SqliteConnection::connect(&url).await.unwrap()
}

/// A demo shop whose hashes are fast to verify, with a disabled account (2) and one without a password (3).
async fn a_shop(dir: &TempDir) -> PathBuf {
    let file = dir.path().join("shop.db");
    create_demo_shop(&file, 9).await.unwrap();
    let quick = django_hash(DEMO_PASSWORD, "salt", NonZeroU32::new(20).unwrap());
    let mut sql = administrator(&file).await;
    sqlx::query("UPDATE auth_user SET password = ?")
        .bind(quick)
        .execute(&mut sql)
        .await
        .unwrap();
    for statement in [
        "UPDATE auth_user SET is_active = 0 WHERE id = 2",
        "UPDATE auth_user SET password = '!unusable' WHERE id = 3",
    ] {
        sqlx::query(statement).execute(&mut sql).await.unwrap();
    }
    sql.close().await.unwrap();
    file
}

async fn open_shop(dir: &TempDir) -> Arc<Shop> {
    let file = a_shop(dir).await;
    Shop::open(config(&file), deps(dir, Arc::new(SystemClock::new())))
        .await
        .unwrap()
}

fn signed_in(outcome: SignInOutcome) -> SignedIn {
    match outcome {
        SignInOutcome::SignedIn(signed_in) => signed_in,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_customer_signs_in_with_the_shop_password() {
    let dir = tempfile::tempdir().unwrap();
    let shop = open_shop(&dir).await;
    let customer = signed_in(
        shop.sign_in("  Fan00009@Example.COM ", DEMO_PASSWORD, CLIENT)
            .await,
    );
    assert_eq!(customer.session.subject, Subject::customer("9").unwrap());
    assert_eq!(customer.name, "Grace Clarke");
    assert_eq!(shop.read_session(&customer.token), Ok(customer.session.clone()));
    assert!(
        !format!("{customer:?}").contains(&customer.token),
        "a token is not for logs"
    );
    let again = signed_in(shop.sign_in("fan00009@example.com", DEMO_PASSWORD, CLIENT).await);
    assert_ne!(
        again.session.id, customer.session.id,
        "each sign-in is a session of its own"
    );
}

#[tokio::test]
async fn where_no_passwords_are_taken_a_right_one_leads_to_the_shop() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        password_sign_in: false,
        ..config(&a_shop(&dir).await)
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let shop = Shop::open(config, deps(&dir, Arc::clone(&clock))).await.unwrap();
    let outcome = shop.sign_in("fan00001@example.com", DEMO_PASSWORD, CLIENT).await;
    assert!(matches!(outcome, SignInOutcome::AtShopOnly), "{outcome:?}");
    let token = issuer().sign(clock.now(), &crate::kernel::OsEntropy, "1", "");
    signed_in(shop.sign_in_by_handoff(&token).await);
}

#[tokio::test]
async fn failed_sign_ins_do_not_reveal_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let shop = open_shop(&dir).await;
    let (long_login, long_password) = (format!("{}@example.com", "f".repeat(250)), "p".repeat(129));
    for (login, password) in [
        ("fan00001@example.com", "hero"),
        ("fan00001@example.com", "Hero-Lim"),
        ("unknown@example.com", DEMO_PASSWORD),
        ("fan00002@example.com", DEMO_PASSWORD),
        ("fan00003@example.com", DEMO_PASSWORD),
        ("fan00003@example.com", "!unusable"),
        ("fan00001@example.com", ""),
        ("fan00001@example.com", long_password.as_str()),
        ("", DEMO_PASSWORD),
        (long_login.as_str(), DEMO_PASSWORD),
        ("' OR 1=1 --", DEMO_PASSWORD),
        ("fan00001\u{0}@example.com", DEMO_PASSWORD),
    ] {
        let outcome = shop.sign_in(login, password, CLIENT).await;
        assert!(
            matches!(outcome, SignInOutcome::Rejected),
            "{login} {password}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_full_password_queue_does_not_query_the_shop() {
    let dir = tempfile::tempdir().unwrap();
    let shop = open_shop(&dir).await;
    let slots: Vec<_> = (1..=5)
        .map(|client| {
            shop.passwords
                .try_reserve(Ipv4Addr::new(192, 0, 2, client).into())
                .unwrap()
        })
        .collect();
    std::fs::remove_file(dir.path().join("shop.db")).unwrap();
    let outcome = shop.sign_in("fan00001@example.com", DEMO_PASSWORD, CLIENT).await;
    assert!(
        matches!(outcome, SignInOutcome::Busy { retry_after } if retry_after >= Duration::from_secs(1)),
        "{outcome:?}"
    );
    drop(slots);
}

#[tokio::test]
async fn wrong_passwords_of_one_account_are_limited() {
    let dir = tempfile::tempdir().unwrap();
    let shop = open_shop(&dir).await;
    let elsewhere = Ipv4Addr::new(192, 0, 2, 2).into();
    for login in ["fan00001@example.com", "unknown@example.com"] {
        for _ in 0..6 {
            let outcome = shop.sign_in(login, "x", CLIENT).await;
            assert!(matches!(outcome, SignInOutcome::Rejected), "{outcome:?}");
        }
        let outcome = shop.sign_in(&login.to_uppercase(), DEMO_PASSWORD, CLIENT).await;
        assert!(
            matches!(outcome, SignInOutcome::TooManyGuesses { retry_after } if !retry_after.is_zero()),
            "known or not: {outcome:?}"
        );
    }
    for _ in 0..20 {
        signed_in(
            shop.sign_in("fan00001@example.com", DEMO_PASSWORD, elsewhere)
                .await,
        );
        signed_in(shop.sign_in("fan00004@example.com", DEMO_PASSWORD, CLIENT).await);
    }
}

#[tokio::test]
async fn while_the_shop_is_down_cached_customers_sign_in() {
    let dir = tempfile::tempdir().unwrap();
    let file = a_shop(&dir).await;
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let shop = Shop::open(config(&file), deps(&dir, clock.clone()))
        .await
        .unwrap();
    signed_in(shop.sign_in("fan00001@example.com", DEMO_PASSWORD, CLIENT).await);
    clock.advance(Duration::from_mins(5));

    // The shop's database breaks: here its table is gone.
    let mut sql = administrator(&file).await;
    sqlx::query("ALTER TABLE auth_user RENAME TO under_maintenance")
        .execute(&mut sql)
        .await
        .unwrap();
    for _ in 0..8 {
        signed_in(shop.sign_in("fan00001@example.com", DEMO_PASSWORD, CLIENT).await);
        for (login, password) in [
            ("fan00004@example.com", DEMO_PASSWORD),
            ("unknown@example.com", "x"),
            ("fan00001@example.com", "x"),
        ] {
            let outcome = shop.sign_in(login, password, CLIENT).await;
            assert!(
                matches!(outcome, SignInOutcome::Unreachable { .. }),
                "{login}: {outcome:?}"
            );
        }
        clock.advance(Duration::from_millis(1));
    }
    sqlx::query("ALTER TABLE under_maintenance RENAME TO auth_user")
        .execute(&mut sql)
        .await
        .unwrap();
    let outcome = shop.sign_in("fan00004@example.com", DEMO_PASSWORD, CLIENT).await;
    assert!(
        matches!(outcome, SignInOutcome::Unreachable { .. }),
        "the breaker is still open: {outcome:?}"
    );
    clock.advance(Duration::from_secs(3));
    signed_in(shop.sign_in("fan00004@example.com", DEMO_PASSWORD, CLIENT).await);
}

#[tokio::test]
async fn the_service_opens_while_the_shop_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        query_timeout: Duration::from_millis(100),
        ..config(&dir.path().join("missing.db"))
    };
    let shop = Shop::open(config.clone(), deps(&dir, Arc::new(SystemClock::new())))
        .await
        .unwrap();
    assert!(matches!(
        shop.sign_in("fan00001@example.com", "x", CLIENT).await,
        SignInOutcome::Unreachable { .. }
    ));
    let config = Config {
        database_url: "nothing://".into(),
        ..config
    };
    assert!(matches!(
        Shop::open(config, deps(&dir, Arc::new(SystemClock::new()))).await,
        Err(OpenError::Directory(DirectoryOpenError::Url(_)))
    ));
}

#[tokio::test]
async fn a_handoff_works_once_even_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let config = config(&dir.path().join("missing.db"));
    let shop = Shop::open(config.clone(), deps(&dir, clock.clone()))
        .await
        .unwrap();
    let token = |key: &str| issuer().sign(clock.now(), &crate::kernel::OsEntropy, key, "임히어로");
    let refused = |outcome: SignInOutcome| match outcome {
        SignInOutcome::HandoffRejected(error) => error.part,
        other => panic!("{other:?}"),
    };

    let used = token("42");
    let customer = signed_in(shop.sign_in_by_handoff(&used).await);
    assert_eq!(
        (customer.session.subject.as_str(), customer.name.as_str()),
        ("customer:42", "임히어로")
    );
    assert_eq!(refused(shop.sign_in_by_handoff(&used).await), "jti", "once");
    signed_in(shop.sign_in_by_handoff(&token("42")).await);
    assert_eq!(
        refused(shop.sign_in_by_handoff(&token(&"k".repeat(200))).await),
        "sub"
    );
    assert_eq!(refused(shop.sign_in_by_handoff("a.b.c").await), "token");

    let late = token("43");
    let restarted = Shop::open(config.clone(), deps(&dir, clock.clone()))
        .await
        .unwrap();
    assert_eq!(
        refused(restarted.sign_in_by_handoff(&used).await),
        "jti",
        "not after a restart either"
    );
    clock.advance(Duration::from_secs(66));
    assert_eq!(
        refused(restarted.sign_in_by_handoff(&late).await),
        "exp",
        "too late"
    );

    let without = Shop::open(
        Config {
            handoff: None,
            ..config
        },
        deps(&dir, clock.clone()),
    )
    .await
    .unwrap();
    let outcome = without.sign_in_by_handoff(&token("44")).await;
    assert!(refused(outcome) == "token", "they are not configured");
}

#[tokio::test]
async fn a_signed_out_session_stays_invalid_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let (file, first) = (a_shop(&dir).await, deps(&dir, clock.clone()));
    let keys = first.keys.clone();
    let shop = Shop::open(config(&file), first).await.unwrap();
    let (out, stays) = (
        signed_in(shop.sign_in("fan00001@example.com", DEMO_PASSWORD, CLIENT).await),
        signed_in(shop.sign_in("fan00001@example.com", DEMO_PASSWORD, CLIENT).await),
    );
    shop.sign_out(&out.session).await.unwrap();
    shop.sign_out(&out.session).await.unwrap();
    assert_eq!(shop.read_session(&out.token), Err(TokenError::Expired));
    assert_eq!(shop.read_session(&stays.token), Ok(stays.session.clone()));

    let restarted = Shop::open(
        config(&file),
        Deps {
            keys,
            ..deps(&dir, clock.clone())
        },
    )
    .await
    .unwrap();
    assert_eq!(restarted.read_session(&out.token), Err(TokenError::Expired));
    assert_eq!(restarted.read_session(&stays.token), Ok(stays.session.clone()));
    clock.advance(Duration::from_hours(12));
    assert_eq!(restarted.read_session(&stays.token), Err(TokenError::Expired));
}
