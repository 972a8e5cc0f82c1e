//! Reads the journal: joins, calls, admissions, and the settings of admission over time.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    admission_settings::AdmissionHistory,
    draw::Draw,
    source::{Databases, ReadError, Source},
};
use crate::{
    audit::evidence::{Admission, AdmissionSettings, Call, Evidence, JournalJoin},
    kernel::{SaleId, Timestamp},
};

/// Opens the journal.
pub(super) async fn open(databases: &Databases) -> Result<Source, ReadError> {
    Source::open(&databases.journal, "the journal", "stagedoor_queue").await
}

/// What the journal's records say, before it is joined with the table of visits.
#[derive(Default)]
struct Records {
    joins: Vec<JournalJoin>,
    calls: Vec<Call>,
    /// Up to which number each call reached, and until when its visitors had to come.
    call_deadlines: Vec<(u64, Timestamp)>,
    /// Arrival numbers of visitors that left.
    left: HashSet<u64>,
    /// Queue numbers whose visit has ended.
    ended: HashSet<u64>,
    draw: Draw,
}

impl Records {
    fn apply(&mut self, source: &Source, at: Timestamp, event: &Value) -> Result<(), ReadError> {
        let number = |key: &str| {
            event[key]
                .as_u64()
                .ok_or_else(|| source.invalid(format!("an event without {key}")))
        };
        match event["kind"].as_str().unwrap_or_default() {
            "called" => {
                let last = number("last")?;
                self.calls.push(Call {
                    at,
                    now_serving: last,
                });
                let ends_at = event["window_ends_at"]
                    .as_str()
                    .and_then(|text| text.parse().ok());
                let ends_at = ends_at.ok_or_else(|| source.invalid("a call without its end"))?;
                self.call_deadlines.push((last, ends_at));
            }
            "left" => {
                self.left.insert(number("number")?);
            }
            "visit_ended" => {
                self.ended.insert(number("number")?);
            }
            kind => self.draw.apply(kind, event),
        }
        Ok(())
    }
}

/// Reads joins, calls and admissions of one sale.
pub(super) async fn read_journal(
    source: &Source,
    sale: &SaleId,
    evidence: &mut Evidence,
) -> Result<(), ReadError> {
    let mut records = Records::default();
    let rows: Vec<(String, Vec<u8>)> = source
        .rows(
            "SELECT kind, body FROM journal WHERE sale = $1 ORDER BY seq",
            sale,
        )
        .await?;
    for (kind, body) in rows {
        match kind.as_str() {
            "joins" => records
                .joins
                .extend(joins(&body).ok_or_else(|| source.invalid("a group of joins is cut off"))?),
            "event" => {
                let (at_ms, event): (i64, Value) =
                    serde_json::from_slice(&body).map_err(|e| source.invalid(format!("an event: {e}")))?;
                records.apply(source, Timestamp::from_millis(at_ms), &event)?;
            }
            other => return Err(source.invalid(format!("a record of unknown kind {other}"))),
        }
    }
    // A visitor that left gave up its arrival number; one whose visit ended gave up its queue number.
    for join in &mut records.joins {
        let arrival = join.number;
        join.number = records.draw.queue_number(arrival);
        join.left = records.left.contains(&arrival) || records.ended.contains(&join.number);
    }
    let visits: Vec<(i64, i64, String, i64, Option<i64>)> =
        source.rows(source.visits_in_order(), sale).await?;
    for (number, subject, visit, admitted_at, ended_at) in visits {
        let number = number.cast_unsigned();
        let admitted_at = Timestamp::from_millis(admitted_at);
        let deadline = records
            .call_deadlines
            .iter()
            .find(|(last, _)| *last >= number)
            .map(|(_, ends_at)| *ends_at);
        evidence.admissions.push(Admission {
            number,
            subject_hash: subject.cast_unsigned(),
            visit,
            admitted_at,
            ended_at: ended_at.map(Timestamp::from_millis),
            is_late_arrival: deadline.is_some_and(|ends_at| admitted_at > ends_at),
        });
    }
    evidence.journal_joins.append(&mut records.joins);
    evidence.calls.append(&mut records.calls);
    Ok(())
}

/// One group of joins: first number (4 bytes), how many (4), a time (8), then 8 bytes of subject hash and 4
/// of time each, all big endian.
fn joins(body: &[u8]) -> Option<Vec<JournalJoin>> {
    let first = u64::from(u32::from_be_bytes(*body.first_chunk()?));
    let joins = body.get(16..)?.chunks_exact(12).zip(first..);
    joins
        .map(|(join, number)| {
            Some(JournalJoin {
                subject_hash: u64::from_be_bytes(*join.first_chunk()?),
                number,
                left: false,
            })
        })
        .collect()
}

/// Settings of admission over time: as configured, as changed by operators, and slowed down while the box
/// office was overloaded.
///
/// # Errors
/// [`ReadError`], which names the database.
pub async fn admission_settings(
    databases: &Databases,
    sale: &SaleId,
    active_visits_max: u32,
    rate_per_minute: u32,
    burst: Option<u32>,
) -> Result<Vec<AdmissionSettings>, ReadError> {
    let source = open(databases).await?;
    let mut history = AdmissionHistory::configured(active_visits_max, rate_per_minute);
    let events: Vec<(Vec<u8>,)> = source
        .rows(
            "SELECT body FROM journal WHERE sale = $1 AND kind = 'event' ORDER BY seq",
            sale,
        )
        .await?;
    for (body,) in events {
        let (at_ms, event): (i64, Value) =
            serde_json::from_slice(&body).map_err(|e| source.invalid(format!("an event: {e}")))?;
        history.apply(Timestamp::from_millis(at_ms), &event);
    }
    Ok(history.settings(burst))
}
