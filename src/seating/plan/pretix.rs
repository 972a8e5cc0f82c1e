//! The pretix seating plan JSON: its shape, and everything that can be wrong with a file.
//!
//! Editors differ in what they write besides (`uuid`, `start_at`, ...); such keys are passed over. What is read is read
//! strictly. A pretix *zone* is a section here, its *category* a price zone. `attributes` on a seat is an extension.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::seating::plan::{
    document::{
        Area, AreaText, Attribute, Category, Circle, Document, Ellipse, Point, Polygon, Row, Seat, Zone,
    },
    errors::{At, PlanErrors, syntax_error},
};

/// More seats than this are not a venue but a mistake.
pub(crate) const SEATS_MAX: usize = 100_000;
const TEXT_MAX: usize = 64;
const AREA_TEXT_MAX: usize = 256;
const AREAS_MAX: usize = 10_000;
const POINTS_MAX: usize = 10_000;
const CATEGORIES_MAX: usize = 1_000;
const JSON_BYTES_MAX: usize = 64 << 20;

/// Reads a file, or says everything that is wrong with it.
pub(crate) fn read(json: &str) -> Result<Document, PlanErrors> {
    let mut errors = PlanErrors::default();
    if json.len() > JSON_BYTES_MAX {
        errors.add(
            &At::ROOT,
            format!("the file is larger than {} MiB", JSON_BYTES_MAX >> 20),
        );
        return Err(errors);
    }
    let value: Value = match serde_json::from_str(json) {
        Ok(value) => value,
        Err(error) => return Err(syntax_error(json, &error)),
    };
    let document = Reader {
        errors: &mut errors,
        categories: HashSet::new(),
        guids: HashMap::new(),
    }
    .document(&value);
    match document {
        Some(document) if errors.is_empty() => Ok(document),
        _ => Err(errors),
    }
}

struct Reader<'e, 'v> {
    errors: &'e mut PlanErrors,
    categories: HashSet<&'v str>,
    /// Where each guid was first seen: zone, row, seat.
    guids: HashMap<&'v str, [usize; 3]>,
}

impl<'v> Reader<'_, 'v> {
    fn document(&mut self, value: &'v Value) -> Option<Document> {
        let root = At::ROOT;
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
        let (root, mut read) = (At::ROOT, Vec::new());
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
            let twice = map
                .get("name")
                .and_then(Value::as_str)
                .is_some_and(|it| !self.categories.insert(it));
            if twice {
                self.errors
                    .add(&at.key("name"), format!("{name:?} is used twice"));
            }
            read.push(Category { name, color });
        }
        read
    }

    fn zone(&mut self, value: &'v Value, at: &At<'_>, z: usize) -> Option<Zone> {
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

    fn row(&mut self, value: &'v Value, at: &At<'_>, [z, r]: [usize; 2]) -> Option<Row> {
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

    fn seat(&mut self, value: &'v Value, at: &At<'_>, place: [usize; 3]) -> Option<Seat> {
        let map = self.errors.object(value, at)?;
        let seat_guid = self.errors.text(map, "seat_guid", at, TEXT_MAX);
        if let Some(guid) = map.get("seat_guid").and_then(Value::as_str) {
            if guid.is_empty() {
                self.errors.add(&at.key("seat_guid"), "must not be empty".into());
            } else if let Some([z, r, s]) = self.guids.insert(guid, place) {
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
            .filter(|it| !it.is_null())
            .and_then(|it| self.errors.coordinate(it, &at.key("radius")));
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

    fn attributes(&mut self, map: &'v Map<String, Value>, at: &At<'_>) -> Vec<Attribute> {
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

    fn area(&mut self, value: &'v Value, at: &At<'_>) -> Option<Area> {
        let map = self.errors.object(value, at)?;
        let position = self.errors.point_in(map, "position", at);
        let rotation = map
            .get("rotation")
            .filter(|it| !it.is_null())
            .map_or(Some(0.0), |it| self.errors.coordinate(it, &at.key("rotation")));
        let mut area = Area {
            color: self.errors.color(map, "color", at),
            border_color: self.errors.color(map, "border_color", at),
            ..Area::default()
        };
        // Before areas had shapes they were rectangles with `width`, `height` and a plain `text`.
        if !map.contains_key("shape") {
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
            return Some(Area {
                position: position?,
                rotation: rotation?,
                ..area
            });
        }
        let shape = self.errors.text(map, "shape", at, TEXT_MAX)?;
        area.shape = ["rectangle", "circle", "ellipse", "polygon", "text"]
            .into_iter()
            .find(|known| *known == shape)
            .or_else(|| {
                self.errors.add(
                    &at.key("shape"),
                    format!("{shape:?} is not rectangle, circle, ellipse, polygon or text"),
                );
                None
            })?;
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
        area.text = self.area_text(map, at, area.shape == "text");
        Some(Area {
            position: position?,
            rotation: rotation?,
            ..area
        })
    }

    fn area_text(&mut self, map: &'v Map<String, Value>, at: &At<'_>, required: bool) -> Option<AreaText> {
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
            .filter(|it| !it.is_null())
            .and_then(|it| self.errors.coordinate(it, &own.key("size")));
        (required || !text.is_empty()).then(|| AreaText {
            position,
            color: self.errors.color(map, "color", &own),
            text,
            size,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::seating::plan::Plan;

    fn small() -> Value {
        let seat = |guid: &str, x: i32, category: &str| json!({"seat_guid": guid, "seat_number": "1", "category": category, "uuid": "u", "position": {"x": x, "y": 0}});
        json!({
            "name": "Small", "size": {"width": 100, "height": 50}, "version": 3,
            "categories": [{"name": "R", "color": "#f00"}, {"name": "S", "color": "#00f"}],
            "zones": [{
                "name": "Stalls", "zone_id": "ground", "uuid": "z", "position": {"x": 10, "y": 5},
                "rows": [{"row_number": "A", "position": {"x": 0, "y": 0}, "seats": [seat("A-1", 0, "R"), seat("A-2", 10, "S")]}],
                "areas": [
                    {"shape": "ellipse", "position": {"x": 0, "y": 0}, "rotation": 0, "color": "#ccc", "ellipse": {"radius": {"x": 5, "y": 2}}},
                    {"width": 30, "height": 10, "position": {"x": 1, "y": 1}, "text": "STAGE"},
                ],
            }],
        })
    }

    fn errors_of(plan: &Value) -> Vec<String> {
        let errors = Plan::parse(&plan.to_string()).expect_err("something is wrong with it");
        errors
            .iter()
            .map(|it| format!("{}: {}", it.place, it.message))
            .collect()
    }

    fn wrong(at: &str, value: Value) -> Vec<String> {
        let mut plan = small();
        *plan.pointer_mut(at).unwrap() = value;
        errors_of(&plan)
    }

    #[test]
    fn what_editors_write_is_read_and_served_without_what_nobody_reads() {
        let plan = Plan::parse(&small().to_string()).unwrap();
        let seat = plan.index_of("A-2").unwrap();
        assert_eq!(
            (plan.seat_count(), plan.zone_of(seat), plan.section_of(seat)),
            (2, "S", "Stalls")
        );
        assert_eq!((plan.label(seat).row, plan.position_of(seat)), ("A", (20.0, 5.0)));
        let served = served(&plan);
        assert!(
            served.contains(r#""rectangle":{"width":30,"height":10}"#)
                && served.contains(r#""text":"STAGE""#),
            "{served}"
        );
        assert!(
            !served.contains("uuid") && !served.contains("version"),
            "{served}"
        );
        let again = Plan::parse(&served).unwrap();
        assert_eq!(again.hash(), plan.hash(), "what is served is what is hashed");
        assert_eq!(plan.hash().len(), 16);
    }

    fn served(plan: &Plan) -> String {
        std::io::read_to_string(flate2::read::GzDecoder::new(&plan.json_gzip()[..])).unwrap()
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_and_where() {
        let mut plan = small();
        plan["zones"][0]["rows"][0]["seats"][1]["seat_guid"] = json!("A-1");
        plan["zones"][0]["rows"][0]["seats"][0]["category"] = json!("Gold");
        plan["zones"][0]["position"]["x"] = json!(1e7);
        plan["zones"][0]["rows"][0]
            .as_object_mut()
            .unwrap()
            .remove("row_number");
        plan["zones"][0]["areas"][0]["color"] = json!("red;background:url(x)");
        assert_eq!(
            errors_of(&plan),
            [
                "zones[0].position.x: 10000000 is not within 1000000 pixels",
                "zones[0].rows[0].row_number: is missing",
                "zones[0].rows[0].seats[0].category: \"Gold\" is not one of the plan's categories",
                "zones[0].rows[0].seats[1].seat_guid: \"A-1\" is used twice, first at zones[0].rows[0].seats[0]",
                "zones[0].areas[0].color: \"red;background:url(x)\" is not a colour",
            ]
        );
    }

    #[test]
    fn each_rule_has_its_word() {
        let guid = "/zones/0/rows/0/seats/0/seat_guid";
        assert!(wrong(guid, json!(""))[0].contains("must not be empty"));
        assert!(wrong(guid, json!("A\u{7}1"))[0].contains("control character"));
        assert!(wrong(guid, json!("x".repeat(65)))[0].contains("longer than 64"));
        assert!(wrong(guid, json!(7))[0].contains("must be a text"));
        assert!(wrong("/zones/0/rows/0/seats/0/position/x", json!("7"))[0].contains("must be a number"));
        assert!(wrong("/zones/0/rows/0/seats", json!([]))[0].contains("no seat"));
        assert!(wrong("/zones", json!({}))[0].contains("must be a list"));
        assert!(wrong("/categories/1/name", json!("R"))[0].contains("used twice"));
        assert!(wrong("/zones/0/areas/0/shape", json!("star"))[0].contains("is not rectangle"));
        assert_eq!(errors_of(&json!([])), ["the plan: must be an object"]);
        let many: Vec<Value> = (0..=SEATS_MAX)
            .map(|i| json!({"seat_guid": i.to_string(), "seat_number": "", "category": "R", "position": {"x": 0, "y": 0}}))
            .collect();
        assert!(wrong("/zones/0/rows/0/seats", json!(many))[0].contains("more than 100000 seats"));
    }

    #[test]
    fn broken_json_is_placed_by_line_and_column() {
        for (text, place, word) in [
            ("{\n  \"name\": NaN}", "line 2", "must be finite"),
            ("{\"x\": -Infinity}", "line 1", "must be finite"),
            ("{\"x\": 1e999}", "line 1", "too large"),
            ("{\"name\": \"a\",\n\n}", "line 3", "trailing comma"),
            ("", "line 1", "EOF"),
        ] {
            let errors = Plan::parse(text).unwrap_err().to_string();
            assert!(
                errors.starts_with(place) && errors.contains(word),
                "{text:?}: {errors}"
            );
        }
    }

    /// Every value of the document, by JSON pointer.
    fn pointers(value: &Value, at: String, into: &mut Vec<String>) {
        match value {
            Value::Object(map) => map
                .iter()
                .for_each(|(key, it)| pointers(it, format!("{at}/{key}"), into)),
            Value::Array(list) => list
                .iter()
                .enumerate()
                .for_each(|(i, it)| pointers(it, format!("{at}/{i}"), into)),
            _ => {}
        }
        into.push(at);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,80}".prop_map(Value::from),
            Just(json!([])),
            Just(json!({})),
            Just(json!([{"x": 1}])),
        ]
    }

    proptest! {
        #[test]
        fn no_mutation_makes_it_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any_value()), 1..4)) {
            let mut plan = small();
            for (which, value) in changes {
                let mut all = Vec::new();
                pointers(&plan, String::new(), &mut all);
                *plan.pointer_mut(&all[which.index(all.len())]).unwrap() = value;
            }
            if let Ok(read) = Plan::parse(&plan.to_string()) {
                prop_assert!(read.seat_count() > 0);
                prop_assert!(Plan::parse(&served(&read)).is_ok(), "what is served can be read");
            }
        }

        #[test]
        fn no_cut_makes_it_panic(at in any::<prop::sample::Index>(), text in ".{0,3}") {
            let json = small().to_string();
            let at = at.index(json.len());
            let _ = Plan::parse(&format!("{}{text}{}", &json[..at], &json[at..]));
            prop_assert!(Plan::parse(&json[..at]).is_err());
        }
    }
}
