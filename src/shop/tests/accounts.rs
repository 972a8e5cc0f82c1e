//! What becomes of an account at the shop.

use super::*;

#[tokio::test]
async fn a_stored_password_that_cannot_be_verified_is_not_called_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let file = a_shop(&dir).await;
    let mut sql = administrator(&file).await;
    // The MD5 of the demo's password.
    for (id, stored) in [(1, "e57e10f8774cb51b69f0e6e55a79a3ae"), (4, "$y$j9T$salt$hash")] {
        sqlx::query("UPDATE auth_user SET password = ? WHERE id = ?")
            .bind(stored)
            .bind(id)
            .execute(&mut sql)
            .await
            .unwrap();
    }
    let of_customers = async |shop: &Shop| {
        let md5 = shop.sign_in("fan00001@example.com", DEMO_PASSWORD, CLIENT).await;
        let yescrypt = shop.sign_in("fan00004@example.com", DEMO_PASSWORD, CLIENT).await;
        (md5, yescrypt)
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let shop = Shop::open(config(&file), deps(&dir, Arc::clone(&clock)))
        .await
        .unwrap();
    let (md5, yescrypt) = of_customers(&shop).await;
    assert!(matches!(md5, SignInOutcome::AtShopOnly), "{md5:?}");
    assert!(matches!(yescrypt, SignInOutcome::AtShopOnly), "{yescrypt:?}");
    drop(shop);

    let named = Config {
        unsafe_password_formats: vec!["md5".to_owned()],
        ..config(&file)
    };
    let other = tempfile::tempdir().unwrap();
    let shop = Shop::open(named, deps(&other, clock)).await.unwrap();
    let (md5, yescrypt) = of_customers(&shop).await;
    assert!(matches!(md5, SignInOutcome::SignedIn(_)), "{md5:?}");
    assert!(matches!(yescrypt, SignInOutcome::AtShopOnly), "{yescrypt:?}");
}

#[tokio::test]
async fn a_customer_whose_account_the_shop_closes_buys_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let file = a_shop(&dir).await;
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let shop = Shop::open(config(&file), deps(&dir, clock.clone()))
        .await
        .unwrap();
    let [one, two, three] = ["1", "4", "999"].map(|key| Subject::customer(key).unwrap());
    assert!(shop.may_buy(&one).await && shop.may_buy(&two).await);
    assert!(!shop.may_buy(&three).await, "there is no such customer");
    let mut sql = administrator(&file).await;
    sqlx::query("UPDATE auth_user SET is_active = 0 WHERE id = 1")
        .execute(&mut sql)
        .await
        .unwrap();
    clock.advance(Duration::from_secs(11));
    assert!(!shop.may_buy(&one).await, "within ten seconds");
    assert!(shop.may_buy(&two).await);

    sqlx::query("ALTER TABLE auth_user RENAME TO elsewhere")
        .execute(&mut sql)
        .await
        .unwrap();
    clock.advance(Duration::from_secs(11));
    assert!(
        shop.may_buy(&two).await,
        "the shop does not answer: who is signed in buys on"
    );
    assert!(!shop.may_buy(&one).await, "but not who is known to be closed");
}
