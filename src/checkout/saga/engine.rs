//! The saga engine: drives any table of steps forward, or back, and writes down every move before it is made.
//!
//! It knows no step. Between two acts there is one ledger write: the outcome of the one and the intent of the next. So
//! after a crash a step may be executed again, never skipped; every act and every undo must bear that.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::checkout::{
    ledger::{Ledger, LedgerError, Position, Progress, Right},
    order::Reason,
    order_limiter::Till,
};
use crate::{
    kernel::{Clock, Entropy, Timestamp},
    platform::shutdown::Lifecycle,
};

/// What came of an act. Of an undo only `Done` and `Again` are meant; anything else is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Done,
    /// Not known, or not possible just now: the same step again after a pause.
    Again,
    /// It is the buyer's turn: the same step again when woken, or after a longer pause.
    Waits,
    /// Refused for good: undo this step and all before it.
    Back(Reason),
    /// Past the point of no return and refused for good: go on by another table.
    Divert(&'static str, Reason),
}

pub(crate) type Verdict = Result<Act, LedgerError>;
pub(crate) type ActFn<C> = for<'a> fn(&'a C) -> BoxFuture<'a, Verdict>;

/// One line of a saga's table.
pub(crate) struct Step<C: 'static> {
    pub(crate) name: &'static str,
    pub(crate) act: ActFn<C>,
    pub(crate) undo: Option<ActFn<C>>,
    /// Keys of the buyer's sentences: begun, done, undone.
    pub(crate) told: [&'static str; 3],
}

/// A saga: steps in order.
pub(crate) struct Table<C: 'static> {
    pub(crate) name: &'static str,
    pub(crate) steps: &'static [Step<C>],
}

impl<C> Table<C> {
    /// Where this saga begins.
    pub(crate) fn start(&self, at: Timestamp) -> Position {
        Position {
            saga: self.name.into(),
            step: self.steps[0].name.into(),
            back: false,
            attempts: 0,
            since: at,
        }
    }
}

/// How long things may take and how soon they are tried again; all derived from two configured times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    retry_base: Duration,
    retry_max: Duration,
    /// How often a payment is asked after while its buyer is on the gateway's page.
    poll: Duration,
    lease: Duration,
    stuck_after: Duration,
    /// How often the reconciler looks round.
    pub(crate) sweep: Duration,
}

impl Pace {
    pub(crate) fn of(gateway_deadline: Duration, authorise_within: Duration) -> Self {
        let retry_base = (gateway_deadline / 50).max(Duration::from_millis(1));
        Self {
            retry_base,
            retry_max: gateway_deadline * 6,
            poll: gateway_deadline,
            lease: gateway_deadline * 6,
            stuck_after: authorise_within * 2,
            sweep: (gateway_deadline / 4).clamp(Duration::from_millis(20), Duration::from_secs(1)),
        }
    }

    /// How far ahead a lease reaches while nothing pauses.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// Exponential backoff with full jitter: anything from nothing to the doubled pause, never more than the most.
    fn pause(&self, attempts: u32, entropy: &dyn Entropy) -> Duration {
        let most = self
            .retry_base
            .saturating_mul(1 << attempts.min(20))
            .min(self.retry_max);
        most.mul_f64(entropy.unit())
    }
}

/// How a drive came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drove {
    Ended,
    /// Somebody else holds the lease now.
    Lost,
    /// The process is ending; whoever leases the saga next goes on.
    Stopped,
}

/// Drives one saga of one order.
pub(crate) struct Driver<'a, C: 'static> {
    pub(crate) ledger: &'a dyn Ledger,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) entropy: &'a dyn Entropy,
    pub(crate) life: &'a Lifecycle,
    pub(crate) pace: Pace,
    pub(crate) tables: &'static [&'static Table<C>],
    /// Cuts a pause short.
    pub(crate) wake: &'a Notify,
    /// Where a drive counts as work but for its pauses.
    pub(crate) till: &'a Till,
}

enum Pause {
    None,
    Backoff,
    Poll,
}

impl<C> Driver<'_, C> {
    pub(crate) async fn drive(&self, right: Right, mut at: Position, context: &C) -> Drove {
        let mut ledger_failures = 0;
        loop {
            let Some((table, index)) = self.find(&at) else {
                tracing::error!(order = %right.order, saga = at.saga, step = at.step, "no such step in this version; left to another");
                return Drove::Stopped;
            };
            let step = &table.steps[index];
            let verdict = if at.back {
                step.undo.map(|undo| undo(context))
            } else {
                Some((step.act)(context))
            };
            let act = match verdict {
                None => Act::Done,
                Some(verdict) => match verdict.await {
                    Ok(act) => act,
                    Err(LedgerError::Lost) => return Drove::Lost,
                    Err(error) => {
                        // Nothing can be written down now, so nothing moves.
                        tracing::warn!(order = %right.order, step = step.name, %error, "the ledger failed; trying again");
                        ledger_failures += 1;
                        if !self.pause(self.pace.pause(ledger_failures, self.entropy)).await {
                            return Drove::Stopped;
                        }
                        continue;
                    }
                },
            };
            ledger_failures = 0;
            let (progress, pause) = self.after(table, index, &at, act);
            at = progress.position.clone();
            let ended = progress.ended;
            let length = match pause {
                Pause::None => Duration::ZERO,
                Pause::Backoff => self.pace.pause(at.attempts, self.entropy),
                Pause::Poll => self.pace.poll,
            };
            if let Some(drove) = self.write(right, progress, length).await {
                return drove;
            }
            if ended {
                return Drove::Ended;
            }
            if !length.is_zero() && !self.pause(length).await {
                return Drove::Stopped;
            }
        }
    }

    fn find(&self, at: &Position) -> Option<(&'static Table<C>, usize)> {
        let table = self.tables.iter().find(|it| it.name == at.saga)?;
        Some((table, table.steps.iter().position(|it| it.name == at.step)?))
    }

    /// The next position, what is logged, and whether to pause before it.
    fn after(&self, table: &'static Table<C>, index: usize, at: &Position, act: Act) -> (Progress, Pause) {
        let now = self.clock.now();
        let step = table.steps[index].name;
        let mut progress = Progress {
            position: at.clone(),
            ended: false,
            stuck: false,
            reason: None,
            log: Vec::with_capacity(2),
            at: now,
            lease_until: now,
        };
        let next = |progress: &mut Progress, name: &'static str| {
            progress.position = Position {
                step: name.into(),
                attempts: 0,
                since: now,
                ..progress.position.clone()
            };
        };
        match act {
            Act::Done if at.back => {
                if table.steps[index].undo.is_some() {
                    progress.log.push((step.into(), "undone"));
                }
                match table.steps[..index].iter().rfind(|it| it.undo.is_some()) {
                    Some(before) => next(&mut progress, before.name),
                    None => progress.ended = true,
                }
                (progress, Pause::None)
            }
            Act::Done => {
                progress.log.push((step.into(), "done"));
                match table.steps.get(index + 1) {
                    Some(after) => {
                        progress.log.push((after.name.into(), "started"));
                        next(&mut progress, after.name);
                    }
                    None => progress.ended = true,
                }
                (progress, Pause::None)
            }
            Act::Back(reason) if !at.back => {
                progress.log.push((step.into(), "refused"));
                progress.reason = Some(reason);
                progress.position = Position {
                    back: true,
                    attempts: 0,
                    since: now,
                    ..at.clone()
                };
                (progress, Pause::None)
            }
            Act::Divert(saga, reason) if !at.back => {
                progress.log.push((step.into(), "refused"));
                progress.reason = Some(reason);
                let first = self
                    .tables
                    .iter()
                    .find(|it| it.name == saga)
                    .map_or(step, |it| it.steps[0].name);
                progress.position = Position {
                    saga: saga.into(),
                    step: first.into(),
                    back: false,
                    attempts: 0,
                    since: now,
                };
                (progress, Pause::None)
            }
            Act::Waits if !at.back => {
                if at.attempts == 0 {
                    progress.log.push((step.into(), "waiting"));
                }
                progress.position.attempts = 1;
                (progress, Pause::Poll)
            }
            Act::Again | Act::Waits | Act::Back(_) | Act::Divert(..) => {
                if at.attempts == 0 {
                    progress.log.push((step.into(), "retrying"));
                }
                progress.position.attempts = at.attempts.saturating_add(1);
                progress.stuck = now.since(at.since) > self.pace.stuck_after;
                (progress, Pause::Backoff)
            }
        }
    }

    /// Writes until it is written. `Some` when the drive is over.
    async fn write(&self, right: Right, mut progress: Progress, pause: Duration) -> Option<Drove> {
        let mut failures = 0;
        loop {
            progress.lease_until = self.clock.now().plus(pause + self.pace.lease);
            match self.ledger.record(right, progress.clone()).await {
                Ok(()) => return None,
                Err(LedgerError::Lost) => return Some(Drove::Lost),
                Err(error) => {
                    tracing::warn!(order = %right.order, %error, "a saga's move could not be written; trying again");
                    failures += 1;
                    if !self.pause(self.pace.pause(failures, self.entropy)).await {
                        return Some(Drove::Stopped);
                    }
                }
            }
        }
    }

    /// False when the process is ending.
    async fn pause(&self, length: Duration) -> bool {
        let over = async {
            tokio::select! {
                biased;
                () = self.life.stopping() => false,
                () = self.wake.notified() => true,
                () = tokio::time::sleep(length) => true,
            }
        };
        self.till.meanwhile(over).await
    }
}
