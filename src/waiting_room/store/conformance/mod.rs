//! What every store must do. `make` makes an empty store.

mod entries;
mod fixture;
mod slots;

use std::{ops::Deref, sync::atomic::AtomicU64};

use self::fixture::Fixture;
pub(crate) use self::fixture::{at, config};
use crate::{
    kernel::SeededEntropy,
    waiting_room::{store::port::QueueStore, types::Config},
};

pub(crate) async fn holds<S: Deref<Target: QueueStore>>(make: impl AsyncFn(Config) -> S) {
    let queue = async |capacity| {
        Fixture(
            make(config(capacity)).await,
            SeededEntropy::new(1),
            AtomicU64::new(0),
        )
    };
    entries::one_subject_has_one_number(&queue(9).await).await;
    entries::no_number_is_assigned_beyond_the_last(&queue(9).await).await;
    entries::joins_may_arrive_late(&queue(9).await).await;
    entries::records_that_do_not_continue_are_refused(&queue(9).await).await;
    slots::slots_and_permits_are_exact(&queue(2).await).await;
    slots::overload_admits_only_kept_slots(&queue(9).await).await;
    slots::claimants_far_back_ask_rarely(&queue(1).await).await;
    slots::a_slot_is_released_once(&queue(1).await).await;
    entries::an_entry_passes_through_its_states(&queue(9).await).await;
    slots::a_pause_stops_the_windows(&queue(9).await).await;
    slots::a_payment_extends_the_visit(&queue(9).await).await;
    slots::revoked_passes_are_refused(&queue(9).await).await;
    entries::people_ahead_follow_departures(&queue(9).await).await;
    entries::heartbeats_are_asked_of_the_samples(&queue(9).await).await;
    slots::commands_set_admission(&queue(9).await).await;
    slots::clock_steps_never_exceed_the_rate(&queue(500).await).await;
}
