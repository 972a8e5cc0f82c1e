//! The pretix seating plan format, as plans are served.

use serde::{Serialize, Serializer};

/// A whole plan: known keys only, in a fixed order, coordinates with two decimals.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = SeatingPlan)]
pub(crate) struct Document {
    pub(crate) name: String,
    pub(crate) categories: Vec<Category>,
    pub(crate) zones: Vec<Zone>,
    pub(crate) size: Size,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PlanCategory)]
pub(crate) struct Category {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) color: Option<String>,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PlanZone)]
pub(crate) struct Zone {
    pub(crate) name: String,
    pub(crate) position: Point,
    pub(crate) rows: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) areas: Vec<Area>,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PlanRow)]
#[expect(clippy::struct_field_names, reason = "the format's names")]
pub(crate) struct Row {
    pub(crate) row_number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) row_label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) row_number_position: Option<String>,
    pub(crate) position: Point,
    pub(crate) seats: Vec<Seat>,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PlanSeat)]
#[expect(clippy::struct_field_names, reason = "the format's names")]
pub(crate) struct Seat {
    pub(crate) seat_guid: String,
    pub(crate) seat_number: String,
    pub(crate) position: Point,
    pub(crate) category: String,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_number")]
    pub(crate) radius: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) attributes: Vec<Attribute>,
}

/// A property of a seat that customers should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = SeatAttribute)]
#[serde(rename_all = "snake_case")]
pub enum Attribute {
    /// Wheelchair space.
    Accessible,
    /// Beside a wheelchair space, for a companion.
    Companion,
    /// The stage is partly hidden.
    RestrictedView,
    /// At the end of a row or beside an aisle.
    Aisle,
}

impl Attribute {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "accessible" => Self::Accessible,
            "companion" => Self::Companion,
            "restricted_view" => Self::RestrictedView,
            "aisle" => Self::Aisle,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize, utoipa::ToSchema)]
#[schema(as = PlanPoint)]
pub(crate) struct Point {
    #[serde(serialize_with = "number")]
    pub(crate) x: f64,
    #[serde(serialize_with = "number")]
    pub(crate) y: f64,
}

#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PlanSize)]
pub(crate) struct Size {
    #[serde(serialize_with = "number")]
    pub(crate) width: f64,
    #[serde(serialize_with = "number")]
    pub(crate) height: f64,
}

/// A shape on the plan that is not a seat: a stage, a bar, a wall.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
#[schema(as = PlanArea)]
pub(crate) struct Area {
    pub(crate) shape: &'static str,
    pub(crate) position: Point,
    #[serde(serialize_with = "number")]
    pub(crate) rotation: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) color: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) border_color: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rectangle: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) circle: Option<Circle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ellipse: Option<Ellipse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) polygon: Option<Polygon>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<AreaText>,
}

#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PlanCircle)]
pub(crate) struct Circle {
    #[serde(serialize_with = "number")]
    pub(crate) radius: f64,
}

#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PlanEllipse)]
pub(crate) struct Ellipse {
    pub(crate) radius: Point,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PlanPolygon)]
pub(crate) struct Polygon {
    pub(crate) points: Vec<Point>,
}

#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PlanText)]
pub(crate) struct AreaText {
    pub(crate) position: Point,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) color: Option<String>,
    pub(crate) text: String,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_number")]
    pub(crate) size: Option<f64>,
}

impl Document {
    /// The size that the seats need, for a file without a size.
    pub(crate) fn extent(zones: &[Zone]) -> Size {
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

/// Rounds to two decimals, a hundredth of a pixel: enough for any screen, and files stay small.
pub(crate) fn rounded(value: f64) -> f64 {
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
