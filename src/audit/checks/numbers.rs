//! I6: one subject, one number; one number, one subject.

use std::collections::{HashMap, HashSet};

use crate::audit::{
    evidence::Evidence,
    findings::{Findings, Invariant},
};

/// I6, among the acknowledged joins, in the journal, and between the two.
pub(crate) fn one_number_each(evidence: &Evidence, found: &mut Findings) {
    in_acknowledged_joins(evidence, found);
    in_journal(evidence, found);
}

fn in_acknowledged_joins(evidence: &Evidence, found: &mut Findings) {
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
}

fn in_journal(evidence: &Evidence, found: &mut Findings) {
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
    let mut admitted = HashSet::new();
    for admission in &evidence.admissions {
        if !admitted.insert(admission.number) {
            found.add(
                Invariant::OneNumber,
                format!("number {} was admitted twice", admission.number),
            );
        }
        if hash_of
            .get(&admission.number)
            .is_some_and(|hash| *hash != admission.subject_hash)
        {
            found.add(
                Invariant::OneNumber,
                format!(
                    "number {} was admitted for another subject than the one that joined",
                    admission.number
                ),
            );
        }
    }
}
