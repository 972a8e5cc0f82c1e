//! Keeps the books of one sale by rules of its own, simpler than the engine's, from nothing but what was asked and what
//! was answered. What breaks an invariant is written down.

use std::collections::{BTreeMap, HashSet};

/// Violations that are written out; the rest is counted.
const WRITTEN_MAX: usize = 20;
/// A claimant who has not asked for so long has lost her slot.
const LAPSE_MS: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    pub capacity: u32,
    pub rate_per_minute: u32,
    pub burst: u32,
}

#[derive(Debug)]
pub(crate) struct Judge {
    door: Door,
    entered: HashSet<u32>,
    entries: u64,
    /// number -> when she last asked, by lane
    called: BTreeMap<u32, u64>,
    returners: BTreeMap<u32, u64>,
    active: u32,
    now_serving: u32,
    /// highest number of a call -> when its window ends
    call_ends_ms: BTreeMap<u32, u64>,
    paused_since_ms: Option<u64>,
    allowance: Allowance,
    taken_from_claimants: u64,
    returner_entries: u64,
    violations: Vec<String>,
    violations_total: u64,
}

/// I4 over every window that begins and ends with an entry: with `a` the entries that the rate has allowed so far and
/// `k` the entries so far, a window is within its bound when `k - a` has not grown by more than the burst since its
/// beginning; so the lowest `k - a` seen is all that must be remembered.
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
    fn pass(&mut self, now_ms: u64, door: &Door) {
        self.allowed += i128::from(now_ms.saturating_sub(self.at_ms)) * i128::from(door.rate_per_minute);
        self.at_ms = now_ms;
        self.burst_max = self.burst_max.max(door.burst);
    }

    /// Whether the entry is within the bound.
    fn entry(&mut self, now_ms: u64, door: &Door) -> bool {
        self.pass(now_ms, door);
        let before = self.entries * 60_000 - self.allowed;
        self.entries += 1;
        let lowest = self.lowest.map_or(before, |lowest| lowest.min(before));
        self.lowest = Some(lowest);
        before + 60_000 - lowest <= i128::from(self.burst_max) * 60_000
    }
}

impl Judge {
    pub(crate) fn new(door: Door) -> Self {
        Self {
            door,
            entered: HashSet::new(),
            entries: 0,
            called: BTreeMap::new(),
            returners: BTreeMap::new(),
            active: 0,
            now_serving: 0,
            call_ends_ms: BTreeMap::new(),
            paused_since_ms: None,
            allowance: Allowance::default(),
            taken_from_claimants: 0,
            returner_entries: 0,
            violations: Vec::new(),
            violations_total: 0,
        }
    }

    /// The operator has set the door otherwise.
    pub(crate) fn door_is(&mut self, door: Door, now_ms: u64) {
        self.allowance.pass(now_ms, &self.door);
        self.door = door;
    }

    /// Nobody can come from now on, until [`Judge::goes_on`]: call windows stand still.
    pub(crate) fn stands_still(&mut self, now_ms: u64) {
        self.paused_since_ms = Some(now_ms);
    }

    pub(crate) fn goes_on(&mut self, now_ms: u64) {
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

    pub(crate) fn called(&mut self, from: u32, upto: u32, ends_ms: u64, joined: u32) {
        self.must(from == self.now_serving && upto > from && upto <= joined, || {
            format!("I5: a call of {from} to {upto} of {joined} does not follow number order")
        });
        self.now_serving = upto;
        self.call_ends_ms.insert(upto, ends_ms);
    }

    pub(crate) fn asks(&mut self, number: u32, now_ms: u64) {
        let is_returner = self.is_returner(number, now_ms);
        let lane = if is_returner {
            &mut self.returners
        } else {
            &mut self.called
        };
        lane.insert(number, now_ms);
    }

    pub(crate) fn enters(&mut self, number: u32, now_ms: u64) {
        let (active, capacity) = (self.active, self.door.capacity);
        self.must(active < capacity, || {
            format!("I3: {number} entered a house with {active} of {capacity} inside")
        });
        let is_new = self.entered.insert(number);
        self.must(is_new, || format!("I6: {number} entered before"));
        self.must(self.paused_since_ms.is_none(), || {
            format!("I3: {number} entered while nobody may")
        });
        let free = capacity.saturating_sub(active) as usize;
        let was_called = self.called.contains_key(&number) && !self.returners.contains_key(&number);
        let lane = if was_called { &self.called } else { &self.returners };
        let lower = lane
            .range(..number)
            .filter(|(_, asked)| now_ms - **asked <= LAPSE_MS)
            .take(free.max(1))
            .count();
        self.must(lower < free, || {
            format!("I5: {number} entered before {lower} lower claimants, with {free} free")
        });
        if !was_called {
            self.returner_entries += 1;
            let claimants = self
                .called
                .values()
                .filter(|asked| now_ms - **asked <= LAPSE_MS)
                .take(free.max(1))
                .count();
            self.taken_from_claimants += u64::from(claimants >= free);
        }
        self.called.remove(&number);
        self.returners.remove(&number);
        self.active += 1;
        self.entries += 1;
        let door = self.door;
        let in_bounds = self.allowance.entry(now_ms, &door);
        self.must(in_bounds, || {
            format!(
                "I4: entries up to {now_ms} ms exceed {} a minute and {} at once",
                door.rate_per_minute, door.burst
            )
        });
    }

    /// A visit is over, or the line was left.
    pub(crate) fn leaves(&mut self, number: u32, was_inside: bool) {
        self.called.remove(&number);
        self.returners.remove(&number);
        self.active -= u32::from(was_inside);
    }

    /// What the engine says is what the judge has counted, and whoever joins again has her number.
    pub(crate) fn agrees(&mut self, active: u32, again: Option<(u32, Option<u32>)>, now_ms: u64) {
        let counted = self.active;
        self.must(counted == active, || {
            format!("I3: the engine counts {active} inside at {now_ms} ms, the judge {counted}")
        });
        if let Some((number, found)) = again {
            self.must(found == Some(number), || {
                format!("I6: {number} joined again and got {found:?}")
            });
        }
        // Whoever is silent for long is no claimant.
        for lane in [&mut self.called, &mut self.returners] {
            lane.retain(|_, asked| now_ms - *asked <= LAPSE_MS);
        }
    }

    /// Returners took no more of the places that others waited for than their share.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    pub(crate) fn finish(&mut self, returner_share_max: f64) {
        let (taken, entries) = (self.taken_from_claimants, self.entries);
        self.must(taken as f64 <= returner_share_max * entries as f64 + 1.0, || {
            format!("I5: returners took {taken} of {entries} places that others waited for")
        });
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    pub(crate) fn returner_entries(&self) -> u64 {
        self.returner_entries
    }

    /// Whether she asks as one who was passed over: her window is over, and she has not been asking since.
    pub(crate) fn is_returner(&self, number: u32, now_ms: u64) -> bool {
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

    /// What was broken, the first of them in words, and how many in all.
    pub(crate) fn violations(&self) -> (&[String], u64) {
        (&self.violations, self.violations_total)
    }

    fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
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

    fn judged(wrong: impl FnOnce(&mut Judge)) -> u64 {
        let mut judge = Judge::new(Door {
            capacity: 1,
            rate_per_minute: 60,
            burst: 3,
        });
        judge.called(0, 5, 60_000, 9);
        judge.asks(1, 1_000);
        judge.asks(2, 1_000);
        wrong(&mut judge);
        judge.violations().1
    }

    #[test]
    fn it_sees_what_is_wrong() {
        assert_eq!(judged(|judge| judge.enters(1, 1_000)), 0);
        assert_eq!(
            judged(|judge| judge.enters(2, 1_000)),
            1,
            "the lower number waits"
        );
        assert!(
            judged(|judge| [1, 2].into_iter().for_each(|n| judge.enters(n, 1_000))) >= 1,
            "one slot, two entries"
        );
        assert_eq!(
            judged(|judge| judge.called(3, 6, 60_000, 9)),
            1,
            "a call that does not follow on"
        );
        assert_eq!(
            judged(|judge| judge.called(5, 12, 60_000, 9)),
            1,
            "a call of nobody"
        );
        assert_eq!(judged(|judge| judge.agrees(1, None, 2_000)), 1, "another count");
        assert_eq!(
            judged(|judge| judge.agrees(0, Some((4, Some(8))), 2_000)),
            1,
            "another number"
        );
        let twice = judged(|judge| {
            judge.enters(1, 1_000);
            judge.leaves(1, true);
            judge.asks(1, 2_000);
            judge.enters(1, 2_000);
        });
        assert_eq!(twice, 1, "one entry each");
        let while_paused = judged(|judge| {
            judge.stands_still(1_000);
            judge.enters(1, 2_000);
        });
        assert_eq!(while_paused, 1);
    }

    #[test]
    fn it_sees_entries_that_come_too_fast() {
        let crowded = |gap_ms: u64| {
            let mut judge = Judge::new(Door {
                capacity: 9,
                rate_per_minute: 60,
                burst: 3,
            });
            judge.called(0, 9, 60_000, 9);
            for n in 1..=6 {
                judge.asks(n, u64::from(n) * gap_ms);
                judge.enters(n, u64::from(n) * gap_ms);
            }
            judge.violations().1
        };
        assert!(crowded(100) > 0);
        assert_eq!(crowded(1_000), 0, "60 a minute and 3 at once");
    }

    #[test]
    fn it_sees_returners_who_take_too_much() {
        let mut judge = Judge::new(Door {
            capacity: 1,
            rate_per_minute: 6_000,
            burst: 100,
        });
        judge.called(0, 10, 1_000, 20);
        judge.called(10, 20, 900_000, 20);
        for number in 1..=5 {
            judge.asks(11, 2_000);
            judge.asks(number, 2_000);
            judge.enters(number, 2_000);
            judge.leaves(number, true);
        }
        judge.finish(0.25);
        assert_eq!(
            (judge.violations().1, judge.returner_entries()),
            (1, 5),
            "{:?}",
            judge.violations()
        );
    }
}
