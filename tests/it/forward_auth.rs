//! Pages of another site behind the waiting room: their visitors stay in as long as the visit lasts.

use std::time::Duration;

use http::Method;

use crate::{
    fan::{Fan, Reply},
    world::{SaleConfig, World},
};

async fn check(world: &World, cookies: &str) -> Reply {
    let path = format!("/v1/forward-auth/{}", world.sale);
    Fan::anonymous(world, 1)
        .call_with(Method::GET, &path, None, &[("cookie", cookies)])
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_who_goes_on_stays_in_until_the_visit_ends() {
    let world = World::open(SaleConfig {
        pass_ttl_s: 4,
        visit_max_s: 25,
        hold_ttl_s: 20,
        ..SaleConfig::default()
    })
    .await;
    let fan = Fan::admitted(&world, 1).await;
    let session = format!("sd_session={}", fan.session);
    let name = format!("sd_pass_{}=", world.sale);
    let mut pass = fan.pass.clone().unwrap();
    let mut renewals = 0;
    // A pass lives for four seconds, plus five of leeway: without a renewal the last checks would fail.
    for _ in 0..16 {
        let reply = check(&world, &format!("{session}; {name}{pass}")).await;
        assert_eq!(reply.status, 204, "{}", reply.json);
        if let Some(cookie) = reply.answer.headers.get("set-cookie") {
            let cookie = cookie.to_str().unwrap().strip_prefix(&name).unwrap();
            cookie.split(';').next().unwrap().clone_into(&mut pass);
            renewals += 1;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((3..=9).contains(&renewals), "{renewals} in 16 s of passes of 4 s");
    let ended = loop {
        let reply = check(&world, &format!("{session}; {name}{pass}")).await;
        if reply.status != 204 {
            break reply;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    ended.problem(401, "pass-required");
    world.assert_no_panic();
}
