//! Where Redis stores a subject's number: hashes of a few hundred fields, which Redis keeps compact.

use crate::platform::redis::FencedConnection;

/// Where a subject's number is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// The hash's key.
    pub(super) key: String,
    /// The subject's field in it.
    pub(super) field: Vec<u8>,
}

/// How subjects are spread over buckets: the low bits of the subject's hash choose one of a power of two, the
/// other bits are the field, in as few bytes as hold them.
#[derive(Clone, Debug)]
pub(super) struct SubjectIndex {
    prefix: String,
    bits: u32,
}

impl SubjectIndex {
    pub(super) fn new(connection: &FencedConnection, bucket_count: u32) -> Self {
        Self {
            prefix: connection.key("subjects:"),
            bits: bucket_count.max(1).next_power_of_two().trailing_zeros(),
        }
    }

    /// Where a subject's number is stored.
    pub(super) fn bucket(&self, subject: u64) -> Bucket {
        let index = subject & ((1 << self.bits) - 1);
        let rest = (subject >> self.bits).to_be_bytes();
        let bytes = usize::try_from((64 - self.bits).div_ceil(8)).unwrap_or(8);
        Bucket {
            key: self.key(index),
            field: rest[8 - bytes..].to_vec(),
        }
    }

    /// The keys of all buckets.
    pub(super) fn keys(&self) -> impl Iterator<Item = String> {
        (0..1_u64 << self.bits).map(|index| self.key(index))
    }

    fn key(&self, index: u64) -> String {
        format!("{}{index}", self.prefix)
    }
}
