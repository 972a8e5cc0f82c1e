//! Who may enter when a slot is free: the claimants (called visitors and late arrivals who wait for a slot)
//! in their two lanes, which of them is first, and when each should retry. Pure. The Redis store has the same
//! rule in `reserve_slot.lua`; a property test compares both.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use crate::waiting_room::{admission::call_policy::round_to_count, types::BoxOfficeLoad};

/// The two lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Called visitors within their call window.
    Called,
    /// Late arrivals: visitors who missed their call and came back.
    LateArrival,
}

/// Claimants in number order, and how the two lanes share the slots.
#[derive(Clone, Debug)]
pub(crate) struct AdmissionLanes {
    late_arrival_share: f64,
    called: BTreeMap<u32, Claimant>,
    late_arrivals: BTreeMap<u32, Claimant>,
    /// Entries granted while both lanes wanted in, and those of late arrivals among them.
    contested: u64,
    contested_late_arrivals: u64,
}

/// A visitor who waits for a slot.
#[derive(Clone, Copy, Debug)]
struct Claimant {
    /// From when silence counts: the last request, or later when the claimant was told to retry later.
    silent_from: Duration,
    /// A higher number has entered since the first request, so a slot was kept for this claimant.
    is_overtaken: bool,
}

impl Claimant {
    fn is_live(&self, monotonic: Duration) -> bool {
        monotonic.saturating_sub(self.silent_from) <= CLAIM_LAPSE
    }
}

/// The slot that is kept for a claimant lapses after so much silence.
pub(crate) const CLAIM_LAPSE: Duration = Duration::from_secs(10);
/// How soon a claimant may retry, and how late at most: a silent claimant at the front keeps the others
/// waiting when admission suddenly speeds up.
pub(crate) const RETRY_AFTER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(4);
/// Farther back, admission may speed up [`SPEEDUP_MAX`] times before others wait for a silent claimant, so
/// the pause may be longer; but no longer than this, for the claim of a visitor who has given up must lapse
/// too. Without it the retries of a sale that stays at its limit would be most of its requests.
pub(crate) const RETRY_AFTER_FAR: Duration = Duration::from_secs(10);
/// So many times admission may speed up before others wait for a silent claimant.
pub(crate) const SPEEDUP_MAX: u32 = 4;
/// Claimants per lane at most; beyond it only lower numbers are recorded. A sale at its limit for that long
/// has stopped calling.
pub(crate) const CLAIMANTS_MAX: usize = 8_192;

impl AdmissionLanes {
    /// Empty lanes; `late_arrival_share` is the share of contested entries that late arrivals may take, 0 to
    /// 1.
    pub(crate) fn new(late_arrival_share: f64) -> Self {
        Self {
            late_arrival_share,
            called: BTreeMap::new(),
            late_arrivals: BTreeMap::new(),
            contested: 0,
            contested_late_arrivals: 0,
        }
    }

    /// `number` asks to enter while `room` slots are free; says whether it is their turn. `coming` of the
    /// called visitors are expected any moment. A visitor who is refused is recorded as a claimant.
    ///
    /// It is their turn when the room suffices for every live claimant before them in their lane as well.
    /// While both lanes want in, late arrivals get their running share and no more: when a slot is due to
    /// them the lowest takes it if they ask while there is one, and else they get only what the called lane
    /// leaves. No slot is kept empty for them.
    ///
    /// While the box office is overloaded only a claimant for whom a slot was kept enters: one whom a higher
    /// number has overtaken since the first request.
    pub(crate) fn try_admit(
        &mut self,
        lane: Lane,
        number: u32,
        room: u32,
        inside: BoxOfficeLoad,
        coming: f64,
        monotonic: Duration,
    ) -> bool {
        let Some(claim) = self.register(lane, number, monotonic) else {
            return false;
        };
        if inside == BoxOfficeLoad::Overloaded && !claim.is_overtaken {
            return false;
        }
        let due = self.is_late_arrival_due(coming, monotonic);
        let own_room = match lane {
            Lane::Called => room,
            Lane::LateArrival if due => room.min(1),
            Lane::LateArrival => {
                let wanted = live(&self.called, monotonic).count() + round_to_count(coming);
                room.saturating_sub(u32::try_from(wanted).unwrap_or(u32::MAX))
            }
        };
        let own = self.lane_mut(lane);
        let first = live(own, monotonic)
            .take(usize::try_from(own_room).unwrap_or(usize::MAX))
            .any(|waiting| waiting == number);
        if !first {
            return false;
        }
        if self.is_contested(coming, monotonic) {
            self.contested += 1;
            self.contested_late_arrivals += u64::from(lane == Lane::LateArrival);
        }
        for (_, claim) in self.lane_mut(lane).range_mut(..number) {
            claim.is_overtaken = true;
        }
        self.remove(number);
        true
    }

    /// Replaces the claimants by those that another store holds.
    pub(crate) fn replace_claimants(&mut self, called: &[u32], late_arrivals: &[u32], monotonic: Duration) {
        let claims = |numbers: &[u32]| {
            numbers
                .iter()
                .map(|&number| {
                    (
                        number,
                        Claimant {
                            silent_from: monotonic,
                            is_overtaken: false,
                        },
                    )
                })
                .collect()
        };
        (self.called, self.late_arrivals) = (claims(called), claims(late_arrivals));
    }

    /// When a refused claimant should retry: when it may be their turn, by the claimants before them in their
    /// lane. Claimants far back retry seldom, and keep their claim all the same.
    pub(crate) fn retry_after(
        &mut self,
        lane: Lane,
        number: u32,
        rate_per_minute: u32,
        monotonic: Duration,
    ) -> Duration {
        let own = self.lane_mut(lane);
        // Claimants farther back than this get the longest pause: they need not be counted exactly.
        let far = u128::from(rate_per_minute) * (RETRY_AFTER_FAR * SPEEDUP_MAX).as_millis() / 60_000 + 1;
        let far = usize::try_from(far).unwrap_or(usize::MAX);
        let before = own
            .range(..number)
            .filter(|(_, claim)| claim.is_live(monotonic))
            .take(far)
            .count();
        let turn_ms = u64::try_from(before).unwrap_or(u64::MAX).saturating_mul(60_000)
            / u64::from(rate_per_minute.max(1));
        let turn = Duration::from_millis(turn_ms);
        let latest = (turn / SPEEDUP_MAX).clamp(*RETRY_AFTER.end(), RETRY_AFTER_FAR);
        let again = turn.clamp(*RETRY_AFTER.start(), latest);
        if let Some(claim) = own.get_mut(&number) {
            claim.silent_from = monotonic + again.saturating_sub(*RETRY_AFTER.start());
        }
        again
    }

    /// Removes a claimant.
    pub(crate) fn remove(&mut self, number: u32) {
        self.called.remove(&number);
        self.late_arrivals.remove(&number);
    }

    /// Whether the number waits as one who was called in time.
    pub(crate) fn is_waiting_called(&self, number: u32, monotonic: Duration) -> bool {
        self.called
            .get(&number)
            .is_some_and(|claim| claim.is_live(monotonic))
    }

    /// Live claimants: called, late arrivals.
    pub(crate) fn live_counts(&self, monotonic: Duration) -> (u32, u32) {
        let count = |lane| u32::try_from(live(lane, monotonic).count()).unwrap_or(u32::MAX);
        (count(&self.called), count(&self.late_arrivals))
    }

    /// Forgets claimants who have been silent for too long.
    pub(crate) fn drop_lapsed(&mut self, monotonic: Duration) {
        for lane in [&mut self.called, &mut self.late_arrivals] {
            lane.retain(|_, claim| claim.is_live(monotonic));
        }
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut BTreeMap<u32, Claimant> {
        match lane {
            Lane::Called => &mut self.called,
            Lane::LateArrival => &mut self.late_arrivals,
        }
    }

    /// Records the request; `None` when there are too many claimants with lower numbers already.
    fn register(&mut self, lane: Lane, number: u32, monotonic: Duration) -> Option<Claimant> {
        let own = self.lane_mut(lane);
        if own.len() >= CLAIMANTS_MAX && !own.contains_key(&number) {
            let highest = *own.last_key_value().expect("the lane is full").0;
            if number > highest {
                return None;
            }
            own.remove(&highest);
        }
        let passed = own
            .get(&number)
            .is_some_and(|claim| claim.is_live(monotonic) && claim.is_overtaken);
        let claim = Claimant {
            silent_from: monotonic,
            is_overtaken: passed,
        };
        own.insert(number, claim);
        Some(claim)
    }

    fn is_contested(&self, coming: f64, monotonic: Duration) -> bool {
        live(&self.late_arrivals, monotonic).next().is_some()
            && (round_to_count(coming) > 0 || live(&self.called, monotonic).next().is_some())
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of entries are far below 2^53")]
    fn is_late_arrival_due(&self, coming: f64, monotonic: Duration) -> bool {
        self.is_contested(coming, monotonic)
            && (self.contested_late_arrivals + 1) as f64
                <= self.late_arrival_share * (self.contested + 1) as f64
    }
}

fn live(lane: &BTreeMap<u32, Claimant>, monotonic: Duration) -> impl Iterator<Item = u32> {
    lane.iter()
        .filter(move |(_, claim)| claim.is_live(monotonic))
        .map(|(&number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(100);

    #[test]
    fn a_slot_is_kept_until_ten_seconds_of_silence() {
        let mut lanes = AdmissionLanes::new(0.25);
        assert!(!lanes.try_admit(Lane::Called, 5, 0, BoxOfficeLoad::Normal, 0.0, T));
        assert!(
            !lanes.try_admit(Lane::Called, 9, 1, BoxOfficeLoad::Normal, 0.0, T),
            "the one slot is number 5's"
        );
        assert!(
            lanes.try_admit(Lane::Called, 9, 2, BoxOfficeLoad::Normal, 0.0, T),
            "two slots are enough for both"
        );
        assert!(!lanes.try_admit(Lane::Called, 8, 1, BoxOfficeLoad::Normal, 0.0, T + CLAIM_LAPSE));
        assert!(
            lanes.try_admit(
                Lane::Called,
                8,
                1,
                BoxOfficeLoad::Normal,
                0.0,
                T + CLAIM_LAPSE + Duration::from_millis(1)
            ),
            "the claim has lapsed"
        );
    }

    #[test]
    fn overload_admits_only_overtaken_claimants() {
        let mut lanes = AdmissionLanes::new(0.25);
        let late = |lanes: &mut AdmissionLanes, number, room| {
            lanes.try_admit(Lane::Called, number, room, BoxOfficeLoad::Overloaded, 0.0, T)
        };
        for number in [5, 7, 9] {
            assert!(!lanes.try_admit(Lane::Called, number, 0, BoxOfficeLoad::Normal, 0.0, T));
        }
        assert!(!late(&mut lanes, 5, 9) && !late(&mut lanes, 4, 9));
        assert!(
            lanes.try_admit(Lane::Called, 7, 4, BoxOfficeLoad::Normal, 0.0, T),
            "there is room for 4 and 5 too"
        );
        assert!(
            !late(&mut lanes, 9, 9) && !late(&mut lanes, 3, 9),
            "no visitor behind these has entered since they came"
        );
        assert!(!late(&mut lanes, 5, 1), "there is no room");
        assert!(late(&mut lanes, 5, 3) && late(&mut lanes, 4, 2));
        lanes.remove(3);
        assert!(!late(&mut lanes, 3, 9));
    }

    #[test]
    fn a_claimant_keeps_the_claim_until_the_retry() {
        let mut lanes = AdmissionLanes::new(0.25);
        for number in 1..=40 {
            assert!(!lanes.try_admit(Lane::Called, number, 0, BoxOfficeLoad::Normal, 0.0, T));
        }
        let secs = Duration::from_secs;
        let again: Vec<_> = [1, 2, 3, 15, 40]
            .map(|number| lanes.retry_after(Lane::Called, number, 60, T))
            .into();
        assert_eq!(again, [secs(1), secs(1), secs(2), secs(4), secs(39) / 4]);
        lanes.try_admit(Lane::Called, 60, 0, BoxOfficeLoad::Normal, 0.0, T);
        assert_eq!(
            lanes.retry_after(Lane::Called, 60, 30, T),
            secs(10),
            "however far back"
        );
        lanes.remove(60);
        assert_eq!(
            lanes.retry_after(Lane::Called, 41, 6_000, T),
            secs(1),
            "the claim was not recorded"
        );
        // The others were given no pause and have been silent for too long.
        let at = T + secs(12);
        assert_eq!(lanes.live_counts(at), (2, 0));
        assert!(
            !lanes.try_admit(Lane::Called, 40, 1, BoxOfficeLoad::Normal, 0.0, at),
            "number 15 was told to retry in 4 s, and is late"
        );
        assert!(lanes.try_admit(Lane::Called, 40, 1, BoxOfficeLoad::Normal, 0.0, T + secs(14)));
    }

    #[test]
    fn late_arrivals_get_their_share_of_contested_entries() {
        let mut lanes = AdmissionLanes::new(0.25);
        let (mut next, mut back, mut returned) = (1_000, 1, 0);
        for _ in 0..400 {
            // Both ask for the one free slot, the late arrival first.
            if lanes.try_admit(Lane::LateArrival, back, 1, BoxOfficeLoad::Normal, 3.0, T) {
                back += 1;
                returned += 1;
            } else {
                assert!(lanes.try_admit(Lane::Called, next, 1, BoxOfficeLoad::Normal, 3.0, T));
                next += 1;
            }
        }
        assert_eq!(returned, 100);
        lanes.remove(back);
        assert!(
            lanes.try_admit(Lane::LateArrival, back, 1, BoxOfficeLoad::Normal, 0.0, T),
            "no other visitor wants to enter"
        );
    }

    #[test]
    fn claimants_are_bounded_and_the_lowest_stay() {
        let mut lanes = AdmissionLanes::new(0.0);
        for number in (1..20_000).rev() {
            lanes.try_admit(Lane::LateArrival, number, 0, BoxOfficeLoad::Normal, 0.0, T);
        }
        assert_eq!(lanes.live_counts(T).1 as usize, CLAIMANTS_MAX);
        assert!(lanes.try_admit(Lane::LateArrival, 1, 1, BoxOfficeLoad::Normal, 0.0, T));
    }
}
