//! Lists a journal, record by record.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    kernel::{SaleId, Timestamp},
    waiting_room::{
        journal::{
            encoding::decode,
            reader::{JournalReadError, JournalReader, select_sales},
            record::Record,
        },
        types::JournalLocation,
    },
};

/// One record of a journal, for listing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JournalLine {
    /// The sale that the record belongs to.
    pub sale: SaleId,
    /// Sequence number; it grows from record to record, with gaps where sales share a journal.
    pub seq: u64,
    /// When it happened; of joins, when the last of them joined.
    pub at: Option<Timestamp>,
    /// `kind` and its fields; of joins their number and the first arrival number.
    #[serde(flatten)]
    pub what: Value,
}

/// Passes every record of one sale, or of all, to `each` until it returns `false`.
///
/// # Errors
/// [`JournalReadError`] where the journal cannot be read.
pub async fn read_journal(
    place: &JournalLocation,
    sale: Option<&SaleId>,
    mut each: impl FnMut(JournalLine) -> bool,
) -> Result<(), JournalReadError> {
    let mut reader = JournalReader::open(place).await?;
    for sale in select_sales(&mut reader, sale).await? {
        let mut after = 0;
        loop {
            let lines = reader.lines(&sale, after, i64::MAX.cast_unsigned()).await?;
            let Some(last) = lines.last() else { break };
            after = last.seq;
            for line in lines {
                let record = decode(line.seq, &line.kind, &line.body)
                    .map_err(|e| JournalReadError::Record(e.to_string()))?
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
                if !each(JournalLine {
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
