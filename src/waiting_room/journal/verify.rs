//! Whether a journal is still what its chain was made over. It only reads, and may do so beside a running house.

#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::{
    kernel::SaleId,
    waiting_room::{
        JournalPlace,
        draw::digest::Digest,
        journal::{
            chain::{Line, Link, RECORDS_MAX},
            reader::{Book, LogError, PAGE, chosen},
        },
    },
};

/// What a sale's log is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedLog {
    pub sale: SaleId,
    /// Records that are linked, and right.
    pub records: u64,
    /// The last link that is right; 0 where there is none.
    pub link: u64,
    /// Its hash.
    pub hash: Digest,
    /// Records that came after the last link: nothing is said of them yet.
    pub not_linked: u64,
    /// The first thing that is wrong.
    pub fault: Option<LogFault>,
}

/// What is wrong with a link, or with the chain at that link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFault {
    pub link: u64,
    pub why: String,
}

/// A link, as the board shows the last one and as somebody may have written it down: its number and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LogHead {
    pub link: u64,
    pub hash: Digest,
}

/// Reckons every link of a journal again: of one sale, or of all there are; and holds the chain against a link that was
/// remembered.
///
/// # Errors
/// [`LogError`] where it cannot be read. What is wrong with it is no error, but what was asked for.
pub async fn check_log(
    place: &JournalPlace,
    sale: Option<&SaleId>,
    head: Option<LogHead>,
) -> Result<Vec<CheckedLog>, LogError> {
    let mut book = Book::open(place).await?;
    let chosen = chosen(&mut book, sale).await?;
    if head.is_some() && chosen.len() > 1 {
        return Err(LogError::WhoseHead);
    }
    let mut checked = Vec::new();
    for sale in chosen {
        checked.push(check(&mut book, sale, head).await?);
    }
    Ok(checked)
}

async fn check(book: &mut Book, sale: SaleId, head: Option<LogHead>) -> Result<CheckedLog, LogError> {
    let mut right = Link::genesis(&sale);
    let mut checked = CheckedLog {
        sale,
        records: 0,
        link: 0,
        hash: right.hash,
        not_linked: 0,
        fault: None,
    };
    'links: loop {
        let page = book.links(&checked.sale, right.number).await?;
        let full = page.len() == usize::try_from(PAGE).expect("a page is small");
        for kept in page {
            let lines = book.lines(&checked.sale, right.upto, kept.upto).await?;
            let fault = fault_of(&right, &kept, &lines, head);
            right = kept;
            if fault.is_some() {
                checked.fault = fault;
                break 'links;
            }
            checked.records += kept.records;
            (checked.link, checked.hash) = (kept.number, kept.hash);
        }
        if !full {
            break;
        }
    }
    if checked.fault.is_none() {
        checked.not_linked = book.count_after(&checked.sale, right.upto).await?;
        checked.fault = head.filter(|it| it.link > checked.link).map(|it| LogFault {
            link: it.link,
            why: match checked.link {
                0 => "it was there, and the log has no link now".to_owned(),
                last => format!("it was there, and the log ends with link {last} now"),
            },
        });
    }
    Ok(checked)
}

/// What is wrong with `kept`, when all before it is right.
fn fault_of(before: &Link, kept: &Link, lines: &[Line], head: Option<LogHead>) -> Option<LogFault> {
    let expected = before.number + 1;
    if kept.number != expected {
        return Some(LogFault {
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
            "it was made over {} records, and between {from} and {upto} there are {there}",
            kept.records
        ))
    } else if before.next(lines) != *kept {
        Some(format!(
            "the records {from} to {upto} are not those that it was made over, or it is not what was made"
        ))
    } else {
        head.filter(|it| it.link == kept.number && it.hash != kept.hash)
            .map(|_| "its hash is not the one that was remembered: the log was written anew".to_owned())
    };
    why.map(|why| LogFault { link: expected, why })
}
