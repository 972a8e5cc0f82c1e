//! What an admitted fan does: choose seats on the map or by "best available", hold them, pay.

use std::{sync::Arc, time::Duration};

use super::{
    fan::{Ending, Fan, Temper},
    seat_choice::SeatingPlan,
    shared::Venue,
};
use crate::demo::client::{
    Abandoned,
    messages::Hold,
    visit::{HoldOutcome, PayOutcome, SeatChoice},
};

/// The sandbox gateway's test cards by weight.
const CARDS: [(&str, u32); 5] = [
    ("tok_ok", 90),
    ("tok_declined", 4),
    ("tok_slow", 3),
    ("tok_timeout_after_success", 2),
    ("tok_error", 1),
];

/// Attempts to hold seats before a fan gives up.
const HOLD_ATTEMPTS_MAX: u32 = 12;
/// Attempts to pay before a fan gives up.
const CARD_ATTEMPTS_MAX: u32 = 3;

/// What looking for seats came to.
enum Found {
    Hold(Hold),
    SoldOut,
    Nothing,
}

/// What a fan looks for, and how they settle for less.
struct Search {
    quantity: usize,
    zone: Option<usize>,
    /// Chooses on the seat map instead of by "best available".
    on_map: bool,
    /// Seats that the server offered in place of taken ones.
    offered: Option<Vec<String>>,
}

impl Search {
    /// Asks for less: any zone first, then fewer seats. `false` when nothing less is left to ask for.
    fn relax(&mut self) -> bool {
        if self.zone.take().is_some() {
            return true;
        }
        self.fewer()
    }

    fn fewer(&mut self) -> bool {
        if self.quantity > 1 {
            self.quantity -= 1;
            return true;
        }
        false
    }
}

impl Fan {
    /// Chooses, holds and pays, at the favorite performance first.
    pub(super) async fn buy(&mut self, temper: Temper) -> Result<Ending, Abandoned> {
        let shared = Arc::clone(self.shared());
        let venues = shared.venues(&self.visit.rng).await?;
        if venues.is_empty() {
            return Err(shared.error("a sale without performances"));
        }
        let favorite = self.visit.rng.below(venues.len());
        let mut sold_out = 0;
        for n in 0..venues.len() {
            let venue = &venues[(favorite + n) % venues.len()];
            self.visit.pause_inside(Duration::from_secs(12)).await?;
            match self.find_seats(venue).await? {
                Found::Hold(_) if temper == Temper::AbandonsHold => return Ok(Ending::AbandonedHold),
                Found::Hold(hold) => return self.pay(venue, hold).await,
                Found::SoldOut => sold_out += 1,
                Found::Nothing => {}
            }
        }
        Ok(if sold_out == venues.len() {
            Ending::SoldOut
        } else {
            Ending::NothingSuitable
        })
    }

    /// Tries until seats are held; other fans are fast too.
    async fn find_seats(&mut self, venue: &Venue) -> Result<Found, Abandoned> {
        let shared = Arc::clone(self.shared());
        let plan = shared.plan(venue, &self.visit.rng).await?;
        let rng = &self.visit.rng;
        let mut search = Search {
            quantity: rng.weighted(&[(1, 25), (2, 45), (3, 10), (4, 20)]),
            zone: (!plan.zones.is_empty() && rng.chance(0.7)).then(|| rng.below(plan.zones.len())),
            on_map: rng.chance(0.4),
            offered: None,
        };
        for _ in 0..HOLD_ATTEMPTS_MAX {
            self.visit.renew_pass_if_due().await?;
            let Some(choice) = self.choose(venue, &plan, &mut search).await? else {
                if search.fewer() {
                    continue;
                }
                return Ok(Found::SoldOut);
            };
            match self.visit.try_hold(&venue.id, &choice).await? {
                HoldOutcome::Held(hold) => return Ok(Found::Hold(hold)),
                HoldOutcome::Taken { alternatives } => {
                    search.offered = alternatives
                        .into_iter()
                        .next()
                        .filter(|_| self.visit.rng.chance(0.6));
                    self.visit.pause_inside(Duration::from_secs(2)).await?;
                }
                HoldOutcome::LimitReached if search.fewer() => {}
                HoldOutcome::LimitReached => return Ok(Found::Nothing),
                HoldOutcome::NoMatchingSeats if search.relax() => {}
                HoldOutcome::NoMatchingSeats => return Ok(Found::SoldOut),
            }
        }
        Ok(Found::Nothing)
    }

    /// The next seats to try; `None` when the map shows none side by side.
    async fn choose(
        &mut self,
        venue: &Venue,
        plan: &SeatingPlan,
        search: &mut Search,
    ) -> Result<Option<SeatChoice>, Abandoned> {
        if let Some(seats) = search.offered.take() {
            return Ok(Some(SeatChoice::Seats(seats)));
        }
        if !search.on_map {
            return Ok(Some(SeatChoice::BestAvailable {
                quantity: u8::try_from(search.quantity).unwrap_or(u8::MAX),
                zone: search.zone.map(|zone| plan.zones[zone].clone()),
                accessible: 0,
            }));
        }
        let shared = Arc::clone(self.shared());
        let free = shared.seats(venue, &self.visit).await?;
        let Some(seats) = plan.side_by_side(&free, search.quantity, search.zone, &self.visit.rng) else {
            return Ok(None);
        };
        self.visit.pause_inside(Duration::from_secs(6)).await?;
        Ok(Some(SeatChoice::Seats(
            seats.into_iter().map(|seat| plan.guid(seat).to_owned()).collect(),
        )))
    }

    async fn pay(&mut self, venue: &Venue, mut hold: Hold) -> Result<Ending, Abandoned> {
        self.visit.pause_inside(Duration::from_secs(20)).await?;
        let mut card = self.visit.rng.weighted(&CARDS);
        for _ in 0..CARD_ATTEMPTS_MAX {
            match self.visit.try_pay(&hold, card).await? {
                PayOutcome::Paid => return Ok(Ending::HasTickets),
                PayOutcome::Declined => {
                    card = "tok_ok";
                    self.visit.pause_inside(Duration::from_secs(8)).await?;
                }
                PayOutcome::LimitReached => return Ok(Ending::NothingSuitable),
                PayOutcome::HoldLost => {
                    self.shared().client.log().conflict();
                    match self.find_seats(venue).await? {
                        Found::Hold(another) => hold = another,
                        Found::SoldOut => return Ok(Ending::SoldOut),
                        Found::Nothing => return Ok(Ending::NothingSuitable),
                    }
                }
                PayOutcome::Ended => break,
            }
        }
        Ok(Ending::CardsDeclined)
    }
}
