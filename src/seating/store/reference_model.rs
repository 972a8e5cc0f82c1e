//! A reference seat store that finds everything by walking through all it has: slow, and obviously right.

use std::{collections::BTreeMap, time::Duration};

use crate::kernel::Timestamp;

use crate::seating::{
    seat::{SeatIx, SeatState},
    store::fixture::TERMS,
};

/// Whether a hold expires by itself, is in a checkout, or was sold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stage {
    Held,
    Paying,
    Booked,
}

#[derive(Clone, Debug)]
pub(super) struct ModelHold {
    pub(super) subject: u8,
    pub(super) seats: Vec<u32>,
    pub(super) deadline: Timestamp,
    pub(super) extensions_left: u8,
    pub(super) stage: Stage,
}

/// Expected reply to a hold.
#[derive(Debug, PartialEq)]
pub(super) enum Held {
    Until(Timestamp),
    /// The number of the hold that an earlier request with the same key made.
    Replayed(u32),
    KeyReused,
    Taken(Vec<SeatIx>),
    LimitReached,
}

/// Expected reply to a swap.
#[derive(Debug, PartialEq)]
pub(super) enum Swapped {
    Changed(Vec<SeatIx>),
    Taken(Vec<SeatIx>),
    LimitReached,
    Gone,
}

/// Expected reply to an extension.
#[derive(Debug, PartialEq)]
pub(super) enum Extended {
    Until(Timestamp),
    NoMore,
    Gone,
}

/// A request that was done under an idempotency key.
struct Completed {
    seats: Vec<u32>,
    hold: u32,
    at: Timestamp,
}

/// Holds by number, blocked seats, and completed requests by key and subject.
#[derive(Default)]
pub(super) struct ReferenceModel {
    pub(super) holds: BTreeMap<u32, ModelHold>,
    pub(super) blocked: Vec<u32>,
    completed: BTreeMap<(u8, u8), Completed>,
}

impl ReferenceModel {
    /// Drops what is over at this time. Call before every step.
    pub(super) fn expire(&mut self, now: Timestamp) {
        self.holds
            .retain(|_, hold| hold.stage != Stage::Held || hold.deadline > now);
        self.completed
            .retain(|_, request| now.since(request.at) <= Duration::from_mins(10));
    }

    pub(super) fn state(&self, seat: u32) -> SeatState {
        let holder = self.holds.values().find(|hold| hold.seats.contains(&seat));
        match holder.map(|hold| hold.stage) {
            Some(Stage::Booked) => SeatState::Booked,
            Some(_) => SeatState::Held,
            None if self.blocked.contains(&seat) => SeatState::Blocked,
            None => SeatState::Free,
        }
    }

    /// The subject's own hold, unless it is booked.
    pub(super) fn live_hold(&mut self, number: u32, subject: u8) -> Option<&mut ModelHold> {
        self.holds
            .get_mut(&number)
            .filter(|hold| hold.subject == subject && hold.stage != Stage::Booked)
    }

    fn seats_of(&self, subject: u8) -> usize {
        self.holds
            .values()
            .filter(|hold| hold.subject == subject)
            .map(|hold| hold.seats.len())
            .sum()
    }

    pub(super) fn hold(
        &mut self,
        number: u32,
        subject: u8,
        seats: &[u32],
        key: Option<u8>,
        now: Timestamp,
    ) -> Held {
        if let Some(before) = key.and_then(|key| self.completed.get(&(key, subject))) {
            let is_same =
                before.seats.iter().all(|seat| seats.contains(seat)) && before.seats.len() == seats.len();
            return if is_same {
                Held::Replayed(before.hold)
            } else {
                Held::KeyReused
            };
        }
        if self.seats_of(subject) + seats.len() > usize::from(TERMS.seats_per_customer_max) {
            return Held::LimitReached;
        }
        let taken = indexes(seats.iter().filter(|seat| self.state(**seat) != SeatState::Free));
        if !taken.is_empty() {
            return Held::Taken(taken);
        }
        if let Some(key) = key {
            let request = Completed {
                seats: seats.to_vec(),
                hold: number,
                at: now,
            };
            self.completed.insert((key, subject), request);
        }
        let deadline = now.plus(TERMS.hold_ttl);
        let hold = ModelHold {
            subject,
            seats: seats.to_vec(),
            deadline,
            extensions_left: TERMS.extensions_max,
            stage: Stage::Held,
        };
        self.holds.insert(number, hold);
        Held::Until(deadline)
    }

    pub(super) fn swap(&mut self, number: u32, subject: u8, seats: &[u32]) -> Swapped {
        let own = self
            .live_hold(number, subject)
            .filter(|hold| hold.stage == Stage::Held);
        let Some(own) = own.cloned() else {
            return Swapped::Gone;
        };
        let is_free = |seat: &u32| own.seats.contains(seat) || self.state(*seat) == SeatState::Free;
        let taken = indexes(seats.iter().filter(|seat| !is_free(seat)));
        if !taken.is_empty() {
            return Swapped::Taken(taken);
        }
        let would_have = self.seats_of(subject) - own.seats.len() + seats.len();
        if seats.len() > own.seats.len() && would_have > usize::from(TERMS.seats_per_customer_max) {
            return Swapped::LimitReached;
        }
        let changed = ModelHold {
            seats: seats.to_vec(),
            ..own
        };
        self.holds.insert(number, changed);
        Swapped::Changed(indexes(seats.iter()))
    }

    pub(super) fn extend(&mut self, number: u32, subject: u8, now: Timestamp) -> Extended {
        let Some(hold) = self.live_hold(number, subject) else {
            return Extended::Gone;
        };
        if hold.stage == Stage::Paying || hold.extensions_left == 0 {
            return Extended::NoMore;
        }
        hold.extensions_left -= 1;
        hold.deadline = hold.deadline.max(now.plus(TERMS.hold_ttl));
        Extended::Until(hold.deadline)
    }

    /// Whether there was such a hold to release.
    pub(super) fn release(&mut self, number: u32, subject: u8) -> bool {
        let is_held = self
            .live_hold(number, subject)
            .is_some_and(|hold| hold.stage == Stage::Held);
        if is_held {
            self.holds.remove(&number);
        }
        is_held
    }

    /// Whether there was such a hold to check out.
    pub(super) fn begin_checkout(&mut self, number: u32, subject: u8) -> bool {
        self.live_hold(number, subject)
            .map(|hold| hold.stage = Stage::Paying)
            .is_some()
    }

    pub(super) fn return_to_hold(&mut self, number: u32, until: Timestamp) {
        let paying = self
            .holds
            .get_mut(&number)
            .filter(|hold| hold.stage == Stage::Paying);
        if let Some(hold) = paying {
            hold.stage = Stage::Held;
            hold.deadline = until;
        }
    }

    /// `false`, and nothing changed, when another hold has booked one of the seats.
    pub(super) fn book(&mut self, number: u32, subject: u8, seats: &[u32]) -> bool {
        let overlaps = |hold: &ModelHold| hold.seats.iter().any(|seat| seats.contains(seat));
        if self
            .holds
            .iter()
            .any(|(id, hold)| *id != number && hold.stage == Stage::Booked && overlaps(hold))
        {
            return false;
        }
        self.holds.retain(|id, hold| *id == number || !overlaps(hold));
        self.blocked.retain(|seat| !seats.contains(seat));
        let mut booked = seats.to_vec();
        let before = self.holds.get(&number);
        if let Some(before) = before.filter(|hold| hold.stage == Stage::Booked) {
            booked.extend(before.seats.iter().filter(|seat| !seats.contains(seat)));
        }
        let booking = ModelHold {
            subject,
            seats: booked,
            deadline: Timestamp::default(),
            extensions_left: 0,
            stage: Stage::Booked,
        };
        self.holds.insert(number, booking);
        true
    }

    pub(super) fn free(&mut self, number: u32, seats: &[u32]) {
        if let Some(hold) = self.holds.get_mut(&number) {
            hold.seats.retain(|seat| !seats.contains(seat));
        }
        self.holds.retain(|_, hold| !hold.seats.is_empty());
    }

    pub(super) fn set_blocked(&mut self, seats: &[u32], blocked: bool) {
        if blocked {
            let free: Vec<u32> = seats
                .iter()
                .copied()
                .filter(|seat| self.state(*seat) == SeatState::Free)
                .collect();
            self.blocked.extend(free);
        } else {
            self.blocked.retain(|seat| !seats.contains(seat));
        }
    }
}

fn indexes<'a>(seats: impl Iterator<Item = &'a u32>) -> Vec<SeatIx> {
    seats.map(|seat| SeatIx(*seat)).collect()
}
