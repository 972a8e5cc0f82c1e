//! What every seat store must do, as a suite that each implementation runs with a way to make a store.

mod ledger;

use std::time::Duration;

use crate::kernel::Clock;

use crate::seating::{
    hold::HoldState,
    seat::{SeatIx, SeatState},
    store::{
        fixture::{Fixture, TERMS, customer, hold_id, request, seats},
        port::{ChangeReply, ExtendReply, HoldReply, IdempotencyKey, SeatStore, StoreHold},
    },
};

/// Runs the whole suite; each part starts with a new store of 100 seats under [`TERMS`].
pub(crate) async fn run<S: SeatStore>(make: impl AsyncFn() -> Fixture<S>) {
    hold_is_all_or_none(make().await).await;
    limit_counts_held_paying_and_booked_seats(make().await).await;
    request_with_a_key_is_done_once(make().await).await;
    swap_never_frees_seats_that_stay(make().await).await;
    hold_expires_and_can_be_extended_once(make().await).await;
    hold_of_another_subject_is_not_found(make().await).await;
    live_holds_of_a_subject_are_listed(make().await).await;
    hold_in_checkout_never_expires(make().await).await;
    ledger::booking_follows_the_ledger(make().await).await;
    ledger::restored_claims_are_in_place(make().await).await;
    ledger::blocked_seats_cannot_be_held(make().await).await;
    changes_lead_from_one_load_to_the_next(make().await).await;
}

async fn live_holds_of_a_subject_are_listed<S: SeatStore>(Fixture { store, clock }: Fixture<S>) {
    let listed = async |subject| {
        let mut holds = store.holds_of(&customer(subject)).await.unwrap();
        holds.sort_by_key(|hold| hold.id);
        for hold in &holds {
            assert_eq!(
                store.find(hold.id, &customer(subject)).await.unwrap().as_ref(),
                Some(hold)
            );
        }
        holds.into_iter().map(|hold| hold.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(1).await, []);
    for (hold, subject, seat) in [(1, 1, 1), (2, 1, 2), (3, 2, 3), (4, 1, 4)] {
        held(&store, request(hold, subject, &[seat])).await;
    }
    assert_eq!(listed(1).await, [hold_id(1), hold_id(2), hold_id(4)]);
    assert_eq!(listed(2).await, [hold_id(3)]);
    store.release(hold_id(2), &customer(1)).await.unwrap();
    assert_eq!(listed(1).await, [hold_id(1), hold_id(4)]);
    store
        .begin_checkout(hold_id(1), &customer(1), clock.now())
        .await
        .unwrap()
        .unwrap();
    store.book(hold_id(3), &customer(2), &seats(&[3])).await.unwrap();
    assert_eq!(listed(2).await, [], "a booking is no hold");
    clock.advance(TERMS.hold_ttl);
    assert_eq!(
        listed(1).await,
        [hold_id(1)],
        "only a hold that is paid for outlives its deadline"
    );
    held(&store, request(5, 1, &[5])).await;
    assert_eq!(listed(1).await, [hold_id(1), hold_id(5)]);
    store.free(hold_id(1), &seats(&[1])).await.unwrap();
    store.release(hold_id(5), &customer(1)).await.unwrap();
    store.free(hold_id(3), &seats(&[3])).await.unwrap();
    assert_eq!((listed(1).await, listed(2).await), (vec![], vec![]));
}

/// Holds, and expects success.
async fn held<S: SeatStore>(store: &S, request: StoreHold) {
    let reply = store.hold(&request).await.unwrap();
    assert!(matches!(reply, HoldReply::Held { .. }), "{reply:?}");
}

async fn state<S: SeatStore>(store: &S, seat: u32) -> SeatState {
    store.load().await.unwrap().1.get(SeatIx(seat))
}

async fn hold_is_all_or_none<S: SeatStore>(Fixture { store, clock }: Fixture<S>) {
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
        "the plan has no such seat"
    );
    assert!(store.release(hold_id(1), &customer(1)).await.unwrap());
    assert!(!store.release(hold_id(1), &customer(1)).await.unwrap());
    held(&store, request(4, 2, &[2, 3, 4, 5])).await;
}

async fn limit_counts_held_paying_and_booked_seats<S: SeatStore>(Fixture { store, clock }: Fixture<S>) {
    held(&store, request(1, 1, &[0])).await;
    held(&store, request(2, 1, &[1])).await;
    held(&store, request(3, 1, &[2])).await;
    store
        .begin_checkout(hold_id(2), &customer(1), clock.now())
        .await
        .unwrap()
        .unwrap();
    store.book(hold_id(3), &customer(1), &seats(&[2])).await.unwrap();
    assert_eq!(
        store.hold(&request(4, 1, &[3, 4])).await.unwrap(),
        HoldReply::LimitReached
    );
    held(&store, request(5, 1, &[3])).await;
    assert_eq!(
        store
            .swap(hold_id(5), &customer(1), &seats(&[3, 4]))
            .await
            .unwrap(),
        ChangeReply::LimitReached
    );
    store.release(hold_id(1), &customer(1)).await.unwrap();
    assert!(matches!(
        store
            .swap(hold_id(5), &customer(1), &seats(&[3, 4]))
            .await
            .unwrap(),
        ChangeReply::Changed(_)
    ));
    held(&store, request(6, 2, &[10, 11, 12, 13])).await;
}

async fn request_with_a_key_is_done_once<S: SeatStore>(Fixture { store, clock }: Fixture<S>) {
    let key = IdempotencyKey {
        key_hash: [1; 16],
        request_hash: [2; 16],
    };
    assert_eq!(store.find_completed(&key).await.unwrap(), None);
    held(
        &store,
        StoreHold {
            idempotency_key: Some(key),
            ..request(1, 1, &[0, 1])
        },
    )
    .await;
    let replayed = store
        .hold(&StoreHold {
            idempotency_key: Some(key),
            ..request(2, 1, &[0, 1])
        })
        .await
        .unwrap();
    let HoldReply::Replayed(record) = &replayed else {
        panic!("{replayed:?}")
    };
    assert_eq!((record.id, &record.seats), (hold_id(1), &seats(&[0, 1])));
    assert_eq!(store.find_completed(&key).await.unwrap(), Some(replayed));
    let other = IdempotencyKey {
        request_hash: [3; 16],
        ..key
    };
    let reply = store
        .hold(&StoreHold {
            idempotency_key: Some(other),
            ..request(3, 1, &[5])
        })
        .await
        .unwrap();
    assert_eq!(reply, HoldReply::IdempotencyKeyReused);
    store.release(hold_id(1), &customer(1)).await.unwrap();
    assert!(
        matches!(
            store.find_completed(&key).await.unwrap(),
            Some(HoldReply::Replayed(_))
        ),
        "the same answer, though the hold is over"
    );
    assert_eq!(
        state(&store, 0).await,
        SeatState::Free,
        "and nothing is held by it"
    );
    clock.advance(Duration::from_mins(11));
    held(
        &store,
        StoreHold {
            idempotency_key: Some(IdempotencyKey {
                key_hash: [9; 16],
                request_hash: [9; 16],
            }),
            ..request(4, 1, &[7])
        },
    )
    .await;
    assert_eq!(
        store.find_completed(&key).await.unwrap(),
        None,
        "no longer remembered"
    );
}

async fn swap_never_frees_seats_that_stay<S: SeatStore>(Fixture { store, clock }: Fixture<S>) {
    held(&store, request(1, 1, &[0, 1])).await;
    held(&store, request(2, 2, &[3])).await;
    clock.advance(Duration::from_mins(1));
    let deadline = store
        .find(hold_id(1), &customer(1))
        .await
        .unwrap()
        .unwrap()
        .expires_at;
    assert_eq!(
        store
            .swap(hold_id(1), &customer(1), &seats(&[1, 2, 3]))
            .await
            .unwrap(),
        ChangeReply::Taken(vec![SeatIx(3)])
    );
    assert_eq!(state(&store, 2).await, SeatState::Free);
    let reply = store
        .swap(hold_id(1), &customer(1), &seats(&[1, 2]))
        .await
        .unwrap();
    let ChangeReply::Changed(record) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!((record.seats, record.expires_at), (seats(&[1, 2]), deadline));
    let states = [
        state(&store, 0).await,
        state(&store, 1).await,
        state(&store, 2).await,
    ];
    assert_eq!(states, [SeatState::Free, SeatState::Held, SeatState::Held]);
    assert_eq!(
        store.swap(hold_id(9), &customer(1), &seats(&[50])).await.unwrap(),
        ChangeReply::Gone
    );
}

async fn hold_expires_and_can_be_extended_once<S: SeatStore>(Fixture { store, clock }: Fixture<S>) {
    held(&store, request(1, 1, &[0])).await;
    clock.advance(Duration::from_mins(6));
    assert!(matches!(
        store.extend(hold_id(1), &customer(1)).await.unwrap(),
        ExtendReply::Extended(record) if record.extensions_left == 0
    ));
    assert_eq!(
        store.extend(hold_id(1), &customer(1)).await.unwrap(),
        ExtendReply::NoMoreExtensions
    );
    clock.advance(Duration::from_mins(6));
    assert_eq!(
        store.expire_holds(10).await.unwrap(),
        0,
        "the old deadline no longer counts"
    );
    assert!(store.find(hold_id(1), &customer(1)).await.unwrap().is_some());
    clock.advance(Duration::from_mins(1));
    assert!(
        store.find(hold_id(1), &customer(1)).await.unwrap().is_none(),
        "over, though not ended yet"
    );
    assert_eq!(
        store.extend(hold_id(1), &customer(1)).await.unwrap(),
        ExtendReply::Gone
    );
    assert_eq!(
        store
            .begin_checkout(hold_id(1), &customer(1), clock.now())
            .await
            .unwrap(),
        None
    );
    held(&store, request(2, 2, &[0])).await;
    clock.advance(TERMS.hold_ttl);
    assert_eq!(store.expire_holds(10).await.unwrap(), 1);
    assert_eq!(state(&store, 0).await, SeatState::Free);
}

async fn hold_of_another_subject_is_not_found<S: SeatStore>(Fixture { store, clock }: Fixture<S>) {
    held(&store, request(1, 1, &[0])).await;
    let other = customer(2);
    assert_eq!(store.find(hold_id(1), &other).await.unwrap(), None);
    assert_eq!(
        store.swap(hold_id(1), &other, &seats(&[1])).await.unwrap(),
        ChangeReply::Gone
    );
    assert_eq!(store.extend(hold_id(1), &other).await.unwrap(), ExtendReply::Gone);
    assert_eq!(
        store
            .begin_checkout(hold_id(1), &other, clock.now())
            .await
            .unwrap(),
        None
    );
    assert!(!store.release(hold_id(1), &other).await.unwrap());
    assert!(store.find(hold_id(1), &customer(1)).await.unwrap().is_some());
}

async fn hold_in_checkout_never_expires<S: SeatStore>(Fixture { store, clock }: Fixture<S>) {
    held(&store, request(1, 1, &[0, 1])).await;
    let until = clock.now().plus(Duration::from_mins(9));
    for _ in 0..2 {
        let record = store
            .begin_checkout(hold_id(1), &customer(1), until)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((record.state, record.expires_at), (HoldState::Paying, until));
    }
    assert_eq!(
        store.swap(hold_id(1), &customer(1), &seats(&[1])).await.unwrap(),
        ChangeReply::Gone
    );
    assert!(!store.release(hold_id(1), &customer(1)).await.unwrap());
    clock.advance(Duration::from_hours(1));
    assert_eq!(store.expire_holds(10).await.unwrap(), 0);
    assert_eq!(state(&store, 0).await, SeatState::Held);
    store
        .return_to_hold(hold_id(1), clock.now().plus(Duration::from_mins(2)))
        .await
        .unwrap();
    assert_eq!(
        store.find(hold_id(1), &customer(1)).await.unwrap().unwrap().state,
        HoldState::Held
    );
    clock.advance(Duration::from_mins(2));
    assert_eq!(store.expire_holds(10).await.unwrap(), 1);
    assert_eq!(state(&store, 0).await, SeatState::Free);
}

async fn changes_lead_from_one_load_to_the_next<S: SeatStore>(Fixture { store, .. }: Fixture<S>) {
    let (start, mut copy) = store.load().await.unwrap();
    held(&store, request(1, 1, &[0, 1])).await;
    store
        .swap(hold_id(1), &customer(1), &seats(&[1, 2]))
        .await
        .unwrap();
    let mut changes = Vec::new();
    assert!(store.changes_since(start, &mut changes));
    let (middle, _) = store.load().await.unwrap();
    store.release(hold_id(1), &customer(1)).await.unwrap();
    assert!(
        store.changes_since(middle, &mut changes),
        "continued from the last call"
    );
    assert!(changes.is_sorted_by_key(|change| change.version));
    for change in &changes {
        copy.set(change.seat, change.state);
    }
    let (end, states) = store.load().await.unwrap();
    assert_eq!(copy, states);
    assert_eq!(changes.last().unwrap().version, end);
    assert!(
        !store.changes_since(start - 1, &mut changes),
        "before the log began"
    );
    assert!(!store.changes_since(end + 1, &mut changes), "ahead of this store");
}
