//! Turns the layout of a generated venue into a plan's document.

use crate::seating::plan::{
    document::{Area, AreaText, Attribute, Category, Document, Point, Row, Seat, Size, Zone},
    generate::layout::{PITCH, SeatPosition, Section},
};

const SEAT_RADIUS: f64 = 8.0;
/// Free space around the seats, in pixels.
const MARGIN: f64 = 80.0;
/// Price zones from the best on, with their colors.
const ZONES: [(&str, &str); 4] = [
    ("VIP", "#c2185b"),
    ("R", "#e65100"),
    ("S", "#1565c0"),
    ("A", "#2e7d32"),
];

/// The document of a venue with these sections.
pub(super) fn document(name: &str, sections: &[Section]) -> Document {
    let seats = || sections.iter().flat_map(|section| section.rows.iter().flatten());
    let min = |of: fn(&SeatPosition) -> f64| seats().map(of).fold(f64::INFINITY, f64::min);
    let max = |of: fn(&SeatPosition) -> f64| seats().map(of).fold(f64::NEG_INFINITY, f64::max);
    let (left, right, bottom) = (min(|seat| seat.x), max(|seat| seat.x), max(|seat| seat.y));
    // The stage is in front of the foremost seats near the middle.
    let front = seats()
        .filter(|seat| seat.x.abs() < (right - left) / 16.0)
        .map(|seat| seat.y)
        .fold(f64::INFINITY, f64::min);
    let front = if front.is_finite() {
        front
    } else {
        min(|seat| seat.y)
    };
    let stage = Size {
        width: ((right - left) * 0.22).clamp(200.0, 1_200.0).round(),
        height: ((right - left) * 0.06).clamp(80.0, 300.0).round(),
    };
    let stage_top = front - 3.0 * PITCH - stage.height;
    let top = stage_top.min(min(|seat| seat.y));
    let shift = Point {
        x: MARGIN - left,
        y: MARGIN - top,
    };
    let mut zones: Vec<Zone> = sections.iter().map(|section| section.zone(shift)).collect();
    let stage_position = Point {
        x: shift.x - stage.width / 2.0,
        y: shift.y + stage_top,
    };
    zones.insert(0, stage_zone(stage_position, stage));
    let size = Size {
        width: (right + shift.x + MARGIN).ceil(),
        height: (bottom + shift.y + MARGIN).ceil(),
    };
    Document {
        name: name.into(),
        categories: used_categories(&zones),
        zones,
        size,
    }
}

/// A zone without seats that shows the stage.
fn stage_zone(position: Point, size: Size) -> Zone {
    let area = Area {
        shape: "rectangle",
        position,
        color: Some("#37474f".into()),
        border_color: Some("#263238".into()),
        rectangle: Some(size),
        text: Some(AreaText {
            position: Point {
                x: size.width / 2.0,
                y: size.height / 2.0,
            },
            color: Some("#ffffff".into()),
            text: "STAGE".into(),
            size: Some(32.0),
        }),
        ..Area::default()
    };
    Zone {
        name: "Stage".into(),
        position: Point::default(),
        rows: Vec::new(),
        areas: vec![area],
    }
}

/// The price zones that at least one seat is in.
fn used_categories(zones: &[Zone]) -> Vec<Category> {
    let used = |name: &str| {
        zones
            .iter()
            .flat_map(|zone| &zone.rows)
            .flat_map(|row| &row.seats)
            .any(|seat| seat.category == name)
    };
    ZONES
        .iter()
        .filter(|(name, _)| used(name))
        .map(|(name, color)| Category {
            name: (*name).into(),
            color: Some((*color).into()),
        })
        .collect()
}

impl Section {
    fn zone(&self, shift: Point) -> Zone {
        let corner = self
            .rows
            .iter()
            .flatten()
            .fold((f64::INFINITY, f64::INFINITY), |(x, y), spot| {
                (x.min(spot.x), y.min(spot.y))
            });
        let position = Point {
            x: (corner.0 + shift.x).round(),
            y: (corner.1 + shift.y).round(),
        };
        let rows = self.rows.iter().enumerate().map(|(r, spots)| {
            let label = row_label(r);
            let seat = |(i, spot): (usize, &SeatPosition)| Seat {
                seat_guid: format!("{}-{label}-{}", self.code, i + 1),
                seat_number: (i + 1).to_string(),
                position: Point {
                    x: tenth(spot.x + shift.x - position.x),
                    y: tenth(spot.y + shift.y - position.y),
                },
                category: ZONES[self.zone_of_row(r)].0.into(),
                radius: Some(SEAT_RADIUS),
                attributes: self.attributes(r, i, *spot, spots.len()),
            };
            let seats = spots.iter().enumerate().map(seat).collect();
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
        for (zone, zone_rows) in &self.zones {
            rows = rows.saturating_add(*zone_rows);
            if row < rows {
                return *zone;
            }
        }
        ZONES.len() - 1
    }

    /// Wheelchair spaces are at both ends of the section's accessible row, each with a companion seat beside
    /// it.
    fn attributes(&self, row: usize, seat: usize, spot: SeatPosition, in_row: usize) -> Vec<Attribute> {
        let mut attributes = Vec::new();
        let from_end = seat.min(in_row - 1 - seat);
        if self.accessible_row == Some(row) && in_row >= 4 {
            attributes.extend([Attribute::Accessible, Attribute::Companion].get(from_end));
        }
        if self.restricted {
            attributes.push(Attribute::RestrictedView);
        }
        if spot.at_aisle {
            attributes.push(Attribute::Aisle);
        }
        attributes
    }
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

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
