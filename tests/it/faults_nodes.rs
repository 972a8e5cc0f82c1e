//! One of three nodes dies in the middle of a sale.

use futures_util::future::join_all;
use http::Method;
use stagedoor::kernel::Clock;

use crate::{
    fan::Fan,
    ground::Pair,
    rush::{Rush, SOON, insist, scene},
    world::Scene,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_others_finish_what_a_killed_node_had_begun() {
    // A lease of six seconds, so that it runs out before a payment must.
    let mut rush = Rush::begin(Pair::default(), Scene { gateway_deadline_ms: 1_000, ..scene() }, 160, 31).await;
    rush.until_orders(20).await;
    let victim = 0;
    let visitor = rush.buyer();
    let at_the_victim = Fan { base: rush.base_of(victim), ..visitor.clone() };
    let held = at_the_victim.hold_best(&rush.world, 1).await.expect(201);
    // The gateway has the money; what it answered, the victim will not live to read.
    let buyers: Vec<Fan> = (0..3).map(|_| Fan { base: rush.base_of(victim), ..rush.buyer() }).collect();
    let paying = join_all(buyers.into_iter().map(|fan| rush.pays(fan, "tok_timeout_after_success"))).await;
    rush.until_the_gateway_has(&paying).await;

    let down = rush.world.clock.now();
    let driven = "SELECT COUNT(*) FROM stagedoor_ledger.saga WHERE NOT ended AND lease_owner LIKE 'node-0%'";
    assert!(rush.world.ground().number(driven).await > 0, "it has nothing in hand");
    rush.world.nodes[victim].kill();

    // Her pass and her hold are the house's, not the node's.
    let path = format!("/v1/holds/{}", held["id"].as_str().unwrap());
    let asked = insist(&rush.world, SOON, async || visitor.call(Method::GET, &path, None).await).await;
    assert_eq!(asked.expect(200)["seats"], held["seats"]);
    rush.goes_on().await;
    rush.was_out(down, rush.world.clock.now());
    rush.places_are_kept().await;
    for payment in paying {
        rush.is_paid(payment, SOON).await;
    }
    assert_eq!(rush.world.ground().number(driven).await, 0, "somebody is still waited for");
    rush.world.nodes[victim].start().await;
    rush.ends_well().await;
}
