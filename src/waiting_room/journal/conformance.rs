//! What every journal must do. `open` opens the journal of the named sale on the same storage each time, as
//! after a restart.

use std::future::Future;

use crate::{
    kernel::{Entropy, SeededEntropy, Timestamp, VisitId},
    waiting_room::{
        journal::{
            port::{Journal, JournalError},
            record::{Event, Join, Record},
        },
        types::{OperatorCommand, Phase},
    },
};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn joins(first: u32, subjects: &[u64]) -> Record {
    let joins = subjects
        .iter()
        .map(|&subject| Join {
            subject,
            joined_at: at(1_000 + i64::from(first)),
        })
        .collect();
    Record::Joins { first, joins }
}

fn event(event: Event) -> Record {
    Record::Event { at: at(5_000), event }
}

fn entered(entropy: &dyn Entropy, number: u32, subject: u64) -> (VisitId, Record) {
    let visit = VisitId::random(entropy);
    (
        visit,
        event(Event::Admitted {
            number,
            subject,
            visit,
        }),
    )
}

pub(crate) async fn keeps_what_it_was_given<J: Journal, F: Future<Output = J>>(
    open: impl Fn(&'static str) -> F,
) {
    let entropy = SeededEntropy::new(1);
    let (visit, entry) = entered(&entropy, 1, u64::MAX);
    let given = vec![
        joins(1, &[u64::MAX, 0, 7]),
        event(Event::Called {
            after: 0,
            last: 2,
            window_ends_at: at(9_000),
        }),
        entry,
        event(Event::VisitEnded { number: 1, visit }),
        event(Event::Left { number: 2 }),
        event(Event::Stock { sold_out: true }),
        event(Event::Phase {
            phase: Phase::SoldOut,
        }),
        event(Event::Interrupted { since: at(4_000) }),
        event(Event::Operator {
            command: OperatorCommand::Notice {
                text: Some("곧 다시".into()),
            },
            operator: Some("kim".into()),
        }),
        event(Event::Operator {
            command: OperatorCommand::Resume,
            operator: None,
        }),
        event(Event::RateReduced { by_ppm: 250_000 }),
    ];
    let journal = open("a").await;
    journal.append(0, &given[..3]).await.unwrap();
    journal.append(0, &given[3..]).await.unwrap();
    open("b").await.append(0, &[joins(1, &[9])]).await.unwrap();

    let again = open("a").await;
    let kept = again.read(0, 100).await.unwrap();
    assert_eq!(kept.iter().map(|s| s.record.clone()).collect::<Vec<_>>(), given);
    assert!(kept.windows(2).all(|w| w[0].seq < w[1].seq));
    let rest = again.read(kept[2].seq, 2).await.unwrap();
    assert_eq!(rest, kept[3..5]);
}

pub(crate) async fn refuses_a_number_or_a_visit_twice<J: Journal, F: Future<Output = J>>(
    open: impl Fn(&'static str) -> F,
) {
    let entropy = SeededEntropy::new(2);
    let journal = open("a").await;
    let (first_visit, entry) = entered(&entropy, 1, 11);
    journal
        .append(0, &[joins(1, &[11, 12, 11]), entry])
        .await
        .unwrap();
    let before = journal.read(0, 100).await.unwrap();
    let refused = |records: Vec<Record>| {
        let journal = &journal;
        async move { matches!(journal.append(0, &records).await, Err(JournalError::Conflict)) }
    };
    assert!(refused(vec![joins(1, &[13])]).await, "the same numbers again");
    assert!(
        refused(vec![event(Event::Left { number: 2 }), entered(&entropy, 1, 12).1]).await,
        "one number enters once"
    );
    assert!(
        refused(vec![entered(&entropy, 3, 11).1]).await,
        "one subject has one visit at a time"
    );
    assert_eq!(
        journal.read(0, 100).await.unwrap(),
        before,
        "a refused group leaves nothing behind"
    );
    journal
        .append(
            0,
            &[
                event(Event::VisitEnded {
                    number: 1,
                    visit: first_visit,
                }),
                entered(&entropy, 3, 11).1,
            ],
        )
        .await
        .unwrap();
}
