//! The memory engine's book: who has which seat. Plain data behind one lock; every public function is one atomic step.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use crate::kernel::{HoldId, Subject, Timestamp, VisitId};

use super::{
    super::{
        hold::{HoldState, RestoredClaim},
        seat::{SeatIx, SeatState, SeatStates},
    },
    BookReply, ChangeReply, ExtendReply, HoldRecord, HoldReply, HoldRequest, Operation, SeatChange, Terms,
};

/// Holds ended in passing by each new hold: enough to keep up, too few to be felt.
const SWEPT_BY_A_HOLD: usize = 16;
const CHANGES_KEPT: usize = 1 << 14;
const OPERATIONS_KEPT: usize = 1 << 16;
const OPERATION_MEMORY: Duration = Duration::from_mins(10);

pub(super) struct Register {
    terms: Terms,
    states: SeatStates,
    entries: HashMap<HoldId, Entry, AsHashed>,
    /// Seats held, being paid and booked by each fan who has any.
    fans: HashMap<Fan, u32, AsHashed>,
    /// When holds run out. An entry whose hold is over or has another deadline by now is passed over.
    deadlines: BinaryHeap<Reverse<(Timestamp, HoldId)>>,
    outdated: usize,
    operations: HashMap<[u8; 16], Remembered>,
    operations_by_age: VecDeque<(Timestamp, [u8; 16])>,
    version: u64,
    changes: Box<[SeatChange]>,
    changes_written: usize,
    /// Changes up to this version may be forgotten.
    forgotten: u64,
}

/// A hold, or what it was booked as.
pub(super) struct Entry {
    fan: Fan,
    visit: VisitId,
    seats: Arc<[SeatIx]>,
    expires_at: Timestamp,
    extensions_left: u8,
    state: EntryState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EntryState {
    Held,
    Paying,
    Booked,
}

struct Remembered {
    at: Timestamp,
    wish: [u8; 16],
    record: HoldRecord,
}

/// A subject with its hash, so that hashing happens before the lock.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Fan {
    pub(super) hash: u64,
    pub(super) subject: Subject,
}

impl Hash for Fan {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

pub(super) type AsHashed = BuildHasherDefault<TakeAsHash>;

/// For keys that are random already: hold ids, and fans by their keyed hash.
#[derive(Default)]
pub(super) struct TakeAsHash(u64);

impl Hasher for TakeAsHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write_usize(&mut self, _length: usize) {}
}

impl Register {
    pub(super) fn new(seats: usize, terms: Terms, version: u64) -> Self {
        let room = seats.min(4_096);
        Self {
            terms,
            states: SeatStates::free(seats),
            entries: HashMap::with_capacity_and_hasher(room, AsHashed::default()),
            fans: HashMap::with_capacity_and_hasher(room, AsHashed::default()),
            deadlines: BinaryHeap::with_capacity(room),
            outdated: 0,
            operations: HashMap::new(),
            operations_by_age: VecDeque::new(),
            version,
            changes: vec![SeatChange::default(); CHANGES_KEPT].into(),
            changes_written: 0,
            forgotten: version,
        }
    }

    pub(super) fn hold(&mut self, request: &HoldRequest, fan: &Fan, now: Timestamp) -> HoldReply {
        if let Some(reply) = request.operation.as_ref().and_then(|it| self.recall(it, now)) {
            return reply;
        }
        self.sweep(now, SWEPT_BY_A_HOLD);
        let wanted = count(request.seats.len());
        let has = self.fans.get_mut(fan);
        if has.as_ref().map_or(0, |it| **it).saturating_add(wanted) > u32::from(self.terms.seats_per_fan) {
            return HoldReply::LimitReached;
        }
        if !request.seats.iter().all(|seat| self.states.is_free(*seat)) {
            return HoldReply::Taken(request.seats.iter().copied().filter(|seat| !self.states.is_free(*seat)).collect());
        }
        match has {
            Some(has) => *has += wanted,
            None => _ = self.fans.insert(fan.clone(), wanted),
        }
        self.mark(&request.seats, SeatState::Held);
        let (expires_at, extensions_left) = (now.plus(self.terms.hold), self.terms.extensions_max);
        let (seats, state) = (Arc::clone(&request.seats), EntryState::Held);
        let entry = Entry { fan: fan.clone(), visit: request.visit, seats, expires_at, extensions_left, state };
        if let Some(operation) = &request.operation {
            self.remember(operation, entry.record(request.id), now);
        }
        self.entries.insert(request.id, entry);
        self.deadlines.push(Reverse((expires_at, request.id)));
        HoldReply::Held { expires_at, extensions_left }
    }

    pub(super) fn recall(&self, operation: &Operation, now: Timestamp) -> Option<HoldReply> {
        let remembered = self.operations.get(&operation.key).filter(|it| it.at >= now.minus(OPERATION_MEMORY))?;
        if remembered.wish != operation.wish {
            return Some(HoldReply::OperationReused);
        }
        let id = remembered.record.id;
        let live = self.entries.get(&id).filter(|it| it.state != EntryState::Booked).map(|it| it.record(id));
        Some(HoldReply::Again(live.unwrap_or_else(|| remembered.record.clone())))
    }

    pub(super) fn find(&self, id: HoldId, who: &Subject, now: Timestamp) -> Option<HoldRecord> {
        self.entries.get(&id).filter(|it| it.is_live_hold_of(who, now)).map(|it| it.record(id))
    }

    pub(super) fn swap(&mut self, id: HoldId, who: &Subject, seats: &Arc<[SeatIx]>, now: Timestamp) -> ChangeReply {
        self.sweep(now, SWEPT_BY_A_HOLD);
        let Some(entry) = self.entries.get_mut(&id).filter(|it| it.is_live_hold_of(who, now) && it.state == EntryState::Held) else {
            return ChangeReply::Gone;
        };
        let taken: Vec<SeatIx> = seats.iter().copied().filter(|it| !self.states.is_free(*it) && !entry.seats.contains(it)).collect();
        if !taken.is_empty() {
            return ChangeReply::Taken(taken);
        }
        let has = self.fans.get_mut(&entry.fan).expect("a fan who holds seats is counted");
        let would_have = *has - count(entry.seats.len()) + count(seats.len());
        if would_have > u32::from(self.terms.seats_per_fan) && seats.len() > entry.seats.len() {
            return ChangeReply::LimitReached;
        }
        *has = would_have;
        let before = std::mem::replace(&mut entry.seats, Arc::clone(seats));
        let record = entry.record(id);
        let given: Vec<SeatIx> = before.iter().copied().filter(|it| !seats.contains(it)).collect();
        let gained: Vec<SeatIx> = seats.iter().copied().filter(|it| !before.contains(it)).collect();
        self.mark_together(&[(&given, SeatState::Free), (&gained, SeatState::Held)]);
        ChangeReply::Changed(record)
    }

    pub(super) fn extend(&mut self, id: HoldId, who: &Subject, now: Timestamp) -> ExtendReply {
        let Some(entry) = self.entries.get_mut(&id).filter(|it| it.is_live_hold_of(who, now)) else { return ExtendReply::Gone };
        if entry.state != EntryState::Held || entry.extensions_left == 0 {
            return ExtendReply::NoMoreExtensions;
        }
        entry.extensions_left -= 1;
        entry.expires_at = entry.expires_at.max(now.plus(self.terms.hold));
        let record = entry.record(id);
        self.deadlines.push(Reverse((record.expires_at, id)));
        self.outdate_deadline();
        ExtendReply::Extended(record)
    }

    /// The entry is given out, so that its memory is given back after the lock.
    pub(super) fn release(&mut self, id: HoldId, who: &Subject, now: Timestamp) -> Option<Entry> {
        let entry = self.entries.get(&id).filter(|it| it.is_live_hold_of(who, now))?;
        if entry.state != EntryState::Held {
            return None;
        }
        self.outdate_deadline();
        self.end(id)
    }

    pub(super) fn begin_checkout(&mut self, id: HoldId, who: &Subject, until: Timestamp, now: Timestamp) -> Option<HoldRecord> {
        let entry = self.entries.get_mut(&id).filter(|it| it.is_live_hold_of(who, now))?;
        let was_held = entry.state == EntryState::Held;
        entry.state = EntryState::Paying;
        entry.expires_at = entry.expires_at.max(until);
        let record = entry.record(id);
        if was_held {
            self.outdate_deadline();
        }
        Some(record)
    }

    pub(super) fn return_to_hold(&mut self, id: HoldId, until: Timestamp) {
        if let Some(entry) = self.entries.get_mut(&id).filter(|it| it.state == EntryState::Paying) {
            (entry.state, entry.expires_at) = (EntryState::Held, until);
            self.deadlines.push(Reverse((until, id)));
        }
    }

    pub(super) fn book(&mut self, id: HoldId, fan: &Fan, seats: &[SeatIx]) -> BookReply {
        let own: Arc<[SeatIx]> = self.entries.get(&id).map_or_else(|| Arc::from([]), |it| Arc::clone(&it.seats));
        let foreign: Vec<SeatIx> = seats.iter().copied().filter(|it| !own.contains(it)).collect();
        let taken: Vec<SeatIx> = foreign.iter().copied().filter(|it| self.states.get(*it) == SeatState::Booked).collect();
        if !taken.is_empty() {
            return BookReply::Taken(taken);
        }
        self.end_holds_of(&foreign);
        let visit = self.entries.get(&id).map(|it| (it.visit, it.state));
        let booked_before = matches!(visit, Some((_, EntryState::Booked)));
        if matches!(visit, Some((_, EntryState::Held))) {
            self.outdate_deadline();
        }
        // Seats of an earlier booking through the same hold stay; what was only held besides does not.
        let kept = own.iter().copied().filter(|it| booked_before && !seats.contains(it));
        let booked: Arc<[SeatIx]> = seats.iter().copied().chain(kept).collect();
        let left: Vec<SeatIx> = own.iter().copied().filter(|it| !booked.contains(it)).collect();
        let newly: Vec<SeatIx> = booked.iter().copied().filter(|it| self.states.get(*it) != SeatState::Booked).collect();
        if let Some(entry) = self.entries.remove(&id) {
            self.count_less(&entry.fan, entry.seats.len());
        }
        *self.fans.entry(fan.clone()).or_default() += count(booked.len());
        self.mark_together(&[(&left, SeatState::Free), (&newly, SeatState::Booked)]);
        let visit = visit.map_or(VisitId::from_uuid(uuid::Uuid::nil()), |it| it.0);
        let (expires_at, state) = (Timestamp::default(), EntryState::Booked);
        self.entries.insert(id, Entry { fan: fan.clone(), visit, seats: booked, expires_at, extensions_left: 0, state });
        BookReply::Booked
    }

    pub(super) fn free(&mut self, id: HoldId, seats: &[SeatIx]) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let freed: Vec<SeatIx> = entry.seats.iter().copied().filter(|it| seats.contains(it)).collect();
        if freed.len() == entry.seats.len() {
            if entry.state == EntryState::Held {
                self.outdate_deadline();
            }
            self.end(id);
            return;
        }
        entry.seats = entry.seats.iter().copied().filter(|it| !seats.contains(it)).collect();
        let fan = entry.fan.clone();
        self.count_less(&fan, freed.len());
        self.mark(&freed, SeatState::Free);
    }

    /// Puts a claim in its place, or names the seats that are another's.
    pub(super) fn restore(&mut self, claim: &RestoredClaim, fan: Fan) -> Vec<SeatIx> {
        if let Some(known) = self.entries.get(&claim.hold) {
            let same = known.seats.len() == claim.seats.len() && claim.seats.iter().all(|it| known.seats.contains(it));
            return if same { Vec::new() } else { claim.seats.clone() };
        }
        let taken: Vec<SeatIx> = claim.seats.iter().copied().filter(|it| !self.states.is_free(*it)).collect();
        if taken.is_empty() && !claim.seats.is_empty() {
            let (state, shown) = if claim.booked { (EntryState::Booked, SeatState::Booked) } else { (EntryState::Paying, SeatState::Held) };
            *self.fans.entry(fan.clone()).or_default() += count(claim.seats.len());
            self.mark(&claim.seats, shown);
            let seats = claim.seats.as_slice().into();
            let entry = Entry { fan, visit: claim.visit, seats, expires_at: claim.until, extensions_left: 0, state };
            self.entries.insert(claim.hold, entry);
        }
        taken
    }

    pub(super) fn set_blocked(&mut self, seats: &[SeatIx], blocked: bool) {
        let (from, to) = if blocked { (SeatState::Free, SeatState::Blocked) } else { (SeatState::Blocked, SeatState::Free) };
        let changed: Vec<SeatIx> = seats.iter().copied().filter(|it| self.states.has(*it) && self.states.get(*it) == from).collect();
        self.mark(&changed, to);
    }

    pub(super) fn sweep(&mut self, now: Timestamp, max: usize) -> usize {
        let mut swept = 0;
        while swept < max {
            let Some(Reverse((deadline, id))) = self.deadlines.peek().copied() else { break };
            if deadline > now {
                break;
            }
            self.deadlines.pop();
            if self.entries.get(&id).is_some_and(|it| it.state == EntryState::Held && it.expires_at == deadline) {
                self.end(id);
                swept += 1;
            } else {
                self.outdated = self.outdated.saturating_sub(1);
            }
        }
        swept
    }

    pub(super) fn changes(&self, after: u64, into: &mut Vec<SeatChange>) -> bool {
        if after < self.forgotten || after > self.version {
            return false;
        }
        let kept = self.changes_written.min(CHANGES_KEPT);
        let at = |back: usize| &self.changes[(self.changes_written - 1 - back) % CHANGES_KEPT];
        let new = (0..kept).take_while(|back| at(*back).version > after).count();
        into.extend((0..new).rev().map(|back| *at(back)));
        true
    }

    pub(super) fn states(&self) -> (u64, SeatStates) {
        (self.version, self.states.clone())
    }

    /// Ends a hold or a booking: its seats are free.
    fn end(&mut self, id: HoldId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.count_less(&entry.fan, entry.seats.len());
        self.mark(&entry.seats, SeatState::Free);
        Some(entry)
    }

    /// Rare (an engine that lost holds the ledger knew), so it may look at every hold.
    fn end_holds_of(&mut self, seats: &[SeatIx]) {
        if seats.iter().all(|it| self.states.get(*it) != SeatState::Held) {
            return;
        }
        let in_the_way = self.entries.iter().filter(|(_, it)| it.seats.iter().any(|seat| seats.contains(seat))).map(|(id, _)| *id);
        for id in in_the_way.collect::<Vec<_>>() {
            if self.entries.get(&id).is_some_and(|it| it.state == EntryState::Held) {
                self.outdate_deadline();
            }
            self.end(id);
        }
    }

    fn count_less(&mut self, fan: &Fan, seats: usize) {
        if let Some(has) = self.fans.get_mut(fan) {
            *has = has.saturating_sub(count(seats));
            if *has == 0 {
                self.fans.remove(fan);
            }
        }
    }

    fn mark(&mut self, seats: &[SeatIx], state: SeatState) {
        self.mark_together(&[(seats, state)]);
    }

    /// One version for all that one step changes.
    fn mark_together(&mut self, changed: &[(&[SeatIx], SeatState)]) {
        if changed.iter().all(|(seats, _)| seats.is_empty()) {
            return;
        }
        self.version += 1;
        for (seats, state) in changed {
            for seat in *seats {
                self.states.set(*seat, *state);
                let kept = &mut self.changes[self.changes_written % CHANGES_KEPT];
                self.forgotten = self.forgotten.max(kept.version);
                *kept = SeatChange { version: self.version, seat: *seat, state: *state };
                self.changes_written += 1;
            }
        }
    }

    fn remember(&mut self, operation: &Operation, record: HoldRecord, now: Timestamp) {
        let forget_before = now.minus(OPERATION_MEMORY);
        while let Some((at, key)) = self.operations_by_age.front()
            && (*at < forget_before || self.operations_by_age.len() >= OPERATIONS_KEPT)
        {
            if self.operations.get(key).is_some_and(|it| it.at == *at) {
                self.operations.remove(key);
            }
            self.operations_by_age.pop_front();
        }
        self.operations_by_age.push_back((now, operation.key));
        self.operations.insert(operation.key, Remembered { at: now, wish: operation.wish, record });
    }

    /// A deadline in the heap counts no longer. They are cleared out when they are the most, so that each costs little.
    fn outdate_deadline(&mut self) {
        self.outdated += 1;
        if self.outdated > 1_024 + self.deadlines.len() / 2 {
            let entries = &self.entries;
            self.deadlines
                .retain(|Reverse((at, id))| entries.get(id).is_some_and(|it| it.state == EntryState::Held && it.expires_at == *at));
            self.outdated = 0;
        }
    }
}

impl Entry {
    fn is_live_hold_of(&self, who: &Subject, now: Timestamp) -> bool {
        let live = match self.state {
            EntryState::Held => now < self.expires_at,
            EntryState::Paying => true,
            EntryState::Booked => false,
        };
        live && self.fan.subject == *who
    }

    fn record(&self, id: HoldId) -> HoldRecord {
        let state = if self.state == EntryState::Held { HoldState::Held } else { HoldState::Paying };
        let (subject, seats) = (self.fan.subject.clone(), Arc::clone(&self.seats));
        HoldRecord { id, subject, visit: self.visit, seats, expires_at: self.expires_at, extensions_left: self.extensions_left, state }
    }
}

fn count(seats: usize) -> u32 {
    u32::try_from(seats).unwrap_or(u32::MAX)
}
