//! Arrivals: signing in and joining the queue, on schedule and again when asked to.

use std::{cmp::Reverse, sync::atomic::Ordering, time::Duration};

use stagedoor::{
    demo::client::{
        Call, Reply,
        messages::{QueueEntry, SessionGranted, handoff_request},
        paths,
    },
    kernel::OsEntropy,
};

use super::state::{Crowd, DueJoin, Session, Undrawn, Waiting};
use crate::http1::{HttpRequest, SendError};

const DISPATCH_INTERVAL: Duration = Duration::from_millis(2);
const JOIN_ATTEMPTS_MAX: u32 = 20;

impl Crowd {
    /// Every visitor has arrived and their first join was taken up.
    pub(super) fn has_arrived(&self) -> bool {
        let last = self.config.arrivals.last();
        last.is_none_or(|last| self.elapsed() > *last + Duration::from_millis(50))
            && self.due.lock().is_empty()
    }

    /// Hands each arrival, and each postponed join, to the joiners when it is due.
    pub(super) async fn dispatch(&self) {
        let customers = (self.config.first..).step_by(self.config.every as usize);
        let mut arrivals = self.config.arrivals.iter().zip(customers).peekable();
        let mut interval = tokio::time::interval(DISPATCH_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let now = self.elapsed();
            let mut added = 0;
            let mut due = self.due.lock();
            while let Some((at, customer)) = arrivals.next_if(|(at, _)| **at <= now) {
                self.joining.fetch_add(1, Ordering::Relaxed);
                due.push_back(DueJoin {
                    due: *at,
                    customer,
                    attempts: 0,
                    session: Session::default(),
                });
                added += 1;
            }
            let mut postponed = self.postponed.lock();
            while postponed.peek().is_some_and(|Reverse(join)| join.due <= now) {
                due.extend(postponed.pop().map(|Reverse(join)| join));
                added += 1;
            }
            drop((due, postponed));
            self.due_permits.add_permits(added);
        }
    }

    /// Makes due joins, one after the other, for ever.
    pub(super) async fn make_due_joins(&self) {
        loop {
            let Ok(permit) = self.due_permits.acquire().await else {
                return;
            };
            permit.forget();
            let Some(join) = self.due.lock().pop_front() else {
                continue;
            };
            self.join(join).await;
        }
    }

    /// Signs in, where the sale requires it and it is not done yet, and joins. The reply of the last call
    /// made.
    pub async fn sign_in_and_join(
        &self,
        customer: u32,
        mut due: Duration,
        session: &mut Session,
    ) -> Result<Reply, SendError> {
        if session.is_empty()
            && let Some(shop) = &self.config.shop
        {
            let token = shop.sign(self.now(), &OsEntropy, &format!("load-{customer}"), "");
            let body = handoff_request(&token).to_string();
            let request = HttpRequest::post(paths::SIGN_IN_HANDOFF).with_body(&body);
            let reply = self.send_recorded(Call::SignIn, due, &request).await?;
            let Some(granted) = reply.json::<SessionGranted>().filter(|_| reply.is_ok()) else {
                return Ok(reply);
            };
            *session = format!("Bearer {}", granted.token).into();
            due = self.elapsed();
        }
        let path = paths::queue(&self.config.sale);
        let headers = [(paths::AUTHORIZATION, &**session)];
        let headers: &[_] = if session.is_empty() { &[] } else { &headers };
        self.send_recorded(Call::Join, due, &HttpRequest::post(&path).with_headers(headers))
            .await
    }

    async fn join(&self, mut join: DueJoin) {
        let result = self
            .sign_in_and_join(join.customer, join.due, &mut join.session)
            .await;
        let rng = self.rng(join.customer, join.attempts);
        let retry_in = match &result {
            Ok(reply) if reply.is_ok() => {
                self.joined(join.customer, std::mem::take(&mut join.session), reply);
                None
            }
            Ok(reply)
                if reply.asks_to_wait() || (reply.status == 409 && reply.problem() == "not-open-yet") =>
            {
                let advised = reply.retry_after.unwrap_or(Duration::from_secs(1));
                Some(advised + rng.jitter(advised))
            }
            Ok(reply) => {
                let ending = if reply.problem() == "closed" {
                    "came too late"
                } else {
                    "not served"
                };
                self.log.ended(ending);
                None
            }
            Err(_) => Some(rng.jitter(Duration::from_millis(500) * (1 << join.attempts.min(5)))),
        };
        let is_over = self.status.borrow().is_over();
        match retry_in {
            Some(pause) if join.attempts < JOIN_ATTEMPTS_MAX && !is_over => {
                let due = self.elapsed() + pause;
                let attempts = join.attempts + 1;
                self.postponed.lock().push(Reverse(DueJoin {
                    due,
                    attempts,
                    ..join
                }));
            }
            Some(_) => {
                self.log
                    .ended(if is_over { "sold out" } else { "gave up joining" });
                self.joining.fetch_sub(1, Ordering::Relaxed);
            }
            None => {
                self.joining.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn joined(&self, customer: u32, session: Session, reply: &Reply) {
        let Some(QueueEntry {
            token: Some(token),
            number,
            ..
        }) = reply.json()
        else {
            self.recorder.error("join: unreadable");
            self.log.ended("not served");
            return;
        };
        let join = self.log.joined(customer, number, self.now());
        self.recorder.second(self.elapsed(), |second| second.joins += 1);
        if let Some(number) = number {
            self.waiting.lock().insert(
                number,
                Waiting {
                    customer,
                    token,
                    session,
                },
            );
        } else {
            self.unnumbered.fetch_add(1, Ordering::Relaxed);
            self.undrawn.lock().push(Undrawn {
                customer,
                join,
                token,
                session,
            });
        }
    }
}
