//! The shape of a pretix seating plan as it is written and served.

use serde::{Serialize, Serializer};

/// A plan's file as it is served: known keys only, in a fixed order, coordinates to two decimals.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Document {
    pub(super) name: String,
    pub(super) categories: Vec<Category>,
    pub(super) zones: Vec<Zone>,
    pub(super) size: Size,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Category {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) color: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Zone {
    pub(super) name: String,
    pub(super) position: Point,
    pub(super) rows: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) areas: Vec<Area>,
}

#[derive(Clone, Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the format's names")]
pub(super) struct Row {
    pub(super) row_number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) row_label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) row_number_position: Option<String>,
    pub(super) position: Point,
    pub(super) seats: Vec<Seat>,
}

#[derive(Clone, Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the format's names")]
pub(super) struct Seat {
    pub(super) seat_guid: String,
    pub(super) seat_number: String,
    pub(super) position: Point,
    pub(super) category: String,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_number")]
    pub(super) radius: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) attributes: Vec<Attribute>,
}

/// What a buyer should know of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attribute {
    /// Room for a wheelchair.
    Accessible,
    /// Beside an accessible seat, for whoever comes along.
    Companion,
    RestrictedView,
    Aisle,
}

impl Attribute {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "accessible" => Self::Accessible,
            "companion" => Self::Companion,
            "restricted_view" => Self::RestrictedView,
            "aisle" => Self::Aisle,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Point {
    #[serde(serialize_with = "number")]
    pub(super) x: f64,
    #[serde(serialize_with = "number")]
    pub(super) y: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Size {
    #[serde(serialize_with = "number")]
    pub(super) width: f64,
    #[serde(serialize_with = "number")]
    pub(super) height: f64,
}

/// Something drawn that is not a seat: a stage, a bar, a wall.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Area {
    pub(super) shape: &'static str,
    pub(super) position: Point,
    #[serde(serialize_with = "number")]
    pub(super) rotation: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) color: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) border_color: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rectangle: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) circle: Option<Circle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ellipse: Option<Ellipse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) polygon: Option<Polygon>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<AreaText>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Circle {
    #[serde(serialize_with = "number")]
    pub(super) radius: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Ellipse {
    pub(super) radius: Point,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Polygon {
    pub(super) points: Vec<Point>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct AreaText {
    pub(super) position: Point,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) color: Option<String>,
    pub(super) text: String,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_number")]
    pub(super) size: Option<f64>,
}

impl Document {
    /// The size that the seats themselves need, for a file that gives none.
    pub(super) fn extent(zones: &[Zone]) -> Size {
        let seats = zones.iter().flat_map(|zone| {
            zone.rows.iter().flat_map(|row| {
                row.seats.iter().map(|seat| {
                    (
                        zone.position.x + row.position.x + seat.position.x,
                        zone.position.y + row.position.y + seat.position.y,
                    )
                })
            })
        });
        let (x, y) = seats.fold((0.0_f64, 0.0_f64), |(x, y), (seat_x, seat_y)| {
            (x.max(seat_x), y.max(seat_y))
        });
        Size {
            width: x + 40.0,
            height: y + 40.0,
        }
    }
}

/// Two decimals are a hundredth of a pixel: enough for any screen, and they keep files small.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    let value = rounded(*value);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded by COORDINATE_MAX, and checked to be whole"
    )]
    if value.fract() == 0.0 {
        serializer.serialize_i64(value as i64)
    } else {
        serializer.serialize_f64(value)
    }
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn some_number<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    number(&value.unwrap_or_default(), serializer)
}
