//! One hash for a whole list, and a short proof that an entry is in it: the Merkle tree of RFC 6962, section
//! 2.1 (leaves are hashed behind a 0 byte and nodes behind a 1 byte, so that neither can be passed off as the
//! other).

use std::ops::Range;

use crate::platform::signing::sha256;
use crate::waiting_room::draw::digest::Digest;

/// Leaves of which the tree keeps only their common root: for a proof they are made again.
const BLOCK: u32 = 1_024;

/// A tree that forgets its leaves and makes them again where they are needed: 32 bytes for a thousand of
/// them.
#[derive(Clone, Debug)]
pub struct Tree {
    count: u32,
    blocks: Vec<Digest>,
}

impl Tree {
    /// Over `count` leaves; `leaves` gives the data of some, from 0 on.
    #[must_use]
    pub fn over(count: u32, leaves: impl Fn(Range<u32>) -> Vec<Digest>) -> Self {
        let blocks = (0..count.div_ceil(BLOCK))
            .map(|block| root_of(&hashes_of(block, count, &leaves)))
            .collect();
        Self { count, blocks }
    }

    /// The root over all leaves.
    #[must_use]
    pub fn root(&self) -> Digest {
        root_of(&self.blocks)
    }

    /// What leads from a leaf to the root: the sibling at every level, from the leaf up. `None` when there is
    /// no such leaf.
    #[must_use]
    pub fn path(&self, index: u32, leaves: impl Fn(Range<u32>) -> Vec<Digest>) -> Option<Vec<Digest>> {
        if index >= self.count {
            return None;
        }
        let mut path = Vec::new();
        climb(
            &hashes_of(index / BLOCK, self.count, &leaves),
            index % BLOCK,
            &mut path,
        );
        // All blocks except the last are full and a power of two long, so their roots are nodes of the tree.
        climb(&self.blocks, index / BLOCK, &mut path);
        Some(path)
    }
}

/// Whether `path` leads from this leaf, the `index`-th (from 0) of `count`, to `root` (RFC 9162, section
/// 2.1.3.2).
#[must_use]
pub fn leads_to(root: &Digest, index: u32, count: u32, leaf: &Digest, path: &[Digest]) -> bool {
    if index >= count {
        return false;
    }
    let (mut at, mut last) = (index, count - 1);
    let mut hash = leaf_hash(leaf);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

fn hashes_of(block: u32, count: u32, leaves: impl Fn(Range<u32>) -> Vec<Digest>) -> Vec<Digest> {
    let first = block * BLOCK;
    leaves(first..count.min(first.saturating_add(BLOCK)))
        .iter()
        .map(leaf_hash)
        .collect()
}

fn root_of(hashes: &[Digest]) -> Digest {
    match hashes {
        [] => Digest(sha256(&[])),
        [only] => *only,
        _ => {
            let (left, right) = hashes.split_at(left_part(hashes.len()));
            node_hash(&root_of(left), &root_of(right))
        }
    }
}

fn climb(hashes: &[Digest], index: u32, path: &mut Vec<Digest>) {
    if hashes.len() < 2 {
        return;
    }
    let split = left_part(hashes.len());
    let (left, right) = hashes.split_at(split);
    if (index as usize) < split {
        climb(left, index, path);
        path.push(root_of(right));
    } else {
        climb(
            right,
            index - u32::try_from(split).expect("an index of 32 bits is not before it"),
            path,
        );
        path.push(root_of(left));
    }
}

/// The greatest power of two below `len`.
fn left_part(len: usize) -> usize {
    len.next_power_of_two() / 2
}

fn leaf_hash(leaf: &Digest) -> Digest {
    let mut message = [0; 33];
    message[1..].copy_from_slice(&leaf.0);
    Digest(sha256(&message))
}

fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut message = [1; 65];
    message[1..33].copy_from_slice(&left.0);
    message[33..].copy_from_slice(&right.0);
    Digest(sha256(&message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(index: u32) -> Digest {
        Digest(sha256(&index.to_be_bytes()))
    }

    fn leaves(range: Range<u32>) -> Vec<Digest> {
        range.map(leaf).collect()
    }

    /// RFC 6962's definition, over the whole list.
    fn merkle_tree_hash(leaves: &[Digest]) -> [u8; 32] {
        match leaves {
            [] => sha256(&[]),
            [only] => sha256(&[&[0], only.0.as_slice()].concat()),
            _ => {
                let mut k = 1;
                while k * 2 < leaves.len() {
                    k *= 2;
                }
                sha256(
                    &[
                        [1].as_slice(),
                        &merkle_tree_hash(&leaves[..k]),
                        &merkle_tree_hash(&leaves[k..]),
                    ]
                    .concat(),
                )
            }
        }
    }

    #[test]
    fn the_root_follows_the_definition() {
        for count in [0, 1, 2, 3, 7, 8, 1_023, 1_024, 1_025, 2_048, 2_049, 5_000] {
            let all = leaves(0..count);
            assert_eq!(
                Tree::over(count, leaves).root().0,
                merkle_tree_hash(&all),
                "{count}"
            );
        }
    }

    #[test]
    fn a_path_proves_one_leaf_at_one_index() {
        for count in [1, 2, 3, 6, 1_024, 1_025, 3_100] {
            let tree = Tree::over(count, leaves);
            let root = tree.root();
            for index in (0..count)
                .step_by(if count > 100 { 97 } else { 1 })
                .chain([count - 1])
            {
                let path = tree.path(index, leaves).unwrap();
                assert!(
                    leads_to(&root, index, count, &leaf(index), &path),
                    "{index} of {count}"
                );
                assert!(!leads_to(&root, index, count, &leaf(index + 1), &path));
                assert!(!leads_to(&root, index + 1, count, &leaf(index), &path));
                for at in 0..path.len() {
                    let mut wrong = path.clone();
                    wrong[at].0[5] ^= 1;
                    assert!(!leads_to(&root, index, count, &leaf(index), &wrong));
                    assert!(
                        !leads_to(&root, index, count, &leaf(index), &path[..at]),
                        "a path that stops early"
                    );
                }
                assert!(!leads_to(
                    &root,
                    index,
                    count,
                    &leaf(index),
                    &[path.as_slice(), &[root]].concat()
                ));
            }
            assert_eq!(tree.path(count, leaves), None);
        }
    }
}
