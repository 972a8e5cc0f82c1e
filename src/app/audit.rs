//! Judges a sale by its books: the auditor of the tests, for operators and promoters.

use std::{fs, path::Path};

use anyhow::{Context, bail};

use super::demo;
use crate::{
    audit::{
        audit,
        books::{self, Books, who_came_in_time},
    },
    demo::crowd::CrowdReport,
    kernel::{Clock, SystemClock},
    ops::config::SaleSettings,
};

/// Books that are not in the data directory: `sqlite:FILE` or `postgres://...`.
#[derive(Clone, Default)]
pub struct DatabaseUrls {
    pub ledger: Option<String>,
    pub journal: Option<String>,
}

/// Reads the books of `sales` in `data` or elsewhere, or of the demo that is there, and prints what they say; an error
/// when one of the house's promises was broken. May run beside the house: it only reads.
pub async fn run(data: &Path, elsewhere: &DatabaseUrls, sales: Vec<SaleSettings>) -> anyhow::Result<()> {
    let mut books = Books::in_folder(data);
    if let Some(url) = &elsewhere.ledger {
        books.ledger = url.parse().context("--ledger")?;
    }
    if let Some(url) = &elsewhere.journal {
        books.journal = url.parse().context("--journal")?;
    }
    let sales = if sales.is_empty() {
        vec![demo::load_sale(data)?]
    } else {
        sales
    };
    let mut broken = 0;
    for sale in &sales {
        broken += audit_sale(data, &books, sale).await?;
    }
    if broken > 0 {
        bail!("{broken} violations");
    }
    Ok(())
}

async fn audit_sale(data: &Path, books: &Books, sale: &SaleSettings) -> anyhow::Result<usize> {
    let mut evidence = books::read_from(books, &sale.id)
        .await
        .with_context(|| format!("cannot read the books of {}", data.display()))?;
    evidence.observed_at = SystemClock::new().now();
    evidence.returner_share = sale.late_arrival_share;
    evidence.door =
        books::door_over_time(books, &sale.id, sale.active_visits_max, sale.admission_rate_per_minute, sale.admission_burst).await?;
    // The engine's own memory is not in the books; whether it agrees is asked of a running house.
    evidence.engine_booked = evidence.ledger_booked.clone();
    let crowd = data.join(demo::CROWD_FILE);
    let witnesses = crowd.exists();
    if witnesses {
        let text = fs::read(&crowd).with_context(|| format!("cannot read {}", crowd.display()))?;
        let report: CrowdReport = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a crowd's report", crowd.display()))?;
        report.testify(&mut evidence);
        who_came_in_time(&mut evidence);
    }
    println!(
        "{}: {} joins, {} entries, {} orders, {} seats booked, {} valid tickets, {} payments; {}",
        sale.id,
        evidence.journal_joins.len(),
        evidence.entries.len(),
        evidence.orders.len(),
        evidence.ledger_booked.len(),
        evidence.tickets.iter().filter(|ticket| ticket.valid).count(),
        evidence.payments.len(),
        if witnesses {
            "held to what the crowd was told"
        } else {
            "the books alone"
        },
    );
    let violations = audit(&evidence);
    for violation in &violations {
        println!("{violation}");
    }
    if violations.is_empty() {
        println!("{}: nothing found", sale.id);
    }
    Ok(violations.len())
}
