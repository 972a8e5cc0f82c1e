//! The process may open few files.

use std::{io::Write, net::TcpStream, time::Duration};

use http::Method;
use stagedoor::kernel::Clock;

use crate::{
    fan::Fan,
    world::{SaleConfig, World},
};

const FILES: u64 = 256;

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_answers_when_connections_use_up_the_files() {
    let mut world = World::prepared(SaleConfig::default()).await;
    world.nodes[0].runner = vec!["prlimit".into(), format!("--nofile={FILES}:{FILES}")];
    world.start().await;
    assert!(
        world.log().contains("server.connections_max is 20000") && world.log().contains("may open only 256"),
        "{}",
        world.log()
    );
    let lines = world.log().lines().count();
    let held: Vec<TcpStream> = (0..400)
        .map(|_| {
            let mut socket = TcpStream::connect(world.nodes[0].public).unwrap();
            let _ = socket.write_all(b"GET / HTTP/1.1\r\n");
            socket
        })
        .collect();
    let until = world.clock.monotonic() + Duration::from_secs(3);
    while world.clock.monotonic() < until {
        let asked = world.clock.monotonic();
        assert_eq!(world.nodes[0].readiness().await, Some(204));
        let took = world.clock.monotonic().saturating_sub(asked);
        assert!(took < Duration::from_secs(1), "the admin listener took {took:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(held);
    let fan = Fan::anonymous(&world, 1);
    let path = world.sale_path("");
    fan.call(Method::GET, path.trim_end_matches('/'), None)
        .await
        .expect(200);
    let written = world.log().lines().count() - lines;
    assert!(written < 10, "{written} lines");
    world.assert_no_panic();
}
