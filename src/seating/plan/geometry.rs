//! Geometry of a plan: which seats are neighbors, and where the stage is.

use crate::seating::plan::document::Document;

/// A gap wider than this many usual ones is an aisle.
const AISLE: f32 = 1.8;

/// The seats of one row, by their position in the file, as runs of neighbors; and the row's median spacing,
/// if it has two seats or more.
pub(crate) fn runs(positions: &[(f32, f32)]) -> (Vec<Vec<usize>>, Option<f32>) {
    let order = in_order(positions);
    let gaps: Vec<f32> = order
        .windows(2)
        .map(|pair| distance(positions[pair[0]], positions[pair[1]]))
        .collect();
    let mut sorted = gaps.clone();
    sorted.sort_by(f32::total_cmp);
    let median = sorted.get(sorted.len().saturating_sub(1) / 2).copied();
    let aisle = median.unwrap_or_default() * AISLE;
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for (i, seat) in order.into_iter().enumerate() {
        match runs.last_mut() {
            Some(run) if gaps[i - 1] <= aisle => run.push(seat),
            _ => runs.push(vec![seat]),
        }
    }
    (runs, median)
}

/// The middle of the area labeled as the stage; the middle of the upper edge in a plan without one.
#[expect(
    clippy::cast_possible_truncation,
    reason = "plans are drawn to a hundredth of a pixel"
)]
pub(crate) fn stage(document: &Document) -> (f32, f32) {
    let labeled = document
        .zones
        .iter()
        .flat_map(|zone| zone.areas.iter().map(move |area| (zone, area)))
        .find(|(_, area)| {
            area.text.as_ref().is_some_and(|label| {
                ["stage", "bühne", "무대"]
                    .iter()
                    .any(|name| label.text.to_lowercase().contains(name))
            })
        });
    let Some((zone, area)) = labeled else {
        return (document.size.width as f32 / 2.0, 0.0);
    };
    let (x, y) = (
        zone.position.x + area.position.x,
        zone.position.y + area.position.y,
    );
    let middle = area
        .rectangle
        .map_or((0.0, 0.0), |size| (size.width / 2.0, size.height / 2.0));
    ((x + middle.0) as f32, (y + middle.1) as f32)
}

/// Center and radius of a circle around all positions, not the smallest one.
pub(crate) fn circle_around(positions: &[(f32, f32)]) -> ((f32, f32), f32) {
    let center = mean(positions);
    (
        center,
        positions
            .iter()
            .map(|position| distance(*position, center))
            .fold(0.0, f32::max),
    )
}

/// The row's seats from one end to the other. Most files list them in this order; otherwise they are sorted
/// along the row's main direction (the first principal component).
fn in_order(positions: &[(f32, f32)]) -> Vec<usize> {
    let as_listed: Vec<usize> = (0..positions.len()).collect();
    let (mx, my) = mean(positions);
    let (mut xx, mut xy, mut yy) = (0.0_f32, 0.0_f32, 0.0_f32);
    for (x, y) in positions {
        let (dx, dy) = (x - mx, y - my);
        (xx, xy, yy) = (xx + dx * dx, xy + dx * dy, yy + dy * dy);
    }
    let (sin, cos) = (0.5 * (2.0 * xy).atan2(xx - yy)).sin_cos();
    let mut sorted = as_listed.clone();
    let projection = |i: usize| positions[i].0 * cos + positions[i].1 * sin;
    sorted.sort_by(|a, b| projection(*a).total_cmp(&projection(*b)));
    // A row bent around a stage folds back on any straight line, so the shorter path through all seats is
    // taken.
    if length(positions, &as_listed) <= length(positions, &sorted) * 1.001 {
        as_listed
    } else {
        sorted
    }
}

fn length(positions: &[(f32, f32)], order: &[usize]) -> f32 {
    order
        .windows(2)
        .map(|pair| distance(positions[pair[0]], positions[pair[1]]))
        .sum()
}

fn distance(a: (f32, f32), b: (f32, f32)) -> f32 {
    (a.0 - b.0).hypot(a.1 - b.1)
}

#[expect(clippy::cast_precision_loss, reason = "a row has at most 100,000 seats")]
fn mean(positions: &[(f32, f32)]) -> (f32, f32) {
    let (x, y) = positions
        .iter()
        .fold((0.0, 0.0), |(x, y), position| (x + position.0, y + position.1));
    let n = positions.len().max(1) as f32;
    (x / n, y / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aisle_splits_a_row_and_a_shuffled_file_does_not() {
        let row = |xs: &[f32]| xs.iter().map(|x| (*x, x * 0.5)).collect::<Vec<_>>();
        assert_eq!(
            runs(&row(&[0.0, 10.0, 20.0, 50.0, 60.0])).0,
            [vec![0, 1, 2], vec![3, 4]]
        );
        let mut shuffled = runs(&row(&[20.0, 0.0, 10.0, 30.0])).0;
        assert_eq!(shuffled.len(), 1);
        if shuffled[0][0] == 3 {
            shuffled[0].reverse();
        }
        assert_eq!(shuffled[0], [1, 2, 0, 3]);
    }

    #[test]
    fn row_bent_into_a_ring_is_one_run() {
        let ring: Vec<(f32, f32)> = (0..30_u8)
            .map(|i| (f32::from(i) * 0.2).sin_cos())
            .map(|(x, y)| (100.0 * x, 100.0 * y))
            .collect();
        assert_eq!(runs(&ring).0, [(0..30).collect::<Vec<_>>()]);
    }

    #[test]
    fn row_of_one_seat_or_one_spot_is_one_run() {
        assert_eq!(runs(&[(1.0, 1.0)]).0, [vec![0]]);
        assert_eq!(runs(&[(1.0, 1.0), (1.0, 1.0)]).0.len(), 1);
        assert!(runs(&[]).0.is_empty());
    }
}
