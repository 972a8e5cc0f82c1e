//! Numbers for those who join, whole groups of them with one call.
//!
//! Whose place is to be found again by her name, a customer, is written into a bucket; a stranger, whose name is made for this
//! join and told to nobody, needs a number and nothing else. While strangers come in a flood, a node takes numbers ahead, for
//! those who come within the next moment: they wait for no engine. Numbers that are left over then are nobody's for ever,
//! and so few that nobody misses them.
//!
//! # Profile of a join
//!
//! 64 connections, acknowledged, everything on two cores (how: README, "Profile it"). The node's share was 19 µs a join when every
//! join went to Redis by its subject, and is 12 now; a bare route's is 9. What it was spent on, and what was found:
//! - 5.5 µs are `writev` into the loopback, 2 reading and parsing the request, as for the bare route; the handler's own are 2,
//!   of which JSON and cookie are a quarter each and the token's MAC is another.
//! - A subject's bucket cost Redis 7 µs (2 the `HSETNX`, the rest the script's arguments), and the wait for the group a turn
//!   of the task, the poll of the sockets and a wake: 3 µs. A stranger needs neither.
//! - With 75,000 a second a ceiling 2,048 above the last number was reached 37 times a second, and everybody waited for
//!   each commit that raised it: a tenth of the time. So it is raised before it is reached.
//! - PostgreSQL needs 0.4 ms of a core for a commit, whatever is in it; a fifth of that was compressing what does not
//!   compress. With a group every 5 ms it took a twentieth of the machine, so groups for which nobody waits gather for 10.
//! - A connection that looks with each request whether the process is stopping, permits behind a lock and the count of who
//!   shares the sale took a twenty-fifth of the node.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    kernel::Timestamp,
    platform::redis::{Call, FencedConnection},
    waiting_room::{
        journal::{HEADROOM, PgJournal, port::JournalError, record::Join},
        store::{
            port::{Found, Numbered, StoreError},
            redis::{bucket::Layout, reply::read, scripts::SCRIPTS},
        },
        tokens::queue_token::is_stranger,
    },
};

/// Joins that wait for their numbers at most.
pub(crate) const WAITING_MAX: usize = 32_768;
/// With one call at most: some milliseconds of the server's time.
pub(crate) const GROUP_MAX: usize = 512;

pub(crate) struct Numbering {
    line: Arc<FencedConnection>,
    journal: Arc<PgJournal>,
    layout: Layout,
    numbers_max: u32,
    /// What the journal allows, as far as this node knows.
    ceiling: AtomicU32,
    /// The highest number given, as far as this node knows.
    issued: AtomicU32,
    ahead: Mutex<Ahead>,
    runs_short: Notify,
    ceiling_is_near: Notify,
}

impl Numbering {
    pub(crate) fn new(
        line: Arc<FencedConnection>,
        journal: Arc<PgJournal>,
        layout: Layout,
        numbers_max: u32,
        ceiling: u32,
    ) -> Self {
        let (ceiling, issued, ahead) = (AtomicU32::new(ceiling), AtomicU32::new(0), Mutex::default());
        let [runs_short, ceiling_is_near] = [const { Notify::const_new() }; 2];
        Self {
            line,
            journal,
            layout,
            numbers_max,
            ceiling,
            issued,
            ahead,
            runs_short,
            ceiling_is_near,
        }
    }

    /// The journal is known to allow as much.
    pub(crate) fn allow(&self, ceiling: u32) {
        self.ceiling.store(ceiling, Ordering::Relaxed);
    }

    /// A number that was taken ahead, for a stranger who comes now.
    pub(crate) fn at_hand(&self, join: Join) -> Option<Found> {
        let epoch = self.line.epoch()?;
        let mut ahead = self.ahead.lock();
        ahead.came(join.joined_at);
        let number = ahead.take(epoch, join.joined_at);
        if ahead.runs_short() {
            self.runs_short.notify_one();
        }
        number.map(|number| Found {
            number,
            joined_at: join.joined_at,
        })
    }

    /// Takes numbers ahead whenever they run short. Never ends.
    pub(crate) async fn stock_up(&self) {
        loop {
            self.runs_short.notified().await;
            let (wanted, since) = self.ahead.lock().wanted();
            // Whoever comes meanwhile asks for herself.
            let Some(epoch) = self.line.epoch() else { continue };
            let Ok((issued, numbers, _)) = self.call(wanted, &[], &[]).await else {
                continue;
            };
            self.ahead.lock().lots.push_back(Lot {
                numbers,
                epoch,
                since,
            });
            if self.ceiling.load(Ordering::Relaxed) < issued.saturating_add(self.headroom() / 2) {
                self.ceiling_is_near.notify_one();
            }
        }
    }

    /// Raises the ceiling before a flood reaches it. Never ends.
    pub(crate) async fn stay_below_the_ceiling(&self) {
        loop {
            self.ceiling_is_near.notified().await;
            // What this raises in vain is raised again by whoever needs it, and waits for it then.
            let _ = self.raise_ceiling(self.issued.load(Ordering::Relaxed)).await;
        }
    }

    /// How far above what is given the ceiling is put: as many numbers as this are skipped when the engine loses its memory.
    /// While strangers come in a flood, a second's worth.
    fn headroom(&self) -> u32 {
        let a_second = u32::try_from(Duration::from_secs(1).as_millis() / STRETCH.as_millis()).unwrap_or(1);
        HEADROOM.max(self.ahead.lock().came_before.saturating_mul(a_second))
    }

    /// One answer for each, in order.
    pub(crate) async fn give(&self, joins: Vec<Join>) -> Vec<Result<Numbered, StoreError>> {
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
    async fn ask(
        &self,
        joins: &[Join],
        open: &[usize],
        answers: &mut [Option<Numbered>],
    ) -> Result<u32, StoreError> {
        let (strangers, customers): (Vec<usize>, Vec<usize>) =
            open.iter().partition(|&&at| is_stranger(joins[at].subject));
        let (issued, mut of_nobody, of_customers) = self
            .call(
                u32::try_from(strangers.len()).unwrap_or(u32::MAX),
                &customers,
                joins,
            )
            .await?;
        let found = |at: usize, number: u32| Found {
            number,
            joined_at: joins[at].joined_at,
        };
        let none_left = || (issued >= self.numbers_max).then_some(Numbered::Full);
        for at in strangers {
            answers[at] = of_nobody
                .next()
                .map(|it| Numbered::New(found(at, it)))
                .or_else(none_left);
        }
        for (at, it) in customers.into_iter().zip(of_customers) {
            answers[at] = match it {
                1.. => Some(Numbered::New(found(at, number(it)))),
                ..=-1 => Some(Numbered::Had {
                    found: found(at, number(-it)),
                    written: false,
                }),
                0 => none_left(),
            };
        }
        Ok(issued)
    }

    /// One call: so many numbers of nobody's, and one for each of these customers. Gives the highest number that was ever
    /// given, those of nobody's, and what the script says of each customer.
    async fn call(
        &self,
        of_nobody: u32,
        customers: &[usize],
        joins: &[Join],
    ) -> Result<(u32, Range<u32>, Vec<i64>), StoreError> {
        let mut call = Call::new()
            .key(self.line.key("state"))
            .arg(self.ceiling.load(Ordering::Relaxed))
            .arg(self.numbers_max)
            .arg(of_nobody);
        for &at in customers {
            let bucket = self.layout.bucket(joins[at].subject);
            call = call.key(&bucket.key).arg(&bucket.field);
        }
        let mut said: Vec<i64> = read(self.line.call(&SCRIPTS.number, call).await?)?;
        if said.len() != 3 + customers.len() {
            return Err(StoreError::Away);
        }
        let of_customers = said.split_off(3);
        self.issued.fetch_max(number(said[0]), Ordering::Relaxed);
        Ok((
            number(said[0]),
            number(said[1])..number(said[1] + said[2]),
            of_customers,
        ))
    }

    /// The journal must know of a number's possibility before it is given out.
    async fn raise_ceiling(&self, issued: u32) -> Result<(), StoreError> {
        let epoch = self.line.epoch().ok_or(StoreError::Rebuilding)?;
        match self
            .journal
            .raise_ceiling(epoch, issued.saturating_add(self.headroom()))
            .await
        {
            Ok(ceiling) => {
                self.ceiling.fetch_max(ceiling, Ordering::Relaxed);
                Ok(())
            }
            Err(JournalError::Stale) => {
                self.line.deactivate();
                Err(StoreError::Rebuilding)
            }
            Err(error) => {
                tracing::warn!(%error, "no more numbers can be given while the journal is away");
                Err(StoreError::Away)
            }
        }
    }
}

fn number(said: i64) -> u32 {
    u32::try_from(said).unwrap_or(u32::MAX)
}

fn given(answers: Vec<Option<Numbered>>, else_: StoreError) -> Vec<Result<Numbered, StoreError>> {
    answers.into_iter().map(|answer| answer.ok_or(else_)).collect()
}

/// Numbers that were taken ahead at one moment.
#[derive(Clone, Debug)]
struct Lot {
    numbers: Range<u32>,
    /// Which of the engine's memories gave them.
    epoch: u64,
    since: Timestamp,
}

/// Numbers for strangers who come within the next moment.
#[derive(Debug, Default)]
struct Ahead {
    lots: VecDeque<Lot>,
    /// When the last stranger came.
    latest: Timestamp,
    /// Strangers who came in the stretch that began then, and in the whole one before it.
    stretch: Timestamp,
    come: u32,
    came_before: u32,
}

/// Numbers taken ahead are given to who comes within this, so that who comes later elsewhere does not stand before her.
const GOOD_FOR: Duration = Duration::from_millis(15);
/// As many are taken as come in this; half of it before they run out.
const SUFFICE_FOR: Duration = Duration::from_millis(8);
/// For fewer it is not worth it, and too many would be left over.
const AHEAD_MIN: u32 = 13;
const AHEAD_MAX: u32 = 1_024;
/// How long it is counted how many come.
const STRETCH: Duration = Duration::from_millis(100);

impl Ahead {
    /// A stranger has come.
    fn came(&mut self, at: Timestamp) {
        if at < self.stretch || at >= self.stretch.plus(STRETCH) {
            let is_next = at >= self.stretch && at < self.stretch.plus(STRETCH * 2);
            self.came_before = if is_next { self.come } else { 0 };
            (self.stretch, self.come) = (at, 0);
        }
        self.come += 1;
        self.latest = at;
    }

    /// How many to take ahead, and for whom: who comes from when on.
    fn wanted(&self) -> (u32, Timestamp) {
        let part = u32::try_from(STRETCH.as_millis() / SUFFICE_FOR.as_millis()).unwrap_or(1);
        let wanted = self.came_before / part;
        (
            if wanted < AHEAD_MIN {
                0
            } else {
                wanted.min(AHEAD_MAX)
            },
            self.latest,
        )
    }

    fn runs_short(&self) -> bool {
        let left: usize = self.lots.iter().map(|it| it.numbers.len()).sum();
        u32::try_from(left).is_ok_and(|left| left < self.wanted().0 / 2)
    }

    fn take(&mut self, epoch: u64, at: Timestamp) -> Option<u32> {
        let is_good = |lot: &Lot| {
            lot.epoch == epoch && at >= lot.since && at < lot.since.plus(GOOD_FOR) && !lot.numbers.is_empty()
        };
        while self.lots.front().is_some_and(|lot| !is_good(lot)) {
            self.lots.pop_front();
        }
        self.lots.front_mut()?.numbers.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: i64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + ms)
    }

    /// `each_ms` strangers every millisecond for so long.
    fn flood(each_ms: u32, for_ms: i64) -> Ahead {
        let mut ahead = Ahead::default();
        for at in 0..for_ms {
            (0..each_ms).for_each(|_| ahead.came(ms(at)));
        }
        ahead
    }

    #[test]
    fn as_many_are_taken_ahead_as_come_in_a_moment_and_none_while_few_come() {
        let wanted = |each_ms, for_ms| flood(each_ms, for_ms).wanted().0;
        assert_eq!(
            (wanted(40, 150), wanted(10, 150), wanted(1_000, 150)),
            (333, 83, AHEAD_MAX)
        );
        assert_eq!((wanted(40, 50), wanted(1, 150)), (0, 0));
        let mut ahead = flood(40, 150);
        assert!(ahead.runs_short());
        ahead.came(ms(1_000));
        assert_eq!(
            (ahead.wanted().0, ahead.runs_short()),
            (0, false),
            "the flood is over"
        );
        let mut ahead = flood(40, 150);
        ahead.came(ms(-1_000));
        assert_eq!(
            ahead.wanted(),
            (0, ms(-1_000)),
            "a clock that is set back begins anew"
        );
    }

    #[test]
    fn what_was_taken_ahead_is_good_for_a_moment_and_under_its_epoch() {
        let mut ahead = flood(40, 150);
        ahead.lots.push_back(Lot {
            numbers: 7..200,
            epoch: 3,
            since: ms(150),
        });
        assert!(!ahead.runs_short());
        assert_eq!(
            (ahead.take(3, ms(150)), ahead.take(3, ms(164))),
            (Some(7), Some(8))
        );
        ahead.lots.push_back(Lot {
            numbers: 200..202,
            epoch: 3,
            since: ms(155),
        });
        assert_eq!(
            (ahead.take(3, ms(165)), ahead.take(3, ms(169))),
            (Some(200), Some(201)),
            "the first lot is too old"
        );
        assert!(ahead.take(3, ms(169)).is_none() && ahead.runs_short());
        ahead.lots.push_back(Lot {
            numbers: 300..400,
            epoch: 3,
            since: ms(155),
        });
        assert_eq!(
            ahead.take(4, ms(156)),
            None,
            "the engine has lost its memory since"
        );
        ahead.lots.push_back(Lot {
            numbers: 400..500,
            epoch: 4,
            since: ms(155),
        });
        assert_eq!(ahead.take(4, ms(154)), None, "the clock was set back");
    }
}
