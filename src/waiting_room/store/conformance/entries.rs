//! Numbers, entries and what is known of them.

use std::ops::Deref;

use super::fixture::*;
use crate::waiting_room::{
    journal::record::{Event, Join, Record},
    status::people_ahead::PeopleCount,
    store::port::{Assigned, KnownEntry, NumberState, QueueStore, StoreError},
};

pub(super) async fn one_subject_has_one_number<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
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

pub(super) async fn no_number_is_assigned_beyond_the_last<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
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
pub(super) async fn joins_may_arrive_late<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
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

pub(super) async fn records_that_do_not_continue_are_refused<S: Deref<Target: QueueStore>>(
    queue: &Fixture<S>,
) {
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

pub(super) async fn an_entry_passes_through_its_states<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
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

pub(super) async fn people_ahead_follow_departures<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
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

pub(super) async fn heartbeats_are_asked_of_the_samples<S: Deref<Target: QueueStore>>(queue: &Fixture<S>) {
    // Sampling bits set: none; one that only the far mask tests; one that both masks test.
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
