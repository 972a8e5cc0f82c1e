//! The auditor is audited: a sale in which all is well, and for each sentence it checks a bug that it must see.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::audit::*;
use crate::kernel::Timestamp;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + ms)
}

fn entry(number: u64, from: i64, until: Option<i64>) -> Entry {
    Entry {
        number,
        subject_hash: 100 + number,
        visit: format!("visit-{number}"),
        entered_at: at(from),
        ended_at: until.map(at),
        returner: false,
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

fn told_in(number: u64, ms: i64) -> AcknowledgedEntry {
    AcknowledgedEntry {
        subject: format!("fan {number}"),
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
        returner: false,
    }
}

fn booked(seats: &[&str]) -> BTreeSet<(String, String)> {
    seats
        .iter()
        .map(|s| ("friday".to_owned(), (*s).to_owned()))
        .collect()
}

/// Two inside at most, one a second, burst 2. Six fans; the third waits at the full door, the fifth left and came back
/// as number 6, the fourth was passed over and returns; the first paid, the second's card was declined, the third
/// cancelled.
fn clean() -> Evidence {
    let order = |id: &str, state, visit: &str, seats: &[&str], total| Order {
        id: id.into(),
        state,
        visit: visit.into(),
        performance: "friday".into(),
        seats: seats.iter().map(|s| (*s).to_owned()).collect(),
        total,
    };
    let told = |id: &str, state, seats: &[&str], total| AcknowledgedOrder {
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
        door: vec![DoorSetting {
            from: at(0),
            capacity: 2,
            rate_per_minute: 60,
            burst: 2,
        }],
        returner_share: 0.2,
        claimant_lapse: Duration::from_secs(10),
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
        lost_places: Vec::new(),
        journal_joins: (1..=6)
            .map(|number| JournalJoin {
                subject_hash: if number == 6 { 105 } else { 100 + number },
                number,
                left: number == 5,
            })
            .collect(),
        calls: vec![
            Called {
                at: at(900),
                now_serving: 2,
            },
            Called {
                at: at(3_000),
                now_serving: 6,
            },
        ],
        acknowledged_entries: vec![
            told_in(1, 1_000),
            told_in(2, 1_000),
            told_in(3, 8_000),
            told_in(4, 9_000),
            told_in(6, 30_000),
        ],
        entries: vec![
            entry(1, 1_000, Some(8_000)),
            entry(2, 1_000, Some(9_000)),
            entry(3, 8_000, Some(20_000)),
            Entry {
                returner: true,
                ..entry(4, 9_000, Some(21_000))
            },
            Entry {
                subject_hash: 105,
                ..entry(6, 30_000, None)
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
            told("o1", OrderState::Paid, &["A2", "A1"], 200),
            told("o2", OrderState::Ended, &["B1"], 100),
            told("o3", OrderState::Paid, &["C1"], 100),
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
        payments: vec![payment("o1", 200, 0), payment("o3", 100, 100)],
        engine_booked: booked(&["A1", "A2"]),
        ledger_booked: booked(&["A1", "A2"]),
        holds: vec![LiveHold {
            id: "h".into(),
            expires_at: at(99_500),
            paying: false,
        }],
        sweep_every: Duration::from_secs(1),
        probes: vec![Probe {
            what: "a hold without a pass".into(),
            status: 401,
            before: state.clone(),
            after: state,
        }],
        shop: Some(ShopUse {
            connections_seen_max: 2,
            connections_max: 2,
            queries_per_second_seen_max: 20,
            queries_per_second_max: 20,
        }),
        movement: Some(Movement {
            since: at(22_000),
            until: at(32_000),
            waiting: 1,
        }),
    }
}

#[test]
fn a_sale_in_which_all_is_well_stays_green() {
    assert_eq!(audit(&clean()), Vec::new());
}

/// Number 6 enters in number 2's stead, while 3 stands at the door.
fn overtake(evidence: &mut Evidence) {
    evidence.entries[1] = Entry {
        number: 6,
        subject_hash: 105,
        ..entry(6, 5_000, Some(9_000))
    };
    evidence.entries.pop();
    evidence.acknowledged_entries[1] = told_in(6, 5_000);
    evidence.acknowledged_entries.pop();
}

/// What must be found, and the bug that is seeded.
type Bug = (Invariant, &'static str, fn(&mut Evidence));

#[test]
fn every_seeded_bug_is_seen_under_its_number() {
    let bugs: Vec<Bug> = vec![
        (Invariant::OneClaimASeat, "two live claims", |e| {
            e.claims.push(Claim {
                performance: "friday".into(),
                seat: "A1".into(),
                order: "o2".into(),
                live: true,
            });
        }),
        (Invariant::OneClaimASeat, "two valid tickets", |e| {
            e.tickets[2] = Ticket {
                seat: "A1".into(),
                valid: true,
                ..e.tickets[2].clone()
            }
        }),
        (Invariant::OneClaimASeat, "two buyers told", |e| {
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
        (Invariant::MoneyForTickets, "money without an order", |e| {
            e.payments[0].order = "unknown".into()
        }),
        (Invariant::MoneyForTickets, "a wrong amount", |e| {
            e.payments[0].captured = 199
        }),
        (Invariant::MoneyForTickets, "captured twice", |e| {
            e.payments.push(e.payments[0].clone())
        }),
        (
            Invariant::MoneyForTickets,
            "no refund of a cancelled order",
            |e| e.payments[1].refunded = 0,
        ),
        (Invariant::MoneyForTickets, "more back than taken", |e| {
            e.payments[1].refunded = 101
        }),
        (Invariant::MoneyForTickets, "a ticket missing", |e| {
            e.tickets.remove(0);
        }),
        (
            Invariant::MoneyForTickets,
            "tickets of an order that ended",
            |e| e.tickets[2].valid = true,
        ),
        (Invariant::MoneyForTickets, "tickets without an order", |e| {
            e.tickets.push(Ticket {
                order: "unknown".into(),
                performance: "friday".into(),
                seat: "Z9".into(),
                valid: true,
            });
        }),
        (
            Invariant::MoneyForTickets,
            "a declined order keeps money reserved",
            |e| {
                e.payments.push(Payment {
                    order: "o2".into(),
                    captured: 0,
                    refunded: 0,
                    reserved: 100,
                });
            },
        ),
        (Invariant::Capacity, "a third one inside", |e| {
            e.entries[0].ended_at = Some(at(8_001))
        }),
        (Invariant::Rate, "three at once", |e| {
            e.door[0].capacity = 10;
            e.entries[2].entered_at = at(1_001);
        }),
        (Invariant::Order, "now serving falls", |e| {
            e.calls[1].now_serving = 1
        }),
        (Invariant::Order, "uncalled", |e| {
            e.calls = vec![
                Called {
                    at: at(900),
                    now_serving: 2,
                },
                Called {
                    at: at(60_000),
                    now_serving: 2,
                },
            ];
        }),
        (Invariant::Order, "overtaken at the door", |e| {
            overtake(e);
        }),
        (Invariant::Order, "returners take more than their share", |e| {
            e.door[0] = DoorSetting {
                capacity: 10,
                burst: 10,
                ..e.door[0]
            };
            for number in [7, 8] {
                e.entries.push(Entry {
                    returner: true,
                    ..entry(number, 5_000, Some(5_500))
                });
                e.acknowledged_entries.push(told_in(number, 5_000));
            }
        }),
        (Invariant::OneNumber, "a number told to two", |e| {
            e.acknowledged_joins[1].number = Some(1)
        }),
        (Invariant::OneNumber, "two numbers told to one", |e| {
            e.acknowledged_joins[4].left_at = None
        }),
        (Invariant::OneNumber, "a number twice in the journal", |e| {
            e.journal_joins.push(JournalJoin {
                subject_hash: 999,
                number: 1,
                left: true,
            });
        }),
        (Invariant::OneNumber, "a subject twice in the journal", |e| {
            e.journal_joins[4].left = false
        }),
        (Invariant::OneNumber, "a number enters twice", |e| {
            e.entries.push(Entry {
                visit: "again".into(),
                ..entry(1, 40_000, None)
            });
        }),
        (
            Invariant::OneNumber,
            "a number enters with another subject",
            |e| e.entries[0].subject_hash = 102,
        ),
        (Invariant::NothingLost, "a join", |e| {
            e.journal_joins.remove(3);
        }),
        (Invariant::NothingLost, "a join before the draw", |e| {
            e.acknowledged_joins.push(joined("fay", None))
        }),
        (Invariant::NothingLost, "a place", |e| {
            e.lost_places.push("bora".into())
        }),
        (Invariant::NothingLost, "an entry", |e| {
            e.acknowledged_entries[0].number = 5
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
            e.acknowledged_orders[0].seats.push("A3".into())
        }),
        (Invariant::NothingLost, "a paid order got stuck", |e| {
            e.orders[0].state = OrderState::Stuck
        }),
        (Invariant::EngineAgrees, "the engine books alone", |e| {
            e.engine_booked = booked(&["A1", "A2", "A3"])
        }),
        (Invariant::EngineAgrees, "the engine forgets", |e| {
            e.engine_booked = booked(&["A1"])
        }),
        (Invariant::ProofNeeded, "a probe changes something", |e| {
            e.probes[0].after.insert("seats".into(), "6".into());
        }),
        (Invariant::ProofNeeded, "a probe is answered", |e| {
            e.probes[0].status = 201
        }),
        (Invariant::ProofNeeded, "an order without a visit", |e| {
            e.orders[0].visit = "through the window".into()
        }),
        (Invariant::ShopBudget, "connections", |e| {
            e.shop.as_mut().unwrap().connections_seen_max = 3
        }),
        (Invariant::ShopBudget, "queries", |e| {
            e.shop.as_mut().unwrap().queries_per_second_seen_max = 21
        }),
        (Invariant::ComesToRest, "a saga hangs", |e| {
            e.orders[1].state = OrderState::Open
        }),
        (Invariant::ComesToRest, "a hold outlives its deadline", |e| {
            e.holds[0].expires_at = at(98_000)
        }),
        (Invariant::ComesToRest, "the queue stands still", |e| {
            e.entries.pop();
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
fn while_the_house_is_still_at_work_open_ends_are_no_violation() {
    let mut evidence = clean();
    evidence.settled = false;
    evidence.orders[1].state = OrderState::Open;
    evidence.payments[0] = Payment {
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
fn who_knocks_anew_after_an_outage_has_not_been_overtaken() {
    let mut evidence = clean();
    overtake(&mut evidence);
    let overtaken = |e: &Evidence| {
        audit(e)
            .into_iter()
            .filter(|v| v.invariant == Invariant::Order)
            .count()
    };
    evidence.calls.clear();
    assert_eq!(overtaken(&evidence), 1);
    evidence.outages = vec![(at(4_100), at(4_900))];
    assert_eq!(overtaken(&evidence), 0);
}

#[test]
fn whose_kept_slot_went_to_a_lower_number_has_not_been_overtaken() {
    let mut evidence = clean();
    overtake(&mut evidence);
    evidence.calls.clear();
    evidence.acknowledged_entries.push(told_in(5, 5_100));
    let overtaken = |e: &Evidence| {
        audit(e)
            .iter()
            .any(|v| v.found.contains("while 3 waited at the door"))
    };
    assert!(overtaken(&evidence), "number 5 has no precedence over number 3");
    *evidence.acknowledged_entries.last_mut().unwrap() = told_in(2, 5_100);
    assert!(!overtaken(&evidence));
}

#[test]
fn a_raised_rate_is_judged_by_the_setting_in_force() {
    let mut evidence = clean();
    evidence.door = vec![
        DoorSetting {
            from: at(0),
            capacity: 100,
            rate_per_minute: 60,
            burst: 1,
        },
        DoorSetting {
            from: at(40_000),
            capacity: 100,
            rate_per_minute: 600,
            burst: 1,
        },
    ];
    evidence.entries = (0..10)
        .map(|n| entry(n, 40_000 + 100 * i64::try_from(n).unwrap(), None))
        .collect();
    let rate = |e: &Evidence| {
        audit(e)
            .into_iter()
            .filter(|v| v.invariant == Invariant::Rate)
            .count()
    };
    assert_eq!(rate(&evidence), 0);
    evidence.door.truncate(1);
    assert!(rate(&evidence) > 0);
}
