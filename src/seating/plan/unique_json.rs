//! Reads JSON whose objects have each key once. A parser that keeps the last of two values would sell another
//! plan than the one that the editor shows.

use std::{cell::RefCell, fmt};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::seating::plan::errors::{JsonPath, PlanErrors};

/// Reads a document and adds an error for each key that is there twice.
///
/// # Errors
/// When it is not JSON.
pub(super) fn read(json: &str, errors: &mut PlanErrors) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let found = RefCell::new(std::mem::take(errors));
    let value = Unique {
        at: &JsonPath::ROOT,
        errors: &found,
    }
    .deserialize(&mut deserializer);
    *errors = found.into_inner();
    let value = value?;
    deserializer.end()?;
    Ok(value)
}

/// Reads the value at a path.
#[derive(Clone, Copy)]
struct Unique<'p, 'e> {
    at: &'p JsonPath<'p>,
    errors: &'e RefCell<PlanErrors>,
}

impl<'de> DeserializeSeed<'de> for Unique<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let at = self.at.index(list.len());
            let next = Unique {
                at: &at,
                errors: self.errors,
            };
            match elements.next_element_seed(next)? {
                Some(element) => list.push(element),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let at = self.at.key(&key);
            let value = entries.next_value_seed(Unique {
                at: &at,
                errors: self.errors,
            })?;
            if map.contains_key(&key) {
                self.errors
                    .borrow_mut()
                    .add(&at, "is there twice in one object".into());
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
