//! Reads the evidence about one sale.

use std::{path::Path, time::Duration};

use super::{
    journal,
    ledger::{read_ledger, read_other_orders},
    source::{DatabaseLocation, Databases, ReadError, Source},
    statement::read_statement,
};
use crate::{audit::evidence::Evidence, kernel::SaleId};

/// The evidence about one sale in a data directory: journal, ledger, and the gateway's statement if it is
/// there.
///
/// # Errors
/// [`ReadError`], which names the database.
pub async fn read(dir: &Path, sale: &SaleId) -> Result<Evidence, ReadError> {
    read_from(&Databases::in_folder(dir), sale).await
}

/// As [`read`], from databases anywhere.
///
/// # Errors
/// [`ReadError`], which names the database.
pub async fn read_from(databases: &Databases, sale: &SaleId) -> Result<Evidence, ReadError> {
    let mut evidence = Evidence {
        claim_timeout: Duration::from_secs(10),
        sweep_interval: Duration::from_secs(3),
        ..Evidence::default()
    };
    journal::read_journal(&journal::open(databases).await?, sale, &mut evidence).await?;
    let ledger = Source::open(&databases.ledger, "the ledger", "stagedoor_ledger").await?;
    read_ledger(&ledger, sale, &mut evidence).await?;
    if let Some(file) = &databases.gateway {
        let other_orders = read_other_orders(&ledger, sale).await?;
        let location = DatabaseLocation::File(file.clone());
        let statement = Source::open(&location, "the gateway's statement", "").await?;
        read_statement(&statement, &other_orders, &mut evidence).await?;
    }
    Ok(evidence)
}
