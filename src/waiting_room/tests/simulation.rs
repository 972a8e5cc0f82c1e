//! A crowd before the door in virtual time, and a judge who knows only what was asked and what was answered.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    kernel::{Entropy, SeededEntropy, Timestamp, VisitId},
    waiting_room::{
        Config, Phase,
        gatekeeper::next_call,
        journal::{Event, Join, Record, Stored},
        store::{EntryAsk, MemoryStore, Moment, QueueStore, Reservation, Stock, contract},
    },
};

/// This engine does not ask for a record's place.
fn stored(record: Record) -> Stored {
    Stored { seq: 0, record }
}

fn no_stock() -> Stock {
    Stock { zones: Vec::new(), age: Duration::ZERO }
}

struct Crowd {
    fans: u32,
    /// Share of those called who are away.
    absent: f64,
    visit_mean_s: f64,
    seconds: u64,
}

struct Asking {
    number: u32,
    next_ms: u64,
    every_ms: u64,
    first_refused_ms: Option<u64>,
}

/// Keeps the books by its own rules, simpler than the engine's.
#[derive(Default)]
struct Judge {
    entries_ms: Vec<u64>,
    entered: BTreeMap<u32, u64>,
    /// number -> when she last asked, by lane
    called: BTreeMap<u32, u64>,
    returners: BTreeMap<u32, u64>,
    active: u32,
    now_serving: u32,
    call_ends_ms: BTreeMap<u32, u64>,
    taken_from_claimants: usize,
    returner_entries: usize,
    came: u32,
    met_full_house: u32,
    extra_waits_ms: Vec<u64>,
}

impl Judge {
    fn called(&mut self, from: u32, upto: u32, ends_ms: u64, joined: u32) {
        assert!(from == self.now_serving && upto > from && upto <= joined, "I5: calls follow number order");
        self.now_serving = upto;
        self.call_ends_ms.insert(upto, ends_ms);
    }

    fn is_returner(&self, number: u32, now_ms: u64) -> bool {
        let ends_ms = *self.call_ends_ms.range(number..).next().expect("only the called ask").1;
        now_ms > ends_ms && self.called.get(&number).is_none_or(|&asked| now_ms - asked > 10_000)
    }

    fn asks(&mut self, number: u32, now_ms: u64) {
        let lane = if self.is_returner(number, now_ms) { &mut self.returners } else { &mut self.called };
        lane.insert(number, now_ms);
    }

    fn enters(&mut self, number: u32, now_ms: u64, config: &Config) {
        assert!(self.active < config.capacity, "I3: the house is full");
        assert!(self.entered.insert(number, now_ms).is_none(), "I6: {number} entered before");
        let free = (config.capacity - self.active) as usize;
        let live = |&(_, &asked): &(&u32, &u64)| now_ms - asked <= 10_000;
        let was_called = self.called.contains_key(&number) && !self.returners.contains_key(&number);
        let lane = if was_called { &self.called } else { &self.returners };
        let lower = lane.range(..number).filter(live).count();
        assert!(lower < free, "I5: {number} entered before {lower} lower claimants, with {free} free");
        if !was_called {
            self.returner_entries += 1;
            self.taken_from_claimants += usize::from(self.called.iter().filter(live).count() >= free);
        }
        self.called.remove(&number);
        self.returners.remove(&number);
        self.active += 1;
        self.entries_ms.push(now_ms);
    }

    /// Entries, the share of those called who found no room at first, and the 95th percentile of how long they then waited.
    fn figures(&self) -> (usize, f64, u64) {
        let mut waits = self.extra_waits_ms.clone();
        waits.sort_unstable();
        let p95 = waits.get(waits.len() * 95 / 100).copied().unwrap_or(0);
        (self.entries_ms.len(), f64::from(self.met_full_house) / f64::from(self.came), p95)
    }

    /// I4 over every window that begins and ends with an entry.
    fn check_rate(&self, config: &Config) {
        let burst = u64::from(config.burst.unwrap());
        for (i, from) in self.entries_ms.iter().enumerate() {
            for (count, to) in (1_u64..).zip(&self.entries_ms[i..]).take(400) {
                let allowed = u64::from(config.rate_per_minute) * (to - from) + burst * 60_000;
                assert!(count * 60_000 <= allowed, "I4: {count} entries in {} ms", to - from);
            }
        }
    }
}

/// Share of the slots in use after the first fifth of the time.
async fn run(config: Config, crowd: &Crowd, seed: u64) -> (Judge, f64) {
    let entropy = SeededEntropy::new(seed);
    let moment = |ms: u64| Moment { now: Timestamp::from_millis(i64::try_from(ms).unwrap()), monotonic: Duration::from_millis(ms) };
    let store = MemoryStore::new(config.clone(), 0, moment(0));
    let joins = (1..=u64::from(crowd.fans)).map(|subject| Join { subject, joined_at: Timestamp::default() }).collect();
    store.apply(&[stored(Record::Joins { first: 1, joins })], moment(0)).await.unwrap();
    let mut judge = Judge::default();
    let mut asking: Vec<Asking> = Vec::new();
    let mut visits: Vec<(u64, VisitId)> = Vec::new();
    let (mut used, mut offered) = (0.0, 0.0);
    for tick in 1..=crowd.seconds * 10 {
        let now_ms = tick * 100;
        let at = moment(now_ms);
        let over: Vec<VisitId> = visits.extract_if(.., |(ends_ms, _)| *ends_ms <= now_ms).map(|(_, visit)| visit).collect();
        for ended in store.end_visits(&over, at.now).await.unwrap() {
            let event = Event::VisitEnded { number: ended.number, visit: ended.visit };
            store.apply(&[stored(Record::Event { at: at.now, event })], at).await.unwrap();
            judge.active -= 1;
        }
        if let (_, Some(event)) = next_call(&store, Phase::OnSale, config.call_window, at, &no_stock()).await.unwrap() {
            let Event::Called { from, upto, ends_at } = event else { panic!("only calls are expected") };
            judge.called(from, upto, u64::try_from(ends_at.as_millis()).unwrap(), crowd.fans);
            store.apply(&[stored(Record::Event { at: at.now, event })], at).await.unwrap();
            for number in from + 1..=upto {
                // A page asks about once a second near the front; who is away comes back later, or never.
                let (in_ms, every_ms) = match entropy.unit() {
                    u if u >= crowd.absent => (300 + entropy.below(2_700), 1_000),
                    u if u >= crowd.absent / 2.0 => (200_000 + entropy.below(300_000), 3_000),
                    _ => continue,
                };
                asking.push(Asking { number, next_ms: now_ms + in_ms, every_ms, first_refused_ms: None });
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
            judge.asks(ask.number, now_ms);
            let first_time = ask.first_refused_ms.is_none();
            judge.came += u32::from(first_time && ask.every_ms == 1_000);
            let visit = VisitId::random(&entropy);
            match store.reserve(&EntryAsk { number: ask.number, visit }, at).await.unwrap() {
                Reservation::Reserved { .. } => {
                    judge.enters(ask.number, now_ms, &config);
                    let event = Event::Entered { number: ask.number, subject: ask.number.into(), visit };
                    store.apply(&[stored(Record::Event { at: at.now, event })], at).await.unwrap();
                    let stays_s = (-crowd.visit_mean_s * (1.0 - entropy.unit()).ln()).min(590.0);
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below ten minutes")]
                    visits.push((now_ms + (stays_s * 1_000.0) as u64, visit));
                    if ask.every_ms == 1_000 {
                        judge.extra_waits_ms.extend(ask.first_refused_ms.map(|first| now_ms - first));
                    }
                }
                Reservation::NoRoom => {
                    judge.met_full_house += u32::from(first_time && ask.every_ms == 1_000);
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
        assert_eq!(store.counts(at).active, judge.active);
        if tick > crowd.seconds * 2 && judge.now_serving < crowd.fans {
            used += f64::from(judge.active);
            offered += f64::from(config.capacity);
        }
    }
    judge.check_rate(&config);
    (judge, used / offered)
}

#[tokio::test]
async fn a_house_that_is_full_stays_full_though_most_are_away() {
    let config =
        Config { capacity: 300, rate_per_minute: 900, burst: Some(15), call_window: Duration::from_mins(3), ..contract::config(1) };
    let crowd = Crowd { fans: 10_000, absent: 0.6, visit_mean_s: 120.0, seconds: 900 };
    let (judge, use_of_slots) = run(config, &crowd, 1).await;
    let (entries, met, extra_ms) = judge.figures();
    println!("use {use_of_slots:.3}, {met:.3} met a full house, p95 {extra_ms} ms, {} of {entries} returners", judge.returner_entries);
    assert!(use_of_slots >= 0.98, "{use_of_slots}");
    assert!(met <= 0.10 && extra_ms <= 15_000, "{met} {extra_ms}");
    assert!(judge.returner_entries > 100, "some came back");
    let (taken, share) = (judge.taken_from_claimants, contract::config(1).returner_share);
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let within = taken as f64 <= share * entries as f64 + 1.0;
    assert!(within, "I5: returners took {taken} of {entries} places that others waited for");
}

#[tokio::test]
async fn the_rate_is_used_up_and_never_exceeded() {
    let config =
        Config { capacity: 5_000, rate_per_minute: 300, burst: Some(5), call_window: Duration::from_mins(3), ..contract::config(1) };
    let crowd = Crowd { fans: 6_000, absent: 0.4, visit_mean_s: 120.0, seconds: 600 };
    let (judge, _) = run(config, &crowd, 1).await;
    let (entries, met, extra_ms) = judge.figures();
    println!("{entries} of 3000 possible entries, {met:.3} found no room at once, p95 {extra_ms} ms");
    assert!((2_800..=3_005).contains(&entries), "{entries}");
    assert!(extra_ms <= 15_000, "{extra_ms}");
}

#[test]
fn the_judge_sees_what_is_wrong() {
    let config = Config { capacity: 1, ..contract::config(1) };
    let caught = |wrong: fn(&mut Judge, &Config)| {
        let config = config.clone();
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let mut judge = Judge::default();
            judge.called(0, 5, 60_000, 9);
            judge.asks(1, 1_000);
            judge.asks(2, 1_000);
            wrong(&mut judge, &config);
        }))
        .is_err()
    };
    assert!(!caught(|judge, config| judge.enters(1, 1_000, config)));
    assert!(caught(|judge, config| judge.enters(2, 1_000, config)), "the lower number waits");
    assert!(caught(|judge, config| [1, 2].into_iter().for_each(|n| judge.enters(n, 1_000, config))), "one slot, two entries");
    assert!(caught(|judge, _| judge.called(3, 6, 60_000, 9)), "a call that does not follow on");
    let crowded = |gap_ms: u64| {
        let judge = Judge { entries_ms: (0..5).map(|n| n * gap_ms).collect(), ..Judge::default() };
        std::panic::catch_unwind(move || judge.check_rate(&contract::config(1))).is_err()
    };
    assert!(crowded(100) && !crowded(1_000), "60 a minute and 3 at once");
}
