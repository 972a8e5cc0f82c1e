//! What every engine must do, as tests that an engine calls with a way to make one.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use crate::kernel::{Clock, HoldId, ManualClock, Subject, Timestamp, VisitId};

use crate::seating::{
    hold::{HoldState, RestoredClaim},
    seat::{SeatIx, SeatState},
    store::{BookReply, ChangeReply, ExtendReply, HoldReply, StoreHold, IdempotencyKey, SeatStore, HoldTerms},
};

pub(crate) const TERMS: HoldTerms = HoldTerms {
    hold_ttl: Duration::from_mins(7),
    extensions_max: 1,
    seats_per_customer_max: 4,
};

/// An engine of so many seats, and the clock it goes by.
pub(crate) struct Bench<S> {
    pub(crate) store: S,
    pub(crate) clock: Arc<ManualClock>,
}

pub(crate) fn fan(n: u8) -> Subject {
    Subject::customer(&n.to_string()).unwrap()
}

pub(crate) fn hold_id(n: u32) -> HoldId {
    HoldId::from_uuid(Uuid::from_u128(
        u128::from(n) << 64 | u128::from(n).wrapping_mul(0x9e37_79b9),
    ))
}

pub(crate) fn seats(of: &[u32]) -> Arc<[SeatIx]> {
    of.iter().map(|it| SeatIx(*it)).collect()
}

pub(crate) fn request(id: u32, who: u8, of: &[u32]) -> StoreHold {
    StoreHold {
        id: hold_id(id),
        subject: fan(who),
        visit: VisitId::from_uuid(Uuid::from_u128(7)),
        seats: seats(of),
        operation: None,
    }
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_millis(1_795_464_000_000)))
}

/// Everything; each part starts with a new engine of 100 seats under [`TERMS`].
pub(crate) async fn run<S: SeatStore>(make: impl AsyncFn() -> Bench<S>) {
    a_hold_is_all_or_none(make().await).await;
    a_limit_counts_held_paying_and_booked(make().await).await;
    an_operation_is_done_once(make().await).await;
    a_swap_keeps_what_it_keeps(make().await).await;
    a_hold_runs_out_and_can_be_extended_once(make().await).await;
    another_fans_hold_does_not_exist(make().await).await;
    a_checkout_keeps_its_hold_until_it_ends_it(make().await).await;
    the_ledger_is_followed(make().await).await;
    claims_are_given_back(make().await).await;
    blocked_seats_cannot_be_had(make().await).await;
    changes_tell_the_whole_story(make().await).await;
}

async fn held<S: SeatStore>(store: &S, request: StoreHold) {
    let reply = store.hold(&request).await.unwrap();
    assert!(matches!(reply, HoldReply::Held { .. }), "{reply:?}");
}

async fn state<S: SeatStore>(store: &S, seat: u32) -> SeatState {
    store.load().await.unwrap().1.get(SeatIx(seat))
}

async fn a_hold_is_all_or_none<S: SeatStore>(Bench { store, clock }: Bench<S>) {
    let reply = store.hold(&request(1, 1, &[3, 4])).await.unwrap();
    assert_eq!(
        reply,
        HoldReply::Held {
            expires_at: clock.now().plus(TERMS.hold_ttl),
            extensions_left: 1
        }
    );
    let reply = store.hold(&request(2, 2, &[2, 4, 3, 5])).await.unwrap();
    assert_eq!(reply, HoldReply::Taken(vec![SeatIx(4), SeatIx(3)]));
    assert_eq!(
        (state(&store, 2).await, state(&store, 5).await),
        (SeatState::Free, SeatState::Free)
    );
    assert_eq!(
        store.hold(&request(3, 2, &[5, 100])).await.unwrap(),
        HoldReply::Taken(vec![SeatIx(100)]),
        "no such seat"
    );
    assert!(store.release(hold_id(1), &fan(1)).await.unwrap());
    assert!(!store.release(hold_id(1), &fan(1)).await.unwrap());
    held(&store, request(4, 2, &[2, 3, 4, 5])).await;
}

async fn a_limit_counts_held_paying_and_booked<S: SeatStore>(Bench { store, clock }: Bench<S>) {
    held(&store, request(1, 1, &[0])).await;
    held(&store, request(2, 1, &[1])).await;
    held(&store, request(3, 1, &[2])).await;
    store
        .begin_checkout(hold_id(2), &fan(1), clock.now())
        .await
        .unwrap()
        .unwrap();
    store.book(hold_id(3), &fan(1), &seats(&[2])).await.unwrap();
    assert_eq!(
        store.hold(&request(4, 1, &[3, 4])).await.unwrap(),
        HoldReply::LimitReached
    );
    held(&store, request(5, 1, &[3])).await;
    assert_eq!(
        store.swap(hold_id(5), &fan(1), &seats(&[3, 4])).await.unwrap(),
        ChangeReply::LimitReached
    );
    store.release(hold_id(1), &fan(1)).await.unwrap();
    assert!(matches!(
        store.swap(hold_id(5), &fan(1), &seats(&[3, 4])).await.unwrap(),
        ChangeReply::Changed(_)
    ));
    held(&store, request(6, 2, &[10, 11, 12, 13])).await;
}

async fn an_operation_is_done_once<S: SeatStore>(Bench { store, clock }: Bench<S>) {
    let operation = IdempotencyKey {
        key: [1; 16],
        request_hash: [2; 16],
    };
    assert_eq!(store.find_completed(&operation).await.unwrap(), None);
    held(
        &store,
        StoreHold {
            operation: Some(operation),
            ..request(1, 1, &[0, 1])
        },
    )
    .await;
    let again = store
        .hold(&StoreHold {
            operation: Some(operation),
            ..request(2, 1, &[0, 1])
        })
        .await
        .unwrap();
    let HoldReply::Replayed(record) = &again else {
        panic!("{again:?}")
    };
    assert_eq!((record.id, &record.seats), (hold_id(1), &seats(&[0, 1])));
    assert_eq!(store.find_completed(&operation).await.unwrap(), Some(again));
    let other = IdempotencyKey {
        request_hash: [3; 16],
        ..operation
    };
    let reply = store
        .hold(&StoreHold {
            operation: Some(other),
            ..request(3, 1, &[5])
        })
        .await
        .unwrap();
    assert_eq!(reply, HoldReply::IdempotencyKeyReused);
    store.release(hold_id(1), &fan(1)).await.unwrap();
    assert!(
        matches!(store.find_completed(&operation).await.unwrap(), Some(HoldReply::Replayed(_))),
        "the same answer, though it is over"
    );
    assert_eq!(
        state(&store, 0).await,
        SeatState::Free,
        "and nothing is taken by it"
    );
    clock.advance(Duration::from_mins(11));
    held(
        &store,
        StoreHold {
            operation: Some(IdempotencyKey {
                key: [9; 16],
                request_hash: [9; 16],
            }),
            ..request(4, 1, &[7])
        },
    )
    .await;
    assert_eq!(store.find_completed(&operation).await.unwrap(), None, "forgotten");
}

async fn a_swap_keeps_what_it_keeps<S: SeatStore>(Bench { store, clock }: Bench<S>) {
    held(&store, request(1, 1, &[0, 1])).await;
    held(&store, request(2, 2, &[3])).await;
    clock.advance(Duration::from_mins(1));
    let deadline = store.find(hold_id(1), &fan(1)).await.unwrap().unwrap().expires_at;
    assert_eq!(
        store.swap(hold_id(1), &fan(1), &seats(&[1, 2, 3])).await.unwrap(),
        ChangeReply::Taken(vec![SeatIx(3)])
    );
    assert_eq!(state(&store, 2).await, SeatState::Free);
    let reply = store.swap(hold_id(1), &fan(1), &seats(&[1, 2])).await.unwrap();
    let ChangeReply::Changed(record) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!((record.seats, record.expires_at), (seats(&[1, 2]), deadline));
    let shown = [
        state(&store, 0).await,
        state(&store, 1).await,
        state(&store, 2).await,
    ];
    assert_eq!(shown, [SeatState::Free, SeatState::Held, SeatState::Held]);
    assert_eq!(
        store.swap(hold_id(9), &fan(1), &seats(&[50])).await.unwrap(),
        ChangeReply::Gone
    );
}

async fn a_hold_runs_out_and_can_be_extended_once<S: SeatStore>(Bench { store, clock }: Bench<S>) {
    held(&store, request(1, 1, &[0])).await;
    clock.advance(Duration::from_mins(6));
    assert!(
        matches!(store.extend(hold_id(1), &fan(1)).await.unwrap(), ExtendReply::Extended(it) if it.extensions_left == 0)
    );
    assert_eq!(
        store.extend(hold_id(1), &fan(1)).await.unwrap(),
        ExtendReply::NoMoreExtensions
    );
    clock.advance(Duration::from_mins(6));
    assert_eq!(
        store.expire_holds(10).await.unwrap(),
        0,
        "the first deadline counts no longer"
    );
    assert!(store.find(hold_id(1), &fan(1)).await.unwrap().is_some());
    clock.advance(Duration::from_mins(1));
    assert!(
        store.find(hold_id(1), &fan(1)).await.unwrap().is_none(),
        "over, though not swept"
    );
    assert_eq!(
        store.extend(hold_id(1), &fan(1)).await.unwrap(),
        ExtendReply::Gone
    );
    assert_eq!(
        store
            .begin_checkout(hold_id(1), &fan(1), clock.now())
            .await
            .unwrap(),
        None
    );
    held(&store, request(2, 2, &[0])).await;
    clock.advance(TERMS.hold_ttl);
    assert_eq!(store.expire_holds(10).await.unwrap(), 1);
    assert_eq!(state(&store, 0).await, SeatState::Free);
}

async fn another_fans_hold_does_not_exist<S: SeatStore>(Bench { store, clock }: Bench<S>) {
    held(&store, request(1, 1, &[0])).await;
    let thief = fan(2);
    assert_eq!(store.find(hold_id(1), &thief).await.unwrap(), None);
    assert_eq!(
        store.swap(hold_id(1), &thief, &seats(&[1])).await.unwrap(),
        ChangeReply::Gone
    );
    assert_eq!(store.extend(hold_id(1), &thief).await.unwrap(), ExtendReply::Gone);
    assert_eq!(
        store
            .begin_checkout(hold_id(1), &thief, clock.now())
            .await
            .unwrap(),
        None
    );
    assert!(!store.release(hold_id(1), &thief).await.unwrap());
    assert!(store.find(hold_id(1), &fan(1)).await.unwrap().is_some());
}

async fn a_checkout_keeps_its_hold_until_it_ends_it<S: SeatStore>(Bench { store, clock }: Bench<S>) {
    held(&store, request(1, 1, &[0, 1])).await;
    let until = clock.now().plus(Duration::from_mins(9));
    for _ in 0..2 {
        let record = store
            .begin_checkout(hold_id(1), &fan(1), until)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((record.state, record.expires_at), (HoldState::Paying, until));
    }
    assert_eq!(
        store.swap(hold_id(1), &fan(1), &seats(&[1])).await.unwrap(),
        ChangeReply::Gone
    );
    assert!(!store.release(hold_id(1), &fan(1)).await.unwrap());
    clock.advance(Duration::from_hours(1));
    assert_eq!(store.expire_holds(10).await.unwrap(), 0);
    assert_eq!(state(&store, 0).await, SeatState::Held);
    store
        .return_to_hold(hold_id(1), clock.now().plus(Duration::from_mins(2)))
        .await
        .unwrap();
    assert_eq!(
        store.find(hold_id(1), &fan(1)).await.unwrap().unwrap().state,
        HoldState::Held
    );
    clock.advance(Duration::from_mins(2));
    assert_eq!(store.expire_holds(10).await.unwrap(), 1);
    assert_eq!(state(&store, 0).await, SeatState::Free);
}

async fn the_ledger_is_followed<S: SeatStore>(Bench { store, clock }: Bench<S>) {
    held(&store, request(1, 1, &[0, 1])).await;
    store
        .begin_checkout(hold_id(1), &fan(1), clock.now())
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(
            store.book(hold_id(1), &fan(1), &seats(&[0, 1])).await.unwrap(),
            BookReply::Booked
        );
        assert_eq!(state(&store, 0).await, SeatState::Booked);
    }
    assert_eq!(
        store.find(hold_id(1), &fan(1)).await.unwrap(),
        None,
        "a booking is no hold"
    );
    assert_eq!(
        store.book(hold_id(2), &fan(2), &seats(&[1, 2])).await.unwrap(),
        BookReply::Taken(vec![SeatIx(1)])
    );
    assert_eq!(state(&store, 2).await, SeatState::Free);
    // After a restart: the hold is not known, and somebody has begun to choose one of its seats.
    held(&store, request(3, 3, &[5, 6])).await;
    assert_eq!(
        store.book(hold_id(4), &fan(4), &seats(&[4, 5])).await.unwrap(),
        BookReply::Booked
    );
    assert_eq!(store.find(hold_id(3), &fan(3)).await.unwrap(), None);
    let shown = [
        state(&store, 4).await,
        state(&store, 5).await,
        state(&store, 6).await,
    ];
    assert_eq!(shown, [SeatState::Booked, SeatState::Booked, SeatState::Free]);
    for _ in 0..2 {
        store.free(hold_id(4), &seats(&[4, 6])).await.unwrap();
        assert_eq!(
            (state(&store, 4).await, state(&store, 5).await),
            (SeatState::Free, SeatState::Booked)
        );
    }
    store.free(hold_id(9), &seats(&[5])).await.unwrap();
    assert_eq!(state(&store, 5).await, SeatState::Booked, "not through that hold");
}

async fn claims_are_given_back<S: SeatStore>(Bench { store, clock }: Bench<S>) {
    let claim = |id, who, of: &[u32], booked| RestoredClaim {
        hold: hold_id(id),
        subject: fan(who),
        visit: VisitId::from_uuid(Uuid::nil()),
        seats: seats(of).to_vec(),
        booked,
        until: clock.now(),
    };
    let claims = [claim(1, 1, &[0, 1], true), claim(2, 2, &[2, 3], false)];
    for _ in 0..2 {
        assert_eq!(store.restore(&claims).await.unwrap(), []);
    }
    assert_eq!(
        (state(&store, 0).await, state(&store, 2).await),
        (SeatState::Booked, SeatState::Held)
    );
    assert_eq!(
        store.restore(&[claim(3, 3, &[1, 9], true)]).await.unwrap(),
        [SeatIx(1)]
    );
    assert_eq!(state(&store, 9).await, SeatState::Free);
    clock.advance(Duration::from_hours(1));
    assert_eq!(store.expire_holds(10).await.unwrap(), 0, "who pays is left alone");
    assert_eq!(
        store.hold(&request(4, 1, &[10, 11, 12])).await.unwrap(),
        HoldReply::LimitReached
    );
    assert_eq!(
        store
            .begin_checkout(hold_id(2), &fan(2), clock.now())
            .await
            .unwrap()
            .unwrap()
            .seats,
        seats(&[2, 3])
    );
}

async fn blocked_seats_cannot_be_had<S: SeatStore>(Bench { store, .. }: Bench<S>) {
    held(&store, request(1, 1, &[1])).await;
    store.set_blocked(&seats(&[0, 1, 100]), true).await.unwrap();
    assert_eq!(
        (state(&store, 0).await, state(&store, 1).await),
        (SeatState::Blocked, SeatState::Held)
    );
    assert_eq!(
        store.hold(&request(2, 2, &[0, 5])).await.unwrap(),
        HoldReply::Taken(vec![SeatIx(0)])
    );
    store.set_blocked(&seats(&[0, 1]), false).await.unwrap();
    assert_eq!(
        (state(&store, 0).await, state(&store, 1).await),
        (SeatState::Free, SeatState::Held)
    );
}

async fn changes_tell_the_whole_story<S: SeatStore>(Bench { store, .. }: Bench<S>) {
    let (start, mut copy) = store.load().await.unwrap();
    held(&store, request(1, 1, &[0, 1])).await;
    store.swap(hold_id(1), &fan(1), &seats(&[1, 2])).await.unwrap();
    let mut changes = Vec::new();
    assert!(store.changes_since(start, &mut changes));
    let (middle, _) = store.load().await.unwrap();
    store.release(hold_id(1), &fan(1)).await.unwrap();
    assert!(
        store.changes_since(middle, &mut changes),
        "from where the last one ended"
    );
    assert!(changes.is_sorted_by_key(|it| it.version));
    for change in &changes {
        copy.set(change.seat, change.state);
    }
    let (end, states) = store.load().await.unwrap();
    assert_eq!(copy, states);
    assert_eq!(changes.last().unwrap().version, end);
    assert!(
        !store.changes_since(start - 1, &mut changes),
        "before this engine's time"
    );
    assert!(!store.changes_since(end + 1, &mut changes), "another engine's");
}
