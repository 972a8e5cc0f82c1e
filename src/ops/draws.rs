//! A draw, computed again by whoever wants to know.

use std::{
    fs,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context, bail};

use crate::waiting_room::draw::{self, ClaimedDraw, Digest, Order};

/// Bytes of a leaf in a file of leaves.
const LEAF_LEN: usize = 32;

/// Prints arrival number and queue number of every entry.
pub fn order(draw_seed: &str, entries: u32) -> anyhow::Result<()> {
    let seed: Digest = draw_seed.strip_prefix("0x").unwrap_or(draw_seed).parse().context("--seed")?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let order = Order::drawn(&seed, entries);
    for (arrival, number) in (1_u32..).zip(order.queue_numbers()) {
        writeln!(out, "{arrival} {number}").context("cannot write")?;
    }
    out.flush().context("cannot write")
}

/// Says of each published value whether it is right; an error when one is not.
pub fn verify(file: &Path, leaves: Option<&Path>) -> anyhow::Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut claimed = read(&text).with_context(|| file.display().to_string())?;
    if let Some(file) = leaves {
        claimed.leaves = Some(read_leaves(file)?);
    }
    let checked = draw::verify(&claimed)
        .map_err(|missing| anyhow::anyhow!("{}: {} not published: the draw has not taken place yet", file.display(), missing.join(", ")))?;
    for field in &checked.right {
        println!("right: {field}");
    }
    for fault in &checked.faults {
        println!("WRONG: {}: {}", fault.field, fault.why);
    }
    if claimed.leaves.is_none() {
        println!("not checked: root (give the list of leaves with --leaves)");
    }
    match &claimed.chain {
        Some(chain) if chain.is_known() => {}
        Some(chain) => println!("not checked: public_key (ask the beacon's operators whether it is that of chain {})", chain.chain),
        None => println!("not checked: signature (no chain is given)"),
    }
    if !checked.faults.is_empty() {
        let fields: Vec<&str> = checked.faults.iter().map(|fault| fault.field).collect();
        bail!("{}: wrong: {}", file.display(), fields.join(", "));
    }
    println!("the order of {} entries is the one that was drawn", checked.order.entries());
    Ok(())
}

fn read(text: &str) -> anyhow::Result<ClaimedDraw> {
    let mut json = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let why = error.into_inner();
        if field == "." { anyhow::anyhow!("not a published draw: {why}") } else { anyhow::anyhow!("{field}: {why}") }
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
        let list: List =
            serde_path_to_error::deserialize(&mut json).with_context(|| format!("{}: not a list of leaves", file.display()))?;
        return Ok(list.leaves);
    }
    let leaves = bytes.chunks_exact(LEAF_LEN);
    if !leaves.remainder().is_empty() {
        bail!("{}: its length must be a multiple of {LEAF_LEN} bytes, one leaf each", file.display());
    }
    Ok(leaves.map(|leaf| Digest(leaf.try_into().expect("chunks of that length"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named() {
        let because = |text: &str| format!("{:#}", read(text).unwrap_err());
        assert!(because("[]").contains("not a published draw"), "{}", because("[]"));
        assert!(because("{\"sale\": \"a\"}").contains("algorithm"));
        let short = "{\"sale\": \"a\", \"algorithm\": \"x\", \"commitment\": \"12\"}";
        assert!(because(short).starts_with("commitment: must be 64 hexadecimal digits"), "{}", because(short));
        let negative = format!("{{\"sale\": \"a\", \"algorithm\": \"x\", \"commitment\": \"{}\", \"entries\": -1}}", "0".repeat(64));
        assert!(because(&negative).starts_with("entries: "), "{}", because(&negative));
    }
}
