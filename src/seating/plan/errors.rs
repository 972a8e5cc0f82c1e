//! Errors in a plan's file with their paths, and checks of single JSON values that collect them. What a plan
//! as a whole must be is checked in `validate_pretix`.

use std::fmt;

use serde_json::{Map, Value};

use crate::{
    kernel::invisible_character,
    seating::plan::document::{Point, Size, rounded},
};

/// Errors reported at once. A file with more usually has one mistake many times.
const ERRORS_MAX: usize = 200;
/// Errors of one kind that are reported; further ones are counted.
const SIMILAR_MAX: usize = 5;
/// Largest accepted coordinate in pixels; more is taken for a typing error.
const COORDINATE_MAX: f64 = 1_000_000.0;

/// Everything that is wrong with a plan's file. Displays one line an error; of the errors of one kind, the
/// first few and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanErrors {
    errors: Vec<PlanError>,
    /// Further errors that are only counted.
    omitted: usize,
    kinds: Vec<ErrorKind>,
}

/// Errors that differ only in the place and in the quoted value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ErrorKind {
    path: String,
    message: String,
    count: usize,
}

/// One error in a plan's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// A JSON path such as `zones[2].rows[5].seats[3].seat_guid`, or `line 7, column 12`.
    pub path: String,
    /// What is wrong there, such as `must be a number`.
    pub message: String,
}

impl PlanErrors {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// The errors: keys that are there twice, then what cannot be read, then places that cannot be told
    /// apart, each in the order of the file. Of one kind, the first five.
    pub fn iter(&self) -> std::slice::Iter<'_, PlanError> {
        self.errors.iter()
    }

    pub(crate) fn add(&mut self, at: &JsonPath<'_>, message: String) {
        let path = at.to_string();
        let (kind_path, kind_message) = (without_indices(&path), without_values(&message));
        let known = self
            .kinds
            .iter_mut()
            .find(|kind| kind.path == kind_path && kind.message == kind_message);
        if let Some(kind) = known {
            kind.count += 1;
            if kind.count > SIMILAR_MAX {
                return;
            }
        } else if self.kinds.len() < ERRORS_MAX {
            self.kinds.push(ErrorKind {
                path: kind_path,
                message: kind_message,
                count: 1,
            });
        }
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(PlanError { path, message });
        } else {
            self.omitted += 1;
        }
    }
}

/// Reads one typed value each; a value of another type becomes an error and reads as `None` or as empty.
impl PlanErrors {
    pub(crate) fn object<'v>(
        &mut self,
        value: &'v Value,
        at: &JsonPath<'_>,
    ) -> Option<&'v Map<String, Value>> {
        if !value.is_object() {
            self.add(at, "must be an object".into());
        }
        value.as_object()
    }

    pub(crate) fn required<'v>(
        &mut self,
        map: &'v Map<String, Value>,
        key: &str,
        at: &JsonPath<'_>,
    ) -> Option<&'v Value> {
        if !map.contains_key(key) {
            self.add(&at.key(key), "is missing".into());
        }
        map.get(key)
    }

    pub(crate) fn object_in<'v>(
        &mut self,
        map: &'v Map<String, Value>,
        key: &str,
        at: &JsonPath<'_>,
    ) -> Option<&'v Map<String, Value>> {
        let value = self.required(map, key, at)?;
        self.object(value, &at.key(key))
    }

    pub(crate) fn list<'v>(
        &mut self,
        map: &'v Map<String, Value>,
        key: &str,
        at: &JsonPath<'_>,
    ) -> &'v [Value] {
        let Some(value) = self.required(map, key, at) else {
            return &[];
        };
        if !value.is_array() {
            self.add(&at.key(key), "must be a list".into());
        }
        value.as_array().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn text(
        &mut self,
        map: &Map<String, Value>,
        key: &str,
        at: &JsonPath<'_>,
        length_max: usize,
    ) -> Option<String> {
        let value = self.required(map, key, at)?;
        let Some(text) = value.as_str() else {
            self.add(&at.key(key), "must be a text".into());
            return None;
        };
        if text.chars().count() > length_max {
            self.add(&at.key(key), format!("is longer than {length_max} characters"));
        }
        if let Some(c) = invisible_character(text) {
            let kind = if c.is_control() {
                "a control"
            } else {
                "an invisible"
            };
            let message = format!("holds {kind} character (U+{:04X})", u32::from(c));
            self.add(&at.key(key), message);
        }
        Some(text.to_owned())
    }

    /// As [`PlanErrors::text`], for a key that may be missing or null.
    pub(crate) fn text_or_none(
        &mut self,
        map: &Map<String, Value>,
        key: &str,
        at: &JsonPath<'_>,
        length_max: usize,
    ) -> Option<String> {
        if map.get(key).is_none_or(Value::is_null) {
            None
        } else {
            self.text(map, key, at, length_max)
        }
    }

    /// A CSS color, without characters that could end it within a style.
    pub(crate) fn color(&mut self, map: &Map<String, Value>, key: &str, at: &JsonPath<'_>) -> Option<String> {
        let color = self.text_or_none(map, key, at, 64)?;
        if !color
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "#(),.% -".contains(c))
        {
            self.add(&at.key(key), format!("{color:?} is not a color"));
        }
        Some(color)
    }

    pub(crate) fn coordinate(&mut self, value: &Value, at: &JsonPath<'_>) -> Option<f64> {
        let Some(number) = value.as_f64() else {
            self.add(at, "must be a number".into());
            return None;
        };
        if !number.is_finite() || number.abs() > COORDINATE_MAX {
            self.add(at, format!("{number} is not within {COORDINATE_MAX} pixels"));
        }
        Some(rounded(number))
    }

    pub(crate) fn coordinate_in(
        &mut self,
        map: &Map<String, Value>,
        key: &str,
        at: &JsonPath<'_>,
    ) -> Option<f64> {
        let value = self.required(map, key, at)?;
        self.coordinate(value, &at.key(key))
    }

    pub(crate) fn point(&mut self, value: &Value, at: &JsonPath<'_>) -> Option<Point> {
        let map = self.object(value, at)?;
        let (x, y) = (self.coordinate_in(map, "x", at), self.coordinate_in(map, "y", at));
        Some(Point { x: x?, y: y? })
    }

    pub(crate) fn point_in(
        &mut self,
        map: &Map<String, Value>,
        key: &str,
        at: &JsonPath<'_>,
    ) -> Option<Point> {
        let value = self.required(map, key, at)?;
        self.point(value, &at.key(key))
    }

    pub(crate) fn size_in(&mut self, map: &Map<String, Value>, key: &str, at: &JsonPath<'_>) -> Option<Size> {
        let value = self.required(map, key, at)?;
        self.size(value, &at.key(key))
    }

    pub(crate) fn size(&mut self, value: &Value, at: &JsonPath<'_>) -> Option<Size> {
        let map = self.object(value, at)?;
        let (width, height) = (
            self.coordinate_in(map, "width", at),
            self.coordinate_in(map, "height", at),
        );
        let size = Size {
            width: width?,
            height: height?,
        };
        if size.width < 0.0 || size.height < 0.0 {
            self.add(at, "must not be negative".into());
        }
        Some(size)
    }
}

impl<'a> IntoIterator for &'a PlanErrors {
    type Item = &'a PlanError;
    type IntoIter = std::slice::Iter<'a, PlanError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for PlanErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            let line_break = if i == 0 { "" } else { "\n" };
            write!(f, "{line_break}{}: {}", error.path, error.message)?;
        }
        for kind in self.kinds.iter().filter(|kind| kind.count > SIMILAR_MAX) {
            write!(
                f,
                "\n{}: {} ({} times in all, {} shown)",
                kind.path, kind.message, kind.count, SIMILAR_MAX
            )?;
        }
        if self.omitted > 0 {
            write!(f, "\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for PlanErrors {}

/// A path whose indices are left out: `zones[].rows[].seats[].category`.
fn without_indices(path: &str) -> String {
    let mut within = false;
    path.chars()
        .filter(|c| {
            within = (within || *c == '[') && *c != ']';
            !within || *c == '['
        })
        .collect()
}

/// A message whose quoted values and numbers are replaced by `...`.
fn without_values(message: &str) -> String {
    let (mut kind, mut quoted, mut escaped) = (String::new(), false, false);
    for c in message.chars() {
        let ends_quote = c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        if quoted || ends_quote || c.is_ascii_digit() {
            if !kind.ends_with("...") {
                kind.push_str("...");
            }
        } else {
            kind.push(c);
        }
        quoted ^= ends_quote;
    }
    kind
}

/// A path in a JSON document. Built on the stack on the way down, and formatted only for an error.
pub(crate) struct JsonPath<'a> {
    parent: Option<&'a JsonPath<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl JsonPath<'static> {
    pub(crate) const ROOT: Self = Self {
        parent: None,
        step: Step::Root,
    };
}

impl<'a> JsonPath<'a> {
    pub(crate) fn key(&'a self, key: &'a str) -> Self {
        Self {
            parent: Some(self),
            step: Step::Key(key),
        }
    }

    pub(crate) fn index(&'a self, index: usize) -> Self {
        Self {
            parent: Some(self),
            step: Step::Index(index),
        }
    }
}

impl fmt::Display for JsonPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The root has no name of its own: paths begin with its first key.
        let above = self.parent.filter(|parent| parent.parent.is_some());
        match (&self.step, above) {
            (Step::Root, _) => f.write_str("the plan"),
            (Step::Key(key), None) => f.write_str(key),
            (Step::Key(key), Some(above)) => write!(f, "{above}.{key}"),
            (Step::Index(index), None) => write!(f, "[{index}]"),
            (Step::Index(index), Some(above)) => write!(f, "{above}[{index}]"),
        }
    }
}

/// The error of a file that is not JSON, with line and column.
pub(crate) fn syntax_error(json: &str, error: &serde_json::Error) -> PlanErrors {
    let line = json
        .lines()
        .nth(error.line().saturating_sub(1))
        .unwrap_or_default();
    let before = line
        .as_bytes()
        .get(..error.column().min(line.len()))
        .unwrap_or_default();
    let from_token = before
        .iter()
        .rposition(|b| b":,[ \t".contains(b))
        .map_or(line, |at| line.get(at + 1..).unwrap_or_default());
    let token = from_token.trim_start_matches(['-', '+']);
    let message = if ["NaN", "nan", "Infinity", "inf"]
        .iter()
        .any(|name| token.starts_with(name))
    {
        "NaN and Infinity are not JSON numbers; a coordinate must be finite".to_owned()
    } else if error.to_string().starts_with("number out of range") {
        "the number is too large to be a coordinate".to_owned()
    } else {
        let text = error.to_string();
        text.split(" at line ").next().unwrap_or_default().to_owned()
    };
    let path = format!("line {}, column {}", error.line(), error.column());
    PlanErrors {
        errors: vec![PlanError { path, message }],
        ..PlanErrors::default()
    }
}
