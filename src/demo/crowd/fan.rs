//! One fan's day, from signing in to going home.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    config::HandoffSigner,
    shared::{Shared, StatusView},
};
use crate::demo::client::{
    Abandoned, Call, Reply, Request, VisitorRng,
    messages::{QueueEntry, SessionGranted, handoff_request},
    paths,
    visit::Visit,
};

/// Lives through the day and records how it ended.
pub(super) async fn run(shared: Arc<Shared>, handoff: HandoffSigner, seed: u64, customer: u32) {
    let mut fan = Fan {
        status: shared.subscribe(),
        visit: Visit::new(
            Arc::clone(&shared),
            VisitorRng::new(seed, customer),
            customer,
            shared.sale.clone(),
        ),
        handoff,
        join: 0,
        outages_seen: 0,
    };
    let ending = fan.day().await.unwrap_or(Ending::NotServed);
    shared.client.log().ended(ending.name());
}

/// A fan and everything a browser would remember for them, through every outage.
pub(super) struct Fan {
    pub(super) visit: Visit<Arc<Shared>>,
    handoff: HandoffSigner,
    status: watch::Receiver<StatusView>,
    /// The index of the join in the observation log.
    join: usize,
    outages_seen: u32,
}

/// How a fan's day ended.
#[derive(Clone, Copy)]
pub(super) enum Ending {
    CameTooLate,
    LeftTheQueue,
    DidNotShowUp,
    SoldOut,
    NothingSuitable,
    AbandonedHold,
    CardsDeclined,
    HasTickets,
    NotServed,
}

impl Ending {
    fn name(self) -> &'static str {
        match self {
            Self::CameTooLate => "came too late",
            Self::LeftTheQueue => "left the queue",
            Self::DidNotShowUp => "did not show up",
            Self::SoldOut => "sold out",
            Self::NothingSuitable => "nothing suitable",
            Self::AbandonedHold => "abandoned a hold",
            Self::CardsDeclined => "cards declined",
            Self::HasTickets => "has tickets",
            Self::NotServed => "not served",
        }
    }
}

/// How a fan behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Temper {
    Patient,
    /// Leaves the queue before being called.
    LeavesEarly,
    /// Is away when called and comes later.
    LateWhenCalled,
    /// Is away when called and never comes.
    AbsentWhenCalled,
    /// Holds seats and closes the browser.
    AbandonsHold,
}

const TEMPERS: [(Temper, u32); 5] = [
    (Temper::Patient, 86),
    (Temper::LeavesEarly, 3),
    (Temper::LateWhenCalled, 4),
    (Temper::AbsentWhenCalled, 4),
    (Temper::AbandonsHold, 3),
];

const SIGN_IN_ATTEMPTS_MAX: u32 = 3;

impl Fan {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.visit.transport
    }

    async fn day(&mut self) -> Result<Ending, Abandoned> {
        let temper = self.visit.rng.weighted(&TEMPERS);
        self.sign_in().await?;
        if !self.join().await? {
            return Ok(Ending::CameTooLate);
        }
        if let Some(ending) = self.wait_to_be_called(temper).await? {
            return Ok(ending);
        }
        match temper {
            Temper::AbsentWhenCalled => return Ok(Ending::DidNotShowUp),
            Temper::LateWhenCalled => self.visit.pause(Duration::from_mins(4)).await,
            _ => self.visit.pause(Duration::from_secs(4)).await,
        }
        if !self.visit.enter().await? {
            return Ok(Ending::SoldOut);
        }
        let ending = self.buy(temper).await;
        // Only a fan who closes the browser leaves the visit to expire.
        if !matches!(ending, Ok(Ending::AbandonedHold)) {
            self.visit.end().await;
        }
        ending
    }

    async fn sign_in(&mut self) -> Result<(), Abandoned> {
        // A hand-off token is good for one sign-in. When the answer to it is lost, the shop gives another
        // one.
        for _ in 0..SIGN_IN_ATTEMPTS_MAX {
            let request = Request::new(Call::SignIn, "POST", paths::SIGN_IN_HANDOFF.to_owned())
                .json(&handoff_request(&(self.handoff)(self.visit.customer)));
            let reply = self.visit.send(request).await?;
            if reply.status == 200 {
                let session: SessionGranted = self.visit.read(Call::SignIn, &reply)?;
                self.visit.credentials.authorization = format!("Bearer {}", session.token).into();
                return Ok(());
            }
            self.visit.unexpected(Call::SignIn, &reply);
            self.visit.pause(Duration::from_secs(1)).await;
        }
        Err(Abandoned)
    }

    /// Joins the queue, as soon as it opens; `false` when it is closed.
    async fn join(&mut self) -> Result<bool, Abandoned> {
        loop {
            let request = Request::new(Call::Join, "POST", paths::queue(&self.visit.sale));
            let reply = self.visit.send(request).await?;
            match reply.status {
                200 | 201 => {
                    self.joined(&reply)?;
                    return Ok(true);
                }
                409 if reply.problem() == "not-open-yet" => {
                    let advised = reply
                        .retry_after
                        .unwrap_or(Duration::from_secs(1))
                        .min(Duration::from_secs(30));
                    tokio::time::sleep(advised + self.visit.rng.jitter(advised)).await;
                }
                409 => return Ok(false),
                _ => return Err(self.visit.unexpected(Call::Join, &reply)),
            }
        }
    }

    fn joined(&mut self, reply: &Reply) -> Result<(), Abandoned> {
        let entry: QueueEntry = self.visit.read(Call::Join, reply)?;
        let Some(token) = entry.token else {
            return Err(self.shared().error("join without a token"));
        };
        self.visit.credentials.queue_token = token;
        self.visit.number = entry.number;
        self.outages_seen = self.status.borrow().outages;
        let now = self.shared().client.now();
        self.join = self
            .shared()
            .client
            .log()
            .joined(self.visit.customer, entry.number, now);
        Ok(())
    }

    /// Follows the status until the number is called. `Some`: the day ends in the queue.
    async fn wait_to_be_called(&mut self, temper: Temper) -> Result<Option<Ending>, Abandoned> {
        let shared = Arc::clone(self.shared());
        let leaves_at =
            shared.client.monotonic() + shared.pace.pause(&self.visit.rng, Duration::from_mins(1));
        loop {
            let seen = self.status.borrow_and_update().clone();
            if seen.status.is_over() {
                return Ok(Some(Ending::SoldOut));
            }
            if temper == Temper::LeavesEarly && shared.client.monotonic() >= leaves_at {
                self.leave().await?;
                return Ok(Some(Ending::LeftTheQueue));
            }
            if seen.outages != self.outages_seen {
                self.outages_seen = seen.outages;
                tokio::time::sleep(self.visit.rng.jitter(Duration::from_secs(2))).await;
                self.check_position().await?;
            }
            if self.visit.number.is_none() && seen.status.is_drawn() {
                // The draw reveals every number at once; jitter keeps the crowd from asking all at once.
                tokio::time::sleep(self.visit.rng.jitter(Duration::from_secs(3))).await;
                self.check_position().await?;
            }
            if self
                .visit
                .number
                .is_some_and(|number| number <= seen.status.now_serving)
            {
                return Ok(None);
            }
            // The timeout lets a fan leave although nothing changes in the status.
            let _ = tokio::time::timeout(Duration::from_secs(5), self.status.changed()).await;
        }
    }

    async fn leave(&mut self) -> Result<(), Abandoned> {
        let reply = self
            .visit
            .send(Request::new(
                Call::Leave,
                "DELETE",
                paths::queue(&self.visit.sale),
            ))
            .await?;
        if !reply.is_ok() {
            return Err(self.visit.unexpected(Call::Leave, &reply));
        }
        let client = &self.shared().client;
        client.log().left(self.join, client.now());
        Ok(())
    }

    /// Asks for the own position, and records an entry that was lost or changed its number.
    async fn check_position(&mut self) -> Result<(), Abandoned> {
        let request = Request::new(Call::Position, "GET", paths::position(&self.visit.sale));
        let reply = self.visit.send(request).await?;
        let client = &self.visit.transport.client;
        if reply.status != 200 {
            client.log().entry_lost(self.visit.customer);
            return Err(self.visit.unexpected(Call::Position, &reply));
        }
        let entry: QueueEntry = self.visit.read(Call::Position, &reply)?;
        match (self.visit.number, entry.number) {
            (None, Some(number)) => client.log().numbered(self.join, number),
            (Some(known), told) if told != Some(known) => {
                client
                    .log()
                    .number_changed(self.visit.customer, told, client.now());
            }
            _ => {}
        }
        self.visit.number = entry.number.or(self.visit.number);
        Ok(())
    }
}
