use std::collections::HashMap;

use super::*;
use crate::kernel::{Entropy, SeededEntropy};

#[test]
fn the_table_finds_what_a_map_finds() {
    let entropy = SeededEntropy::new(5);
    let (mut entries, mut map) = (EntryTable::new(), HashMap::new());
    for number in 1..=30_000_u32 {
        // A small range of subjects in the low bits, so that they collide and come back.
        let subject = entropy.below(20_000) << 3;
        assert_eq!(entries.number_of_subject(subject), map.get(&subject).copied());
        entries.assign(subject, i64::from(number));
        map.insert(subject, number);
        assert_eq!(entries.issued(), number);
    }
    assert!(
        map.iter()
            .all(|(&subject, &number)| entries.number_of_subject(subject) == Some(number))
    );
    assert_eq!(entries.joined_at_ms(77), Some(77));
    assert_eq!(
        (
            entries.number_of_subject(1),
            entries.status(0),
            entries.status(30_001)
        ),
        (None, None, None)
    );
}

#[test]
fn late_inserts_fill_skipped_numbers() {
    let mut entries = EntryTable::new();
    entries.insert(3, 30, 7);
    assert_eq!(
        (
            entries.issued(),
            entries.subject(2),
            entries.status(2),
            entries.waiting_between(0, 9)
        ),
        (3, None, None, 1)
    );
    assert_eq!(
        (entries.number_after(0, 1), entries.active().collect::<Vec<_>>()),
        (3, vec![(3, 30)])
    );
    entries.insert(1, 10, 7);
    entries.insert(2, 30, 7);
    assert_eq!(
        (
            entries.number_of_subject(30),
            entries.subject(2),
            entries.waiting_between(0, 9),
            entries.number_after(0, 2)
        ),
        (Some(3), Some(30), 3, 2)
    );
    entries.mark_left(1);
    assert_eq!(entries.active().collect::<Vec<_>>(), [(2, 30), (3, 30)]);
}

#[test]
fn calls_skip_entries_that_left() {
    let mut entries = EntryTable::new();
    for subject in 1..=10 {
        entries.assign(subject, 0);
    }
    for number in [2, 3, 5] {
        entries.mark_left(number);
    }
    assert_eq!(
        (
            entries.number_after(0, 1),
            entries.number_after(0, 2),
            entries.number_after(0, 3),
            entries.number_after(4, 9)
        ),
        (1, 4, 6, 10)
    );
    assert_eq!(
        (
            entries.waiting_between(0, 4),
            entries.waiting_between(0, 99),
            entries.waiting_between(20, 10)
        ),
        (2, 7, 0)
    );
}

#[test]
fn unjournaled_numbers_wait_and_survive_a_draw() {
    use crate::waiting_room::draw::digest::Digest;
    let mut entries = EntryTable::new();
    for subject in 1..=5 {
        entries.assign(subject, 0);
    }
    for arrival in [1, 3, 5] {
        entries.mark_journaled(arrival);
    }
    entries.draw(DrawNumbering::drawn(&Digest([1; 32]), 5));
    entries.void(2);
    let again = entries.assign(2, 0);
    entries.mark_journaled(again);
    entries.assign(7, 0);
    let written = |entries: &EntryTable| {
        (1..=9)
            .filter(|&arrival| entries.is_journaled(arrival))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (written(&entries), entries.waiting_between(0, 9)),
        (vec![1, 3, 5, 6], 6)
    );
    entries.insert(2, 2, 0);
    assert_eq!(
        written(&entries),
        [1, 2, 3, 5, 6],
        "what is put late comes from the journal"
    );
}

#[test]
fn a_draw_moves_states_and_keeps_subjects() {
    use crate::waiting_room::draw::digest::Digest;
    let mut entries = EntryTable::new();
    for arrival in [1, 2, 4, 5, 6] {
        entries.insert(arrival, u64::from(arrival) * 10, i64::from(arrival));
    }
    entries.mark_left(5);
    assert_eq!((entries.arrived_before(5), entries.arrived_before(1)), (4, 0));
    let numbering = DrawNumbering::drawn(&Digest([1; 32]), 5);
    entries.draw(numbering.clone());
    entries.insert(8, 80, 9);
    assert_eq!(
        (1..=8)
            .map(|it| entries.subject(it).unwrap_or(0))
            .collect::<Vec<_>>(),
        [10, 20, 0, 40, 50, 60, 0, 80]
    );
    assert_eq!(
        entries.active().collect::<Vec<_>>(),
        [(1, 10), (2, 20), (4, 40), (6, 60), (8, 80)]
    );
    assert!(
        entries.status(numbering.queue_number(3)).is_none()
            && entries.status(numbering.queue_number(5)).unwrap().left()
    );
    let first = (1..=5)
        .find(|&number| ![3, 5].contains(&numbering.arrival(number)))
        .unwrap();
    assert_eq!(
        (
            entries.number_after(0, 1),
            entries.waiting_between(0, 5),
            entries.waiting_between(0, 8)
        ),
        (first, 3, 5)
    );
    entries.void(4);
    assert_eq!((entries.subject(4), entries.waiting_between(0, 5)), (None, 2));
}

#[test]
fn a_million_entries_need_at_most_forty_bytes_each() {
    let mut entries = EntryTable::new();
    let entropy = SeededEntropy::new(6);
    let mut block = [0; 8];
    for _ in 0..1_000_000 {
        entropy.fill(&mut block);
        entries.assign(u64::from_le_bytes(block) >> 1, 0);
    }
    // Capacity, not length: what the allocator holds at worst.
    let bytes = entries.subjects.capacity() * 8
        + entries.joined_after_ms.capacity() * 4
        + entries.statuses.capacity()
        + entries.table.len() * 4;
    assert!(bytes <= 40 * 1_000_000, "{bytes}");
}
