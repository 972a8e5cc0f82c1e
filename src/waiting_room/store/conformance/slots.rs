//! Slots, permits, visits and the settings of admission.

use std::ops::Deref;

use super::fixture::*;
use crate::waiting_room::{
    journal::record::Event,
    store::port::{EndReason, EndedVisit, NumberState, QueueStore, Reservation},
    types::{BoxOfficeLoad, OperatorCommand},
};

pub(super) async fn slots_and_permits_are_exact<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    queue.apply(1, &[joins(1, 1..9), called(1, 0, 6)]).await;
    assert_eq!(queue.ask(20, 7).await.1, Reservation::NotCalledYet);
    assert_eq!(queue.ask(20, 700).await.1, Reservation::NotCalledYet);
    let (first, _) = queue.ask(20, 1).await;
    assert_eq!(
        queue.ask(20, 1).await.1,
        Reservation::BeingAdmitted,
        "the admission is being journaled"
    );
    queue
        .apply(
            20,
            &[event(
                20,
                Event::Admitted {
                    number: 1,
                    subject: 1,
                    visit: first,
                },
            )],
        )
        .await;
    assert_eq!(
        queue.ask(21, 1).await.1,
        Reservation::AlreadyAdmitted { visit: first }
    );
    queue.enter(21, 2).await;
    assert_eq!(queue.ask(22, 4).await.1, no_room(1), "capacity");
    assert_eq!(queue.ask(23, 3).await.1, no_room(1), "capacity");
    let ended = queue.0.end_visits(&[first], at(24).now).await.unwrap();
    assert_eq!(
        ended,
        [EndedVisit {
            visit: first,
            number: 1,
            reason: EndReason::Ended
        }]
    );
    assert_eq!(
        queue.ask(24, 3).await.1,
        no_room(1),
        "its end is not journaled yet"
    );
    queue
        .apply(
            24,
            &[event(
                24,
                Event::VisitEnded {
                    number: 1,
                    visit: first,
                },
            )],
        )
        .await;
    queue.tick(25).await;
    assert_eq!(
        queue.ask(25, 4).await.1,
        no_room(1),
        "the slot is kept for number 3"
    );
    let (given_back, _) = queue.ask(26, 3).await;
    queue.0.release_slot(given_back).await.unwrap();
    queue.enter(26, 3).await;
    queue.tick(26).await;
    assert_eq!(queue.0.counts(at(26)).active_visits, 2);
    assert_eq!(queue.ask(27, 1).await.1, Reservation::Ended);
}

pub(super) async fn overload_admits_only_kept_slots<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    queue.apply(1, &[joins(1, 1..9), called(1, 0, 6)]).await;
    let inside = queue.enter(20, 1).await;
    for (number, again) in [(4, 1), (3, 1), (5, 2), (4, 1)] {
        assert_eq!(
            queue.ask_while(BoxOfficeLoad::Overloaded, 21, number).await.1,
            no_room(again),
            "number {number}"
        );
    }
    assert_eq!(
        queue.ask_while(BoxOfficeLoad::Overloaded, 21, 1).await.1,
        Reservation::AlreadyAdmitted { visit: inside },
        "a visit in progress is not affected"
    );
    // There is room for three, so number 4 may enter, and a slot is kept for number 3 even under overload.
    queue.enter(23, 4).await;
    assert_eq!(
        queue.ask_while(BoxOfficeLoad::Overloaded, 23, 5).await.1,
        no_room(1),
        "number 3 is still ahead"
    );
    assert_eq!(
        queue.ask_while(BoxOfficeLoad::Overloaded, 23, 2).await.1,
        no_room(1),
        "no claimant behind it has entered"
    );
    let (visit, reservation) = queue.ask_while(BoxOfficeLoad::Overloaded, 23, 3).await;
    assert_eq!(reservation, Reservation::Reserved { at: at(23).now });
    queue
        .apply(
            23,
            &[event(
                23,
                Event::Admitted {
                    number: 3,
                    subject: 3,
                    visit,
                },
            )],
        )
        .await;
    queue.enter(24, 2).await;
    assert_eq!(
        queue.ask_while(BoxOfficeLoad::Overloaded, 25, 5).await.1,
        no_room(1)
    );
    queue.enter(25, 5).await;
}

pub(super) async fn claimants_far_back_ask_rarely<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    queue.apply(1, &[joins(1, 1..47), called(1, 0, 46)]).await;
    queue.enter(20, 1).await;
    // One goes in each second at best.
    let mut told = Vec::new();
    for number in 2..=46 {
        told.push(queue.ask(21, number).await.1);
    }
    for (before, again) in [
        (0, 1),
        (1, 1),
        (2, 2),
        (4, 4),
        (16, 4),
        (20, 5),
        (36, 9),
        (40, 10),
        (44, 10),
    ] {
        assert_eq!(told[before], no_room(again), "{before} claimants ahead");
    }
}

pub(super) async fn a_slot_is_released_once<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    queue.apply(1, &[joins(1, 1..4), called(1, 0, 3)]).await;
    let visit = queue.enter(10, 1).await;
    // The pass ends at 130 s; its verifiers may accept it for five seconds more.
    assert!(queue.0.end_visits(&[], at(135).now).await.unwrap().is_empty());
    let ended = queue.0.end_visits(&[visit], at(136).now).await.unwrap();
    assert_eq!(ended.len(), 1);
    assert!(
        queue
            .0
            .end_visits(&[visit], at(137).now)
            .await
            .unwrap()
            .is_empty(),
        "it is ending already"
    );
    assert!(!queue.0.is_admitted(visit, 0));
    assert_eq!(queue.0.grant_pass(visit, at(137).now).await.unwrap(), None);
    queue.0.reopen_visits(&ended).await.unwrap();
    assert!(queue.0.is_admitted(visit, 0), "its end could not be journaled");
    let ended = queue.0.end_visits(&[visit], at(138).now).await.unwrap();
    let record = event(138, Event::VisitEnded { number: 1, visit });
    queue.apply(138, &[record.clone(), record]).await;
    queue.0.reopen_visits(&ended).await.unwrap();
    queue.tick(138).await;
    let counts = queue.0.counts(at(138));
    assert_eq!(
        (
            counts.active_visits,
            counts.visits_ended_total,
            queue.0.is_admitted(visit, 0)
        ),
        (0, 1, false)
    );
}

pub(super) async fn a_pause_stops_the_windows<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    queue.apply(1, &[joins(1, 1..5), called(1, 0, 1)]).await;
    queue.apply(31, &[ordered(31, OperatorCommand::Pause)]).await;
    assert_eq!(queue.ask(40, 1).await.1, no_room(1));
    assert!(matches!(
        queue.0.entry_state(1, at(500)),
        NumberState::Called { .. }
    ));
    assert!(!queue.tick(500).await.calling);
    queue.apply(531, &[ordered(531, OperatorCommand::Resume)]).await;
    assert_eq!(
        queue.0.entry_state(1, at(540)),
        NumberState::Called { ends_at: at(561).now }
    );
    assert_eq!(queue.0.entry_state(1, at(562)), NumberState::Missed);
}

pub(super) async fn a_payment_extends_the_visit<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    queue.apply(1, &[joins(1, 1..5), called(1, 0, 1)]).await;
    let visit = queue.enter(10, 1).await;
    let grant = queue.0.grant_pass(visit, at(600).now).await.unwrap().unwrap();
    assert_eq!(grant.expires_at, at(610).now, "not beyond the longest visit");
    assert_eq!(queue.0.grant_pass(visit, at(610).now).await.unwrap(), None);
    queue.0.extend_visit(visit, at(700).now);
    queue.tick(611).await;
    assert_eq!(
        queue
            .0
            .grant_pass(visit, at(620).now)
            .await
            .unwrap()
            .unwrap()
            .expires_at,
        at(700).now
    );
    assert!(queue.0.end_visits(&[], at(705).now).await.unwrap().is_empty());
    assert_eq!(queue.0.end_visits(&[], at(706).now).await.unwrap().len(), 1);
}

pub(super) async fn revoked_passes_are_refused<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    queue.apply(1, &[joins(1, 1..5), called(1, 0, 1)]).await;
    let visit = queue.enter(10, 1).await;
    let before = queue
        .0
        .grant_pass(visit, at(11).now)
        .await
        .unwrap()
        .unwrap()
        .generation;
    queue
        .apply(12, &[ordered(12, OperatorCommand::RevokePasses)])
        .await;
    let after = queue
        .0
        .grant_pass(visit, at(13).now)
        .await
        .unwrap()
        .unwrap()
        .generation;
    assert!(!queue.0.is_admitted(visit, before) && queue.0.is_admitted(visit, after));
}

pub(super) async fn commands_set_admission<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    let call = event(
        1,
        Event::Called {
            after: 0,
            last: 12,
            window_ends_at: at(100_000).now,
        },
    );
    queue.apply(1, &[joins(1, 1..20), call]).await;
    let orders = [
        (
            OperatorCommand::SetAdmissionRate { per_minute: 0 },
            OperatorCommand::SetAdmissionRate { per_minute: 60 },
        ),
        (
            OperatorCommand::SetActiveVisitsMax { visits: 0 },
            OperatorCommand::SetActiveVisitsMax { visits: 9 },
        ),
        (OperatorCommand::Pause, OperatorCommand::Resume),
    ];
    for (number, (stop, go)) in (1..).zip(orders) {
        let seconds = u64::from(number) * 100;
        queue.apply(seconds, &[ordered(seconds, stop.clone())]).await;
        assert_eq!(queue.ask(seconds + 20, number).await.1, no_room(1), "{stop:?}");
        assert!(!queue.tick(seconds + 20).await.calling, "{stop:?}");
        queue.apply(seconds + 21, &[ordered(seconds + 21, go)]).await;
        queue.enter(seconds + 30, number).await;
    }
    // Commands in one batch act like single ones, also where a store receives only their sum.
    let rate = |per_minute| OperatorCommand::SetAdmissionRate { per_minute };
    queue
        .apply(
            500,
            &[
                ordered(500, rate(6)),
                event(500, Event::RateReduced { by_ppm: 500_000 }),
                ordered(500, rate(120)),
            ],
        )
        .await;
    assert_eq!(
        (
            queue.tick(500).await.rate_per_minute,
            queue.0.settings().rate_configured_per_minute
        ),
        (60, 120)
    );
    for number in 4..7 {
        queue.enter(500, number).await;
    }
    assert_eq!(queue.ask(500, 7).await.1, no_room(1), "the burst is used up");
    queue.enter(501, 7).await;
    assert_eq!(
        queue.ask(501, 8).await.1,
        no_room(1),
        "one a second is half of the configured rate"
    );
    queue
        .apply(501, &[event(501, Event::RateReduced { by_ppm: 0 })])
        .await;
    for number in 8..10 {
        queue.enter(502, number).await;
    }
    assert_eq!(queue.0.settings().commands, 8);
    assert_eq!(queue.ask(520, 10).await.1, no_room(1), "nine visits are active");
    queue
        .apply(
            520,
            &[ordered(520, OperatorCommand::SetActiveVisitsMax { visits: 5 })],
        )
        .await;
    assert_eq!(queue.ask(530, 10).await.1, no_room(1));
}

/// The store's clock only goes forward: a step forward fills the burst and no more, and a step back is waited
/// out.
pub(super) async fn clock_steps_never_exceed_the_rate<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    let call = event(
        1,
        Event::Called {
            after: 0,
            last: 100,
            window_ends_at: at(10_000_000).now,
        },
    );
    queue.apply(1, &[joins(1, 1..200), call]).await;
    let mut next = 1;
    let mut entries = async |seconds: u64| {
        let mut came = 0;
        loop {
            let (visit, reservation) = queue.ask(seconds, next).await;
            let Reservation::Reserved { .. } = reservation else {
                return came;
            };
            queue
                .apply(
                    seconds,
                    &[event(
                        seconds,
                        Event::Admitted {
                            number: next,
                            subject: u64::from(next),
                            visit,
                        },
                    )],
                )
                .await;
            next += 1;
            came += 1;
        }
    };
    // 60 a minute, three at once.
    for (seconds, expected) in [
        (50, 3),
        (51, 1),
        (9_000, 3),
        (8_000, 0),
        (8_900, 0),
        (9_000, 0),
        (9_001, 1),
        (2_000_000, 3),
        (9_002, 0),
    ] {
        assert_eq!(entries(seconds).await, expected, "at {seconds}");
    }
}
