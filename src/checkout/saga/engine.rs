//! The saga engine: runs any table of steps forward, or undoes it, and records every move before it is made.
//!
//! The engine knows no particular step. Between two actions there is one ledger write, which holds the
//! outcome of the first and the intent of the second. So after a crash a step may run again, but is never
//! skipped; every action and every undo must be idempotent.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::checkout::{
    ledger::port::{FencedLease, Ledger, LedgerError, Position, Progress},
    order::Reason,
    order_limiter::OrderLimiter,
    saga::retry_policy::RetryPolicy,
};
use crate::{
    kernel::{Clock, Entropy, Timestamp},
    platform::shutdown::Lifecycle,
};

/// Outcome of an action. An undo returns only `Done`, `Skipped` or `Retry`; anything else counts as `Retry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StepOutcome {
    Done,
    /// There was nothing to do. The saga goes on, and the buyer's history does not say that it was done.
    Skipped,
    /// Unknown, or not possible at the moment: run the same step again after a pause.
    Retry,
    /// The buyer has to act until then: run the same step again when woken, or after the poll interval, and
    /// at that time.
    AwaitBuyer(Timestamp),
    /// Refused for good: undo this step and all before it.
    Compensate(Reason),
    /// Past the point of no return and refused for good: continue with the saga of this name.
    SwitchTo(&'static str, Reason),
}

pub(crate) type StepResult = Result<StepOutcome, LedgerError>;
pub(crate) type StepFn<C> = for<'a> fn(&'a C) -> BoxFuture<'a, StepResult>;

/// One step of a saga.
pub(crate) struct Step<C: 'static> {
    pub(crate) name: &'static str,
    pub(crate) action: StepFn<C>,
    pub(crate) undo: Option<StepFn<C>>,
    /// Keys of the texts that the buyer reads: started, done, undone.
    pub(crate) history_keys: [&'static str; 3],
}

/// A saga: its steps in order.
pub(crate) struct SagaTable<C: 'static> {
    pub(crate) name: &'static str,
    pub(crate) steps: &'static [Step<C>],
}

impl<C> SagaTable<C> {
    /// The position at which this saga begins.
    pub(crate) fn start(&self, at: Timestamp) -> Position {
        Position {
            saga: self.name.into(),
            step: self.steps[0].name.into(),
            undoing: false,
            attempts: 0,
            step_started_at: at,
        }
    }

    /// The position at which this saga is undone from the step of this name on.
    pub(crate) fn undo_from(&self, step: &str, at: Timestamp) -> Position {
        Position {
            step: step.into(),
            undoing: true,
            ..self.start(at)
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunResult {
    Ended,
    /// Another process holds the lease now.
    LeaseLost,
    /// The process is shutting down; the next holder of the lease continues.
    Stopped,
}

/// Runs one saga of one order.
pub(crate) struct SagaEngine<'a, C: 'static> {
    pub(crate) ledger: &'a dyn Ledger,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) entropy: &'a dyn Entropy,
    pub(crate) lifecycle: &'a Lifecycle,
    pub(crate) retry_policy: RetryPolicy,
    pub(crate) sagas: &'static [&'static SagaTable<C>],
    /// Cuts a pause short.
    pub(crate) wake: &'a Notify,
    /// A run counts as active here, except while it pauses.
    pub(crate) order_limiter: &'a OrderLimiter,
}

/// What to wait for before the next step.
enum Pause {
    None,
    Backoff,
    /// At most until then.
    Poll(Timestamp),
}

impl<C> SagaEngine<'_, C> {
    pub(crate) async fn run(&self, lease: FencedLease, mut position: Position, context: &C) -> RunResult {
        let mut ledger_failures = 0;
        loop {
            let Some((saga, index)) = self.find(&position) else {
                tracing::error!(
                    order = %lease.order,
                    saga = position.saga,
                    step = position.step,
                    "this version does not know the step; leaving the order to another node"
                );
                return RunResult::Stopped;
            };
            let step = &saga.steps[index];
            let outcome = match Self::execute(step, position.undoing, context).await {
                Ok(outcome) => outcome,
                Err(LedgerError::LeaseLost) => return RunResult::LeaseLost,
                Err(error) => {
                    // Nothing can be recorded now, so the saga must not move.
                    tracing::warn!(
                        order = %lease.order,
                        step = step.name,
                        %error,
                        "a ledger call failed; retrying the saga step"
                    );
                    ledger_failures += 1;
                    let backoff = self.retry_policy.ledger_backoff(ledger_failures, self.entropy);
                    if !self.pause(backoff).await {
                        return RunResult::Stopped;
                    }
                    continue;
                }
            };
            ledger_failures = 0;
            let (progress, pause) = self.next_progress(saga, index, &position, outcome);
            position = progress.position.clone();
            let ended = progress.ended;
            let length = match pause {
                Pause::None => Duration::ZERO,
                Pause::Backoff => self.retry_policy.backoff(position.attempts, self.entropy),
                Pause::Poll(until) => until.since(self.clock.now()).min(self.retry_policy.poll_interval),
            };
            if let Some(result) = self.record(lease, progress, length).await {
                return result;
            }
            if ended {
                return RunResult::Ended;
            }
            if !length.is_zero() && !self.pause(length).await {
                return RunResult::Stopped;
            }
        }
    }

    async fn execute(step: &Step<C>, undoing: bool, context: &C) -> StepResult {
        match (undoing, step.undo) {
            (false, _) => (step.action)(context).await,
            (true, Some(undo)) => undo(context).await,
            (true, None) => Ok(StepOutcome::Done),
        }
    }

    fn find(&self, position: &Position) -> Option<(&'static SagaTable<C>, usize)> {
        let saga = self.sagas.iter().find(|saga| saga.name == position.saga)?;
        let index = saga.steps.iter().position(|step| step.name == position.step)?;
        Some((saga, index))
    }

    /// The next position, what is logged, and whether to pause before it.
    fn next_progress(
        &self,
        saga: &'static SagaTable<C>,
        index: usize,
        position: &Position,
        outcome: StepOutcome,
    ) -> (Progress, Pause) {
        let now = self.clock.now();
        let step = saga.steps[index].name;
        let mut progress = Progress {
            position: position.clone(),
            ended: false,
            stuck: false,
            reason: None,
            log: Vec::with_capacity(2),
            at: now,
            lease_until: now,
        };
        match outcome {
            StepOutcome::Done if position.undoing => undone(&mut progress, saga, index, "undone"),
            StepOutcome::Skipped if position.undoing => undone(&mut progress, saga, index, "undo_skipped"),
            StepOutcome::Done => done(&mut progress, saga, index, "done"),
            StepOutcome::Skipped => done(&mut progress, saga, index, "skipped"),
            StepOutcome::Compensate(reason) if !position.undoing => {
                progress.log.push((step.into(), "refused"));
                progress.reason = Some(reason);
                progress.position.undoing = true;
                enter(&mut progress, step);
            }
            StepOutcome::SwitchTo(next_saga, reason) if !position.undoing => {
                progress.log.push((step.into(), "refused"));
                progress.reason = Some(reason);
                let first = self
                    .sagas
                    .iter()
                    .find(|saga| saga.name == next_saga)
                    .map_or(step, |saga| saga.steps[0].name);
                progress.position.saga = next_saga.into();
                enter(&mut progress, first);
            }
            StepOutcome::AwaitBuyer(until) if !position.undoing => {
                if position.attempts == 0 {
                    progress.log.push((step.into(), "waiting"));
                }
                progress.position.attempts = 1;
                return (progress, Pause::Poll(until));
            }
            StepOutcome::Retry
            | StepOutcome::AwaitBuyer(_)
            | StepOutcome::Compensate(_)
            | StepOutcome::SwitchTo(..) => {
                if position.attempts == 0 {
                    progress.log.push((step.into(), "retrying"));
                }
                progress.position.attempts = position.attempts.saturating_add(1);
                progress.stuck = now.since(position.step_started_at) > self.retry_policy.stuck_after;
                return (progress, Pause::Backoff);
            }
        }
        (progress, Pause::None)
    }

    /// Records progress, retrying until the ledger accepts it. `Some` when the run is over.
    async fn record(&self, lease: FencedLease, mut progress: Progress, pause: Duration) -> Option<RunResult> {
        let mut failures = 0;
        loop {
            // The lease must also cover the pause that follows, or the reconciler would take the order over.
            progress.lease_until = self.clock.now().plus(pause + self.retry_policy.lease_duration());
            match self.ledger.record_progress(lease, progress.clone()).await {
                Ok(()) => return None,
                Err(LedgerError::LeaseLost) => return Some(RunResult::LeaseLost),
                Err(error) => {
                    tracing::warn!(
                        order = %lease.order,
                        %error,
                        "could not record a saga's progress; retrying"
                    );
                    failures += 1;
                    let backoff = self.retry_policy.ledger_backoff(failures, self.entropy);
                    if !self.pause(backoff).await {
                        return Some(RunResult::Stopped);
                    }
                }
            }
        }
    }

    /// Returns false when the process is shutting down.
    async fn pause(&self, length: Duration) -> bool {
        let over = async {
            tokio::select! {
                biased;
                () = self.lifecycle.stopping() => false,
                () = self.wake.notified() => true,
                () = tokio::time::sleep(length) => true,
            }
        };
        self.order_limiter.while_idle(over).await
    }
}

/// An action has succeeded, or had nothing to do: on to the next step, or to the end.
fn done<C>(progress: &mut Progress, saga: &SagaTable<C>, index: usize, state: &'static str) {
    progress.log.push((saga.steps[index].name.into(), state));
    match saga.steps.get(index + 1) {
        Some(next) => {
            progress.log.push((next.name.into(), "started"));
            enter(progress, next.name);
        }
        None => progress.ended = true,
    }
}

/// A step has been undone: back to the one before it that can be undone, or to the end.
fn undone<C>(progress: &mut Progress, saga: &SagaTable<C>, index: usize, state: &'static str) {
    if saga.steps[index].undo.is_some() {
        progress.log.push((saga.steps[index].name.into(), state));
    }
    match saga.steps[..index].iter().rfind(|step| step.undo.is_some()) {
        Some(previous) => enter(progress, previous.name),
        None => progress.ended = true,
    }
}

fn enter(progress: &mut Progress, step: &'static str) {
    progress.position.step = step.into();
    progress.position.attempts = 0;
    progress.position.step_started_at = progress.at;
}
