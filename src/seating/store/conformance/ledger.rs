//! Conformance to the ledger and the promoter: bookings, restored claims, blocked seats.

use std::time::Duration;

use uuid::Uuid;

use crate::kernel::{Clock, VisitId};

use crate::seating::{
    hold::RestoredClaim,
    seat::{SeatIx, SeatState},
    store::{
        conformance::{held, state},
        fixture::{Fixture, customer, hold_id, request, seats},
        port::{BookReply, HoldReply, SeatStore},
    },
};

pub(super) async fn booking_follows_the_ledger<S: SeatStore>(Fixture { store, clock }: Fixture<S>) {
    held(&store, request(1, 1, &[0, 1])).await;
    store
        .begin_checkout(hold_id(1), &customer(1), clock.now())
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(
            store
                .book(hold_id(1), &customer(1), &seats(&[0, 1]))
                .await
                .unwrap(),
            BookReply::Booked
        );
        assert_eq!(state(&store, 0).await, SeatState::Booked);
    }
    assert_eq!(
        store.find(hold_id(1), &customer(1)).await.unwrap(),
        None,
        "a booking is not a hold"
    );
    assert_eq!(
        store
            .book(hold_id(2), &customer(2), &seats(&[1, 2]))
            .await
            .unwrap(),
        BookReply::Taken(vec![SeatIx(1)])
    );
    assert_eq!(state(&store, 2).await, SeatState::Free);
    // After a restart the hold is unknown, and another customer holds one of its seats.
    held(&store, request(3, 3, &[5, 6])).await;
    assert_eq!(
        store
            .book(hold_id(4), &customer(4), &seats(&[4, 5]))
            .await
            .unwrap(),
        BookReply::Booked
    );
    assert_eq!(store.find(hold_id(3), &customer(3)).await.unwrap(), None);
    let states = [
        state(&store, 4).await,
        state(&store, 5).await,
        state(&store, 6).await,
    ];
    assert_eq!(states, [SeatState::Booked, SeatState::Booked, SeatState::Free]);
    for _ in 0..2 {
        store.free(hold_id(4), &seats(&[4, 6])).await.unwrap();
        assert_eq!(
            (state(&store, 4).await, state(&store, 5).await),
            (SeatState::Free, SeatState::Booked)
        );
    }
    store.free(hold_id(9), &seats(&[5])).await.unwrap();
    assert_eq!(
        state(&store, 5).await,
        SeatState::Booked,
        "booked through another hold"
    );
}

pub(super) async fn restored_claims_are_in_place<S: SeatStore>(Fixture { store, clock }: Fixture<S>) {
    let claim = |id, subject, indexes: &[u32], booked| RestoredClaim {
        hold: hold_id(id),
        subject: customer(subject),
        visit: VisitId::from_uuid(Uuid::nil()),
        seats: seats(indexes).to_vec(),
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
    assert_eq!(
        store.expire_holds(10).await.unwrap(),
        0,
        "a claim being paid does not expire"
    );
    assert_eq!(
        store.hold(&request(4, 1, &[10, 11, 12])).await.unwrap(),
        HoldReply::LimitReached
    );
    assert_eq!(
        store
            .begin_checkout(hold_id(2), &customer(2), clock.now())
            .await
            .unwrap()
            .unwrap()
            .seats,
        seats(&[2, 3])
    );
}

pub(super) async fn blocked_seats_cannot_be_held<S: SeatStore>(Fixture { store, .. }: Fixture<S>) {
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
