//! Recent delta frames, kept so that a subscriber can resume from a version.

use std::collections::VecDeque;

use bytes::Bytes;

const FRAMES_MAX: usize = 4_096;
const FRAME_BYTES_MAX: usize = 16 << 20;

/// The most recent frames, bounded by number and by bytes. Frames are numbered without gaps.
pub(super) struct Frames {
    kept: VecDeque<Frame>,
    bytes: usize,
    /// Number of the oldest kept frame.
    first: u64,
    /// Version that the latest frame leads to.
    published: u64,
}

/// One server-sent event. It brings a copy at any version from `after` on to version `to`.
pub(super) struct Frame {
    pub(super) after: u64,
    pub(super) to: u64,
    pub(super) sse: Bytes,
}

impl Frames {
    /// No frames yet; subscribers are at `version`.
    pub(super) fn new(version: u64) -> Self {
        Self {
            kept: VecDeque::new(),
            bytes: 0,
            first: 0,
            published: version,
        }
    }

    pub(super) fn published(&self) -> u64 {
        self.published
    }

    /// Oldest version from which the kept frames lead to the present without a gap.
    pub(super) fn oldest_version(&self) -> u64 {
        self.kept.front().map_or(self.published, |frame| frame.after)
    }

    /// Number of the oldest kept frame.
    pub(super) fn first_number(&self) -> u64 {
        self.first
    }

    /// Number that the next frame will get.
    pub(super) fn next_number(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Number of the first frame that a subscriber at `version` needs.
    pub(super) fn number_after(&self, version: u64) -> u64 {
        self.first + self.kept.partition_point(|frame| frame.to <= version) as u64
    }

    /// The frame with this number, if it is made and still kept.
    pub(super) fn get(&self, number: u64) -> Option<&Frame> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.kept.get(at)
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.published = frame.to;
        self.bytes += frame.sse.len();
        self.kept.push_back(frame);
        while self.kept.len() > FRAMES_MAX || (self.bytes > FRAME_BYTES_MAX && self.kept.len() > 1) {
            let Some(oldest) = self.kept.pop_front() else {
                break;
            };
            self.bytes -= oldest.sse.len();
            self.first += 1;
        }
    }
}
