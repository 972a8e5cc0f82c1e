//! People ahead: how many people stand how far behind the last number called, so that a position shrinks when
//! others leave, without a request. Pure.
//!
//! Visitors who left are known exactly, and skipped numbers belong to no visitor. The status gives the number
//! of people within the next so many numbers, at distances that grow in proportion; between two of them a
//! browser interpolates. Where no visitor has left, the result is exact and takes one row.

use serde::{Deserialize, Serialize};

/// So many numbers at the front are counted one by one.
const TOLD_APART: u32 = 16;
/// Blocks beyond them.
const BLOCKS: i32 = 30;
/// A status that must shrink keeps at least so many rows.
const ROWS_MIN: usize = 6;

/// People who wait behind a number: of the next so many numbers, how many belong to a visitor who has not
/// left. Both grow from row to row; on the wire `[numbers, people]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
pub(crate) struct PeopleAhead(Vec<(u32, u32)>);

/// A number of people, and whether it is approximate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeopleCount {
    /// People.
    pub count: u64,
    /// Some of the numbers at that distance have left, and the status does not say which.
    pub approximate: bool,
}

/// The distances behind the front at which a queue of this length is counted.
pub(crate) fn distances(length: u32) -> Vec<u32> {
    let mut distances: Vec<u32> = (1..=length.min(TOLD_APART)).collect();
    if length > TOLD_APART {
        let times = f64::from(length) / f64::from(TOLD_APART);
        let nth = |i| {
            crate::waiting_room::forecast::wait_table::round_to_u32(
                f64::from(TOLD_APART) * times.powf(f64::from(i) / f64::from(BLOCKS)),
            )
        };
        distances.extend((1..=BLOCKS).map(nth));
        distances.dedup();
    }
    distances
}

impl PeopleAhead {
    /// From rows that say how many people there are up to each distance. Rows that interpolation would give
    /// are left out.
    pub(crate) fn of(counted: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut rows: Vec<(u32, u32)> = Vec::new();
        for row in counted {
            if let Some(&last) = rows.last() {
                let before = rows.len().checked_sub(2).map_or((0, 0), |at| rows[at]);
                let rise = |(from, some): (u32, u32), (to, more): (u32, u32)| {
                    (u64::from(to - from), u64::from(more - some))
                };
                let ((wide, up), (wider, higher)) = (rise(before, last), rise(last, row));
                if up * wider == higher * wide {
                    rows.pop();
                }
            }
            rows.push(row);
        }
        Self(rows)
    }

    /// How many people stand within the next `distance` numbers. Beyond its end, which is as old as the
    /// status, no visitor has left yet.
    pub(crate) fn within(&self, distance: u64) -> PeopleCount {
        let next = self.0.partition_point(|&(upto, _)| u64::from(upto) < distance);
        let (from, some) = next.checked_sub(1).map_or((0, 0), |last| self.0[last]);
        let (from, some) = (u64::from(from), u64::from(some));
        let Some(&(to, more)) = self.0.get(next) else {
            return PeopleCount {
                count: some + (distance - from),
                approximate: false,
            };
        };
        let (wide, up) = (u64::from(to) - from, u64::from(more) - some);
        let along = (2 * up * (distance - from) + wide) / (2 * wide);
        PeopleCount {
            count: some + along,
            approximate: up > 0 && up < wide && distance < u64::from(to),
        }
    }

    /// Drops every second row behind the front, but not the last; says whether there was one to drop.
    pub(crate) fn coarsen(&mut self) -> bool {
        let (front, before) = (
            self.0.partition_point(|(upto, _)| *upto <= TOLD_APART),
            self.0.len(),
        );
        if before < front + ROWS_MIN {
            return false;
        }
        let mut at = 0;
        self.0.retain(|_| {
            at += 1;
            at <= front || (before - at) % 2 == 0
        });
        true
    }

    #[cfg(test)]
    pub(crate) fn rows(&self) -> &[(u32, u32)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A queue as the store counts it.
    fn line(there: &[bool]) -> PeopleAhead {
        let mut people = 0;
        let mut counted = 0;
        PeopleAhead::of(
            distances(u32::try_from(there.len()).unwrap())
                .into_iter()
                .map(|upto| {
                    people += there[counted..upto as usize].iter().filter(|it| **it).count();
                    counted = upto as usize;
                    (upto, u32::try_from(people).unwrap())
                }),
        )
    }

    proptest! {
        #[test]
        fn counts_are_exact_unless_marked_approximate(
            leavers in 0_u32..100, length in 0_usize..5_000, seed: u64,
        ) {
            let mut dice = seed | 1;
            let there: Vec<bool> = (0..length).map(|_| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (dice >> 33) % 100 >= u64::from(leavers)
            }).collect();
            let line = line(&there);
            prop_assert!(line.rows().len() <= 64, "{}", line.rows().len());
            let (mut truth, mut before) = (0_u64, 0);
            for distance in 0..=length {
                truth += u64::from(distance > 0 && there[distance - 1]);
                let PeopleCount { count, approximate } = line.within(distance as u64);
                prop_assert!(count >= before, "positions never shrink with the distance");
                before = count;
                let bound = if approximate { distance as u64 / 4 + 1 } else { 0 };
                prop_assert!(count.abs_diff(truth) <= bound, "{distance}: {count} for {truth}");
            }
            prop_assert_eq!(line.within(length as u64 + 7).count, truth + 7);
        }
    }

    #[test]
    fn a_full_queue_is_one_row_and_the_longest_is_short() {
        assert_eq!(line(&[true; 4_000]).rows(), [(4_000, 4_000)]);
        assert_eq!(
            line(&[]).within(0),
            PeopleCount {
                count: 0,
                approximate: false
            }
        );
        assert!(distances(4_000_000).len() <= 64);
        let mut longest = PeopleAhead::of(distances(4_000_000).into_iter().map(|upto| (upto, upto / 3)));
        let end = *longest.rows().last().unwrap();
        while longest.coarsen() {
            assert_eq!(longest.rows().last(), Some(&end), "the end stays");
        }
        assert!(longest.rows().len() < 16 + ROWS_MIN, "{:?}", longest.rows());
        assert_eq!(
            longest.within(9),
            PeopleCount {
                count: 3,
                approximate: false
            },
            "the front stays too"
        );
    }
}
