//! A whole sale with two thousand visitors and five hundred seats passes the audit.

use std::{sync::Arc, time::Duration};

use stagedoor::{
    audit::{audit, databases::reclassify_late_arrivals},
    demo::{
        client::Observations,
        crowd::{self, CrowdConfig, Pace},
    },
    kernel::Clock,
    platform::shutdown::Lifecycle,
};

use crate::{
    environment::Deployment,
    evidence::{every_node_agrees, gather, record_holds_after},
    fan::Fan,
    world::{SaleConfig, World},
};

/// The customer who stays admitted and reads the seat map; the crowd has higher numbers.
pub const OBSERVER: u32 = 1;

/// The configuration of a crowd of `fans`.
pub fn crowd_of(world: &World, fans: u32, seed: u64, arrive_within: Duration) -> CrowdConfig {
    CrowdConfig {
        base: world.base.clone(),
        sale: world.sale.clone(),
        fans,
        seed,
        handoff: world.handoff(),
        arrive_within,
        first_customer: OBSERVER + 1,
        pace: Pace::Brisk,
    }
}

/// Runs the crowd, which must finish within `patience`.
pub async fn visit(world: &World, config: CrowdConfig, patience: Duration) -> Observations {
    let clock: Arc<dyn Clock> = Arc::clone(&world.clock) as Arc<dyn Clock>;
    let life = Lifecycle::new();
    let visit = tokio::spawn(crowd::run(config, clock, life.clone()));
    tokio::select! {
        () = tokio::time::sleep(patience) => life.stop(),
        () = async {
            while !visit.is_finished() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        } => {}
    }
    let stopped = life.is_stopping();
    let report = visit.await.unwrap();
    assert!(
        !stopped,
        "the crowd was not finished after {patience:?}: {}",
        summary(&report)
    );
    report
}

/// The report without its long lists.
pub fn summary(report: &Observations) -> String {
    let mut json = serde_json::to_value(report).unwrap();
    json.as_object_mut().unwrap().retain(|_, value| !value.is_array());
    json.to_string()
}

/// Waits until every hold has expired and every payment has finished.
pub async fn settle(world: &World, observer: &mut Fan) {
    let longest = Duration::from_secs(u64::from(world.sale_config.hold_ttl_s) + 5);
    let until = world.clock.monotonic() + longest;
    while world.clock.monotonic() < until {
        tokio::time::sleep(Duration::from_secs(2)).await;
        observer.renew(world).await;
    }
}

fn sale_config() -> SaleConfig {
    SaleConfig {
        on_sale_starts_in: Duration::from_secs(8),
        admission_rate_per_minute: 3_000,
        admission_burst: 50,
        active_visits_max: 150,
        call_window_s: 6,
        seats: 500,
        hold_ttl_s: 15,
        ..SaleConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_four_times_the_seats_passes_the_audit() {
    crowd_passes_audit(World::open(sale_config()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_on_three_nodes_passes_the_audit() {
    crowd_passes_audit(World::open_on(Deployment::default(), sale_config()).await).await;
}

async fn crowd_passes_audit(world: World) {
    let mut observer = Fan::sign_in(&world, OBSERVER).await;
    observer.join(&world).await.expect(201);
    let config = crowd_of(&world, 2_000, 20_261_123, Duration::from_secs(12));
    let crowd = visit(&world, config, Duration::from_mins(4));
    let stay = async {
        observer.enter_within(&world, Duration::from_mins(1)).await;
        loop {
            tokio::time::sleep(Duration::from_secs(20)).await;
            observer.renew(&world).await;
        }
    };
    let report = tokio::select! {
        report = crowd => report,
        () = stay => unreachable!("the observer stays"),
    };
    let counts = summary(&report);
    let crowd_gone = world.clock.now();
    settle(&world, &mut observer).await;
    let mut evidence = gather(&world, &observer).await;
    report.add_to(&mut evidence);
    reclassify_late_arrivals(&mut evidence);
    evidence.settled = true;
    record_holds_after(
        crowd_gone.plus(Duration::from_secs(u64::from(world.sale_config.hold_ttl_s))),
        &world,
        &observer,
        &mut evidence,
    )
    .await;
    let mut found = audit(&evidence);
    found.extend(every_node_agrees(&world, &observer, &evidence).await);
    assert!(
        found.is_empty(),
        "{} violations, the first: {:#?}\n{counts}",
        found.len(),
        &found[..found.len().min(10)]
    );

    // An audit without sales would pass, too.
    assert_eq!(report.joined, 2_000, "{counts}");
    assert!(
        evidence.ledger_booked.len() >= 450,
        "{} of 500 seats were sold; {counts}",
        evidence.ledger_booked.len()
    );
    assert!(
        report.conflicts > 0 && report.orders_by_state.contains_key("declined"),
        "{counts}"
    );
    assert!(report.active_max <= 150, "{counts}");
    assert_eq!(report.outages, 0, "{counts}");
    world.assert_no_panic();
}
