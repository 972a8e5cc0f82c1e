//! What every engine must do, whatever it is made of. `make` gives an engine that knows nothing yet.

use std::{
    ops::Deref,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    kernel::{Entropy, SeededEntropy, Timestamp, VisitId},
    waiting_room::{
        journal::record::{Event, Join, Record, StoredRecord},
        state::AdmissionState,
        status::people_ahead::PeopleCount,
        store::port::{
            Assigned, EndReason, EndedVisit, KnownEntry, Moment, NumberState, QueueStore, Reservation,
            SlotRequest, StoreError,
        },
        types::{BoxOfficeLoad, Config, Durability, OperatorCommand},
    },
};

/// A door for `capacity` visitors at 60 a minute, call window 60 s, pass 120 s, visit 10 min.
pub(crate) fn config(capacity: u32) -> Config {
    Config {
        sale: "contract".parse().unwrap(),
        prequeue_starts_at: Timestamp::from_secs(0),
        on_sale_starts_at: Timestamp::from_secs(1),
        closes_at: Timestamp::from_secs(1_000_000),
        admission_rate_per_minute: 60,
        active_visits_max: capacity,
        admission_burst: Some(3),
        call_window: Duration::from_mins(1),
        late_arrival_share: 0.25,
        pass_ttl: Duration::from_mins(2),
        visit_max: Duration::from_mins(10),
        queue_entries_max: 1_000,
        issuer: "https://tickets.example".into(),
        status_streams_max: 10,
        passes_verified_elsewhere: false,
        durability: Durability::Committed,
        draw: None,
    }
}

pub(crate) fn at(seconds: u64) -> Moment {
    Moment {
        now: Timestamp::from_secs(i64::try_from(seconds).unwrap()),
        monotonic: Duration::from_secs(seconds),
    }
}

fn event(seconds: u64, event: Event) -> Record {
    Record::Event {
        at: at(seconds).now,
        event,
    }
}

fn joins(first: u32, subjects: std::ops::Range<u64>) -> Record {
    Record::Joins {
        first,
        joins: subjects
            .map(|subject| Join {
                subject,
                joined_at: at(1).now,
            })
            .collect(),
    }
}

fn called(seconds: u64, after: u32, last: u32) -> Record {
    event(
        seconds,
        Event::Called {
            after,
            last,
            window_ends_at: at(seconds + 60).now,
        },
    )
}

fn ordered(seconds: u64, command: OperatorCommand) -> Record {
    event(
        seconds,
        Event::Operator {
            command,
            operator: None,
        },
    )
}

/// An engine, where visits get their names from, and the last record's number.
struct Door<S>(S, SeededEntropy, AtomicU64);

impl<S: Deref<Target: QueueStore>> Door<S> {
    async fn apply(&self, seconds: u64, records: &[Record]) {
        self.try_apply(seconds, records).await.unwrap();
    }

    async fn try_apply(&self, seconds: u64, records: &[Record]) -> Result<(), StoreError> {
        let first = self.2.fetch_add(records.len() as u64, Ordering::Relaxed) + 1;
        let stored: Vec<StoredRecord> = (first..)
            .zip(records)
            .map(|(seq, record)| StoredRecord {
                seq,
                record: record.clone(),
            })
            .collect();
        self.0.apply(&stored, at(seconds)).await
    }

    async fn number(&self, subject: u64) -> Assigned {
        self.0
            .assign_number(Join {
                subject,
                joined_at: at(1).now,
            })
            .await
            .unwrap()
    }

    /// What a tick asks; it also tells the engine how far its record is followed.
    async fn tick(&self, seconds: u64) -> AdmissionState {
        self.0.sync_state(at(seconds)).await.unwrap();
        self.0.admission_state(at(seconds))
    }

    async fn ask(&self, seconds: u64, number: u32) -> (VisitId, Reservation) {
        self.ask_while(BoxOfficeLoad::Normal, seconds, number).await
    }

    async fn ask_while(&self, load: BoxOfficeLoad, seconds: u64, number: u32) -> (VisitId, Reservation) {
        let visit = VisitId::random(&self.1 as &dyn Entropy);
        (
            visit,
            self.0
                .reserve_slot(&SlotRequest { number, visit, load }, at(seconds))
                .await
                .unwrap(),
        )
    }

    /// Enters and writes it down.
    async fn enter(&self, seconds: u64, number: u32) -> VisitId {
        let (visit, reservation) = self.ask(seconds, number).await;
        assert_eq!(
            reservation,
            Reservation::Reserved { at: at(seconds).now },
            "number {number} at {seconds}"
        );
        self.apply(
            seconds,
            &[event(
                seconds,
                Event::Admitted {
                    number,
                    subject: u64::from(number),
                    visit,
                },
            )],
        )
        .await;
        visit
    }
}

fn no_room(again_s: u64) -> Reservation {
    Reservation::NoRoom {
        retry_after: Duration::from_secs(again_s),
    }
}

pub(crate) async fn holds<S: Deref<Target: QueueStore>>(make: impl AsyncFn(Config) -> S) {
    let door = async |capacity| {
        Door(
            make(config(capacity)).await,
            SeededEntropy::new(1),
            AtomicU64::new(0),
        )
    };
    one_subject_has_one_number(&door(9).await).await;
    the_last_number_is_the_last(&door(9).await).await;
    joins_may_come_late(&door(9).await).await;
    what_does_not_follow_on_is_refused(&door(9).await).await;
    the_door_is_exact(&door(2).await).await;
    nobody_comes_in_while_those_inside_are_late(&door(9).await).await;
    who_stands_far_back_asks_seldom(&door(1).await).await;
    a_slot_comes_back_once(&door(1).await).await;
    a_place_runs_its_course(&door(9).await).await;
    a_pause_stops_the_windows(&door(9).await).await;
    a_payment_keeps_the_slot(&door(9).await).await;
    revoked_passes_open_nothing(&door(9).await).await;
    the_line_knows_who_is_left_of_it(&door(9).await).await;
    those_who_are_asked_are_those_of_the_samples(&door(9).await).await;
    orders_set_the_door(&door(9).await).await;
    a_clock_that_steps_lets_nobody_in_beyond_the_rate(&door(500).await).await;
}

async fn one_subject_has_one_number<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    let entry = |number| KnownEntry {
        number,
        joined_at: at(1).now,
    };
    for (number, subject) in (1..).zip(100..103) {
        assert_eq!(door.number(subject).await, Assigned::New(entry(number)));
        assert_eq!(
            door.number(subject).await,
            Assigned::Existing {
                entry: entry(number),
                journaled: false
            }
        );
    }
    assert_eq!(
        (door.0.find_by_subject(100), door.0.subject_of(1)),
        (None, None),
        "only the journal makes it known"
    );
    door.apply(1, &[joins(1, 100..103)]).await;
    assert_eq!(
        door.number(102).await,
        Assigned::Existing {
            entry: entry(3),
            journaled: true
        }
    );
    assert_eq!(
        (
            door.0.find_by_subject(102),
            door.0.find_by_subject(999),
            door.0.subject_of(3)
        ),
        (Some(entry(3)), None, Some(102))
    );
    assert!(door.0.belongs_to(3, 102) && !door.0.belongs_to(3, 100));
    door.apply(2, &[event(2, Event::Left { number: 1 })]).await;
    assert_eq!(door.0.find_by_subject(100), None);
    assert_eq!(
        door.number(100).await,
        Assigned::New(entry(4)),
        "who left and joins again stands at the end"
    );
    door.apply(2, &[joins(4, 100..101)]).await;
    assert_eq!(door.0.find_by_subject(100), Some(entry(4)));
    assert_eq!(
        (door.0.entry_state(1, at(3)), door.0.entry_state(4, at(3))),
        (NumberState::Left, NumberState::Waiting)
    );
}

async fn the_last_number_is_the_last<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    for subject in 1..=1_000 {
        assert!(matches!(door.number(subject).await, Assigned::New(_)));
    }
    assert_eq!(door.number(1_001).await, Assigned::Full);
    assert!(
        matches!(door.number(1_000).await, Assigned::Existing { .. }),
        "who has a number keeps it"
    );
}

/// Groups of one number line may come in any order, and numbers may be missing for good.
async fn joins_may_come_late<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    door.apply(1, &[joins(3, 3..5), called(1, 0, 4), joins(1, 1..2)])
        .await;
    assert_eq!(
        (door.0.subject_of(1), door.0.subject_of(2), door.0.subject_of(4)),
        (Some(1), None, Some(4))
    );
    assert!(matches!(door.0.entry_state(1, at(2)), NumberState::Called { .. }));
    door.enter(10, 1).await;
    door.enter(11, 3).await;
    assert_eq!(door.0.counts(at(12)).numbers_issued, 4);
}

async fn what_does_not_follow_on_is_refused<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    door.apply(1, &[joins(1, 1..4), called(1, 0, 2)]).await;
    for wrong in [joins(3, 9..10), called(2, 1, 3), called(2, 2, 1)] {
        assert!(
            matches!(
                door.try_apply(2, std::slice::from_ref(&wrong)).await,
                Err(StoreError::Diverged(_))
            ),
            "{wrong:?}"
        );
    }
    assert_eq!(
        (door.0.now_serving(), door.0.counts(at(3)).numbers_issued),
        (2, 3)
    );
}

async fn the_door_is_exact<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    door.apply(1, &[joins(1, 1..9), called(1, 0, 6)]).await;
    assert_eq!(door.ask(20, 7).await.1, Reservation::NotCalledYet);
    assert_eq!(door.ask(20, 700).await.1, Reservation::NotCalledYet);
    let (first, _) = door.ask(20, 1).await;
    assert_eq!(
        door.ask(20, 1).await.1,
        no_room(1),
        "her entry is being written down"
    );
    door.apply(
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
        door.ask(21, 1).await.1,
        Reservation::AlreadyAdmitted { visit: first }
    );
    door.enter(21, 2).await;
    assert_eq!(door.ask(22, 4).await.1, no_room(1), "capacity");
    assert_eq!(door.ask(23, 3).await.1, no_room(1), "capacity");
    let ended = door.0.end_visits(&[first], at(24).now).await.unwrap();
    assert_eq!(
        ended,
        [EndedVisit {
            visit: first,
            number: 1,
            reason: EndReason::Ended
        }]
    );
    assert_eq!(
        door.ask(24, 3).await.1,
        no_room(1),
        "its end is not written down yet"
    );
    door.apply(
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
    door.tick(25).await;
    assert_eq!(
        door.ask(25, 4).await.1,
        no_room(1),
        "the slot is kept for number 3"
    );
    let (given_back, _) = door.ask(26, 3).await;
    door.0.release_slot(given_back).await.unwrap();
    door.enter(26, 3).await;
    door.tick(26).await;
    assert_eq!(door.0.counts(at(26)).active_visits, 2);
    assert_eq!(door.ask(27, 1).await.1, Reservation::Ended);
}

async fn nobody_comes_in_while_those_inside_are_late<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    door.apply(1, &[joins(1, 1..9), called(1, 0, 6)]).await;
    let inside = door.enter(20, 1).await;
    for (number, again) in [(4, 1), (3, 1), (5, 2), (4, 1)] {
        assert_eq!(
            door.ask_while(BoxOfficeLoad::Overloaded, 21, number).await.1,
            no_room(again),
            "number {number}"
        );
    }
    assert_eq!(
        door.ask_while(BoxOfficeLoad::Overloaded, 21, 1).await.1,
        Reservation::AlreadyAdmitted { visit: inside },
        "her pass is hers"
    );
    // There is room for three, so number 4 may go in, and a place is kept for number 3, whoever is late then.
    door.enter(23, 4).await;
    assert_eq!(
        door.ask_while(BoxOfficeLoad::Overloaded, 23, 5).await.1,
        no_room(1),
        "number 3 still stands there"
    );
    assert_eq!(
        door.ask_while(BoxOfficeLoad::Overloaded, 23, 2).await.1,
        no_room(1),
        "she has just come"
    );
    let (visit, reservation) = door.ask_while(BoxOfficeLoad::Overloaded, 23, 3).await;
    assert_eq!(reservation, Reservation::Reserved { at: at(23).now });
    door.apply(
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
    door.enter(24, 2).await;
    assert_eq!(
        door.ask_while(BoxOfficeLoad::Overloaded, 25, 5).await.1,
        no_room(1)
    );
    door.enter(25, 5).await;
}

async fn who_stands_far_back_asks_seldom<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    door.apply(1, &[joins(1, 1..47), called(1, 0, 46)]).await;
    door.enter(20, 1).await;
    // One goes in each second at best.
    let mut told = Vec::new();
    for number in 2..=46 {
        told.push(door.ask(21, number).await.1);
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
        assert_eq!(told[before], no_room(again), "{before} stand before her");
    }
}

async fn a_slot_comes_back_once<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    door.apply(1, &[joins(1, 1..4), called(1, 0, 3)]).await;
    let visit = door.enter(10, 1).await;
    // The pass ends at 130 s; its verifiers may accept it for five seconds more.
    assert!(door.0.end_visits(&[], at(135).now).await.unwrap().is_empty());
    let ended = door.0.end_visits(&[visit], at(136).now).await.unwrap();
    assert_eq!(ended.len(), 1);
    assert!(
        door.0.end_visits(&[visit], at(137).now).await.unwrap().is_empty(),
        "it is ending already"
    );
    assert!(!door.0.is_admitted(visit, 0));
    assert_eq!(door.0.grant_pass(visit, at(137).now).await.unwrap(), None);
    door.0.reopen_visits(&ended).await.unwrap();
    assert!(door.0.is_admitted(visit, 0), "its end could not be written down");
    let ended = door.0.end_visits(&[visit], at(138).now).await.unwrap();
    let record = event(138, Event::VisitEnded { number: 1, visit });
    door.apply(138, &[record.clone(), record]).await;
    door.0.reopen_visits(&ended).await.unwrap();
    door.tick(138).await;
    let counts = door.0.counts(at(138));
    assert_eq!(
        (
            counts.active_visits,
            counts.visits_ended_total,
            door.0.is_admitted(visit, 0)
        ),
        (0, 1, false)
    );
}

async fn a_place_runs_its_course<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    door.apply(1, &[joins(1, 1..5)]).await;
    assert_eq!(door.0.entry_state(1, at(2)), NumberState::Waiting);
    door.apply(2, &[called(2, 0, 2)]).await;
    assert_eq!(
        door.0.entry_state(2, at(62)),
        NumberState::Called { ends_at: at(62).now }
    );
    assert_eq!(door.0.entry_state(2, at(63)), NumberState::Missed);
    assert_eq!(
        (door.0.counts(at(63)).missed, door.0.counts(at(63)).waiting),
        (2, 2)
    );
    let visit = door.enter(100, 2).await;
    assert_eq!(door.0.entry_state(2, at(100)), NumberState::Admitted);
    assert_eq!(door.0.counts(at(100)).missed, 1);
    door.apply(101, &[event(101, Event::VisitEnded { number: 2, visit })])
        .await;
    assert_eq!(door.0.entry_state(2, at(101)), NumberState::Left);
}

async fn a_pause_stops_the_windows<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    door.apply(1, &[joins(1, 1..5), called(1, 0, 1)]).await;
    door.apply(31, &[ordered(31, OperatorCommand::Pause)]).await;
    assert_eq!(door.ask(40, 1).await.1, no_room(1));
    assert!(matches!(
        door.0.entry_state(1, at(500)),
        NumberState::Called { .. }
    ));
    assert!(!door.tick(500).await.calling);
    door.apply(531, &[ordered(531, OperatorCommand::Resume)]).await;
    assert_eq!(
        door.0.entry_state(1, at(540)),
        NumberState::Called { ends_at: at(561).now }
    );
    assert_eq!(door.0.entry_state(1, at(562)), NumberState::Missed);
}

async fn a_payment_keeps_the_slot<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    door.apply(1, &[joins(1, 1..5), called(1, 0, 1)]).await;
    let visit = door.enter(10, 1).await;
    let grant = door.0.grant_pass(visit, at(600).now).await.unwrap().unwrap();
    assert_eq!(grant.expires_at, at(610).now, "not beyond the longest visit");
    assert_eq!(door.0.grant_pass(visit, at(610).now).await.unwrap(), None);
    door.0.extend_visit(visit, at(700).now);
    door.tick(611).await;
    assert_eq!(
        door.0
            .grant_pass(visit, at(620).now)
            .await
            .unwrap()
            .unwrap()
            .expires_at,
        at(700).now
    );
    assert!(door.0.end_visits(&[], at(705).now).await.unwrap().is_empty());
    assert_eq!(door.0.end_visits(&[], at(706).now).await.unwrap().len(), 1);
}

async fn revoked_passes_open_nothing<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    door.apply(1, &[joins(1, 1..5), called(1, 0, 1)]).await;
    let visit = door.enter(10, 1).await;
    let before = door
        .0
        .grant_pass(visit, at(11).now)
        .await
        .unwrap()
        .unwrap()
        .generation;
    door.apply(12, &[ordered(12, OperatorCommand::RevokePasses)])
        .await;
    let after = door
        .0
        .grant_pass(visit, at(13).now)
        .await
        .unwrap()
        .unwrap()
        .generation;
    assert!(!door.0.is_admitted(visit, before) && door.0.is_admitted(visit, after));
}

async fn the_line_knows_who_is_left_of_it<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    let people = |distance| door.0.people_ahead().within(distance);
    let told = |count, about| PeopleCount {
        count,
        approximate: about,
    };
    // Number 50 is nobody's.
    door.apply(1, &[joins(1, 1..50), joins(51, 51..101), called(1, 0, 3)])
        .await;
    assert_eq!((people(6), people(96)), (told(6, false), told(95, false)));
    door.apply(
        2,
        &[
            event(2, Event::Left { number: 10 }),
            event(2, Event::Left { number: 60 }),
        ],
    )
    .await;
    assert_eq!(
        (people(6), people(7), people(8)),
        (told(6, false), told(6, false), told(7, false)),
        "near the front each is told apart"
    );
    assert_eq!(
        (people(97), people(107)),
        (told(94, false), told(104, false)),
        "who comes after it stands behind it"
    );
    let far = people(57);
    assert!((53..=55).contains(&far.count) && far.approximate, "{far:?}");
    door.apply(3, &[called(3, 3, 20)]).await;
    assert_eq!(
        (people(1), people(80)),
        (told(1, false), told(78, false)),
        "it begins at the front"
    );
}

async fn those_who_are_asked_are_those_of_the_samples<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    // Of the bits that choose: none, one of the far sample's only, one of both.
    let subject = |n: u64| n | [0, 8, 1][usize::try_from(n % 3).unwrap()] << 48;
    let join = |n| Join {
        subject: subject(n),
        joined_at: at(1).now,
    };
    door.apply(
        1,
        &[
            Record::Joins {
                first: 1,
                joins: (1..=30).map(join).collect(),
            },
            called(1, 0, 2),
        ],
    )
    .await;
    door.apply(
        1,
        &[
            event(1, Event::Left { number: 6 }),
            event(1, Event::Left { number: 21 }),
        ],
    )
    .await;
    assert_eq!(
        door.0.heartbeat_sample(8),
        [3, 4, 7, 9, 10, 12, 15, 18, 24, 27, 30]
    );
    assert_eq!(door.0.heartbeat_sample(0), [3, 9, 12, 15, 18, 24, 27, 30]);
}

async fn orders_set_the_door<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    let call = event(
        1,
        Event::Called {
            after: 0,
            last: 12,
            window_ends_at: at(100_000).now,
        },
    );
    door.apply(1, &[joins(1, 1..20), call]).await;
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
        door.apply(seconds, &[ordered(seconds, stop.clone())]).await;
        assert_eq!(door.ask(seconds + 20, number).await.1, no_room(1), "{stop:?}");
        assert!(!door.tick(seconds + 20).await.calling, "{stop:?}");
        door.apply(seconds + 21, &[ordered(seconds + 21, go)]).await;
        door.enter(seconds + 30, number).await;
    }
    // A group of orders is as good as one after the other, also for an engine that is told their sum.
    let rate = |per_minute| OperatorCommand::SetAdmissionRate { per_minute };
    door.apply(
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
            door.tick(500).await.rate_per_minute,
            door.0.settings().rate_configured_per_minute
        ),
        (60, 120)
    );
    for number in 4..7 {
        door.enter(500, number).await;
    }
    assert_eq!(door.ask(500, 7).await.1, no_room(1), "what lay ready is used up");
    door.enter(501, 7).await;
    assert_eq!(
        door.ask(501, 8).await.1,
        no_room(1),
        "one a second is half of what was ordered"
    );
    door.apply(501, &[event(501, Event::RateReduced { by_ppm: 0 })])
        .await;
    for number in 8..10 {
        door.enter(502, number).await;
    }
    assert_eq!(door.0.settings().commands, 8);
    assert_eq!(door.ask(520, 10).await.1, no_room(1), "nine are inside");
    door.apply(
        520,
        &[ordered(520, OperatorCommand::SetActiveVisitsMax { visits: 5 })],
    )
    .await;
    assert_eq!(door.ask(530, 10).await.1, no_room(1));
}

/// The sale's clock is what the door has seen of it, and goes forward only: a step forward fills what may lie ready and no
/// more, and a step back is waited out.
async fn a_clock_that_steps_lets_nobody_in_beyond_the_rate<S: Deref<Target: QueueStore>>(door: &Door<S>) {
    let call = event(
        1,
        Event::Called {
            after: 0,
            last: 100,
            window_ends_at: at(10_000_000).now,
        },
    );
    door.apply(1, &[joins(1, 1..200), call]).await;
    let mut next = 1;
    let mut entries = async |seconds: u64| {
        let mut came = 0;
        loop {
            let (visit, reservation) = door.ask(seconds, next).await;
            let Reservation::Reserved { .. } = reservation else {
                return came;
            };
            door.apply(
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
