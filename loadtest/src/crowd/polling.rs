//! How a crowd follows the queue status while it waits.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use stagedoor::demo::client::{Call, VisitorRng, messages::QueueStatus, paths};
use tokio::sync::Semaphore;

use super::state::Crowd;
use crate::http1::{HttpRequest, SendError};

/// The page's poll interval far from the front.
const POLL_INTERVAL: Duration = Duration::from_secs(20);
/// Polls in flight. More are not simulated but counted as an error of the generator.
const POLLS_MAX: usize = 1_024;
/// One poll in so many asks for the position instead of the status.
const POSITION_SHARE: f64 = 0.1;

impl Crowd {
    /// Reads the status once a second, as a cache in front of the server would.
    pub(super) async fn read_status(&self) {
        let path = paths::status(&self.config.sale);
        let mut interval = tokio::time::interval(Duration::from_secs(1));
        let mut etag: Option<String> = None;
        loop {
            interval.tick().await;
            let known = etag.clone().unwrap_or_default();
            let headers = [("if-none-match", known.as_str())];
            let headers: &[_] = if etag.is_some() { &headers } else { &[] };
            let request = HttpRequest::get(&path).with_headers(headers);
            let result = self.send_recorded(Call::Status, self.elapsed(), &request).await;
            match &result {
                Err(SendError::NoConnection | SendError::ConnectionLost) => {
                    self.unreachable.fetch_add(1, Ordering::Relaxed);
                }
                _ => self.unreachable.store(0, Ordering::Relaxed),
            }
            let Ok(reply) = result else { continue };
            if reply.status != 200 {
                continue;
            }
            let Some(status) = reply.json::<QueueStatus>() else {
                self.recorder.error("status: unreadable");
                continue;
            };
            etag = reply.etag;
            self.recorder.second(self.elapsed(), |second| {
                second.waiting = status.waiting;
                second.active = status.active_visits;
            });
            self.log.active(status.active_visits);
            self.forecasts.lock().record(&status);
            self.status.send_replace(status);
        }
    }

    /// Makes the polls of all waiting visitors: as many a second as they would make together.
    pub(super) async fn poll_for_waiting(self: &Arc<Self>) {
        let rng = self.rng(u32::MAX, 1);
        let mut interval = tokio::time::interval(Duration::from_millis(20));
        let (mut owed, mut last) = (0.0, self.elapsed());
        let permits = Arc::new(Semaphore::new(POLLS_MAX));
        loop {
            interval.tick().await;
            let now = self.elapsed();
            let waiting = f64::from(u32::try_from(self.waiting.lock().len()).unwrap_or(u32::MAX));
            owed += waiting * now.saturating_sub(last).as_secs_f64() / POLL_INTERVAL.as_secs_f64();
            last = now;
            while owed >= 1.0 {
                owed -= 1.0;
                let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                    self.recorder.error("polls not made: too many in flight");
                    continue;
                };
                let token = rng
                    .chance(POSITION_SHARE)
                    .then(|| self.token_of_waiting(&rng))
                    .flatten();
                let crowd = Arc::clone(self);
                tokio::spawn(async move {
                    crowd.poll_once(now, token.as_deref()).await;
                    drop(permit);
                });
            }
        }
    }

    async fn poll_once(&self, due: Duration, token: Option<&str>) {
        // The result is recorded; a waiting visitor does nothing else with it.
        let _ = if let Some(token) = token {
            let path = paths::position(&self.config.sale);
            let headers = [(paths::QUEUE_TOKEN, token)];
            self.send_recorded(
                Call::Position,
                due,
                &HttpRequest::get(&path).with_headers(&headers),
            )
            .await
        } else {
            let path = paths::status(&self.config.sale);
            self.send_recorded(Call::Status, due, &HttpRequest::get(&path))
                .await
        };
    }

    /// The token of a random waiting visitor.
    fn token_of_waiting(&self, rng: &VisitorRng) -> Option<Box<str>> {
        let waiting = self.waiting.lock();
        let (first, last) = (*waiting.first_key_value()?.0, *waiting.last_key_value()?.0);
        let from = first + rng.below(usize::try_from(last - first).ok()? + 1) as u64;
        waiting
            .range(from..)
            .next()
            .map(|(_, visitor)| visitor.token.clone())
    }
}
