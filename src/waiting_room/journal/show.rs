//! A log as it stands, record by record.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    kernel::{SaleId, Timestamp},
    waiting_room::{
        JournalPlace,
        journal::{
            encoding::decode,
            reader::{Book, LogError, chosen},
            record::Record,
        },
    },
};

/// One record of a log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogLine {
    pub sale: SaleId,
    pub seq: u64,
    /// When it happened; of joins, when the last of them came.
    pub at: Option<Timestamp>,
    /// `kind` and what goes with it; of joins how many there are and the first one's arrival number.
    #[serde(flatten)]
    pub what: Value,
}

/// Hands every record to `each` until it wants no more: of one sale, or of all there are.
///
/// # Errors
/// [`LogError`] where it cannot be read.
pub async fn read_log(
    place: &JournalPlace,
    sale: Option<&SaleId>,
    mut each: impl FnMut(LogLine) -> bool,
) -> Result<(), LogError> {
    let mut book = Book::open(place).await?;
    for sale in chosen(&mut book, sale).await? {
        let mut after = 0;
        loop {
            let lines = book.lines(&sale, after, i64::MAX.cast_unsigned()).await?;
            let Some(last) = lines.last() else { break };
            after = last.seq;
            for line in lines {
                let record = decode(line.seq, &line.kind, &line.body)
                    .map_err(|e| LogError::Record(e.to_string()))?
                    .record;
                let at = record.at();
                let what = match record {
                    Record::Joins { first, joins } => {
                        json!({"kind": "joins", "first": first, "count": joins.len()})
                    }
                    Record::Event { event, .. } => {
                        serde_json::to_value(event).expect("our own events are JSON")
                    }
                };
                if !each(LogLine {
                    sale: sale.clone(),
                    seq: line.seq,
                    at,
                    what,
                }) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
