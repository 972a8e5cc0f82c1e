//! `stagedoor ticket`: verifies tickets offline.

use std::path::Path;

use anyhow::{Context, bail};

use crate::{
    checkout,
    platform::{
        signing::{Jwk, VerifyingKeys},
        text_file::read_text,
    },
};

/// Reads public keys from a JSON Web Key Set, as `GET /.well-known/jwks.json` returns it.
pub(super) fn read_keys(file: &Path) -> anyhow::Result<VerifyingKeys> {
    #[derive(serde::Deserialize)]
    struct KeySet {
        keys: Vec<Jwk>,
    }
    let text = read_text(file).with_context(|| format!("cannot read {}", file.display()))?;
    let set: KeySet = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a JSON Web Key Set", file.display()))?;
    Ok(VerifyingKeys::from_jwks(&set.keys))
}

/// Prints what a genuine ticket admits to.
///
/// # Errors
/// When the ticket is not genuine, or the keys cannot be read.
pub fn verify(code: &str, jwks: &Path) -> anyhow::Result<()> {
    match checkout::verify_ticket(&read_keys(jwks)?, code) {
        Ok(ticket) => {
            println!(
                "genuine: {} {}, seat {} (section {}, row {}, number {}), order {}",
                ticket.sale,
                ticket.performance,
                ticket.seat,
                ticket.section,
                ticket.row,
                ticket.number,
                ticket.order
            );
            Ok(())
        }
        Err(e) => bail!("not a genuine ticket: {e}"),
    }
}
