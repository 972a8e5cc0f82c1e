//! Reads a pretix seating plan from JSON, and reports everything that is wrong with it.
//!
//! Editors write additional keys (`uuid`, `start_at`, ...), which are ignored. All other keys are read
//! strictly. A pretix *zone* is a section here, and its *category* a price zone. `attributes` on a seat is an
//! extension of the format.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::seating::plan::{
    document::{
        Area, AreaText, Attribute, Category, Circle, Document, Ellipse, Point, Polygon, Row, Seat, Zone,
    },
    errors::{JsonPath, PlanErrors, syntax_error},
    unique_json, validate_places,
};

/// Largest accepted plan; more seats are taken for a mistake.
pub(crate) const SEATS_MAX: usize = 100_000;
const TEXT_MAX: usize = 64;
const AREA_TEXT_MAX: usize = 256;
const AREAS_MAX: usize = 10_000;
const POINTS_MAX: usize = 10_000;
const CATEGORIES_MAX: usize = 1_000;
const JSON_BYTES_MAX: usize = 64 << 20;

/// Reads a file, or returns everything that is wrong with it.
pub(crate) fn read(json: &str) -> Result<Document, PlanErrors> {
    let mut errors = PlanErrors::default();
    if json.len() > JSON_BYTES_MAX {
        errors.add(
            &JsonPath::ROOT,
            format!("the file is larger than {} MiB", JSON_BYTES_MAX >> 20),
        );
        return Err(errors);
    }
    let value = match unique_json::read(json, &mut errors) {
        Ok(value) => value,
        Err(error) => return Err(syntax_error(json, &error)),
    };
    let document = Reader {
        errors: &mut errors,
        categories: HashSet::new(),
        guids: HashMap::new(),
    }
    .document(&value);
    validate_places::check(&value, &mut errors);
    match document {
        Some(document) if errors.is_empty() => Ok(document),
        _ => Err(errors),
    }
}

/// Reads values and collects errors on the way.
struct Reader<'e, 'v> {
    errors: &'e mut PlanErrors,
    categories: HashSet<&'v str>,
    /// Where each guid was first used: zone, row, seat.
    guids: HashMap<&'v str, [usize; 3]>,
}

impl<'v> Reader<'_, 'v> {
    fn document(&mut self, value: &'v Value) -> Option<Document> {
        let root = JsonPath::ROOT;
        let map = self.errors.object(value, &root)?;
        let name = self.errors.text(map, "name", &root, TEXT_MAX);
        let categories = self.categories(map);
        let (all_zones, mut zones) = (root.key("zones"), Vec::new());
        for (z, zone) in self.errors.list(map, "zones", &root).iter().enumerate() {
            zones.extend(self.zone(zone, &all_zones.index(z), z));
        }
        let seats: usize = zones
            .iter()
            .flat_map(|zone: &Zone| &zone.rows)
            .map(|row| row.seats.len())
            .sum();
        if seats == 0 && self.errors.is_empty() {
            self.errors.add(&root.key("zones"), "the plan has no seat".into());
        }
        if self.guids.len() > SEATS_MAX {
            self.errors.add(
                &root.key("zones"),
                format!("the plan has more than {SEATS_MAX} seats"),
            );
        }
        let size = match map.get("size") {
            None | Some(Value::Null) => Document::extent(&zones),
            Some(size) => self.errors.size(size, &root.key("size"))?,
        };
        Some(Document {
            name: name?,
            categories,
            zones,
            size,
        })
    }

    fn categories(&mut self, map: &'v Map<String, Value>) -> Vec<Category> {
        let (root, mut read) = (JsonPath::ROOT, Vec::new());
        let all = root.key("categories");
        let list = self.errors.list(map, "categories", &root);
        if list.len() > CATEGORIES_MAX {
            self.errors
                .add(&all, format!("more than {CATEGORIES_MAX} categories"));
        }
        for (c, category) in list.iter().enumerate().take(CATEGORIES_MAX) {
            let at = all.index(c);
            let Some(map) = self.errors.object(category, &at) else {
                continue;
            };
            let color = self.errors.color(map, "color", &at);
            let Some(name) = self.errors.text(map, "name", &at, TEXT_MAX) else {
                continue;
            };
            if name.is_empty() {
                self.errors.add(&at.key("name"), "must not be empty".into());
            }
            let is_duplicate = map
                .get("name")
                .and_then(Value::as_str)
                .is_some_and(|name| !self.categories.insert(name));
            if is_duplicate {
                self.errors
                    .add(&at.key("name"), format!("{name:?} is used twice"));
            }
            read.push(Category { name, color });
        }
        read
    }

    fn zone(&mut self, value: &'v Value, at: &JsonPath<'_>, z: usize) -> Option<Zone> {
        let map = self.errors.object(value, at)?;
        let name = self
            .errors
            .text_or_none(map, "name", at, TEXT_MAX)
            .unwrap_or_default();
        let position = self.errors.point_in(map, "position", at);
        let (all_rows, all_areas) = (at.key("rows"), at.key("areas"));
        let mut rows = Vec::new();
        for (r, row) in self.errors.list(map, "rows", at).iter().enumerate() {
            rows.extend(self.row(row, &all_rows.index(r), [z, r]));
        }
        let areas = match map.get("areas") {
            None | Some(Value::Null) => &[][..],
            Some(_) => self.errors.list(map, "areas", at),
        };
        if areas.len() > AREAS_MAX {
            self.errors
                .add(&all_areas, format!("more than {AREAS_MAX} areas"));
        }
        let areas = areas
            .iter()
            .take(AREAS_MAX)
            .enumerate()
            .filter_map(|(a, area)| self.area(area, &all_areas.index(a)))
            .collect();
        Some(Zone {
            name,
            position: position?,
            rows,
            areas,
        })
    }

    fn row(&mut self, value: &'v Value, at: &JsonPath<'_>, [z, r]: [usize; 2]) -> Option<Row> {
        let map = self.errors.object(value, at)?;
        let row_number = self.errors.text(map, "row_number", at, TEXT_MAX);
        let row_label = self.errors.text_or_none(map, "row_label", at, TEXT_MAX);
        let row_number_position = self.errors.text_or_none(map, "row_number_position", at, TEXT_MAX);
        let position = if map.contains_key("position") {
            self.errors.point_in(map, "position", at)
        } else {
            Some(Point::default())
        };
        let all = at.key("seats");
        let mut seats = Vec::new();
        for (s, seat) in self.errors.list(map, "seats", at).iter().enumerate() {
            if self.guids.len() > SEATS_MAX {
                break;
            }
            seats.extend(self.seat(seat, &all.index(s), [z, r, s]));
        }
        Some(Row {
            row_number: row_number?,
            row_label,
            row_number_position,
            position: position?,
            seats,
        })
    }

    fn seat(&mut self, value: &'v Value, at: &JsonPath<'_>, location: [usize; 3]) -> Option<Seat> {
        let map = self.errors.object(value, at)?;
        let seat_guid = self.errors.text(map, "seat_guid", at, TEXT_MAX);
        if let Some(guid) = map.get("seat_guid").and_then(Value::as_str) {
            if guid.is_empty() {
                self.errors.add(&at.key("seat_guid"), "must not be empty".into());
            } else if let Some([z, r, s]) = self.guids.insert(guid, location) {
                let message = format!("{guid:?} is used twice, first at zones[{z}].rows[{r}].seats[{s}]");
                self.errors.add(&at.key("seat_guid"), message);
                self.guids.insert(guid, [z, r, s]);
            }
        }
        let seat_number = self.errors.text(map, "seat_number", at, TEXT_MAX);
        let category = self.errors.text(map, "category", at, TEXT_MAX);
        if let Some(name) = &category
            && !self.categories.contains(name.as_str())
        {
            self.errors.add(
                &at.key("category"),
                format!("{name:?} is not one of the plan's categories"),
            );
        }
        let position = self.errors.point_in(map, "position", at);
        let radius = map
            .get("radius")
            .filter(|value| !value.is_null())
            .and_then(|value| self.errors.coordinate(value, &at.key("radius")));
        let attributes = self.attributes(map, at);
        Some(Seat {
            seat_guid: seat_guid?,
            seat_number: seat_number?,
            position: position?,
            category: category?,
            radius,
            attributes,
        })
    }

    fn attributes(&mut self, map: &'v Map<String, Value>, at: &JsonPath<'_>) -> Vec<Attribute> {
        let all = at.key("attributes");
        let list = match map.get("attributes") {
            None | Some(Value::Null) => return Vec::new(),
            Some(_) => self.errors.list(map, "attributes", at),
        };
        let mut read = Vec::new();
        for (a, name) in list.iter().enumerate() {
            match name.as_str().and_then(Attribute::from_name) {
                Some(attribute) if read.contains(&attribute) => {}
                Some(attribute) => read.push(attribute),
                None => self.errors.add(
                    &all.index(a),
                    "must be accessible, companion, restricted_view or aisle".into(),
                ),
            }
        }
        read
    }

    fn area(&mut self, value: &'v Value, at: &JsonPath<'_>) -> Option<Area> {
        let map = self.errors.object(value, at)?;
        let position = self.errors.point_in(map, "position", at);
        let rotation = map
            .get("rotation")
            .filter(|value| !value.is_null())
            .map_or(Some(0.0), |value| {
                self.errors.coordinate(value, &at.key("rotation"))
            });
        let mut area = Area {
            color: self.errors.color(map, "color", at),
            border_color: self.errors.color(map, "border_color", at),
            ..Area::default()
        };
        if map.contains_key("shape") {
            area.shape = self.shape_name(map, at)?;
            self.shape(map, at, &mut area)?;
            area.text = self.area_text(map, at, area.shape == "text");
        } else {
            self.legacy_rectangle(value, map, at, &mut area)?;
        }
        Some(Area {
            position: position?,
            rotation: rotation?,
            ..area
        })
    }

    /// Older files have no `shape`: their areas are rectangles with `width`, `height` and a plain `text`.
    fn legacy_rectangle(
        &mut self,
        value: &'v Value,
        map: &'v Map<String, Value>,
        at: &JsonPath<'_>,
        area: &mut Area,
    ) -> Option<()> {
        let size = self.errors.size(value, at)?;
        area.shape = "rectangle";
        area.rectangle = Some(size);
        area.text = self
            .errors
            .text_or_none(map, "text", at, AREA_TEXT_MAX)
            .filter(|text| !text.is_empty())
            .map(|text| AreaText {
                position: Point {
                    x: size.width / 2.0,
                    y: size.height / 2.0,
                },
                color: None,
                text,
                size: None,
            });
        Some(())
    }

    fn shape_name(&mut self, map: &'v Map<String, Value>, at: &JsonPath<'_>) -> Option<&'static str> {
        let shape = self.errors.text(map, "shape", at, TEXT_MAX)?;
        let known = ["rectangle", "circle", "ellipse", "polygon", "text"]
            .into_iter()
            .find(|known| *known == shape);
        if known.is_none() {
            self.errors.add(
                &at.key("shape"),
                format!("{shape:?} is not rectangle, circle, ellipse, polygon or text"),
            );
        }
        known
    }

    /// Reads the values of the area's shape.
    fn shape(&mut self, map: &'v Map<String, Value>, at: &JsonPath<'_>, area: &mut Area) -> Option<()> {
        let own = at.key(area.shape);
        match area.shape {
            "rectangle" => area.rectangle = Some(self.errors.size_in(map, "rectangle", at)?),
            "circle" => {
                let circle = self.errors.object_in(map, "circle", at)?;
                area.circle = Some(Circle {
                    radius: self.errors.coordinate_in(circle, "radius", &own)?,
                });
            }
            "ellipse" => {
                let ellipse = self.errors.object_in(map, "ellipse", at)?;
                area.ellipse = Some(Ellipse {
                    radius: self.errors.point_in(ellipse, "radius", &own)?,
                });
            }
            "polygon" => {
                let polygon = self.errors.object_in(map, "polygon", at)?;
                let (list, all) = (self.errors.list(polygon, "points", &own), own.key("points"));
                if list.len() > POINTS_MAX {
                    self.errors.add(&all, format!("more than {POINTS_MAX} points"));
                }
                let points = list
                    .iter()
                    .take(POINTS_MAX)
                    .enumerate()
                    .filter_map(|(p, point)| self.errors.point(point, &all.index(p)))
                    .collect();
                area.polygon = Some(Polygon { points });
            }
            _ => {}
        }
        Some(())
    }

    fn area_text(
        &mut self,
        map: &'v Map<String, Value>,
        at: &JsonPath<'_>,
        required: bool,
    ) -> Option<AreaText> {
        if !required && map.get("text").is_none_or(Value::is_null) {
            return None;
        }
        let own = at.key("text");
        let map = self.errors.object_in(map, "text", at)?;
        let text = self.errors.text(map, "text", &own, AREA_TEXT_MAX)?;
        let position = if map.contains_key("position") {
            self.errors.point_in(map, "position", &own)?
        } else {
            Point::default()
        };
        let size = map
            .get("size")
            .filter(|value| !value.is_null())
            .and_then(|value| self.errors.coordinate(value, &own.key("size")));
        (required || !text.is_empty()).then(|| AreaText {
            position,
            color: self.errors.color(map, "color", &own),
            text,
            size,
        })
    }
}

#[cfg(test)]
mod tests;
