//! The house's books, read a second time.
//!
//! Opened read-only. The queries and the journal's layout are written down here once more, on purpose: a reader that
//! shared the house's code would share its mistakes.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Duration,
};

use serde_json::Value;
use sqlx::{
    Decode, Row, Sqlite, SqlitePool, Type,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use super::{Called, Claim, Entry, Evidence, JournalJoin, Order, OrderState, Payment, Ticket};
use crate::kernel::{SaleId, Timestamp};

/// A book cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    #[error("{file}: {source}")]
    Sql { file: &'static str, source: sqlx::Error },
    #[error("{file}: {what}")]
    Content { file: &'static str, what: String },
}

/// What the books in a data directory say of one sale: journal, ledger, and the gateway's own book where it is there.
///
/// # Errors
/// [`BooksError`], with the book's name.
pub async fn read(dir: &Path, sale: &SaleId) -> Result<Evidence, BooksError> {
    let mut evidence = Evidence { claimant_lapse: Duration::from_secs(10), sweep_every: Duration::from_secs(3), ..Evidence::default() };
    queue(&Book::open(dir, "queue.db").await?, sale, &mut evidence).await?;
    ledger(&Book::open(dir, "ledger.db").await?, sale, &mut evidence).await?;
    if dir.join("gateway.db").exists() {
        let others = others(&Book::open(dir, "ledger.db").await?, sale).await?;
        gateway(&Book::open(dir, "gateway.db").await?, &others, &mut evidence).await?;
    }
    Ok(evidence)
}

struct Book {
    file: &'static str,
    pool: SqlitePool,
}

impl Book {
    async fn open(dir: &Path, file: &'static str) -> Result<Self, BooksError> {
        let options = SqliteConnectOptions::new().filename(dir.join(file)).read_only(true).busy_timeout(Duration::from_secs(5));
        let pool = SqlitePool::connect_with(options).await.map_err(|source| BooksError::Sql { file, source })?;
        Ok(Self { file, pool })
    }

    async fn rows(&self, query: &'static str, sale: Option<&SaleId>) -> Result<Vec<SqliteRow>, BooksError> {
        let query = sqlx::query(query);
        let query = if let Some(sale) = sale { query.bind(sale.as_str().to_owned()) } else { query };
        query.fetch_all(&self.pool).await.map_err(|source| self.sql(source))
    }

    fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(&self, row: &'r SqliteRow, column: usize) -> Result<T, BooksError> {
        row.try_get(column).map_err(|source| self.sql(source))
    }

    fn sql(&self, source: sqlx::Error) -> BooksError {
        BooksError::Sql { file: self.file, source }
    }

    fn wrong(&self, what: impl Into<String>) -> BooksError {
        BooksError::Content { file: self.file, what: what.into() }
    }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

async fn queue(book: &Book, sale: &SaleId, evidence: &mut Evidence) -> Result<(), BooksError> {
    // Until when the holder of each number had to come, once she was called.
    let mut call_ended: Vec<(u64, Timestamp)> = Vec::new();
    // Whoever left or was inside and went has given her number up.
    let mut left: HashSet<u64> = HashSet::new();
    for row in book.rows("SELECT kind, body FROM journal WHERE sale = ? ORDER BY seq", Some(sale)).await? {
        let (kind, body): (&str, &[u8]) = (book.get(&row, 0)?, book.get(&row, 1)?);
        match kind {
            "joins" => evidence.journal_joins.extend(joins(body).ok_or_else(|| book.wrong("a group of joins is cut off"))?),
            "event" => {
                let (at_ms, event): (i64, Value) = serde_json::from_slice(body).map_err(|e| book.wrong(format!("an event: {e}")))?;
                let number = |key: &str| event[key].as_u64().ok_or_else(|| book.wrong(format!("an event without {key}")));
                match event["kind"].as_str().unwrap_or_default() {
                    "called" => {
                        let upto = number("upto")?;
                        evidence.calls.push(Called { at: at(at_ms), now_serving: upto });
                        let ends_at = event["ends_at"].as_str().and_then(|text| text.parse().ok());
                        call_ended.push((upto, ends_at.ok_or_else(|| book.wrong("a call without its end"))?));
                    }
                    "left" | "visit_ended" => {
                        left.insert(number("number")?);
                    }
                    _ => {}
                }
            }
            other => return Err(book.wrong(format!("a record of unknown kind {other}"))),
        }
    }
    for join in &mut evidence.journal_joins {
        join.left = left.contains(&join.number);
    }
    let entries = "SELECT number, subject, visit, entered_at, ended_at FROM entry WHERE sale = ? ORDER BY rowid";
    for row in book.rows(entries, Some(sale)).await? {
        let number = book.get::<i64>(&row, 0)?.cast_unsigned();
        let entered_at = at(book.get(&row, 3)?);
        let had_until = call_ended.iter().find(|(upto, _)| *upto >= number).map(|(_, ends_at)| *ends_at);
        evidence.entries.push(Entry {
            number,
            subject_hash: book.get::<i64>(&row, 1)?.cast_unsigned(),
            visit: book.get(&row, 2)?,
            entered_at,
            ended_at: book.get::<Option<i64>>(&row, 4)?.map(at),
            returner: had_until.is_some_and(|ends_at| entered_at > ends_at),
        });
    }
    Ok(())
}

/// One group of joins: first number (4 bytes), how many (4), a time (8), then 8 bytes of subject hash and 4 of time
/// each, all big endian.
fn joins(body: &[u8]) -> Option<Vec<JournalJoin>> {
    let first = u64::from(u32::from_be_bytes(*body.first_chunk()?));
    let joins = body.get(16..)?.chunks_exact(12).zip(first..);
    joins.map(|(join, number)| Some(JournalJoin { subject_hash: u64::from_be_bytes(*join.first_chunk()?), number, left: false })).collect()
}

async fn ledger(book: &Book, sale: &SaleId, evidence: &mut Evidence) -> Result<(), BooksError> {
    let mut seats: HashMap<String, Vec<String>> = HashMap::new();
    for row in book.rows("SELECT order_id, seat FROM order_seat", None).await? {
        seats.entry(book.get(&row, 0)?).or_default().push(book.get(&row, 1)?);
    }
    let mut performance_of: HashMap<String, String> = HashMap::new();
    for row in book.rows("SELECT id, performance, visit, state, amount, stuck FROM orders WHERE sale = ?", Some(sale)).await? {
        let (id, performance): (String, String) = (book.get(&row, 0)?, book.get(&row, 1)?);
        let state = match book.get::<&str>(&row, 3)? {
            "paid" => OrderState::Paid,
            "declined" | "expired" | "refunded" | "cancelled" => OrderState::Ended,
            _ if book.get::<i64>(&row, 5)? != 0 => OrderState::Stuck,
            _ => OrderState::Open,
        };
        performance_of.insert(id.clone(), performance.clone());
        let (visit, total) = (book.get(&row, 2)?, book.get(&row, 4)?);
        evidence.orders.push(Order { seats: seats.remove(&id).unwrap_or_default(), id, state, visit, performance, total });
    }
    for row in book.rows("SELECT performance, seat, order_id, state FROM seat_claim WHERE sale = ?", Some(sale)).await? {
        let (performance, seat): (String, String) = (book.get(&row, 0)?, book.get(&row, 1)?);
        if book.get::<&str>(&row, 3)? == "booked" {
            evidence.ledger_booked.insert((performance.clone(), seat.clone()));
        }
        // A row is a live claim; giving a seat back deletes it.
        evidence.claims.push(Claim { performance, seat, order: book.get(&row, 2)?, live: true });
    }
    for row in book.rows("SELECT order_id, seat, withdrawn_at FROM ticket", None).await? {
        let order: String = book.get(&row, 0)?;
        let Some(performance) = performance_of.get(&order).cloned() else { continue };
        let valid = book.get::<Option<i64>>(&row, 2)?.is_none();
        evidence.tickets.push(Ticket { order, performance, seat: book.get(&row, 1)?, valid });
    }
    Ok(())
}

/// Orders of other sales, whose payments are in the same book.
async fn others(book: &Book, sale: &SaleId) -> Result<HashSet<String>, BooksError> {
    let rows = book.rows("SELECT id FROM orders WHERE sale <> ?", Some(sale)).await?;
    rows.iter().map(|row| book.get(row, 0)).collect()
}

async fn gateway(book: &Book, others: &HashSet<String>, evidence: &mut Evidence) -> Result<(), BooksError> {
    for row in book.rows("SELECT key, state, body FROM payment", None).await? {
        let (key, state, body): (&str, &str, &str) = (book.get(&row, 0)?, book.get(&row, 1)?, book.get(&row, 2)?);
        // The key that the house gives a payment: the order, a colon, a fence.
        let order = key.split(':').next().unwrap_or_default().to_owned();
        if others.contains(&order) {
            continue;
        }
        let body: Value = serde_json::from_str(body).map_err(|e| book.wrong(format!("a payment: {e}")))?;
        // A payment that was voided before it came has no amount, and needs none.
        let moved = ["authorised", "captured", "refunded"].contains(&state);
        let amount = match body["amount"]["amount"].as_i64() {
            None if moved => return Err(book.wrong("money of an unknown amount")),
            amount => amount.unwrap_or(0),
        };
        let when = |states: &[&str]| if states.contains(&state) { amount } else { 0 };
        evidence.payments.push(Payment {
            order,
            captured: when(&["captured", "refunded"]),
            refunded: when(&["refunded"]),
            reserved: when(&["authorised"]),
        });
    }
    Ok(())
}

/// Takes from the returners those who came in time and have stood at the door since: they stay in the called lane.
/// Only the clients know when they came.
pub fn who_came_in_time(evidence: &mut Evidence) {
    let lapse = evidence.claimant_lapse;
    for entry in evidence.entries.iter_mut().filter(|e| e.returner) {
        let last = evidence
            .refusals
            .iter()
            .filter(|r| r.number == entry.number && r.answered_at <= entry.entered_at)
            .max_by_key(|r| r.answered_at);
        if last.is_some_and(|r| !r.returner && entry.entered_at.since(r.asked_at) <= lapse) {
            entry.returner = false;
        }
    }
}
