//! Where a queue token's holder stands: arithmetic on the token, the store's view and the published status.
//! No I/O.

use std::time::Duration;

use crate::waiting_room::{
    context::RoomContext,
    forecast::{
        stock_reach::{CHANCE_MIN_PERCENT, chance_percent},
        wait_table,
    },
    phase::{has_order, phase_at, poll_after_ms, uncalled_state},
    status::{presence, snapshot::PublishedStatus},
    store::port::NumberState,
    tokens::queue_token::QueueToken,
    types::{EntryState, Position, Wait},
};

/// The holder's position now, relative to the published status.
pub(crate) fn position(context: &RoomContext, published: &PublishedStatus, token: &QueueToken) -> Position {
    let (store, at) = (&context.store, context.moment());
    let settings = store.settings();
    let phase = phase_at(&context.config, &settings, at.now);
    let known = number_of(context, token);
    let number = known.map_or(token.arrival, u64::from);
    let standing = known.map_or(NumberState::Left, |number| store.entry_state(number, at));
    let (state, call_ends_at) = match standing {
        NumberState::Waiting => (uncalled_state(phase), None),
        NumberState::Called { ends_at } => (EntryState::Called, Some(ends_at)),
        NumberState::Missed => (EntryState::Missed, None),
        NumberState::Admitted => (EntryState::Admitted, None),
        NumberState::Left => (EntryState::Left, None),
    };
    let has_order = has_order(&context.config, &settings);
    let now_serving = u64::from(store.now_serving());
    let is_behind = standing == NumberState::Waiting && has_order;
    let ahead = is_behind.then(|| published.people_between(now_serving, number.saturating_sub(1)));
    let seat_chance_percent = published
        .available_to_distance
        .filter(|_| is_behind)
        .map(|reach| {
            let behind = number.saturating_sub(u64::from(published.now_serving) + 1);
            chance_percent(reach, u32::try_from(behind).unwrap_or(u32::MAX))
        });
    let wait = is_behind
        .then(|| number.saturating_sub(now_serving + 1))
        .filter(|_| seat_chance_percent.is_none_or(|percent| percent >= CHANCE_MIN_PERCENT))
        .and_then(|distance| wait_table::interpolate(&published.estimate, distance))
        .map(|[p10_s, p50_s, p90_s]| Wait {
            p10_s,
            p50_s,
            p90_s,
            expected_at: at.now.plus(Duration::from_secs(p50_s.into())),
        });
    Position {
        state,
        number: has_order.then_some(number),
        position: ahead.map(|ahead| ahead.count + 1),
        ahead: ahead.map(|ahead| ahead.count),
        approximate: ahead.is_some_and(|ahead| ahead.approximate),
        poll_after_ms: poll_after_ms(state, number, wait.map(|wait| wait.p10_s)),
        wait,
        seat_chance_percent,
        call_ends_at,
        heartbeat_sample: presence::sample_of(token.subject_hash),
    }
}

/// The token's arrival number, if the journal knows its subject by it: after the loss of a journal an old
/// token must not stand for another visitor's entry.
pub(crate) fn arrival_of(context: &RoomContext, token: &QueueToken) -> Option<u32> {
    u32::try_from(token.arrival)
        .ok()
        .filter(|&arrival| context.store.belongs_to(arrival, token.subject_hash))
}

/// The token's queue number: before a draw it orders the entry internally and is not published.
pub(crate) fn number_of(context: &RoomContext, token: &QueueToken) -> Option<u32> {
    let arrival = arrival_of(context, token)?;
    Some(if context.config.draw.is_none() {
        arrival
    } else {
        context.store.queue_number(arrival)
    })
}

/// The queue number as far as it may be published; `None` before a draw is held.
pub(crate) fn published_number(context: &RoomContext, token: &QueueToken) -> Option<u64> {
    if context.config.draw.is_none() {
        return Some(token.arrival);
    }
    let is_drawn = context.store.settings().drawn;
    u32::try_from(token.arrival)
        .ok()
        .filter(|_| is_drawn)
        .map(|arrival| context.store.queue_number(arrival).into())
}

/// Records that the holder's page is open; gives the pause until the next heartbeat. `None`: the holder is
/// not in the sample that is asked, or does not wait, and nothing has changed.
pub(crate) fn heartbeat(
    context: &RoomContext,
    published: &PublishedStatus,
    presence: &presence::Presence,
    token: &QueueToken,
) -> Option<Duration> {
    let (store, at) = (&context.store, context.moment());
    let number =
        number_of(context, token).filter(|number| store.entry_state(*number, at) == NumberState::Waiting)?;
    let settings = store.settings();
    if uncalled_state(phase_at(&context.config, &settings, at.now)) != EntryState::Waiting {
        return None;
    }
    let distance = number.saturating_sub(store.now_serving());
    let wait_s = wait_table::interpolate(&published.estimate, distance.into()).map(|[_, p50_s, _]| p50_s);
    let near = presence::near_distance(settings.rate_effective_per_minute);
    let again_in = presence::next_heartbeat_in(token.subject_hash, distance, near, wait_s)?;
    presence.record(number, at.now, again_in);
    Some(again_in)
}
