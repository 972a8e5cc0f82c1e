//! The end of a run: what clients were told is held against what the books say, by the house's independent auditor.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use stagedoor::{
    audit::{Evidence, LiveHold, audit, books},
    demo::crowd::Joined,
    kernel::{Clock, Timestamp},
};
use tokio::sync::watch;

use crate::{
    crowd::{Crowd, Session},
    ground::Ground,
    told::{Testimonies, testify_probes},
    visitor::{Called, Visitor},
};

/// What the auditor says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// Why nothing was audited, if nothing was.
    pub not_audited: Option<String>,
    /// Whether every deadline had passed before the books were read.
    pub settled: bool,
    pub violations: Vec<String>,
    pub joins: usize,
    pub entries: usize,
    pub orders: usize,
    pub booked: usize,
    pub tickets: usize,
    pub payments: usize,
    pub probes: usize,
    /// Of the violations only so many are listed.
    pub violations_count: usize,
}

impl Verdict {
    /// What was looked at.
    pub fn looked_at(&self) -> String {
        let Self {
            joins,
            entries,
            orders,
            booked,
            tickets,
            payments,
            probes,
            ..
        } = self;
        let reserve = if self.settled {
            ""
        } else {
            " (deadlines had not all passed)"
        };
        format!(
            "{joins} joins, {entries} entries, {orders} orders, {booked} booked seats, {tickets} tickets, {payments} payments, \
             {probes} forged calls{reserve}"
        )
    }
}

const LISTED_MAX: usize = 50;
/// The customer who is inside all the time and reads the seat map.
const OBSERVER: u32 = 0xefff_ffff;

/// Joins before everybody else, enters when she is called, and stays until told.
pub async fn observe(crowd: Arc<Crowd>, mut until: watch::Receiver<bool>) -> Option<Visitor> {
    #[derive(Deserialize)]
    struct Place {
        token: Box<str>,
        number: Option<u64>,
    }
    let mut session = Session::default();
    let reply = crowd.come(OBSERVER, crowd.now(), &mut session).await.ok()?;
    let Place { token, number } = reply.json()?;
    let join = crowd.told.joined(Joined {
        customer: OBSERVER,
        number,
        at: crowd.wall(),
        left_at: None,
    });
    let number = match number {
        Some(number) => number,
        None => drawn(&crowd, join, &token, &until).await?,
    };
    let dice = crowd.dice(OBSERVER, 0);
    let mut visitor = Visitor::new(
        Arc::clone(&crowd),
        dice,
        Called {
            fan: OBSERVER,
            number,
            token,
            session,
        },
    );
    while crowd.seen().now_serving < number {
        if *until.borrow() || crowd.is_over() {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    if !visitor.enter().await.ok()? {
        return None;
    }
    loop {
        if *until.borrow() {
            return Some(visitor);
        }
        let _ = tokio::time::timeout(Duration::from_secs(5), until.changed()).await;
        visitor.keep_pass().await.ok()?;
    }
}

/// Her number, when the draw has given it.
async fn drawn(crowd: &Crowd, join: usize, token: &str, until: &watch::Receiver<bool>) -> Option<u64> {
    while !*until.borrow() && !crowd.is_over() {
        let (number, pause) = crowd.number_of(token, crowd.now()).await;
        if let Some(number) = number {
            crowd.told.drawn(join, number);
            return Some(number);
        }
        tokio::time::sleep(pause).await;
    }
    None
}

/// Reads the seat map: `(guid, state)` of all seats.
pub async fn map(visitor: &mut Visitor, performance: &str) -> Option<Vec<(String, String)>> {
    #[derive(Deserialize)]
    struct Map {
        seats: std::collections::BTreeMap<String, String>,
    }
    let reply = visitor.seats(performance).await.ok()?;
    Some(reply.json::<Map>()?.seats.into_iter().collect())
}

/// What a run has gathered for the auditor.
pub struct Testimony<'a> {
    pub told: &'a Testimonies,
    /// The seat map as somebody inside sees it in the end, and since when all holds should have ended.
    pub map: Option<(Vec<(String, String)>, Timestamp)>,
    pub settled: bool,
}

/// Judges the run.
pub async fn judge(ground: &Ground, testimony: Testimony<'_>) -> Verdict {
    let Some(at) = &ground.books else {
        return Verdict {
            not_audited: Some("the house's books are not here: name them with --books".into()),
            ..Verdict::default()
        };
    };
    let mut evidence = match books::read_from(at, &ground.sale).await {
        Ok(evidence) => evidence,
        Err(error) => {
            return Verdict {
                not_audited: Some(format!("the books cannot be read: {error}")),
                ..Verdict::default()
            };
        }
    };
    evidence.observed_at = stagedoor::kernel::SystemClock::new().now();
    evidence.door = ground.door.into_iter().collect();
    evidence.returner_share = ground.returner_share();
    evidence.settled = testimony.settled;
    testimony.told.report.testify(&mut evidence);
    testify_probes(&testimony.told.probes, &mut evidence);
    books::who_came_in_time(&mut evidence);
    match testimony.map {
        Some((seats, holds_ended)) => {
            for (guid, state) in seats {
                match state.as_str() {
                    "booked" => {
                        evidence
                            .engine_booked
                            .insert((ground.facts.performances[0].id.clone(), guid));
                    }
                    "held" => evidence.holds.push(LiveHold {
                        id: format!("of seat {guid}"),
                        expires_at: holds_ended,
                        paying: false,
                    }),
                    _ => {}
                }
            }
        }
        // Nobody inside could say what the engine thinks.
        None => evidence.engine_booked.clone_from(&evidence.ledger_booked),
    }
    conclude(&evidence, testimony.settled)
}

fn conclude(evidence: &Evidence, settled: bool) -> Verdict {
    let found = audit(evidence);
    Verdict {
        not_audited: None,
        settled,
        violations_count: found.len(),
        violations: found.iter().take(LISTED_MAX).map(ToString::to_string).collect(),
        joins: evidence.journal_joins.len(),
        entries: evidence.entries.len(),
        orders: evidence.orders.len(),
        booked: evidence.ledger_booked.len(),
        tickets: evidence.tickets.iter().filter(|it| it.valid).count(),
        payments: evidence.payments.len(),
        probes: evidence.probes.len(),
    }
}
