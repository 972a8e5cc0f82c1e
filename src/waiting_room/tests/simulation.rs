//! The store and a simple crowd in virtual time, with the simulation's checker.

use std::{ops::Range, time::Duration};

use crate::{
    kernel::{Entropy, SeededEntropy, Timestamp, VisitId},
    simulate::checker::{Checker, Limits},
    waiting_room::{
        admission::{call_policy::burst_of, controller::next_call},
        journal::record::{Event, Join, Record, StoredRecord},
        store::{
            conformance,
            memory::store::MemoryStore,
            port::{Moment, QueueStore, Reservation, SlotRequest, Stock},
        },
        types::{BoxOfficeLoad, Config, Phase},
    },
};

/// This store ignores a record's sequence number.
fn stored(record: Record) -> StoredRecord {
    StoredRecord { seq: 0, record }
}

fn no_stock() -> Stock {
    Stock {
        zones: Vec::new(),
        age: Duration::ZERO,
        healths: Vec::new(),
    }
}

struct Crowd {
    customers: u32,
    /// Share of those called who are away.
    absent: f64,
    visit_mean_s: f64,
    /// How long after the call those come who come.
    lead_ms: Range<u64>,
    seconds: u64,
}

struct Asking {
    number: u32,
    next_ms: u64,
    every_ms: u64,
    first_refused_ms: Option<u64>,
}

/// What the checker has seen, and what it was like for the customers.
struct Seen {
    checker: Checker,
    came: u32,
    met_full_house: u32,
    extra_waits_ms: Vec<u64>,
    /// Called by the end of each second.
    called_by_s: Vec<u32>,
}

impl Seen {
    /// Entries, the share of those called who found no room at first, and the 95th percentile of how long
    /// they then waited.
    fn figures(&self) -> (u64, f64, u64) {
        let mut waits = self.extra_waits_ms.clone();
        waits.sort_unstable();
        let p95 = waits.get(waits.len() * 95 / 100).copied().unwrap_or(0);
        (
            self.checker.entries(),
            f64::from(self.met_full_house) / f64::from(self.came),
            p95,
        )
    }
}

/// Share of the slots in use after the first fifth of the time.
async fn run(config: Config, crowd: &Crowd, seed: u64) -> (Seen, f64) {
    let entropy = SeededEntropy::new(seed);
    let moment = |ms: u64| Moment {
        now: Timestamp::from_millis(i64::try_from(ms).unwrap()),
        monotonic: Duration::from_millis(ms),
    };
    let store = MemoryStore::new(config.clone(), 0, moment(0));
    let joins = (1..=u64::from(crowd.customers))
        .map(|subject| Join {
            subject,
            joined_at: Timestamp::default(),
        })
        .collect();
    store
        .apply(&[stored(Record::Joins { first: 1, joins })], moment(0))
        .await
        .unwrap();
    let door = Limits {
        capacity: config.active_visits_max,
        rate_per_minute: config.admission_rate_per_minute,
        burst: burst_of(config.admission_rate_per_minute, config.admission_burst),
    };
    let mut seen = Seen {
        checker: Checker::new(door),
        came: 0,
        met_full_house: 0,
        extra_waits_ms: Vec::new(),
        called_by_s: Vec::new(),
    };
    let mut asking: Vec<Asking> = Vec::new();
    let mut visits: Vec<(u64, VisitId)> = Vec::new();
    let (mut used, mut offered) = (0.0, 0.0);
    for tick in 1..=crowd.seconds * 10 {
        let now_ms = tick * 100;
        let at = moment(now_ms);
        let over: Vec<VisitId> = visits
            .extract_if(.., |(ends_ms, _)| *ends_ms <= now_ms)
            .map(|(_, visit)| visit)
            .collect();
        for ended in store.end_visits(&over, at.now).await.unwrap() {
            let event = Event::VisitEnded {
                number: ended.number,
                visit: ended.visit,
            };
            store
                .apply(&[stored(Record::Event { at: at.now, event })], at)
                .await
                .unwrap();
            seen.checker.leave(ended.number, true);
        }
        if let (_, Some(event)) = next_call(&store, Phase::OnSale, config.call_window, at, &no_stock())
            .await
            .unwrap()
        {
            let Event::Called {
                after,
                last,
                window_ends_at,
            } = event
            else {
                panic!("only calls are expected")
            };
            seen.checker.called(
                after,
                last,
                u64::try_from(window_ends_at.as_millis()).unwrap(),
                crowd.customers,
            );
            store
                .apply(&[stored(Record::Event { at: at.now, event })], at)
                .await
                .unwrap();
            for number in after + 1..=last {
                // A page asks about once a second near the front; who is away comes back later, or never.
                let (in_ms, every_ms) = match entropy.unit() {
                    u if u >= crowd.absent => (
                        crowd.lead_ms.start + entropy.below(crowd.lead_ms.end - crowd.lead_ms.start),
                        1_000,
                    ),
                    u if u >= crowd.absent / 2.0 => (200_000 + entropy.below(300_000), 3_000),
                    _ => continue,
                };
                asking.push(Asking {
                    number,
                    next_ms: now_ms + in_ms,
                    every_ms,
                    first_refused_ms: None,
                });
            }
        }
        // Whose page asks first within a tick is chance.
        asking.sort_unstable_by_key(|ask| (ask.next_ms, ask.number));
        let mut still = Vec::with_capacity(asking.len());
        for mut ask in asking {
            if ask.next_ms > now_ms {
                still.push(ask);
                continue;
            }
            seen.checker.ask(ask.number, now_ms);
            let first_time = ask.first_refused_ms.is_none();
            seen.came += u32::from(first_time && ask.every_ms == 1_000);
            let visit = VisitId::random(&entropy);
            match store
                .reserve_slot(
                    &SlotRequest {
                        number: ask.number,
                        visit,
                        load: BoxOfficeLoad::Normal,
                    },
                    at,
                )
                .await
                .unwrap()
            {
                Reservation::Reserved { .. } => {
                    seen.checker.enter(ask.number, now_ms);
                    let event = Event::Admitted {
                        number: ask.number,
                        subject: ask.number.into(),
                        visit,
                    };
                    store
                        .apply(&[stored(Record::Event { at: at.now, event })], at)
                        .await
                        .unwrap();
                    let stays_s = (-crowd.visit_mean_s * (1.0 - entropy.unit()).ln()).min(590.0);
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "below ten minutes"
                    )]
                    visits.push((now_ms + (stays_s * 1_000.0) as u64, visit));
                    if ask.every_ms == 1_000 {
                        seen.extra_waits_ms
                            .extend(ask.first_refused_ms.map(|first| now_ms - first));
                    }
                }
                Reservation::NoRoom { .. } => {
                    seen.met_full_house += u32::from(first_time && ask.every_ms == 1_000);
                    ask.first_refused_ms.get_or_insert(now_ms);
                    // One in fifty gives up when there is no room at once.
                    if entropy.unit() > 0.02 {
                        ask.next_ms = now_ms + ask.every_ms;
                        still.push(ask);
                    }
                }
                other => panic!("{other:?} for {}", ask.number),
            }
        }
        asking = still;
        let active = store.counts(at).active_visits;
        seen.checker.compare_counts(active, None, now_ms);
        if tick % 10 == 0 {
            seen.called_by_s.push(store.now_serving());
        }
        if tick > crowd.seconds * 2 && store.now_serving() < crowd.customers {
            used += f64::from(active);
            offered += f64::from(config.active_visits_max);
        }
    }
    seen.checker.finish(config.late_arrival_share);
    assert_eq!(seen.checker.violations(), (&[][..], 0));
    (seen, used / offered)
}

#[tokio::test]
async fn slots_stay_used_though_most_called_are_away() {
    let config = Config {
        active_visits_max: 300,
        admission_rate_per_minute: 900,
        admission_burst: Some(15),
        call_window: Duration::from_mins(3),
        ..conformance::config(1)
    };
    let crowd = Crowd {
        customers: 10_000,
        absent: 0.6,
        visit_mean_s: 120.0,
        lead_ms: 300..3_000,
        seconds: 900,
    };
    let (seen, use_of_slots) = run(config, &crowd, 1).await;
    let (entries, met, extra_ms) = seen.figures();
    println!(
        "use {use_of_slots:.3}, {met:.3} met a full test, p95 {extra_ms} ms, {} of {entries} late arrivals",
        seen.checker.late_entries()
    );
    assert!(use_of_slots >= 0.98, "{use_of_slots}");
    assert!(met <= 0.10 && extra_ms <= 15_000, "{met} {extra_ms}");
    assert!(seen.checker.late_entries() > 100, "some came back");
}

#[tokio::test]
async fn the_rate_is_used_up_and_never_exceeded() {
    let config = Config {
        active_visits_max: 5_000,
        admission_rate_per_minute: 300,
        admission_burst: Some(5),
        call_window: Duration::from_mins(3),
        ..conformance::config(1)
    };
    let crowd = Crowd {
        customers: 6_000,
        absent: 0.4,
        visit_mean_s: 120.0,
        lead_ms: 300..3_000,
        seconds: 600,
    };
    let (seen, _) = run(config, &crowd, 1).await;
    let (entries, met, extra_ms) = seen.figures();
    println!("{entries} of 3000 possible entries, {met:.3} found no room at once, p95 {extra_ms} ms");
    assert!((2_800..=3_005).contains(&entries), "{entries}");
    assert!(extra_ms <= 15_000, "{extra_ms}");
}

#[tokio::test]
async fn initial_calls_never_exceed_what_can_enter() {
    let config = Config {
        active_visits_max: 800,
        admission_rate_per_minute: 6_000,
        admission_burst: None,
        call_window: Duration::from_mins(3),
        ..conformance::config(1)
    };
    let crowd = Crowd {
        customers: 5_000,
        absent: 0.0,
        visit_mean_s: 120.0,
        lead_ms: 1_000..6_000,
        seconds: 60,
    };
    let (seen, _) = run(config, &crowd, 1).await;
    let (_, met, extra_ms) = seen.figures();
    println!(
        "called by second {:?}, {met:.3} met a full test",
        &seen.called_by_s[..20]
    );
    assert!(
        seen.called_by_s[2] <= 100 * (3 + 6),
        "what may enter until those who are called have come: {:?}",
        &seen.called_by_s[..5]
    );
    // As many visitors leave within the first 15 s as one in eight.
    assert!(seen.called_by_s[14] <= 900, "{:?}", &seen.called_by_s[..15]);
    assert!(met <= 0.10 && extra_ms <= 15_000, "{met} {extra_ms}");
}
