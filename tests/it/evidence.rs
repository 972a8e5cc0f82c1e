//! Gathers the auditor's evidence from the house's own files, opened read-only, and from the seat map.
//!
//! The queries and the journal's layout are written down here a second time, on purpose: a loader that shared the
//! house's code would share its mistakes.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Duration,
};

use serde_json::Value;
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteRow},
};
use stagedoor::{
    kernel::{Clock, Timestamp},
    simulation::auditor::{Called, Claim, Entry, Evidence, JournalJoin, LiveHold, Order, OrderState, Payment, Ticket},
};

use crate::{
    fan::Fan,
    world::{PERFORMANCE, SALE, World},
};

/// What the house's books say now. `observer` is a fan inside, who reads the seat map.
pub async fn gather(world: &World, observer: &Fan) -> Evidence {
    let mut evidence = Evidence {
        door: vec![world.door()],
        returner_share: world.scene.returner_share,
        claimant_lapse: Duration::from_secs(10),
        sweep_every: Duration::from_secs(3),
        ..Evidence::default()
    };
    queue(world, &mut evidence).await;
    ledger(world, &mut evidence).await;
    gateway(world, &mut evidence).await;
    map(&observer.seats(world).await, &mut evidence);
    evidence.observed_at = world.clock.now();
    evidence
}

/// Adds the seats that are still held now as holds that ended at `deadline`.
pub async fn held_after(deadline: Timestamp, world: &World, observer: &Fan, evidence: &mut Evidence) {
    let map = observer.seats(world).await;
    let held = map["seats"].as_object().unwrap().iter().filter(|(_, state)| *state == "held");
    evidence.holds.extend(held.map(|(guid, _)| LiveHold { id: format!("of seat {guid}"), expires_at: deadline, paying: false }));
    evidence.observed_at = world.clock.now();
}

/// Takes from the returners those who came in time and have stood at the door since: they stay in the called lane.
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

fn map(map: &Value, evidence: &mut Evidence) {
    let booked = map["seats"].as_object().unwrap().iter().filter(|(_, state)| *state == "booked");
    evidence.engine_booked.extend(booked.map(|(guid, _)| (PERFORMANCE.to_owned(), guid.clone())));
}

async fn open(file: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(file).read_only(true).busy_timeout(Duration::from_secs(5));
    SqlitePool::connect_with(options).await.unwrap()
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

async fn queue(world: &World, evidence: &mut Evidence) {
    let pool = open(&world.data().join("queue.db")).await;
    let journal = sqlx::query("SELECT kind, body FROM journal WHERE sale = ? ORDER BY seq").bind(SALE).fetch_all(&pool).await.unwrap();
    // Until when the holder of each number had to come, once she was called.
    let mut call_ended: Vec<(u64, Timestamp)> = Vec::new();
    // Whoever left or was inside and went has given her number up.
    let mut left: HashSet<u64> = HashSet::new();
    for row in journal {
        let (kind, body): (&str, &[u8]) = (row.get(0), row.get(1));
        match kind {
            "joins" => evidence.journal_joins.extend(joins(body)),
            "event" => {
                let (at_ms, event): (i64, Value) = serde_json::from_slice(body).unwrap();
                match event["kind"].as_str().unwrap() {
                    "called" => {
                        let upto = event["upto"].as_u64().unwrap();
                        evidence.calls.push(Called { at: at(at_ms), now_serving: upto });
                        call_ended.push((upto, event["ends_at"].as_str().unwrap().parse().unwrap()));
                    }
                    "left" | "visit_ended" => {
                        left.insert(event["number"].as_u64().unwrap());
                    }
                    _ => {}
                }
            }
            other => panic!("the journal holds a record of kind {other}"),
        }
    }
    for join in &mut evidence.journal_joins {
        join.left = left.contains(&join.number);
    }
    let entries = "SELECT number, subject, visit, entered_at, ended_at FROM entry WHERE sale = ? ORDER BY rowid";
    for row in sqlx::query(entries).bind(SALE).fetch_all(&pool).await.unwrap() {
        let number = unsigned(&row, 0);
        let entered_at = at(row.get(3));
        let had_until = call_ended.iter().find(|(upto, _)| *upto >= number).map(|(_, ends_at)| *ends_at);
        evidence.entries.push(Entry {
            number,
            subject_hash: row.get::<i64, _>(1).cast_unsigned(),
            visit: row.get(2),
            entered_at,
            ended_at: row.get::<Option<i64>, _>(4).map(at),
            returner: had_until.is_some_and(|ends_at| entered_at > ends_at),
        });
    }
    pool.close().await;
}

/// One group of joins: first number (4 bytes), how many (4), a time (8), then 8 bytes of subject hash and 4 of time
/// each, all big endian.
fn joins(body: &[u8]) -> Vec<JournalJoin> {
    let first = u64::from(u32::from_be_bytes(body[..4].try_into().unwrap()));
    let joins = body[16..].chunks_exact(12).zip(first..);
    joins
        .map(|(join, number)| JournalJoin { subject_hash: u64::from_be_bytes(join[..8].try_into().unwrap()), number, left: false })
        .collect()
}

async fn ledger(world: &World, evidence: &mut Evidence) {
    let pool = open(&world.data().join("ledger.db")).await;
    let mut seats: HashMap<String, Vec<String>> = HashMap::new();
    for row in sqlx::query("SELECT order_id, seat FROM order_seat").fetch_all(&pool).await.unwrap() {
        seats.entry(row.get(0)).or_default().push(row.get(1));
    }
    let mut performance_of = HashMap::new();
    for row in sqlx::query("SELECT id, performance, visit, state, amount, stuck FROM orders").fetch_all(&pool).await.unwrap() {
        let (id, performance): (String, String) = (row.get(0), row.get(1));
        let state = match row.get::<&str, _>(3) {
            "paid" => OrderState::Paid,
            "declined" | "expired" | "refunded" | "cancelled" => OrderState::Ended,
            _ if row.get::<i64, _>(5) != 0 => OrderState::Stuck,
            _ => OrderState::Open,
        };
        performance_of.insert(id.clone(), performance.clone());
        evidence.orders.push(Order {
            seats: seats.remove(&id).unwrap_or_default(),
            id,
            state,
            visit: row.get(2),
            performance,
            total: row.get(4),
        });
    }
    for row in sqlx::query("SELECT performance, seat, order_id, state FROM seat_claim").fetch_all(&pool).await.unwrap() {
        let (performance, seat): (String, String) = (row.get(0), row.get(1));
        if row.get::<&str, _>(3) == "booked" {
            evidence.ledger_booked.insert((performance.clone(), seat.clone()));
        }
        // A row is a live claim; giving a seat back deletes it.
        evidence.claims.push(Claim { performance, seat, order: row.get(2), live: true });
    }
    for row in sqlx::query("SELECT order_id, seat, withdrawn_at FROM ticket").fetch_all(&pool).await.unwrap() {
        let order: String = row.get(0);
        let performance = performance_of[&order].clone();
        evidence.tickets.push(Ticket { order, performance, seat: row.get(1), valid: row.get::<Option<i64>, _>(2).is_none() });
    }
    pool.close().await;
}

async fn gateway(world: &World, evidence: &mut Evidence) {
    let pool = open(&world.data().join("gateway.db")).await;
    for row in sqlx::query("SELECT key, state, body FROM payment").fetch_all(&pool).await.unwrap() {
        let (key, state, body): (&str, &str, &str) = (row.get(0), row.get(1), row.get(2));
        let body: Value = serde_json::from_str(body).unwrap();
        let amount = body["amount"]["amount"].as_i64().unwrap_or(0);
        let when = |states: &[&str]| if states.contains(&state) { amount } else { 0 };
        evidence.payments.push(Payment {
            // The key that the house gives a payment: the order, a colon, a fence.
            order: key.split(':').next().unwrap().to_owned(),
            captured: when(&["captured", "refunded"]),
            refunded: when(&["refunded"]),
            reserved: when(&["authorised"]),
        });
    }
    pool.close().await;
}

fn unsigned(row: &SqliteRow, column: usize) -> u64 {
    u64::try_from(row.get::<i64, _>(column)).unwrap()
}
