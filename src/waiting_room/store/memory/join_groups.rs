//! The groups in which arrivals were journaled.

/// First number and count of every group, in the order of their numbers; 8 bytes each.
#[derive(Debug, Default)]
pub(super) struct JoinGroups(Vec<(u32, u32)>);

impl JoinGroups {
    pub(super) fn written(&mut self, first: u32, count: usize) {
        // Nearly always the last: only with several nodes may a lower group come after a higher one.
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
    fn an_arrival_is_found_in_its_group() {
        let mut join_groups = JoinGroups::default();
        for (first, count) in [(1, 3), (10, 2), (5, 1), (4, 1)] {
            join_groups.written(first, count);
        }
        let entry = |arrival| join_groups.of(arrival);
        assert_eq!(
            [entry(1), entry(3), entry(4), entry(5)],
            [Some((1, 3)), Some((1, 3)), Some((4, 1)), Some((5, 1))]
        );
        assert_eq!([entry(10), entry(11)], [Some((10, 2)); 2]);
        assert_eq!([entry(0), entry(6), entry(9), entry(12)], [None; 4]);
    }
}
