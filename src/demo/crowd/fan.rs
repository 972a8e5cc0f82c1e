//! One fan's day, from signing in to going home.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use serde_json::json;
use tokio::sync::watch;

use crate::demo::{
    client::{
        api::{Ask, NoAnswer, retry_after},
        http1::{PassGiven, Place, Problem, SignedIn, kind_of},
    },
    crowd::{
        HandoffSigner, Pace,
        dice::Dice,
        report::{Entered, Refused},
        shared::{Seen, Shared},
    },
};
use crate::{kernel::Timestamp, platform::http_client::Response};

/// Lives through the day and notes how it ended.
pub(crate) async fn live(shared: Arc<Shared>, handoff: HandoffSigner, seed: u64, customer: u32) {
    let board = shared.board();
    let mut fan = Fan {
        dice: Dice::new(seed, customer),
        shared,
        handoff,
        customer,
        board,
        outages_seen: 0,
        number: None,
        proofs: BTreeMap::new(),
        pass_expires_at: Timestamp::default(),
    };
    let ending = fan.day().await.unwrap_or(Ending::NotServed);
    fan.shared.notebook.ended(ending.name());
}

pub(crate) struct Fan {
    pub(crate) shared: Arc<Shared>,
    handoff: HandoffSigner,
    pub(crate) dice: Dice,
    pub(crate) customer: u32,
    board: watch::Receiver<Seen>,
    outages_seen: u32,
    number: Option<u64>,
    /// Header -> token. Kept in memory through every outage, as a browser does.
    pub(crate) proofs: BTreeMap<&'static str, String>,
    pass_expires_at: Timestamp,
}

#[derive(Clone, Copy)]
pub(crate) enum Ending {
    CameTooLate,
    LeftTheQueue,
    DidNotShowUp,
    SoldOut,
    NothingSuitable,
    WalkedAway,
    CardsRefused,
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
            Self::WalkedAway => "walked away from a hold",
            Self::CardsRefused => "cards refused",
            Self::HasTickets => "has tickets",
            Self::NotServed => "not served",
        }
    }
}

/// What a fan has in mind when she goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Temper {
    Patient,
    /// Leaves the queue on purpose before she is called.
    LeavesEarly,
    /// Is away when called and comes back later.
    LateWhenCalled,
    /// Is away when called and never comes back.
    AbsentWhenCalled,
    /// Takes seats and walks away from them.
    WalksAway,
}

const TEMPERS: [(Temper, u32); 5] = [
    (Temper::Patient, 86),
    (Temper::LeavesEarly, 3),
    (Temper::LateWhenCalled, 4),
    (Temper::AbsentWhenCalled, 4),
    (Temper::WalksAway, 3),
];

pub(crate) const SESSION: &str = "authorization";
const QUEUE: &str = "queue-token";
pub(crate) const PASS: &str = "admission-pass";

impl Fan {
    async fn day(&mut self) -> Result<Ending, NoAnswer> {
        let temper = self.dice.weighted(&TEMPERS);
        self.sign_in().await?;
        if !self.take_a_place().await? {
            return Ok(Ending::CameTooLate);
        }
        if let Some(ending) = self.wait_to_be_called(temper).await? {
            return Ok(ending);
        }
        match temper {
            Temper::AbsentWhenCalled => return Ok(Ending::DidNotShowUp),
            Temper::LateWhenCalled => self.human(Duration::from_mins(4)).await,
            _ => self.human(Duration::from_secs(4)).await,
        }
        if let Some(ending) = self.enter().await? {
            return Ok(ending);
        }
        let ending = self.buy(temper).await;
        // Whatever happened inside, the next fan is glad of the slot; only who walks away forgets the door.
        if !matches!(ending, Ok(Ending::WalkedAway)) {
            let ask = self.proven(
                Ask::new(
                    "end visit",
                    Method::DELETE,
                    self.shared.api.sale_path("admission"),
                ),
                &[SESSION, PASS],
            );
            // A slot that is not given back comes back by itself; her day has ended as it has.
            let _ = self.shared.api.ask(&self.dice, &ask).await;
        }
        ending
    }

    async fn sign_in(&mut self) -> Result<(), NoAnswer> {
        // A hand-off token is good for one sign-in: when its answer is lost the shop gives another.
        for _ in 0..3 {
            let ask = Ask::new("sign-in", Method::POST, "/v1/sign-in/handoff".into())
                .json(json!({"token": (self.handoff)(self.customer)}));
            let answer = self.shared.api.ask(&self.dice, &ask).await?;
            if answer.status == StatusCode::OK {
                let signed_in: SignedIn = self.read("sign-in", &answer)?;
                self.proofs.insert(SESSION, format!("Bearer {}", signed_in.token));
                return Ok(());
            }
            self.refusal("sign-in", &answer);
            self.human(Duration::from_secs(1)).await;
        }
        Err(NoAnswer)
    }

    /// Whether there is a place to be had.
    async fn take_a_place(&mut self) -> Result<bool, NoAnswer> {
        loop {
            let answer = self
                .send(
                    Ask::new("join", Method::POST, self.shared.api.sale_path("queue")),
                    &[SESSION],
                )
                .await?;
            match answer.status {
                StatusCode::CREATED | StatusCode::OK => {
                    let place: Place = self.read("join", &answer)?;
                    let Some(token) = place.token else {
                        return Err(self.shared.unreadable("join without a token"));
                    };
                    self.proofs.insert(QUEUE, token);
                    self.number = place.number;
                    self.outages_seen = self.board.borrow().outages;
                    self.shared
                        .notebook
                        .joined(self.customer, place.number, self.shared.api.now());
                    return Ok(true);
                }
                StatusCode::CONFLICT if kind_of(&answer) == "not-open-yet" => {
                    let told = retry_after(&answer)
                        .unwrap_or(Duration::from_secs(1))
                        .min(Duration::from_secs(30));
                    tokio::time::sleep(told + self.dice.up_to(told)).await;
                }
                StatusCode::CONFLICT => return Ok(false),
                _ => return Err(self.refusal("join", &answer)),
            }
        }
    }

    /// Watches the board until her number is called; or until she has seen enough.
    async fn wait_to_be_called(&mut self, temper: Temper) -> Result<Option<Ending>, NoAnswer> {
        let enough_at = self.shared.api.monotonic() + self.median(Duration::from_mins(1));
        loop {
            let seen = self.board.borrow_and_update().clone();
            if seen.is_over() {
                return Ok(Some(Ending::SoldOut));
            }
            if temper == Temper::LeavesEarly && self.shared.api.monotonic() >= enough_at {
                let ask = Ask::new("leave", Method::DELETE, self.shared.api.sale_path("queue/place"));
                let answer = self.send(ask, &[SESSION, QUEUE]).await?;
                if !answer.status.is_success() {
                    return Err(self.refusal("leave", &answer));
                }
                self.shared.notebook.left(self.customer, self.shared.api.now());
                return Ok(Some(Ending::LeftTheQueue));
            }
            if seen.outages != self.outages_seen {
                self.outages_seen = seen.outages;
                tokio::time::sleep(self.dice.up_to(Duration::from_secs(2))).await;
                self.look_up_place().await?;
            }
            if self.number.is_none() && seen.is_drawn() {
                // All learn their numbers at the same moment; not all in the same one.
                tokio::time::sleep(self.dice.up_to(Duration::from_secs(3))).await;
                self.look_up_place().await?;
            }
            if self.number.is_some_and(|number| number <= seen.now_serving) {
                return Ok(None);
            }
            // The timeout lets those go who leave early though nothing changes on the board.
            let _ = tokio::time::timeout(Duration::from_secs(5), self.board.changed()).await;
        }
    }

    /// Asks for her own place, and holds the server to what it said before.
    async fn look_up_place(&mut self) -> Result<(), NoAnswer> {
        let answer = self
            .send(
                Ask::new("place", Method::GET, self.shared.api.sale_path("queue/place")),
                &[SESSION, QUEUE],
            )
            .await?;
        if answer.status != StatusCode::OK {
            self.shared.notebook.place_lost(self.customer);
            return Err(self.refusal("place", &answer));
        }
        let place: Place = self.read("place", &answer)?;
        match (self.number, place.number) {
            (None, Some(number)) => self.shared.notebook.numbered(self.customer, number),
            (Some(known), told) if told != Some(known) => {
                self.shared
                    .notebook
                    .number_changed(self.customer, told, self.shared.api.now());
            }
            _ => {}
        }
        self.number = place.number.or(self.number);
        Ok(())
    }

    /// Stands at the door until she is let in.
    async fn enter(&mut self) -> Result<Option<Ending>, NoAnswer> {
        loop {
            let asked_at = self.shared.api.now();
            let ask = Ask::new("enter", Method::POST, self.shared.api.sale_path("admission"));
            let answer = self.send(ask, &[SESSION, QUEUE]).await?;
            if answer.status == StatusCode::OK {
                self.shared.notebook.entered(Entered {
                    customer: self.customer,
                    number: self.number,
                    asked_at,
                    at: self.shared.api.now(),
                });
                self.take_pass(&answer)?;
                return Ok(None);
            }
            if answer.status != StatusCode::CONFLICT {
                return Err(self.refusal("enter", &answer));
            }
            let (pause, returner) = match answer.json::<Problem>() {
                Ok(problem) => {
                    let place = problem.place;
                    let wait = place
                        .as_ref()
                        .and_then(|p| p.poll_after_ms)
                        .map(Duration::from_millis);
                    (
                        wait.or_else(|| retry_after(&answer)),
                        place.is_some_and(|p| p.state == "passed_over"),
                    )
                }
                Err(_) => return Err(self.shared.unreadable("enter unreadable")),
            };
            match kind_of(&answer).as_str() {
                "full-for-a-moment" => {
                    if let Some(number) = self.number {
                        let answered_at = self.shared.api.now();
                        self.shared.notebook.refused(Refused {
                            number,
                            asked_at,
                            answered_at,
                            returner,
                        });
                    }
                }
                "not-called-yet" => {}
                "closed" => return Ok(Some(Ending::SoldOut)),
                _ => return Err(self.refusal("enter", &answer)),
            }
            if self.board.borrow().is_over() {
                return Ok(Some(Ending::SoldOut));
            }
            let pause = pause
                .unwrap_or(Duration::from_secs(1))
                .clamp(Duration::from_millis(100), Duration::from_secs(10));
            tokio::time::sleep(pause.mul_f64(0.9 + 0.2 * self.dice.unit())).await;
        }
    }

    fn take_pass(&mut self, answer: &Response) -> Result<(), NoAnswer> {
        let given: PassGiven = self.read("pass", answer)?;
        self.proofs.insert(PASS, given.pass);
        self.pass_expires_at = given.expires_at;
        Ok(())
    }

    /// Renews the pass in its last minute, as the page does.
    pub(crate) async fn keep_pass(&mut self) -> Result<(), NoAnswer> {
        if self.pass_expires_at.since(self.shared.api.now()) > Duration::from_mins(1) {
            return Ok(());
        }
        let ask = Ask::new("renew", Method::PUT, self.shared.api.sale_path("admission"));
        let answer = self.send(ask, &[SESSION, PASS]).await?;
        if answer.status == StatusCode::OK {
            self.take_pass(&answer)
        } else {
            Err(self.refusal("renew", &answer))
        }
    }

    pub(crate) async fn send(&mut self, ask: Ask, proofs: &[&'static str]) -> Result<Response, NoAnswer> {
        let ask = self.proven(ask, proofs);
        self.shared.api.ask(&self.dice, &ask).await
    }

    fn proven(&self, ask: Ask, proofs: &[&'static str]) -> Ask {
        proofs
            .iter()
            .fold(ask, |ask, header| match self.proofs.get(header) {
                Some(token) => ask.with(header, token),
                None => ask,
            })
    }

    pub(crate) fn read<T: serde::de::DeserializeOwned>(
        &self,
        what: &str,
        answer: &Response,
    ) -> Result<T, NoAnswer> {
        answer
            .json()
            .map_err(|_| self.shared.unreadable(&format!("{what} unreadable")))
    }

    /// Notes an answer that a fan who does nothing wrong should not get.
    pub(crate) fn refusal(&self, what: &str, answer: &Response) -> NoAnswer {
        self.shared
            .unreadable(&format!("{what} {} {}", answer.status.as_u16(), kind_of(answer)))
    }

    pub(crate) fn median(&self, human: Duration) -> Duration {
        self.dice.pause(match self.shared.pace {
            Pace::Human => human,
            Pace::Brisk => human / 40,
        })
    }

    async fn human(&self, median: Duration) {
        tokio::time::sleep(self.median(median)).await;
    }
}
