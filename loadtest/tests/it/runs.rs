//! Whole runs.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{Out, SMALL_RUN, loadtest, printed};

#[test]
fn a_run_is_audited_and_writes_result_and_report() {
    let out = Out::new();
    let more = ["--bots", "2", "--streams", "5", "--arrivals", "flash"];
    let output = loadtest(&[&SMALL_RUN[..], &more].concat(), &out)
        .output()
        .unwrap();
    let printed = printed(&output);
    assert!(output.status.success(), "{printed}");
    let result = out.result();
    let (fans, audit) = (&result["fans"], &result["audit"]);
    assert_eq!(
        (&fans["coming"], &audit["violations_count"], &audit["settled"]),
        (&300.into(), &0.into(), &true.into()),
        "{printed}"
    );
    assert!(fans["joined"].as_u64() >= Some(300), "{printed}");
    // A run without sales has no violations either.
    assert!(
        audit["booked"].as_u64() >= Some(100)
            && audit["probes"].as_u64() > Some(6)
            && audit["tickets"] == audit["booked"],
        "{printed}"
    );
    assert!(
        result["calls"]["join"]["answered"]["p50_ms"].as_f64() > Some(0.0),
        "{printed}"
    );
    assert!(result["streams"]["received"].as_u64() > Some(10), "{printed}");
    assert!(result["server"]["cpu_s"].as_f64() > Some(0.0), "{printed}");
    assert!(printed.contains("joined 3"), "the progress is printed: {printed}");
    let page = fs::read_to_string(out.0.join("report.html")).unwrap();
    assert!(page.contains("No violations") && page.matches("<svg").count() >= 6);

    let same = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["compare", "--fail-over", "1"])
        .args([out.0.join("result.json"), out.0.join("result.json")])
        .output()
        .unwrap();
    assert!(
        same.status.success() && String::from_utf8_lossy(&same.stdout).contains("join"),
        "{same:?}"
    );
}

#[test]
fn handed_off_customers_join_with_async_durability() {
    let out = Out::new();
    let more = ["--sign-in", "handoff", "--durability", "async"];
    let output = loadtest(&[&SMALL_RUN[..], &more].concat(), &out)
        .output()
        .unwrap();
    let printed = printed(&output);
    assert!(output.status.success(), "{printed}");
    let result = out.result();
    let (calls, audit) = (&result["calls"], &result["audit"]);
    assert!(
        calls["sign in"]["answered"]["count"].as_u64() >= Some(300),
        "{printed}"
    );
    assert_eq!(
        (&audit["violations_count"], &audit["settled"]),
        (&0.into(), &true.into()),
        "{printed}"
    );
    assert!(
        audit["booked"].as_u64() >= Some(100) && audit["tickets"] == audit["booked"],
        "{printed}"
    );
    let service = result["service"].as_str().unwrap();
    assert!(service.contains("joins async after a hand-off"), "{service}");
}

#[test]
fn a_fair_draw_numbers_and_admits_every_visitor() {
    let out = Out::new();
    let more = ["--queue-order", "fair-draw", "--bots", "1"];
    let output = loadtest(&[&SMALL_RUN[..], &more].concat(), &out)
        .output()
        .unwrap();
    let printed = printed(&output);
    assert!(output.status.success(), "{printed}");
    let result = out.result();
    let (fans, audit) = (&result["fans"], &result["audit"]);
    assert!(
        fans["joined"].as_u64() >= Some(300) && fans["endings"]["got no number"].is_null(),
        "{printed}"
    );
    assert_eq!(
        (&audit["violations_count"], &audit["settled"]),
        (&0.into(), &true.into()),
        "{printed}"
    );
    assert!(
        audit["booked"].as_u64() >= Some(100) && audit["tickets"] == audit["booked"],
        "{printed}"
    );
    let observations = out.json("observations.json");
    let numbers: Vec<u64> = observations["joins"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|join| join["number"].as_u64())
        .collect();
    assert!(
        numbers.len() >= 300 && !numbers.is_sorted(),
        "the order was drawn: {numbers:?}"
    );
}

#[test]
fn a_server_that_dies_ends_the_run_with_partial_results() {
    let out = Out::new();
    let args = [
        "run",
        "--fans",
        "4000",
        "--within",
        "120",
        "--pace",
        "1",
        "--open-in",
        "2",
    ];
    let mut child = loadtest(&args, &out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let has_joined = |line: &String| {
        line.split("joined ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok())
            > Some(50)
    };
    lines.find(has_joined).expect("visitors join");
    let services = children_of(child.id());
    assert_eq!(services.len(), 1, "one service");
    let killed = Command::new("kill")
        .args(["-9", &services[0].to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let rest: Vec<String> = lines.collect();
    let status = child.wait().unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(status.code(), Some(3), "{rest:#?} {errors}");
    assert!(errors.contains("the service ended: signal: 9"), "{errors}");
    let result = out.result();
    assert!(
        result["fans"]["joined"].as_u64() > Some(50)
            && result["calls"]["join"]["answered"]["count"].as_u64() > Some(50)
    );
    // What was acknowledged is in the databases of the dead service.
    assert_eq!(
        (
            &result["audit"]["not_audited"],
            &result["audit"]["violations_count"]
        ),
        (&Value::Null, &0.into()),
        "{rest:#?}"
    );
}

/// The process ids of the direct children of `parent`.
fn children_of(parent: u32) -> Vec<u32> {
    let stat = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent_of = |pid: u32| {
        let stat = stat(pid);
        stat.rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok())
    };
    fs::read_dir("/proc")
        .expect("this is Linux")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}
