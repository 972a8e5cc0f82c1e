//! The binary as it is used: a whole run with its verdict, and everything that can be wrong with where it is sent.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use stagedoor::kernel::{Clock, Entropy, OsEntropy, SystemClock};

/// A folder that goes with the test.
struct Out(PathBuf);

impl Out {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!(
            "stagedoor-loadtest-test-{:016x}",
            OsEntropy.below(u64::MAX)
        )))
    }

    fn result(&self) -> Value {
        serde_json::from_slice(&fs::read(self.0.join("result.json")).expect("a result was left"))
            .expect("it is JSON")
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn loadtest(args: &[&str], out: &Out) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(args).arg("--out").arg(&out.0);
    command
}

fn said(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

const SMALL: [&str; 17] = [
    "run",
    "--fans",
    "300",
    "--within",
    "4",
    "--seats",
    "120",
    "--capacity",
    "80",
    "--rate",
    "6000",
    "--hold",
    "10",
    "--pace",
    "0.02",
    "--open-in",
    "3",
];

#[test]
fn a_whole_run_is_judged_and_leaves_a_result_and_a_page() {
    let out = Out::new();
    let output = loadtest(
        &[
            &SMALL[..],
            &["--bots", "2", "--watchers", "5", "--arrivals", "flash"],
        ]
        .concat(),
        &out,
    )
    .output()
    .unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    let result = out.result();
    let (fans, audit) = (&result["fans"], &result["audit"]);
    assert_eq!(
        (&fans["coming"], &audit["violations_count"], &audit["settled"]),
        (&300.into(), &0.into(), &true.into()),
        "{said}"
    );
    assert!(fans["joined"].as_u64() >= Some(300), "{said}");
    // A run in which nothing happened would please the auditor too.
    assert!(
        audit["booked"].as_u64() >= Some(100)
            && audit["probes"].as_u64() > Some(6)
            && audit["tickets"] == audit["booked"],
        "{said}"
    );
    assert!(
        result["steps"]["join"]["answered"]["p50_ms"].as_f64() > Some(0.0),
        "{said}"
    );
    assert!(result["watchers"]["received"].as_u64() > Some(10), "{said}");
    assert!(result["server"]["cpu_s"].as_f64() > Some(0.0), "{said}");
    assert!(said.contains("joined 3"), "it says how it goes: {said}");
    let page = fs::read_to_string(out.0.join("report.html")).unwrap();
    assert!(page.contains("The auditor found nothing") && page.matches("<svg").count() >= 6);

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
fn customers_whom_the_shop_hands_over_are_answered_before_they_are_written_down() {
    let out = Out::new();
    let output = loadtest(
        &[
            &SMALL[..],
            &["--sign-in", "handoff", "--durability", "acknowledged"],
        ]
        .concat(),
        &out,
    )
    .output()
    .unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    let result = out.result();
    let (steps, audit) = (&result["steps"], &result["audit"]);
    assert!(
        steps["sign in"]["answered"]["count"].as_u64() >= Some(300),
        "{said}"
    );
    assert_eq!(
        (&audit["violations_count"], &audit["settled"]),
        (&0.into(), &true.into()),
        "{said}"
    );
    assert!(
        audit["booked"].as_u64() >= Some(100) && audit["tickets"] == audit["booked"],
        "{said}"
    );
    assert!(
        result["house"]
            .as_str()
            .unwrap()
            .contains("joins acknowledged after a hand-off"),
        "{said}"
    );
}

#[test]
fn a_fair_draw_gives_everybody_a_number_and_they_come_in_by_it() {
    let out = Out::new();
    let output = loadtest(
        &[&SMALL[..], &["--queueing", "fair-draw", "--bots", "1"]].concat(),
        &out,
    )
    .output()
    .unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    let result = out.result();
    let (fans, audit) = (&result["fans"], &result["audit"]);
    assert!(
        fans["joined"].as_u64() >= Some(300) && fans["endings"]["never learnt her number"].is_null(),
        "{said}"
    );
    assert_eq!(
        (&audit["violations_count"], &audit["settled"]),
        (&0.into(), &true.into()),
        "{said}"
    );
    assert!(
        audit["booked"].as_u64() >= Some(100) && audit["tickets"] == audit["booked"],
        "{said}"
    );
    let told: Value = serde_json::from_slice(&fs::read(out.0.join("told.json")).unwrap()).unwrap();
    let numbers: Vec<u64> = told["report"]["joins"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|it| it["number"].as_u64())
        .collect();
    assert!(
        numbers.len() >= 300 && !numbers.is_sorted(),
        "they were shuffled: {numbers:?}"
    );
}

/// A house that was made for a run, opened again with the same books.
struct Reopened {
    child: Child,
    url: String,
}

impl Reopened {
    fn open(file: &Path) -> Self {
        let text = fs::read_to_string(file).expect("a house has its configuration");
        let address = text
            .lines()
            .find_map(|line| line.strip_prefix("listen = "))
            .expect("a house listens")
            .trim_matches('"')
            .to_owned();
        let serve = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .arg("serve")
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        let child = serve.expect("it starts");
        let opened = (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            TcpStream::connect(&address).is_ok()
        });
        assert!(opened, "nobody listens on {address}");
        Self {
            child,
            url: format!("http://{address}"),
        }
    }
}

impl Drop for Reopened {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn parts_of_a_run_are_added_up_and_judged_together() {
    let (first, house) = (Out::new(), Out::new());
    let kept = house.0.display().to_string();
    let small = [
        "run",
        "--fans",
        "60",
        "--within",
        "2",
        "--hold",
        "10",
        "--pace",
        "0.02",
        "--open-in",
        "2",
        "--hurry",
    ];
    let made = loadtest(&[&small[..], &["--data", &kept]].concat(), &first)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let house_again = Reopened::open(&house.0.join("house.toml"));
    let begin_at = SystemClock::new().now().plus(Duration::from_secs(2)).to_string();
    let (one, two, whole) = (Out::new(), Out::new(), Out::new());
    let part = |part: &str, out: &Out| {
        let args = [
            "run", "--fans", "120", "--within", "2", "--pace", "0.02", "--seed", "2", "--bots", "1",
            "--hold", "10",
        ];
        loadtest(
            &[
                &args[..],
                &[
                    "--part",
                    part,
                    "--begin-at",
                    &begin_at,
                    "--target",
                    &house_again.url,
                ],
            ]
            .concat(),
            out,
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
    };
    let running = [part("1/2", &one), part("2/2", &two)];
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success() && said(&output).contains("not audited: a part of a run"),
            "{}",
            said(&output)
        );
    }
    let merge = |more: &[&str]| {
        let parts = [one.0.join("result.json"), two.0.join("result.json")].map(|it| it.display().to_string());
        loadtest(&[&["merge", &parts[0], &parts[1]][..], more].concat(), &whole)
            .output()
            .unwrap()
    };
    let unjudged = said(&merge(&[]));
    assert!(
        unjudged.contains("not audited: name the house that the parts shared"),
        "{unjudged}"
    );
    let books = house.0.join("data").display().to_string();
    let judged = merge(&["--target", &house_again.url, "--books", &books, "--hold", "10"]);
    assert!(judged.status.success(), "{}", said(&judged));
    let result = whole.result();
    let told =
        |out: &Out| serde_json::from_slice::<Value>(&fs::read(out.0.join("told.json")).unwrap()).unwrap();
    let probes = [&one, &two]
        .map(|it| told(it)["probes"].as_array().unwrap().len())
        .iter()
        .sum::<usize>();
    assert_eq!(
        (&result["fans"]["coming"], &result["audit"]["violations_count"]),
        (&120.into(), &0.into()),
        "{}",
        said(&judged)
    );
    assert!(
        probes > 0 && result["audit"]["probes"] == probes,
        "{probes}: {}",
        said(&judged)
    );
    assert!(
        result["audit"]["joins"].as_u64() >= Some(180),
        "those of the first run are in the books, too: {}",
        said(&judged)
    );
    assert!(
        result["fans"]["tickets"].as_u64() > Some(50) && result["audit"]["tickets"].as_u64() > Some(50),
        "{}",
        said(&judged)
    );

    // The auditor hears all parts: one that claims a place that nobody gave is found out.
    let file = two.0.join("told.json");
    let mut lying = told(&two);
    lying["report"]["joins"]
        .as_array_mut()
        .unwrap()
        .push(serde_json::json!(
            { "customer": 7, "number": 999_999, "at": "2026-01-01T00:00:00.000Z", "left_at": null }
        ));
    fs::write(&file, lying.to_string()).unwrap();
    let found = merge(&["--target", &house_again.url, "--books", &books, "--hold", "10"]);
    assert_eq!(found.status.code(), Some(1), "{}", said(&found));
    assert!(said(&found).contains("999999"), "{}", said(&found));
}

#[test]
fn a_house_that_dies_ends_the_run_with_what_was_measured_so_far() {
    let out = Out::new();
    let mut child = loadtest(
        &[
            "run",
            "--fans",
            "4000",
            "--within",
            "120",
            "--pace",
            "1",
            "--open-in",
            "2",
        ],
        &out,
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let joined = |line: &String| {
        line.split("joined ")
            .nth(1)
            .and_then(|it| it.split(' ').next()?.parse::<u32>().ok())
            > Some(50)
    };
    lines.find(joined).expect("fans join");
    let house = children_of(child.id());
    assert_eq!(house.len(), 1, "one house");
    assert!(
        Command::new("kill")
            .args(["-9", &house[0].to_string()])
            .status()
            .unwrap()
            .success()
    );
    let rest: Vec<String> = lines.collect();
    let status = child.wait().unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(status.code(), Some(3), "{rest:#?} {errors}");
    assert!(errors.contains("the house ended: signal: 9"), "{errors}");
    let result = out.result();
    assert!(
        result["fans"]["joined"].as_u64() > Some(50)
            && result["steps"]["join"]["answered"]["count"].as_u64() > Some(50)
    );
    // What was acknowledged is in the books of the dead house.
    assert_eq!(
        (
            &result["audit"]["not_audited"],
            &result["audit"]["violations_count"]
        ),
        (&Value::Null, &0.into()),
        "{rest:#?}"
    );
}

/// The processes that this one has started.
fn children_of(pid: u32) -> Vec<u32> {
    let stat = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent = |pid: u32| {
        stat(pid)
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok())
    };
    let all = fs::read_dir("/proc")
        .expect("this is Linux")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    all.filter(|it| parent(*it) == Some(pid)).collect()
}

#[test]
fn another_machine_is_not_attacked_by_mistake() {
    let out = Out::new();
    let output = loadtest(&["run", "--target", "http://192.0.2.1:8080"], &out)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("192.0.2.1 is not this machine") && said(&output).contains("--allow-remote"),
        "{}",
        said(&output)
    );
}

#[test]
fn whoever_answers_something_else_is_named() {
    let out = Out::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 1_024]).unwrap();
        socket
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 24\r\n\r\n<h1>Buy socks, cheap</h1>")
            .unwrap();
    });
    let output = loadtest(&["run", "--target", &url], &out).output().unwrap();
    serving.join().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("no stagedoor: 200") && said(&output).contains("Buy socks"),
        "{}",
        said(&output)
    );
}

#[test]
fn nobody_there_and_wrong_words_are_said_at_once() {
    let out = Out::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (args, wrong) in [
        (
            vec!["run", "--target", &format!("http://{free}")],
            "no connection",
        ),
        (vec!["run", "--part", "4/3"], "--part 4/3"),
        (vec!["run", "--part", "1/2"], "--begin-at"),
        (vec!["run", "--absent", "1.5"], "--absent 1.5"),
        (vec!["run", "--handoff-issuer", "shop"], "--handoff-audience"),
        (vec!["ratios", "--joining", "0"], "--joining"),
        (
            vec!["run", "--arrivals", "/no/such/curve.csv"],
            "/no/such/curve.csv",
        ),
        (vec!["run", "--fans", "many"], "--fans"),
    ] {
        let output = loadtest(&args, &out).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(said(&output).contains(wrong), "{args:?}: {}", said(&output));
    }
}
