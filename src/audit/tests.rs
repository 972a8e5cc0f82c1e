//! Tests of the auditor: a sale without violations, and a seeded bug for each check.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::audit::*;
use crate::kernel::Timestamp;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + ms)
}

fn admission(number: u64, from: i64, until: Option<i64>) -> Admission {
    Admission {
        number,
        subject_hash: 100 + number,
        visit: format!("visit-{number}"),
        admitted_at: at(from),
        ended_at: until.map(at),
        is_late_arrival: false,
    }
}

fn joined(subject: &str, number: Option<u64>) -> AcknowledgedJoin {
    AcknowledgedJoin {
        subject: subject.into(),
        number,
        acknowledged_at: at(0),
        left_at: None,
    }
}

fn acknowledged(number: u64, ms: i64) -> AcknowledgedAdmission {
    AcknowledgedAdmission {
        subject: format!("visitor {number}"),
        number,
        asked_at: at(ms - 2),
        at: at(ms + 2),
    }
}

fn refusal(number: u64, ms: i64) -> Refusal {
    Refusal {
        number,
        asked_at: at(ms),
        answered_at: at(ms + 5),
        is_late_arrival: false,
    }
}

fn booked(seats: &[&str]) -> BTreeSet<(String, String)> {
    seats
        .iter()
        .map(|s| ("friday".to_owned(), (*s).to_owned()))
        .collect()
}

/// At most two active visits, one admission a second, burst 2. Six visitors: the third waits at the limit,
/// the fifth left and joined again as number 6, the fourth missed the call and arrives late. The first paid,
/// the second's card was declined, the third canceled.
fn clean() -> Evidence {
    let order = |id: &str, state, visit: &str, seats: &[&str], total| Order {
        id: id.into(),
        state,
        visit: visit.into(),
        performance: "friday".into(),
        seats: seats.iter().map(|s| (*s).to_owned()).collect(),
        total,
    };
    let acknowledged_order = |id: &str, state, seats: &[&str], total| AcknowledgedOrder {
        id: id.into(),
        state,
        seats: seats.iter().map(|s| (*s).to_owned()).collect(),
        total,
    };
    let claim = |seat: &str, order: &str, live| Claim {
        performance: "friday".into(),
        seat: seat.into(),
        order: order.into(),
        live,
    };
    let ticket = |seat: &str, order: &str, valid| Ticket {
        order: order.into(),
        performance: "friday".into(),
        seat: seat.into(),
        valid,
    };
    let payment = |order: &str, captured, refunded| Payment {
        order: order.into(),
        captured,
        refunded,
        reserved: 0,
    };
    let state = BTreeMap::from([("seats".to_owned(), "7".to_owned())]);
    Evidence {
        observed_at: at(100_000),
        settled: true,
        admission_settings: vec![AdmissionSettings {
            from: at(0),
            active_visits_max: 2,
            rate_per_minute: 60,
            burst: 2,
        }],
        late_arrival_share: 0.2,
        claim_timeout: Duration::from_secs(10),
        acknowledged_joins: vec![
            joined("anna", Some(1)),
            joined("bora", Some(2)),
            joined("chul", Some(3)),
            joined("dana", Some(4)),
            AcknowledgedJoin {
                left_at: Some(at(500)),
                ..joined("eun", Some(5))
            },
            joined("eun", Some(6)),
        ],
        lost_entries: Vec::new(),
        journal_joins: (1..=6)
            .map(|number| JournalJoin {
                subject_hash: if number == 6 { 105 } else { 100 + number },
                number,
                left: number == 5,
            })
            .collect(),
        calls: vec![
            Call {
                at: at(900),
                now_serving: 2,
            },
            Call {
                at: at(3_000),
                now_serving: 6,
            },
        ],
        acknowledged_admissions: vec![
            acknowledged(1, 1_000),
            acknowledged(2, 1_000),
            acknowledged(3, 8_000),
            acknowledged(4, 9_000),
            acknowledged(6, 30_000),
        ],
        admissions: vec![
            admission(1, 1_000, Some(8_000)),
            admission(2, 1_000, Some(9_000)),
            admission(3, 8_000, Some(20_000)),
            Admission {
                is_late_arrival: true,
                ..admission(4, 9_000, Some(21_000))
            },
            Admission {
                subject_hash: 105,
                ..admission(6, 30_000, None)
            },
        ],
        refusals: vec![refusal(3, 4_000), refusal(3, 6_000)],
        outages: Vec::new(),
        orders: vec![
            order("o1", OrderState::Paid, "visit-1", &["A1", "A2"], 200),
            order("o2", OrderState::Ended, "visit-2", &["B1"], 100),
            order("o3", OrderState::Ended, "visit-3", &["C1"], 100),
        ],
        acknowledged_orders: vec![
            acknowledged_order("o1", OrderState::Paid, &["A2", "A1"], 200),
            acknowledged_order("o2", OrderState::Ended, &["B1"], 100),
            acknowledged_order("o3", OrderState::Paid, &["C1"], 100),
        ],
        claims: vec![
            claim("A1", "o1", true),
            claim("A2", "o1", true),
            claim("B1", "o2", false),
            claim("C1", "o3", false),
        ],
        tickets: vec![
            ticket("A1", "o1", true),
            ticket("A2", "o1", true),
            ticket("C1", "o3", false),
        ],
        payments: Some(vec![payment("o1", 200, 0), payment("o3", 100, 100)]),
        store_booked: Some(booked(&["A1", "A2"])),
        ledger_booked: booked(&["A1", "A2"]),
        holds: vec![LiveHold {
            id: "h".into(),
            expires_at: at(99_500),
            paying: false,
        }],
        sweep_interval: Duration::from_secs(1),
        probes: vec![Probe {
            what: "a hold without a pass".into(),
            status: 401,
            before: state.clone(),
            after: state,
        }],
        shop: Some(ShopUsage {
            connections_seen_max: 2,
            connections_max: 2,
            queries_per_second_seen_max: 20,
            queries_per_second_max: 20,
        }),
        progress: Some(QueueProgress {
            since: at(22_000),
            until: at(32_000),
            waiting: 1,
        }),
    }
}

fn payments(evidence: &mut Evidence) -> &mut Vec<Payment> {
    evidence.payments.as_mut().unwrap()
}

#[test]
fn what_was_not_read_is_not_checked_and_not_accused() {
    let mut evidence = clean();
    assert!(evidence.not_checked().is_empty(), "{:?}", evidence.not_checked());
    evidence.payments = None;
    evidence.store_booked = None;
    assert_eq!(audit(&evidence), Vec::new(), "paid orders are no violations");
    assert_eq!(evidence.not_checked().len(), 2);
    evidence.tickets.remove(0);
    assert!(!audit(&evidence).is_empty(), "tickets are judged all the same");
}

#[test]
fn a_correct_sale_has_no_violations() {
    assert_eq!(audit(&clean()), Vec::new());
}

/// Number 6 is admitted instead of number 2, while 3 waits.
fn overtake(evidence: &mut Evidence) {
    evidence.admissions[1] = Admission {
        number: 6,
        subject_hash: 105,
        ..admission(6, 5_000, Some(9_000))
    };
    evidence.admissions.pop();
    evidence.acknowledged_admissions[1] = acknowledged(6, 5_000);
    evidence.acknowledged_admissions.pop();
}

/// What must be found, and the bug that is seeded.
type Bug = (Invariant, &'static str, fn(&mut Evidence));

#[test]
fn every_seeded_bug_is_found_under_its_number() {
    let bugs: Vec<Bug> = vec![
        (Invariant::OneClaimPerSeat, "two live claims", |e| {
            e.claims.push(Claim {
                performance: "friday".into(),
                seat: "A1".into(),
                order: "o2".into(),
                live: true,
            });
        }),
        (Invariant::OneClaimPerSeat, "two valid tickets", |e| {
            e.tickets[2] = Ticket {
                seat: "A1".into(),
                valid: true,
                ..e.tickets[2].clone()
            }
        }),
        (Invariant::OneClaimPerSeat, "two buyers acknowledged", |e| {
            e.orders[1] = Order {
                state: OrderState::Paid,
                seats: vec!["A1".into()],
                ..e.orders[1].clone()
            };
            e.acknowledged_orders[1] = AcknowledgedOrder {
                state: OrderState::Paid,
                seats: vec!["A1".into()],
                ..e.acknowledged_orders[1].clone()
            };
        }),
        (Invariant::MoneyMatchesTickets, "money without an order", |e| {
            payments(e)[0].order = "unknown".into();
        }),
        (Invariant::MoneyMatchesTickets, "a wrong amount", |e| {
            payments(e)[0].captured = 199;
        }),
        (Invariant::MoneyMatchesTickets, "captured twice", |e| {
            let again = payments(e)[0].clone();
            payments(e).push(again);
        }),
        (
            Invariant::MoneyMatchesTickets,
            "no refund of a cancelled order",
            |e| payments(e)[1].refunded = 0,
        ),
        (Invariant::MoneyMatchesTickets, "more back than taken", |e| {
            payments(e)[1].refunded = 101;
        }),
        (Invariant::MoneyMatchesTickets, "a ticket missing", |e| {
            e.tickets.remove(0);
        }),
        (
            Invariant::MoneyMatchesTickets,
            "tickets of an order that ended",
            |e| e.tickets[2].valid = true,
        ),
        (Invariant::MoneyMatchesTickets, "tickets without an order", |e| {
            e.tickets.push(Ticket {
                order: "unknown".into(),
                performance: "friday".into(),
                seat: "Z9".into(),
                valid: true,
            });
        }),
        (
            Invariant::MoneyMatchesTickets,
            "a declined order keeps money reserved",
            |e| {
                payments(e).push(Payment {
                    order: "o2".into(),
                    captured: 0,
                    refunded: 0,
                    reserved: 100,
                });
            },
        ),
        (Invariant::ActiveVisitsLimit, "a third active visit", |e| {
            e.admissions[0].ended_at = Some(at(8_001));
        }),
        (Invariant::AdmissionRate, "three admissions at once", |e| {
            e.admission_settings[0].active_visits_max = 10;
            e.admissions[2].admitted_at = at(1_001);
        }),
        (Invariant::QueueOrder, "now serving falls", |e| {
            e.calls[1].now_serving = 1;
        }),
        (Invariant::QueueOrder, "admitted before the call", |e| {
            e.calls = vec![
                Call {
                    at: at(900),
                    now_serving: 2,
                },
                Call {
                    at: at(60_000),
                    now_serving: 2,
                },
            ];
        }),
        (Invariant::QueueOrder, "overtaken while waiting", |e| {
            overtake(e);
        }),
        (
            Invariant::QueueOrder,
            "late arrivals take more than their share",
            |e| {
                e.admission_settings[0] = AdmissionSettings {
                    active_visits_max: 10,
                    burst: 10,
                    ..e.admission_settings[0]
                };
                for number in [7, 8] {
                    e.admissions.push(Admission {
                        is_late_arrival: true,
                        ..admission(number, 5_000, Some(5_500))
                    });
                    e.acknowledged_admissions.push(acknowledged(number, 5_000));
                }
            },
        ),
        (Invariant::OneNumber, "a number acknowledged to two", |e| {
            e.acknowledged_joins[1].number = Some(1);
        }),
        (Invariant::OneNumber, "two numbers acknowledged to one", |e| {
            e.acknowledged_joins[4].left_at = None;
        }),
        (Invariant::OneNumber, "a number twice in the journal", |e| {
            e.journal_joins.push(JournalJoin {
                subject_hash: 999,
                number: 1,
                left: true,
            });
        }),
        (Invariant::OneNumber, "a subject twice in the journal", |e| {
            e.journal_joins[4].left = false;
        }),
        (Invariant::OneNumber, "a number is admitted twice", |e| {
            e.admissions.push(Admission {
                visit: "again".into(),
                ..admission(1, 40_000, None)
            });
        }),
        (
            Invariant::OneNumber,
            "a number is admitted for another subject",
            |e| e.admissions[0].subject_hash = 102,
        ),
        (Invariant::NothingLost, "a join", |e| {
            e.journal_joins.remove(3);
        }),
        (Invariant::NothingLost, "a join before the draw", |e| {
            e.acknowledged_joins.push(joined("fay", None));
        }),
        (Invariant::NothingLost, "a queue entry", |e| {
            e.lost_entries.push("bora".into());
        }),
        (Invariant::NothingLost, "an admission", |e| {
            e.acknowledged_admissions[0].number = 5;
        }),
        (Invariant::NothingLost, "an order", |e| {
            e.acknowledged_orders.push(AcknowledgedOrder {
                id: "o9".into(),
                state: OrderState::Open,
                seats: vec![],
                total: 1,
            });
        }),
        (Invariant::NothingLost, "a seat of an order", |e| {
            e.acknowledged_orders[0].seats.push("A3".into());
        }),
        (Invariant::NothingLost, "a paid order got stuck", |e| {
            e.orders[0].state = OrderState::Stuck;
        }),
        (
            Invariant::SeatStoreMatchesLedger,
            "the seat store books alone",
            |e| e.store_booked = Some(booked(&["A1", "A2", "A3"])),
        ),
        (
            Invariant::SeatStoreMatchesLedger,
            "the seat store loses a booking",
            |e| e.store_booked = Some(booked(&["A1"])),
        ),
        (Invariant::ProofRequired, "a probe changes something", |e| {
            e.probes[0].after.insert("seats".into(), "6".into());
        }),
        (Invariant::ProofRequired, "a probe is answered", |e| {
            e.probes[0].status = 201;
        }),
        (Invariant::ProofRequired, "an order without a visit", |e| {
            e.orders[0].visit = "never admitted".into();
        }),
        (Invariant::ShopBudget, "connections", |e| {
            e.shop.as_mut().unwrap().connections_seen_max = 3;
        }),
        (Invariant::ShopBudget, "queries", |e| {
            e.shop.as_mut().unwrap().queries_per_second_seen_max = 21;
        }),
        (Invariant::EverythingEnds, "an order stays open", |e| {
            e.orders[1].state = OrderState::Open;
        }),
        (Invariant::EverythingEnds, "a hold outlives its deadline", |e| {
            e.holds[0].expires_at = at(98_000);
        }),
        (Invariant::EverythingEnds, "the queue stands still", |e| {
            e.admissions.pop();
        }),
    ];
    for (invariant, name, seed) in &bugs {
        let mut evidence = clean();
        seed(&mut evidence);
        let found = audit(&evidence);
        assert!(
            found.iter().any(|v| v.invariant == *invariant),
            "{name}: I{} not found in {found:?}",
            *invariant as u8
        );
    }
    let checked: BTreeSet<Invariant> = bugs.iter().map(|(invariant, ..)| *invariant).collect();
    assert_eq!(checked.len(), 11, "each invariant has a bug of its own");
}

#[test]
fn unfinished_orders_are_fine_until_everything_settled() {
    let mut evidence = clean();
    evidence.settled = false;
    evidence.orders[1].state = OrderState::Open;
    payments(&mut evidence)[0] = Payment {
        order: "o1".into(),
        captured: 0,
        refunded: 0,
        reserved: 200,
    };
    evidence.holds[0] = LiveHold {
        expires_at: at(0),
        paying: true,
        ..evidence.holds[0].clone()
    };
    assert_eq!(audit(&evidence), Vec::new());
}

#[test]
fn an_outage_resets_who_was_waiting() {
    let mut evidence = clean();
    overtake(&mut evidence);
    let overtaken = |e: &Evidence| {
        audit(e)
            .into_iter()
            .filter(|v| v.invariant == Invariant::QueueOrder)
            .count()
    };
    evidence.calls.clear();
    assert_eq!(overtaken(&evidence), 1);
    evidence.outages = vec![(at(4_100), at(4_900))];
    assert_eq!(overtaken(&evidence), 0);
}

#[test]
fn a_lower_number_may_take_a_kept_slot() {
    let mut evidence = clean();
    overtake(&mut evidence);
    evidence.calls.clear();
    evidence.acknowledged_admissions.push(acknowledged(5, 5_100));
    let overtaken = |e: &Evidence| audit(e).iter().any(|v| v.found.contains("while number 3 waited"));
    assert!(overtaken(&evidence), "number 5 has no precedence over number 3");
    *evidence.acknowledged_admissions.last_mut().unwrap() = acknowledged(2, 5_100);
    assert!(!overtaken(&evidence));
}

#[test]
fn a_raised_rate_is_judged_by_the_setting_in_force() {
    let mut evidence = clean();
    evidence.admission_settings = vec![
        AdmissionSettings {
            from: at(0),
            active_visits_max: 100,
            rate_per_minute: 60,
            burst: 1,
        },
        AdmissionSettings {
            from: at(40_000),
            active_visits_max: 100,
            rate_per_minute: 600,
            burst: 1,
        },
    ];
    evidence.admissions = (0..10)
        .map(|n| admission(n, 40_000 + 100 * i64::try_from(n).unwrap(), None))
        .collect();
    let rate = |e: &Evidence| {
        audit(e)
            .into_iter()
            .filter(|v| v.invariant == Invariant::AdmissionRate)
            .count()
    };
    assert_eq!(rate(&evidence), 0);
    evidence.admission_settings.truncate(1);
    assert!(rate(&evidence) > 0);
}
