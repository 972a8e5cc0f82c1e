//! How a batch of requests becomes one commit.

use crate::waiting_room::journal::{
    port::JournalError,
    record::{Event, PendingJoin, Record},
    request::{WriteRequest, WriteResult},
    writer::{JournalWriter, SLOW_FAILURE, WriteError},
};

impl JournalWriter {
    pub(super) async fn write(&self, requests: Vec<WriteRequest>) -> Vec<WriteResult> {
        // These requests have waited for as long as the last batch took to fail. They are not made to wait as
        // long again; the next batch tries.
        if std::mem::take(&mut self.progress.lock().failed_slowly) {
            return self.fail(
                &requests,
                &JournalError::Unavailable("it did not answer a moment ago".into()).into(),
            );
        }
        let started = self.clock.monotonic();
        let results = self.try_write(requests).await;
        let took = self.clock.monotonic().saturating_sub(started);
        self.progress.lock().failed_slowly = self.lag.is_unavailable() && took >= SLOW_FAILURE;
        results
    }

    async fn try_write(&self, requests: Vec<WriteRequest>) -> Vec<WriteResult> {
        if let Err(error) = self.resolve_in_doubt().await {
            return self.fail(&requests, &error);
        }
        let epoch = self.store.epoch();
        let holds = |request: &WriteRequest| request.epoch().is_none_or(|it| it == epoch);
        if requests.iter().all(holds) {
            return self.write_current(&requests).await;
        }
        // The store lost its dataset since some requests were decided.
        let (standing, outlived): (Vec<WriteRequest>, Vec<WriteRequest>) =
            requests.iter().cloned().partition(holds);
        self.mark_in_doubt(&outlived);
        let mut written = self.write_current(&standing).await.into_iter();
        requests
            .iter()
            .map(|request| {
                if holds(request) {
                    written.next().unwrap_or(WriteResult::Failed)
                } else {
                    WriteResult::Failed
                }
            })
            .collect()
    }

    /// Whether a draw was closed before this join was journaled: then it is not journaled any more.
    fn missed_draw(&self, request: &WriteRequest) -> bool {
        matches!(request, WriteRequest::Join(promise) if self.store.is_void_in_draw(promise.number))
    }

    /// Whether the entries that a draw is closed over are those of the journal: the published root covers no
    /// others.
    fn entries_match(&self, requests: &[WriteRequest], promises: &[PendingJoin]) -> bool {
        let closed = requests.iter().flat_map(WriteRequest::events).find_map(|event| {
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

    async fn write_current(&self, requests: &[WriteRequest]) -> Vec<WriteResult> {
        match self.write_group(requests).await {
            Ok(answers) => answers,
            Err(WriteError::Journal(JournalError::Conflict)) if self.journal.is_shared() => {
                match self.catch_up().await {
                    // Another node wrote something that excludes one of the requests; the others may stand.
                    Ok(()) => self.write_each(requests).await,
                    Err(error) => self.fail(requests, &error),
                }
            }
            Err(WriteError::Journal(JournalError::Conflict))
                if requests.len() > 1 || has_only_system_events(requests) =>
            {
                self.write_each(requests).await
            }
            Err(error) => self.fail(requests, &error),
        }
    }

    fn fail(&self, requests: &[WriteRequest], error: &WriteError) -> Vec<WriteResult> {
        if matches!(error, WriteError::Journal(JournalError::StaleEpoch)) {
            self.store.mark_stale();
        }
        if matches!(error, WriteError::Journal(JournalError::Unavailable(_))) {
            self.lag.set_unavailable(true);
        }
        // Logged once per outage.
        if !self.progress.lock().in_doubt {
            tracing::error!(%error, requests = requests.len(), "the queue's journal cannot be written; \
                joins and admissions fail until it can");
        }
        self.mark_in_doubt(requests);
        vec![WriteResult::Failed; requests.len()]
    }

    /// Writes each request by itself: one that is refused must not fail the others of its batch.
    async fn write_each(&self, requests: &[WriteRequest]) -> Vec<WriteResult> {
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests.chunks(1) {
            answers.push(match self.write_group(request).await {
                Ok(answer) => answer[0],
                // Of several nodes that call at once one succeeds.
                Err(WriteError::Journal(JournalError::Conflict)) if has_only_system_events(request) => {
                    WriteResult::Failed
                }
                Err(WriteError::Journal(JournalError::Conflict)) if is_of_visitor(&request[0]) => {
                    self.release_excluded(&request[0]).await;
                    WriteResult::Excluded
                }
                Err(error) => self.fail(request, &error)[0],
            });
        }
        answers
    }

    /// The slot of an admission that another record excludes is free at once.
    async fn release_excluded(&self, request: &WriteRequest) {
        for event in request.events() {
            if let Event::Admitted { visit, .. } = event
                && let Err(error) = self.store.release_slot(*visit).await
            {
                tracing::debug!(%error, "an excluded admission keeps its slot until the reservation lapses");
            }
        }
    }

    async fn write_group(&self, requests: &[WriteRequest]) -> Result<Vec<WriteResult>, WriteError> {
        let (now, epoch) = (self.clock.now(), self.store.epoch());
        let mut promises = self.progress.lock().pending.clone();
        promises.extend(requests.iter().filter_map(|request| {
            if let WriteRequest::Join(promise) = request {
                Some(*promise)
            } else {
                None
            }
        }));
        promises.retain(|promise| promise.epoch == epoch && !self.store.is_void_in_draw(promise.number));
        if !self.entries_match(requests, &promises) {
            return Err(JournalError::Conflict.into());
        }
        let answers = requests
            .iter()
            .map(|request| {
                if self.missed_draw(request) {
                    WriteResult::Failed
                } else {
                    WriteResult::Written
                }
            })
            .collect();
        let mut records = group_runs(self.not_journaled(promises)?);
        let of_ask = |request: &WriteRequest| {
            let at = request.at().unwrap_or(now);
            request
                .events()
                .iter()
                .map(move |event| Record::Event {
                    at,
                    event: event.clone(),
                })
                .collect::<Vec<_>>()
        };
        records.extend(requests.iter().flat_map(of_ask));
        if !records.is_empty() {
            self.append(records).await?;
            let mut progress = self.progress.lock();
            progress.pending.retain(|promise| promise.epoch != epoch);
            self.lag.set(!progress.pending.is_empty());
        } else if self.journal.is_shared() {
            self.catch_up().await?;
            if self.store.is_complete() {
                self.heartbeat(now).await?;
            }
        }
        Ok(answers)
    }
}

fn has_only_system_events(requests: &[WriteRequest]) -> bool {
    let of_the_house = |event: &Event| {
        matches!(
            event,
            Event::Called { .. }
                | Event::Phase { .. }
                | Event::Stock { .. }
                | Event::RateReduced { .. }
                | Event::EntriesClosed(_)
                | Event::Drawn(_)
        )
    };
    requests
        .iter()
        .all(|request| !matches!(request, WriteRequest::Join(_)) && request.events().iter().all(of_the_house))
}

/// A visitor's own doing, which another node may have overtaken: entering twice, leaving at one node and
/// entering at another, leaving twice.
fn is_of_visitor(request: &WriteRequest) -> bool {
    let is_own = |event: &Event| {
        matches!(
            event,
            Event::Admitted { .. } | Event::Left { .. } | Event::VisitEnded { .. }
        )
    };
    !matches!(request, WriteRequest::Join(_)) && request.events().iter().all(is_own)
}

/// Groups joins, sorted by number, into one record per run without gaps.
fn group_runs(promises: Vec<PendingJoin>) -> Vec<Record> {
    let mut group_runs: Vec<Record> = Vec::new();
    for PendingJoin { number, join, .. } in promises {
        match group_runs.last_mut() {
            Some(Record::Joins { first, joins })
                if u64::from(*first) + joins.len() as u64 == u64::from(number) =>
            {
                joins.push(join);
            }
            _ => group_runs.push(Record::Joins {
                first: number,
                joins: vec![join],
            }),
        }
    }
    group_runs
}
