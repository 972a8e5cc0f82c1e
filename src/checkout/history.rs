//! The buyer's history of an order: saga log entries translated to the keys of the pages' texts.

use crate::checkout::{
    context::CheckoutContext,
    ledger::port::{LedgerError, SagaLogEntry},
    order::HistoryEntry,
    saga::runner::SAGAS,
};
use crate::kernel::OrderId;

/// History of an order, oldest entry first. The start of a step is left out once its end is recorded.
pub(super) async fn history(
    context: &CheckoutContext,
    id: OrderId,
) -> Result<Vec<HistoryEntry>, LedgerError> {
    let log = context.ledger.saga_log(id).await?;
    let is_superseded = |at: usize, entry: &SagaLogEntry| {
        entry.state == "started"
            && log[at + 1..]
                .iter()
                .any(|later| later.step == entry.step && later.state == "done")
    };
    Ok(log
        .iter()
        .enumerate()
        .filter(|(at, entry)| !is_superseded(*at, entry))
        .filter_map(|(_, entry)| history_entry(entry))
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
        _ => return None,
    };
    Some(HistoryEntry {
        at: entry.at,
        step: step.name,
        state,
        text_key,
    })
}
