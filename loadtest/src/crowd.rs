//! A crowd of fans over real HTTP: they come when they come, wait, are called, and buy.
//!
//! Whoever waits is a number, a token and her index: no task, no timer, no connection. What she would look at meanwhile
//! is the board, which is the same for all, so one reader asks for it as a cache before the house would; how much of the
//! looking reaches the house is a setting ([`Looking`]). Only those who are called are tasks, and the house's own
//! capacity bounds them. So a million fans fit into one process.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::Deserialize;
use stagedoor::{
    demo::crowd::{Dice, Joined},
    kernel::{Clock, OsEntropy, SystemClock, Timestamp},
    shop::{HandoffConfig, sign_handoff},
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{
    book::{Became, Book, Step, became},
    bots,
    told::Told,
    visitor::{Called, Visitor},
    watching::{self, Watched},
    wire::{Ask, Lost, Reply, Wire},
};

/// How fans who wait look at the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Looking {
    /// A cache stands before the house: it is asked once a second, whatever the crowd.
    Cache,
    /// Each fan asks the house herself, as often as the page does far from the front; one in ten for her own place too.
    Each,
}

/// Who comes and how.
#[derive(Clone, Debug)]
pub struct CrowdConfig {
    pub sale: String,
    /// The performance that all want to see.
    pub performance: String,
    /// The shop that hands its customers over, where the sale asks for them; else anybody comes.
    pub shop: Option<HandoffConfig>,
    /// When each comes, counted from the beginning.
    pub arrivals: Vec<Duration>,
    /// The number of the first fan, and the distance to the next: parts of one run share a crowd.
    pub first: u32,
    pub every: u32,
    pub seed: u64,
    /// 1.0 is human; 0.1 ten times as fast.
    pub pace: f64,
    /// The share of the called who never come.
    pub absent: f64,
    /// Of those who hold seats, the share who walk away from them.
    pub walk_away: f64,
    /// Everybody wants one seat only.
    pub singles: bool,
    /// Every card is good and answered at once, so that what takes long takes long in the house.
    pub good_cards: bool,
    pub looking: Looking,
    pub watchers: u32,
    pub bots: u32,
    /// At most so long; whoever is there then is sent home.
    pub limit: Duration,
}

/// What the board says, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Seen {
    pub phase: String,
    #[serde(default)]
    pub now_serving: u64,
    #[serde(default)]
    pub waiting: u64,
    #[serde(default)]
    pub active: u64,
    #[serde(default)]
    pub zones: Vec<Zone>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Zone {
    pub free: u64,
    pub held: u64,
    pub booked: u64,
}

impl Seen {
    pub fn is_over(&self) -> bool {
        matches!(self.phase.as_str(), "sold_out" | "closed")
    }

    /// Free, held and booked seats.
    pub fn seats(&self) -> (u64, u64, u64) {
        self.zones.iter().fold((0, 0, 0), |sum, it| {
            (sum.0 + it.free, sum.1 + it.held, sum.2 + it.booked)
        })
    }
}

/// A fan who waits.
struct Waiting {
    fan: u32,
    token: Box<str>,
    session: Session,
}

/// What she shows as one who has signed in: a value of `Authorization`; empty where nobody is asked.
pub type Session = Box<str>;

/// A fan whose number a draw will give, and where her join is written down.
struct Undrawn {
    fan: u32,
    join: usize,
    token: Box<str>,
    session: Session,
}

/// A join that is due.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Join {
    due: Duration,
    fan: u32,
    tries: u32,
    session: Session,
}

/// Everything that the fans of one process share.
pub struct Crowd {
    pub config: CrowdConfig,
    pub wire: Wire,
    pub book: Book,
    pub told: Told,
    pub clock: SystemClock,
    pub watched: Watched,
    began: Duration,
    board: watch::Sender<Seen>,
    waiting: Mutex<BTreeMap<u64, Waiting>>,
    undrawn: Mutex<Vec<Undrawn>>,
    /// Fans who wait without a number.
    numberless: AtomicU32,
    due: Mutex<VecDeque<Join>>,
    is_due: Semaphore,
    /// Joins that were told to come again.
    again: Mutex<BinaryHeap<Reverse<Join>>>,
    /// Joins that are on their way or to be tried again.
    joining: AtomicU32,
    /// Fans who are at the door or behind it.
    pub inside: AtomicU32,
    /// The fans' endings are counted in `told`; here, how often the house could not be reached in a row.
    unreachable: AtomicU64,
    is_over: AtomicBool,
}

/// A page polls so far from the front.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// A page that has no number asks for it so soon after the draw, at random.
const ASKED_WITHIN: Duration = Duration::from_secs(4);
const DISPATCH_EVERY: Duration = Duration::from_millis(2);
const JOINERS: usize = 256;
const LOOKERS: usize = 64;
const JOIN_TRIES_MAX: u32 = 20;
/// Looks at the board in a row without any answer before the house counts as gone.
const UNREACHABLE_MAX: u64 = 8;

#[derive(Deserialize)]
struct Place {
    token: Option<String>,
    number: Option<u64>,
}

impl Crowd {
    pub fn new(config: CrowdConfig, wire: Wire) -> Self {
        let clock = SystemClock::new();
        Self {
            told: Told::new(u32::try_from(config.arrivals.len()).unwrap_or(u32::MAX)),
            began: clock.monotonic(),
            clock,
            config,
            wire,
            book: Book::default(),
            watched: Watched::default(),
            board: watch::Sender::new(Seen::default()),
            waiting: Mutex::default(),
            undrawn: Mutex::default(),
            numberless: AtomicU32::new(0),
            due: Mutex::default(),
            is_due: Semaphore::new(0),
            again: Mutex::default(),
            joining: AtomicU32::new(0),
            inside: AtomicU32::new(0),
            unreachable: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// Since the run began.
    pub fn now(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.began)
    }

    pub fn wall(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn seen(&self) -> Seen {
        self.board.borrow().clone()
    }

    pub fn path(&self, rest: &str) -> String {
        format!("/v1/sales/{}/{rest}", self.config.sale)
    }

    /// Fans who wait, and joins that are not answered yet.
    pub fn waiting(&self) -> (usize, u32) {
        (
            self.waiting.lock().len() + self.numberless.load(Ordering::Relaxed) as usize,
            self.joining.load(Ordering::Relaxed),
        )
    }

    /// Nobody has answered for some seconds.
    pub fn is_unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Relaxed) >= UNREACHABLE_MAX
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// One call, noted. `due`: when it was meant to be made.
    pub async fn call(&self, step: Step, due: Duration, ask: &Ask<'_>) -> Result<Reply, Lost> {
        let outcome = self.wire.ask(ask).await;
        self.book.note(step, due, self.now(), &outcome);
        outcome
    }

    /// Lets the crowd come and sees its last fan off, or its time run out. Dropping this sends everybody home.
    pub async fn live(self: &Arc<Self>) {
        let mut staff = JoinSet::new();
        let crowd = || Arc::clone(self);
        for _ in 0..JOINERS {
            let crowd = crowd();
            staff.spawn(async move { crowd.join_who_is_due().await });
        }
        let (reader, dispatcher, drawn) = (crowd(), crowd(), crowd());
        staff.spawn(async move { reader.read_board().await });
        staff.spawn(async move { drawn.learn_numbers().await });
        let arrived = staff.spawn(async move { dispatcher.dispatch().await });
        if self.config.looking == Looking::Each {
            let crowd = crowd();
            staff.spawn(async move { crowd.look().await });
        }
        for n in 0..self.config.bots {
            let crowd = crowd();
            // Each part of a crowd has bots of its own.
            let bot = crowd.config.first - 1 + n * crowd.config.every;
            staff.spawn(async move { bots::live(&crowd, bot).await });
        }
        for _ in 0..self.config.watchers {
            let crowd = crowd();
            staff.spawn(async move {
                watching::watch(crowd.wire.address(), &crowd.path("board/events"), &crowd.watched).await
            });
        }
        let mut visitors = JoinSet::new();
        let mut every = tokio::time::interval(Duration::from_millis(100));
        while self.now() < self.config.limit {
            every.tick().await;
            self.let_in_who_is_called(&mut visitors);
            while visitors.try_join_next().is_some() {}
            let (waiting, joining) = self.waiting();
            let all_came = arrived.is_finished() || self.is_dispatched();
            if all_came && joining == 0 && visitors.is_empty() && (waiting == 0 || self.seen().is_over()) {
                break;
            }
            if self.is_unreachable() {
                break;
            }
        }
        self.is_over.store(true, Ordering::Relaxed);
        self.told.sent_home(self.waiting().0, self.seen().is_over());
        visitors.shutdown().await;
        staff.shutdown().await;
    }

    fn is_dispatched(&self) -> bool {
        self.config
            .arrivals
            .last()
            .is_none_or(|last| self.now() > *last + Duration::from_millis(50))
            && self.due.lock().is_empty()
    }

    /// Puts each arrival, and each join that is to be tried again, into the line of the joiners when it is due.
    async fn dispatch(&self) {
        let mut coming = self
            .config
            .arrivals
            .iter()
            .zip((self.config.first..).step_by(self.config.every as usize))
            .peekable();
        let mut every = tokio::time::interval(DISPATCH_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let now = self.now();
            let mut added = 0;
            let mut due = self.due.lock();
            while let Some((at, fan)) = coming.next_if(|(at, _)| **at <= now) {
                self.joining.fetch_add(1, Ordering::Relaxed);
                due.push_back(Join {
                    due: *at,
                    fan,
                    tries: 0,
                    session: Session::default(),
                });
                added += 1;
            }
            let mut again = self.again.lock();
            while again.peek().is_some_and(|Reverse(join)| join.due <= now) {
                due.extend(again.pop().map(|Reverse(join)| join));
                added += 1;
            }
            drop((due, again));
            self.is_due.add_permits(added);
        }
    }

    async fn join_who_is_due(&self) {
        loop {
            let Ok(permit) = self.is_due.acquire().await else {
                return;
            };
            permit.forget();
            let Some(join) = self.due.lock().pop_front() else {
                continue;
            };
            self.join(join).await;
        }
    }

    /// Signs in, where that is asked for and not done yet, and joins: what the last of the two calls was answered.
    pub async fn come(&self, fan: u32, due: Duration, session: &mut Session) -> Result<Reply, Lost> {
        #[derive(Deserialize)]
        struct Granted {
            token: String,
        }
        let mut due = due;
        if session.is_empty()
            && let Some(shop) = &self.config.shop
        {
            let token = sign_handoff(shop, self.wall(), &OsEntropy, &format!("load-{fan}"), "");
            let body = serde_json::json!({ "token": token }).to_string();
            let ask = Ask {
                method: "POST",
                path: "/v1/sign-in/handoff",
                headers: &[],
                body: Some(&body),
            };
            let reply = self.call(Step::SignIn, due, &ask).await?;
            let Some(granted) = reply.json::<Granted>().filter(|_| reply.is_ok()) else {
                return Ok(reply);
            };
            (*session, due) = (format!("Bearer {}", granted.token).into(), self.now());
        }
        let path = self.path("queue");
        let headers = [("authorization", &**session)];
        let headers: &[_] = if session.is_empty() { &[] } else { &headers };
        self.call(
            Step::Join,
            due,
            &Ask {
                method: "POST",
                path: &path,
                headers,
                body: None,
            },
        )
        .await
    }

    async fn join(&self, mut join: Join) {
        let outcome = self.come(join.fan, join.due, &mut join.session).await;
        let again_in = match &outcome {
            Ok(reply) if reply.is_ok() => {
                self.joined(join.fan, std::mem::take(&mut join.session), reply);
                None
            }
            Ok(reply)
                if became(&outcome) == Became::Refused
                    || reply.status == 409 && is(reply, "not-open-yet") =>
            {
                let told = reply.retry_after.unwrap_or(Duration::from_secs(1));
                Some(told + told.mul_f64(self.dice(join.fan, join.tries).unit()))
            }
            Ok(reply) => {
                self.told.ended(if is(reply, "closed") {
                    "came too late"
                } else {
                    "not served"
                });
                None
            }
            Err(_) => Some(
                Duration::from_millis(500)
                    .mul_f64(f64::from(1 << join.tries.min(5)) * self.dice(join.fan, join.tries).unit()),
            ),
        };
        match again_in {
            Some(pause) if join.tries < JOIN_TRIES_MAX && !self.seen().is_over() => {
                self.again.lock().push(Reverse(Join {
                    due: self.now() + pause,
                    tries: join.tries + 1,
                    ..join
                }));
            }
            Some(_) => {
                self.told.ended(if self.seen().is_over() {
                    "sold out"
                } else {
                    "gave up joining"
                });
                self.joining.fetch_sub(1, Ordering::Relaxed);
            }
            None => {
                self.joining.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn joined(&self, fan: u32, session: Session, reply: &Reply) {
        let Some(Place {
            token: Some(token),
            number,
        }) = reply.json()
        else {
            self.book.error("join unreadable");
            self.told.ended("not served");
            return;
        };
        let (join, token) = (
            self.told.joined(Joined {
                customer: fan,
                number,
                at: self.wall(),
                left_at: None,
            }),
            token.into(),
        );
        self.book.second(self.now(), |second| second.joins += 1);
        if let Some(number) = number {
            self.waiting
                .lock()
                .insert(number, Waiting { fan, token, session });
        } else {
            self.numberless.fetch_add(1, Ordering::Relaxed);
            self.undrawn.lock().push(Undrawn {
                fan,
                join,
                token,
                session,
            });
        }
    }

    /// When the draw is held, each asks for her number, at a moment of her own as the page does.
    async fn learn_numbers(self: &Arc<Self>) {
        let turns = Arc::new(Semaphore::new(LOOKERS * 16));
        let mut every = tokio::time::interval(Duration::from_millis(100));
        let mut asking = JoinSet::new();
        loop {
            every.tick().await;
            while asking.try_join_next().is_some() {}
            if matches!(
                self.seen().phase.as_str(),
                "" | "scheduled" | "prequeue" | "drawing"
            ) {
                continue;
            }
            let undrawn = std::mem::take(&mut *self.undrawn.lock());
            let mut due: Vec<(Duration, Undrawn)> = undrawn
                .into_iter()
                .map(|it| (self.now() + self.dice(it.fan, 2).up_to(ASKED_WITHIN), it))
                .collect();
            due.sort_by_key(|(at, _)| *at);
            for (at, undrawn) in due {
                while asking.try_join_next().is_some() {}
                tokio::time::sleep(at.saturating_sub(self.now())).await;
                let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
                    return;
                };
                let crowd = Arc::clone(self);
                asking.spawn(async move {
                    crowd.learn_number(at, undrawn).await;
                    crowd.numberless.fetch_sub(1, Ordering::Relaxed);
                    drop(turn);
                });
            }
        }
    }

    async fn learn_number(&self, mut due: Duration, who: Undrawn) {
        let Undrawn {
            fan,
            join,
            token,
            session,
        } = who;
        for tries in 0..JOIN_TRIES_MAX {
            let (number, pause) = self.number_of(&token, due).await;
            if let Some(number) = number {
                self.told.drawn(join, number);
                self.waiting
                    .lock()
                    .insert(number, Waiting { fan, token, session });
                return;
            }
            let pause = pause + self.dice(fan, 3 + tries).up_to(pause);
            tokio::time::sleep(pause).await;
            due = self.now();
        }
        self.told.ended("never learnt her number");
    }

    /// Her number in line, if she has one; else when to ask again.
    pub async fn number_of(&self, token: &str, due: Duration) -> (Option<u64>, Duration) {
        let path = self.path("queue/place");
        let headers = [("queue-token", token)];
        match self
            .call(
                Step::Place,
                due,
                &Ask {
                    method: "GET",
                    path: &path,
                    headers: &headers,
                    body: None,
                },
            )
            .await
        {
            Ok(reply) if reply.is_ok() => (
                reply.json::<Place>().and_then(|it| it.number),
                Duration::from_secs(1),
            ),
            Ok(reply) => (None, reply.retry_after.unwrap_or(Duration::from_secs(1))),
            Err(_) => (None, Duration::from_secs(1)),
        }
    }

    /// Her own dice for what happens to her at this point.
    pub fn dice(&self, fan: u32, point: u32) -> Dice {
        Dice::new(self.config.seed.wrapping_add(u64::from(point) << 32), fan)
    }

    /// Once a second, as a cache would.
    async fn read_board(&self) {
        let path = self.path("board");
        let mut every = tokio::time::interval(Duration::from_secs(1));
        let mut known: Option<String> = None;
        loop {
            every.tick().await;
            let tags = known.clone().unwrap_or_default();
            let headers = [("if-none-match", tags.as_str())];
            let ask = Ask {
                method: "GET",
                path: &path,
                headers: if known.is_some() { &headers } else { &[] },
                body: None,
            };
            let outcome = self.call(Step::Board, self.now(), &ask).await;
            match &outcome {
                Err(Lost::NoConnection | Lost::Broken) => {
                    self.unreachable.fetch_add(1, Ordering::Relaxed);
                }
                _ => self.unreachable.store(0, Ordering::Relaxed),
            }
            let Ok(reply) = outcome else { continue };
            if reply.status != 200 {
                continue;
            }
            let Some(seen) = reply.json::<Seen>() else {
                self.book.error("board unreadable");
                continue;
            };
            known = reply.etag;
            self.book.second(self.now(), |second| {
                (second.waiting, second.active) = (seen.waiting, seen.active)
            });
            self.told.active(seen.active);
            self.board.send_replace(seen);
        }
    }

    fn let_in_who_is_called(self: &Arc<Self>, visitors: &mut JoinSet<()>) {
        let called = {
            let now_serving = self.board.borrow().now_serving;
            let mut waiting = self.waiting.lock();
            let rest = waiting.split_off(&(now_serving + 1));
            std::mem::replace(&mut *waiting, rest)
        };
        for (number, Waiting { fan, token, session }) in called {
            let dice = self.dice(fan, 0);
            if dice.chance(self.config.absent) {
                self.told.ended("did not show up");
                continue;
            }
            self.inside.fetch_add(1, Ordering::Relaxed);
            let visitor = Visitor::new(
                Arc::clone(self),
                dice,
                Called {
                    fan,
                    number,
                    token,
                    session,
                },
            );
            visitors.spawn(async move { visitor.live().await });
        }
    }

    /// The looks of all who wait: as many a second as they would make, each by whoever the dice say.
    async fn look(self: &Arc<Self>) {
        let dice = self.dice(u32::MAX, 1);
        let mut every = tokio::time::interval(Duration::from_millis(20));
        let (mut owed, mut last) = (0.0, self.now());
        let (board, place) = (self.path("board"), self.path("queue/place"));
        let turns = Arc::new(Semaphore::new(LOOKERS * 16));
        loop {
            every.tick().await;
            let now = self.now();
            let waiting = f64::from(u32::try_from(self.waiting.lock().len()).unwrap_or(u32::MAX));
            owed += waiting * (now.saturating_sub(last)).as_secs_f64() / LOOK_EVERY.as_secs_f64();
            last = now;
            while owed >= 1.0 {
                owed -= 1.0;
                // Beyond so many at once, those who look are not simulated any more: the count says so.
                let Ok(turn) = Arc::clone(&turns).try_acquire_owned() else {
                    self.book.error("looks that were not made: too many at once");
                    continue;
                };
                let token = dice.chance(0.1).then(|| self.somebody_waiting(&dice)).flatten();
                let (crowd, board, place) = (Arc::clone(self), board.clone(), place.clone());
                tokio::spawn(async move {
                    let _ = match token {
                        Some(token) => {
                            let headers = [("queue-token", &*token)];
                            crowd
                                .call(
                                    Step::Place,
                                    now,
                                    &Ask {
                                        method: "GET",
                                        path: &place,
                                        headers: &headers,
                                        body: None,
                                    },
                                )
                                .await
                        }
                        None => {
                            crowd
                                .call(
                                    Step::Board,
                                    now,
                                    &Ask {
                                        method: "GET",
                                        path: &board,
                                        headers: &[],
                                        body: None,
                                    },
                                )
                                .await
                        }
                    };
                    drop(turn);
                });
            }
        }
    }

    fn somebody_waiting(&self, dice: &Dice) -> Option<Box<str>> {
        let waiting = self.waiting.lock();
        let (first, last) = (*waiting.first_key_value()?.0, *waiting.last_key_value()?.0);
        let from = first + dice.below(usize::try_from(last - first).ok()? + 1) as u64;
        waiting.range(from..).next().map(|(_, it)| it.token.clone())
    }
}

/// Whether this is the problem's type: its last part.
pub fn is(reply: &Reply, kind: &str) -> bool {
    #[derive(Deserialize)]
    struct Problem {
        r#type: String,
    }
    reply
        .json::<Problem>()
        .is_some_and(|it| it.r#type.rsplit('/').next() == Some(kind))
}
