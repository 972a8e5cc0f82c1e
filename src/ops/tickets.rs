//! Tickets at the venue's gate.

use std::{fs, path::Path};

use anyhow::{Context, bail};

use crate::{
    checkout,
    platform::signing::{Jwk, VerifyingKeys},
};

#[derive(serde::Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

/// Prints what a genuine ticket is for; an error otherwise.
pub fn verify(code: &str, jwks: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(jwks).with_context(|| format!("cannot read {}", jwks.display()))?;
    let set: KeySet = serde_json::from_str(&text).with_context(|| format!("{} is not a JSON Web Key Set", jwks.display()))?;
    match checkout::verify_ticket(&VerifyingKeys::from_jwks(&set.keys), code) {
        Ok(ticket) => {
            println!(
                "genuine: {} {}, seat {} (section {}, row {}, number {}), order {}",
                ticket.sale, ticket.performance, ticket.seat, ticket.section, ticket.row, ticket.number, ticket.order
            );
            Ok(())
        }
        Err(e) => bail!("not a genuine ticket: {e}"),
    }
}
