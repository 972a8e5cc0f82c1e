//! The buyer's history of an order: saga log entries translated to the keys of the pages' texts.

use crate::checkout::{
    context::CheckoutContext,
    ledger::port::{LedgerError, SagaLogEntry},
    order::HistoryEntry,
    saga::runner::SAGAS,
};
use crate::kernel::OrderId;

/// The text of an undo that returns money whether or not its step was done before.
const MONEY_RETURNED: &str = "history.refunded";

/// History of an order, oldest entry first. The start of a step is left out once its end is recorded. A step
/// that did nothing, and the undoing of a step that was never done, are not part of it.
pub(super) async fn history(
    context: &CheckoutContext,
    id: OrderId,
) -> Result<Vec<HistoryEntry>, LedgerError> {
    let log = context.ledger.saga_log(id).await?;
    let is_superseded = |at: usize, entry: &SagaLogEntry| {
        entry.state == "started"
            && log[at + 1..]
                .iter()
                .any(|later| later.step == entry.step && matches!(later.state.as_str(), "done" | "skipped"))
    };
    let is_undone_without_done = |at: usize, entry: &SagaLogEntry| {
        entry.state == "undone"
            && !log[..at].iter().any(|earlier| {
                (&earlier.saga, &earlier.step) == (&entry.saga, &entry.step) && earlier.state == "done"
            })
    };
    Ok(log
        .iter()
        .enumerate()
        .filter(|(at, entry)| !is_superseded(*at, entry))
        .filter_map(|(at, entry)| {
            history_entry(entry)
                .filter(|shown| shown.text_key == MONEY_RETURNED || !is_undone_without_done(at, entry))
        })
        .collect())
}

/// Translates one log entry. `None` for a step that this version does not know.
fn history_entry(entry: &SagaLogEntry) -> Option<HistoryEntry> {
    let step = SAGAS
        .iter()
        .find(|saga| saga.name == entry.saga)?
        .steps
        .iter()
        .find(|step| step.name == entry.step)?;
    let [started, done, undone] = step.history_keys;
    let (state, text_key) = match entry.state.as_str() {
        "started" => ("started", started),
        "done" => ("done", done),
        "undone" => ("undone", undone),
        "waiting" => ("waiting", "history.waiting_for_buyer"),
        "retrying" => ("retrying", "history.retrying"),
        "refused" => ("refused", "history.refused"),
        "canceled" => ("canceled", "history.payment_canceled"),
        "canceled_by_operator" => ("canceled", "history.canceled_by_operator"),
        _ => return None,
    };
    Some(HistoryEntry {
        at: entry.at,
        step: step.name,
        state,
        text_key,
    })
}
