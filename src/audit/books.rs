//! The house's books, read a second time.
//!
//! Opened read-only. The queries and the journal's layout are written down here once more, on purpose: a reader that
//! shared the house's code would share its mistakes.

mod book;
mod drawn;
mod ordered;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use self::book::Book;
pub use self::book::BookAt;
use crate::audit::{
    Called, Claim, DoorSetting, Entry, Evidence, JournalJoin, Order, OrderState, Payment, Ticket,
};
use crate::kernel::{SaleId, Timestamp};

/// A book cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BooksError {
    #[error("{book}: {source}")]
    Sql { book: &'static str, source: sqlx::Error },
    #[error("{book}: {what}")]
    Content { book: &'static str, what: String },
    #[error("a book is at sqlite:FILE or postgres://...")]
    Place,
}

/// Where the books of a house are.
#[derive(Clone)]
pub struct Books {
    pub journal: BookAt,
    pub ledger: BookAt,
    /// The sandbox gateway's own, if it is here.
    pub gateway: Option<PathBuf>,
}

impl Books {
    /// Those of a house that keeps everything in its data directory.
    #[must_use]
    pub fn in_folder(dir: &Path) -> Self {
        let gateway = Some(dir.join("gateway.db")).filter(|it| it.exists());
        Self {
            journal: BookAt::file(dir, "queue.db"),
            ledger: BookAt::file(dir, "ledger.db"),
            gateway,
        }
    }
}

/// What the books in a data directory say of one sale: journal, ledger, and the gateway's own book where it is there.
///
/// # Errors
/// [`BooksError`], with the book's name.
pub async fn read(dir: &Path, sale: &SaleId) -> Result<Evidence, BooksError> {
    read_from(&Books::in_folder(dir), sale).await
}

/// As [`read`], with books that are elsewhere.
///
/// # Errors
/// [`BooksError`], with the book's name.
pub async fn read_from(books: &Books, sale: &SaleId) -> Result<Evidence, BooksError> {
    let mut evidence = Evidence {
        claimant_lapse: Duration::from_secs(10),
        sweep_every: Duration::from_secs(3),
        ..Evidence::default()
    };
    queue(
        &Book::open(&books.journal, "the journal", "stagedoor_queue").await?,
        sale,
        &mut evidence,
    )
    .await?;
    let kept = Book::open(&books.ledger, "the ledger", "stagedoor_ledger").await?;
    ledger(&kept, sale, &mut evidence).await?;
    if let Some(file) = &books.gateway {
        let others = others(&kept, sale).await?;
        gateway(
            &Book::open(&BookAt::File(file.clone()), "the gateway's book", "").await?,
            &others,
            &mut evidence,
        )
        .await?;
    }
    Ok(evidence)
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

async fn queue(book: &Book, sale: &SaleId, evidence: &mut Evidence) -> Result<(), BooksError> {
    // Until when the holder of each number had to come, once she was called.
    let mut call_ended: Vec<(u64, Timestamp)> = Vec::new();
    // Whoever left or was inside and went has given her number up: by arrival number the one, by queue number the other.
    let (mut left, mut ended): (HashSet<u64>, HashSet<u64>) = (HashSet::new(), HashSet::new());
    let mut draw = drawn::Draw::default();
    let journal: Vec<(String, Vec<u8>)> = book
        .rows(
            "SELECT kind, body FROM journal WHERE sale = $1 ORDER BY seq",
            sale,
        )
        .await?;
    for (kind, body) in journal {
        match kind.as_str() {
            "joins" => evidence
                .journal_joins
                .extend(joins(&body).ok_or_else(|| book.wrong("a group of joins is cut off"))?),
            "event" => {
                let (at_ms, event): (i64, Value) =
                    serde_json::from_slice(&body).map_err(|e| book.wrong(format!("an event: {e}")))?;
                let number = |key: &str| {
                    event[key]
                        .as_u64()
                        .ok_or_else(|| book.wrong(format!("an event without {key}")))
                };
                match event["kind"].as_str().unwrap_or_default() {
                    "called" => {
                        let upto = number("upto")?;
                        evidence.calls.push(Called {
                            at: at(at_ms),
                            now_serving: upto,
                        });
                        let ends_at = event["ends_at"].as_str().and_then(|text| text.parse().ok());
                        call_ended.push((upto, ends_at.ok_or_else(|| book.wrong("a call without its end"))?));
                    }
                    "left" => {
                        left.insert(number("number")?);
                    }
                    "visit_ended" => {
                        ended.insert(number("number")?);
                    }
                    kind => draw.saw(kind, &event),
                }
            }
            other => return Err(book.wrong(format!("a record of unknown kind {other}"))),
        }
    }
    for join in &mut evidence.journal_joins {
        let arrival = join.number;
        join.number = draw.queue_number(arrival);
        join.left = left.contains(&arrival) || ended.contains(&join.number);
    }
    let entries: Vec<(i64, i64, String, i64, Option<i64>)> = book.rows(book.entries_in_order(), sale).await?;
    for (number, subject, visit, entered_at, ended_at) in entries {
        let number = number.cast_unsigned();
        let entered_at = at(entered_at);
        let had_until = call_ended
            .iter()
            .find(|(upto, _)| *upto >= number)
            .map(|(_, ends_at)| *ends_at);
        evidence.entries.push(Entry {
            number,
            subject_hash: subject.cast_unsigned(),
            visit,
            entered_at,
            ended_at: ended_at.map(at),
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

async fn ledger(book: &Book, sale: &SaleId, evidence: &mut Evidence) -> Result<(), BooksError> {
    let mut seats: HashMap<String, Vec<String>> = HashMap::new();
    for (order, seat) in book
        .all::<(String, String)>("SELECT order_id, seat FROM order_seat")
        .await?
    {
        seats.entry(order).or_default().push(seat);
    }
    let mut performance_of: HashMap<String, String> = HashMap::new();
    let orders: Vec<(String, String, String, String, i64, bool)> = book
        .rows(
            "SELECT id, performance, visit, state, amount, stuck FROM orders WHERE sale = $1",
            sale,
        )
        .await?;
    for (id, performance, visit, state, total, stuck) in orders {
        let state = match state.as_str() {
            "paid" => OrderState::Paid,
            "declined" | "expired" | "refunded" | "cancelled" => OrderState::Ended,
            _ if stuck => OrderState::Stuck,
            _ => OrderState::Open,
        };
        performance_of.insert(id.clone(), performance.clone());
        evidence.orders.push(Order {
            seats: seats.remove(&id).unwrap_or_default(),
            id,
            state,
            visit,
            performance,
            total,
        });
    }
    let claims: Vec<(String, String, String, String)> = book
        .rows(
            "SELECT performance, seat, order_id, state FROM seat_claim WHERE sale = $1",
            sale,
        )
        .await?;
    for (performance, seat, order, state) in claims {
        if state == "booked" {
            evidence.ledger_booked.insert((performance.clone(), seat.clone()));
        }
        // A row is a live claim; giving a seat back deletes it.
        evidence.claims.push(Claim {
            performance,
            seat,
            order,
            live: true,
        });
    }
    let tickets: Vec<(String, String, Option<i64>)> = book
        .all("SELECT order_id, seat, withdrawn_at FROM ticket")
        .await?;
    for (order, seat, withdrawn_at) in tickets {
        let Some(performance) = performance_of.get(&order).cloned() else {
            continue;
        };
        evidence.tickets.push(Ticket {
            order,
            performance,
            seat,
            valid: withdrawn_at.is_none(),
        });
    }
    Ok(())
}

/// Orders of other sales, whose payments are in the same book.
async fn others(book: &Book, sale: &SaleId) -> Result<HashSet<String>, BooksError> {
    let rows: Vec<(String,)> = book.rows("SELECT id FROM orders WHERE sale <> $1", sale).await?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

async fn gateway(book: &Book, others: &HashSet<String>, evidence: &mut Evidence) -> Result<(), BooksError> {
    for (key, state, body) in book
        .all::<(String, String, String)>("SELECT key, state, body FROM payment")
        .await?
    {
        let state = state.as_str();
        // The key that the house gives a payment: the order, a colon, a fence.
        let order = key.split(':').next().unwrap_or_default().to_owned();
        if others.contains(&order) {
            continue;
        }
        let body: Value = serde_json::from_str(&body).map_err(|e| book.wrong(format!("a payment: {e}")))?;
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

/// The door's settings over time: as it was configured, as operators ordered, and slowed while the box office suffered.
///
/// # Errors
/// [`BooksError`], with the book's name.
pub async fn door_over_time(
    books: &Books,
    sale: &SaleId,
    capacity: u32,
    rate_per_minute: u32,
    burst: Option<u32>,
) -> Result<Vec<DoorSetting>, BooksError> {
    let book = Book::open(&books.journal, "the journal", "stagedoor_queue").await?;
    let mut door = ordered::DoorOverTime::configured(capacity, rate_per_minute);
    let events: Vec<(Vec<u8>,)> = book
        .rows(
            "SELECT body FROM journal WHERE sale = $1 AND kind = 'event' ORDER BY seq",
            sale,
        )
        .await?;
    for (body,) in events {
        let (at_ms, event): (i64, Value) =
            serde_json::from_slice(&body).map_err(|e| book.wrong(format!("an event: {e}")))?;
        door.saw(at(at_ms), &event);
    }
    Ok(door.settings(burst))
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
