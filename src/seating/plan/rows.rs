//! Geometry of a plan: who sits beside whom, and where the stage is.

use crate::seating::plan::document::Document;

/// A gap wider than this many usual ones is an aisle.
const AISLE: f32 = 1.8;

/// The seats of one row, by their number in it, as runs of neighbours; and the row's median spacing, if it has two seats.
pub(crate) fn runs(places: &[(f32, f32)]) -> (Vec<Vec<usize>>, Option<f32>) {
    let order = along(places);
    let gaps: Vec<f32> = order
        .windows(2)
        .map(|pair| distance(places[pair[0]], places[pair[1]]))
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

/// The middle of the area that says STAGE; the middle of the upper edge in a plan that says nothing.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a pixel's hundredth is as fine as a plan gets"
)]
pub(crate) fn stage(document: &Document) -> (f32, f32) {
    let named = document
        .zones
        .iter()
        .flat_map(|zone| zone.areas.iter().map(move |area| (zone, area)))
        .find(|(_, area)| {
            area.text.as_ref().is_some_and(|it| {
                ["stage", "bühne", "무대"]
                    .iter()
                    .any(|name| it.text.to_lowercase().contains(name))
            })
        });
    let Some((zone, area)) = named else {
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

/// A circle that has all the places in it.
pub(crate) fn circle_around(places: &[(f32, f32)]) -> ((f32, f32), f32) {
    let centre = middle(places);
    (
        centre,
        places
            .iter()
            .map(|place| distance(*place, centre))
            .fold(0.0, f32::max),
    )
}

/// The row's seats from one end to the other. Files mostly name them so; where not, they are sorted along the row's main direction.
fn along(places: &[(f32, f32)]) -> Vec<usize> {
    let as_named: Vec<usize> = (0..places.len()).collect();
    let (mx, my) = middle(places);
    let (mut xx, mut xy, mut yy) = (0.0_f32, 0.0_f32, 0.0_f32);
    for (x, y) in places {
        let (dx, dy) = (x - mx, y - my);
        (xx, xy, yy) = (xx + dx * dx, xy + dx * dy, yy + dy * dy);
    }
    let (sin, cos) = (0.5 * (2.0 * xy).atan2(xx - yy)).sin_cos();
    let mut sorted = as_named.clone();
    let reach = |i: usize| places[i].0 * cos + places[i].1 * sin;
    sorted.sort_by(|a, b| reach(*a).total_cmp(&reach(*b)));
    // A row bent round a stage folds back on any straight line; the shorter way through all seats is the row.
    if length(places, &as_named) <= length(places, &sorted) * 1.001 {
        as_named
    } else {
        sorted
    }
}

fn length(places: &[(f32, f32)], order: &[usize]) -> f32 {
    order
        .windows(2)
        .map(|pair| distance(places[pair[0]], places[pair[1]]))
        .sum()
}

fn distance(a: (f32, f32), b: (f32, f32)) -> f32 {
    (a.0 - b.0).hypot(a.1 - b.1)
}

#[expect(clippy::cast_precision_loss, reason = "a row has at most 100,000 seats")]
fn middle(places: &[(f32, f32)]) -> (f32, f32) {
    let (x, y) = places.iter().fold((0.0, 0.0), |(x, y), it| (x + it.0, y + it.1));
    let n = places.len().max(1) as f32;
    (x / n, y / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aisle_parts_a_row_and_a_shuffled_file_does_not() {
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
    fn a_row_bent_into_a_ring_is_followed_round() {
        let ring: Vec<(f32, f32)> = (0..30_u8)
            .map(|i| (f32::from(i) * 0.2).sin_cos())
            .map(|(x, y)| (100.0 * x, 100.0 * y))
            .collect();
        assert_eq!(runs(&ring).0, [(0..30).collect::<Vec<_>>()]);
    }

    #[test]
    fn a_row_of_one_or_of_seats_on_one_spot_is_one_run() {
        assert_eq!(runs(&[(1.0, 1.0)]).0, [vec![0]]);
        assert_eq!(runs(&[(1.0, 1.0), (1.0, 1.0)]).0.len(), 1);
        assert!(runs(&[]).0.is_empty());
    }
}
