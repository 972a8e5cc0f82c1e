//! What every store must do. `make` makes an empty store.

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

/// A sale for `capacity` active visits at 60 admissions a minute, call window 60 s, pass 120 s, visit 10 min.
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

/// A store, the source of visit ids, and the last record's number.
struct Fixture<S>(S, SeededEntropy, AtomicU64);

impl<S: Deref<Target: QueueStore>> Fixture<S> {
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

    /// One tick.
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

    /// Enters and journals it.
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
    let queue = async |capacity| {
        Fixture(
            make(config(capacity)).await,
            SeededEntropy::new(1),
            AtomicU64::new(0),
        )
    };
    one_subject_has_one_number(&queue(9).await).await;
    no_number_is_assigned_beyond_the_last(&queue(9).await).await;
    joins_may_arrive_late(&queue(9).await).await;
    records_that_do_not_continue_are_refused(&queue(9).await).await;
    slots_and_permits_are_exact(&queue(2).await).await;
    overload_admits_only_kept_slots(&queue(9).await).await;
    claimants_far_back_ask_rarely(&queue(1).await).await;
    a_slot_is_released_once(&queue(1).await).await;
    an_entry_passes_through_its_states(&queue(9).await).await;
    a_pause_stops_the_windows(&queue(9).await).await;
    a_payment_extends_the_visit(&queue(9).await).await;
    revoked_passes_are_refused(&queue(9).await).await;
    people_ahead_follow_departures(&queue(9).await).await;
    heartbeats_are_asked_of_the_samples(&queue(9).await).await;
    commands_set_admission(&queue(9).await).await;
    clock_steps_never_exceed_the_rate(&queue(500).await).await;
}

async fn one_subject_has_one_number<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    let entry = |number| KnownEntry {
        number,
        joined_at: at(1).now,
    };
    for (number, subject) in (1..).zip(100..103) {
        assert_eq!(queue.number(subject).await, Assigned::New(entry(number)));
        assert_eq!(
            queue.number(subject).await,
            Assigned::Existing {
                entry: entry(number),
                journaled: false
            }
        );
    }
    assert_eq!(
        (queue.0.find_by_subject(100), queue.0.subject_of(1)),
        (None, None),
        "an entry is known once it is journaled"
    );
    queue.apply(1, &[joins(1, 100..103)]).await;
    assert_eq!(
        queue.number(102).await,
        Assigned::Existing {
            entry: entry(3),
            journaled: true
        }
    );
    assert_eq!(
        (
            queue.0.find_by_subject(102),
            queue.0.find_by_subject(999),
            queue.0.subject_of(3)
        ),
        (Some(entry(3)), None, Some(102))
    );
    assert!(queue.0.belongs_to(3, 102) && !queue.0.belongs_to(3, 100));
    queue.apply(2, &[event(2, Event::Left { number: 1 })]).await;
    assert_eq!(queue.0.find_by_subject(100), None);
    assert_eq!(
        queue.number(100).await,
        Assigned::New(entry(4)),
        "a subject that left and joins again gets a new number"
    );
    queue.apply(2, &[joins(4, 100..101)]).await;
    assert_eq!(queue.0.find_by_subject(100), Some(entry(4)));
    assert_eq!(
        (queue.0.entry_state(1, at(3)), queue.0.entry_state(4, at(3))),
        (NumberState::Left, NumberState::Waiting)
    );
}

async fn no_number_is_assigned_beyond_the_last<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    for subject in 1..=1_000 {
        assert!(matches!(queue.number(subject).await, Assigned::New(_)));
    }
    assert_eq!(queue.number(1_001).await, Assigned::Full);
    assert!(
        matches!(queue.number(1_000).await, Assigned::Existing { .. }),
        "a subject keeps its number"
    );
}

/// Groups of joins may arrive in any order, and numbers may be missing for good.
async fn joins_may_arrive_late<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    queue
        .apply(1, &[joins(3, 3..5), called(1, 0, 4), joins(1, 1..2)])
        .await;
    assert_eq!(
        (
            queue.0.subject_of(1),
            queue.0.subject_of(2),
            queue.0.subject_of(4)
        ),
        (Some(1), None, Some(4))
    );
    assert!(matches!(
        queue.0.entry_state(1, at(2)),
        NumberState::Called { .. }
    ));
    queue.enter(10, 1).await;
    queue.enter(11, 3).await;
    assert_eq!(queue.0.counts(at(12)).numbers_issued, 4);
}

async fn records_that_do_not_continue_are_refused<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    queue.apply(1, &[joins(1, 1..4), called(1, 0, 2)]).await;
    for wrong in [joins(3, 9..10), called(2, 1, 3), called(2, 2, 1)] {
        assert!(
            matches!(
                queue.try_apply(2, std::slice::from_ref(&wrong)).await,
                Err(StoreError::Diverged(_))
            ),
            "{wrong:?}"
        );
    }
    assert_eq!(
        (queue.0.now_serving(), queue.0.counts(at(3)).numbers_issued),
        (2, 3)
    );
}

async fn slots_and_permits_are_exact<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    queue.apply(1, &[joins(1, 1..9), called(1, 0, 6)]).await;
    assert_eq!(queue.ask(20, 7).await.1, Reservation::NotCalledYet);
    assert_eq!(queue.ask(20, 700).await.1, Reservation::NotCalledYet);
    let (first, _) = queue.ask(20, 1).await;
    assert_eq!(
        queue.ask(20, 1).await.1,
        no_room(1),
        "the entry is being journaled"
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

async fn overload_admits_only_kept_slots<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
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

async fn claimants_far_back_ask_rarely<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
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

async fn a_slot_is_released_once<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
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

async fn an_entry_passes_through_its_states<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    queue.apply(1, &[joins(1, 1..5)]).await;
    assert_eq!(queue.0.entry_state(1, at(2)), NumberState::Waiting);
    queue.apply(2, &[called(2, 0, 2)]).await;
    assert_eq!(
        queue.0.entry_state(2, at(62)),
        NumberState::Called { ends_at: at(62).now }
    );
    assert_eq!(queue.0.entry_state(2, at(63)), NumberState::Missed);
    assert_eq!(
        (queue.0.counts(at(63)).missed, queue.0.counts(at(63)).waiting),
        (2, 2)
    );
    let visit = queue.enter(100, 2).await;
    assert_eq!(queue.0.entry_state(2, at(100)), NumberState::Admitted);
    assert_eq!(queue.0.counts(at(100)).missed, 1);
    queue
        .apply(101, &[event(101, Event::VisitEnded { number: 2, visit })])
        .await;
    assert_eq!(queue.0.entry_state(2, at(101)), NumberState::Left);
}

async fn a_pause_stops_the_windows<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
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

async fn a_payment_extends_the_visit<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
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

async fn revoked_passes_are_refused<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
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

async fn people_ahead_follow_departures<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    let people = |distance| queue.0.people_ahead().within(distance);
    let told = |count, about| PeopleCount {
        count,
        approximate: about,
    };
    // Number 50 is void.
    queue
        .apply(1, &[joins(1, 1..50), joins(51, 51..101), called(1, 0, 3)])
        .await;
    assert_eq!((people(6), people(96)), (told(6, false), told(95, false)));
    queue
        .apply(
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
        "near the front every number is counted"
    );
    assert_eq!(
        (people(97), people(107)),
        (told(94, false), told(104, false)),
        "later joins wait behind"
    );
    let far = people(57);
    assert!((53..=55).contains(&far.count) && far.approximate, "{far:?}");
    queue.apply(3, &[called(3, 3, 20)]).await;
    assert_eq!(
        (people(1), people(80)),
        (told(1, false), told(78, false)),
        "counting starts at the front"
    );
}

async fn heartbeats_are_asked_of_the_samples<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    // Of the bits that choose: none, one of the far sample's only, one of both.
    let subject = |n: u64| n | [0, 8, 1][usize::try_from(n % 3).unwrap()] << 48;
    let join = |n| Join {
        subject: subject(n),
        joined_at: at(1).now,
    };
    queue
        .apply(
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
    queue
        .apply(
            1,
            &[
                event(1, Event::Left { number: 6 }),
                event(1, Event::Left { number: 21 }),
            ],
        )
        .await;
    assert_eq!(
        queue.0.heartbeat_sample(8),
        [3, 4, 7, 9, 10, 12, 15, 18, 24, 27, 30]
    );
    assert_eq!(queue.0.heartbeat_sample(0), [3, 9, 12, 15, 18, 24, 27, 30]);
}

async fn commands_set_admission<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
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
async fn clock_steps_never_exceed_the_rate<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
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
