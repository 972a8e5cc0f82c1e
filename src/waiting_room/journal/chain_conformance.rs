//! What every chain store must do. `open` opens journal and chain of the named sale on the same storage each
//! time.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    kernel::Timestamp,
    platform::signing::sha256,
    waiting_room::journal::{
        chain::*,
        port::Journal,
        record::{Event, Join, Record},
    },
};

pub(crate) fn joined(number: u32) -> Record {
    let join = Join {
        subject: number.into(),
        joined_at: Timestamp::from_millis(7),
    };
    Record::Joins {
        first: number,
        joins: vec![join],
    }
}

fn sold_out() -> Record {
    Record::Event {
        at: Timestamp::from_millis(9),
        event: Event::Stock { sold_out: true },
    }
}

/// An independent implementation of the specification in `chain.rs`.
fn by_hand(before: &[u8; 32], number: u64, lines: &[RawRecord]) -> [u8; 32] {
    let mut text = b"stagedoor link 1\0".to_vec();
    text.extend_from_slice(before);
    text.extend_from_slice(&number.to_be_bytes());
    text.extend_from_slice(&(lines.len() as u64).to_be_bytes());
    for line in lines {
        text.extend_from_slice(&line.seq.to_be_bytes());
        text.extend_from_slice(&(line.kind.len() as u64).to_be_bytes());
        text.extend_from_slice(line.kind.as_bytes());
        text.extend_from_slice(&(line.body.len() as u64).to_be_bytes());
        text.extend_from_slice(&line.body);
    }
    sha256(&text)
}

pub(crate) async fn links_cover_every_record_once<J: Journal + ChainStore, F: Future<Output = J>>(
    open: impl Fn(&'static str) -> F,
) {
    let (journal, other) = (open("a").await, open("b").await);
    let none = journal.last_link().await.unwrap();
    assert_eq!(
        (none.number, none.upto, none.hash.0),
        (0, 0, sha256(b"stagedoor journal 1\0a"))
    );
    assert_eq!(extend(&journal).await.unwrap(), none, "there is nothing to link");
    journal.append(0, &[joined(1), sold_out()]).await.unwrap();
    other.append(0, &[joined(1)]).await.unwrap();
    journal.append(0, &[joined(2)]).await.unwrap();
    let lines = journal.lines(0, 10).await.unwrap();
    assert_eq!(
        (lines.len(), lines[0].kind.as_str(), lines[1].kind.as_str()),
        (3, "joins", "event")
    );
    assert_eq!(lines[1].body, br#"[9,{"kind":"stock","sold_out":true}]"#);
    let first = extend(&journal).await.unwrap();
    assert_eq!((first.number, first.upto, first.records), (1, lines[2].seq, 3));
    assert_eq!(first.hash.0, by_hand(&none.hash.0, 1, &lines));
    assert_eq!(extend(&journal).await.unwrap(), first, "again is nothing");
    // A process that died between a record and its link: the next one links it.
    journal.append(0, &[joined(3)]).await.unwrap();
    let again = open("a").await;
    let second = extend(&again).await.unwrap();
    assert_eq!((second.number, second.records), (2, 1));
    assert_eq!(
        second.hash.0,
        by_hand(&first.hash.0, 2, &again.lines(first.upto, 10).await.unwrap())
    );
    assert_eq!(
        other.last_link().await.unwrap().number,
        0,
        "each sale has its own"
    );
    assert!(!again.add_link(&second).await.unwrap(), "a link is there once");
}

pub(crate) async fn concurrent_linkers_add_each_link_once<J: Journal + ChainStore, F: Future<Output = J>>(
    open: impl Fn(&'static str) -> F,
) {
    let writers = Arc::new([open("a").await, open("a").await]);
    let linkers = Arc::new([open("a").await, open("a").await, open("a").await]);
    let over = Arc::new(AtomicBool::new(false));
    let writing = [(0_usize, 1_u32), (1, 1_000)].map(|(n, first)| {
        let writers = Arc::clone(&writers);
        tokio::spawn(async move {
            let mut linked = 0;
            for number in first..first + 60 {
                writers[n].append(0, &[joined(number), sold_out()]).await.unwrap();
                // However slow the linkers are, they link while it is being written.
                if number % 15 == 0 {
                    let before = linked;
                    while linked <= before {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        linked = writers[n].last_link().await.unwrap().number;
                    }
                }
            }
        })
    });
    let linking = [0, 1, 2].map(|n| {
        let (linkers, over) = (Arc::clone(&linkers), Arc::clone(&over));
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                extend(&linkers[n]).await.unwrap();
            }
        })
    });
    for writer in writing {
        writer.await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    for linker in linking {
        linker.await.unwrap();
    }
    let last = extend(&linkers[0]).await.unwrap();
    let records = writers[0].lines(0, 1_000).await.unwrap();
    assert_eq!(
        (records.len(), records.last().map(|line| line.seq)),
        (240, Some(last.upto))
    );
    assert!(
        last.number > 3,
        "they were linked while they were written: {}",
        last.number
    );
}
