//! Which phase a sale is in, and what follows from it: pure functions on configuration, settings and time.

use crate::{
    kernel::Timestamp,
    waiting_room::{
        state::Settings,
        types::{Config, DelayReason, EntryState, POLL_FAR_MS, POLL_NEAR_MS, Phase},
    },
};

/// The phase at `now`, by the clock and by the operators' commands.
pub(crate) fn phase_at(config: &Config, settings: &Settings, now: Timestamp) -> Phase {
    if now >= config.closes_at || settings.closes_at.is_some_and(|at| now >= at) {
        Phase::Closed
    } else if now < config.prequeue_starts_at {
        Phase::Scheduled
    } else if now < config.on_sale_starts_at {
        Phase::Prequeue
    } else if !has_order(config, settings) {
        Phase::Drawing
    } else if settings.is_stopped() {
        Phase::Paused
    } else if settings.sold_out {
        Phase::SoldOut
    } else {
        Phase::OnSale
    }
}

/// Whether queue numbers are final and may be published: those of a fair draw are not known before it is
/// held.
pub(crate) fn has_order(config: &Config, settings: &Settings) -> bool {
    config.draw.is_none() || settings.drawn
}

/// Why admission is stopped or reduced, as far as it follows from the settings alone.
pub(crate) fn reason_of(phase: Phase, settings: &Settings, active: u32) -> Option<DelayReason> {
    match phase {
        Phase::SoldOut | Phase::Closed => None,
        _ if settings.is_paused() => Some(DelayReason::Paused),
        _ if settings.rate_configured_per_minute == 0 => Some(DelayReason::PausedByRate),
        _ if settings.active_visits_max == 0 => Some(DelayReason::PausedByVisitLimit),
        Phase::OnSale if active > settings.active_visits_max => Some(DelayReason::VisitLimitLowered),
        Phase::OnSale if settings.rate_reduction_ppm > 0 => Some(DelayReason::BoxOfficeBusy),
        _ => None,
    }
}

/// State of a queue entry that has not been called yet.
pub(crate) fn uncalled_state(phase: Phase) -> EntryState {
    match phase {
        Phase::Scheduled | Phase::Prequeue | Phase::Drawing => EntryState::Prequeue,
        Phase::OnSale | Phase::Paused | Phase::SoldOut | Phase::Closed => EntryState::Waiting,
    }
}

/// Pause before the next poll, in milliseconds: shorter near the front, and spread by number so that visitors
/// who joined together do not poll together.
pub(crate) fn poll_after_ms(state: EntryState, number: u64, soonest_s: Option<u32>) -> u32 {
    let base = match state {
        EntryState::Called => return POLL_NEAR_MS,
        EntryState::Missed => 3 * POLL_NEAR_MS,
        EntryState::Admitted | EntryState::Left => POLL_FAR_MS,
        // A twentieth of the wait: the answer is late by 5 % at worst.
        EntryState::Prequeue | EntryState::Waiting => {
            soonest_s.map_or(5 * POLL_NEAR_MS, |seconds| seconds.saturating_mul(50))
        }
    };
    let base = base.clamp(POLL_NEAR_MS, POLL_FAR_MS);
    // Multiplicative hashing: consecutive numbers land far apart.
    let spread =
        u32::try_from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).expect("32 bits") % (base / 4);
    if base == POLL_NEAR_MS {
        base
    } else {
        base - base / 8 + spread
    }
}
