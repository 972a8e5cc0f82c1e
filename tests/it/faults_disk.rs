//! The disk is full or fails for a while, under each database file of the embedded backend, and under
//! PostgreSQL.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use http::Method;
use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use stagedoor::{
    demo::client::{messages, paths},
    kernel::Clock,
};

use crate::{
    environment::Deployment,
    fan::Fan,
    world::{SaleConfig, World, fresh_dir},
};

/// Every database file that a node of the embedded backend writes.
const FILES: [&str; 4] = ["queue.db", "ledger.db", "sessions.db", "gateway.db"];
const ENOSPC: i32 = 28;
const EIO: i32 = 5;
/// Everything works again within a second; the rest is for the machine.
const RECOVERY_MAX: Duration = Duration::from_secs(2);

/// A small file system of its own. It is unmounted when dropped, so it must outlive the world on it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let dir = fresh_dir();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "stagedoor-test"])
            .arg(&dir)
            .status()
            .unwrap();
        assert!(mounted.success(), "this test mounts a tmpfs, which needs root");
        Self(dir)
    }

    /// Writes until nothing fits any more.
    fn fill(&self) {
        use std::io::Write;
        let mut filler = fs::File::create(self.filler()).unwrap();
        for size in [64 << 10, 4_096, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

/// Makes writes or flushes of a node's files fail.
struct FailingDisk {
    control: PathBuf,
}

impl FailingDisk {
    /// Preloads the library into the world's node, which is not started yet.
    fn under(world: &mut World) -> Self {
        let dir = world.site().dir;
        let (library, control) = (dir.join("failing_disk.so"), dir.join("failing_disk"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/failing_disk.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status()
            .unwrap();
        assert!(compiled.success());
        world.nodes[0].set("LD_PRELOAD", library.display().to_string());
        world.nodes[0].set("FAILING_DISK", control.display().to_string());
        Self { control }
    }

    /// `operation` ("write" or "flush") fails with `error` for files whose path ends with `end`.
    fn fail(&self, operation: &str, error: i32, end: &str) {
        let unfinished = self.control.with_extension("new");
        fs::write(&unfinished, format!("{operation} {error} {end}\n")).unwrap();
        fs::rename(unfinished, &self.control).unwrap();
    }

    fn heal(&self) {
        let _ = fs::remove_file(&self.control);
    }
}

/// A new customer signs in, joins, enters, holds a seat and pays: writes every database file. Returns where
/// that failed. The process may end meanwhile.
async fn buy_as(world: &World, customer: u32) -> Result<(), String> {
    let mut fan = Fan::anonymous(world, customer);
    let token = world.handoff()(customer);
    let sale = world.sale.as_str();
    let reply = fan
        .try_call(
            Method::POST,
            paths::SIGN_IN_HANDOFF,
            Some(messages::handoff_request(&token)),
        )
        .await?;
    let session = reply.json["token"]
        .as_str()
        .ok_or_else(|| format!("sign-in: {}", reply.json))?;
    session.clone_into(&mut fan.session);
    let reply = fan.try_call(Method::POST, &paths::queue(sale), None).await?;
    let token = reply.json["token"]
        .as_str()
        .ok_or_else(|| format!("join: {}", reply.json))?;
    fan.queue = Some(token.to_owned());
    for attempt in 0.. {
        let reply = fan.try_call(Method::POST, &paths::admission(sale), None).await?;
        if let Some(pass) = reply.json["pass"].as_str() {
            fan.pass = Some(pass.to_owned());
            break;
        }
        if reply.status != 409 || attempt == 40 {
            return Err(format!("admission: {}", reply.json));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let request = messages::best_available_request(1, None, 0);
    let path = world.performance_path("holds");
    let held = fan.try_call(Method::POST, &path, Some(request)).await?;
    let hold = held.json["id"]
        .as_str()
        .ok_or_else(|| format!("hold: {}", held.json))?;
    let key = format!("customer-{customer}");
    let paid = fan
        .try_pay(hold, "tok_ok", &key)
        .await
        .map_err(|e| e.to_string())?;
    if paid.json["state"] == "paid" {
        Ok(())
    } else {
        Err(format!("order: {}", paid.json))
    }
}

/// Tries until a new customer has bought; returns the next customer.
async fn buys_within(world: &World, mut customer: u32, limit: Duration) -> u32 {
    let until = world.clock.monotonic() + limit;
    loop {
        let bought = buy_as(world, customer).await;
        customer += 1;
        match bought {
            Ok(()) => return customer,
            Err(why) => assert!(world.clock.monotonic() < until, "still after {limit:?}: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn readiness_within(world: &World, status: u16, limit: Duration) {
    let until = world.clock.monotonic() + limit;
    while world.nodes[0].readiness().await != Some(status) {
        assert!(
            world.clock.monotonic() < until,
            "readiness is not {status} within {limit:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sales_go_on_within_a_second_of_space() {
    let disk = SmallDisk::mount("4m");
    let mut world = World::prepared(SaleConfig::default()).await;
    std::os::unix::fs::symlink(&disk.0, world.data()).unwrap();
    world.start().await;
    let mut customer = buys_within(&world, 1, RECOVERY_MAX).await;
    for _ in 0..2 {
        let lines = world.log().lines().count();
        disk.fill();
        // The files have some room of their own, which a write-ahead log that begins anew uses again.
        let until = world.clock.monotonic() + Duration::from_secs(30);
        let (mut refused_in_a_row, mut was_not_ready) = (0, false);
        while refused_in_a_row < 40 || !was_not_ready {
            assert!(
                world.clock.monotonic() < until,
                "{refused_in_a_row} purchases refused in a row; not ready: {was_not_ready}"
            );
            was_not_ready |= world.nodes[0].readiness().await == Some(503);
            let is_refused = buy_as(&world, customer).await.is_err();
            refused_in_a_row = if is_refused { refused_in_a_row + 1 } else { 0 };
            customer += 1;
        }
        disk.free();
        readiness_within(&world, 204, RECOVERY_MAX).await;
        customer = buys_within(&world, customer, RECOVERY_MAX).await;
        let log = world.log();
        let written = log.lines().count() - lines;
        assert!(written < 400, "{written} lines in some seconds");
        assert!(!log.contains("transaction depth"));
    }
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_file_is_written_again_after_it_could_not() {
    let mut world = World::prepared(SaleConfig::default()).await;
    let disk = FailingDisk::under(&mut world);
    world.start().await;
    let mut customer = buys_within(&world, 1, RECOVERY_MAX).await;
    for file in FILES {
        for error in [ENOSPC, EIO] {
            disk.fail("write", error, &format!("{file}-wal"));
            let until = world.clock.monotonic() + Duration::from_secs(1);
            while world.clock.monotonic() < until {
                let bought = buy_as(&world, customer).await;
                assert!(bought.is_err(), "{file} takes no writes");
                customer += 1;
            }
            readiness_within(&world, 503, Duration::from_secs(1)).await;
            disk.heal();
            customer = buys_within(&world, customer, RECOVERY_MAX).await;
            readiness_within(&world, 204, RECOVERY_MAX).await;
        }
    }
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_flush_of_any_file_ends_the_process() {
    let mut world = World::prepared(SaleConfig::default()).await;
    let disk = FailingDisk::under(&mut world);
    world.start().await;
    let mut customer = buys_within(&world, 1, RECOVERY_MAX).await;
    for file in FILES {
        // The log is flushed at each commit, the file itself at each checkpoint.
        for end in [format!("{file}-wal"), file.to_owned()] {
            disk.fail("flush", EIO, &end);
            let failing_since = world.clock.monotonic();
            while buy_as(&world, customer).await.is_ok() {
                customer += 1;
                let failing = world.clock.monotonic().saturating_sub(failing_since);
                assert!(
                    failing < Duration::from_secs(3),
                    "it goes on without flushes of {end}"
                );
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let failed_at = world.clock.monotonic();
            let status = world.nodes[0].ended().await;
            let took = world.clock.monotonic().saturating_sub(failed_at);
            assert_eq!(status.code(), Some(1), "{end}");
            assert!(took < Duration::from_secs(1), "{end}: it ended after {took:?}");
            let log = world.log();
            assert!(log.contains("a flush failed"), "{log}");
            disk.heal();
            world.start().await;
            customer = buys_within(&world, customer + 1, RECOVERY_MAX).await;
        }
    }
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn sales_go_on_after_another_process_locked_a_file() {
    let mut world = World::prepared(SaleConfig::default()).await;
    world.start().await;
    let mut customer = buys_within(&world, 1, RECOVERY_MAX).await;
    for file in FILES {
        let lines = world.log().lines().count();
        let options = SqliteConnectOptions::new().filename(world.data().join(file));
        let mut other = options.connect().await.unwrap();
        let locked = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
        // Longer than SQLite itself waits for the lock.
        let until = world.clock.monotonic() + Duration::from_secs(7);
        while world.clock.monotonic() < until {
            let bought = buy_as(&world, customer).await;
            assert!(bought.is_err(), "{file} is locked");
            customer += 1;
        }
        locked.rollback().await.unwrap();
        customer = buys_within(&world, customer, RECOVERY_MAX).await;
        readiness_within(&world, 204, RECOVERY_MAX).await;
        let written = world.log().lines().count() - lines;
        assert!(written < 400, "{file}: {written} lines in some seconds");
    }
    world.assert_no_panic();
}

#[tokio::test(flavor = "multi_thread")]
async fn sales_go_on_after_postgres_had_no_space() {
    let disk = SmallDisk::mount("24m");
    let mut world = World::prepared_on(
        Deployment {
            nodes: 1,
            ..Deployment::default()
        },
        SaleConfig::default(),
    )
    .await;
    // The tables are on the small disk; a full disk under the server's own log would stop the server.
    let tables = disk.0.join("tables");
    fs::create_dir(&tables).unwrap();
    let owned = Command::new("chown")
        .arg("postgres")
        .arg(&tables)
        .status()
        .unwrap();
    assert!(owned.success());
    let environment = world.environment();
    for statement in [
        format!("CREATE TABLESPACE small LOCATION '{}'", tables.display()),
        "ALTER DATABASE stagedoor SET default_tablespace = small".to_owned(),
    ] {
        environment.execute(&statement).await;
    }
    world.start().await;
    let mut customer = buys_within(&world, 1, RECOVERY_MAX).await;
    disk.fill();
    let lines = world.log().lines().count();
    let mut refused = 0;
    let until = world.clock.monotonic() + Duration::from_secs(30);
    // Pages that have room left still take rows.
    while refused < 20 {
        assert!(
            world.clock.monotonic() < until,
            "the tables never run out of space"
        );
        refused += u32::from(buy_as(&world, customer).await.is_err());
        customer += 1;
    }
    let written = world.log().lines().count() - lines;
    assert!(written < 400, "{written} lines");
    disk.free();
    buys_within(&world, customer, RECOVERY_MAX).await;
    world.assert_no_panic();
}
