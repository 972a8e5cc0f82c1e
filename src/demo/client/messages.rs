//! The JSON bodies of the public contract, as far as a client reads and writes them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::kernel::{Money, Timestamp};

/// A session, from signing in.
#[derive(Deserialize)]
pub struct SessionGranted {
    /// The bearer token.
    pub token: String,
}

/// A queue entry, from joining or from asking for its position.
#[derive(Deserialize)]
pub struct QueueEntry {
    /// The queue token; only from joining.
    #[serde(default)]
    pub token: Option<Box<str>>,
    /// Such as `waiting`, `called`, `missed`.
    #[serde(default)]
    pub state: String,
    /// `None` before the draw.
    #[serde(default)]
    pub number: Option<u64>,
    /// When to ask again, in milliseconds.
    #[serde(default)]
    pub poll_after_ms: Option<u64>,
}

/// The public queue status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct QueueStatus {
    /// Such as `prequeue`, `on_sale`, `sold_out`.
    pub phase: String,
    /// When it was made, by the server's clock.
    #[serde(default)]
    pub generated_at: Timestamp,
    /// The highest number that has been called.
    #[serde(default)]
    pub now_serving: u64,
    /// The highest number that was assigned.
    #[serde(default)]
    pub numbers_issued: u64,
    /// Waits in seconds: numbers before one's own; 10th, 50th and 90th percentile.
    #[serde(default)]
    pub estimate: Vec<[u32; 4]>,
    /// Distances up to which a seat is left with a chance of 80, 50 and 20 %; `None` where all have one.
    #[serde(default)]
    pub available_to_distance: Option<[Option<u64>; 3]>,
    /// Visitors who wait.
    #[serde(default)]
    pub waiting: u64,
    /// Admitted visits.
    #[serde(default)]
    pub active_visits: u64,
    /// Seats by price zone.
    #[serde(default)]
    pub zones: Vec<ZoneSeats>,
}

/// Seats of one price zone by state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ZoneSeats {
    /// Seats that can be held.
    pub free: u64,
    /// Seats in holds.
    pub held: u64,
    /// Sold seats.
    pub booked: u64,
}

impl QueueStatus {
    /// No more seats will be sold.
    pub fn is_over(&self) -> bool {
        matches!(self.phase.as_str(), "sold_out" | "closed")
    }

    /// The queue order is known: the draw, if there is one, is done.
    pub fn is_drawn(&self) -> bool {
        matches!(self.phase.as_str(), "on_sale" | "paused" | "sold_out" | "closed")
    }

    /// Free, held and booked seats of all zones.
    pub fn seat_totals(&self) -> ZoneSeats {
        self.zones
            .iter()
            .fold(ZoneSeats::default(), |sum, zone| ZoneSeats {
                free: sum.free + zone.free,
                held: sum.held + zone.held,
                booked: sum.booked + zone.booked,
            })
    }
}

/// The sales of a service.
#[derive(Deserialize)]
pub struct SaleList {
    /// In the order of the configuration.
    pub sales: Vec<SaleInfo>,
}

/// What a client needs to know of a sale.
#[derive(Clone, Debug, Deserialize)]
pub struct SaleInfo {
    /// The sale's identifier in paths.
    pub id: String,
    /// Such as `prequeue`, `on_sale`.
    #[serde(default)]
    pub phase: String,
    /// `none` or `customer`.
    #[serde(default)]
    pub sign_in: String,
    /// In the order of the configuration.
    pub performances: Vec<PerformanceInfo>,
}

/// What a client needs to know of a performance.
#[derive(Clone, Debug, Deserialize)]
pub struct PerformanceInfo {
    /// The performance's identifier in paths.
    pub id: String,
}

/// A problem response (RFC 9457), with the extension members that a client reads.
#[derive(Deserialize)]
pub struct ProblemDetails {
    /// A path whose last segment is the problem's name.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of a refused entry: the visitor's own entry.
    #[serde(default, rename = "position")]
    pub entry: Option<QueueEntry>,
    /// Of taken seats: other seats to try.
    #[serde(default)]
    pub alternatives: Vec<Vec<String>>,
    /// Of a declined payment.
    #[serde(default)]
    pub order: Option<Order>,
}

/// An admission pass.
#[derive(Deserialize)]
pub struct PassGranted {
    /// The signed pass.
    pub pass: String,
    /// When the pass ends unless it is renewed.
    pub expires_at: Timestamp,
}

/// A hold on seats.
#[derive(Deserialize)]
pub struct Hold {
    /// The hold's identifier.
    pub id: String,
}

/// An order.
#[derive(Clone, Debug, Deserialize)]
pub struct Order {
    /// The order's identifier.
    pub id: String,
    /// Such as `in_progress`, `paid`, `declined`.
    pub state: String,
    /// The ordered seats by GUID.
    #[serde(default)]
    pub seats: Vec<String>,
    /// The price of all seats.
    #[serde(default)]
    pub total: Option<Money>,
}

/// The tickets of a paid order.
#[derive(Deserialize)]
pub struct Tickets {
    /// One per seat.
    pub tickets: Vec<Value>,
}

/// The state of every seat.
#[derive(Deserialize)]
pub struct SeatMap {
    /// Seat GUID to `free`, `held`, `booked` or `blocked`.
    pub seats: BTreeMap<String, String>,
}

/// The body of a sign-in by hand-off.
pub fn handoff_request(token: &str) -> Value {
    json!({ "token": token })
}

/// The body of an order that pays a hold by card.
pub fn order_request(hold: &str, card: &str) -> Value {
    json!({ "hold": hold, "payment": { "method": "card", "token": card } })
}

/// The body of a hold on these seats, for customers of whom `accessible` use a wheelchair.
pub fn hold_request(seats: &[impl AsRef<str>], accessible: usize) -> Value {
    let seats: Vec<&str> = seats.iter().map(AsRef::as_ref).collect();
    json!({ "seats": seats, "accessible": accessible })
}

/// The body of a hold on the best available seats, `accessible` of them wheelchair places.
pub fn best_available_request(quantity: u8, zone: Option<&str>, accessible: u8) -> Value {
    json!({ "best_available": {
        "quantity": quantity, "zone": zone, "section": null, "accessible": accessible
    } })
}
