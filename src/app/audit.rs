//! `stagedoor audit`: runs the independent auditor on a sale's databases.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::{
    app::demo,
    audit::{
        audit,
        databases::{DatabaseLocation, Databases, admission_settings, read_from, reclassify_late_arrivals},
    },
    demo::client::Observations,
    kernel::{Clock, SystemClock},
    ops::config::{self, SaleSettings, Settings},
};

/// Databases that are elsewhere than the settings say.
#[derive(Clone, Default)]
pub struct DatabaseUrls {
    /// The ledger, as `sqlite:FILE` or `postgres://...`.
    pub ledger: Option<String>,
    /// The queue's journal, likewise.
    pub journal: Option<String>,
    /// The database file of the sandbox gateway's statement.
    pub gateway: Option<PathBuf>,
}

/// Audits the sales of an installation by its databases, and prints the result. Without sales it audits the
/// demo's sale in the data directory. Can run beside a running service, because it only reads.
///
/// # Errors
/// When a violation is found, or a database cannot be read.
pub async fn run(settings: &Settings, urls: &DatabaseUrls) -> anyhow::Result<()> {
    let data = &settings.data.dir;
    let mut databases = Databases {
        journal: location(settings.journal_database()),
        ledger: location(settings.ledger_database()),
        // The built-in sandbox keeps its statement in the data directory.
        gateway: urls.gateway.clone().or_else(|| {
            let built_in = data.join("gateway.db");
            (settings.gateway.url.is_empty() && built_in.exists()).then_some(built_in)
        }),
    };
    if let Some(url) = &urls.ledger {
        databases.ledger = url.parse().context("--ledger")?;
    }
    if let Some(url) = &urls.journal {
        databases.journal = url.parse().context("--journal")?;
    }
    let sales = if settings.sales.is_empty() {
        vec![demo::load_sale(data)?]
    } else {
        settings.sales.clone()
    };
    let mut violations = 0;
    for sale in &sales {
        violations += audit_sale(data, &databases, sale).await?;
    }
    if violations > 0 {
        bail!("{violations} violations");
    }
    Ok(())
}

fn location(database: config::DatabaseLocation) -> DatabaseLocation {
    match database {
        config::DatabaseLocation::Sqlite(file) => DatabaseLocation::File(file),
        config::DatabaseLocation::Postgres(url) => DatabaseLocation::Postgres(url.expose().to_owned()),
    }
}

async fn audit_sale(data: &Path, databases: &Databases, sale: &SaleSettings) -> anyhow::Result<usize> {
    let mut evidence = read_from(databases, &sale.id)
        .await
        .with_context(|| format!("cannot read the databases of {}", data.display()))?;
    evidence.observed_at = SystemClock::new().now();
    evidence.late_arrival_share = sale.late_arrival_share;
    evidence.admission_settings = admission_settings(
        databases,
        &sale.id,
        sale.active_visits_max,
        sale.admission_rate_per_minute,
        sale.admission_burst,
    )
    .await?;
    let crowd = data.join(demo::CROWD_FILE);
    let witnesses = crowd.exists();
    if witnesses {
        let text = fs::read(&crowd).with_context(|| format!("cannot read {}", crowd.display()))?;
        let report: Observations = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a crowd's report", crowd.display()))?;
        report.add_to(&mut evidence);
        reclassify_late_arrivals(&mut evidence);
    }
    println!(
        "{}: {} joins, {} entries, {} orders, {} seats booked, {} valid tickets, {}; {}",
        sale.id,
        evidence.journal_joins.len(),
        evidence.admissions.len(),
        evidence.orders.len(),
        evidence.ledger_booked.len(),
        evidence.tickets.iter().filter(|ticket| ticket.valid).count(),
        match &evidence.payments {
            Some(payments) => format!("{} payments", payments.len()),
            None => "payments not checked".to_owned(),
        },
        if witnesses {
            "compared with what the crowd observed"
        } else {
            "databases only"
        },
    );
    for what in evidence.not_checked() {
        println!("{}: not checked: {what}", sale.id);
    }
    let violations = audit(&evidence);
    for violation in &violations {
        println!("{violation}");
    }
    if violations.is_empty() {
        println!("{}: no violations", sale.id);
    }
    Ok(violations.len())
}
