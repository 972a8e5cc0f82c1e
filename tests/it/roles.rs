//! The waiting room and the box office as two processes behind one balancer.

use std::{fs, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use serde_json::{Value, json};
use stagedoor::{kernel::Clock};
use testkit::Nginx;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    fan::Fan,
    nodes::Node,
    world::{Scene, World, command},
};

struct House {
    world: World,
    door: Node,
    office: Node,
    /// Held while the test runs.
    _nginx: Nginx,
}

/// Both roles on the memory engine: each is served once, so both are in one directory.
async fn house(scene: Scene) -> House {
    let mut world = World::prepared(scene).await;
    let mut door = Node::new(&world.site(), "waiting-room", world.data(), Vec::new());
    let mut office = Node::new(&world.site(), "box-office", world.data(), Vec::new());
    let nginx = Nginx::start(&[door.public], &[office.public]).await.unwrap();
    world.base = nginx.url();
    for node in [&mut door, &mut office] {
        node.set("STAGEDOOR__SERVER__PUBLIC_BASE", nginx.url());
    }
    office.set(
        "STAGEDOOR__BOX_OFFICE__WAITING_ROOM_URLS",
        format!("[\"http://{}\"]", door.ops),
    );
    door.start().await;
    office.start().await;
    House {
        world,
        door,
        office,
        _nginx: nginx,
    }
}

async fn board(world: &World) -> Value {
    Fan::anonymous(world, 1)
        .call(Method::GET, &world.sale_path("status"), None)
        .await
        .expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_and_reports_cross_between_separate_roles() {
    let scene = Scene {
        capacity: 1,
        pass_life_s: 3,
        seats: 40,
        seats_per_fan: 2,
        ..Scene::default()
    };
    let House {
        world,
        door,
        mut office,
        _nginx,
    } = house(scene).await;
    let mut fan = Fan::admitted(&world, 1).await;
    let mut next = Fan::sign_in(&world, 2).await;
    next.join(&world).await.expect(201);
    assert_eq!(next.enter(&world).await.status, 409, "there is room for one");

    let hold = fan.hold_best(&world, 2).await.expect(201);
    let paid = fan.pay(hold["id"].as_str().unwrap(), "tok_ok").await.expect(201);
    assert_eq!(paid["state"], "paid");
    // She may buy nothing more, so her slot is free once the door has heard of it and her pass can open nothing.
    next.enter_within(&world, Duration::from_secs(20)).await;
    assert_eq!(next.seats(&world).await["seats"].as_object().unwrap().len(), 40);
    let until = world.clock.monotonic() + Duration::from_secs(5);
    loop {
        let booked: u64 = board(&world).await["zones"]
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
            "the board does not learn what is sold: {}",
            board(&world).await
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // Each process has its own part only.
    let at = |node: &Node| Fan {
        base: format!("http://{}", node.public),
        ..fan.clone()
    };
    let order = format!("/v1/orders/{}", paid["id"].as_str().unwrap());
    for path in [&order, &world.performance_path("plan"), "/v1/orders"] {
        at(&door)
            .call(Method::GET, path, None)
            .await
            .problem(404, "not-found");
        at(&office).call(Method::GET, path, None).await.expect(200);
    }
    for path in [
        "/v1/sales",
        &world.sale_path("status"),
        &world.sale_path("queue/position"),
    ] {
        at(&office)
            .call(Method::GET, path, None)
            .await
            .problem(404, "not-found");
    }
    at(&office)
        .call(Method::POST, &world.sale_path("queue"), None)
        .await
        .problem(404, "not-found");
    at(&door)
        .call(
            Method::POST,
            &world.performance_path("holds"),
            Some(json!({"seats": ["A"]})),
        )
        .await
        .problem(404, "not-found");
    for node in [&door, &office] {
        at(node)
            .call(Method::GET, "/.well-known/jwks.json", None)
            .await
            .expect(200);
        at(node)
            .call(Method::GET, "/openapi.json", None)
            .await
            .expect(200);
    }
    // A pass is good at the box office while the waiting room is away.
    drop(door);
    let said = next.call(Method::GET, &world.performance_path("seats"), None).await;
    assert_eq!(said.status, 200, "{}", said.json);
    board_is_served_from_the_cache(&world).await;
    next.call(Method::POST, &world.sale_path("queue"), None)
        .await
        .problem(503, "temporarily-unavailable");
    assert!(office.stop().await.success());
    world.assert_no_panic();
}

/// The last board goes on being shown when its second is over and nobody gives another.
async fn board_is_served_from_the_cache(world: &World) {
    let until = world.clock.monotonic() + Duration::from_secs(5);
    loop {
        let said = Fan::anonymous(world, 1)
            .call(Method::GET, &world.sale_path("status"), None)
            .await;
        assert_eq!(said.status, 200, "{}", said.json);
        if said.answer.headers["x-cache-status"] == "STALE" {
            return;
        }
        assert!(world.clock.monotonic() < until, "{:?}", said.answer.headers);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn box_office_reports_need_the_right_signature() {
    let House {
        world,
        door,
        office: _office,
        _nginx,
    } = house(Scene::default()).await;
    let report = |body: &str| Bytes::from(body.to_owned());
    let good = r#"{"source":"x","sequence":18000000000000000000,"zones":[],"ended":[],"paying":[]}"#;
    let post = async |path: String, proof: Option<&str>, body: Bytes| {
        let headers: Vec<(HeaderName, HeaderValue)> = proof
            .iter()
            .map(|proof| (header::AUTHORIZATION, HeaderValue::from_str(proof).unwrap()))
            .collect();
        let uri = format!("http://{}{path}", door.ops).parse().unwrap();
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
    let mut large = TcpStream::connect(door.ops).await.unwrap();
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
    assert_eq!(&answer, b"HTTP/1.1 413", "before it is sent");
    assert_eq!(
        post("/v1/box-office/%20/reports".into(), None, report(good))
            .await
            .status,
        404
    );
    // Never on the public listener.
    let public = Fan {
        base: format!("http://{}", door.public),
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
    let world = World::prepared(Scene::default()).await;
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
        "[store]\nkind = \"redis\"\nredis.url = \"redis://:hush@127.0.0.1:1\"\n[ledger]\nurl = \"postgres://u:hush@127.0.0.1:1/x\"\n",
    );
    fs::write(&file, config).unwrap();
    let each_its_own_money = command(&["serve", "--config", file.to_str().unwrap()]);
    assert!(
        !each_its_own_money.0.success() && each_its_own_money.1.contains("gateway.url"),
        "{}",
        each_its_own_money.1
    );
    assert!(!each_its_own_money.1.contains("hush"), "{}", each_its_own_money.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_backend_serves_each_role_once() {
    let House {
        world,
        door: _door,
        office: _office,
        _nginx,
    } = house(Scene::default()).await;
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
