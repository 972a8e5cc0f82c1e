//! Venues for rehearsal: a theatre, an arena, a stadium, of exactly as many seats as asked, the same each time.

use std::f64::consts::PI;

use crate::seating::plan::{
    document::{Area, AreaText, Attribute, Category, Document, Point, Row, Seat, Size, Zone},
    pretix::SEATS_MAX,
};

const SPACING: f64 = 20.0;
const PITCH: f64 = 22.0;
const SEAT_RADIUS: f64 = 8.0;
const MARGIN: f64 = 80.0;
/// Steps between blocks, in seats.
const AISLE_SEATS: f64 = 1.4;
const ZONES: [(&str, &str); 4] = [
    ("VIP", "#c2185b"),
    ("R", "#e65100"),
    ("S", "#1565c0"),
    ("A", "#2e7d32"),
];
const SEATS_MIN: u32 = 10;

/// What is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VenueKind {
    /// Stalls and a balcony in curved rows before a stage.
    Theatre,
    /// Blocks on the floor and rings of numbered sections round it, a stage at one end.
    Arena,
    /// Blocks on the field and up to three rings; about a hundred sections at 66,000 seats.
    Stadium,
}

/// A plan as pretix JSON with exactly `seats` seats (at least 10, at most 100,000: beyond either, that many).
///
/// Price zones are VIP, R, S and A; some seats are accessible with a companion's beside, some have a restricted view.
pub fn generate(kind: VenueKind, seats: u32) -> String {
    let seats = seats.clamp(SEATS_MIN, u32::try_from(SEATS_MAX).unwrap_or(u32::MAX)) as usize;
    let sections = match kind {
        VenueKind::Theatre => theatre(seats),
        VenueKind::Arena => round_the_floor(seats, &ARENA),
        VenueKind::Stadium => round_the_floor(seats, &STADIUM),
    };
    let name = match kind {
        VenueKind::Theatre => "Theatre",
        VenueKind::Arena => "Arena",
        VenueKind::Stadium => "Stadium",
    };
    serde_json::to_string(&document(&format!("{name}, {seats} seats"), &sections))
        .expect("a document of plain structs serialises")
}

struct Section {
    name: String,
    /// The short form in a seat's guid.
    code: String,
    rows: Vec<Vec<Place>>,
    restricted: bool,
    /// Rows of the best, the next, ... zone; the last goes on to the back.
    zones: Vec<(usize, usize)>,
    accessible_row: Option<usize>,
}

#[derive(Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
    at_aisle: bool,
}

/// A wedge of rings round a point; `squash` makes the circle an oval.
struct Wedge {
    from: f64,
    to: f64,
    radius: f64,
    squash: (f64, f64),
    blocks: usize,
}

fn theatre(seats: usize) -> Vec<Section> {
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

/// Shares of the seats in percent, and how many sections at full size.
struct House {
    floor: usize,
    floor_columns: usize,
    rings: &'static [Ring],
    squash: (f64, f64),
    seats_per_section: usize,
}

struct Ring {
    share: usize,
    sections_max: usize,
    /// Its front rows' zone and its back rows'.
    zones: [usize; 2],
}

const ARENA: House = House {
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

const STADIUM: House = House {
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

/// How far the rings stay open for the stage, as an angle to either side of it.
const STAGE_GAP: f64 = PI * 0.16;

fn round_the_floor(seats: usize, house: &House) -> Vec<Section> {
    let floor = (seats * house.floor / 100).max(1);
    let (mut sections, reach) = floor_blocks(floor, house);
    let mut left = seats - floor;
    let mut radius = reach + 5.0 * PITCH;
    for (r, ring) in house.rings.iter().enumerate() {
        let last = r + 1 == house.rings.len();
        let of_ring = if last {
            left
        } else {
            (seats * ring.share / 100).min(left)
        };
        left -= of_ring;
        let parts = (of_ring / house.seats_per_section)
            .clamp(3, ring.sections_max)
            .min(of_ring.max(1));
        let span = (2.0 * PI - 2.0 * STAGE_GAP) / count(parts);
        // An aisle on each side of a section, as an angle at its first row.
        let aisle = AISLE_SEATS * SPACING / radius;
        let mut rows_max = 0;
        for part in 0..parts {
            let share = share_of(of_ring, parts, part);
            if share == 0 {
                continue;
            }
            // Angles run from the stage (up) clockwise round the house.
            let from = -PI / 2.0 + STAGE_GAP + span * count(part);
            let wedge = Wedge {
                from: from + aisle / 2.0,
                to: from + span - aisle / 2.0,
                radius,
                squash: house.squash,
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

/// Blocks on the floor, and how far from the middle they reach.
fn floor_blocks(seats: usize, house: &House) -> (Vec<Section>, f64) {
    let columns = house.floor_columns.min(seats);
    let deep = (seats / (house.seats_per_section * columns)).clamp(1, 4);
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
            let place = |i: usize| Place {
                x: x + SPACING * (count(i) - count(in_row - 1) / 2.0),
                y: row_y,
                at_aisle: i == 0 || i + 1 == in_row,
            };
            rows.push((0..in_row).map(place).collect());
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
    /// As many rows as `seats` seats need, the last one short and in the middle.
    fn fill(&self, seats: usize) -> Vec<Vec<Place>> {
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

    fn row(&self, radius: f64, seats: usize) -> Vec<Place> {
        // A few seats behind the last full row stand together in the middle.
        let blocks = if seats < 5 * self.blocks { 1 } else { self.blocks };
        let (mut places, mut along) = (Vec::with_capacity(seats), 0.0);
        for block in 0..blocks {
            let size = share_of(seats, blocks, block);
            for i in 0..size {
                places.push((along, i == 0 || i + 1 == size));
                along += SPACING;
            }
            along += AISLE_SEATS * SPACING;
        }
        let middle = places.last().map_or(0.0, |last| last.0) / 2.0;
        // From the house's left to its right, as seen from the stage: numbers run the way a fan reads them.
        let angle = |along: f64| f64::midpoint(self.from, self.to) - (along - middle) / radius;
        let place = |(along, at_aisle): (f64, bool)| Place {
            x: self.squash.0 * radius * angle(along).cos(),
            y: self.squash.1 * radius * angle(along).sin(),
            at_aisle,
        };
        places.into_iter().map(place).collect()
    }
}

fn document(name: &str, sections: &[Section]) -> Document {
    let places = || sections.iter().flat_map(|section| section.rows.iter().flatten());
    let least = |of: fn(&Place) -> f64| places().map(of).fold(f64::INFINITY, f64::min);
    let most = |of: fn(&Place) -> f64| places().map(of).fold(f64::NEG_INFINITY, f64::max);
    let (left, right, bottom) = (least(|it| it.x), most(|it| it.x), most(|it| it.y));
    // The stage stands before the foremost seats in the middle of the house.
    let front = places()
        .filter(|it| it.x.abs() < (right - left) / 16.0)
        .map(|it| it.y)
        .fold(f64::INFINITY, f64::min);
    let front = if front.is_finite() {
        front
    } else {
        least(|it| it.y)
    };
    let stage = Size {
        width: ((right - left) * 0.22).clamp(200.0, 1_200.0).round(),
        height: ((right - left) * 0.06).clamp(80.0, 300.0).round(),
    };
    let stage_top = front - 3.0 * PITCH - stage.height;
    let top = stage_top.min(least(|it| it.y));
    let shift = Point {
        x: MARGIN - left,
        y: MARGIN - top,
    };
    let stage_area = Area {
        shape: "rectangle",
        position: Point {
            x: shift.x - stage.width / 2.0,
            y: shift.y + stage_top,
        },
        color: Some("#37474f".into()),
        border_color: Some("#263238".into()),
        rectangle: Some(stage),
        text: Some(AreaText {
            position: Point {
                x: stage.width / 2.0,
                y: stage.height / 2.0,
            },
            color: Some("#ffffff".into()),
            text: "STAGE".into(),
            size: Some(32.0),
        }),
        ..Area::default()
    };
    let mut zones: Vec<Zone> = sections.iter().map(|section| section.zone(shift)).collect();
    let stage_zone = Zone {
        name: "Stage".into(),
        position: Point::default(),
        rows: Vec::new(),
        areas: vec![stage_area],
    };
    zones.insert(0, stage_zone);
    let used = |name: &str| {
        zones
            .iter()
            .flat_map(|it| &it.rows)
            .flat_map(|it| &it.seats)
            .any(|seat| seat.category == name)
    };
    let categories = ZONES
        .iter()
        .filter(|(name, _)| used(name))
        .map(|(name, color)| Category {
            name: (*name).into(),
            color: Some((*color).into()),
        })
        .collect();
    let size = Size {
        width: (right + shift.x + MARGIN).ceil(),
        height: (bottom + shift.y + MARGIN).ceil(),
    };
    Document {
        name: name.into(),
        categories,
        zones,
        size,
    }
}

impl Section {
    fn zone(&self, shift: Point) -> Zone {
        let corner = self
            .rows
            .iter()
            .flatten()
            .fold((f64::INFINITY, f64::INFINITY), |(x, y), it| {
                (x.min(it.x), y.min(it.y))
            });
        let position = Point {
            x: (corner.0 + shift.x).round(),
            y: (corner.1 + shift.y).round(),
        };
        let rows = self.rows.iter().enumerate().map(|(r, places)| {
            let label = row_label(r);
            let seat = |(i, place): (usize, &Place)| Seat {
                seat_guid: format!("{}-{label}-{}", self.code, i + 1),
                seat_number: (i + 1).to_string(),
                position: Point {
                    x: tenth(place.x + shift.x - position.x),
                    y: tenth(place.y + shift.y - position.y),
                },
                category: ZONES[self.zone_of_row(r)].0.into(),
                radius: Some(SEAT_RADIUS),
                attributes: self.attributes(r, i, *place, places.len()),
            };
            let seats = places.iter().enumerate().map(seat).collect();
            let row_number_position = Some("both".into());
            Row {
                row_number: label.clone(),
                row_label: None,
                row_number_position,
                position: Point::default(),
                seats,
            }
        });
        Zone {
            name: self.name.clone(),
            position,
            rows: rows.collect(),
            areas: Vec::new(),
        }
    }

    fn zone_of_row(&self, row: usize) -> usize {
        let mut rows = 0_usize;
        for (zone, of_zone) in &self.zones {
            rows = rows.saturating_add(*of_zone);
            if row < rows {
                return *zone;
            }
        }
        ZONES.len() - 1
    }

    /// At both ends of its row a section keeps a wheelchair's place and its companion's.
    fn attributes(&self, row: usize, seat: usize, place: Place, in_row: usize) -> Vec<Attribute> {
        let mut attributes = Vec::new();
        let from_end = seat.min(in_row - 1 - seat);
        if self.accessible_row == Some(row) && in_row >= 4 {
            attributes.extend([Attribute::Accessible, Attribute::Companion].get(from_end));
        }
        if self.restricted {
            attributes.push(Attribute::RestrictedView);
        }
        if place.at_aisle {
            attributes.push(Attribute::Aisle);
        }
        attributes
    }
}

/// The last row that is not a short rest.
fn last_long(rows: &[Vec<Place>]) -> usize {
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    rows.iter().rposition(|row| 2 * row.len() >= longest).unwrap_or(0)
}

/// A to Z, then AA, AB, ...
fn row_label(row: usize) -> String {
    let letter = |i: usize| char::from(b'A' + u8::try_from(i % 26).unwrap_or(0));
    if row < 26 {
        letter(row).to_string()
    } else {
        row_label(row / 26 - 1) + &letter(row).to_string()
    }
}

/// Part `part` of `whole` shared out as evenly as whole seats can be.
fn share_of(whole: usize, parts: usize, part: usize) -> usize {
    whole / parts + usize::from(part < whole % parts)
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seating::plan::Plan;

    #[test]
    fn every_venue_has_exactly_the_seats_that_were_asked_for() {
        for kind in [VenueKind::Theatre, VenueKind::Arena, VenueKind::Stadium] {
            for seats in [10, 11, 59, 60, 137, 500, 1_999, 15_000] {
                let plan = Plan::parse(&generate(kind, seats))
                    .unwrap_or_else(|errors| panic!("{kind:?} {seats}: {errors}"));
                assert_eq!(plan.seat_count(), seats as usize, "{kind:?}");
            }
        }
        assert_eq!(
            Plan::parse(&generate(VenueKind::Stadium, 100_000))
                .unwrap()
                .seat_count(),
            100_000
        );
    }

    #[test]
    fn a_large_stadium_has_about_a_hundred_sections_and_all_zones() {
        let plan = Plan::parse(&generate(VenueKind::Stadium, 66_000)).unwrap();
        assert!(
            (90..=110).contains(&plan.sections().len()),
            "{}",
            plan.sections().len()
        );
        assert_eq!(plan.zones(), ["VIP", "R", "S", "A"]);
        for attribute in [
            Attribute::Accessible,
            Attribute::Companion,
            Attribute::RestrictedView,
        ] {
            assert!(
                plan.seats().any(|seat| plan.has_attribute(seat, attribute)),
                "{attribute:?}"
            );
        }
        assert_eq!(plan.label(plan.index_of("101-A-12").unwrap()).row, "A");
        let theatre = Plan::parse(&generate(VenueKind::Theatre, 500)).unwrap();
        assert!(
            theatre
                .seats()
                .any(|seat| theatre.has_attribute(seat, Attribute::Accessible))
        );
    }

    #[test]
    fn the_theatre_that_comes_along_is_the_generated_one() {
        assert_eq!(
            include_str!("../../../config/venues/theatre-500.json").trim_end(),
            generate(VenueKind::Theatre, 500)
        );
    }

    #[test]
    fn no_two_seats_overlap() {
        for kind in [VenueKind::Theatre, VenueKind::Arena, VenueKind::Stadium] {
            let plan = Plan::parse(&generate(kind, 3_000)).unwrap();
            let mut places: Vec<(f32, f32)> = plan.seats().map(|seat| plan.position_of(seat)).collect();
            places.sort_by(|a, b| a.0.total_cmp(&b.0));
            for (i, a) in places.iter().enumerate() {
                for b in places[i + 1..].iter().take_while(|b| b.0 - a.0 < 16.0) {
                    assert!((a.0 - b.0).hypot(a.1 - b.1) > 15.0, "{kind:?}: {a:?} {b:?}");
                }
            }
        }
    }
}
