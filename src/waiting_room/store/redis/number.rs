//! Numbers for those who join, whole groups of them with one call.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::{effects::Layout, read, scripts::SCRIPTS};
use crate::{
    platform::redis::{Call, Line},
    waiting_room::{
        journal::{Join, JournalError, PgJournal},
        store::{Found, Numbered, StoreError},
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
}

impl Numbering {
    pub(super) fn new(line: Arc<Line>, journal: Arc<PgJournal>, layout: Layout, numbers_max: u32, ceiling: u32) -> Self {
        Self { line, journal, layout, numbers_max, ceiling: AtomicU32::new(ceiling) }
    }

    /// The journal is known to allow as much.
    pub(super) fn allow(&self, ceiling: u32) {
        self.ceiling.store(ceiling, Ordering::Relaxed);
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
        let mut call = Call::new().key(self.line.key("state")).arg(self.ceiling.load(Ordering::Relaxed)).arg(self.numbers_max);
        for &at in open {
            let bucket = self.layout.bucket(joins[at].subject);
            call = call.key(&bucket.key).arg(&bucket.field);
        }
        let numbers: Vec<i64> = read(self.line.call(&SCRIPTS.number, call).await?)?;
        let (issued, numbers) = numbers.split_first().ok_or(StoreError::Away)?;
        let issued = u32::try_from(*issued).unwrap_or(u32::MAX);
        for (&at, &number) in open.iter().zip(numbers) {
            let found = |number: i64| Found { number: u32::try_from(number).unwrap_or(u32::MAX), joined_at: joins[at].joined_at };
            answers[at] = match number {
                1.. => Some(Numbered::New(found(number))),
                ..=-1 => Some(Numbered::Had { found: found(-number), written: false }),
                0 if issued >= self.numbers_max => Some(Numbered::Full),
                0 => None,
            };
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
