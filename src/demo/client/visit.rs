//! A visit, from the call to the end: enter, hold seats, pay, follow the order, leave.
//!
//! The steps are shared; what a visitor wants is decided by the caller. See `demo/crowd/buyer.rs` and the
//! load test's `visitor.rs`.

use std::time::Duration;

use super::{
    call::{Abandoned, Call, Reply, Request, Transport},
    credentials::Credentials,
    messages::{
        self, Hold, Order, PassGranted, ProblemDetails, SeatMap, Tickets, best_available_request,
        hold_request,
    },
    observations::{ObservedEntry, ObservedOrder, ObservedRefusal},
    paths,
    rng::VisitorRng,
};
use crate::kernel::Timestamp;

/// The pass is renewed when less than this is left, as the page does.
const RENEW_BEFORE: Duration = Duration::from_mins(1);
/// Longer than this no visitor waits for an order's outcome.
const ORDER_TIMEOUT: Duration = Duration::from_mins(2);
/// A pause inside a visit is cut into steps of this length, so that the pass is renewed in between.
const PAUSE_STEP: Duration = Duration::from_secs(20);

/// One visitor and what they hold.
pub struct Visit<T> {
    /// Carries the calls.
    pub transport: T,
    /// Decides what the contract leaves to the visitor.
    pub rng: VisitorRng,
    /// The crowd's customer number.
    pub customer: u32,
    /// The sale's identifier.
    pub sale: String,
    /// The queue number, once known.
    pub number: Option<u64>,
    /// The visitor's proofs.
    pub credentials: Credentials,
    pass_expires_at: Timestamp,
}

/// Which seats a hold asks for.
pub enum SeatChoice {
    /// These seats by GUID.
    Seats(Vec<String>),
    /// The best available seats.
    BestAvailable {
        /// How many, side by side where possible.
        quantity: u8,
        /// The price zone; any when `None`.
        zone: Option<String>,
        /// How many of them are wheelchair places.
        accessible: u8,
    },
}

impl SeatChoice {
    fn body(&self) -> serde_json::Value {
        match self {
            // Of those who pick wheelchair places by hand, each uses one.
            Self::Seats(seats) => hold_request(seats, seats.len()),
            Self::BestAvailable {
                quantity,
                zone,
                accessible,
            } => best_available_request(*quantity, zone.as_deref(), *accessible),
        }
    }
}

/// The answer to an attempt to hold seats.
pub enum HoldOutcome {
    /// All seats are held.
    Held(Hold),
    /// Another visitor was faster; `alternatives` are other seats to try.
    Taken {
        /// Groups of seats by GUID.
        alternatives: Vec<Vec<String>>,
    },
    /// The customer has as many seats as the sale allows.
    LimitReached,
    /// No seats of this kind are left.
    NoMatchingSeats,
}

/// The outcome of an attempt to pay.
pub enum PayOutcome {
    /// Paid; the tickets were delivered.
    Paid,
    /// The card was declined; another one may be tried.
    Declined,
    /// The hold has expired.
    HoldLost,
    /// The customer has as many seats as the sale allows.
    LimitReached,
    /// The order ended in another state.
    Ended,
}

/// The answer to a request for admission.
enum EntryAnswer {
    Admitted,
    Over,
    RetryIn(Duration),
}

impl<T: Transport> Visit<T> {
    /// A visitor without any proof.
    pub fn new(transport: T, rng: VisitorRng, customer: u32, sale: String) -> Self {
        Self {
            transport,
            rng,
            customer,
            sale,
            number: None,
            credentials: Credentials::default(),
            pass_expires_at: Timestamp::default(),
        }
    }

    /// Sends a request with the visitor's proofs.
    ///
    /// # Errors
    /// [`Abandoned`] without an answer.
    pub async fn send(&self, request: Request) -> Result<Reply, Abandoned> {
        self.transport
            .send(&self.rng, self.credentials.sign(request))
            .await
    }

    /// Reads a reply's body; one of another form is an error.
    ///
    /// # Errors
    /// [`Abandoned`]; the error is recorded.
    pub fn read<M: serde::de::DeserializeOwned>(&self, call: Call, reply: &Reply) -> Result<M, Abandoned> {
        reply
            .json()
            .ok_or_else(|| self.transport.error(&format!("{}: unreadable", call.name())))
    }

    /// Records an answer that a visitor who does nothing wrong should not get.
    pub fn unexpected(&self, call: Call, reply: &Reply) -> Abandoned {
        let text = format!("{}: unexpected {} {}", call.name(), reply.status, reply.problem());
        self.transport.error(&text)
    }

    /// Asks for admission until it is granted; `false` when the sale is over.
    ///
    /// # Errors
    /// [`Abandoned`].
    pub async fn enter(&mut self) -> Result<bool, Abandoned> {
        loop {
            let asked_at = self.transport.now();
            let reply = self
                .send(Request::new(Call::Enter, "POST", paths::admission(&self.sale)))
                .await?;
            match self.entry_answer(asked_at, &reply)? {
                EntryAnswer::Admitted => return Ok(true),
                EntryAnswer::Over => return Ok(false),
                EntryAnswer::RetryIn(pause) => {
                    tokio::time::sleep(pause.mul_f64(0.9 + 0.2 * self.rng.unit())).await;
                }
            }
        }
    }

    fn entry_answer(&mut self, asked_at: Timestamp, reply: &Reply) -> Result<EntryAnswer, Abandoned> {
        if reply.is_ok() {
            self.transport.observations().entered(ObservedEntry {
                customer: self.customer,
                number: self.number,
                asked_at,
                at: self.transport.now(),
            });
            self.transport.count_entry();
            self.accept_pass(reply)?;
            return Ok(EntryAnswer::Admitted);
        }
        let problem = reply.problem();
        if reply.status != 409 || problem == "visit-ended" {
            return Err(self.unexpected(Call::Enter, reply));
        }
        if problem == "closed" || self.transport.is_over() {
            return Ok(EntryAnswer::Over);
        }
        let entry = self.read::<ProblemDetails>(Call::Enter, reply)?.entry;
        if problem == "at-capacity"
            && let Some(number) = self.number
        {
            self.transport.observations().refused(ObservedRefusal {
                number,
                asked_at,
                answered_at: self.transport.now(),
                late_arrival: entry.as_ref().is_some_and(|entry| entry.state == "missed"),
            });
        }
        let pause = entry
            .and_then(|entry| entry.poll_after_ms)
            .map(Duration::from_millis);
        let pause = pause.or(reply.retry_after).unwrap_or(Duration::from_secs(1));
        Ok(EntryAnswer::RetryIn(
            pause.clamp(Duration::from_millis(100), Duration::from_secs(10)),
        ))
    }

    fn accept_pass(&mut self, reply: &Reply) -> Result<(), Abandoned> {
        let granted: PassGranted = self.read(Call::Enter, reply)?;
        self.credentials.admission_pass = granted.pass.into();
        self.pass_expires_at = granted.expires_at;
        Ok(())
    }

    /// Renews the pass in its last minute.
    ///
    /// # Errors
    /// [`Abandoned`] when it cannot be renewed.
    pub async fn renew_pass_if_due(&mut self) -> Result<(), Abandoned> {
        if self.pass_expires_at.since(self.transport.now()) > RENEW_BEFORE {
            return Ok(());
        }
        let reply = self
            .send(Request::new(Call::RenewPass, "PUT", paths::admission(&self.sale)))
            .await?;
        if reply.is_ok() {
            self.accept_pass(&reply)
        } else {
            Err(self.unexpected(Call::RenewPass, &reply))
        }
    }

    /// A human pause around `median` during which the pass is kept alive.
    ///
    /// # Errors
    /// [`Abandoned`] when the pass cannot be renewed.
    pub async fn pause_inside(&mut self, median: Duration) -> Result<(), Abandoned> {
        let mut rest = self.transport.pause(&self.rng, median);
        while !rest.is_zero() {
            let step = rest.min(PAUSE_STEP);
            tokio::time::sleep(step).await;
            rest -= step;
            self.renew_pass_if_due().await?;
        }
        Ok(())
    }

    /// A human pause around `median` outside a visit.
    pub async fn pause(&self, median: Duration) {
        tokio::time::sleep(self.transport.pause(&self.rng, median)).await;
    }

    /// Tries once to hold seats.
    ///
    /// # Errors
    /// [`Abandoned`].
    pub async fn try_hold(
        &mut self,
        performance: &str,
        choice: &SeatChoice,
    ) -> Result<HoldOutcome, Abandoned> {
        self.renew_pass_if_due().await?;
        let request = Request::new(Call::Hold, "POST", paths::holds(&self.sale, performance))
            .header(paths::IDEMPOTENCY_KEY, self.rng.idempotency_key())
            .json(&choice.body());
        let reply = self.send(request).await?;
        if reply.status == 201 {
            self.transport.observations().held();
            return Ok(HoldOutcome::Held(self.read(Call::Hold, &reply)?));
        }
        // A zone that the plan does not have is 422; it is as good as a zone without free seats.
        let asks_for_zone = matches!(choice, SeatChoice::BestAvailable { zone: Some(_), .. });
        match (reply.status, reply.problem().as_str()) {
            (409, "seats-taken") => {
                self.transport.observations().conflict();
                let alternatives = self.read::<ProblemDetails>(Call::Hold, &reply)?.alternatives;
                Ok(HoldOutcome::Taken { alternatives })
            }
            (409, "limit-reached") => Ok(HoldOutcome::LimitReached),
            (409, _) => Ok(HoldOutcome::NoMatchingSeats),
            (422, _) if asks_for_zone => Ok(HoldOutcome::NoMatchingSeats),
            _ => Err(self.unexpected(Call::Hold, &reply)),
        }
    }

    /// Orders the seats of a hold, follows the order to its outcome, and fetches the tickets of a paid one.
    ///
    /// # Errors
    /// [`Abandoned`].
    pub async fn try_pay(&mut self, hold: &Hold, card: &str) -> Result<PayOutcome, Abandoned> {
        self.renew_pass_if_due().await?;
        // The hold's id keeps the key unique when a crowd comes again with the same seed.
        let key = format!("{}:{}", hold.id, self.rng.idempotency_key());
        let request = Request::new(Call::Order, "POST", paths::ORDERS.to_owned())
            .header(paths::IDEMPOTENCY_KEY, key)
            .json(&messages::order_request(&hold.id, card));
        let reply = self.send(request).await?;
        let order = match reply.status {
            201 | 202 => self.read::<Order>(Call::Order, &reply)?,
            402 => match self.read::<ProblemDetails>(Call::Order, &reply)?.order {
                Some(order) => order,
                None => return Ok(PayOutcome::Declined),
            },
            409 if reply.problem() == "limit-reached" => return Ok(PayOutcome::LimitReached),
            409 => return Ok(PayOutcome::HoldLost),
            _ => return Err(self.unexpected(Call::Order, &reply)),
        };
        match self.order_outcome(order).await?.as_str() {
            "paid" => Ok(PayOutcome::Paid),
            "declined" => Ok(PayOutcome::Declined),
            _ => Ok(PayOutcome::Ended),
        }
    }

    /// Polls an order until it has an outcome, and fetches the tickets of a paid one. The state last seen.
    async fn order_outcome(&mut self, mut order: Order) -> Result<String, Abandoned> {
        let deadline = self.transport.monotonic() + ORDER_TIMEOUT;
        loop {
            self.transport.observations().ordered(ObservedOrder {
                customer: self.customer,
                id: order.id.clone(),
                state: order.state.clone(),
                seats: order.seats.clone(),
                total: order.total,
            });
            match order.state.as_str() {
                "in_progress" if self.transport.monotonic() < deadline => {}
                "paid" => break,
                _ => return Ok(order.state),
            }
            tokio::time::sleep(Duration::from_secs(1) + self.rng.jitter(Duration::from_secs(1))).await;
            let reply = self
                .send(Request::new(Call::OrderState, "GET", paths::order(&order.id)))
                .await?;
            if !reply.is_ok() {
                return Err(self.unexpected(Call::OrderState, &reply));
            }
            order = self.read(Call::OrderState, &reply)?;
        }
        let reply = self
            .send(Request::new(
                Call::Tickets,
                "GET",
                paths::order_tickets(&order.id),
            ))
            .await?;
        if !reply.is_ok() {
            return Err(self.unexpected(Call::Tickets, &reply));
        }
        let tickets: Tickets = self.read(Call::Tickets, &reply)?;
        let count = u32::try_from(tickets.tickets.len()).unwrap_or(u32::MAX);
        self.transport.observations().tickets(count);
        self.transport.count_tickets(count);
        Ok(order.state)
    }

    /// The state of every seat.
    ///
    /// # Errors
    /// [`Abandoned`].
    pub async fn seat_map(&mut self, performance: &str) -> Result<SeatMap, Abandoned> {
        self.renew_pass_if_due().await?;
        let reply = self
            .send(Request::new(
                Call::Seats,
                "GET",
                paths::seats(&self.sale, performance),
            ))
            .await?;
        self.read(Call::Seats, &reply)
    }

    /// Ends the visit, which frees the slot for the next visitor. A failure is ignored: the slot expires by
    /// itself.
    pub async fn end(&self) {
        let _ = self
            .send(Request::new(
                Call::EndVisit,
                "DELETE",
                paths::admission(&self.sale),
            ))
            .await;
    }
}
