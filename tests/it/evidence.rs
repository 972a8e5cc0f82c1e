//! Gathers the auditor's evidence from the service's databases and from the seat map.

use serde_json::Value;
use stagedoor::{
    audit::{Evidence, LiveHold, Violation, audit, databases},
    kernel::{Clock, Timestamp},
};

use crate::{
    fan::Fan,
    world::{PERFORMANCE, World},
};

/// The state of the databases now. `observer` is an admitted customer, who reads the seat map.
pub async fn gather(world: &World, observer: &Fan) -> Evidence {
    let mut evidence = databases::read_from(&world.databases(), &world.sale)
        .await
        .unwrap();
    evidence.admission_settings = vec![world.admission_settings()];
    evidence.late_arrival_share = world.sale_config.late_arrival_share;
    map(&observer.seats(world).await, &mut evidence);
    evidence.observed_at = world.clock.now();
    evidence
}

/// Adds the seats that are still held now as holds that ended at `deadline`.
pub async fn record_holds_after(deadline: Timestamp, world: &World, observer: &Fan, evidence: &mut Evidence) {
    let map = observer.seats(world).await;
    let held = map["seats"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, state)| *state == "held");
    evidence.holds.extend(held.map(|(guid, _)| LiveHold {
        id: format!("of seat {guid}"),
        expires_at: deadline,
        paying: false,
    }));
    evidence.observed_at = world.clock.now();
}

/// Violations where a node's seat map differs from the ledger's booked seats.
pub async fn every_node_agrees(world: &World, observer: &Fan, evidence: &Evidence) -> Vec<Violation> {
    let mut found = Vec::new();
    for node in &world.nodes {
        let at_this_one = Fan {
            base: format!("http://{}", node.public),
            ..observer.clone()
        };
        let mut seen = Evidence {
            ledger_booked: evidence.ledger_booked.clone(),
            ..Evidence::default()
        };
        map(&at_this_one.seats(world).await, &mut seen);
        found.extend(audit(&seen));
    }
    found
}

fn map(map: &Value, evidence: &mut Evidence) {
    let booked = map["seats"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, state)| *state == "booked");
    evidence
        .store_booked
        .get_or_insert_default()
        .extend(booked.map(|(guid, _)| (PERFORMANCE.to_owned(), guid.clone())));
}
