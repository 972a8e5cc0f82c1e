//! Numbers for those who join, whole groups of them with one call.
//!
//! Whose place is to be found again by her name, a customer, is written into a bucket; a stranger, whose name is made for this
//! join and told to nobody, needs a number and nothing else. While strangers come in a flood, a node takes some more
//! numbers along than are asked for, for those who come within the next moment: they wait for no engine. Numbers that are
//! left over then are nobody's for ever, and so few that nobody misses them.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{effects::Layout, read, scripts::SCRIPTS};
use crate::{
    kernel::Timestamp,
    platform::redis::{Call, Line},
    waiting_room::{
        journal::{Join, JournalError, PgJournal},
        store::{Found, Numbered, StoreError},
        token::is_stranger,
    },
};

/// Joins that wait for their numbers at most.
pub(super) const WAITING_MAX: usize = 32_768;
/// With one call at most: some milliseconds of the server's time.
pub(super) const GROUP_MAX: usize = 512;

pub(super) struct Numbering {
    line: Arc<Line>,
    journal: Arc<PgJournal>,
    layout: Layout,
    numbers_max: u32,
    /// What the journal allows, as far as this node knows.
    ceiling: AtomicU32,
    ahead: Mutex<Ahead>,
}

impl Numbering {
    pub(super) fn new(line: Arc<Line>, journal: Arc<PgJournal>, layout: Layout, numbers_max: u32, ceiling: u32) -> Self {
        Self { line, journal, layout, numbers_max, ceiling: AtomicU32::new(ceiling), ahead: Mutex::default() }
    }

    /// The journal is known to allow as much.
    pub(super) fn allow(&self, ceiling: u32) {
        self.ceiling.store(ceiling, Ordering::Relaxed);
    }

    /// A number that was taken ahead, for a stranger who comes now.
    pub(super) fn at_hand(&self, join: Join) -> Option<Found> {
        let epoch = self.line.epoch()?;
        let mut ahead = self.ahead.lock();
        ahead.came(join.joined_at);
        ahead.take(epoch, join.joined_at).map(|number| Found { number, joined_at: join.joined_at })
    }

    /// One answer for each, in order.
    pub(super) async fn give(&self, joins: Vec<Join>) -> Vec<Result<Numbered, StoreError>> {
        let mut answers: Vec<Option<Numbered>> = vec![None; joins.len()];
        // The second round is for those above the ceiling, which is raised between the two.
        for round in 0..2 {
            let open: Vec<usize> = (0..joins.len()).filter(|&at| answers[at].is_none()).collect();
            if open.is_empty() {
                break;
            }
            match self.ask(&joins, &open, &mut answers).await {
                Ok(issued) if answers.iter().any(Option::is_none) && round == 0 => {
                    if let Err(error) = self.raise_ceiling(issued).await {
                        return given(answers, error);
                    }
                }
                Ok(_) => {}
                Err(error) => return given(answers, error),
            }
        }
        given(answers, StoreError::Away)
    }

    /// Gives the highest number that was ever given.
    async fn ask(&self, joins: &[Join], open: &[usize], answers: &mut [Option<Numbered>]) -> Result<u32, StoreError> {
        let epoch = self.line.epoch().ok_or(StoreError::Rebuilding)?;
        let (strangers, customers): (Vec<usize>, Vec<usize>) = open.iter().partition(|&&at| is_stranger(joins[at].subject));
        let latest = open.iter().map(|&at| joins[at].joined_at).max().unwrap_or_default();
        let spare = if strangers.is_empty() { 0 } else { self.ahead.lock().wanted(latest) };
        let of_nobody = u32::try_from(strangers.len()).unwrap_or(u32::MAX).saturating_add(spare);
        let mut call =
            Call::new().key(self.line.key("state")).arg(self.ceiling.load(Ordering::Relaxed)).arg(self.numbers_max).arg(of_nobody);
        for &at in &customers {
            let bucket = self.layout.bucket(joins[at].subject);
            call = call.key(&bucket.key).arg(&bucket.field);
        }
        let numbers: Vec<i64> = read(self.line.call(&SCRIPTS.number, call).await?)?;
        let [issued, first, of_nobody, numbers @ ..] = numbers.as_slice() else { return Err(StoreError::Away) };
        let number = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        let found = |at: usize, it: u32| Found { number: it, joined_at: joins[at].joined_at };
        let issued = number(*issued);
        let mut free = number(*first)..number(first + of_nobody);
        let none_left = || (issued >= self.numbers_max).then_some(Numbered::Full);
        for at in strangers {
            answers[at] = free.next().map(|it| Numbered::New(found(at, it))).or_else(none_left);
        }
        for (at, &it) in customers.into_iter().zip(numbers) {
            answers[at] = match it {
                1.. => Some(Numbered::New(found(at, number(it)))),
                ..=-1 => Some(Numbered::Had { found: found(at, number(-it)), written: false }),
                0 => none_left(),
            };
        }
        if !free.is_empty() {
            self.ahead.lock().put(epoch, free, latest);
        }
        Ok(issued)
    }

    /// The journal must know of a number's possibility before it is given out.
    async fn raise_ceiling(&self, issued: u32) -> Result<(), StoreError> {
        let epoch = self.line.epoch().ok_or(StoreError::Rebuilding)?;
        match self.journal.raise_ceiling(epoch, issued).await {
            Ok(ceiling) => {
                self.ceiling.fetch_max(ceiling, Ordering::Relaxed);
                Ok(())
            }
            Err(JournalError::Stale) => {
                self.line.distrust();
                Err(StoreError::Rebuilding)
            }
            Err(error) => {
                tracing::warn!(%error, "no more numbers can be given while the journal is away");
                Err(StoreError::Away)
            }
        }
    }
}

fn given(answers: Vec<Option<Numbered>>, else_: StoreError) -> Vec<Result<Numbered, StoreError>> {
    answers.into_iter().map(|answer| answer.ok_or(else_)).collect()
}

/// Numbers for strangers who come within the next moment.
#[derive(Debug, Default)]
struct Ahead {
    numbers: Range<u32>,
    /// Which of the engine's memories gave them.
    epoch: u64,
    taken_at: Timestamp,
    /// Strangers who came in the stretch that began then, and in the whole one before it.
    stretch: Timestamp,
    come: u32,
    came_before: u32,
}

/// Numbers taken ahead are given to who comes within this, so that who comes later elsewhere does not stand before her.
const GOOD_FOR: Duration = Duration::from_millis(10);
/// As many are taken as come in this.
const SUFFICE_FOR: Duration = Duration::from_millis(5);
/// For fewer it is not worth it, and too many would be left over.
const SPARE_MIN: u32 = 8;
const SPARE_MAX: u32 = 1_024;
/// How long it is counted how many come.
const STRETCH: Duration = Duration::from_millis(100);

impl Ahead {
    /// A stranger has come.
    fn came(&mut self, at: Timestamp) {
        self.go_on_to(at);
        self.come += 1;
    }

    fn go_on_to(&mut self, at: Timestamp) {
        if at >= self.stretch && at < self.stretch.plus(STRETCH) {
            return;
        }
        let is_next = at >= self.stretch && at < self.stretch.plus(STRETCH * 2);
        self.came_before = if is_next { self.come } else { 0 };
        (self.stretch, self.come) = (at, 0);
    }

    /// How many to take ahead.
    fn wanted(&mut self, at: Timestamp) -> u32 {
        self.go_on_to(at);
        let part = u64::from(self.came_before) * u64::try_from(SUFFICE_FOR.as_millis()).unwrap_or(0);
        let wanted = part / u64::try_from(STRETCH.as_millis()).unwrap_or(1);
        u32::try_from(wanted).map_or(SPARE_MAX, |wanted| if wanted < SPARE_MIN { 0 } else { wanted.min(SPARE_MAX) })
    }

    fn put(&mut self, epoch: u64, numbers: Range<u32>, at: Timestamp) {
        (self.numbers, self.epoch, self.taken_at) = (numbers, epoch, at);
    }

    fn take(&mut self, epoch: u64, at: Timestamp) -> Option<u32> {
        let is_good = epoch == self.epoch && at >= self.taken_at && at < self.taken_at.plus(GOOD_FOR);
        if is_good { self.numbers.next() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + ms)
    }

    /// `each_ms` strangers every millisecond for so long; what is wanted ahead then.
    fn wanted(each_ms: u32, for_ms: i64) -> u32 {
        let mut ahead = Ahead::default();
        for at in 0..for_ms {
            (0..each_ms).for_each(|_| ahead.came(ms(at)));
        }
        ahead.wanted(ms(for_ms))
    }

    #[test]
    fn as_many_are_taken_ahead_as_come_in_a_moment_and_none_while_few_come() {
        assert_eq!((wanted(40, 150), wanted(10, 150), wanted(1_000, 150)), (200, 50, SPARE_MAX));
        assert_eq!(wanted(40, 50), 0, "nobody knows yet");
        assert_eq!(wanted(1, 150), 0);
        let mut ahead = Ahead::default();
        (0..150).for_each(|at| (0..40).for_each(|_| ahead.came(ms(at))));
        assert_eq!(ahead.wanted(ms(1_000)), 0, "the flood is over");
        (0..40).for_each(|_| ahead.came(ms(1_010)));
        assert_eq!((ahead.wanted(ms(500)), ahead.come), (0, 0), "a clock that is set back begins anew");
    }

    #[test]
    fn what_was_taken_ahead_is_good_for_a_moment_and_under_its_epoch() {
        let mut ahead = Ahead::default();
        ahead.put(3, 7..10, ms(0));
        assert_eq!((ahead.take(3, ms(0)), ahead.take(3, ms(9))), (Some(7), Some(8)));
        assert_eq!((ahead.take(4, ms(1)), ahead.take(3, ms(10)), ahead.take(3, ms(-1))), (None, None, None));
        assert_eq!((ahead.take(3, ms(2)), ahead.take(3, ms(2))), (Some(9), None));
    }
}
