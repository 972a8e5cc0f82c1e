//! `stagedoor audit`: runs the independent auditor on a sale's databases.

use std::{fs, path::Path};

use anyhow::{Context, bail};

use crate::{
    app::demo,
    audit::{
        audit,
        databases::{Databases, admission_settings, read_from, reclassify_late_arrivals},
    },
    demo::client::Observations,
    kernel::{Clock, SystemClock},
    ops::config::SaleSettings,
};

/// Databases that are not in the data directory, as `sqlite:FILE` or `postgres://...`.
#[derive(Clone, Default)]
pub struct DatabaseUrls {
    /// The ledger.
    pub ledger: Option<String>,
    /// The queue's journal.
    pub journal: Option<String>,
}

/// Audits `sales` by their databases, in `data` or at `urls`, and prints the result. Without sales it audits
/// the demo's sale in `data`. Can run beside a running service, because it only reads.
///
/// # Errors
/// When a violation is found, or a database cannot be read.
pub async fn run(data: &Path, urls: &DatabaseUrls, sales: Vec<SaleSettings>) -> anyhow::Result<()> {
    let mut databases = Databases::in_folder(data);
    if let Some(url) = &urls.ledger {
        databases.ledger = url.parse().context("--ledger")?;
    }
    if let Some(url) = &urls.journal {
        databases.journal = url.parse().context("--journal")?;
    }
    let sales = if sales.is_empty() {
        vec![demo::load_sale(data)?]
    } else {
        sales
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
    // The databases do not hold the seat store's state; a running service compares it with the ledger itself.
    evidence.store_booked = evidence.ledger_booked.clone();
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
        "{}: {} joins, {} entries, {} orders, {} seats booked, {} valid tickets, {} payments; {}",
        sale.id,
        evidence.journal_joins.len(),
        evidence.admissions.len(),
        evidence.orders.len(),
        evidence.ledger_booked.len(),
        evidence.tickets.iter().filter(|ticket| ticket.valid).count(),
        evidence.payments.len(),
        if witnesses {
            "compared with what the crowd observed"
        } else {
            "databases only"
        },
    );
    let violations = audit(&evidence);
    for violation in &violations {
        println!("{violation}");
    }
    if violations.is_empty() {
        println!("{}: no violations", sale.id);
    }
    Ok(violations.len())
}
