//! The steps by which the seat table follows the ledger and the promoter: booking, freeing, restoring,
//! blocking.

use std::sync::Arc;

use crate::kernel::{HoldId, Timestamp, VisitId};

use crate::seating::{
    hold::RestoredClaim,
    seat::{SeatIx, SeatState},
    store::{
        memory::{
            holder_counts::HashedSubject,
            holds::{EntryState, HoldEntry, SeatList},
            seat_table::{SeatTable, without},
        },
        port::BookReply,
    },
};

impl SeatTable {
    pub(super) fn book(&mut self, id: HoldId, subject: HashedSubject<'_>, seats: &[SeatIx]) -> BookReply {
        let own = self
            .holds
            .find(id)
            .map_or_else(SeatList::default, |ix| self.holds[ix].seats.clone());
        let foreign = without(seats, &own);
        let taken: Vec<SeatIx> = foreign
            .iter()
            .copied()
            .filter(|seat| self.states.get(*seat) == SeatState::Booked)
            .collect();
        if !taken.is_empty() {
            return BookReply::Taken(taken);
        }
        self.end_holds_of(&foreign);
        let before = self.holds.find(id).map(|ix| {
            let HoldEntry {
                holder, visit, state, ..
            } = self.holds[ix];
            self.remove(ix);
            (holder, visit, state)
        });
        let was_booked = before.is_some_and(|(.., state)| state == EntryState::Booked);
        // Seats of an earlier booking through the same hold stay; seats that were only held besides do not.
        let kept = own
            .iter()
            .copied()
            .filter(|seat| was_booked && !seats.contains(seat));
        let booked: Arc<[SeatIx]> = seats.iter().copied().chain(kept).collect();
        let dropped = without(&own, &booked);
        let newly_booked: Vec<SeatIx> = booked
            .iter()
            .copied()
            .filter(|seat| self.states.get(*seat) != SeatState::Booked)
            .collect();
        // Seats are added before the old ones are removed, so that the subject never counts as idle in
        // between.
        let holder = self.holders.find_or_add(subject);
        self.holders.add_seats(holder, booked.len());
        if let Some((holder_before, ..)) = before {
            self.holders.remove_seats(holder_before, own.len());
        }
        self.set_states(&[(&dropped, SeatState::Free), (&newly_booked, SeatState::Booked)]);
        self.insert(HoldEntry {
            id,
            holder,
            visit: before.map_or(VisitId::from_uuid(uuid::Uuid::nil()), |(_, visit, _)| visit),
            seats: SeatList::new(&booked),
            expires_at: Timestamp::default(),
            extensions_left: 0,
            state: EntryState::Booked,
        });
        BookReply::Booked
    }

    pub(super) fn free(&mut self, id: HoldId, seats: &[SeatIx]) {
        let Some(ix) = self.holds.find(id) else { return };
        let entry = &mut self.holds[ix];
        let freed: Vec<SeatIx> = entry
            .seats
            .iter()
            .copied()
            .filter(|seat| seats.contains(seat))
            .collect();
        if freed.len() == entry.seats.len() {
            self.end_hold(ix);
            return;
        }
        entry.seats = SeatList::new(&without(&entry.seats, seats).into());
        self.holders.remove_seats(entry.holder, freed.len());
        self.set_states(&[(&freed, SeatState::Free)]);
    }

    /// Applies a claim, or returns the seats that belong to another one. A claim that is known already
    /// changes nothing.
    pub(super) fn restore(&mut self, claim: &RestoredClaim, subject: HashedSubject<'_>) -> Vec<SeatIx> {
        if let Some(known) = self.holds.find(claim.hold).map(|ix| &self.holds[ix]) {
            let is_same = known.seats.len() == claim.seats.len()
                && claim.seats.iter().all(|seat| known.seats.contains(seat));
            return if is_same { Vec::new() } else { claim.seats.clone() };
        }
        let taken = self.not_free(&claim.seats);
        if taken.is_empty() && !claim.seats.is_empty() {
            let (state, seat_state) = if claim.booked {
                (EntryState::Booked, SeatState::Booked)
            } else {
                (EntryState::Paying, SeatState::Held)
            };
            let holder = self.holders.find_or_add(subject);
            self.holders.add_seats(holder, claim.seats.len());
            self.set_states(&[(&claim.seats, seat_state)]);
            self.insert(HoldEntry {
                id: claim.hold,
                holder,
                visit: claim.visit,
                seats: SeatList::new(&claim.seats.as_slice().into()),
                expires_at: claim.until,
                extensions_left: 0,
                state,
            });
        }
        taken
    }

    pub(super) fn set_blocked(&mut self, seats: &[SeatIx], blocked: bool) {
        let (from, to) = if blocked {
            (SeatState::Free, SeatState::Blocked)
        } else {
            (SeatState::Blocked, SeatState::Free)
        };
        let changed: Vec<SeatIx> = seats
            .iter()
            .copied()
            .filter(|seat| self.states.contains(*seat) && self.states.get(*seat) == from)
            .collect();
        self.set_states(&[(&changed, to)]);
    }

    /// Ends every hold that has one of the seats. Looks at all holds: it is rare, because it happens only
    /// when the store has lost a hold that the ledger knows.
    fn end_holds_of(&mut self, seats: &[SeatIx]) {
        if seats.iter().all(|seat| self.states.get(*seat) != SeatState::Held) {
            return;
        }
        let blocking = self
            .holds
            .iter()
            .filter(|(_, entry)| entry.seats.iter().any(|seat| seats.contains(seat)))
            .map(|(ix, _)| ix);
        for ix in blocking.collect::<Vec<_>>() {
            self.end_hold(ix);
        }
    }
}
