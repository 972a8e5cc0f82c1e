//! Who stands where: one line per number, and a table from customer to number. 13 bytes a fan for the line and 5 to 11
//! for the table, so a million fans fit into some 24 MB; 8 bytes more for those who are in a draw. Strangers are not in the
//! table: they show a number.
//!
//! Who has which number is a matter of arrival numbers, which a draw does not change; what has become of a number is one
//! of queue numbers, which it gives.

use std::collections::BTreeSet;

use crate::waiting_room::{
    draw::numbering::Order,
    status::{
        people_ahead::{self, Survivors},
        presence,
    },
    tokens::queue_token::is_stranger,
};

/// The fan has entered; her visit may be over.
const ENTERED: u8 = 1;
/// She left the line, or her visit is over.
const LEFT: u8 = 2;
/// She came when called.
const CAME: u8 = 4;
/// Nobody's number, as far as is known: it was skipped, or its owner is not written down yet.
const VOID: u8 = 8;
/// It was given and is not known to be in the journal; of an arrival number, so a draw takes it along.
const UNWRITTEN: u8 = 16;

/// What a number's owner has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status(u8);

impl Status {
    pub(crate) fn entered(self) -> bool {
        self.0 & ENTERED != 0
    }

    pub(crate) fn left(self) -> bool {
        self.0 & LEFT != 0
    }

    pub(crate) fn came(self) -> bool {
        self.0 & CAME != 0
    }

    /// Neither inside nor gone.
    pub(crate) fn is_in_line(self) -> bool {
        self.0 & (ENTERED | LEFT | VOID) == 0
    }
}

/// The line. Numbers begin at 1.
#[derive(Debug)]
pub(crate) struct Fans {
    /// By arrival number, as the next.
    subjects: Vec<u64>,
    /// Milliseconds after `base_ms`; a queue older than 49 days says 49 days.
    joined_after_ms: Vec<u32>,
    /// By queue number.
    statuses: Vec<u8>,
    order: Order,
    base_ms: i64,
    /// Open addressing with linear probing; 0 is an empty slot, else a number whose subject's hash leads here. The
    /// hashes are keyed MACs, so they spread evenly and nobody outside can choose them to collide.
    table: Vec<u32>,
    /// Slots of the table in use: subjects, each with her latest number.
    used: usize,
    /// Arrival numbers of the few who are asked wherever they stand.
    sampled: BTreeSet<u32>,
}

const TABLE_MIN: usize = 1 << 12;

impl Fans {
    pub(crate) fn new() -> Self {
        Self {
            subjects: Vec::new(),
            joined_after_ms: Vec::new(),
            statuses: Vec::new(),
            order: Order::default(),
            base_ms: 0,
            table: vec![0; TABLE_MIN],
            used: 0,
            sampled: BTreeSet::new(),
        }
    }

    /// The highest number that was given out.
    pub(crate) fn issued(&self) -> u32 {
        u32::try_from(self.statuses.len()).expect("numbers are 32 bits")
    }

    /// The next number, for `subject`, not written down yet; an earlier number of hers is found no more.
    pub(crate) fn push(&mut self, subject: u64, joined_at_ms: i64) -> u32 {
        let number = self.issued() + 1;
        self.put(number, subject, joined_at_ms);
        self.set(self.order.queue_number(number), UNWRITTEN);
        number
    }

    /// `number` is `subject`'s, by the journal; numbers that this skips are nobody's until they are put. Of several
    /// numbers of a subject the highest is found.
    pub(crate) fn put(&mut self, number: u32, subject: u64, joined_at_ms: i64) {
        let Some(at) = index(number) else { return };
        self.skip_to(number, joined_at_ms);
        let after_ms = joined_at_ms.saturating_sub(self.base_ms);
        self.joined_after_ms[at] = u32::try_from(after_ms.max(0)).unwrap_or(u32::MAX);
        self.clear(self.order.queue_number(number), VOID | UNWRITTEN);
        self.subjects[at] = subject;
        if presence::in_far_sample(subject) {
            self.sampled.insert(number);
        }
        if !is_stranger(subject) {
            self.list(subject, number);
        }
    }

    /// Numbers up to `upto` have been given out; those that nobody is known to have are nobody's until they are put.
    pub(crate) fn skip_to(&mut self, upto: u32, now_ms: i64) {
        if self.subjects.is_empty() {
            // Room for a wall clock that is set back a little.
            self.base_ms = now_ms.saturating_sub(3_600_000);
        }
        let len = upto as usize;
        if len > self.subjects.len() {
            self.subjects.resize(len, 0);
            self.joined_after_ms.resize(len, 0);
            self.statuses.resize(len, VOID);
        }
    }

    fn list(&mut self, subject: u64, number: u32) {
        if (self.used + 1) * 4 > self.table.len() * 3 {
            self.grow();
        }
        let slot = self.slot(subject);
        self.used += usize::from(self.table[slot] == 0);
        self.table[slot] = self.table[slot].max(number);
    }

    /// The latest number of a customer.
    pub(crate) fn number_of(&self, subject: u64) -> Option<u32> {
        if is_stranger(subject) {
            None
        } else {
            Some(self.table[self.slot(subject)]).filter(|&number| number != 0)
        }
    }

    /// Whose an arrival number is.
    pub(crate) fn subject(&self, arrival: u32) -> Option<u64> {
        self.status(self.order.queue_number(arrival))?;
        self.subjects.get(index(arrival)?).copied()
    }

    /// Whether an arrival number is somebody's in the journal too.
    pub(crate) fn is_written(&self, arrival: u32) -> bool {
        self.status(self.order.queue_number(arrival))
            .is_some_and(|status| status.0 & UNWRITTEN == 0)
    }

    pub(crate) fn set_written(&mut self, arrival: u32) {
        self.clear(self.order.queue_number(arrival), UNWRITTEN);
    }

    pub(crate) fn joined_at_ms(&self, arrival: u32) -> Option<i64> {
        Some(self.base_ms + i64::from(*self.joined_after_ms.get(index(arrival)?)?))
    }

    pub(crate) fn order(&self) -> &Order {
        &self.order
    }

    /// From now on the line stands in this order. Numbers of the draw that nobody has come with stay nobody's.
    pub(crate) fn draw(&mut self, order: Order) {
        let len = self.statuses.len().max(order.entries() as usize);
        self.subjects.resize(len, 0);
        self.joined_after_ms.resize(len, 0);
        self.statuses.resize(len, VOID);
        let of_arrivals = self.statuses.clone();
        for (arrival, status) in (1..).zip(of_arrivals) {
            if let Some(at) = index(order.queue_number(arrival)) {
                self.statuses[at] = status;
            }
        }
        self.order = order;
    }

    /// The highest arrival number whose owner came before this moment.
    pub(crate) fn arrived_before(&self, at_ms: i64) -> u32 {
        (1..=self.issued())
            .rev()
            .find(|&arrival| {
                self.subject(arrival).is_some()
                    && self.joined_at_ms(arrival).is_some_and(|joined| joined < at_ms)
            })
            .unwrap_or(0)
    }

    /// An arrival number becomes nobody's.
    pub(crate) fn give_up(&mut self, arrival: u32) {
        self.set(self.order.queue_number(arrival), VOID);
    }

    /// What has become of a queue number.
    pub(crate) fn status(&self, number: u32) -> Option<Status> {
        self.statuses
            .get(index(number)?)
            .copied()
            .map(Status)
            .filter(|it| it.0 & VOID == 0)
    }

    /// Those who have not given their number up, with their arrival numbers.
    pub(crate) fn living(&self) -> impl Iterator<Item = (u32, u64)> {
        let all = (1_u32..).zip(self.subjects.iter().copied());
        all.filter(|&(arrival, _)| {
            self.status(self.order.queue_number(arrival))
                .is_some_and(|status| !status.left())
        })
    }

    pub(crate) fn set_entered(&mut self, number: u32) {
        self.set(number, ENTERED);
    }

    pub(crate) fn set_left(&mut self, number: u32) {
        self.set(number, LEFT);
    }

    pub(crate) fn set_came(&mut self, number: u32) {
        self.set(number, CAME);
    }

    /// How many of the numbers after `from` up to `upto` are in line.
    pub(crate) fn in_line(&self, from: u32, upto: u32) -> u32 {
        let upto = (upto as usize).min(self.statuses.len());
        let range = self.statuses.get(from as usize..upto).unwrap_or_default();
        u32::try_from(range.iter().filter(|&&s| Status(s).is_in_line()).count()).expect("numbers are 32 bits")
    }

    /// How many people stand how far behind a number.
    pub(crate) fn survivors(&self, from: u32) -> Survivors {
        let (mut counted, mut people) = (from, 0);
        Survivors::of(
            people_ahead::distances(self.issued().saturating_sub(from))
                .into_iter()
                .map(|upto| {
                    people += self.in_line(counted, from + upto);
                    counted = from + upto;
                    (upto, people)
                }),
        )
    }

    /// Those behind a number who are asked whether they are there, by queue number.
    pub(crate) fn asked(&self, from: u32, near: u32) -> Vec<u32> {
        let is_in_line = |number: &u32| self.status(*number).is_some_and(Status::is_in_line);
        let of = |number: u32| {
            index(self.order.arrival(number))
                .and_then(|at| self.subjects.get(at))
                .copied()
        };
        let near_upto = from.saturating_add(near).min(self.issued());
        let near =
            (from.saturating_add(1)..=near_upto).filter(|it| of(*it).is_some_and(presence::in_near_sample));
        let mut far: Vec<u32> = self
            .sampled
            .iter()
            .filter(|arrival| index(**arrival).is_some_and(|at| presence::in_far_sample(self.subjects[at])))
            .map(|arrival| self.order.queue_number(*arrival))
            .filter(|number| *number > near_upto)
            .collect();
        far.sort_unstable();
        near.chain(far).filter(is_in_line).collect()
    }

    /// The number that is reached when `count` of those in line after `from` are passed.
    pub(crate) fn reach(&self, from: u32, count: u32) -> u32 {
        if count == 0 {
            return from;
        }
        let mut left = count;
        for (at, &status) in self.statuses.iter().enumerate().skip(from as usize) {
            left -= u32::from(Status(status).is_in_line());
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

    /// Where `subject` stands in the table, or the empty slot where she would.
    fn slot(&self, subject: u64) -> usize {
        let mask = self.table.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
        let mut slot = subject as usize & mask;
        loop {
            match index(self.table[slot]) {
                Some(at) if self.subjects[at] != subject => slot = (slot + 1) & mask,
                _ => return slot,
            }
        }
    }

    fn grow(&mut self) {
        let doubled = self.table.len() * 2;
        let old = std::mem::replace(&mut self.table, vec![0; doubled]);
        for number in old {
            if let Some(at) = index(number) {
                let slot = self.slot(self.subjects[at]);
                self.table[slot] = number;
            }
        }
    }
}

fn index(number: u32) -> Option<usize> {
    number.checked_sub(1).map(|at| at as usize)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::kernel::{Entropy, SeededEntropy};

    #[test]
    fn it_finds_what_a_map_finds() {
        let entropy = SeededEntropy::new(5);
        let (mut fans, mut map) = (Fans::new(), HashMap::new());
        for number in 1..=30_000_u32 {
            // A small range of subjects in the low bits, so that they collide and come back.
            let subject = entropy.below(20_000) << 3;
            assert_eq!(fans.number_of(subject), map.get(&subject).copied());
            fans.push(subject, i64::from(number));
            map.insert(subject, number);
            assert_eq!(fans.issued(), number);
        }
        assert!(
            map.iter()
                .all(|(&subject, &number)| fans.number_of(subject) == Some(number))
        );
        assert_eq!(fans.joined_at_ms(77), Some(77));
        assert_eq!(
            (fans.number_of(1), fans.status(0), fans.status(30_001)),
            (None, None, None)
        );
    }

    #[test]
    fn a_number_may_be_put_late_and_a_skipped_one_is_nobodys() {
        let mut fans = Fans::new();
        fans.put(3, 30, 7);
        assert_eq!(
            (fans.issued(), fans.subject(2), fans.status(2), fans.in_line(0, 9)),
            (3, None, None, 1)
        );
        assert_eq!(
            (fans.reach(0, 1), fans.living().collect::<Vec<_>>()),
            (3, vec![(3, 30)])
        );
        fans.put(1, 10, 7);
        fans.put(2, 30, 7);
        assert_eq!(
            (
                fans.number_of(30),
                fans.subject(2),
                fans.in_line(0, 9),
                fans.reach(0, 2)
            ),
            (Some(3), Some(30), 3, 2)
        );
        fans.set_left(1);
        assert_eq!(fans.living().collect::<Vec<_>>(), [(2, 30), (3, 30)]);
    }

    #[test]
    fn those_who_left_are_not_counted_when_calling() {
        let mut fans = Fans::new();
        for subject in 1..=10 {
            fans.push(subject, 0);
        }
        for number in [2, 3, 5] {
            fans.set_left(number);
        }
        assert_eq!(
            (
                fans.reach(0, 1),
                fans.reach(0, 2),
                fans.reach(0, 3),
                fans.reach(4, 9)
            ),
            (1, 4, 6, 10)
        );
        assert_eq!(
            (fans.in_line(0, 4), fans.in_line(0, 99), fans.in_line(20, 10)),
            (2, 7, 0)
        );
    }

    #[test]
    fn what_is_given_stands_in_line_before_it_is_written_and_a_draw_takes_that_along() {
        use crate::waiting_room::draw::Digest;
        let mut fans = Fans::new();
        for subject in 1..=5 {
            fans.push(subject, 0);
        }
        for arrival in [1, 3, 5] {
            fans.set_written(arrival);
        }
        fans.draw(Order::drawn(&Digest([1; 32]), 5));
        fans.give_up(2);
        let again = fans.push(2, 0);
        fans.set_written(again);
        fans.push(7, 0);
        let written = |fans: &Fans| {
            (1..=9)
                .filter(|&arrival| fans.is_written(arrival))
                .collect::<Vec<_>>()
        };
        assert_eq!((written(&fans), fans.in_line(0, 9)), (vec![1, 3, 5, 6], 6));
        fans.put(2, 2, 0);
        assert_eq!(
            written(&fans),
            [1, 2, 3, 5, 6],
            "what is put late comes from the journal"
        );
    }

    #[test]
    fn a_draw_changes_what_has_become_of_numbers_and_not_whose_they_are() {
        use crate::waiting_room::draw::Digest;
        let mut fans = Fans::new();
        for arrival in [1, 2, 4, 5, 6] {
            fans.put(arrival, u64::from(arrival) * 10, i64::from(arrival));
        }
        fans.set_left(5);
        assert_eq!((fans.arrived_before(5), fans.arrived_before(1)), (4, 0));
        let order = Order::drawn(&Digest([1; 32]), 5);
        fans.draw(order.clone());
        fans.put(8, 80, 9);
        assert_eq!(
            (1..=8)
                .map(|it| fans.subject(it).unwrap_or(0))
                .collect::<Vec<_>>(),
            [10, 20, 0, 40, 50, 60, 0, 80]
        );
        assert_eq!(
            fans.living().collect::<Vec<_>>(),
            [(1, 10), (2, 20), (4, 40), (6, 60), (8, 80)]
        );
        assert!(
            fans.status(order.queue_number(3)).is_none()
                && fans.status(order.queue_number(5)).unwrap().left()
        );
        let first = (1..=5)
            .find(|&number| ![3, 5].contains(&order.arrival(number)))
            .unwrap();
        assert_eq!(
            (fans.reach(0, 1), fans.in_line(0, 5), fans.in_line(0, 8)),
            (first, 3, 5)
        );
        fans.give_up(4);
        assert_eq!((fans.subject(4), fans.in_line(0, 5)), (None, 2));
    }

    #[test]
    fn a_million_fans_fit_into_forty_bytes_each() {
        let mut fans = Fans::new();
        let entropy = SeededEntropy::new(6);
        let mut block = [0; 8];
        for _ in 0..1_000_000 {
            entropy.fill(&mut block);
            fans.push(u64::from_le_bytes(block) >> 1, 0);
        }
        // Capacity, not length: what the allocator holds at worst.
        let bytes = fans.subjects.capacity() * 8
            + fans.joined_after_ms.capacity() * 4
            + fans.statuses.capacity()
            + fans.table.len() * 4;
        assert!(bytes <= 40 * 1_000_000, "{bytes}");
    }
}
