//! The section `shop`.

use super::*;

#[test]
fn a_shop_on_a_server_needs_the_names_of_its_tables() {
    for server in [
        "postgres://reader@db/shop",
        "mysql://reader@db/shop",
        "mariadb://reader@db/shop",
    ] {
        let shop = format!("[shop]\ndatabase_url = \"{server}\"\n");
        load(Some(&File::of("complete", &shop).path), env(&[])).unwrap();
        let problems = refusal("server", &format!("{shop}tables = []\n"), &[]);
        let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["shop.tables"], "{server}");
    }
}

#[tokio::test]
async fn the_default_query_finds_the_demo_customers() {
    use std::sync::Arc;

    use crate::{
        kernel::{SeededEntropy, SystemClock},
        platform::{keys::Keys, shutdown::Lifecycle},
        shop::{DEMO_PASSWORD, Deps, ReplayGuardLocation, Shop, SignInOutcome, create_demo_shop},
    };

    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    create_demo_shop(&dir.join("shop.db"), 20).await.unwrap();
    let mut settings = load(None, env(&[])).unwrap();
    settings.shop.database_url = DatabaseUrl::new(format!("sqlite:{}", dir.join("shop.db").display()));
    let entropy = Arc::new(SeededEntropy::new(1));
    let keys = Keys::ephemeral(&*entropy);
    let deps = Deps {
        clock: Arc::new(SystemClock::new()),
        entropy,
        keys,
        replay_guard: ReplayGuardLocation::File(dir.join("revoked.db")),
        lifecycle: Lifecycle::new(),
    };
    let shop = Shop::open(settings.shop(), deps).await.unwrap();
    let outcome = shop
        .sign_in("Fan00019@example.com", DEMO_PASSWORD, [127, 0, 0, 1].into())
        .await;
    let SignInOutcome::SignedIn(fan) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (fan.session.subject.as_str(), fan.name.as_str()),
        ("customer:19", "James Green")
    );
}
