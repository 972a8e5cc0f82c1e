//! `stagedoor demo`: one command without configuration runs a whole sale.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use stagedoor::{
    kernel::{Clock, SystemClock},
    platform::http_client::HttpClient,
};

use crate::world::fresh_dir;

/// The addresses and the data directory that the demo prints.
#[derive(Debug, PartialEq, Eq)]
struct Printed {
    /// The address of the public listener, without a path.
    fans: String,
    console: String,
    data: String,
}

/// Reads the lines `fans: ADDRESS`, `console: ADDRESS` and `data: PATH`.
fn printed(text: &str) -> Option<Printed> {
    let line = |key: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(':'))
    };
    // Two spaces separate the value from a remark.
    let value = |key: &str| Some(line(key)?.trim().split("  ").next()?.trim());
    let origin = |key: &str| {
        let address = value(key)?;
        let end = address["http://".len()..]
            .find('/')
            .map_or(address.len(), |at| at + "http://".len());
        Some(address[..end].to_owned())
    };
    Some(Printed {
        fans: origin("fans")?,
        console: origin("console")?,
        data: value("data")?.to_owned(),
    })
}

#[test]
fn the_demo_output_is_parsed() {
    let text = "stagedoor demo\n  fans:    http://127.0.0.1:8080/sales/x\n  \
                console: http://127.0.0.1:9090\n  \
                data:    /tmp/a b  (resumes the sale there; --seats is its own)\n";
    let expected = Printed {
        fans: "http://127.0.0.1:8080".into(),
        console: "http://127.0.0.1:9090".into(),
        data: "/tmp/a b".into(),
    };
    assert_eq!(printed(text), Some(expected));
    assert_eq!(printed("fans: http://127.0.0.1:1"), None);
}

/// A running demo; killed on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn demo(dir: &Path, log: &str) -> Running {
    let log = fs::File::create(dir.join(log)).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_stagedoor"))
        .args(["demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .args(["--open-in", "2", "--seats", "400", "--crowd", "60", "--data"])
        .arg(dir.join("data"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Running(child)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_runs_a_demo_sale_that_survives_a_restart() {
    let (dir, clock) = (fresh_dir(), SystemClock::new());
    let client = HttpClient::new(Duration::from_secs(10), 32 << 20);
    let get = async |base: &str, path: &str, accept: &'static str| {
        let accept = [(http::header::ACCEPT, http::HeaderValue::from_static(accept))];
        client
            .send(
                Method::GET,
                format!("{base}{path}").parse().unwrap(),
                &accept,
                Bytes::new(),
            )
            .await
    };
    let mut issued_before = 0;
    for start in ["first", "second"] {
        let running = demo(&dir, start);
        let log = || fs::read_to_string(dir.join(start)).unwrap();
        let until = clock.monotonic() + Duration::from_mins(1);
        let addresses = loop {
            if let Some(addresses) = printed(&log()) {
                break addresses;
            }
            assert!(
                clock.monotonic() < until,
                "the demo printed no addresses:\n{}",
                log()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert!(Path::new(&addresses.data).ends_with("data"), "{addresses:?}");
        while !get(&addresses.console, "/health/ready", "*/*")
            .await
            .is_ok_and(|a| a.status.is_success())
        {
            assert!(clock.monotonic() < until, "not ready:\n{}", log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let page = get(&addresses.fans, "/", "text/html").await.unwrap();
        assert_eq!(page.status, 200);
        assert!(page.body.starts_with(b"<!"), "the start page is HTML");
        let sales: Value = get(&addresses.fans, "/v1/sales", "*/*")
            .await
            .unwrap()
            .json()
            .unwrap();
        let sale = sales["sales"][0]["id"].as_str().unwrap();
        let path = format!("/v1/sales/{sale}/status");
        let issued = loop {
            let queue_status: Value = get(&addresses.fans, &path, "*/*").await.unwrap().json().unwrap();
            let issued = queue_status["numbers_issued"].as_u64().unwrap();
            // With the same data directory the second start resumes the sale of the first.
            assert!(
                issued >= issued_before,
                "{issued} numbers issued, {issued_before} before the kill"
            );
            if issued > 0 && queue_status["now_serving"].as_u64().unwrap() > 0 {
                break issued;
            }
            assert!(
                clock.monotonic() < until,
                "no visitors were served: {queue_status}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        issued_before = issued;
        drop(running);
        assert!(!log().contains("panicked"), "{}", log());
    }
    fs::remove_dir_all(&dir).unwrap();
}
