//! The stored form of a record, the same in every database.

use crate::{
    kernel::Timestamp,
    waiting_room::journal::{
        port::JournalError,
        record::{Join, Record, StoredRecord},
    },
};

const JOINS: &str = "joins";
const EVENT: &str = "event";
const JOIN_LEN: usize = 12;

/// Encodes a record as kind and body. Joins are packed, as there are millions: the first number (4 bytes),
/// how many (4), the moment of the first join (8), then for each join the subject's hash (8) and the
/// milliseconds after that moment (4), all big endian. The rest is JSON.
pub(crate) fn encode(record: &Record) -> (&'static str, Vec<u8>) {
    match record {
        Record::Joins { first, joins } => {
            let base = joins.iter().map(|j| j.joined_at).min().unwrap_or_default();
            let count = u32::try_from(joins.len()).expect("a group is bounded");
            let mut body = Vec::with_capacity(16 + joins.len() * JOIN_LEN);
            body.extend_from_slice(&first.to_be_bytes());
            body.extend_from_slice(&count.to_be_bytes());
            body.extend_from_slice(&base.as_millis().to_be_bytes());
            for join in joins {
                let after_ms = u32::try_from(join.joined_at.since(base).as_millis()).unwrap_or(u32::MAX);
                body.extend_from_slice(&join.subject.to_be_bytes());
                body.extend_from_slice(&after_ms.to_be_bytes());
            }
            (JOINS, body)
        }
        Record::Event { at, event } => (
            EVENT,
            serde_json::to_vec(&(at.as_millis(), event)).expect("our own events are JSON"),
        ),
    }
}

pub(crate) fn decode(seq: u64, kind: &str, body: &[u8]) -> Result<StoredRecord, JournalError> {
    let record = match kind {
        JOINS => unpack_joins(body),
        EVENT => serde_json::from_slice(body)
            .ok()
            .map(|(at_ms, event)| Record::Event {
                at: Timestamp::from_millis(at_ms),
                event,
            }),
        _ => None,
    };
    record
        .map(|record| StoredRecord { seq, record })
        .ok_or(JournalError::Unreadable { seq })
}

fn unpack_joins(body: &[u8]) -> Option<Record> {
    let (first, rest) = body.split_first_chunk::<4>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (base, rest) = rest.split_first_chunk::<8>()?;
    let base = i64::from_be_bytes(*base);
    if usize::try_from(u32::from_be_bytes(*count))
        .ok()?
        .checked_mul(JOIN_LEN)?
        != rest.len()
    {
        return None;
    }
    let join = |packed: &[u8]| {
        let (subject, after_ms) = packed.split_first_chunk::<8>()?;
        let after_ms = u32::from_be_bytes(after_ms.try_into().ok()?);
        Some(Join {
            subject: u64::from_be_bytes(*subject),
            joined_at: Timestamp::from_millis(base.checked_add(i64::from(after_ms))?),
        })
    };
    let joins: Option<Vec<Join>> = rest.chunks_exact(JOIN_LEN).map(join).collect();
    Some(Record::Joins {
        first: u32::from_be_bytes(*first),
        joins: joins?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_record_is_not_read_as_a_shorter_one() {
        let join = |subject| Join {
            subject,
            joined_at: Timestamp::from_millis(5),
        };
        let (_, body) = encode(&Record::Joins {
            first: 3,
            joins: vec![join(1), join(2)],
        });
        assert!(unpack_joins(&body).is_some());
        assert!((0..body.len()).all(|cut| unpack_joins(&body[..cut]).is_none()));
    }
}
