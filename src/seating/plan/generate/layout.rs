//! Where the seats of a generated venue are: sections, rows and positions around the origin, the stage at the
//! top.

use std::f64::consts::PI;

/// Distance between neighboring seats, in pixels.
const SPACING: f64 = 20.0;
/// Distance between rows, in pixels.
pub(super) const PITCH: f64 = 22.0;
/// Width of an aisle between blocks, in seats.
const AISLE_SEATS: f64 = 1.4;

pub(super) struct Section {
    pub(super) name: String,
    /// Prefix of the seats' guids.
    pub(super) code: String,
    pub(super) rows: Vec<Vec<SeatPosition>>,
    pub(super) restricted: bool,
    /// Price zone and number of rows from the front on; the last entry reaches to the back.
    pub(super) zones: Vec<(usize, usize)>,
    /// The row with wheelchair spaces at both ends.
    pub(super) accessible_row: Option<usize>,
}

#[derive(Clone, Copy)]
pub(super) struct SeatPosition {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) at_aisle: bool,
}

/// A wedge of concentric rows around the origin; `squash` makes the circles ovals. Angles are in radians.
struct Wedge {
    from: f64,
    to: f64,
    radius: f64,
    squash: (f64, f64),
    /// Blocks of a row, with aisles between them.
    blocks: usize,
}

pub(super) fn theatre(seats: usize) -> Vec<Section> {
    let balcony = if seats >= 60 { seats * 3 / 10 } else { 0 };
    let span = PI * 0.5;
    let depth = SPACING * (10.0 + count(seats).sqrt() / 5.0);
    let wedge = |radius| Wedge {
        from: PI / 2.0 - span / 2.0,
        to: PI / 2.0 + span / 2.0,
        radius,
        squash: (1.0, 1.0),
        blocks: 3,
    };
    let stalls = wedge(depth).fill(seats - balcony);
    let rows = stalls.len();
    let back = depth + PITCH * (count(rows) + 4.0);
    let mut sections = vec![Section {
        name: "Stalls".into(),
        code: "S".into(),
        accessible_row: Some(last_long(&stalls)),
        rows: stalls,
        restricted: false,
        zones: vec![(0, rows.div_ceil(4)), (1, rows.div_ceil(3)), (2, usize::MAX)],
    }];
    if balcony > 0 {
        let rows = wedge(back).fill(balcony);
        sections.push(Section {
            name: "Balcony".into(),
            code: "B".into(),
            accessible_row: None,
            restricted: false,
            zones: vec![(2, rows.len().div_ceil(2)), (3, usize::MAX)],
            rows,
        });
    }
    sections
}

/// The proportions of a venue with a floor and rings.
pub(super) struct Bowl {
    /// Percent of the seats.
    floor: usize,
    floor_columns: usize,
    rings: &'static [Ring],
    squash: (f64, f64),
    /// At full size.
    seats_per_section: usize,
}

struct Ring {
    /// Percent of the seats.
    share: usize,
    sections_max: usize,
    /// Price zones of the front rows and of the back rows.
    zones: [usize; 2],
}

pub(super) const ARENA: Bowl = Bowl {
    floor: 22,
    floor_columns: 3,
    rings: &[
        Ring {
            share: 40,
            sections_max: 24,
            zones: [1, 2],
        },
        Ring {
            share: 38,
            sections_max: 26,
            zones: [2, 3],
        },
    ],
    squash: (1.0, 1.12),
    seats_per_section: 200,
};

pub(super) const STADIUM: Bowl = Bowl {
    floor: 18,
    floor_columns: 4,
    rings: &[
        Ring {
            share: 26,
            sections_max: 26,
            zones: [1, 2],
        },
        Ring {
            share: 28,
            sections_max: 28,
            zones: [2, 2],
        },
        Ring {
            share: 28,
            sections_max: 30,
            zones: [3, 3],
        },
    ],
    squash: (1.0, 1.25),
    seats_per_section: 400,
};

/// Angle to either side of the stage in which the rings have no seats.
const STAGE_GAP: f64 = PI * 0.16;

pub(super) fn around_the_floor(seats: usize, bowl: &Bowl) -> Vec<Section> {
    let floor = (seats * bowl.floor / 100).max(1);
    let (mut sections, reach) = floor_blocks(floor, bowl);
    let mut left = seats - floor;
    let mut radius = reach + 5.0 * PITCH;
    for (r, ring) in bowl.rings.iter().enumerate() {
        let last = r + 1 == bowl.rings.len();
        let ring_seats = if last {
            left
        } else {
            (seats * ring.share / 100).min(left)
        };
        left -= ring_seats;
        let parts = (ring_seats / bowl.seats_per_section)
            .clamp(3, ring.sections_max)
            .min(ring_seats.max(1));
        let span = (2.0 * PI - 2.0 * STAGE_GAP) / count(parts);
        // An aisle on each side of a section, as an angle at its first row.
        let aisle = AISLE_SEATS * SPACING / radius;
        let mut rows_max = 0;
        for part in 0..parts {
            let share = share_of(ring_seats, parts, part);
            if share == 0 {
                continue;
            }
            // Angles run clockwise from the stage, which is at the top.
            let from = -PI / 2.0 + STAGE_GAP + span * count(part);
            let wedge = Wedge {
                from: from + aisle / 2.0,
                to: from + span - aisle / 2.0,
                radius,
                squash: bowl.squash,
                blocks: 1,
            };
            let rows = wedge.fill(share);
            rows_max = rows_max.max(rows.len());
            let name = format!("{}", (r + 1) * 100 + part + 1);
            sections.push(Section {
                code: name.clone(),
                name,
                restricted: part == 0 || part + 1 == parts,
                zones: vec![
                    (ring.zones[0], rows.len().div_ceil(2)),
                    (ring.zones[1], usize::MAX),
                ],
                accessible_row: (r == 0).then(|| last_long(&rows)),
                rows,
            });
        }
        radius += PITCH * (count(rows_max) + 3.5);
    }
    sections
}

/// Blocks on the floor, and how far from the origin they reach.
fn floor_blocks(seats: usize, bowl: &Bowl) -> (Vec<Section>, f64) {
    let columns = bowl.floor_columns.min(seats);
    let deep = (seats / (bowl.seats_per_section * columns)).clamp(1, 4);
    let blocks = columns * deep;
    let wide = whole((count(seats) / count(blocks)).sqrt().ceil()).max(1);
    let tall = seats.div_ceil(blocks).div_ceil(wide);
    let (block_width, block_height) = (SPACING * (count(wide) + 2.0), PITCH * (count(tall) + 2.0));
    let (left, top) = (
        -block_width * count(columns) / 2.0,
        -block_height * count(deep) / 2.0,
    );
    let mut sections = Vec::new();
    for block in 0..blocks {
        let share = share_of(seats, blocks, block);
        if share == 0 {
            continue;
        }
        let x = left + block_width * (count(block % columns) + 0.5);
        let y = top + block_height * count(block / columns) + PITCH;
        let mut rows = Vec::new();
        while rows.len() * wide < share {
            let in_row = wide.min(share - rows.len() * wide);
            let row_y = y + PITCH * count(rows.len());
            let position = |i: usize| SeatPosition {
                x: x + SPACING * (count(i) - count(in_row - 1) / 2.0),
                y: row_y,
                at_aisle: i == 0 || i + 1 == in_row,
            };
            rows.push((0..in_row).map(position).collect());
        }
        let front = block / columns == 0;
        sections.push(Section {
            name: format!("F{}", block + 1),
            code: format!("F{}", block + 1),
            accessible_row: front.then_some(0),
            restricted: false,
            zones: if front {
                vec![(0, usize::MAX)]
            } else {
                vec![(1, usize::MAX)]
            },
            rows,
        });
    }
    (sections, left.hypot(top))
}

impl Wedge {
    /// As many rows as the seats need; the last one may be short and is centered.
    fn fill(&self, seats: usize) -> Vec<Vec<SeatPosition>> {
        let (mut rows, mut left) = (Vec::new(), seats);
        while left > 0 {
            let radius = self.radius + PITCH * count(rows.len());
            let aisles = count(self.blocks - 1) * AISLE_SEATS;
            let room = whole((self.to - self.from) * radius / SPACING - aisles).max(1);
            let in_row = room.min(left);
            rows.push(self.row(radius, in_row));
            left -= in_row;
        }
        rows
    }

    fn row(&self, radius: f64, seats: usize) -> Vec<SeatPosition> {
        // The few seats behind the last full row are one block in the middle.
        let blocks = if seats < 5 * self.blocks { 1 } else { self.blocks };
        let (mut positions, mut along) = (Vec::with_capacity(seats), 0.0);
        for block in 0..blocks {
            let size = share_of(seats, blocks, block);
            for i in 0..size {
                positions.push((along, i == 0 || i + 1 == size));
                along += SPACING;
            }
            along += AISLE_SEATS * SPACING;
        }
        let middle = positions.last().map_or(0.0, |last| last.0) / 2.0;
        // From the audience's left to its right, so that numbers run in reading order for those who face the
        // stage.
        let angle = |along: f64| f64::midpoint(self.from, self.to) - (along - middle) / radius;
        let position = |(along, at_aisle): (f64, bool)| SeatPosition {
            x: self.squash.0 * radius * angle(along).cos(),
            y: self.squash.1 * radius * angle(along).sin(),
            at_aisle,
        };
        positions.into_iter().map(position).collect()
    }
}

/// The last row that is at least half as long as the longest.
fn last_long(rows: &[Vec<SeatPosition>]) -> usize {
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    rows.iter().rposition(|row| 2 * row.len() >= longest).unwrap_or(0)
}

/// Size of part number `part` when `whole` is divided as evenly as possible.
fn share_of(whole: usize, parts: usize, part: usize) -> usize {
    whole / parts + usize::from(part < whole % parts)
}

#[expect(clippy::cast_precision_loss, reason = "at most 100,000 of anything")]
fn count(of: usize) -> f64 {
    of as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small and clamped at zero"
)]
fn whole(value: f64) -> usize {
    value.max(0.0) as usize
}
