//! The conformance suite that every ledger must pass.

mod claims;
pub(crate) mod fixtures;
mod orders;

use crate::checkout::{ledger::port::Ledger, outbox::port::Outbox};

/// Runs the whole suite. Each case uses buyers and seats of its own.
pub(crate) async fn all<L: Ledger + Outbox>(ledger: &L) {
    orders::one_idempotency_key_is_one_order(ledger).await;
    orders::one_hold_has_one_open_attempt(ledger).await;
    orders::an_order_that_awaits_its_buyer_is_not_joined(ledger).await;
    orders::an_order_that_awaits_its_buyer_is_undone_for_good(ledger).await;
    orders::a_cancellation_by_an_operator_is_logged_as_such(ledger).await;
    claims::a_seat_has_one_claim_and_its_fence_grows(ledger).await;
    claims::concurrent_claims_give_each_seat_once(ledger).await;
    claims::the_quota_is_enforced_and_restored(ledger).await;
    claims::booking_happens_once_with_tickets_and_events(ledger).await;
    claims::nothing_is_booked_without_claims(ledger).await;
    orders::an_old_lease_changes_nothing(ledger).await;
    claims::a_closed_attempt_claims_nothing(ledger).await;
    orders::webhooks_are_recorded_once(ledger).await;
    claims::claims_are_listed_for_a_restart(ledger).await;
    orders::payments_are_checked_when_due(ledger).await;
    orders::a_seat_store_epoch_is_advanced_once(ledger).await;
}
