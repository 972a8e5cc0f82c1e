//! What a called visitor does: enter, choose, hold, pay, leave.

use std::{sync::Arc, time::Duration};

use stagedoor::demo::client::{
    Abandoned, Transport,
    messages::Hold,
    visit::{HoldOutcome, PayOutcome, SeatChoice, Visit},
};

use super::state::Crowd;

/// The sandbox gateway's test cards by weight.
const CARDS: [(&str, u32); 5] = [
    ("tok_ok", 93),
    ("tok_declined", 4),
    ("tok_slow", 1),
    ("tok_timeout_after_success", 1),
    ("tok_error", 1),
];
const CARD_ATTEMPTS_MAX: u32 = 3;
const HOLD_ATTEMPTS_MAX: u32 = 12;
/// The share of visitors who need a wheelchair place.
const WHEELCHAIR_SHARE: f64 = 0.02;
/// The share of visitors who come a minute after their call.
const LATE_SHARE: f64 = 0.03;
/// How often a page polls the status when its turn may come.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
const ABANDONED_HOLD: &str = "abandoned a hold";

/// What looking for seats came to.
enum Found {
    Hold(Hold),
    SoldOut,
    Nothing,
}

/// Plays a visit from the call to the end and records how it ended.
pub(super) async fn run(mut visit: Visit<Arc<Crowd>>) {
    // One reader polls the status for all, but each page would see it at a moment of its own.
    tokio::time::sleep(visit.rng.jitter(POLL_INTERVAL)).await;
    let is_late = visit.rng.chance(LATE_SHARE);
    let median = if is_late {
        Duration::from_mins(1)
    } else {
        Duration::from_secs(4)
    };
    let pace = visit.transport.config.pace;
    tokio::time::sleep(visit.rng.pause(median.mul_f64(pace))).await;
    let ending = match visit.enter().await {
        Ok(true) => {
            let ending = buy(&mut visit).await;
            // Only a visitor who closes the browser leaves the visit to expire.
            if !matches!(ending, Ok(ABANDONED_HOLD)) {
                visit.end().await;
            }
            ending
        }
        Ok(false) => Ok("sold out"),
        Err(abandoned) => Err(abandoned),
    };
    visit.transport.log.ended(ending.unwrap_or("not served"));
}

async fn buy(visit: &mut Visit<Arc<Crowd>>) -> Result<&'static str, Abandoned> {
    visit.pause_inside(Duration::from_secs(12)).await?;
    let abandon_hold = visit.transport.config.abandon_hold;
    match find_seats(visit).await? {
        Found::Hold(_) if visit.rng.chance(abandon_hold) => Ok(ABANDONED_HOLD),
        Found::Hold(hold) => pay(visit, hold).await,
        Found::SoldOut => Ok("sold out"),
        Found::Nothing => Ok("nothing suitable"),
    }
}

async fn find_seats(visit: &mut Visit<Arc<Crowd>>) -> Result<Found, Abandoned> {
    let crowd = Arc::clone(&visit.transport);
    let wanted = visit.rng.weighted(&[(1_u8, 20), (2, 50), (3, 10), (4, 20)]);
    let mut quantity = if crowd.config.single_seats { 1 } else { wanted };
    let zones = [("VIP", 1), ("R", 1), ("S", 1), ("A", 1)];
    let mut zone = visit.rng.chance(0.6).then(|| visit.rng.weighted(&zones));
    // Wheelchair places are given only to those who ask for one.
    let mut accessible = u8::from(visit.rng.chance(WHEELCHAIR_SHARE));
    for _ in 0..HOLD_ATTEMPTS_MAX {
        let choice = SeatChoice::BestAvailable {
            quantity,
            zone: zone.map(str::to_owned),
            accessible,
        };
        match visit.try_hold(&crowd.config.performance, &choice).await? {
            HoldOutcome::Held(hold) => return Ok(Found::Hold(hold)),
            HoldOutcome::Taken { .. } => visit.pause_inside(Duration::from_secs(2)).await?,
            HoldOutcome::LimitReached if quantity > 1 => quantity -= 1,
            HoldOutcome::LimitReached => return Ok(Found::Nothing),
            // Asks for less: any zone first, then fewer seats.
            HoldOutcome::NoMatchingSeats if zone.is_some() => zone = None,
            HoldOutcome::NoMatchingSeats if quantity > 1 => quantity -= 1,
            // At the end the wheelchair places go to anyone. Otherwise the sale would never sell out, and one
            // visitor after the other would be called for seats that stay untaken.
            HoldOutcome::NoMatchingSeats if accessible == 0 => accessible = 1,
            HoldOutcome::NoMatchingSeats => return Ok(Found::SoldOut),
        }
    }
    Ok(Found::Nothing)
}

async fn pay(visit: &mut Visit<Arc<Crowd>>, mut hold: Hold) -> Result<&'static str, Abandoned> {
    visit.pause_inside(Duration::from_secs(20)).await?;
    let good_cards = visit.transport.config.good_cards;
    let mut card = if good_cards {
        "tok_ok"
    } else {
        visit.rng.weighted(&CARDS)
    };
    for _ in 0..CARD_ATTEMPTS_MAX {
        match visit.try_pay(&hold, card).await? {
            PayOutcome::Paid => return Ok("has tickets"),
            PayOutcome::Declined => {
                card = "tok_ok";
                visit.pause_inside(Duration::from_secs(8)).await?;
            }
            PayOutcome::LimitReached => return Ok("nothing suitable"),
            PayOutcome::HoldLost => match find_seats(visit).await? {
                Found::Hold(another) => {
                    visit.transport.observations().conflict();
                    hold = another;
                }
                Found::SoldOut => return Ok("sold out"),
                Found::Nothing => return Ok("nothing suitable"),
            },
            PayOutcome::Ended => break,
        }
    }
    Ok("cards declined")
}
