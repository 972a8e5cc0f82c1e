//! The store under test, and records to apply to it.

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
        store::port::{Assigned, Moment, QueueStore, Reservation, SlotRequest, StoreError},
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

pub(super) fn event(seconds: u64, event: Event) -> Record {
    Record::Event {
        at: at(seconds).now,
        event,
    }
}

pub(super) fn joins(first: u32, subjects: std::ops::Range<u64>) -> Record {
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

pub(super) fn called(seconds: u64, after: u32, last: u32) -> Record {
    event(
        seconds,
        Event::Called {
            after,
            last,
            window_ends_at: at(seconds + 60).now,
        },
    )
}

pub(super) fn ordered(seconds: u64, command: OperatorCommand) -> Record {
    event(
        seconds,
        Event::Operator {
            command,
            operator: None,
        },
    )
}

/// A store, the source of visit ids, and the last record's number.
pub(super) struct Fixture<S>(pub(super) S, pub(super) SeededEntropy, pub(super) AtomicU64);

impl<S: Deref<Target: QueueStore>> Fixture<S> {
    pub(super) async fn apply(&self, seconds: u64, records: &[Record]) {
        self.try_apply(seconds, records).await.unwrap();
    }

    pub(super) async fn try_apply(&self, seconds: u64, records: &[Record]) -> Result<(), StoreError> {
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

    pub(super) async fn number(&self, subject: u64) -> Assigned {
        self.0
            .assign_number(Join {
                subject,
                joined_at: at(1).now,
            })
            .await
            .unwrap()
    }

    /// One tick.
    pub(super) async fn tick(&self, seconds: u64) -> AdmissionState {
        self.0.sync_state(at(seconds)).await.unwrap();
        self.0.admission_state(at(seconds))
    }

    pub(super) async fn ask(&self, seconds: u64, number: u32) -> (VisitId, Reservation) {
        self.ask_while(BoxOfficeLoad::Normal, seconds, number).await
    }

    pub(super) async fn ask_while(
        &self,
        load: BoxOfficeLoad,
        seconds: u64,
        number: u32,
    ) -> (VisitId, Reservation) {
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
    pub(super) async fn enter(&self, seconds: u64, number: u32) -> VisitId {
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

pub(super) fn no_room(again_s: u64) -> Reservation {
    Reservation::NoRoom {
        retry_after: Duration::from_secs(again_s),
    }
}
