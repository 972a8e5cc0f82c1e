//! The queue entries: one row per number, and a hash table from customer to number.
//!
//! 13 bytes per row and 5 to 11 per customer in the table, so a million entries fit into some 24 MB; a draw
//! adds 8 bytes per entry. Anonymous subjects are not in the table: their token carries the number.
//!
//! Subjects go by arrival numbers, which a draw does not change; what has become of an entry goes by queue
//! numbers, which the draw assigns.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::waiting_room::{
    draw::numbering::DrawNumbering,
    status::{
        people_ahead::{self, PeopleAhead},
        presence,
    },
    tokens::queue_token::is_anonymous,
};

/// The visitor has entered; the visit may be over.
const ADMITTED: u8 = 1;
/// The visitor left the queue, or the visit is over.
const LEFT: u8 = 2;
/// The visitor responded to the call in time.
const RESPONDED: u8 = 4;
/// Has no known subject: the number was skipped, or its join is not journaled yet.
const VOID: u8 = 8;
/// Assigned and not known to be journaled. Belongs to the arrival number, so a draw moves it.
const UNJOURNALED: u8 = 16;

/// Flags of a queue number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryStatus(u8);

impl EntryStatus {
    pub(crate) fn admitted(self) -> bool {
        self.0 & ADMITTED != 0
    }

    pub(crate) fn left(self) -> bool {
        self.0 & LEFT != 0
    }

    pub(crate) fn responded(self) -> bool {
        self.0 & RESPONDED != 0
    }

    /// Has neither entered nor left.
    pub(crate) fn is_waiting(self) -> bool {
        self.0 & (ADMITTED | LEFT | VOID) == 0
    }
}

/// All entries of a sale. Numbers start at 1.
#[derive(Debug)]
pub(crate) struct EntryTable {
    /// By arrival number, like the next field.
    subjects: Vec<u64>,
    /// Milliseconds after `base_ms`; saturates at 49 days.
    joined_after_ms: Vec<u32>,
    /// By queue number.
    statuses: Vec<u8>,
    numbering: DrawNumbering,
    base_ms: i64,
    /// Open addressing with linear probing; 0 is an empty slot, else a number whose subject's hash leads
    /// here. The hashes are keyed MACs, so they spread evenly and no client can choose them to collide.
    table: Vec<u32>,
    /// Slots in use: one per customer, with the latest number.
    slots_used: usize,
    /// Arrival numbers of the sample that is asked for heartbeats anywhere in the queue.
    far_sample: BTreeSet<u32>,
}

const TABLE_MIN: usize = 1 << 12;

impl EntryTable {
    pub(crate) fn new() -> Self {
        Self {
            subjects: Vec::new(),
            joined_after_ms: Vec::new(),
            statuses: Vec::new(),
            numbering: DrawNumbering::default(),
            base_ms: 0,
            table: vec![0; TABLE_MIN],
            slots_used: 0,
            far_sample: BTreeSet::new(),
        }
    }

    /// The highest number assigned.
    pub(crate) fn issued(&self) -> u32 {
        u32::try_from(self.statuses.len()).expect("numbers are 32 bits")
    }

    /// How many numbers belong to a visitor whose join is journaled.
    pub(crate) fn people(&self) -> u32 {
        let people = self
            .statuses
            .iter()
            .filter(|status| **status & (VOID | UNJOURNALED) == 0);
        u32::try_from(people.count()).expect("numbers are 32 bits")
    }

    /// Assigns the next number to `subject`, not journaled yet. An earlier number of the subject is found no
    /// more.
    pub(crate) fn assign(&mut self, subject: u64, joined_at_ms: i64) -> u32 {
        let number = self.issued() + 1;
        self.insert(number, subject, joined_at_ms);
        self.set(self.numbering.queue_number(number), UNJOURNALED);
        number
    }

    /// Records a journaled join. Numbers that this skips are void until they are inserted. Of several numbers
    /// of a subject the highest is found.
    pub(crate) fn insert(&mut self, number: u32, subject: u64, joined_at_ms: i64) {
        let Some(at) = index(number) else { return };
        self.extend_to(number, joined_at_ms);
        let after_ms = joined_at_ms.saturating_sub(self.base_ms);
        self.joined_after_ms[at] = u32::try_from(after_ms.max(0)).unwrap_or(u32::MAX);
        self.clear(self.numbering.queue_number(number), VOID | UNJOURNALED);
        self.subjects[at] = subject;
        if presence::in_far_sample(subject) {
            self.far_sample.insert(number);
        }
        if !is_anonymous(subject) {
            self.index_subject(subject, number);
        }
    }

    /// Numbers up to `upto` count as assigned; those without a known subject are void until they are
    /// inserted.
    pub(crate) fn extend_to(&mut self, upto: u32, now_ms: i64) {
        if self.subjects.is_empty() {
            // Leaves room for a wall clock that is set back.
            self.base_ms = now_ms.saturating_sub(3_600_000);
        }
        let len = upto as usize;
        if len > self.subjects.len() {
            self.subjects.resize(len, 0);
            self.joined_after_ms.resize(len, 0);
            self.statuses.resize(len, VOID);
        }
    }

    fn index_subject(&mut self, subject: u64, number: u32) {
        if (self.slots_used + 1) * 4 > self.table.len() * 3 {
            self.grow_table();
        }
        let slot_of = self.slot_of(subject);
        self.slots_used += usize::from(self.table[slot_of] == 0);
        self.table[slot_of] = self.table[slot_of].max(number);
    }

    /// The latest number of a customer; `None` for anonymous subjects.
    pub(crate) fn number_of_subject(&self, subject: u64) -> Option<u32> {
        if is_anonymous(subject) {
            None
        } else {
            Some(self.table[self.slot_of(subject)]).filter(|&number| number != 0)
        }
    }

    /// The subject of an arrival number.
    pub(crate) fn subject(&self, arrival: u32) -> Option<u64> {
        self.status(self.numbering.queue_number(arrival))?;
        self.subjects.get(index(arrival)?).copied()
    }

    /// Whether an arrival number has a journaled subject.
    pub(crate) fn is_journaled(&self, arrival: u32) -> bool {
        self.status(self.numbering.queue_number(arrival))
            .is_some_and(|status| status.0 & UNJOURNALED == 0)
    }

    pub(crate) fn mark_journaled(&mut self, arrival: u32) {
        self.clear(self.numbering.queue_number(arrival), UNJOURNALED);
    }

    pub(crate) fn joined_at_ms(&self, arrival: u32) -> Option<i64> {
        Some(self.base_ms + i64::from(*self.joined_after_ms.get(index(arrival)?)?))
    }

    pub(crate) fn numbering(&self) -> &DrawNumbering {
        &self.numbering
    }

    /// Applies a draw. Numbers of the draw without a subject stay void.
    pub(crate) fn draw(&mut self, numbering: DrawNumbering) {
        let len = self.statuses.len().max(numbering.entries() as usize);
        self.subjects.resize(len, 0);
        self.joined_after_ms.resize(len, 0);
        self.statuses.resize(len, VOID);
        let of_arrivals = self.statuses.clone();
        for (arrival, status) in (1..).zip(of_arrivals) {
            if let Some(at) = index(numbering.queue_number(arrival)) {
                self.statuses[at] = status;
            }
        }
        self.numbering = numbering;
    }

    /// The highest arrival number with a subject that joined before this moment.
    pub(crate) fn arrived_before(&self, at_ms: i64) -> u32 {
        (1..=self.issued())
            .rev()
            .find(|&arrival| {
                self.subject(arrival).is_some()
                    && self.joined_at_ms(arrival).is_some_and(|joined| joined < at_ms)
            })
            .unwrap_or(0)
    }

    /// Makes an arrival number void.
    pub(crate) fn void(&mut self, arrival: u32) {
        self.set(self.numbering.queue_number(arrival), VOID);
    }

    /// The flags of a queue number; `None` where it is void.
    pub(crate) fn status(&self, number: u32) -> Option<EntryStatus> {
        self.statuses
            .get(index(number)?)
            .copied()
            .map(EntryStatus)
            .filter(|it| it.0 & VOID == 0)
    }

    /// Arrival number and subject of every entry that has not left.
    pub(crate) fn active(&self) -> impl Iterator<Item = (u32, u64)> {
        let all = (1_u32..).zip(self.subjects.iter().copied());
        all.filter(|&(arrival, _)| {
            self.status(self.numbering.queue_number(arrival))
                .is_some_and(|status| !status.left())
        })
    }

    pub(crate) fn mark_admitted(&mut self, number: u32) {
        self.set(number, ADMITTED);
    }

    pub(crate) fn mark_left(&mut self, number: u32) {
        self.set(number, LEFT);
    }

    pub(crate) fn mark_responded(&mut self, number: u32) {
        self.set(number, RESPONDED);
    }

    /// How many of the numbers after `from` up to `upto` are waiting.
    pub(crate) fn waiting_between(&self, from: u32, upto: u32) -> u32 {
        let upto = (upto as usize).min(self.statuses.len());
        let range = self.statuses.get(from as usize..upto).unwrap_or_default();
        u32::try_from(range.iter().filter(|&&s| EntryStatus(s).is_waiting()).count())
            .expect("numbers are 32 bits")
    }

    /// How many people wait how far behind a number.
    pub(crate) fn people_ahead(&self, from: u32) -> PeopleAhead {
        let (mut counted, mut people) = (from, 0);
        PeopleAhead::of(
            people_ahead::distances(self.issued().saturating_sub(from))
                .into_iter()
                .map(|upto| {
                    people += self.waiting_between(counted, from + upto);
                    counted = from + upto;
                    (upto, people)
                }),
        )
    }

    /// Queue numbers behind `from` that are asked for heartbeats: of the next `near` numbers the near sample,
    /// then the far sample.
    pub(crate) fn heartbeat_sample(&self, from: u32, near: u32) -> Vec<u32> {
        let is_waiting = |number: &u32| self.status(*number).is_some_and(EntryStatus::is_waiting);
        let of = |number: u32| {
            index(self.numbering.arrival(number))
                .and_then(|at| self.subjects.get(at))
                .copied()
        };
        let near_upto = from.saturating_add(near).min(self.issued());
        let near =
            (from.saturating_add(1)..=near_upto).filter(|it| of(*it).is_some_and(presence::in_near_sample));
        let mut far: Vec<u32> = self
            .far_sample
            .iter()
            .filter(|arrival| index(**arrival).is_some_and(|at| presence::in_far_sample(self.subjects[at])))
            .map(|arrival| self.numbering.queue_number(*arrival))
            .filter(|number| *number > near_upto)
            .collect();
        far.sort_unstable();
        near.chain(far).filter(is_waiting).collect()
    }

    /// The number reached when `count` waiting entries after `from` are called.
    pub(crate) fn number_after(&self, from: u32, count: u32) -> u32 {
        if count == 0 {
            return from;
        }
        let mut left = count;
        for (at, &status) in self.statuses.iter().enumerate().skip(from as usize) {
            left -= u32::from(EntryStatus(status).is_waiting());
            if left == 0 {
                return u32::try_from(at + 1).expect("numbers are 32 bits");
            }
        }
        self.issued()
    }

    fn set(&mut self, number: u32, flag: u8) {
        if let Some(status) = index(number).and_then(|at| self.statuses.get_mut(at)) {
            *status |= flag;
        }
    }

    fn clear(&mut self, number: u32, flag: u8) {
        if let Some(status) = index(number).and_then(|at| self.statuses.get_mut(at)) {
            *status &= !flag;
        }
    }

    /// The slot of `subject` in the table, or the empty slot where it belongs.
    fn slot_of(&self, subject: u64) -> usize {
        let mask = self.table.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
        let mut slot_of = subject as usize & mask;
        loop {
            match index(self.table[slot_of]) {
                Some(at) if self.subjects[at] != subject => slot_of = (slot_of + 1) & mask,
                _ => return slot_of,
            }
        }
    }

    fn grow_table(&mut self) {
        let doubled = self.table.len() * 2;
        let old = std::mem::replace(&mut self.table, vec![0; doubled]);
        for number in old {
            if let Some(at) = index(number) {
                let slot_of = self.slot_of(self.subjects[at]);
                self.table[slot_of] = number;
            }
        }
    }
}

fn index(number: u32) -> Option<usize> {
    number.checked_sub(1).map(|at| at as usize)
}
