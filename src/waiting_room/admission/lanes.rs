//! Those who stand before the full door: who goes in first, and when each is to ask again. Pure.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use crate::waiting_room::{admission::policy::whole, types::Inside};

/// The two ways to the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Called, and in time.
    Called,
    /// Passed over, and back.
    Returner,
}

/// Those who stand before the full door, in number order, and how the two lanes share it.
#[derive(Clone, Debug)]
pub(crate) struct Lanes {
    returner_share: f64,
    called: BTreeMap<u32, Claim>,
    returners: BTreeMap<u32, Claim>,
    /// Entries granted while both lanes wanted in, and those of them that went to returners.
    contested: u64,
    contested_returners: u64,
}

/// Somebody stands before the door.
#[derive(Clone, Copy, Debug)]
struct Claim {
    /// From when her silence counts: when she last asked, later where she was told to ask later.
    silent_from: Duration,
    /// Somebody behind her has gone in since she first asked, so a place was kept for her.
    passed: bool,
}

impl Claim {
    fn is_live(&self, monotonic: Duration) -> bool {
        monotonic.saturating_sub(self.silent_from) <= CLAIM_LAPSE
    }
}

/// A slot kept for a claimant lapses when she has been silent for so long.
pub(crate) const CLAIM_LAPSE: Duration = Duration::from_secs(10);
/// How soon a claimant may ask again, and how late at most: whoever stands first and is not there keeps the others waiting when
/// it suddenly goes faster.
pub(crate) const ASK_AGAIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(4);
/// Farther back it may go [`SURGE`] times as fast before anybody waits for her, so she may stay away longer; so late at most,
/// for her claim lapses too when she has given up. Before a house that is full for minutes the asking of those who stand there
/// would else be most of what it has to answer.
pub(crate) const ASK_AGAIN_FAR: Duration = Duration::from_secs(10);
pub(crate) const SURGE: u32 = 4;
/// Beyond this only lower numbers are still written down; with a full house that long the policy has stopped calling.
pub(crate) const CLAIMANTS_MAX: usize = 8_192;

impl Lanes {
    pub(crate) fn new(returner_share: f64) -> Self {
        Self {
            returner_share,
            called: BTreeMap::new(),
            returners: BTreeMap::new(),
            contested: 0,
            contested_returners: 0,
        }
    }

    /// `number` asks to enter while there is `room`; says whether it is her turn. `coming` of the called are expected
    /// any moment. Whoever is told no is remembered as a claimant.
    ///
    /// It is her turn when the room suffices for every live claimant before her in her lane as well. While both lanes
    /// want in, returners get their running share and no more: when a place is due to them the lowest takes it if she
    /// asks while there is one, and else they get only what the called lane leaves. No place is kept empty for them.
    ///
    /// While those inside are served late nobody comes in but for whom a place was kept: a claimant behind whom somebody
    /// has gone in since she first asked.
    pub(crate) fn may_enter(
        &mut self,
        lane: Lane,
        number: u32,
        room: u32,
        inside: Inside,
        coming: f64,
        monotonic: Duration,
    ) -> bool {
        let Some(claim) = self.claim(lane, number, monotonic) else {
            return false;
        };
        if inside == Inside::Late && !claim.passed {
            return false;
        }
        let due = self.returner_is_due(coming, monotonic);
        let own_room = match lane {
            Lane::Called => room,
            Lane::Returner if due => room.min(1),
            Lane::Returner => {
                let wanted = live(&self.called, monotonic).count() + whole(coming);
                room.saturating_sub(u32::try_from(wanted).unwrap_or(u32::MAX))
            }
        };
        let own = self.own(lane);
        let first = live(own, monotonic)
            .take(usize::try_from(own_room).unwrap_or(usize::MAX))
            .any(|waiting| waiting == number);
        if !first {
            return false;
        }
        if self.both_want_in(coming, monotonic) {
            self.contested += 1;
            self.contested_returners += u64::from(lane == Lane::Returner);
        }
        for (_, claim) in self.own(lane).range_mut(..number) {
            claim.passed = true;
        }
        self.forget(number);
        true
    }

    /// Exactly these stand before the door now, as far as is known.
    pub(crate) fn saw(&mut self, called: &[u32], returners: &[u32], monotonic: Duration) {
        let claims = |numbers: &[u32]| {
            numbers
                .iter()
                .map(|&number| {
                    (
                        number,
                        Claim {
                            silent_from: monotonic,
                            passed: false,
                        },
                    )
                })
                .collect()
        };
        (self.called, self.returners) = (claims(called), claims(returners));
    }

    /// When a claimant who was told no is to ask again: when it may be her turn, by those who stand before her in her lane.
    /// Whoever stands far back asks seldom, and keeps her claim all the same.
    pub(crate) fn ask_again(
        &mut self,
        lane: Lane,
        number: u32,
        rate_per_minute: u32,
        monotonic: Duration,
    ) -> Duration {
        let own = self.own(lane);
        // Who stands farther back than this asks as late as anybody does: she need not be counted to her place.
        let far = u128::from(rate_per_minute) * (ASK_AGAIN_FAR * SURGE).as_millis() / 60_000 + 1;
        let far = usize::try_from(far).unwrap_or(usize::MAX);
        let before = own
            .range(..number)
            .filter(|(_, claim)| claim.is_live(monotonic))
            .take(far)
            .count();
        let turn_ms = u64::try_from(before).unwrap_or(u64::MAX).saturating_mul(60_000)
            / u64::from(rate_per_minute.max(1));
        let turn = Duration::from_millis(turn_ms);
        let latest = (turn / SURGE).clamp(*ASK_AGAIN.end(), ASK_AGAIN_FAR);
        let again = turn.clamp(*ASK_AGAIN.start(), latest);
        if let Some(claim) = own.get_mut(&number) {
            claim.silent_from = monotonic + again.saturating_sub(*ASK_AGAIN.start());
        }
        again
    }

    /// She is no claimant any more.
    pub(crate) fn forget(&mut self, number: u32) {
        self.called.remove(&number);
        self.returners.remove(&number);
    }

    /// Whether she stands before the door as one who was called in time.
    pub(crate) fn keeps(&self, number: u32, monotonic: Duration) -> bool {
        self.called
            .get(&number)
            .is_some_and(|claim| claim.is_live(monotonic))
    }

    /// Claimants who asked lately: called, returners.
    pub(crate) fn waiting(&mut self, monotonic: Duration) -> (u32, u32) {
        let count = |lane: &mut BTreeMap<u32, Claim>| {
            lane.retain(|_, claim| claim.is_live(monotonic));
            u32::try_from(lane.len()).unwrap_or(u32::MAX)
        };
        (count(&mut self.called), count(&mut self.returners))
    }

    fn own(&mut self, lane: Lane) -> &mut BTreeMap<u32, Claim> {
        match lane {
            Lane::Called => &mut self.called,
            Lane::Returner => &mut self.returners,
        }
    }

    /// Her claim from now on; `None` when there are too many before her already.
    fn claim(&mut self, lane: Lane, number: u32, monotonic: Duration) -> Option<Claim> {
        let own = self.own(lane);
        if own.len() >= CLAIMANTS_MAX && !own.contains_key(&number) {
            let highest = *own.last_key_value().expect("the lane is full").0;
            if number > highest {
                return None;
            }
            own.remove(&highest);
        }
        let passed = own
            .get(&number)
            .is_some_and(|claim| claim.is_live(monotonic) && claim.passed);
        let claim = Claim {
            silent_from: monotonic,
            passed,
        };
        own.insert(number, claim);
        Some(claim)
    }

    fn both_want_in(&self, coming: f64, monotonic: Duration) -> bool {
        live(&self.returners, monotonic).next().is_some()
            && (whole(coming) > 0 || live(&self.called, monotonic).next().is_some())
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of entries are far below 2^53")]
    fn returner_is_due(&self, coming: f64, monotonic: Duration) -> bool {
        self.both_want_in(coming, monotonic)
            && (self.contested_returners + 1) as f64 <= self.returner_share * (self.contested + 1) as f64
    }
}

fn live(lane: &BTreeMap<u32, Claim>, monotonic: Duration) -> impl Iterator<Item = u32> {
    lane.iter()
        .filter(move |(_, claim)| claim.is_live(monotonic))
        .map(|(&number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(100);

    #[test]
    fn a_slot_is_kept_for_the_lowest_claimant_until_she_has_been_silent_for_ten_seconds() {
        let mut lanes = Lanes::new(0.25);
        assert!(!lanes.may_enter(Lane::Called, 5, 0, Inside::Served, 0.0, T));
        assert!(
            !lanes.may_enter(Lane::Called, 9, 1, Inside::Served, 0.0, T),
            "the one slot is number 5's"
        );
        assert!(
            lanes.may_enter(Lane::Called, 9, 2, Inside::Served, 0.0, T),
            "two slots are enough for both"
        );
        assert!(!lanes.may_enter(Lane::Called, 8, 1, Inside::Served, 0.0, T + CLAIM_LAPSE));
        assert!(
            lanes.may_enter(
                Lane::Called,
                8,
                1,
                Inside::Served,
                0.0,
                T + CLAIM_LAPSE + Duration::from_millis(1)
            ),
            "her claim has lapsed"
        );
    }

    #[test]
    fn while_those_inside_are_late_only_those_come_in_for_whom_a_place_was_kept() {
        let mut lanes = Lanes::new(0.25);
        let late = |lanes: &mut Lanes, number, room| {
            lanes.may_enter(Lane::Called, number, room, Inside::Late, 0.0, T)
        };
        for number in [5, 7, 9] {
            assert!(!lanes.may_enter(Lane::Called, number, 0, Inside::Served, 0.0, T));
        }
        assert!(!late(&mut lanes, 5, 9) && !late(&mut lanes, 4, 9));
        assert!(
            lanes.may_enter(Lane::Called, 7, 4, Inside::Served, 0.0, T),
            "there is room for 4 and 5 too"
        );
        assert!(
            !late(&mut lanes, 9, 9) && !late(&mut lanes, 3, 9),
            "nobody has gone in behind these since they came"
        );
        assert!(!late(&mut lanes, 5, 1), "there is no room");
        assert!(late(&mut lanes, 5, 3) && late(&mut lanes, 4, 2));
        lanes.forget(3);
        assert!(!late(&mut lanes, 3, 9));
    }

    #[test]
    fn a_claimant_asks_again_when_it_may_be_her_turn_and_keeps_her_claim_until_then() {
        let mut lanes = Lanes::new(0.25);
        for number in 1..=40 {
            assert!(!lanes.may_enter(Lane::Called, number, 0, Inside::Served, 0.0, T));
        }
        let secs = Duration::from_secs;
        let again: Vec<_> = [1, 2, 3, 15, 40]
            .map(|number| lanes.ask_again(Lane::Called, number, 60, T))
            .into();
        assert_eq!(again, [secs(1), secs(1), secs(2), secs(4), secs(39) / 4]);
        lanes.may_enter(Lane::Called, 60, 0, Inside::Served, 0.0, T);
        assert_eq!(
            lanes.ask_again(Lane::Called, 60, 30, T),
            secs(10),
            "however far back"
        );
        lanes.forget(60);
        assert_eq!(
            lanes.ask_again(Lane::Called, 41, 6_000, T),
            secs(1),
            "hers were not taken down"
        );
        // The others were told nothing and have been silent for too long.
        let at = T + secs(12);
        assert_eq!(lanes.waiting(at), (2, 0));
        assert!(
            !lanes.may_enter(Lane::Called, 40, 1, Inside::Served, 0.0, at),
            "number 15 was told to come in 4 s, and is late"
        );
        assert!(lanes.may_enter(Lane::Called, 40, 1, Inside::Served, 0.0, T + secs(14)));
    }

    #[test]
    fn returners_get_their_share_when_both_want_in_and_no_more() {
        let mut lanes = Lanes::new(0.25);
        let (mut next, mut back, mut returned) = (1_000, 1, 0);
        for _ in 0..400 {
            // Both ask for the one free slot, the returner first.
            if lanes.may_enter(Lane::Returner, back, 1, Inside::Served, 3.0, T) {
                back += 1;
                returned += 1;
            } else {
                assert!(lanes.may_enter(Lane::Called, next, 1, Inside::Served, 3.0, T));
                next += 1;
            }
        }
        assert_eq!(returned, 100);
        lanes.forget(back);
        assert!(
            lanes.may_enter(Lane::Returner, back, 1, Inside::Served, 0.0, T),
            "nobody else wants in"
        );
    }

    #[test]
    fn a_crowd_of_claimants_is_bounded_and_the_lowest_stay() {
        let mut lanes = Lanes::new(0.0);
        for number in (1..20_000).rev() {
            lanes.may_enter(Lane::Returner, number, 0, Inside::Served, 0.0, T);
        }
        assert_eq!(lanes.waiting(T).1 as usize, CLAIMANTS_MAX);
        assert!(lanes.may_enter(Lane::Returner, 1, 1, Inside::Served, 0.0, T));
    }
}
