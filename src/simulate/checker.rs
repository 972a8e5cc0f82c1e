//! Checker: keeps its own account of one sale by rules that are simpler than the store's, from nothing but
//! requests and answers, and records every violated invariant.

use std::collections::{BTreeMap, HashSet};

/// Violations that are recorded in words; the rest is counted.
const WRITTEN_MAX: usize = 20;
/// A claimant who has been silent for so long has lost the slot.
const LAPSE_MS: u64 = 10_000;

/// The limits of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Active visits at most.
    pub capacity: u32,
    /// Admissions per minute.
    pub rate_per_minute: u32,
    /// Admissions at once.
    pub burst: u32,
}

/// Account of one sale.
#[derive(Debug)]
pub(crate) struct Checker {
    door: Limits,
    entered: HashSet<u32>,
    entries: u64,
    /// Number -> time of its last request, by lane.
    called: BTreeMap<u32, u64>,
    late_arrivals: BTreeMap<u32, u64>,
    active: u32,
    now_serving: u32,
    /// Highest number of a call -> when its window ends.
    call_ends_ms: BTreeMap<u32, u64>,
    paused_since_ms: Option<u64>,
    allowance: Allowance,
    taken_from_claimants: u64,
    late_entries: u64,
    violations: Vec<String>,
    violations_total: u64,
}

/// Invariant I4 over every window that begins and ends with an entry: with `a` the entries that the rate has
/// allowed so far and `k` the entries so far, a window is within its bound when `k - a` has not grown by more
/// than the burst since its beginning; so the lowest `k - a` seen is all that must be remembered.
#[derive(Debug, Default)]
struct Allowance {
    at_ms: u64,
    /// In 60,000ths of an entry: milliseconds times entries a minute.
    allowed: i128,
    entries: i128,
    lowest: Option<i128>,
    burst_max: u32,
}

impl Allowance {
    fn pass(&mut self, now_ms: u64, door: &Limits) {
        self.allowed += i128::from(now_ms.saturating_sub(self.at_ms)) * i128::from(door.rate_per_minute);
        self.at_ms = now_ms;
        self.burst_max = self.burst_max.max(door.burst);
    }

    /// Whether the entry is within the bound.
    fn entry(&mut self, now_ms: u64, door: &Limits) -> bool {
        self.pass(now_ms, door);
        let before = self.entries * 60_000 - self.allowed;
        self.entries += 1;
        let lowest = self.lowest.map_or(before, |lowest| lowest.min(before));
        self.lowest = Some(lowest);
        before + 60_000 - lowest <= i128::from(self.burst_max) * 60_000
    }
}

impl Checker {
    /// An account that begins with `limits`.
    pub(crate) fn new(door: Limits) -> Self {
        Self {
            door,
            entered: HashSet::new(),
            entries: 0,
            called: BTreeMap::new(),
            late_arrivals: BTreeMap::new(),
            active: 0,
            now_serving: 0,
            call_ends_ms: BTreeMap::new(),
            paused_since_ms: None,
            allowance: Allowance::default(),
            taken_from_claimants: 0,
            late_entries: 0,
            violations: Vec::new(),
            violations_total: 0,
        }
    }

    /// The limits have changed.
    pub(crate) fn set_limits(&mut self, door: Limits, now_ms: u64) {
        self.allowance.pass(now_ms, &self.door);
        self.door = door;
    }

    /// No visitor can enter from now on, until [`Checker::resume`]: call windows stand still.
    pub(crate) fn pause(&mut self, now_ms: u64) {
        self.paused_since_ms = Some(now_ms);
    }

    /// Visitors can enter again.
    pub(crate) fn resume(&mut self, now_ms: u64) {
        let Some(since_ms) = self.paused_since_ms.take() else {
            return;
        };
        for ends_ms in self
            .call_ends_ms
            .values_mut()
            .filter(|ends_ms| **ends_ms >= since_ms)
        {
            *ends_ms += now_ms - since_ms;
        }
    }

    /// The numbers after `from` up to `upto` of `joined` were called, until `ends_ms`.
    pub(crate) fn called(&mut self, from: u32, upto: u32, ends_ms: u64, joined: u32) {
        self.check(from == self.now_serving && upto > from && upto <= joined, || {
            format!("I5: a call of {from} to {upto} of {joined} does not follow number order")
        });
        self.now_serving = upto;
        self.call_ends_ms.insert(upto, ends_ms);
    }

    /// The number asks to enter.
    pub(crate) fn ask(&mut self, number: u32, now_ms: u64) {
        let is_late = self.is_late_arrival(number, now_ms);
        let lane = if is_late {
            &mut self.late_arrivals
        } else {
            &mut self.called
        };
        lane.insert(number, now_ms);
    }

    /// The number was admitted.
    pub(crate) fn enter(&mut self, number: u32, now_ms: u64) {
        let (active, capacity) = (self.active, self.door.capacity);
        self.check(active < capacity, || {
            format!("I3: {number} entered with {active} of {capacity} visits active")
        });
        let is_new = self.entered.insert(number);
        self.check(is_new, || format!("I6: {number} entered before"));
        self.check(self.paused_since_ms.is_none(), || {
            format!("I3: {number} entered during a pause")
        });
        let free = capacity.saturating_sub(active) as usize;
        let was_called = self.called.contains_key(&number) && !self.late_arrivals.contains_key(&number);
        let lane = if was_called {
            &self.called
        } else {
            &self.late_arrivals
        };
        let lower = lane
            .range(..number)
            .filter(|(_, asked)| now_ms - **asked <= LAPSE_MS)
            .take(free.max(1))
            .count();
        self.check(lower < free, || {
            format!("I5: {number} entered before {lower} lower claimants, with {free} free")
        });
        if !was_called {
            self.late_entries += 1;
            let claimants = self
                .called
                .values()
                .filter(|asked| now_ms - **asked <= LAPSE_MS)
                .take(free.max(1))
                .count();
            self.taken_from_claimants += u64::from(claimants >= free);
        }
        self.called.remove(&number);
        self.late_arrivals.remove(&number);
        self.active += 1;
        self.entries += 1;
        let door = self.door;
        let in_bounds = self.allowance.entry(now_ms, &door);
        self.check(in_bounds, || {
            format!(
                "I4: entries up to {now_ms} ms exceed {} a minute and {} at once",
                door.rate_per_minute, door.burst
            )
        });
    }

    /// A visit has ended, or the number left the queue.
    pub(crate) fn leave(&mut self, number: u32, was_inside: bool) {
        self.called.remove(&number);
        self.late_arrivals.remove(&number);
        self.active -= u32::from(was_inside);
    }

    /// Compares the store's count of active visits with the own one, and the number of a subject that joined
    /// again.
    pub(crate) fn compare_counts(&mut self, active: u32, again: Option<(u32, Option<u32>)>, now_ms: u64) {
        let counted = self.active;
        self.check(counted == active, || {
            format!("I3: the store counts {active} inside at {now_ms} ms, the checker {counted}")
        });
        if let Some((number, found)) = again {
            self.check(found == Some(number), || {
                format!("I6: {number} joined again and got {found:?}")
            });
        }
        // Silent claimants have lost their claim.
        for lane in [&mut self.called, &mut self.late_arrivals] {
            lane.retain(|_, asked| now_ms - *asked <= LAPSE_MS);
        }
    }

    /// Late arrivals took no more of the slots that others waited for than their share.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(crate) fn finish(&mut self, late_arrival_share_max: f64) {
        let (taken, entries) = (self.taken_from_claimants, self.entries);
        self.check(
            taken as f64 <= late_arrival_share_max * entries as f64 + 1.0,
            || format!("I5: late arrivals took {taken} of {entries} slots that others waited for"),
        );
    }

    /// Entries so far.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// Entries of late arrivals so far.
    pub(crate) fn late_entries(&self) -> u64 {
        self.late_entries
    }

    /// Whether the number asks as a late arrival: its window is over, and it has not been asking since.
    pub(crate) fn is_late_arrival(&self, number: u32, now_ms: u64) -> bool {
        let Some((_, &ends_ms)) = self.call_ends_ms.range(number..).next() else {
            return false;
        };
        let at_ms = self.paused_since_ms.unwrap_or(now_ms);
        at_ms > ends_ms
            && self
                .called
                .get(&number)
                .is_none_or(|&asked| now_ms - asked > LAPSE_MS)
    }

    /// Violations: the first of them in words, and how many in all.
    pub(crate) fn violations(&self) -> (&[String], u64) {
        (&self.violations, self.violations_total)
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violations_total += 1;
            if self.violations.len() < WRITTEN_MAX {
                self.violations.push(what());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations_of(wrong: impl FnOnce(&mut Checker)) -> u64 {
        let mut checker = Checker::new(Limits {
            capacity: 1,
            rate_per_minute: 60,
            burst: 3,
        });
        checker.called(0, 5, 60_000, 9);
        checker.ask(1, 1_000);
        checker.ask(2, 1_000);
        wrong(&mut checker);
        checker.violations().1
    }

    #[test]
    fn it_detects_each_violation() {
        assert_eq!(violations_of(|checker| checker.enter(1, 1_000)), 0);
        assert_eq!(
            violations_of(|checker| checker.enter(2, 1_000)),
            1,
            "the lower number waits"
        );
        assert!(
            violations_of(|checker| [1, 2].into_iter().for_each(|n| checker.enter(n, 1_000))) >= 1,
            "one slot, two entries"
        );
        assert_eq!(
            violations_of(|checker| checker.called(3, 6, 60_000, 9)),
            1,
            "a call that does not follow on"
        );
        assert_eq!(
            violations_of(|checker| checker.called(5, 12, 60_000, 9)),
            1,
            "a call of nobody"
        );
        assert_eq!(
            violations_of(|checker| checker.compare_counts(1, None, 2_000)),
            1,
            "another count"
        );
        assert_eq!(
            violations_of(|checker| checker.compare_counts(0, Some((4, Some(8))), 2_000)),
            1,
            "another number"
        );
        let twice = violations_of(|checker| {
            checker.enter(1, 1_000);
            checker.leave(1, true);
            checker.ask(1, 2_000);
            checker.enter(1, 2_000);
        });
        assert_eq!(twice, 1, "one entry each");
        let while_paused = violations_of(|checker| {
            checker.pause(1_000);
            checker.enter(1, 2_000);
        });
        assert_eq!(while_paused, 1);
    }

    #[test]
    fn it_detects_entries_beyond_the_rate() {
        let crowded = |gap_ms: u64| {
            let mut checker = Checker::new(Limits {
                capacity: 9,
                rate_per_minute: 60,
                burst: 3,
            });
            checker.called(0, 9, 60_000, 9);
            for n in 1..=6 {
                checker.ask(n, u64::from(n) * gap_ms);
                checker.enter(n, u64::from(n) * gap_ms);
            }
            checker.violations().1
        };
        assert!(crowded(100) > 0);
        assert_eq!(crowded(1_000), 0, "60 a minute and 3 at once");
    }

    #[test]
    fn it_detects_late_arrivals_beyond_their_share() {
        let mut checker = Checker::new(Limits {
            capacity: 1,
            rate_per_minute: 6_000,
            burst: 100,
        });
        checker.called(0, 10, 1_000, 20);
        checker.called(10, 20, 900_000, 20);
        for number in 1..=5 {
            checker.ask(11, 2_000);
            checker.ask(number, 2_000);
            checker.enter(number, 2_000);
            checker.leave(number, true);
        }
        checker.finish(0.25);
        assert_eq!(
            (checker.violations().1, checker.late_entries()),
            (1, 5),
            "{:?}",
            checker.violations()
        );
    }
}
