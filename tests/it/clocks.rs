//! A node's clock is wrong: its deadlines are right all the same, and it is not ready.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use stagedoor::kernel::{Clock, Timestamp};

use crate::{
    environment::Deployment,
    fan::Fan,
    world::{SaleConfig, World},
};

/// Clocks must agree within this time.
const TOLERANCE: Duration = Duration::from_secs(5);
const HOUR_S: i64 = 3_600;

/// Sets a node's wall clock; the node is not started yet.
fn skewable(world: &mut World, node: usize) -> PathBuf {
    let dir = world.site().dir;
    let (library, control) = (dir.join("skewed_clock.so"), dir.join(format!("skew-{node}")));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/skewed_clock.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(compiled.success());
    world.nodes[node].set("LD_PRELOAD", library.display().to_string());
    world.nodes[node].set("SKEWED_CLOCK", control.display().to_string());
    control
}

fn skew(control: &Path, seconds: i64) {
    fs::write(control, seconds.to_string()).unwrap();
}

async fn readiness_within(world: &World, node: usize, status: u16, limit: Duration) {
    let until = world.clock.monotonic() + limit;
    while world.nodes[node].readiness().await != Some(status) {
        assert!(
            world.clock.monotonic() < until,
            "node {node} is not {status}: {}",
            world.log()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_an_hour_ahead_is_not_ready_and_writes_right_deadlines() {
    let mut world = World::prepared_on(
        Deployment {
            nodes: 2,
            ..Deployment::default()
        },
        SaleConfig::default(),
    )
    .await;
    let control = skewable(&mut world, 1);
    skew(&control, HOUR_S);
    world.nodes[0].start().await;
    world.nodes[1].launch();
    let until = world.clock.monotonic() + Duration::from_secs(20);
    while !world.log().contains("serving node=\"node-1\"") {
        assert!(world.clock.monotonic() < until, "{}", world.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    readiness_within(&world, 1, 503, Duration::from_secs(1)).await;
    assert!(world.log().contains("a clock differs"), "{}", world.log());
    let figures = world.metrics(1).await;
    let offset = figures
        .lines()
        .find_map(|line| line.strip_prefix("stagedoor_clock_offset_seconds{clock=\"machine\"} "))
        .and_then(|value| value.parse::<f64>().ok())
        .unwrap();
    assert!((offset - 3_600.0).abs() < 5.0, "{offset}");

    // A balancer may not have noticed yet: what this node writes is right.
    let mut fan = Fan::sign_in(&world, 1).await;
    fan.base = format!("http://{}", world.nodes[1].public);
    fan.join(&world).await.expect(201);
    fan.enter_within(&world, Duration::from_secs(20)).await;
    let hold = fan.hold_best(&world, 1).await.expect(201);
    let limit = |seconds: u32| {
        world
            .clock
            .now()
            .plus(Duration::from_secs(seconds.into()) + TOLERANCE)
    };
    let expires: Timestamp = hold["expires_at"].as_str().unwrap().parse().unwrap();
    assert!(expires < limit(world.sale_config.hold_ttl_s), "{expires}");
    let paid = fan.pay(hold["id"].as_str().unwrap(), "tok_ok").await;
    assert_eq!(paid.json["state"], "paid", "{}", paid.json);
    for column in [
        "SELECT max(lease_until)::bigint FROM stagedoor_ledger.saga",
        "SELECT max(payment_deadline)::bigint FROM stagedoor_ledger.orders",
    ] {
        let written = Timestamp::from_millis(world.environment().query_number(column).await);
        assert!(written < limit(60), "{column}: {written}");
    }

    skew(&control, 0);
    readiness_within(&world, 1, 204, Duration::from_secs(4)).await;
    // While running: the clock is set back.
    skew(&control, -HOUR_S);
    readiness_within(&world, 1, 503, Duration::from_secs(4)).await;
    assert_eq!(world.nodes[0].readiness().await, Some(204));
    world.assert_no_panic();
}
