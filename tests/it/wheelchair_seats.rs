//! Seats that are kept for visitors with a wheelchair are not promised to all.

use std::time::Duration;

use http::Method;
use serde_json::Value;
use stagedoor::kernel::Clock;

use crate::{
    fan::Fan,
    world::{SaleConfig, World},
};

/// The names of a plan's seats: those that any visitor can have, and those kept for wheelchairs.
pub fn seats_of(plan: &Value) -> (Vec<&str>, Vec<&str>) {
    let zones = plan["zones"].as_array().unwrap().iter();
    let rows = zones.flat_map(|zone| zone["rows"].as_array().unwrap());
    let (mut others, mut kept) = (Vec::new(), Vec::new());
    for seat in rows.flat_map(|row| row["seats"].as_array().unwrap()) {
        let attributes = seat["attributes"].to_string();
        let is_kept = attributes.contains("accessible") || attributes.contains("companion");
        let list = if is_kept { &mut kept } else { &mut others };
        list.push(seat["seat_guid"].as_str().unwrap());
    }
    (others, kept)
}

/// Seats of all zones by this count.
fn sum(status: &Value, count: &str) -> u64 {
    let zones = status["zones"].as_array().unwrap().iter();
    zones.map(|zone| zone[count].as_u64().unwrap_or(0)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_when_only_wheelchair_places_are_left() {
    let world = World::open(SaleConfig {
        seats: 60,
        seats_per_customer_max: 8,
        ..SaleConfig::default()
    })
    .await;
    let reader = Fan::admitted(&world, 1).await;
    let plan = reader
        .call(Method::GET, &world.performance_path("plan"), None)
        .await;
    let plan = plan.expect(200);
    let (others, kept) = seats_of(&plan);
    assert!(!kept.is_empty());
    for (seats, customer) in others.chunks(8).zip(2..) {
        let mut buyer = Fan::admitted(&world, customer).await;
        let hold = buyer.hold(&world, seats).await.expect(201);
        let paid = buyer.pay(hold["id"].as_str().unwrap(), "tok_ok").await;
        paid.expect(201);
    }
    let until = world.clock.monotonic() + Duration::from_secs(10);
    let status = loop {
        let reply = reader.call(Method::GET, &world.sale_path("status"), None).await;
        let status = reply.expect(200);
        if status["reason"] == "only_wheelchair_spaces" {
            break status;
        }
        assert!(world.clock.monotonic() < until, "{status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(status["phase"], "on_sale");
    assert_eq!((sum(&status, "free"), sum(&status, "held")), (0, 0), "{status}");
    assert_eq!(sum(&status, "free_for_wheelchairs"), kept.len() as u64);

    // Those who need such a place still come to it.
    let visitor = Fan::admitted(&world, 100).await;
    visitor
        .hold_best(&world, 1)
        .await
        .problem(409, "no-matching-seats");
    visitor.hold(&world, &kept[..1]).await.expect(201);
    world.assert_no_panic();
}
