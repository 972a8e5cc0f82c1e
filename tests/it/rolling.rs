//! Rolling restarts behind the balancer lose no request.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Method;
use serde_json::json;
use stagedoor::{kernel::Clock, platform::http_client::HttpClient};
use testkit::Nginx;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{
    fan::Fan,
    nodes::Node,
    world::{SaleConfig, World},
};

const CALLERS: u32 = 12;

/// Two nodes with the same keys, enough to see whether a request is lost between them.
async fn two_nodes() -> (World, [Node; 2], Nginx) {
    let mut world = World::prepared(SaleConfig::default()).await;
    let node = |n: u32| {
        let variables = vec![("STAGEDOOR__SERVER__SHUTDOWN_NOTICE_MS", "3000".to_owned())];
        Node::new(
            &world.site(),
            "all",
            world.data().with_file_name(format!("data-{n}")),
            variables,
        )
    };
    let mut nodes = [node(1), node(2)];
    let addresses = [nodes[0].public, nodes[1].public];
    let nginx = Nginx::start(&addresses, &addresses).await.unwrap();
    world.base = nginx.url();
    for node in &mut nodes {
        node.set("STAGEDOOR__SERVER__PUBLIC_BASE", nginx.url());
    }
    nodes[0].start().await;
    let other = world.data().with_file_name("data-2");
    fs::create_dir_all(&other).unwrap();
    fs::copy(
        world.data().with_file_name("data-1").join("keys.json"),
        other.join("keys.json"),
    )
    .unwrap();
    nodes[1].start().await;
    (world, nodes, nginx)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_request() {
    let (world, mut nodes, nginx) = two_nodes().await;
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = Vec::new();
    for n in 1..=CALLERS {
        // Each has a connection pool of its own, as a browser has.
        let fan = Fan {
            client: HttpClient::new(Duration::from_secs(10), 1 << 20),
            ..Fan::sign_in(&world, n).await
        };
        let (status_path, queue, sale) = (
            world.sale_path("status"),
            world.sale_path("queue"),
            format!("/v1/sales/{}", world.sale),
        );
        let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
        callers.push(tokio::spawn(async move {
            let mut failed = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                for (method, path) in [
                    (Method::GET, &status_path),
                    (Method::POST, &queue),
                    (Method::GET, &sale),
                ] {
                    let uri = format!("{}{path}", fan.base).parse().unwrap();
                    let proof = [(
                        http::header::AUTHORIZATION,
                        format!("Bearer {}", fan.session).parse().unwrap(),
                    )];
                    match fan
                        .client
                        .send(method.clone(), uri, &proof, bytes::Bytes::new())
                        .await
                    {
                        Ok(answer) if answer.status.is_success() => served.fetch_add(1, Ordering::Relaxed),
                        Ok(answer) => {
                            failed.push(format!(
                                "{method} {path}: {} {}",
                                answer.status,
                                String::from_utf8_lossy(&answer.body)
                            ));
                            0
                        }
                        Err(error) => {
                            failed.push(format!("{method} {path}: {error}"));
                            0
                        }
                    };
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            failed
        }));
    }
    for round in 0..4 {
        let node = &mut nodes[round % 2];
        let before = served.load(Ordering::Relaxed);
        let status = node.stop().await;
        assert!(status.success(), "{status}");
        node.start().await;
        let meanwhile = served.load(Ordering::Relaxed) - before;
        assert!(
            meanwhile > 300,
            "only {meanwhile} requests were made during restart {round}"
        );
    }
    stop.store(true, Ordering::Relaxed);
    let mut failed = Vec::new();
    for caller in callers {
        failed.extend(caller.await.unwrap());
    }
    let errors: Vec<String> = nginx
        .log()
        .lines()
        .filter(|line| line.contains("[error]"))
        .take(5)
        .map(str::to_owned)
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} failed: {:#?}\nnginx: {errors:#?}",
        failed.len(),
        served.load(Ordering::Relaxed),
        &failed[..failed.len().min(5)]
    );
    world.assert_no_panic();
}

const HEADERS: u8 = 0x1;
const GOAWAY: u8 = 0x7;

/// Sends the HTTP/2 preface, empty settings, and `GET /` on the first stream.
async fn h2_ask(socket: &mut TcpStream) -> Vec<u8> {
    socket
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    // HPACK's static table has all of it: :method GET, :scheme http, :path /.
    socket
        .write_all(&[0, 0, 3, HEADERS, 0x5, 0, 0, 0, 1, 0x82, 0x86, 0x84])
        .await
        .unwrap();
    h2_read(socket, HEADERS).await
}

/// The types of the frames that arrive, up to the first of type `until` or the end.
async fn h2_read(socket: &mut TcpStream, until: u8) -> Vec<u8> {
    let mut kinds = Vec::new();
    let mut head = [0; 9];
    let reading = async {
        while kinds.last() != Some(&until) && socket.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            socket.read_exact(&mut vec![0; length]).await.unwrap();
            kinds.push(head[3]);
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reading)
        .await
        .expect("frames come");
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_drains_and_ends_its_streams() {
    let mut world = World::prepared(SaleConfig::default()).await;
    let mut node = Node::new(
        &world.site(),
        "all",
        world.data(),
        vec![("STAGEDOOR__SERVER__SHUTDOWN_NOTICE_MS", "2000".to_owned())],
    );
    world.base = format!("http://{}", node.public);
    node.set("STAGEDOOR__SERVER__PUBLIC_BASE", world.base.clone());
    node.start().await;
    let status_path = world.sale_path("status");
    let mut idle = TcpStream::connect(node.public).await.unwrap();
    let head = async |socket: &mut TcpStream| {
        socket
            .write_all(format!("GET {status_path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut buffer = vec![0; 64 * 1024];
        let length = socket.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..length]).to_lowercase()
    };
    let answer = head(&mut idle).await;
    assert!(
        answer.starts_with("http/1.1 200") && !answer.contains("connection: close"),
        "{answer}"
    );
    let mut modern = TcpStream::connect(node.public).await.unwrap();
    assert_eq!(
        h2_ask(&mut modern).await.last(),
        Some(&HEADERS),
        "a response over HTTP/2"
    );
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(node.public).await.unwrap();
        stream
            .write_all(format!("GET {status_path}/events HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let clock = Arc::clone(&world.clock);
        streams.push(tokio::spawn(async move {
            let mut lines = BufReader::new(stream).lines();
            let mut retries = Vec::new();
            while let Ok(Some(line)) = lines.next_line().await {
                retries.extend(line.strip_prefix("retry: ").map(|ms| ms.parse::<u64>().unwrap()));
            }
            (retries, clock.monotonic())
        }));
    }
    let stop_requested_at = world.clock.monotonic();
    node.tell_to_stop();
    while node.readiness().await == Some(204) {
        assert!(
            world.clock.monotonic() < stop_requested_at + Duration::from_secs(1),
            "the node is still ready"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        h2_read(&mut modern, GOAWAY).await.last(),
        Some(&GOAWAY),
        "HTTP/2 connections get GOAWAY at once"
    );
    drop(modern);
    // An open connection and a new one are both served, and both are closed after the response.
    assert!(head(&mut idle).await.contains("connection: close"));
    assert_eq!(
        idle.read(&mut [0; 1]).await.unwrap(),
        0,
        "the connection is closed"
    );
    let answer = head(&mut TcpStream::connect(node.public).await.unwrap()).await;
    assert!(
        answer.starts_with("http/1.1 200") && answer.contains("connection: close"),
        "{answer}"
    );
    Fan::anonymous(&world, 1)
        .call(Method::POST, "/v1/sign-in/handoff", Some(json!({"token": "x"})))
        .await
        .problem(401, "wrong-credentials");

    let mut ends = Vec::new();
    for stream in streams {
        let (retries, at) = stream.await.unwrap();
        assert_eq!(
            retries.len(),
            2,
            "one retry at the start of the stream, one at its end: {retries:?}"
        );
        assert!(
            retries.iter().all(|ms| (1_000..5_000).contains(ms)),
            "{retries:?}"
        );
        ends.push(at.saturating_sub(stop_requested_at));
    }
    ends.sort_unstable();
    assert!(
        ends[0] >= Duration::from_secs(2),
        "no stream ends while the node still accepts: {ends:?}"
    );
    assert!(
        ends[7] > ends[0] + Duration::from_millis(200),
        "the ends are spread over time: {ends:?}"
    );
    assert!(
        TcpStream::connect(node.public).await.is_err(),
        "the node no longer accepts connections"
    );
    assert!(node.ended().await.success());
    world.assert_no_panic();
}
