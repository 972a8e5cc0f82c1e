//! What an installation has created is lost: it is never created anew.

use std::fs;

use crate::{
    environment::Deployment,
    fan::Fan,
    world::{SaleConfig, World},
};

/// Sells the seat with the last name and stops the service; returns the seat.
async fn sold_one(world: &mut World) -> String {
    let mut fan = Fan::admitted(world, 1).await;
    let mut seats = fan.free_seats(world).await;
    seats.sort();
    let hold = fan.hold(world, &[seats.last().unwrap()]).await.expect(201);
    let paid = fan.pay(hold["id"].as_str().unwrap(), "tok_ok").await.expect(201);
    assert_eq!(paid["state"], "paid", "{paid}");
    assert!(world.stop().await.success());
    hold["seats"][0].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_file_is_refused_by_name() {
    let mut world = World::open(SaleConfig::default()).await;
    sold_one(&mut world).await;
    let data = world.data();
    let refused = async |world: &mut World, file: &str| {
        let (status, text) = world.nodes[0].fails_to_start().await;
        assert!(!status.success());
        assert!(
            text.contains("missing or empty") && text.contains(file) && text.contains("restore the backup"),
            "{text}"
        );
    };
    for file in ["keys.json", "ledger.db", "queue.db", "sessions.db", "gateway.db"] {
        let (there, aside) = (data.join(file), data.join("aside"));
        fs::rename(&there, &aside).unwrap();
        refused(&mut world, file).await;
        assert!(!there.exists(), "{file} is not created");
        fs::write(&there, b"").unwrap();
        refused(&mut world, file).await;
        fs::rename(&aside, &there).unwrap();
    }
    // A backup without the record: keys beside other files are still not made anew.
    fs::remove_file(data.join("created.json")).unwrap();
    fs::rename(data.join("keys.json"), data.join("aside")).unwrap();
    refused(&mut world, "keys.json").await;
    fs::rename(data.join("aside"), data.join("keys.json")).unwrap();
    world.start().await;
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_tables_are_refused_by_name() {
    let mut world = World::open_on(
        Deployment {
            nodes: 1,
            ..Deployment::default()
        },
        SaleConfig::default(),
    )
    .await;
    sold_one(&mut world).await;
    for (lose, restore, name) in [
        (
            "CREATE TABLE aside AS SELECT * FROM stagedoor_keys.encrypted_keys;
             DELETE FROM stagedoor_keys.encrypted_keys",
            "INSERT INTO stagedoor_keys.encrypted_keys SELECT * FROM aside",
            "the keys",
        ),
        (
            "ALTER SCHEMA stagedoor_ledger RENAME TO aside",
            "ALTER SCHEMA aside RENAME TO stagedoor_ledger",
            "schema stagedoor_ledger",
        ),
        (
            "ALTER SCHEMA stagedoor_queue RENAME TO aside",
            "ALTER SCHEMA aside RENAME TO stagedoor_queue",
            "schema stagedoor_queue",
        ),
    ] {
        world.environment().execute(lose).await;
        let (status, text) = world.nodes[0].fails_to_start().await;
        assert!(
            !status.success() && text.contains(&format!("lacks {name}")),
            "{text}"
        );
        world.environment().execute(restore).await;
    }
    world.start().await;
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_without_a_sold_seat_is_refused_with_the_list() {
    let mut world = World::open(SaleConfig::default()).await;
    let sold = sold_one(&mut world).await;
    let file = world.site().config_file();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("generate:theatre:300", "generate:theatre:60")).unwrap();
    let (status, output) = world.nodes[0].fails_to_start().await;
    assert!(
        !status.success() && output.contains("the seating plan lacks seats") && output.contains(&sold),
        "{sold}: {output}"
    );
    fs::write(&file, text).unwrap();
    world.start().await;
    world.assert_no_panic();
}
