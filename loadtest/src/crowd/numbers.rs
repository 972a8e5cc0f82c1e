//! Numbers from a draw: after it, each visitor asks for their own, as the page does.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use stagedoor::demo::client::{Call, messages::QueueEntry, paths};
use tokio::{sync::Semaphore, task::JoinSet};

use super::state::{Crowd, Undrawn, Waiting};
use crate::http1::HttpRequest;

/// A page asks for its number within this time after the draw, at random.
const ASK_WITHIN: Duration = Duration::from_secs(4);
/// Requests for numbers in flight.
const REQUESTS_MAX: usize = 1_024;
const ATTEMPTS_MAX: u32 = 20;

impl Crowd {
    /// After the draw, asks for the number of every visitor without one.
    pub(super) async fn ask_for_numbers(self: &Arc<Self>) {
        let permits = Arc::new(Semaphore::new(REQUESTS_MAX));
        let mut interval = tokio::time::interval(Duration::from_millis(100));
        let mut asking = JoinSet::new();
        loop {
            interval.tick().await;
            while asking.try_join_next().is_some() {}
            if !self.status.borrow().is_drawn() {
                continue;
            }
            let undrawn = std::mem::take(&mut *self.undrawn.lock());
            let mut due: Vec<(Duration, Undrawn)> = undrawn
                .into_iter()
                .map(|visitor| {
                    (
                        self.elapsed() + self.rng(visitor.customer, 2).jitter(ASK_WITHIN),
                        visitor,
                    )
                })
                .collect();
            due.sort_by_key(|(at, _)| *at);
            for (at, visitor) in due {
                while asking.try_join_next().is_some() {}
                tokio::time::sleep(at.saturating_sub(self.elapsed())).await;
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                    return;
                };
                let crowd = Arc::clone(self);
                asking.spawn(async move {
                    crowd.ask_until_numbered(at, visitor).await;
                    crowd.unnumbered.fetch_sub(1, Ordering::Relaxed);
                    drop(permit);
                });
            }
        }
    }

    async fn ask_until_numbered(&self, mut due: Duration, visitor: Undrawn) {
        let Undrawn {
            customer,
            join,
            token,
            session,
        } = visitor;
        for attempt in 0..ATTEMPTS_MAX {
            let (number, pause) = self.number_of(&token, due).await;
            if let Some(number) = number {
                self.log.numbered(join, number);
                self.waiting.lock().insert(
                    number,
                    Waiting {
                        customer,
                        token,
                        session,
                    },
                );
                return;
            }
            let pause = pause + self.rng(customer, 3 + attempt).jitter(pause);
            tokio::time::sleep(pause).await;
            due = self.elapsed();
        }
        self.log.ended("got no number");
    }

    /// The number of this queue token, if it has one, and else when to ask again.
    pub async fn number_of(&self, token: &str, due: Duration) -> (Option<u64>, Duration) {
        let path = paths::position(&self.config.sale);
        let headers = [(paths::QUEUE_TOKEN, token)];
        let request = HttpRequest::get(&path).with_headers(&headers);
        let default = Duration::from_secs(1);
        match self.send_recorded(Call::Position, due, &request).await {
            Ok(reply) if reply.is_ok() => {
                (reply.json::<QueueEntry>().and_then(|entry| entry.number), default)
            }
            Ok(reply) => (None, reply.retry_after.unwrap_or(default)),
            Err(_) => (None, default),
        }
    }
}
