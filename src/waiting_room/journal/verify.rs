//! Verifies a journal against its hash chain. Only reads, also beside a running service.

#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::{
    kernel::SaleId,
    waiting_room::{
        draw::digest::Digest,
        journal::{
            chain::{ChainLink, RECORDS_MAX, RawRecord},
            reader::{JournalReadError, JournalReader, PAGE, select_sales},
        },
        types::JournalLocation,
    },
};

/// The result of verifying one sale's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedJournal {
    /// The sale whose records and links were read.
    pub sale: SaleId,
    /// Records that are linked and intact.
    pub records: u64,
    /// The last intact link; 0 where there is none.
    pub sequence: u64,
    /// That link's hash.
    pub hash: Digest,
    /// Records after the last link, which are not verified.
    pub not_linked: u64,
    /// The first fault; `None` where the journal is intact.
    pub fault: Option<JournalFault>,
}

/// What is wrong at a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalFault {
    /// Number of the link in the chain, from 1.
    pub link: u64,
    /// What is wrong with the link, or with the records that it covers.
    pub why: String,
}

/// A link that an observer kept, as the status publishes the last one: number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ChainHead {
    /// Number of the link in the chain, from 1.
    pub sequence: u64,
    /// The link's SHA-256; it covers every record up to the link's last.
    pub hash: Digest,
}

/// Recomputes every link of a journal, of one sale or of all, and compares the chain with a link that an
/// observer kept.
///
/// # Errors
/// [`JournalReadError`] where the journal cannot be read. A fault is a result, not an error.
pub async fn verify_journal(
    place: &JournalLocation,
    sale: Option<&SaleId>,
    head: Option<ChainHead>,
) -> Result<Vec<VerifiedJournal>, JournalReadError> {
    let mut reader = JournalReader::open(place).await?;
    let select_sales = select_sales(&mut reader, sale).await?;
    if head.is_some() && select_sales.len() > 1 {
        return Err(JournalReadError::WhoseHead);
    }
    let mut checked = Vec::new();
    for sale in select_sales {
        checked.push(check(&mut reader, sale, head).await?);
    }
    Ok(checked)
}

async fn check(
    reader: &mut JournalReader,
    sale: SaleId,
    head: Option<ChainHead>,
) -> Result<VerifiedJournal, JournalReadError> {
    let mut right = ChainLink::genesis(&sale);
    let mut checked = VerifiedJournal {
        sale,
        records: 0,
        sequence: 0,
        hash: right.hash,
        not_linked: 0,
        fault: None,
    };
    'links: loop {
        let page = reader.links(&checked.sale, right.number).await?;
        let full = page.len() == usize::try_from(PAGE).expect("a page is small");
        for kept in page {
            let lines = reader.lines(&checked.sale, right.upto, kept.upto).await?;
            let fault = fault_of(&right, &kept, &lines, head);
            right = kept;
            if fault.is_some() {
                checked.fault = fault;
                break 'links;
            }
            checked.records += kept.records;
            (checked.sequence, checked.hash) = (kept.number, kept.hash);
        }
        if !full {
            break;
        }
    }
    if checked.fault.is_none() {
        checked.not_linked = reader.count_after(&checked.sale, right.upto).await?;
        checked.fault = head
            .filter(|head| head.sequence > checked.sequence)
            .map(|it| JournalFault {
                link: it.sequence,
                why: match checked.sequence {
                    0 => "it was published, and the journal has no link now".to_owned(),
                    last => format!("it was published, and the journal ends with link {last} now"),
                },
            });
    }
    Ok(checked)
}

/// What is wrong with `kept`, where all links before it are intact.
fn fault_of(
    before: &ChainLink,
    kept: &ChainLink,
    lines: &[RawRecord],
    head: Option<ChainHead>,
) -> Option<JournalFault> {
    let expected = before.number + 1;
    if kept.number != expected {
        return Some(JournalFault {
            link: expected,
            why: format!("it is missing; link {} comes next", kept.number),
        });
    }
    let (from, upto, there) = (before.upto + 1, kept.upto, lines.len() as u64);
    let why = if there != kept.records || there == 0 {
        let there = if there > u64::from(RECORDS_MAX) {
            "more".to_owned()
        } else {
            there.to_string()
        };
        Some(format!(
            "it covers {} records, and between {from} and {upto} there are {there}",
            kept.records
        ))
    } else if before.next(lines) != *kept {
        Some(format!(
            "the records {from} to {upto} are not those that it was made over, or the link itself was changed"
        ))
    } else {
        head.filter(|head| head.sequence == kept.number && head.hash != kept.hash)
            .map(|_| "its hash is not the one that was published: the journal was rewritten".to_owned())
    };
    why.map(|why| JournalFault { link: expected, why })
}
