//! The door: I3 to I6, and the parts of I7 and I11 that are about places.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    time::Duration,
};

use crate::audit::{AcknowledgedEntry, DoorSetting, Entry, Evidence, Findings, Invariant, Refusal};
use crate::kernel::Timestamp;

/// I3: counts who is inside at each entry. Who left in the same millisecond has left.
pub(crate) fn capacity(evidence: &Evidence, found: &mut Findings) {
    let mut inside: BinaryHeap<Reverse<Timestamp>> = BinaryHeap::new();
    let mut for_ever = 0_usize;
    for entry in in_time_order(&evidence.entries) {
        while inside.peek().is_some_and(|Reverse(end)| *end <= entry.entered_at) {
            inside.pop();
        }
        let active = inside.len() + for_ever;
        if let Some(door) = setting_at(&evidence.door, entry.entered_at)
            && active >= door.capacity as usize
        {
            let (at, number) = (entry.entered_at, entry.number);
            found.add(
                Invariant::Capacity,
                format!(
                    "number {number} entered at {at} with {active} inside, capacity {}",
                    door.capacity
                ),
            );
        }
        match entry.ended_at {
            Some(end) => inside.push(Reverse(end)),
            None => for_ever += 1,
        }
    }
}

/// I4 for all windows at once: a bucket that drains at the rate must never hold more than the burst allows.
///
/// Times are whole milliseconds, so that two entries may be up to one further apart than they look.
pub(crate) fn rate(evidence: &Evidence, found: &mut Findings) {
    let mut level = 0.0_f64;
    let mut last: Option<Timestamp> = None;
    for entry in in_time_order(&evidence.entries) {
        let Some(door) = setting_at(&evidence.door, entry.entered_at) else {
            continue;
        };
        if let Some(before) = last {
            level = (level - drained(&evidence.door, before, entry.entered_at)).max(0.0);
        }
        last = Some(entry.entered_at);
        level += 1.0;
        let slack = f64::from(door.rate_per_minute) / 60_000.0;
        if level > f64::from(door.burst) + slack + 1e-6 {
            let (at, number, allowed) = (entry.entered_at, entry.number, door.burst);
            found.add(
                Invariant::Rate,
                format!("the entry of number {number} at {at} is {level:.2} over the rate, burst {allowed}"),
            );
        }
    }
}

/// I5, first part: the number called only grows, and nobody enters uncalled.
pub(crate) fn calls_only_grow(evidence: &Evidence, found: &mut Findings) {
    for pair in evidence.calls.windows(2) {
        if pair[1].now_serving < pair[0].now_serving {
            let (before, after, at) = (pair[0].now_serving, pair[1].now_serving, pair[1].at);
            found.add(
                Invariant::Order,
                format!("now serving fell from {before} to {after} at {at}"),
            );
        }
    }
    for entry in &evidence.entries {
        // The number called only grows: what is seen after an entry bounds what was called at it.
        let after = evidence.calls.partition_point(|c| c.at < entry.entered_at);
        if let Some(seen) = evidence.calls.get(after)
            && entry.number > seen.now_serving
        {
            let (number, called, at) = (entry.number, seen.now_serving, seen.at);
            found.add(
                Invariant::Order,
                format!("number {number} entered, and at {at} only {called} was called"),
            );
        }
    }
}

/// I5, second part: who was refused, asked again in time and was refused again must not have been overtaken between.
///
/// A claimant whose slot is kept for her may be let in after a higher number and has lost nothing; so one refusal is
/// not enough to judge by. And a journal says when an entry was written down, which may be later than it was decided;
/// so only entries count that were asked for and answered within the stretch. Nor has she been overtaken when the slot
/// that was kept for her went to somebody who goes before her and came just then: a lower number, or a returner.
pub(crate) fn lowest_claimant_first(evidence: &Evidence, found: &mut Findings) {
    let entries = with_their_lanes(evidence);
    for (number, from, until) in waiting_stretches(evidence) {
        let first = entries.partition_point(|(e, _)| e.at <= from);
        let within = entries[first..]
            .iter()
            .take_while(|(e, _)| e.at < until)
            .filter(|(e, _)| e.asked_at > from);
        for (overtaker, _) in within.filter(|(e, is_returner)| e.number > number && !is_returner) {
            let goes_before =
                |(e, is_returner): &(&AcknowledgedEntry, bool)| e.number < number || *is_returner;
            if entries
                .iter()
                .any(|it| goes_before(it) && it.0.at >= overtaker.asked_at && it.0.asked_at <= until)
            {
                continue;
            }
            let (other, at) = (overtaker.number, overtaker.at);
            found.add(
                Invariant::Order,
                format!("number {other} entered at {at} while {number} waited at the door and was refused at {until}"),
            );
        }
    }
}

/// I5, third part: of the entries so far, those that returners took while others provably waited at the door stay
/// within their share, give or take one.
pub(crate) fn returners_within_their_share(evidence: &Evidence, found: &mut Findings) {
    let mut stretches: Vec<_> = waiting_stretches(evidence)
        .into_iter()
        .map(|(_, from, until)| (from, until))
        .collect();
    stretches.sort_unstable();
    let somebody_waited = |entry: &AcknowledgedEntry| {
        let begun = stretches.partition_point(|(from, _)| *from < entry.asked_at);
        stretches[..begun].iter().any(|(_, until)| *until > entry.at)
    };
    let (mut all, mut returned) = (0.0_f64, 0.0_f64);
    for (entry, is_returner) in with_their_lanes(evidence) {
        all += 1.0;
        if !is_returner || !somebody_waited(entry) {
            continue;
        }
        returned += 1.0;
        if returned > all * evidence.returner_share + 1.0 + 1e-9 {
            let (number, share) = (entry.number, evidence.returner_share);
            found.add(
                Invariant::Order,
                format!("with number {number} returners took {returned} of {all} entries while others waited, their share is {share}"),
            );
            return;
        }
    }
}

/// I6, among what clients were told, in the journal, and between the two.
pub(crate) fn one_number_each(evidence: &Evidence, found: &mut Findings) {
    let mut holder: HashMap<u64, &str> = HashMap::new();
    let mut current: HashMap<&str, u64> = HashMap::new();
    for join in &evidence.acknowledged_joins {
        let Some(number) = join.number else { continue };
        if let Some(other) = holder.insert(number, &join.subject)
            && other != join.subject
        {
            found.add(
                Invariant::OneNumber,
                format!("number {number} was given to two subjects"),
            );
        }
        if join.left_at.is_none()
            && let Some(other) = current.insert(&join.subject, number)
            && other != number
        {
            found.add(
                Invariant::OneNumber,
                format!("one subject was given the numbers {other} and {number}"),
            );
        }
    }
    let mut hash_of: HashMap<u64, u64> = HashMap::new();
    let mut number_of: HashMap<u64, u64> = HashMap::new();
    for join in &evidence.journal_joins {
        if let Some(other) = hash_of.insert(join.number, join.subject_hash)
            && other != join.subject_hash
        {
            found.add(
                Invariant::OneNumber,
                format!("the journal gives number {} to two subjects", join.number),
            );
        }
        if !join.left
            && let Some(other) = number_of.insert(join.subject_hash, join.number)
            && other != join.number
        {
            found.add(
                Invariant::OneNumber,
                format!(
                    "the journal gives one subject the numbers {other} and {}",
                    join.number
                ),
            );
        }
    }
    let mut entered = HashSet::new();
    for entry in &evidence.entries {
        if !entered.insert(entry.number) {
            found.add(
                Invariant::OneNumber,
                format!("number {} entered twice", entry.number),
            );
        }
        if hash_of
            .get(&entry.number)
            .is_some_and(|hash| *hash != entry.subject_hash)
        {
            found.add(
                Invariant::OneNumber,
                format!(
                    "number {} was entered with by another subject than joined",
                    entry.number
                ),
            );
        }
    }
}

/// I7 for places and entries.
pub(crate) fn no_place_lost(evidence: &Evidence, found: &mut Findings) {
    let journal: HashSet<u64> = evidence.journal_joins.iter().map(|j| j.number).collect();
    for join in &evidence.acknowledged_joins {
        if let Some(number) = join.number
            && !journal.contains(&number)
        {
            let at = join.acknowledged_at;
            found.add(
                Invariant::NothingLost,
                format!("number {number}, acknowledged at {at}, is not in the journal"),
            );
        }
    }
    let without_number = evidence
        .acknowledged_joins
        .iter()
        .filter(|j| j.number.is_none())
        .count();
    if evidence.acknowledged_joins.len() > evidence.journal_joins.len() {
        let (told, kept) = (evidence.acknowledged_joins.len(), evidence.journal_joins.len());
        found.add(
            Invariant::NothingLost,
            format!("{told} places were acknowledged ({without_number} of them unnumbered), the journal holds {kept}"),
        );
    }
    for subject in &evidence.lost_places {
        found.add(
            Invariant::NothingLost,
            format!("the place of {subject} was not honoured"),
        );
    }
    let entered: HashSet<u64> = evidence.entries.iter().map(|e| e.number).collect();
    for entry in evidence
        .acknowledged_entries
        .iter()
        .filter(|e| !entered.contains(&e.number))
    {
        let (number, at) = (entry.number, entry.at);
        found.add(
            Invariant::NothingLost,
            format!("the entry of number {number}, acknowledged at {at}, is not in the journal"),
        );
    }
}

/// I11 for the queue: with fans waiting and room inside, somebody enters.
pub(crate) fn queue_moves(evidence: &Evidence, found: &mut Findings) {
    let Some(watched) = evidence.movement else { return };
    let Some(door) = setting_at(&evidence.door, watched.since) else {
        return;
    };
    let active = evidence
        .entries
        .iter()
        .filter(|e| e.entered_at <= watched.since && e.ended_at.is_none_or(|end| end > watched.until))
        .count();
    let long_enough = drained(&evidence.door, watched.since, watched.until) >= 2.0;
    let entered = evidence
        .entries
        .iter()
        .any(|e| e.entered_at > watched.since && e.entered_at <= watched.until);
    if watched.waiting > 0 && active < door.capacity as usize && long_enough && !entered {
        let (since, until, waiting) = (watched.since, watched.until, watched.waiting);
        found.add(
            Invariant::ComesToRest,
            format!("nobody entered between {since} and {until} although {waiting} wanted to and {active} were inside"),
        );
    }
}

/// By time; those of one millisecond stay in the order in which they were granted.
fn in_time_order(entries: &[Entry]) -> Vec<&Entry> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by_key(|e| e.entered_at);
    sorted
}

/// Acknowledged entries by the time of their answer, each with whether it was a returner's.
fn with_their_lanes(evidence: &Evidence) -> Vec<(&AcknowledgedEntry, bool)> {
    let returners: HashSet<u64> = evidence
        .entries
        .iter()
        .filter(|e| e.returner)
        .map(|e| e.number)
        .collect();
    let mut entries: Vec<_> = evidence
        .acknowledged_entries
        .iter()
        .map(|e| (e, returners.contains(&e.number)))
        .collect();
    entries.sort_by_key(|(e, _)| e.at);
    entries
}

fn setting_at(door: &[DoorSetting], at: Timestamp) -> Option<DoorSetting> {
    door.iter()
        .rev()
        .find(|s| s.from <= at)
        .or_else(|| door.first())
        .copied()
}

/// Entries that the rate allows between two moments, whatever it was set to meanwhile.
fn drained(door: &[DoorSetting], from: Timestamp, until: Timestamp) -> f64 {
    let mut sum = 0.0;
    for (i, setting) in door.iter().enumerate() {
        let begins = if i == 0 { from } else { setting.from.max(from) };
        let ends = door.get(i + 1).map_or(until, |next| next.from.min(until));
        sum += ends.since(begins).as_secs_f64() * f64::from(setting.rate_per_minute) / 60.0;
    }
    sum
}

/// From each refusal to the same claimant's next one, when that came before her claim lapsed: in between she stood at
/// the door all the time. Returners stand in a lane of their own.
fn waiting_stretches(evidence: &Evidence) -> Vec<(u64, Timestamp, Timestamp)> {
    let mut by_number: HashMap<u64, Vec<&Refusal>> = HashMap::new();
    for refusal in evidence.refusals.iter().filter(|r| !r.returner) {
        by_number.entry(refusal.number).or_default().push(refusal);
    }
    let mut stretches = Vec::new();
    for (number, mut refusals) in by_number {
        refusals.sort_by_key(|r| r.asked_at);
        for pair in refusals.windows(2) {
            let patience: Duration = evidence.claimant_lapse;
            let (from, until) = (pair[0].answered_at, pair[1].asked_at);
            let interrupted = evidence
                .outages
                .iter()
                .any(|(down, up)| *down < until && *up > from);
            if pair[1].answered_at.since(pair[0].asked_at) <= patience && from < until && !interrupted {
                stretches.push((number, from, until));
            }
        }
    }
    stretches
}
