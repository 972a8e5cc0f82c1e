//! Who has which seat: plain data behind the store's lock. Every function visible outside is one atomic step.

use std::sync::Arc;

use crate::kernel::{HoldId, Subject, Timestamp};

use crate::seating::{
    hold::HoldState,
    seat::{SeatIx, SeatState, SeatStates},
    store::{
        change_log::ChangeLog,
        memory::{
            completed_requests::CompletedRequests,
            holder_counts::{HashedSubject, HolderCounts, saturating_u32},
            holds::{EntryState, HoldEntry, HoldIx, Holds, SeatList},
        },
        port::{ChangeReply, ExtendReply, HoldRecord, HoldReply, IdempotencyKey, SeatChange, StoreHold},
    },
    types::HoldTerms,
};

/// Expired holds that each new hold ends in passing: enough to keep up, too few to be felt.
const EXPIRED_PER_HOLD: usize = 16;
/// Room for holds and holders that is allocated at start; more is allocated when needed.
const CAPACITY_MAX: usize = 4_096;

/// All state of one performance. What follows the ledger is in `ledger_sync`.
pub(super) struct SeatTable {
    terms: HoldTerms,
    pub(super) states: SeatStates,
    pub(super) holds: Holds,
    pub(super) holders: HolderCounts,
    completed_requests: CompletedRequests,
    changes: ChangeLog,
}

impl SeatTable {
    pub(super) fn new(seats: usize, terms: HoldTerms, version: u64) -> Self {
        let capacity = seats.min(CAPACITY_MAX);
        Self {
            terms,
            states: SeatStates::free(seats),
            holds: Holds::with_capacity(capacity),
            holders: HolderCounts::with_capacity(capacity),
            completed_requests: CompletedRequests::default(),
            changes: ChangeLog::new(version),
        }
    }

    pub(super) fn hold(
        &mut self,
        request: &StoreHold,
        subject: HashedSubject<'_>,
        now: Timestamp,
    ) -> HoldReply {
        let completed = request
            .idempotency_key
            .as_ref()
            .and_then(|key| self.find_completed(key, now));
        if let Some(reply) = completed {
            return reply;
        }
        self.expire_holds(now, EXPIRED_PER_HOLD);
        let known = self.holders.find(subject);
        let has = known.map_or(0, |holder| self.holders.seats(holder));
        let would_have = has.saturating_add(saturating_u32(request.seats.len()));
        if would_have > u32::from(self.terms.seats_per_customer_max) {
            return HoldReply::LimitReached;
        }
        if !request.seats.iter().all(|seat| self.states.is_free(*seat)) {
            return HoldReply::Taken(self.not_free(&request.seats));
        }
        let holder = known.unwrap_or_else(|| self.holders.add(subject));
        self.holders.add_seats(holder, request.seats.len());
        self.set_states(&[(&request.seats, SeatState::Held)]);
        let expires_at = now.plus(self.terms.hold_ttl);
        let extensions_left = self.terms.extensions_max;
        let ix = self.insert(HoldEntry {
            id: request.id,
            holder,
            visit: request.visit,
            seats: SeatList::new(&request.seats),
            expires_at,
            extensions_left,
            state: EntryState::Held,
        });
        if let Some(key) = &request.idempotency_key {
            let record = self.record(&self.holds[ix]);
            self.completed_requests.insert(key, record, now);
        }
        HoldReply::Held {
            expires_at,
            extensions_left,
        }
    }

    pub(super) fn find_completed(&self, key: &IdempotencyKey, now: Timestamp) -> Option<HoldReply> {
        let completed = self.completed_requests.get(key, now)?;
        if completed.request_hash != key.request_hash {
            return Some(HoldReply::IdempotencyKeyReused);
        }
        let live = self
            .holds
            .find(completed.record.id)
            .map(|ix| &self.holds[ix])
            .filter(|entry| entry.state != EntryState::Booked);
        Some(HoldReply::Replayed(live.map_or_else(
            || completed.record.clone(),
            |entry| self.record(entry),
        )))
    }

    pub(super) fn find(&self, id: HoldId, subject: &Subject, now: Timestamp) -> Option<HoldRecord> {
        self.find_live(id, subject, now)
            .map(|ix| self.record(&self.holds[ix]))
    }

    /// The subject's live holds, the latest first.
    pub(super) fn holds_of(&self, subject: HashedSubject<'_>, now: Timestamp) -> Vec<HoldRecord> {
        let Some(holder) = self.holders.find(subject) else {
            return Vec::new();
        };
        let first = self.holders.first_hold(holder);
        let own = self.holds.of_holder(first).map(|ix| &self.holds[ix]);
        own.filter(|entry| entry.is_live(now))
            .map(|entry| self.record(entry))
            .collect()
    }

    pub(super) fn swap(
        &mut self,
        id: HoldId,
        subject: &Subject,
        seats: &Arc<[SeatIx]>,
        now: Timestamp,
    ) -> ChangeReply {
        self.expire_holds(now, EXPIRED_PER_HOLD);
        let Some(ix) = self.find_held(id, subject, now) else {
            return ChangeReply::Gone;
        };
        let entry = &self.holds[ix];
        let holder = entry.holder;
        let before = entry.seats.clone();
        let taken: Vec<SeatIx> = seats
            .iter()
            .copied()
            .filter(|seat| !self.states.is_free(*seat) && !before.contains(seat))
            .collect();
        if !taken.is_empty() {
            return ChangeReply::Taken(taken);
        }
        let would_have =
            self.holders.seats(holder) - saturating_u32(before.len()) + saturating_u32(seats.len());
        // A smaller hold is always allowed, also when the limit was exceeded before (by a booking).
        if would_have > u32::from(self.terms.seats_per_customer_max) && seats.len() > before.len() {
            return ChangeReply::LimitReached;
        }
        self.holders.add_seats(holder, seats.len());
        self.holders.remove_seats(holder, before.len());
        self.holds[ix].seats = SeatList::new(seats);
        let released = without(&before, seats);
        let gained = without(seats, &before);
        self.set_states(&[(&released, SeatState::Free), (&gained, SeatState::Held)]);
        ChangeReply::Changed(self.record(&self.holds[ix]))
    }

    pub(super) fn extend(&mut self, id: HoldId, subject: &Subject, now: Timestamp) -> ExtendReply {
        let Some(ix) = self.find_live(id, subject, now) else {
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

    /// Returns the seats of the ended hold, so that their memory is freed after the lock is released.
    pub(super) fn release(&mut self, id: HoldId, subject: &Subject, now: Timestamp) -> Option<SeatList> {
        let ix = self.find_held(id, subject, now)?;
        Some(self.end_hold(ix))
    }

    pub(super) fn begin_checkout(
        &mut self,
        id: HoldId,
        subject: &Subject,
        until: Timestamp,
        now: Timestamp,
    ) -> Option<HoldRecord> {
        let ix = self.find_live(id, subject, now)?;
        let until = self.holds[ix].expires_at.max(until);
        self.holds.change(ix, EntryState::Paying, until);
        Some(self.record(&self.holds[ix]))
    }

    pub(super) fn return_to_hold(&mut self, id: HoldId, until: Timestamp) {
        let paying = self
            .holds
            .find(id)
            .filter(|ix| self.holds[*ix].state == EntryState::Paying);
        if let Some(ix) = paying {
            self.holds.change(ix, EntryState::Held, until);
        }
    }

    pub(super) fn expire_holds(&mut self, now: Timestamp, max: usize) -> usize {
        let mut expired = 0;
        while expired < max
            && let Some(ix) = self.holds.next_expired(now)
        {
            self.end_hold(ix);
            expired += 1;
        }
        expired
    }

    pub(super) fn changes_since(&self, after: u64, into: &mut Vec<SeatChange>) -> bool {
        self.changes.since(after, into)
    }

    pub(super) fn load(&self) -> (u64, SeatStates) {
        (self.changes.version(), self.states.clone())
    }

    /// Adds a hold whose id is not known yet to those of its holder.
    #[inline]
    pub(super) fn insert(&mut self, entry: HoldEntry) -> HoldIx {
        let holder = entry.holder;
        let ix = self.holds.insert(entry);
        self.holds.link_to_holder(ix, self.holders.first_hold_mut(holder));
        ix
    }

    /// Removes a hold. Its seats are still in the holder's count.
    #[inline]
    pub(super) fn remove(&mut self, ix: HoldIx) -> SeatList {
        let holder = self.holds[ix].holder;
        self.holds
            .unlink_from_holder(ix, self.holders.first_hold_mut(holder));
        self.holds.remove(ix)
    }

    /// Ends a hold or a booking: its seats become free.
    pub(super) fn end_hold(&mut self, ix: HoldIx) -> SeatList {
        let holder = self.holds[ix].holder;
        let seats = self.remove(ix);
        self.holders.remove_seats(holder, seats.len());
        self.set_states(&[(&seats, SeatState::Free)]);
        seats
    }

    /// Sets the states of several groups of seats as one step, under one version.
    #[inline]
    pub(super) fn set_states(&mut self, groups: &[(&[SeatIx], SeatState)]) {
        if groups.iter().all(|(seats, _)| seats.is_empty()) {
            return;
        }
        self.changes.next_version();
        for (seats, state) in groups {
            for seat in *seats {
                self.states.set(*seat, *state);
                self.changes.write(*seat, *state);
            }
        }
    }

    /// Those of the seats that are not free, in their order.
    pub(super) fn not_free(&self, seats: &[SeatIx]) -> Vec<SeatIx> {
        let mut taken = Vec::with_capacity(seats.len());
        taken.extend(seats.iter().copied().filter(|seat| !self.states.is_free(*seat)));
        taken
    }

    /// The subject's own hold, if it is not over.
    fn find_live(&self, id: HoldId, subject: &Subject, now: Timestamp) -> Option<HoldIx> {
        let ix = self.holds.find(id)?;
        let entry = &self.holds[ix];
        (entry.is_live(now) && self.holders.subject(entry.holder) == subject).then_some(ix)
    }

    /// The subject's own live hold, if no checkout has it.
    fn find_held(&self, id: HoldId, subject: &Subject, now: Timestamp) -> Option<HoldIx> {
        self.find_live(id, subject, now)
            .filter(|ix| self.holds[*ix].state == EntryState::Held)
    }

    fn record(&self, entry: &HoldEntry) -> HoldRecord {
        HoldRecord {
            id: entry.id,
            subject: self.holders.subject(entry.holder).clone(),
            visit: entry.visit,
            seats: entry.seats.shared(),
            expires_at: entry.expires_at,
            extensions_left: entry.extensions_left,
            state: if entry.state == EntryState::Held {
                HoldState::Held
            } else {
                HoldState::Paying
            },
        }
    }
}

/// Those of `seats` that are not among `others`, in their order.
pub(super) fn without(seats: &[SeatIx], others: &[SeatIx]) -> Vec<SeatIx> {
    seats
        .iter()
        .copied()
        .filter(|seat| !others.contains(seat))
        .collect()
}
