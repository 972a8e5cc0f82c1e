//! `stagedoor journal`: shows and verifies a queue's journal.

use std::io::{BufWriter, Write};

use anyhow::{Context, bail};

use crate::{
    kernel::SaleId,
    waiting_room::{ChainHead, JournalLocation, VerifiedJournal, read_journal, verify_journal},
};

/// Parses where a journal is, in the form of `journal.url`.
///
/// # Errors
/// When the scheme is neither `sqlite` nor `postgres`.
pub fn location(url: &str) -> anyhow::Result<JournalLocation> {
    if let Some(file) = url.strip_prefix("sqlite:") {
        return Ok(JournalLocation::File(file.trim_start_matches("//").into()));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(JournalLocation::Postgres { url: url.to_owned() });
    }
    bail!("must be sqlite:FILE or postgres://...")
}

/// Parses a chain head, `SEQUENCE:HEX`.
///
/// # Errors
/// When it has another form.
pub fn head(text: &str) -> anyhow::Result<ChainHead> {
    let (link, hash) = text
        .split_once(':')
        .context("must be a link's sequence number and its hash, SEQUENCE:HEX")?;
    let link = link
        .parse()
        .ok()
        .filter(|link| *link > 0)
        .context("the sequence number must be at least 1")?;
    Ok(ChainHead {
        sequence: link,
        hash: hash.parse().context("the hash")?,
    })
}

/// Verifies the hash chain of each sale's journal and prints the results.
///
/// # Errors
/// When a chain is broken, or the journal cannot be read.
pub async fn verify(
    location: &JournalLocation,
    sale: Option<&SaleId>,
    head: Option<ChainHead>,
) -> anyhow::Result<()> {
    let journals = verify_journal(location, sale, head).await?;
    for journal in &journals {
        println!("{}", summary(journal));
    }
    let broken: Vec<&str> = journals
        .iter()
        .filter(|journal| journal.fault.is_some())
        .map(|journal| journal.sale.as_str())
        .collect();
    if !broken.is_empty() {
        bail!("the journal was changed: {}", broken.join(", "));
    }
    Ok(())
}

/// Prints the journal as JSON, one record a line: all records, or those of one kind, such as `operator`.
///
/// # Errors
/// When the journal cannot be read or standard output cannot be written.
pub async fn show(
    location: &JournalLocation,
    sale: Option<&SaleId>,
    kind: Option<&str>,
) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let read = read_journal(location, sale, |line| {
        if kind.is_none_or(|kind| line.what["kind"] == kind) {
            written = writeln!(out, "{}", serde_json::to_string(&line).expect("a line is JSON"));
        }
        written.is_ok()
    });
    read.await?;
    written.and_then(|()| out.flush()).context("cannot write")
}

fn summary(journal: &VerifiedJournal) -> String {
    let VerifiedJournal {
        sale,
        records,
        sequence: link,
        hash,
        not_linked,
        fault,
    } = journal;
    match fault {
        Some(fault) => {
            format!(
                "{sale}: WRONG at link {}: {}; {records} records in {link} links before it are valid",
                fault.link, fault.why
            )
        }
        None if *link == 0 => format!("{sale}: no link yet, {not_linked} records"),
        None => {
            let rest = if *not_linked > 0 {
                format!("; {not_linked} records after it are not linked yet")
            } else {
                String::new()
            };
            format!("{sale}: valid, {records} records in {link} links; the head is {link}:{hash}{rest}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_heads_and_locations_are_refused() {
        let hash = "ab".repeat(32);
        let refusal = |text: &str| format!("{:#}", head(text).unwrap_err());
        assert_eq!(head(&format!("7:{hash}")).unwrap().sequence, 7);
        for wrong in [
            "",
            "7",
            &hash,
            &format!("0:{hash}"),
            &format!("-1:{hash}"),
            "7:ab",
            &format!("7:{hash}0"),
        ] {
            assert!(!refusal(wrong).is_empty());
        }
        assert!(
            refusal("7:ab").contains("64 hexadecimal digits"),
            "{}",
            refusal("7:ab")
        );
        assert!(matches!(
            location("sqlite:x/queue.db").unwrap(),
            JournalLocation::File(file) if file.ends_with("queue.db")
        ));
        assert!(matches!(
            location("postgres://a/b").unwrap(),
            JournalLocation::Postgres { .. }
        ));
        assert!(location("queue.db").is_err());
    }
}
