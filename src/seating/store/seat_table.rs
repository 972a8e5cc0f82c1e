//! The memory engine's book: who has which seat. Plain data behind one lock; every public function is one atomic step.

use std::sync::Arc;

use crate::kernel::{HoldId, Subject, Timestamp, VisitId};

use crate::seating::{
    hold::{HoldState, RestoredClaim},
    seat::{SeatIx, SeatState, SeatStates},
    store::{
        BookReply, ChangeReply, ExtendReply, HoldRecord, HoldReply, StoreHold, IdempotencyKey, SeatChange,
        HoldTerms,
        change_log::Changes,
        holder_counts::{Fans, count},
        holds::{Entry, EntryState, HoldIx, Holds, Seats},
        operations::Operations,
    },
};

/// Holds ended in passing by each new hold: enough to keep up, too few to be felt.
const SWEPT_BY_A_HOLD: usize = 16;

pub(crate) struct Register {
    terms: HoldTerms,
    states: SeatStates,
    holds: Holds,
    fans: Fans,
    operations: Operations,
    changes: Changes,
}

/// Who asks, with the hash of her name, so that hashing happens before the lock.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) hash: u64,
}

impl Register {
    pub(crate) fn new(seats: usize, terms: HoldTerms, version: u64) -> Self {
        let room = seats.min(4_096);
        Self {
            terms,
            states: SeatStates::free(seats),
            holds: Holds::with_room_for(room),
            fans: Fans::with_room_for(room),
            operations: Operations::default(),
            changes: Changes::new(version),
        }
    }

    pub(crate) fn hold(&mut self, request: &StoreHold, who: Named, now: Timestamp) -> HoldReply {
        if let Some(reply) = request.operation.as_ref().and_then(|it| self.recall(it, now)) {
            return reply;
        }
        self.sweep(now, SWEPT_BY_A_HOLD);
        let known = self.fans.find(who.subject, who.hash);
        let has = known.map_or(0, |it| self.fans.seats(it));
        if has.saturating_add(count(request.seats.len())) > u32::from(self.terms.seats_per_customer_max) {
            return HoldReply::LimitReached;
        }
        if !request.seats.iter().all(|seat| self.states.is_free(*seat)) {
            let mut taken = Vec::with_capacity(request.seats.len());
            taken.extend(
                request
                    .seats
                    .iter()
                    .copied()
                    .filter(|seat| !self.states.is_free(*seat)),
            );
            return HoldReply::Taken(taken);
        }
        let fan = known.unwrap_or_else(|| self.fans.add(who.subject, who.hash));
        self.fans.has_more(fan, request.seats.len());
        self.mark(&request.seats, SeatState::Held);
        let (expires_at, extensions_left) = (now.plus(self.terms.hold_ttl), self.terms.extensions_max);
        let (seats, state) = (Seats::new(&request.seats), EntryState::Held);
        let ix = self.holds.insert(Entry {
            id: request.id,
            fan,
            visit: request.visit,
            seats,
            expires_at,
            extensions_left,
            state,
        });
        if let Some(operation) = &request.operation {
            self.operations
                .remember(operation, self.record(&self.holds[ix]), now);
        }
        HoldReply::Held {
            expires_at,
            extensions_left,
        }
    }

    pub(crate) fn recall(&self, operation: &IdempotencyKey, now: Timestamp) -> Option<HoldReply> {
        let remembered = self.operations.get(operation, now)?;
        if remembered.wish != operation.request_hash {
            return Some(HoldReply::IdempotencyKeyReused);
        }
        let live = self
            .holds
            .find(remembered.record.id)
            .map(|it| &self.holds[it])
            .filter(|it| it.state != EntryState::Booked);
        Some(HoldReply::Replayed(
            live.map_or_else(|| remembered.record.clone(), |it| self.record(it)),
        ))
    }

    pub(crate) fn find(&self, id: HoldId, who: &Subject, now: Timestamp) -> Option<HoldRecord> {
        self.live_hold_of(id, who, now)
            .map(|it| self.record(&self.holds[it]))
    }

    pub(crate) fn swap(
        &mut self,
        id: HoldId,
        who: &Subject,
        seats: &Arc<[SeatIx]>,
        now: Timestamp,
    ) -> ChangeReply {
        self.sweep(now, SWEPT_BY_A_HOLD);
        let Some(ix) = self
            .live_hold_of(id, who, now)
            .filter(|it| self.holds[*it].state == EntryState::Held)
        else {
            return ChangeReply::Gone;
        };
        let entry = &self.holds[ix];
        let (fan, before) = (entry.fan, entry.seats.clone());
        let taken: Vec<SeatIx> = seats
            .iter()
            .copied()
            .filter(|it| !self.states.is_free(*it) && !before.contains(it))
            .collect();
        if !taken.is_empty() {
            return ChangeReply::Taken(taken);
        }
        let would_have = self.fans.seats(fan) - count(before.len()) + count(seats.len());
        if would_have > u32::from(self.terms.seats_per_customer_max) && seats.len() > before.len() {
            return ChangeReply::LimitReached;
        }
        self.fans.has_more(fan, seats.len());
        self.fans.has_less(fan, before.len());
        self.holds[ix].seats = Seats::new(seats);
        let given: Vec<SeatIx> = before.iter().copied().filter(|it| !seats.contains(it)).collect();
        let gained: Vec<SeatIx> = seats.iter().copied().filter(|it| !before.contains(it)).collect();
        self.mark_together(&[(&given, SeatState::Free), (&gained, SeatState::Held)]);
        ChangeReply::Changed(self.record(&self.holds[ix]))
    }

    pub(crate) fn extend(&mut self, id: HoldId, who: &Subject, now: Timestamp) -> ExtendReply {
        let Some(ix) = self.live_hold_of(id, who, now) else {
            return ExtendReply::Gone;
        };
        let entry = &mut self.holds[ix];
        if entry.state != EntryState::Held || entry.extensions_left == 0 {
            return ExtendReply::NoMoreExtensions;
        }
        entry.extensions_left -= 1;
        let expires_at = entry.expires_at.max(now.plus(self.terms.hold_ttl));
        self.holds.change(ix, EntryState::Held, expires_at);
        ExtendReply::Extended(self.record(&self.holds[ix]))
    }

    /// The seats are given out, so that its memory is given back after the lock.
    pub(crate) fn release(&mut self, id: HoldId, who: &Subject, now: Timestamp) -> Option<Seats> {
        let ix = self
            .live_hold_of(id, who, now)
            .filter(|it| self.holds[*it].state == EntryState::Held)?;
        Some(self.end(ix))
    }

    pub(crate) fn begin_checkout(
        &mut self,
        id: HoldId,
        who: &Subject,
        until: Timestamp,
        now: Timestamp,
    ) -> Option<HoldRecord> {
        let ix = self.live_hold_of(id, who, now)?;
        let until = self.holds[ix].expires_at.max(until);
        self.holds.change(ix, EntryState::Paying, until);
        Some(self.record(&self.holds[ix]))
    }

    pub(crate) fn return_to_hold(&mut self, id: HoldId, until: Timestamp) {
        if let Some(ix) = self
            .holds
            .find(id)
            .filter(|it| self.holds[*it].state == EntryState::Paying)
        {
            self.holds.change(ix, EntryState::Held, until);
        }
    }

    pub(crate) fn book(&mut self, id: HoldId, who: Named, seats: &[SeatIx]) -> BookReply {
        let own = self
            .holds
            .find(id)
            .map_or_else(Seats::default, |it| self.holds[it].seats.clone());
        let foreign: Vec<SeatIx> = seats.iter().copied().filter(|it| !own.contains(it)).collect();
        let taken: Vec<SeatIx> = foreign
            .iter()
            .copied()
            .filter(|it| self.states.get(*it) == SeatState::Booked)
            .collect();
        if !taken.is_empty() {
            return BookReply::Taken(taken);
        }
        self.end_holds_of(&foreign);
        let before = self.holds.find(id).map(|ix| {
            let Entry {
                fan, visit, state, ..
            } = self.holds[ix];
            self.holds.remove(ix);
            (fan, visit, state)
        });
        let booked_before = before.is_some_and(|it| it.2 == EntryState::Booked);
        // Seats of an earlier booking through the same hold stay; what was only held besides does not.
        let kept = own
            .iter()
            .copied()
            .filter(|it| booked_before && !seats.contains(it));
        let booked: Arc<[SeatIx]> = seats.iter().copied().chain(kept).collect();
        let left: Vec<SeatIx> = own.iter().copied().filter(|it| !booked.contains(it)).collect();
        let newly: Vec<SeatIx> = booked
            .iter()
            .copied()
            .filter(|it| self.states.get(*it) != SeatState::Booked)
            .collect();
        let fan = self.fans.find_or_add(who.subject, who.hash);
        self.fans.has_more(fan, booked.len());
        if let Some((fan, ..)) = before {
            self.fans.has_less(fan, own.len());
        }
        self.mark_together(&[(&left, SeatState::Free), (&newly, SeatState::Booked)]);
        let visit = before.map_or(VisitId::from_uuid(uuid::Uuid::nil()), |it| it.1);
        let (expires_at, state) = (Timestamp::default(), EntryState::Booked);
        self.holds.insert(Entry {
            id,
            fan,
            visit,
            seats: Seats::new(&booked),
            expires_at,
            extensions_left: 0,
            state,
        });
        BookReply::Booked
    }

    pub(crate) fn free(&mut self, id: HoldId, seats: &[SeatIx]) {
        let Some(ix) = self.holds.find(id) else { return };
        let entry = &mut self.holds[ix];
        let freed: Vec<SeatIx> = entry
            .seats
            .iter()
            .copied()
            .filter(|it| seats.contains(it))
            .collect();
        if freed.len() == entry.seats.len() {
            self.end(ix);
            return;
        }
        entry.seats = Seats::new(
            &entry
                .seats
                .iter()
                .copied()
                .filter(|it| !seats.contains(it))
                .collect(),
        );
        self.fans.has_less(entry.fan, freed.len());
        self.mark(&freed, SeatState::Free);
    }

    /// Puts a claim in its place, or names the seats that are another's.
    pub(crate) fn restore(&mut self, claim: &RestoredClaim, hash: u64) -> Vec<SeatIx> {
        if let Some(known) = self.holds.find(claim.hold).map(|it| &self.holds[it]) {
            let same = known.seats.len() == claim.seats.len()
                && claim.seats.iter().all(|it| known.seats.contains(it));
            return if same { Vec::new() } else { claim.seats.clone() };
        }
        let taken: Vec<SeatIx> = claim
            .seats
            .iter()
            .copied()
            .filter(|it| !self.states.is_free(*it))
            .collect();
        if taken.is_empty() && !claim.seats.is_empty() {
            let (state, shown) = if claim.booked {
                (EntryState::Booked, SeatState::Booked)
            } else {
                (EntryState::Paying, SeatState::Held)
            };
            let fan = self.fans.find_or_add(&claim.subject, hash);
            self.fans.has_more(fan, claim.seats.len());
            self.mark(&claim.seats, shown);
            let (id, seats) = (claim.hold, Seats::new(&claim.seats.as_slice().into()));
            self.holds.insert(Entry {
                id,
                fan,
                visit: claim.visit,
                seats,
                expires_at: claim.until,
                extensions_left: 0,
                state,
            });
        }
        taken
    }

    pub(crate) fn set_blocked(&mut self, seats: &[SeatIx], blocked: bool) {
        let (from, to) = if blocked {
            (SeatState::Free, SeatState::Blocked)
        } else {
            (SeatState::Blocked, SeatState::Free)
        };
        let changed: Vec<SeatIx> = seats
            .iter()
            .copied()
            .filter(|it| self.states.contains(*it) && self.states.get(*it) == from)
            .collect();
        self.mark(&changed, to);
    }

    pub(crate) fn sweep(&mut self, now: Timestamp, max: usize) -> usize {
        let mut swept = 0;
        while swept < max
            && let Some(ix) = self.holds.run_out(now)
        {
            self.end(ix);
            swept += 1;
        }
        swept
    }

    pub(crate) fn changes(&self, after: u64, into: &mut Vec<SeatChange>) -> bool {
        self.changes.since(after, into)
    }

    pub(crate) fn states(&self) -> (u64, SeatStates) {
        (self.changes.version(), self.states.clone())
    }

    /// Her own hold, not over yet.
    fn live_hold_of(&self, id: HoldId, who: &Subject, now: Timestamp) -> Option<HoldIx> {
        let ix = self.holds.find(id)?;
        let entry = &self.holds[ix];
        let live = match entry.state {
            EntryState::Held => now < entry.expires_at,
            EntryState::Paying => true,
            EntryState::Booked => false,
        };
        (live && self.fans.subject(entry.fan) == who).then_some(ix)
    }

    /// Ends a hold or a booking: its seats are free.
    fn end(&mut self, ix: HoldIx) -> Seats {
        let fan = self.holds[ix].fan;
        let seats = self.holds.remove(ix);
        self.fans.has_less(fan, seats.len());
        self.mark(&seats, SeatState::Free);
        seats
    }

    /// Rare (an engine that lost holds the ledger knew), so it may look at every hold.
    fn end_holds_of(&mut self, seats: &[SeatIx]) {
        if seats.iter().all(|it| self.states.get(*it) != SeatState::Held) {
            return;
        }
        let in_the_way = self
            .holds
            .iter()
            .filter(|(_, it)| it.seats.iter().any(|seat| seats.contains(seat)))
            .map(|(ix, _)| ix);
        for ix in in_the_way.collect::<Vec<_>>() {
            self.end(ix);
        }
    }

    fn mark(&mut self, seats: &[SeatIx], state: SeatState) {
        self.mark_together(&[(seats, state)]);
    }

    /// One version for all that one step changes.
    #[inline]
    fn mark_together(&mut self, changed: &[(&[SeatIx], SeatState)]) {
        if changed.iter().all(|(seats, _)| seats.is_empty()) {
            return;
        }
        self.changes.next_version();
        for (seats, state) in changed {
            for seat in *seats {
                self.states.set(*seat, *state);
                self.changes.write(*seat, *state);
            }
        }
    }

    fn record(&self, entry: &Entry) -> HoldRecord {
        let Entry {
            id,
            fan,
            visit,
            expires_at,
            extensions_left,
            ..
        } = *entry;
        let state = if entry.state == EntryState::Held {
            HoldState::Held
        } else {
            HoldState::Paying
        };
        let (subject, seats) = (self.fans.subject(fan).clone(), entry.seats.shared());
        HoldRecord {
            id,
            subject,
            visit,
            seats,
            expires_at,
            extensions_left,
            state,
        }
    }
}
