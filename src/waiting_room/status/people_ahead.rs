//! How many people stand how far behind the last number called: what makes a position shrink when others leave, without
//! anybody asking for herself. Pure.
//!
//! Who has left on purpose is known exactly, and numbers that are nobody's are nobody. The board says how many people
//! stand within the next so many numbers, at distances that grow in proportion; between two of them a browser takes a
//! straight line. Where nobody has left, it is exact, and takes no more than one row.

use serde::{Deserialize, Serialize};

/// Behind the front each place is told apart.
const TOLD_APART: u32 = 16;
/// Blocks beyond it.
const BLOCKS: i32 = 30;
/// When a board has to be made smaller, fewer rows than that are left alone.
const ROWS_MIN: usize = 6;

/// People in line behind a number: of the next so many numbers, so many are somebody's who has not left. Both grow from
/// row to row; on the wire `[numbers, people]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
pub(crate) struct Survivors(Vec<(u32, u32)>);

/// People, and whether that is only about right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct People {
    pub count: u64,
    pub about: bool,
}

/// At how many numbers behind the front a line of this length is counted.
pub(crate) fn distances(length: u32) -> Vec<u32> {
    let mut distances: Vec<u32> = (1..=length.min(TOLD_APART)).collect();
    if length > TOLD_APART {
        let times = f64::from(length) / f64::from(TOLD_APART);
        let nth = |i| {
            crate::waiting_room::forecast::wait_table::whole(
                f64::from(TOLD_APART) * times.powf(f64::from(i) / f64::from(BLOCKS)),
            )
        };
        distances.extend((1..=BLOCKS).map(nth));
        distances.dedup();
    }
    distances
}

impl Survivors {
    /// Of rows that say how many people there are up to each distance. Those that a straight line would give are left
    /// out.
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

    /// How many people stand within the next `distance` numbers. Beyond its end, which is as old as the board, nobody has
    /// left yet.
    pub(crate) fn people(&self, distance: u64) -> People {
        let next = self.0.partition_point(|&(upto, _)| u64::from(upto) < distance);
        let (from, some) = next.checked_sub(1).map_or((0, 0), |last| self.0[last]);
        let (from, some) = (u64::from(from), u64::from(some));
        let Some(&(to, more)) = self.0.get(next) else {
            return People {
                count: some + (distance - from),
                about: false,
            };
        };
        let (wide, up) = (u64::from(to) - from, u64::from(more) - some);
        let along = (2 * up * (distance - from) + wide) / (2 * wide);
        People {
            count: some + along,
            about: up > 0 && up < wide && distance < u64::from(to),
        }
    }

    /// Of the rows behind the front every second goes, but not the end; says whether there was one to go.
    pub(crate) fn thin(&mut self) -> bool {
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

    /// The line of those who are there, as the engine counts it.
    fn line(there: &[bool]) -> Survivors {
        let mut people = 0;
        let mut counted = 0;
        Survivors::of(
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
        fn it_is_exact_where_it_does_not_say_about_and_never_far_off(
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
                let People { count, about } = line.people(distance as u64);
                prop_assert!(count >= before, "nobody's position grows with the distance");
                before = count;
                let bound = if about { distance as u64 / 4 + 1 } else { 0 };
                prop_assert!(count.abs_diff(truth) <= bound, "{distance}: {count} for {truth}");
            }
            prop_assert_eq!(line.people(length as u64 + 7).count, truth + 7);
        }
    }

    #[test]
    fn a_line_that_nobody_has_left_is_one_row_and_the_longest_is_short() {
        assert_eq!(line(&[true; 4_000]).rows(), [(4_000, 4_000)]);
        assert_eq!(
            line(&[]).people(0),
            People {
                count: 0,
                about: false
            }
        );
        assert!(distances(4_000_000).len() <= 64);
        let mut longest = Survivors::of(distances(4_000_000).into_iter().map(|upto| (upto, upto / 3)));
        let end = *longest.rows().last().unwrap();
        while longest.thin() {
            assert_eq!(longest.rows().last(), Some(&end), "the end stays");
        }
        assert!(longest.rows().len() < 16 + ROWS_MIN, "{:?}", longest.rows());
        assert_eq!(
            longest.people(9),
            People {
                count: 3,
                about: false
            },
            "the front stays too"
        );
    }
}
