//! A fan who has been called: she comes, chooses, holds, pays, and goes.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde::Deserialize;
use serde_json::json;
use stagedoor::{
    demo::crowd::{Dice, Entered, Ordered, Refused},
    kernel::Money,
};

use crate::{
    book::{Became, Step, became},
    crowd::{Crowd, Session, is},
    wire::{Ask, Reply},
};

/// Who is called.
pub struct Called {
    pub fan: u32,
    pub number: u64,
    pub token: Box<str>,
    pub session: Session,
}

pub struct Visitor {
    crowd: Arc<Crowd>,
    dice: Dice,
    who: Called,
    pass: String,
    pass_from: Duration,
}

/// She got no answer that she could go on with; it is in the book.
pub struct Gone;

/// The sandbox gateway's test cards.
const CARDS: [(&str, u32); 5] = [
    ("tok_ok", 93),
    ("tok_declined", 4),
    ("tok_slow", 1),
    ("tok_timeout_after_success", 1),
    ("tok_error", 1),
];
const CARD_TRIES_MAX: u32 = 3;
const HOLD_TRIES_MAX: u32 = 12;
const NEEDS_A_WHEELCHAIR_PLACE: f64 = 0.02;
/// How long one wish is pursued while the house asks to wait.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often a page looks at the board when its turn may come.
const LOOKS_EVERY: Duration = Duration::from_secs(2);
/// A pass lives two minutes; the page renews it in the second.
const RENEW_AFTER: Duration = Duration::from_mins(1);

#[derive(Deserialize)]
struct PassGiven {
    pass: String,
}

#[derive(Deserialize)]
struct Refusal {
    place: Option<PlaceNow>,
}

#[derive(Deserialize)]
struct PlaceNow {
    state: String,
    poll_after_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Hold {
    id: String,
}

#[derive(Deserialize)]
struct Order {
    id: String,
    state: String,
    #[serde(default)]
    seats: Vec<String>,
    #[serde(default)]
    total: Option<Money>,
}

#[derive(Deserialize)]
struct Declined {
    order: Option<Order>,
}

#[derive(Deserialize)]
struct Tickets {
    tickets: Vec<serde_json::Value>,
}

enum Got {
    Hold(Hold),
    /// Nothing at all is left.
    SoldOut,
    Nothing,
}

impl Visitor {
    pub fn new(crowd: Arc<Crowd>, dice: Dice, who: Called) -> Self {
        Self {
            crowd,
            dice,
            who,
            pass: String::new(),
            pass_from: Duration::ZERO,
        }
    }

    /// Her visit, and how it ended.
    pub async fn live(mut self) {
        // One reader sees the board for all, but each page looks at it at a moment of its own.
        tokio::time::sleep(self.dice.up_to(LOOKS_EVERY)).await;
        // Some are late: they come when others have been called meanwhile.
        let pause = if self.dice.chance(0.03) {
            Duration::from_mins(1)
        } else {
            Duration::from_secs(4)
        };
        self.think(pause).await;
        let ending = match self.enter().await {
            Ok(true) => {
                let ending = self.buy().await;
                // Whatever happened inside, the next fan is glad of the slot.
                if !matches!(ending, Ok("walked away from a hold")) {
                    self.leave().await;
                }
                ending
            }
            Ok(false) => Ok("sold out"),
            Err(gone) => Err(gone),
        };
        self.crowd.told.ended(ending.unwrap_or("not served"));
        self.crowd.inside.fetch_sub(1, Ordering::Relaxed);
    }

    /// Stands at the door until she is let in; `false`: nobody is let in any more.
    pub async fn enter(&mut self) -> Result<bool, Gone> {
        loop {
            let asked_at = self.crowd.wall();
            let reply = self
                .ask(Step::Enter, "POST", &self.crowd.path("admission"), &[], None)
                .await?;
            if reply.is_ok() {
                let at = self.crowd.wall();
                self.crowd.told.entered(Entered {
                    customer: self.who.fan,
                    number: Some(self.who.number),
                    asked_at,
                    at,
                });
                self.crowd
                    .book
                    .second(self.crowd.now(), |second| second.entries += 1);
                self.take_pass(&reply)?;
                return Ok(true);
            }
            if reply.status != 409 || is(&reply, "visit-ended") {
                return Err(self.unexpected(Step::Enter, &reply));
            }
            if is(&reply, "closed") || self.crowd.seen().is_over() {
                return Ok(false);
            }
            let place = reply.json::<Refusal>().and_then(|it| it.place);
            if is(&reply, "full-for-a-moment") {
                let returner = place.as_ref().is_some_and(|it| it.state == "passed_over");
                self.crowd.told.refused(Refused {
                    number: self.who.number,
                    asked_at,
                    answered_at: self.crowd.wall(),
                    returner,
                });
            }
            let pause = place
                .and_then(|it| it.poll_after_ms)
                .unwrap_or(1_000)
                .clamp(100, 10_000);
            tokio::time::sleep(Duration::from_millis(pause).mul_f64(0.9 + 0.2 * self.dice.unit())).await;
        }
    }

    async fn buy(&mut self) -> Result<&'static str, Gone> {
        self.linger(Duration::from_secs(12)).await?;
        match self.get_seats().await? {
            Got::Hold(_) if self.dice.chance(self.crowd.config.walk_away) => Ok("walked away from a hold"),
            Got::Hold(hold) => self.pay(hold).await,
            Got::SoldOut => Ok("sold out"),
            Got::Nothing => Ok("nothing suitable"),
        }
    }

    async fn get_seats(&mut self) -> Result<Got, Gone> {
        let wanted = self.dice.weighted(&[(1_u8, 20), (2, 50), (3, 10), (4, 20)]);
        let mut quantity = if self.crowd.config.singles { 1 } else { wanted };
        let mut zone = self
            .dice
            .chance(0.6)
            .then(|| self.dice.weighted(&[("VIP", 1), ("R", 1), ("S", 1), ("A", 1)]));
        // A wheelchair place is given only to whoever asks for one.
        let mut accessible = u8::from(self.dice.chance(NEEDS_A_WHEELCHAIR_PLACE));
        let path = self
            .crowd
            .path(&format!("performances/{}/holds", self.crowd.config.performance));
        for _ in 0..HOLD_TRIES_MAX {
            self.keep_pass().await?;
            let wish =
                json!({"best_available": {"quantity": quantity, "zone": zone, "section": null, "accessible": accessible}}).to_string();
            let key = self.dice.key();
            let reply = self
                .ask(
                    Step::Hold,
                    "POST",
                    &path,
                    &[("idempotency-key", &key)],
                    Some(&wish),
                )
                .await?;
            if reply.status == 201 {
                self.crowd.told.held();
                return Ok(Got::Hold(self.read(Step::Hold, &reply)?));
            }
            if reply.status != 409 && !(reply.status == 422 && zone.is_some()) {
                return Err(self.unexpected(Step::Hold, &reply));
            }
            if is(&reply, "seats-taken") {
                self.crowd.told.conflict();
                self.linger(Duration::from_secs(2)).await?;
            } else if zone.is_some() && !is(&reply, "limit-reached") {
                // Nothing of this kind is left: she asks for less, first of the zone, then of the number.
                zone = None;
            } else if quantity > 1 {
                quantity -= 1;
            } else if !is(&reply, "limit-reached") && accessible == 0 {
                // In the end, when nothing else is left, the wheelchair places go to whoever takes them: else the house
                // would stand with them free for ever, and call a fan for each of them again and again.
                accessible = 1;
            } else {
                return Ok(if is(&reply, "limit-reached") {
                    Got::Nothing
                } else {
                    Got::SoldOut
                });
            }
        }
        Ok(Got::Nothing)
    }

    async fn pay(&mut self, mut hold: Hold) -> Result<&'static str, Gone> {
        self.linger(Duration::from_secs(20)).await?;
        let mut card = if self.crowd.config.good_cards {
            CARDS[0].0
        } else {
            self.dice.weighted(&CARDS)
        };
        for _ in 0..CARD_TRIES_MAX {
            self.keep_pass().await?;
            let key = format!("{}:{}", hold.id, self.dice.key());
            let body = json!({"hold": hold.id, "payment": {"method": "card", "token": card}}).to_string();
            let reply = self
                .ask(
                    Step::Order,
                    "POST",
                    "/v1/orders",
                    &[("idempotency-key", &key)],
                    Some(&body),
                )
                .await?;
            let state = match reply.status {
                201 | 202 => self.outcome(self.read(Step::Order, &reply)?).await?,
                402 => match self.read::<Declined>(Step::Order, &reply)?.order {
                    Some(order) => self.outcome(order).await?,
                    None => "declined".to_owned(),
                },
                409 if is(&reply, "limit-reached") => return Ok("nothing suitable"),
                409 => match self.get_seats().await? {
                    Got::Hold(another) => {
                        self.crowd.told.conflict();
                        hold = another;
                        continue;
                    }
                    Got::SoldOut => return Ok("sold out"),
                    Got::Nothing => return Ok("nothing suitable"),
                },
                _ => return Err(self.unexpected(Step::Order, &reply)),
            };
            match state.as_str() {
                "paid" => return Ok("has tickets"),
                "declined" => {
                    card = "tok_ok";
                    self.linger(Duration::from_secs(8)).await?;
                }
                _ => break,
            }
        }
        Ok("cards refused")
    }

    /// Follows an order until it has an outcome, and fetches the tickets of a paid one.
    async fn outcome(&mut self, mut order: Order) -> Result<String, Gone> {
        let patience = self.crowd.now() + PATIENCE;
        loop {
            let Order {
                id,
                state,
                seats,
                total,
            } = &order;
            self.crowd.told.ordered(Ordered {
                customer: self.who.fan,
                id: id.clone(),
                state: state.clone(),
                seats: seats.clone(),
                total: *total,
            });
            match order.state.as_str() {
                "in_progress" if self.crowd.now() < patience => {}
                "paid" => break,
                _ => return Ok(order.state),
            }
            tokio::time::sleep(Duration::from_secs(1) + self.dice.up_to(Duration::from_secs(1))).await;
            let reply = self
                .ask(
                    Step::OrderLook,
                    "GET",
                    &format!("/v1/orders/{}", order.id),
                    &[],
                    None,
                )
                .await?;
            order = self.read(Step::OrderLook, &reply)?;
        }
        let reply = self
            .ask(
                Step::Tickets,
                "GET",
                &format!("/v1/orders/{}/tickets", order.id),
                &[],
                None,
            )
            .await?;
        let tickets: Tickets = self.read(Step::Tickets, &reply)?;
        let count = u32::try_from(tickets.tickets.len()).unwrap_or(u32::MAX);
        self.crowd.told.tickets(count);
        self.crowd
            .book
            .second(self.crowd.now(), |second| second.tickets += u64::from(count));
        Ok(order.state)
    }

    pub async fn leave(&mut self) {
        let pass = self.pass.clone();
        // A slot that is not given back comes back by itself.
        let _ = self
            .ask(
                Step::EndVisit,
                "DELETE",
                &self.crowd.path("admission"),
                &[("admission-pass", &pass)],
                None,
            )
            .await;
    }

    /// The seat map, `guid -> state`.
    pub async fn seats(&mut self, performance: &str) -> Result<Reply, Gone> {
        self.keep_pass().await?;
        self.ask(
            Step::Seats,
            "GET",
            &self.crowd.path(&format!("performances/{performance}/seats")),
            &[],
            None,
        )
        .await
    }

    /// Renews the pass in its last minute.
    pub async fn keep_pass(&mut self) -> Result<(), Gone> {
        if self.crowd.now().saturating_sub(self.pass_from) < RENEW_AFTER {
            return Ok(());
        }
        let reply = self
            .ask(Step::Renew, "PUT", &self.crowd.path("admission"), &[], None)
            .await?;
        if reply.is_ok() {
            self.take_pass(&reply)
        } else {
            Err(self.unexpected(Step::Renew, &reply))
        }
    }

    fn take_pass(&mut self, reply: &Reply) -> Result<(), Gone> {
        let given: PassGiven = self.read(Step::Enter, reply)?;
        (self.pass, self.pass_from) = (given.pass, self.crowd.now());
        Ok(())
    }

    /// Asks until there is an answer that is not "come again"; each try counts from when it was due.
    async fn ask(
        &self,
        step: Step,
        method: &'static str,
        path: &str,
        more: &[(&'static str, &str)],
        body: Option<&str>,
    ) -> Result<Reply, Gone> {
        let began = self.crowd.now();
        let mut due = began;
        for tries in 0_u32.. {
            let mut headers = vec![("queue-token", &*self.who.token)];
            if !self.who.session.is_empty() {
                headers.push(("authorization", &*self.who.session));
            }
            if !self.pass.is_empty() {
                headers.push(("admission-pass", &self.pass));
            }
            headers.retain(|(name, _)| !more.iter().any(|(own, _)| own == name));
            headers.extend(more);
            let outcome = self
                .crowd
                .call(
                    step,
                    due,
                    &Ask {
                        method,
                        path,
                        headers: &headers,
                        body,
                    },
                )
                .await;
            let pause = match &outcome {
                Ok(reply) if became(&outcome) == Became::Refused => {
                    let told = reply.retry_after.unwrap_or(Duration::from_secs(1));
                    told + self.dice.up_to(told)
                }
                Ok(reply) if reply.status < 500 => return outcome.map_err(|_| Gone),
                _ => self.dice.up_to(Duration::from_millis(200 << tries.min(5))),
            };
            due = self.crowd.now() + pause;
            if due.saturating_sub(began) > PATIENCE
                || (matches!(outcome, Err(_) | Ok(Reply { status: 500.., .. }))
                    && tries >= 5
                    && became(&outcome) == Became::Failed)
            {
                return Err(Gone);
            }
            tokio::time::sleep(pause).await;
        }
        Err(Gone)
    }

    fn read<T: serde::de::DeserializeOwned>(&self, step: Step, reply: &Reply) -> Result<T, Gone> {
        reply.json().ok_or_else(|| self.unexpected(step, reply))
    }

    /// An answer that a fan who does nothing wrong should not get.
    fn unexpected(&self, step: Step, reply: &Reply) -> Gone {
        let body = String::from_utf8_lossy(&reply.body);
        let kind = body
            .split("/problems/")
            .nth(1)
            .and_then(|it| it.split('"').next())
            .unwrap_or("")
            .to_owned();
        self.crowd
            .book
            .error(&format!("{}: unexpected {} {kind}", step.name(), reply.status));
        Gone
    }

    async fn think(&self, median: Duration) {
        tokio::time::sleep(self.dice.pause(median.mul_f64(self.crowd.config.pace))).await;
    }

    /// A human pause behind the door, where the pass must not run out meanwhile.
    async fn linger(&mut self, median: Duration) -> Result<(), Gone> {
        let mut rest = self.dice.pause(median.mul_f64(self.crowd.config.pace));
        while !rest.is_zero() {
            let step = rest.min(Duration::from_secs(20));
            tokio::time::sleep(step).await;
            rest -= step;
            self.keep_pass().await?;
        }
        Ok(())
    }
}
