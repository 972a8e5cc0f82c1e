//! The audit log, checked by whoever wants to know.

use std::io::{BufWriter, Write};

use anyhow::{Context, bail};

use crate::{
    kernel::SaleId,
    waiting_room::{CheckedLog, JournalPlace, LogHead, check_log, read_log},
};

/// Where a journal is, as the configuration writes it.
pub fn location(url: &str) -> anyhow::Result<JournalPlace> {
    if let Some(file) = url.strip_prefix("sqlite:") {
        return Ok(JournalPlace::File(file.trim_start_matches("//").into()));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(JournalPlace::Postgres { url: url.to_owned() });
    }
    bail!("a journal is at sqlite:FILE or postgres://...")
}

/// A remembered link, `NUMBER:HASH`.
pub fn head(text: &str) -> anyhow::Result<LogHead> {
    let (link, hash) = text
        .split_once(':')
        .context("must be a link's number and its hash, NUMBER:HEX")?;
    let link = link
        .parse()
        .ok()
        .filter(|link| *link > 0)
        .context("a link's number is 1 or more")?;
    Ok(LogHead {
        link,
        hash: hash.parse().context("the hash")?,
    })
}

/// Says of each sale whether its log is the one that was written; an error when one is not.
pub async fn verify(
    place: &JournalPlace,
    sale: Option<&SaleId>,
    head: Option<LogHead>,
) -> anyhow::Result<()> {
    let checked = check_log(location, sale, head).await?;
    for log in &checked {
        println!("{}", sentence(log));
    }
    let wrong: Vec<&str> = checked
        .iter()
        .filter(|log| log.fault.is_some())
        .map(|log| log.sale.as_str())
        .collect();
    if !wrong.is_empty() {
        bail!("the log was changed: {}", wrong.join(", "));
    }
    Ok(())
}

/// Prints the log, a record a line, as JSON: all of it, or the records of one kind, such as `operator`.
pub async fn show(place: &JournalPlace, sale: Option<&SaleId>, kind: Option<&str>) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let read = read_log(location, sale, |line| {
        if kind.is_none_or(|kind| line.what["kind"] == kind) {
            written = writeln!(out, "{}", serde_json::to_string(&line).expect("a line is JSON"));
        }
        written.is_ok()
    });
    read.await?;
    written.and_then(|()| out.flush()).context("cannot write")
}

fn sentence(log: &CheckedLog) -> String {
    let CheckedLog {
        sale,
        records,
        link,
        hash,
        not_linked,
        fault,
    } = log;
    match fault {
        Some(fault) => {
            format!(
                "{sale}: WRONG at link {}: {}; {records} records in {link} links before it are right",
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
            format!("{sale}: right, {records} records in {link} links; the last is {link}:{hash}{rest}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_said() {
        let hash = "ab".repeat(32);
        let because = |text: &str| format!("{:#}", head(text).unwrap_err());
        assert_eq!(head(&format!("7:{hash}")).unwrap().link, 7);
        for wrong in [
            "",
            "7",
            &hash,
            &format!("0:{hash}"),
            &format!("-1:{hash}"),
            "7:ab",
            &format!("7:{hash}0"),
        ] {
            assert!(!because(wrong).is_empty());
        }
        assert!(
            because("7:ab").contains("64 hexadecimal digits"),
            "{}",
            because("7:ab")
        );
        assert!(
            matches!(location("sqlite:x/queue.db").unwrap(), JournalPlace::File(file) if file.ends_with("queue.db"))
        );
        assert!(matches!(
            location("postgres://a/b").unwrap(),
            JournalPlace::Postgres { .. }
        ));
        assert!(location("queue.db").is_err());
    }
}
