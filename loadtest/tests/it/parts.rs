//! A run in several parts.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use stagedoor::kernel::{Clock, SystemClock};

use crate::support::{Out, loadtest, printed};

/// A service that was started for a run, started again with the same data.
struct Restarted {
    child: Child,
    url: String,
}

impl Restarted {
    fn start(config: &Path) -> Self {
        let text = fs::read_to_string(config).unwrap();
        let address = text
            .lines()
            .find_map(|line| line.strip_prefix("listen = "))
            .expect("the configuration has an address")
            .trim_matches('"')
            .to_owned();
        let child = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .arg("serve")
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let accepts = (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            TcpStream::connect(&address).is_ok()
        });
        assert!(accepts, "nothing listens on {address}");
        Self {
            child,
            url: format!("http://{address}"),
        }
    }
}

impl Drop for Restarted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Merges two parts, with more arguments.
fn merge(parts: [&Out; 2], whole: &Out, more: &[&str]) -> Output {
    let files = parts.map(|out| out.0.join("result.json").display().to_string());
    let args = [&["merge", &files[0], &files[1]][..], more].concat();
    loadtest(&args, whole).output().unwrap()
}

#[test]
fn parts_of_a_run_are_merged_and_audited_together() {
    let (first, data) = (Out::new(), Out::new());
    let kept = data.0.display().to_string();
    let args = [
        "run",
        "--fans",
        "60",
        "--within",
        "2",
        "--hold-ttl",
        "10",
        "--pace",
        "0.02",
        "--open-in",
        "2",
        "--no-settle",
        "--data",
        &kept,
    ];
    let made = loadtest(&args, &first).output().unwrap();
    assert!(made.status.success(), "{}", printed(&made));
    let service = Restarted::start(&data.0.join("stagedoor.toml"));
    let start_at = SystemClock::new().now().plus(Duration::from_secs(2)).to_string();
    let (one, two, whole) = (Out::new(), Out::new(), Out::new());
    let start_part = |part: &str, out: &Out| {
        let args = [
            "run",
            "--fans",
            "120",
            "--within",
            "2",
            "--pace",
            "0.02",
            "--seed",
            "2",
            "--bots",
            "1",
            "--hold-ttl",
            "10",
            "--part",
            part,
            "--start-at",
            &start_at,
            "--target",
            &service.url,
        ];
        loadtest(&args, out)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    for child in [start_part("1/2", &one), start_part("2/2", &two)] {
        let output = child.wait_with_output().unwrap();
        let printed = printed(&output);
        assert!(
            output.status.success() && printed.contains("not audited: a part of a run"),
            "{printed}"
        );
    }
    let unaudited = printed(&merge([&one, &two], &whole, &[]));
    assert!(
        unaudited.contains("not audited: pass the service that the parts shared"),
        "{unaudited}"
    );

    let databases = data.0.join("data").display().to_string();
    let at_service = [
        "--target",
        service.url.as_str(),
        "--target-data",
        &databases,
        "--hold-ttl",
        "10",
    ];
    let audited = merge([&one, &two], &whole, &at_service);
    let text = printed(&audited);
    assert!(audited.status.success(), "{text}");
    let result = whole.result();
    let probes: usize = [&one, &two]
        .map(|out| out.json("observations.json")["probes"].as_array().unwrap().len())
        .iter()
        .sum();
    assert_eq!(
        (&result["fans"]["coming"], &result["audit"]["violations_count"]),
        (&120.into(), &0.into()),
        "{text}"
    );
    assert!(
        probes > 0 && result["audit"]["probes"] == probes,
        "{probes}: {text}"
    );
    assert!(
        result["audit"]["joins"].as_u64() >= Some(180),
        "the first run's joins are in the journal, too: {text}"
    );
    assert!(
        result["fans"]["tickets"].as_u64() > Some(50) && result["audit"]["tickets"].as_u64() > Some(50),
        "{text}"
    );

    // The audit covers every part: a join that the journal does not have is found.
    let mut forged = two.json("observations.json");
    forged["joins"].as_array_mut().unwrap().push(serde_json::json!(
        { "customer": 7, "number": 999_999, "at": "2026-01-01T00:00:00.000Z", "left_at": null }
    ));
    fs::write(two.0.join("observations.json"), forged.to_string()).unwrap();
    let found = merge([&one, &two], &whole, &at_service);
    assert_eq!(found.status.code(), Some(1), "{}", printed(&found));
    assert!(printed(&found).contains("999999"), "{}", printed(&found));
}
