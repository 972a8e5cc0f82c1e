//! Inside: choosing seats, holding them, paying.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};
use serde_json::json;

use crate::demo::{
    client::{
        api::{Ask, NoAnswer},
        http1::{Hold, Order, Problem, Tickets, kind_of},
    },
    crowd::{
        fan::{Ending, Fan, PASS, SESSION, Temper},
        report::Ordered,
        shared::Venue,
    },
};

/// The sandbox gateway's test cards.
const CARDS: [(&str, u32); 5] = [
    ("tok_ok", 90),
    ("tok_declined", 4),
    ("tok_slow", 3),
    ("tok_timeout_after_success", 2),
    ("tok_error", 1),
];

/// Tries at seats before she gives up, and at cards.
const HOLD_TRIES_MAX: u32 = 12;
const CARD_TRIES_MAX: u32 = 3;

/// A performance and the seats that were got there.
enum Got {
    Hold(Hold),
    SoldOut,
    Nothing,
}

impl Fan {
    /// Chooses, holds, pays.
    pub(crate) async fn buy(&mut self, temper: Temper) -> Result<Ending, NoAnswer> {
        let shared = Arc::clone(&self.shared);
        let venues = shared.venues(&self.dice).await?;
        if venues.is_empty() {
            return Err(shared.unreadable("a sale without performances"));
        }
        let favourite = self.dice.below(venues.len());
        let mut sold_out = 0;
        for n in 0..venues.len() {
            let venue = &venues[(favourite + n) % venues.len()];
            self.linger(Duration::from_secs(12)).await?;
            match self.get_seats(venue).await? {
                Got::Hold(_) if temper == Temper::WalksAway => return Ok(Ending::WalkedAway),
                Got::Hold(hold) => return self.pay(venue, hold).await,
                Got::SoldOut => sold_out += 1,
                Got::Nothing => {}
            }
        }
        Ok(if sold_out == venues.len() {
            Ending::SoldOut
        } else {
            Ending::NothingSuitable
        })
    }

    /// Tries for seats until she has some: others are fast too.
    async fn get_seats(&mut self, venue: &Venue) -> Result<Got, NoAnswer> {
        let house = self.shared.house(venue, &self.dice).await?;
        let mut quantity = self.dice.weighted(&[(1, 25), (2, 45), (3, 10), (4, 20)]);
        let mut zone =
            (!house.zones.is_empty() && self.dice.chance(0.7)).then(|| self.dice.below(house.zones.len()));
        let on_the_map = self.dice.chance(0.4);
        let mut offered: Option<Vec<String>> = None;
        for _ in 0..HOLD_TRIES_MAX {
            self.keep_pass().await?;
            let wish = match offered.take() {
                Some(seats) => json!({"seats": seats}),
                None if on_the_map => {
                    let proofs = self.proofs.clone();
                    let free = self.shared.seats(venue, &proofs, &self.dice).await?;
                    let Some(seats) = house.side_by_side(&free, quantity, zone, &self.dice) else {
                        if quantity == 1 {
                            return Ok(Got::SoldOut);
                        }
                        quantity -= 1;
                        continue;
                    };
                    self.linger(Duration::from_secs(6)).await?;
                    json!({"seats": seats.into_iter().map(|s| house.guid(s)).collect::<Vec<_>>()})
                }
                None => json!({"best_available": {
                    "quantity": quantity, "zone": zone.map(|z| &house.zones[z]), "section": null, "accessible": 0
                }}),
            };
            let ask = Ask::new(
                "hold",
                Method::POST,
                self.shared
                    .api
                    .sale_path(&format!("performances/{}/holds", venue.id)),
            )
            .with("idempotency-key", &self.dice.key())
            .json(wish);
            let answer = self.send(ask, &[SESSION, PASS]).await?;
            match (answer.status, kind_of(&answer).as_str()) {
                (StatusCode::CREATED, _) => {
                    self.shared.notebook.held();
                    return Ok(Got::Hold(self.read("hold", &answer)?));
                }
                (StatusCode::CONFLICT, "seats-taken") => {
                    self.shared.notebook.conflict();
                    let problem: Problem = self.read("hold", &answer)?;
                    offered = problem
                        .alternatives
                        .into_iter()
                        .next()
                        .filter(|_| self.dice.chance(0.6));
                    self.linger(Duration::from_secs(2)).await?;
                }
                (StatusCode::CONFLICT, "limit-reached") if quantity > 1 => quantity -= 1,
                (StatusCode::CONFLICT, "limit-reached") => return Ok(Got::Nothing),
                // Nothing of this kind is left: she asks for less, first of the zone, then of the number.
                (StatusCode::CONFLICT, _) if zone.is_some() => zone = None,
                (StatusCode::CONFLICT, _) if quantity > 1 => quantity -= 1,
                (StatusCode::CONFLICT, _) => return Ok(Got::SoldOut),
                _ => return Err(self.refusal("hold", &answer)),
            }
        }
        Ok(Got::Nothing)
    }

    async fn pay(&mut self, venue: &Venue, mut hold: Hold) -> Result<Ending, NoAnswer> {
        self.linger(Duration::from_secs(20)).await?;
        let mut card = self.dice.weighted(&CARDS);
        for _ in 0..CARD_TRIES_MAX {
            self.keep_pass().await?;
            // A crowd that comes again with the same seed has the same keys in mind, but never the same hold.
            let ask = Ask::new("order", Method::POST, "/v1/orders".into())
                .with("idempotency-key", &format!("{}:{}", hold.id, self.dice.key()))
                .json(json!({"hold": hold.id, "payment": {"method": "card", "token": card}}))
                .slow();
            let answer = self.send(ask, &[SESSION, PASS]).await?;
            let state = match answer.status {
                StatusCode::CREATED | StatusCode::ACCEPTED => {
                    let order: Order = self.read("order", &answer)?;
                    self.outcome(order).await?
                }
                StatusCode::PAYMENT_REQUIRED => {
                    let problem: Problem = self.read("order", &answer)?;
                    match problem.order {
                        Some(order) => self.outcome(order).await?,
                        None => "declined".into(),
                    }
                }
                StatusCode::CONFLICT if kind_of(&answer) == "limit-reached" => {
                    return Ok(Ending::NothingSuitable);
                }
                StatusCode::CONFLICT => {
                    self.shared.notebook.conflict();
                    match self.get_seats(venue).await? {
                        Got::Hold(another) => hold = another,
                        Got::SoldOut => return Ok(Ending::SoldOut),
                        Got::Nothing => return Ok(Ending::NothingSuitable),
                    }
                    continue;
                }
                _ => return Err(self.refusal("order", &answer)),
            };
            match state.as_str() {
                "paid" => return Ok(Ending::HasTickets),
                "declined" => {
                    card = "tok_ok";
                    self.linger(Duration::from_secs(8)).await?;
                }
                _ => break,
            }
        }
        Ok(Ending::CardsRefused)
    }

    /// Follows an order until it has an outcome, and fetches the tickets of a paid one.
    async fn outcome(&mut self, mut order: Order) -> Result<String, NoAnswer> {
        let patience = self.shared.api.monotonic() + Duration::from_mins(2);
        loop {
            self.shared.notebook.ordered(Ordered {
                customer: self.customer,
                id: order.id.clone(),
                state: order.state.clone(),
                seats: order.seats.clone(),
                total: order.total,
            });
            match order.state.as_str() {
                "in_progress" if self.shared.api.monotonic() < patience => {}
                "paid" => break,
                _ => return Ok(order.state),
            }
            tokio::time::sleep(Duration::from_secs(1) + self.dice.up_to(Duration::from_secs(1))).await;
            let answer = self
                .send(
                    Ask::new("order look-up", Method::GET, format!("/v1/orders/{}", order.id)),
                    &[SESSION],
                )
                .await?;
            if answer.status != StatusCode::OK {
                return Err(self.refusal("order look-up", &answer));
            }
            order = self.read("order look-up", &answer)?;
        }
        let answer = self
            .send(
                Ask::new("tickets", Method::GET, format!("/v1/orders/{}/tickets", order.id)),
                &[SESSION],
            )
            .await?;
        if answer.status != StatusCode::OK {
            return Err(self.refusal("tickets", &answer));
        }
        let tickets: Tickets = self.read("tickets", &answer)?;
        self.shared
            .notebook
            .tickets(u32::try_from(tickets.tickets.len()).unwrap_or(u32::MAX));
        Ok(order.state)
    }

    /// A human pause behind the door, where the pass must not run out meanwhile.
    async fn linger(&mut self, median: Duration) -> Result<(), NoAnswer> {
        let mut rest = self.median(median);
        while !rest.is_zero() {
            let step = rest.min(Duration::from_secs(30));
            tokio::time::sleep(step).await;
            rest -= step;
            self.keep_pass().await?;
        }
        Ok(())
    }
}
