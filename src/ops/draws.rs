//! A draw, computed again by whoever wants to know.

use std::{
    fs,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context, bail};

use super::tickets::read_keys;
use crate::waiting_room::draw::{self, Checked, ClaimedDraw, Digest, DrawReceipt, Findings, Order};

/// Bytes of a leaf in a file of leaves.
const LEAF_LEN: usize = 32;

/// Prints arrival number and queue number of every entry.
pub fn order(draw_seed: &str, entries: u32) -> anyhow::Result<()> {
    let seed: Digest = draw_seed
        .strip_prefix("0x")
        .unwrap_or(draw_seed)
        .parse()
        .context("--seed")?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let order = Order::drawn(&seed, entries);
    for (arrival, number) in (1_u32..).zip(order.queue_numbers()) {
        writeln!(out, "{arrival} {number}").context("cannot write")?;
    }
    out.flush().context("cannot write")
}

/// What is looked at beside the published values.
#[derive(Clone, Copy, Debug, Default)]
pub struct VerifyInputs<'a> {
    pub leaves: Option<&'a Path>,
    pub receipt: Option<&'a Path>,
    /// The house's public keys.
    pub keys: Option<&'a Path>,
}

/// Says of each published value whether it is right; an error when one is not.
pub fn verify(file: &Path, beside: VerifyInputs<'_>) -> anyhow::Result<()> {
    let mut claimed: ClaimedDraw = read(file, "a published draw")?;
    if let Some(file) = beside.leaves {
        claimed.leaves = Some(read_leaves(file)?);
    }
    let receipt: Option<DrawReceipt> = beside.receipt.map(|file| read(file, "a receipt")).transpose()?;
    let keys = beside.keys.map(read_keys).transpose()?;
    let checked = draw::verify(&claimed);
    let order = checked.as_ref().ok().map(|it| &it.order);
    let of_receipt = receipt.map(|receipt| draw::verify_receipt(&receipt, &claimed, order, keys.as_ref()));
    if of_receipt.is_some() && keys.is_none() {
        println!("not checked: receipt.group (give the house's public keys with --keys)");
    }
    let mut all = of_receipt.unwrap_or_default();
    let drawn = match checked {
        Ok(Checked { right, faults, order }) => {
            all.right.extend(right);
            all.faults.extend(faults);
            Ok(order.entries())
        }
        Err(missing) => Err(missing.join(", ")),
    };
    print(&all, &claimed);
    if !all.faults.is_empty() {
        let fields: Vec<&str> = all.faults.iter().map(|fault| fault.field).collect();
        bail!("{}: wrong: {}", file.display(), fields.join(", "));
    }
    match drawn {
        Ok(entries) => println!("the order of {entries} entries is the one that was drawn"),
        // A receipt proves something before the draw too.
        Err(missing) if beside.receipt.is_some() => {
            println!("not checked: the order ({missing} not published yet)")
        }
        Err(missing) => bail!(
            "{}: {missing} not published: the draw has not taken place yet",
            file.display()
        ),
    }
    Ok(())
}

fn print(found: &Findings, claimed: &ClaimedDraw) {
    for field in &found.right {
        println!("right: {field}");
    }
    for fault in &found.faults {
        println!("WRONG: {}: {}", fault.field, fault.why);
    }
    if claimed.leaves.is_none() {
        println!("not checked: root (give the list of leaves with --leaves)");
    }
    match &claimed.chain {
        Some(chain) if chain.is_known() => {}
        Some(chain) => println!(
            "not checked: public_key (ask the beacon's operators whether it is that of chain {})",
            chain.chain
        ),
        None => println!("not checked: signature (no chain is given)"),
    }
}

fn read<T: serde::de::DeserializeOwned>(file: &Path, what: &str) -> anyhow::Result<T> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
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
    fn what_cannot_be_read_is_named() {
        let because = |text: &str| {
            format!(
                "{:#}",
                parse::<ClaimedDraw>(text, "a published draw").unwrap_err()
            )
        };
        assert!(
            because("[]").contains("not a published draw"),
            "{}",
            because("[]")
        );
        assert!(because("{\"sale\": \"a\"}").contains("algorithm"));
        let short = "{\"sale\": \"a\", \"algorithm\": \"x\", \"commitment\": \"12\"}";
        assert!(
            because(short).starts_with("commitment: must be 64 hexadecimal digits"),
            "{}",
            because(short)
        );
        let negative = format!(
            "{{\"sale\": \"a\", \"algorithm\": \"x\", \"commitment\": \"{}\", \"entries\": -1}}",
            "0".repeat(64)
        );
        assert!(
            because(&negative).starts_with("entries: "),
            "{}",
            because(&negative)
        );
    }
}
