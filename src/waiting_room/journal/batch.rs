//! How a batch of requests becomes one commit.

use std::sync::atomic::Ordering;

use crate::waiting_room::{
    journal::{
        port::JournalError,
        record::{Event, Promise, Record},
        request::{Answer, Ask},
        writer::{WriteError, Writer},
    },
};

impl Writer {
    pub(super) async fn write(&self, asks: Vec<Ask>) -> Vec<Answer> {
        if let Err(error) = self.settle_doubt().await {
            return self.fail(&asks, &error);
        }
        let epoch = self.store.epoch();
        let holds = |ask: &Ask| ask.epoch().is_none_or(|it| it == epoch);
        if asks.iter().all(holds) {
            return self.write_standing(&asks).await;
        }
        // The engine has lost its memory since some of them were decided.
        let (standing, outlived): (Vec<Ask>, Vec<Ask>) = asks.iter().cloned().partition(holds);
        self.doubt(&outlived);
        let mut written = self.write_standing(&standing).await.into_iter();
        asks.iter()
            .map(|ask| {
                if holds(ask) {
                    written.next().unwrap_or(Answer::Failed)
                } else {
                    Answer::Failed
                }
            })
            .collect()
    }

    /// A draw was closed before this join could be written down: it is not written any more.
    fn comes_late(&self, ask: &Ask) -> bool {
        matches!(ask, Ask::Join(promise) if self.store.missed_draw(promise.number))
    }

    /// Nobody may be written down behind the back of a root: what is closed must be what the journal holds.
    fn closes_rightly(&self, asks: &[Ask], promises: &[Promise]) -> bool {
        let closed = asks.iter().flat_map(Ask::events).find_map(|event| {
            if let Event::EntriesClosed(it) = event {
                Some(it)
            } else {
                None
            }
        });
        closed.is_none_or(|closed| {
            self.store.count_persons(closed.entries) == closed.persons
                && promises.iter().all(|it| it.number > closed.entries)
        })
    }

    async fn write_standing(&self, asks: &[Ask]) -> Vec<Answer> {
        match self.write_group(asks).await {
            Ok(answers) => answers,
            Err(WriteError::Journal(JournalError::Conflict)) if self.journal.is_shared() => {
                match self.catch_up().await {
                    // Another node was faster with one of them; what is left may stand.
                    Ok(()) => self.write_each(asks).await,
                    Err(error) => self.fail(asks, &error),
                }
            }
            Err(WriteError::Journal(JournalError::Conflict)) if asks.len() > 1 || only_calls(asks) => {
                self.write_each(asks).await
            }
            Err(error) => self.fail(asks, &error),
        }
    }

    fn fail(&self, asks: &[Ask], error: &WriteError) -> Vec<Answer> {
        if matches!(error, WriteError::Journal(JournalError::Stale)) {
            self.store.is_stale();
        }
        // While it lasts, once is enough.
        if !self.progress.lock().in_doubt {
            tracing::error!(%error, asks = asks.len(), "the queue's journal cannot be written");
        }
        self.doubt(asks);
        vec![Answer::Failed; asks.len()]
    }

    /// One of a group cannot be written: the others must not suffer for it.
    async fn write_each(&self, asks: &[Ask]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(asks.len());
        for ask in asks.chunks(1) {
            answers.push(match self.write_group(ask).await {
                Ok(answer) => answer[0],
                // Of several nodes that call at once one is heard.
                Err(WriteError::Journal(JournalError::Conflict)) if only_calls(ask) => Answer::Failed,
                Err(error) => self.fail(ask, &error)[0],
            });
        }
        answers
    }

    async fn write_group(&self, asks: &[Ask]) -> Result<Vec<Answer>, WriteError> {
        let (now, epoch) = (self.clock.now(), self.store.epoch());
        let mut promises = self.progress.lock().unwritten.clone();
        promises.extend(asks.iter().filter_map(|ask| {
            if let Ask::Join(promise) = ask {
                Some(*promise)
            } else {
                None
            }
        }));
        promises.retain(|promise| promise.epoch == epoch && !self.store.missed_draw(promise.number));
        if !self.closes_rightly(asks, &promises) {
            return Err(JournalError::Conflict.into());
        }
        let answers = asks
            .iter()
            .map(|ask| {
                if self.comes_late(ask) {
                    Answer::Failed
                } else {
                    Answer::Written
                }
            })
            .collect();
        let mut records = runs(self.not_written(promises)?);
        let of_ask = |ask: &Ask| {
            let at = ask.at().unwrap_or(now);
            ask.events()
                .iter()
                .map(move |event| Record::Event {
                    at,
                    event: event.clone(),
                })
                .collect::<Vec<_>>()
        };
        records.extend(asks.iter().flat_map(of_ask));
        if !records.is_empty() {
            self.append(records).await?;
            let mut progress = self.progress.lock();
            progress.unwritten.retain(|promise| promise.epoch != epoch);
            self.behind
                .0
                .store(!progress.unwritten.is_empty(), Ordering::Relaxed);
        } else if self.journal.is_shared() {
            self.catch_up().await?;
            if self.store.is_complete() {
                self.beat(now).await?;
            }
        }
        Ok(answers)
    }
}

fn only_calls(asks: &[Ask]) -> bool {
    let of_the_house = |event: &Event| {
        matches!(
            event,
            Event::Called { .. }
                | Event::Phase { .. }
                | Event::Stock { .. }
                | Event::Slowed { .. }
                | Event::EntriesClosed(_)
                | Event::Drawn(_)
        )
    };
    asks.iter()
        .all(|ask| !matches!(ask, Ask::Join(_)) && ask.events().iter().all(of_the_house))
}

/// Groups joins in number order into runs without gaps.
fn runs(promises: Vec<Promise>) -> Vec<Record> {
    let mut runs: Vec<Record> = Vec::new();
    for Promise { number, join, .. } in promises {
        match runs.last_mut() {
            Some(Record::Joins { first, joins })
                if u64::from(*first) + joins.len() as u64 == u64::from(number) =>
            {
                joins.push(join)
            }
            _ => runs.push(Record::Joins {
                first: number,
                joins: vec![join],
            }),
        }
    }
    runs
}
