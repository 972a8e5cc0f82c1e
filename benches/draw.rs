//! A draw at its largest: 3,700,000 entries.
//!
//! `root`: the Merkle root over all leaves, once when the sale opens. `order`: the shuffle of all entries and
//! the hash over it, once when the beacon's round is there. `path`: the proof in one receipt. `place`: one
//! queue number from the shuffle alone, as a verifier of a single entry computes it. `signature`: verifying
//! one round of the beacon.
//!
//! The root and the order must fit into the time that the announced round leaves; otherwise the next round
//! decides.

use std::{hint::black_box, ops::Range, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use stagedoor::{
    demo::sandbox_beacon::SandboxSigner,
    kernel::SeededEntropy,
    waiting_room::draw::{Digest, DrawNumbering, Secrets, Shuffle, merkle::Tree},
};

const ENTRIES: u32 = 3_700_000;

fn draw(c: &mut Criterion) {
    let secrets = Secrets::new(&SeededEntropy::new(1));
    let leaves = |range: Range<u32>| {
        range
            .map(|index| secrets.leaf(index + 1, Some(u64::from(index))))
            .collect::<Vec<_>>()
    };
    let seed = Digest([7; 32]);
    let mut whole = c.benchmark_group("draw of 3.7 million");
    whole
        .sample_size(10)
        .measurement_time(Duration::from_secs(30))
        .warm_up_time(Duration::from_secs(1));
    whole.bench_function("root", |b| b.iter(|| Tree::over(ENTRIES, leaves).root()));
    whole.bench_function("order", |b| {
        b.iter(|| DrawNumbering::drawn(&seed, ENTRIES).digest());
    });
    whole.finish();

    let mut one = c.benchmark_group("one of 3.7 million");
    one.sample_size(50)
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1));
    let tree = Tree::over(ENTRIES, leaves);
    one.bench_function("path", |b| b.iter(|| tree.path(black_box(1_234_567), leaves)));
    let shuffle = Shuffle::new(seed.0, ENTRIES);
    one.bench_function("place", |b| b.iter(|| shuffle.position_of(black_box(1_234_567))));
    let signer = SandboxSigner::of("bench");
    let (key, signature) = (signer.public_key(), signer.sign(9));
    one.bench_function("signature", |b| {
        b.iter(|| assert!(key.verify(black_box(9), &signature)));
    });
    one.finish();
}

criterion_group!(benches, draw);
criterion_main!(benches);
