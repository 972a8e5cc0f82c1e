//! Checks that a ticket names one seat: labels of rows and numbers of seats are unique and cannot be mistaken
//! for each other, and no two seats are on one spot.

use std::collections::HashMap;

use serde_json::Value;

use crate::{
    kernel::look_alike_key,
    seating::plan::errors::{JsonPath, PlanErrors},
};

/// Adds an error for each place that cannot be told from another one. Values of wrong types are passed over:
/// reading the document reports them.
pub(super) fn check(plan: &Value, errors: &mut PlanErrors) {
    Places {
        errors,
        sections: Names::default(),
        rows: HashMap::new(),
        guids: Names::default(),
        spots: HashMap::new(),
    }
    .plan(plan);
}

/// Names that must differ in print, each with the place where it first was.
#[derive(Default)]
struct Names<'v>(HashMap<String, (&'v str, String)>);

impl<'v> Names<'v> {
    /// Records a name; returns the earlier one with the same look, and where it is.
    fn insert(&mut self, name: &'v str, at: impl FnOnce() -> String) -> Option<(&'v str, &str)> {
        match self.0.entry(look_alike_key(name)) {
            std::collections::hash_map::Entry::Occupied(first) => {
                let (earlier, at) = first.into_mut();
                Some((earlier, at))
            }
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert((name, at()));
                None
            }
        }
    }
}

struct Places<'e, 'v> {
    errors: &'e mut PlanErrors,
    sections: Names<'v>,
    /// The rows of each section.
    rows: HashMap<&'v str, Names<'v>>,
    guids: Names<'v>,
    /// Seats by their spot in hundredths of a pixel: zone, row, seat.
    spots: HashMap<(i64, i64), [usize; 3]>,
}

impl<'v> Places<'_, 'v> {
    fn plan(&mut self, plan: &'v Value) {
        let root = JsonPath::ROOT;
        let mut categories = Names::default();
        let all = root.key("categories");
        for (c, category) in list(plan, "categories").iter().enumerate() {
            let at = all.index(c);
            self.only_look_alike(&mut categories, text(category, "name"), &at.key("name"));
        }
        let all = root.key("zones");
        for (z, zone) in list(plan, "zones").iter().enumerate() {
            let at = all.index(z);
            let name = text(zone, "name").unwrap_or_default();
            let mut sections = std::mem::take(&mut self.sections);
            self.only_look_alike(&mut sections, Some(name), &at.key("name"));
            self.sections = sections;
            let rows = at.key("rows");
            for (r, row) in list(zone, "rows").iter().enumerate() {
                self.row(zone, row, name, &rows.index(r), [z, r]);
            }
        }
    }

    fn row(&mut self, zone: &'v Value, row: &'v Value, section: &'v str, at: &JsonPath<'_>, ix: [usize; 2]) {
        let key = match row.get("row_label") {
            None | Some(Value::Null) => "row_number",
            Some(_) => "row_label",
        };
        if let Some(label) = text(row, key) {
            let labels = self.rows.entry(section).or_default();
            if let Some((earlier, first)) = labels.insert(label, || at.to_string()) {
                let what = same_or_alike(label, earlier);
                let message = format!("row {label:?} {what} in section {section:?}, first at {first}");
                self.errors.add(&at.key(key), message);
            }
        }
        let mut numbers = Names::default();
        let all = at.key("seats");
        for (s, seat) in list(row, "seats").iter().enumerate() {
            let at = all.index(s);
            let mut guids = std::mem::take(&mut self.guids);
            self.only_look_alike(&mut guids, text(seat, "seat_guid"), &at.key("seat_guid"));
            self.guids = guids;
            if let Some(number) = text(seat, "seat_number")
                && let Some((earlier, first)) = numbers.insert(number, || at.to_string())
            {
                let message = format!("number {number:?} {} in this row, first at {first}", {
                    same_or_alike(number, earlier)
                });
                self.errors.add(&at.key("seat_number"), message);
            }
            self.spot([zone, row, seat], &at, [ix[0], ix[1], s]);
        }
    }

    /// Reports a name that looks like another one. Equal names are left to the check of each kind of name.
    fn only_look_alike(&mut self, names: &mut Names<'v>, name: Option<&'v str>, at: &JsonPath<'_>) {
        if let Some(name) = name
            && let Some((earlier, first)) = names.insert(name, || at.to_string())
            && name != earlier
        {
            let message = format!("{name:?} looks like {earlier:?} at {first}, but is written otherwise");
            self.errors.add(at, message);
        }
    }

    fn spot(&mut self, parts: [&Value; 3], at: &JsonPath<'_>, ix: [usize; 3]) {
        let sum = |axis: &str| -> Option<i64> {
            let mut sum = 0.0;
            for (part, required) in parts.into_iter().zip([true, false, true]) {
                match part.get("position") {
                    None if !required => {}
                    position => sum += position?.get(axis)?.as_f64()?,
                }
            }
            #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
            Some((sum * 100.0).round() as i64)
        };
        let Some(spot) = sum("x").zip(sum("y")) else {
            return;
        };
        let [z, r, s] = *self.spots.entry(spot).or_insert(ix);
        if [z, r, s] != ix {
            let message = format!("is the spot of another seat, zones[{z}].rows[{r}].seats[{s}]");
            self.errors.add(&at.key("position"), message);
        }
    }
}

fn same_or_alike(name: &str, earlier: &str) -> String {
    if name == earlier {
        "is there twice".to_owned()
    } else {
        format!("looks like {earlier:?}")
    }
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.as_str()
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}
