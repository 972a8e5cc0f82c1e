//! The waiting room and the box office as two processes behind one balancer.

use std::{fs, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use stagedoor::{
    kernel::Clock,
    platform::signing::{hex, sha256},
};
use testkit::Nginx;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    fan::Fan,
    nodes::Node,
    world::{SaleConfig, World, command},
};

struct SplitRoles {
    world: World,
    waiting_room: Node,
    box_office: Node,
    /// Held while the test runs.
    _nginx: Nginx,
}

/// Both roles on the embedded backend, in one data directory.
async fn split_roles(sale_config: SaleConfig) -> SplitRoles {
    let mut world = World::prepared(sale_config).await;
    let feed_token = hex(&sha256(b"the token with which the shop reads its feed"));
    world.add_to_config(&format!(
        "[shop.events]\nfeed_token = \"{feed_token}\"\ncall_notices = true\n"
    ));
    let mut waiting_room = Node::new(&world.site(), "waiting-room", world.data(), Vec::new());
    let mut box_office = Node::new(&world.site(), "box-office", world.data(), Vec::new());
    let nginx = Nginx::start(&[waiting_room.public], &[box_office.public])
        .await
        .unwrap();
    world.base = nginx.url();
    for node in [&mut waiting_room, &mut box_office] {
        node.set("STAGEDOOR__SERVER__PUBLIC_BASE", nginx.url());
    }
    box_office.set(
        "STAGEDOOR__BOX_OFFICE__WAITING_ROOM_URLS",
        format!("[\"http://{}\"]", waiting_room.admin),
    );
    waiting_room.start().await;
    box_office.start().await;
    SplitRoles {
        world,
        waiting_room,
        box_office,
        _nginx: nginx,
    }
}

async fn queue_status(world: &World) -> Value {
    Fan::anonymous(world, 1)
        .call(Method::GET, &world.sale_path("status"), None)
        .await
        .expect(200)
}

/// Types of the events in the ledger that are not an order's.
async fn sales_events(world: &World) -> Vec<String> {
    let file = format!("sqlite:{}?mode=ro", world.data().join("ledger.db").display());
    let mut db = SqliteConnection::connect(&file).await.unwrap();
    let kinds =
        sqlx::query_scalar("SELECT kind FROM outbox WHERE stream NOT IN (SELECT id FROM orders) ORDER BY at")
            .fetch_all(&mut db)
            .await
            .unwrap();
    db.close().await.unwrap();
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_and_reports_cross_between_separate_roles() {
    let sale_config = SaleConfig {
        active_visits_max: 1,
        pass_ttl_s: 3,
        seats: 40,
        seats_per_customer_max: 2,
        ..SaleConfig::default()
    };
    let SplitRoles {
        world,
        waiting_room,
        mut box_office,
        _nginx,
    } = split_roles(sale_config).await;
    let mut fan = Fan::admitted(&world, 1).await;
    let mut next = Fan::sign_in(&world, 2).await;
    next.join(&world).await.expect(201);
    assert_eq!(next.enter(&world).await.status, 409, "there is room for one");
    let notice = world.sale_path("queue/call-notice");
    assert_eq!(next.call(Method::PUT, &notice, None).await.status, 204);

    let hold = fan.hold_best(&world, 2).await.expect(201);
    let paid = fan.pay(hold["id"].as_str().unwrap(), "tok_ok").await.expect(201);
    assert_eq!(paid["state"], "paid");
    // The box office learns from the answers to its reports that the sale has opened and who is called, and
    // tells the shop.
    let until = world.clock.monotonic() + Duration::from_secs(30);
    while sales_events(&world).await != ["stagedoor.sale.opened.v1", "stagedoor.visitor.called.v1"] {
        assert!(
            world.clock.monotonic() < until,
            "{:?}",
            sales_events(&world).await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The customer has reached the limit of seats, so the slot becomes free once the waiting room has the
    // report and the pass has expired.
    next.enter_within(&world, Duration::from_secs(20)).await;
    assert_eq!(next.seats(&world).await["seats"].as_object().unwrap().len(), 40);
    let until = world.clock.monotonic() + Duration::from_secs(5);
    loop {
        let booked: u64 = queue_status(&world).await["zones"]
            .as_array()
            .unwrap()
            .iter()
            .map(|zone| zone["booked"].as_u64().unwrap())
            .sum();
        if booked == 2 {
            break;
        }
        assert!(
            world.clock.monotonic() < until,
            "the status does not show the sold seats: {}",
            queue_status(&world).await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // Each process serves only its own role.
    let at = |node: &Node| Fan {
        base: format!("http://{}", node.public),
        ..fan.clone()
    };
    let order = format!("/v1/orders/{}", paid["id"].as_str().unwrap());
    for path in [&order, &world.performance_path("plan"), "/v1/orders"] {
        at(&waiting_room)
            .call(Method::GET, path, None)
            .await
            .problem(404, "not-found");
        at(&box_office).call(Method::GET, path, None).await.expect(200);
    }
    for path in [
        "/v1/sales",
        &world.sale_path("status"),
        &world.sale_path("queue/position"),
    ] {
        at(&box_office)
            .call(Method::GET, path, None)
            .await
            .problem(404, "not-found");
    }
    at(&box_office)
        .call(Method::POST, &world.sale_path("queue"), None)
        .await
        .problem(404, "not-found");
    at(&waiting_room)
        .call(
            Method::POST,
            &world.performance_path("holds"),
            Some(json!({"seats": ["A"]})),
        )
        .await
        .problem(404, "not-found");
    for node in [&waiting_room, &box_office] {
        at(node)
            .call(Method::GET, "/.well-known/jwks.json", None)
            .await
            .expect(200);
        at(node)
            .call(Method::GET, "/openapi.json", None)
            .await
            .expect(200);
    }
    // The box office accepts passes while the waiting room is unavailable.
    drop(waiting_room);
    let reply = next
        .call(Method::GET, &world.performance_path("seats"), None)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.json);
    status_is_served_from_the_cache(&world).await;
    next.call(Method::POST, &world.sale_path("queue"), None)
        .await
        .problem(503, "temporarily-unavailable");
    assert!(box_office.stop().await.success());
    world.assert_no_panic();
}

/// nginx serves the last status as stale while the waiting room is unavailable.
async fn status_is_served_from_the_cache(world: &World) {
    let until = world.clock.monotonic() + Duration::from_secs(5);
    loop {
        let reply = Fan::anonymous(world, 1)
            .call(Method::GET, &world.sale_path("status"), None)
            .await;
        assert_eq!(reply.status, 200, "{}", reply.json);
        if reply.answer.headers["x-cache-status"] == "STALE" {
            return;
        }
        assert!(world.clock.monotonic() < until, "{:?}", reply.answer.headers);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn box_office_reports_need_the_right_signature() {
    let SplitRoles {
        world,
        waiting_room,
        box_office: _box_office,
        _nginx,
    } = split_roles(SaleConfig::default()).await;
    let report = |body: &str| Bytes::from(body.to_owned());
    let good = r#"{"source":"x","sequence":18000000000000000000,"zones":[],"ended":[],"paying":[]}"#;
    let post = async |path: String, proof: Option<&str>, body: Bytes| {
        let headers: Vec<(HeaderName, HeaderValue)> = proof
            .iter()
            .map(|proof| (header::AUTHORIZATION, HeaderValue::from_str(proof).unwrap()))
            .collect();
        let uri = format!("http://{}{path}", waiting_room.admin).parse().unwrap();
        world
            .client
            .send(Method::POST, uri, &headers, body)
            .await
            .unwrap()
    };
    let path = format!("/v1/box-office/{}/reports", world.sale);
    for proof in [
        None,
        Some("Bearer 1.AAAAAAAAAAAAAAAAAAAAAA"),
        Some("Bearer x"),
        Some("Basic eDp5"),
    ] {
        let answer = post(path.clone(), proof, report(good)).await;
        assert_eq!(answer.status, 401, "{proof:?}");
        assert_eq!(answer.json::<Value>().unwrap()["type"], "/problems/not-signed");
    }
    let mut large = TcpStream::connect(waiting_room.admin).await.unwrap();
    large
        .write_all(
            format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                3 << 20
            )
            .as_bytes(),
        )
        .await
        .unwrap();
    let mut answer = [0; 12];
    large.read_exact(&mut answer).await.unwrap();
    assert_eq!(
        &answer, b"HTTP/1.1 413",
        "the response comes before the body is sent"
    );
    assert_eq!(
        post("/v1/box-office/%20/reports".into(), None, report(good))
            .await
            .status,
        404
    );
    // Never on the public listener.
    let public = Fan {
        base: format!("http://{}", waiting_room.public),
        ..Fan::anonymous(&world, 1)
    };
    public
        .call(Method::POST, &path, Some(json!({})))
        .await
        .problem(404, "not-found");
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_cannot_work_together_are_refused() {
    let world = World::prepared(SaleConfig::default()).await;
    let file = world.site().config_file();
    let alone = command(&[
        "serve",
        "--roles",
        "box-office",
        "--config",
        file.to_str().unwrap(),
    ]);
    assert!(
        !alone.0.success() && alone.1.contains("box_office.waiting_room_urls"),
        "{}",
        alone.1
    );
    let mut config = fs::read_to_string(&file).unwrap();
    config.push_str(
        "[store]\nkind = \"redis\"\nredis.url = \"redis://:hush@127.0.0.1:1\"\n\
         [ledger]\nurl = \"postgres://u:hush@127.0.0.1:1/x\"\n",
    );
    fs::write(&file, config).unwrap();
    let without_gateway = command(&["serve", "--config", file.to_str().unwrap()]);
    assert!(
        !without_gateway.0.success() && without_gateway.1.contains("gateway.url"),
        "{}",
        without_gateway.1
    );
    assert!(!without_gateway.1.contains("hush"), "{}", without_gateway.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_backend_serves_each_role_once() {
    let SplitRoles {
        world,
        waiting_room: _waiting_room,
        box_office: _box_office,
        _nginx,
    } = split_roles(SaleConfig::default()).await;
    let (file, data) = (world.site().config_file(), world.data());
    let (file, data) = (file.to_str().unwrap(), data.to_str().unwrap());
    for roles in ["waiting-room", "all"] {
        let second = command(&[
            "serve",
            "--roles",
            roles,
            "--config",
            file,
            "--data",
            data,
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
        ]);
        assert!(
            !second.0.success() && second.1.contains("another process serves the data directory"),
            "{roles}: {}",
            second.1
        );
    }
}
