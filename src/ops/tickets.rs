//! Tickets at the venue's gate.

use std::{fs, path::Path};

use anyhow::{Context, bail};

use crate::{
    checkout,
    platform::signing::{Jwk, VerifyingKeys},
};

/// The house's public keys, as `GET /.well-known/jwks.json` gives them.
pub(super) fn read_keys(file: &Path) -> anyhow::Result<VerifyingKeys> {
    #[derive(serde::Deserialize)]
    struct KeySet {
        keys: Vec<Jwk>,
    }
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let set: KeySet = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a JSON Web Key Set", file.display()))?;
    Ok(VerifyingKeys::from_jwks(&set.keys))
}

/// Prints what a genuine ticket is for; an error otherwise.
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
