//! How a saga starts on an order that is already open, and what log and journal say about it.

use crate::checkout::{
    ledger::port::Position,
    order::{OrderState, Reason},
    outcomes::OperatorCancellation,
};

/// A saga to be started on an order that is already open.
#[derive(Clone, Debug)]
pub struct SagaStart {
    /// The state in which the order must be.
    pub from: OrderState,
    /// The state that the order gets.
    pub to: OrderState,
    /// Why the order is undone.
    pub reason: Reason,
    /// Where the saga begins.
    pub position: Position,
    /// The operator who cancels the order, if it is one. The order journal keeps name and reason.
    pub canceled_by: Option<OperatorCancellation>,
}

impl SagaStart {
    /// State of the entry in the saga log with which the saga begins.
    pub(super) fn log_state(&self) -> &'static str {
        match &self.canceled_by {
            Some(_) => "canceled_by_operator",
            None if self.position.undoing => "canceled",
            None => "started",
        }
    }

    /// What the order journal says about it, in order.
    pub(super) fn journal_changes(&self) -> Vec<String> {
        let by = self.canceled_by.as_ref();
        by.map(|by| format!("canceled by operator {}: {}", by.operator, by.reason))
            .into_iter()
            .chain([format!("saga {}", self.position.saga)])
            .collect()
    }
}
