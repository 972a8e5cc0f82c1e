//! The process as its operator meets it: what it says at start, the files that it makes, and how it stops.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use stagedoor::kernel::Clock;

use crate::{
    fan::Fan,
    world::{SALE, SaleConfig, World, fresh_dir},
};

fn open_to_others(dir: &Path) -> Vec<String> {
    let mut open = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        if mode & 0o077 != 0 {
            open.push(format!("{} {:o}", path.display(), mode & 0o777));
        }
    }
    open
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_names_its_addresses_and_keeps_its_files_private() {
    let world = World::open(SaleConfig::default()).await;
    let log = world.log();
    let listening = log
        .lines()
        .find(|line| line.contains("listening"))
        .expect("a line");
    for address in [world.nodes[0].public, world.nodes[0].admin] {
        assert!(listening.contains(&address.to_string()), "{listening}");
    }
    let data = world.data();
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(open_to_others(&data), Vec::<String>::new());
    assert!(data.join("ledger.db").exists() && data.join("queue.db-wal").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_hurries_the_stop() {
    let mut world = World::prepared(SaleConfig::default()).await;
    let file = world.site().config_file();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replace("shutdown_notice_ms = 0", "shutdown_notice_ms = 30000"),
    )
    .unwrap();
    world.start().await;
    world.nodes[0].tell_to_stop();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let asked = world.clock.now();
    world.nodes[0].tell_to_stop();
    let status = world.nodes[0].ended().await;
    let took = world.clock.now().since(asked);
    assert!(
        status.success() && took < Duration::from_secs(8),
        "{status} after {took:?}"
    );
    assert!(world.log().contains("a second signal"), "{}", world.log());
}

#[test]
fn the_sandbox_gateway_starts_in_the_environment_of_an_installation() {
    let dir = fresh_dir();
    let mut gateway = Command::new(env!("CARGO_BIN_EXE_stagedoor"))
        .args(["sandbox-gateway", "--listen", "127.0.0.1:0", "--statement"])
        .arg(dir.join("sandbox.db"))
        .env("STAGEDOOR__STORE__REDIS__URL", "redis://127.0.0.1:1")
        .env(
            "STAGEDOOR__LEDGER__URL",
            "postgres://stagedoor:secret@127.0.0.1:1/stagedoor",
        )
        .env("STAGEDOOR__KEYS__MASTER", "short")
        .env(
            "STAGEDOOR__SHOP__HANDOFF__SECRET",
            "0123456789abcdef0123456789abcdef",
        )
        .env("STAGEDOOR__GATEWAY__WEBHOOK_SECRET", "whsec_c2VjcmV0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(gateway.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    assert!(line.starts_with("sandbox gateway: http://127.0.0.1:"), "{line:?}");
    assert_eq!(open_to_others(&dir), Vec::<String>::new());
    let _ = fs::remove_dir_all(dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_two_sales_with_one_performance_name_apart() {
    let mut world = World::prepared(SaleConfig::default()).await;
    world.add_to_config(&world.another_sale("second", ""));
    world.start().await;
    let text = world.metrics(0).await;
    for metric in [
        "stagedoor_orders_total",
        "stagedoor_orders_in_progress",
        "stagedoor_seats",
        "stagedoor_waiting_room_active_visits",
    ] {
        for sale in [SALE, "second"] {
            let label = format!("sale=\"{sale}\"");
            assert!(
                text.lines()
                    .any(|line| line.starts_with(&format!("{metric}{{")) && line.contains(&label)),
                "{metric} lacks {label}:\n{text}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_reads_the_installation_and_accuses_nobody_of_what_it_did_not_read() {
    let mut world = World::open(SaleConfig::default()).await;
    let mut buyer = Fan::admitted(&world, 1).await;
    let hold = buyer.hold_best(&world, 2).await.expect(201);
    buyer
        .pay(hold["id"].as_str().unwrap(), "tok_ok")
        .await
        .expect(201);
    world.stop().await;
    let (data, file) = (world.data(), world.site().config_file());
    // As in an installation whose payment gateway is another process, with secrets in the environment.
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replace("[gateway]\nurl = \"\"", "[gateway]\nurl = \"http://127.0.0.1:1\"")
            .replace(&format!("{}/data", world.site().dir.display()), "/nowhere"),
    )
    .unwrap();
    let stagedoor = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_stagedoor"))
            .args(args)
            .args(["--config", file.to_str().unwrap()])
            .env(
                "STAGEDOOR__LEDGER__URL",
                format!("sqlite:{}/ledger.db", data.display()),
            )
            .output()
            .unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    };
    let (is_clean, text) = stagedoor(&["audit"]);
    assert!(
        is_clean && text.contains("payments not checked") && text.contains("not checked: money"),
        "{text}"
    );
    let statement = data.join("gateway.db");
    let (is_clean, text) = stagedoor(&["audit", "--gateway", statement.to_str().unwrap()]);
    assert!(
        is_clean && text.contains("1 payments") && !text.contains("not checked: money"),
        "{text}"
    );
    let (is_valid, text) = stagedoor(&["journal", "verify"]);
    assert!(is_valid && text.contains(SALE), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_payment_timeout_starts_on_existing_data() {
    let mut world = World::prepared(SaleConfig::default()).await;
    let file = world.site().config_file();
    let text = fs::read_to_string(&file).unwrap();
    let with = |seconds: u32| {
        text.replace(
            "payment_timeout_s = 10",
            &format!("payment_timeout_s = {seconds}"),
        )
    };
    fs::write(&file, with(110)).unwrap();
    world.start().await;
    let mut buyer = Fan::admitted(&world, 1).await;
    let hold = buyer.hold_best(&world, 1).await.expect(201);
    let order = buyer
        .pay(hold["id"].as_str().unwrap(), "tok_redirect")
        .await
        .expect(201);
    assert_eq!(order["state"], "awaiting_payment");
    for seconds in [5, 120, 6] {
        world.kill();
        fs::write(&file, with(seconds)).unwrap();
        world.start().await;
    }
    world.assert_no_panic();
}
