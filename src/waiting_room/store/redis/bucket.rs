//! Where Redis keeps a subject's number.

use crate::platform::redis::FencedConnection;

/// Where a subject's number is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) key: String,
    pub(crate) field: Vec<u8>,
}

/// How subjects are spread over buckets: the low bits of the hash choose one of a power of two, the rest is the field,
/// in as few bytes as hold it.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    prefix: String,
    bits: u32,
}

impl Layout {
    pub(crate) fn new(line: &FencedConnection, buckets: u32) -> Self {
        Self {
            prefix: line.key("b:"),
            bits: buckets.max(1).next_power_of_two().trailing_zeros(),
        }
    }

    pub(crate) fn bucket(&self, subject: u64) -> Bucket {
        let index = subject & ((1 << self.bits) - 1);
        let rest = (subject >> self.bits).to_be_bytes();
        let bytes = usize::try_from((64 - self.bits).div_ceil(8)).unwrap_or(8);
        Bucket {
            key: self.key(index),
            field: rest[8 - bytes..].to_vec(),
        }
    }

    /// All there are.
    pub(crate) fn keys(&self) -> impl Iterator<Item = String> {
        (0..1_u64 << self.bits).map(|index| self.key(index))
    }

    fn key(&self, index: u64) -> String {
        format!("{}{index}", self.prefix)
    }
}
