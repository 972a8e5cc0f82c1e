//! The course of a crowd: its background tasks, and the visitors who are called.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use stagedoor::demo::client::{paths, visit::Visit};
use tokio::task::JoinSet;

use super::{
    bots,
    config::StatusPolling,
    state::{Crowd, Waiting},
    visitor,
};
use crate::sse_client;

/// Joins in flight.
const JOINERS: usize = 256;

impl Crowd {
    /// Lets the crowd arrive and waits until its last visitor is done, or until the time limit. Dropping the
    /// future ends every visitor.
    pub async fn run(self: &Arc<Self>) {
        let mut background = JoinSet::new();
        self.start_background(&mut background);
        let mut visitors = JoinSet::new();
        let mut interval = tokio::time::interval(Duration::from_millis(100));
        while self.elapsed() < self.config.limit {
            interval.tick().await;
            self.start_called(&mut visitors);
            while visitors.try_join_next().is_some() {}
            let (waiting, joining) = self.waiting_and_joining();
            let none_waits = waiting == 0 || self.status.borrow().is_over();
            if self.has_arrived() && joining == 0 && visitors.is_empty() && none_waits {
                break;
            }
            if self.is_unreachable() {
                break;
            }
        }
        self.is_over.store(true, Ordering::Relaxed);
        let waiting = u32::try_from(self.waiting_and_joining().0).unwrap_or(u32::MAX);
        let is_over = self.status.borrow().is_over();
        self.log
            .ended_many(if is_over { "sold out" } else { "still waiting" }, waiting);
        visitors.shutdown().await;
        background.shutdown().await;
    }

    fn start_background(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        let crowd = || Arc::clone(self);
        for _ in 0..JOINERS {
            let crowd = crowd();
            tasks.spawn(async move { crowd.make_due_joins().await });
        }
        let (status, arrivals, numbers) = (crowd(), crowd(), crowd());
        tasks.spawn(async move { status.read_status().await });
        tasks.spawn(async move { arrivals.dispatch().await });
        tasks.spawn(async move { numbers.ask_for_numbers().await });
        if self.config.polling == StatusPolling::Direct {
            let crowd = crowd();
            tasks.spawn(async move { crowd.poll_for_waiting().await });
        }
        for n in 0..self.config.bots {
            let crowd = crowd();
            // Each part of a crowd has its own bots.
            let bot = crowd.config.first - 1 + n * crowd.config.every;
            tasks.spawn(async move { bots::run(&crowd, bot).await });
        }
        for _ in 0..self.config.streams {
            let crowd = crowd();
            tasks.spawn(async move {
                let path = paths::status_events(&crowd.config.sale);
                sse_client::follow(crowd.client.address(), &path, &crowd.streams).await;
            });
        }
    }

    /// Starts a task for each visitor who has been called, except for those who never come.
    fn start_called(self: &Arc<Self>, visitors: &mut JoinSet<()>) {
        let called = {
            let now_serving = self.status.borrow().now_serving;
            let mut waiting = self.waiting.lock();
            let rest = waiting.split_off(&(now_serving + 1));
            std::mem::replace(&mut *waiting, rest)
        };
        for (
            number,
            Waiting {
                customer,
                token,
                session,
            },
        ) in called
        {
            let rng = self.rng(customer, 0);
            if rng.chance(self.config.absent) {
                self.log.ended("did not show up");
                continue;
            }
            let mut visit = Visit::new(Arc::clone(self), rng, customer, self.config.sale.clone());
            visit.number = Some(number);
            visit.credentials.queue_token = token;
            visit.credentials.authorization = session;
            visitors.spawn(visitor::run(visit));
        }
    }
}
