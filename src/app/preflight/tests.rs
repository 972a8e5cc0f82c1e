//! Preflight over a whole configuration with a shop of its own.

use std::path::Path;

use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;
use testkit::HttpServer;

use super::*;
use crate::{
    ops::config,
    shop::{DEMO_PASSWORD, create_demo_shop},
};

const PLAN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/venues/theatre-500.json");

/// A configuration with one sale of the theatre, and a demo shop beside it.
async fn installation(prices: &str) -> (TempDir, Settings) {
    let dir = tempfile::tempdir().unwrap();
    create_demo_shop(&dir.path().join("shop.db"), 40).await.unwrap();
    let file = dir.path().join("stagedoor.toml");
    std::fs::write(&file, text(dir.path(), prices)).unwrap();
    let settings = config::load(Some(&file), std::iter::empty()).unwrap();
    (dir, settings)
}

fn text(dir: &Path, prices: &str) -> String {
    format!(
        r#"
[server]
public_base = "http://127.0.0.1:9"
[data]
dir = "{dir}/data"
[shop]
database_url = "sqlite:{dir}/shop.db"
queries_per_second_max = 10000
[[sales]]
id = "one"
title = {{ en = "One" }}
artist = "Hero-Lim"
prequeue_starts_at = "2099-03-02T10:30:00Z"
on_sale_starts_at = "2099-03-02T11:00:00Z"
closes_at = "2099-03-02T23:00:00Z"
admission_rate_per_minute = 1200
active_visits_max = 400
[[sales.performances]]
id = "evening"
title = {{ en = "Evening" }}
starts_at = "2099-05-07T10:00:00Z"
venue = "Theatre"
time_zone = "Asia/Seoul"
plan = "{PLAN}"
prices = {prices}
"#,
        dir = dir.display()
    )
}

/// Prices of the zones of the theatre.
fn prices() -> String {
    let plan: serde_json::Value = serde_json::from_slice(&std::fs::read(PLAN).unwrap()).unwrap();
    let names = plan["categories"].as_array().unwrap().iter();
    let prices: Vec<String> = names
        .map(|category| format!("\"{}\" = 90000", category["name"].as_str().unwrap()))
        .collect();
    format!("{{ {} }}", prices.join(", "))
}

fn finding<'r>(report: &'r Report, name: &str) -> Vec<&'r Check> {
    report.checks.iter().filter(|check| check.name == name).collect()
}

async fn change(dir: &TempDir, sql: &'static str) {
    let url = format!("sqlite:{}", dir.path().join("shop.db").display());
    let mut shop = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut shop).await.unwrap();
}

#[tokio::test]
async fn a_complete_installation_passes() {
    let (_dir, settings) = installation(&prices()).await;
    let report = check(&settings).await;
    assert_eq!(report.count(Verdict::Failed), 0, "{report}");
    let plan = finding(&report, "plan and prices");
    assert!(plan[0].finding.starts_with("one: 500 seats"), "{report}");
    let customers = finding(&report, "shop customers");
    assert_eq!(
        customers[0].finding, "of 40 customers 40 can sign in by password (40 django_pbkdf2_sha256)",
        "{report}"
    );
    let sign_in = finding(&report, "sign-in");
    assert!(sign_in[0].finding.contains("passwords a second"), "{report}");
    assert!(!settings.data.dir.exists(), "nothing is created");
    assert!(!report.to_string().contains(DEMO_PASSWORD));
}

#[tokio::test]
async fn a_public_address_of_another_service_is_found() {
    let server = HttpServer::start("200 OK", "<title>a shop</title>")
        .await
        .unwrap();
    let (_dir, mut settings) = installation(&prices()).await;
    settings.server.public_base = format!("{}/tickets", server.url());
    for (body, verdict) in [
        ("<title>a shop</title>", Verdict::Failed),
        ("{\"sales\":[]}", Verdict::Ok),
    ] {
        server.answer("200 OK", body);
        let mut report = Report::default();
        servers::proxy(&settings, &mut report).await;
        assert_eq!(finding(&report, "public address")[0].verdict, verdict, "{report}");
    }
}

#[tokio::test]
async fn customers_who_cannot_sign_in_are_counted_by_the_reason() {
    let (dir, settings) = installation(&prices()).await;
    for sql in [
        "UPDATE auth_user SET password = 'e57e10f8774cb51b69f0e6e55a79a3ae' WHERE id = 1",
        "UPDATE auth_user SET password = '!' WHERE id = 2",
        "UPDATE auth_user SET email = '' WHERE id = 3",
        "UPDATE auth_user SET email = 'Fan00005@example.com' WHERE id = 4",
    ] {
        change(&dir, sql).await;
    }
    let report = check(&settings).await;
    let said: Vec<&str> = finding(&report, "shop customers")
        .iter()
        .map(|check| check.finding.as_str())
        .collect();
    assert!(said[0].starts_with("of 40 customers 36 can sign in"), "{report}");
    for reason in [
        "1 cannot: the format md5 is not verified",
        "1 cannot: the account has no password",
        "1 cannot: the account has no address",
        "1 cannot: another customer has the same address, perhaps in another case",
    ] {
        assert!(said.contains(&reason), "{reason}\n{report}");
    }
}

#[tokio::test]
async fn what_stops_a_sale_is_named_with_its_remedy() {
    let (dir, settings) = installation("{ \"Nowhere\" = 1 }").await;
    change(&dir, "ALTER TABLE auth_user RENAME COLUMN password TO secret").await;
    let report = check(&settings).await;
    for (name, part) in [
        ("plan and prices", "one: "),
        ("shop database", "the shop's database refuses shop.customer_query"),
        ("shop customers", "the sample could not be read"),
    ] {
        let found = finding(&report, name);
        let failed = found.iter().find(|check| check.verdict == Verdict::Failed);
        let check = failed.unwrap_or_else(|| panic!("{name}\n{report}"));
        assert!(
            check.finding.contains(part) && check.remedy.is_some(),
            "{check:?}"
        );
    }
    std::fs::remove_file(dir.path().join("shop.db")).unwrap();
    let report = check(&settings).await;
    let database = finding(&report, "shop database");
    assert_eq!(database[0].verdict, Verdict::Failed, "{report}");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_is_a_report_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.toml");
    std::fs::write(&file, "[shop]\nconnections_max = 0\n[server]\nwrong = 1\n").unwrap();
    let error = config::load(Some(&file), std::iter::empty()).unwrap_err();
    let report = Report::of_configuration(&error);
    assert!(report.count(Verdict::Failed) >= 1, "{report}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["checks"][0]["verdict"], "failed");
}
