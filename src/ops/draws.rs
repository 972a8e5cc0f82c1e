//! `stagedoor draw`: recomputes and verifies published fair draws.

use std::{
    fs,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context, bail};

use super::tickets::read_keys;
use crate::{
    platform::text_file::read_text,
    waiting_room::draw::{self, Checked, ClaimedDraw, Digest, DrawNumbering, DrawReceipt, Findings},
};

/// Bytes of one leaf in a packed list of leaves.
const LEAF_LEN: usize = 32;

/// Prints the arrival number and the queue number of every entry, both 1-based.
///
/// # Errors
/// When the seed is not 64 hexadecimal digits, or standard output cannot be written.
pub fn order(draw_seed: &str, entries: u32) -> anyhow::Result<()> {
    let seed: Digest = draw_seed
        .strip_prefix("0x")
        .unwrap_or(draw_seed)
        .parse()
        .context("--seed")?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let order = DrawNumbering::drawn(&seed, entries);
    for (arrival, number) in (1_u32..).zip(order.queue_numbers()) {
        writeln!(out, "{arrival} {number}").context("cannot write")?;
    }
    out.flush().context("cannot write")
}

/// Optional inputs beside the published values.
#[derive(Clone, Copy, Debug, Default)]
pub struct VerifyInputs<'a> {
    /// The list of leaves, packed or as JSON.
    pub leaves: Option<&'a Path>,
    /// A visitor's receipt.
    pub receipt: Option<&'a Path>,
    /// The service's public keys, a JSON Web Key Set.
    pub keys: Option<&'a Path>,
}

/// Prints for each published value whether it is right.
///
/// # Errors
/// When a value is wrong, a file cannot be read, or the draw has not taken place yet.
pub fn verify(file: &Path, inputs: VerifyInputs<'_>) -> anyhow::Result<()> {
    let mut claimed: ClaimedDraw = read(file, "a published draw")?;
    if let Some(file) = inputs.leaves {
        claimed.leaves = Some(read_leaves(file)?);
    }
    let receipt: Option<DrawReceipt> = inputs.receipt.map(|file| read(file, "a receipt")).transpose()?;
    let keys = inputs.keys.map(read_keys).transpose()?;
    let checked = draw::verify(&claimed);
    let order = checked.as_ref().ok().map(|checked| &checked.order);
    let receipt_findings =
        receipt.map(|receipt| draw::verify_receipt(&receipt, &claimed, order, keys.as_ref()));
    if receipt_findings.is_some() && keys.is_none() {
        println!("not checked: receipt.group (give the service's public keys with --keys)");
    }
    let mut findings = receipt_findings.unwrap_or_default();
    let drawn = match checked {
        Ok(Checked { right, faults, order }) => {
            findings.right.extend(right);
            findings.faults.extend(faults);
            Ok(order.entries())
        }
        Err(missing) => Err(missing.join(", ")),
    };
    print(&findings, &claimed);
    if !findings.faults.is_empty() {
        let fields: Vec<&str> = findings.faults.iter().map(|fault| fault.field).collect();
        bail!("{}: wrong: {}", file.display(), fields.join(", "));
    }
    match drawn {
        Ok(entries) => println!("the order of {entries} entries is the drawn one"),
        // A receipt can be verified before the draw too.
        Err(missing) if inputs.receipt.is_some() => {
            println!("not checked: the order ({missing} not published yet)");
        }
        Err(missing) => bail!(
            "{}: {missing} not published: the draw has not taken place yet",
            file.display()
        ),
    }
    Ok(())
}

fn print(findings: &Findings, claimed: &ClaimedDraw) {
    for field in &findings.right {
        println!("right: {field}");
    }
    for fault in &findings.faults {
        println!("WRONG: {}: {}", fault.field, fault.why);
    }
    if claimed.leaves.is_none() {
        println!("not checked: root (give the list of leaves with --leaves)");
    }
    match &claimed.chain {
        Some(chain) if chain.is_known() => {}
        Some(chain) => println!(
            "not checked: public_key (ask the beacon's operators whether it belongs to chain {})",
            chain.chain
        ),
        None => println!("not checked: signature (no chain is given)"),
    }
}

fn read<T: serde::de::DeserializeOwned>(file: &Path, what: &str) -> anyhow::Result<T> {
    let text = read_text(file).with_context(|| format!("cannot read {}", file.display()))?;
    parse(&text, what).with_context(|| file.display().to_string())
}

fn parse<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> anyhow::Result<T> {
    let mut json = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let why = error.into_inner();
        if field == "." {
            anyhow::anyhow!("not {what}: {why}")
        } else {
            anyhow::anyhow!("{field}: {why}")
        }
    })
}

/// As `GET /v1/sales/{sale}/draw/entries` gives them, packed or as JSON.
fn read_leaves(file: &Path) -> anyhow::Result<Vec<Digest>> {
    #[derive(serde::Deserialize)]
    struct List {
        leaves: Vec<Digest>,
    }
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    if bytes.first() == Some(&b'{')
        && let Ok(text) = std::str::from_utf8(&bytes)
    {
        let mut json = serde_json::Deserializer::from_str(text);
        let list: List = serde_path_to_error::deserialize(&mut json)
            .with_context(|| format!("{}: not a list of leaves", file.display()))?;
        return Ok(list.leaves);
    }
    let leaves = bytes.chunks_exact(LEAF_LEN);
    if !leaves.remainder().is_empty() {
        bail!(
            "{}: its length must be a multiple of {LEAF_LEN} bytes, one leaf each",
            file.display()
        );
    }
    Ok(leaves
        .map(|leaf| Digest(leaf.try_into().expect("chunks of that length")))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_fields_are_named() {
        let error = |text: &str| {
            format!(
                "{:#}",
                parse::<ClaimedDraw>(text, "a published draw").unwrap_err()
            )
        };
        assert!(error("[]").contains("not a published draw"), "{}", error("[]"));
        assert!(error("{\"sale\": \"a\"}").contains("algorithm"));
        let short = "{\"sale\": \"a\", \"algorithm\": \"x\", \"commitment\": \"12\"}";
        assert!(
            error(short).starts_with("commitment: must be 64 hexadecimal digits"),
            "{}",
            error(short)
        );
        let negative = format!(
            "{{\"sale\": \"a\", \"algorithm\": \"x\", \"commitment\": \"{}\", \"entries\": -1}}",
            "0".repeat(64)
        );
        assert!(error(&negative).starts_with("entries: "), "{}", error(&negative));
    }
}
