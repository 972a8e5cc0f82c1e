//! The groups in which arrivals were written to the journal.

/// The groups in which arrivals were written down, in the order of their numbers; 8 bytes each.
#[derive(Debug, Default)]
pub(super) struct Groups(Vec<(u32, u32)>);

impl Groups {
    pub(super) fn written(&mut self, first: u32, count: usize) {
        // Nearly always behind the last: only of several nodes' groups a lower one may come after a higher one.
        let at = self.0.partition_point(|group| group.0 < first);
        self.0
            .insert(at, (first, u32::try_from(count).unwrap_or(u32::MAX)));
    }

    /// First number and count.
    pub(super) fn of(&self, arrival: u32) -> Option<(u32, u32)> {
        let at = self
            .0
            .partition_point(|group| group.0 <= arrival)
            .checked_sub(1)?;
        Some(self.0[at]).filter(|(first, count)| arrival - first < *count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_found_in_the_group_that_she_was_written_with() {
        let mut groups = Groups::default();
        for (first, count) in [(1, 3), (10, 2), (5, 1), (4, 1)] {
            groups.written(first, count);
        }
        let found = |arrival| groups.of(arrival);
        assert_eq!(
            [found(1), found(3), found(4), found(5)],
            [Some((1, 3)), Some((1, 3)), Some((4, 1)), Some((5, 1))]
        );
        assert_eq!([found(10), found(11)], [Some((10, 2)); 2]);
        assert_eq!([found(0), found(6), found(9), found(12)], [None; 4]);
    }
}
