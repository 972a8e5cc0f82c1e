//! Environment variables as overrides of configuration keys.

use toml::{Table, Value};

use crate::ops::config::{
    origins::append,
    problem::{ConfigError, Problem},
};

/// The prefix of all variables.
pub(super) const ENV_PREFIX: &str = "STAGEDOOR__";

/// Sets the key that the variable names; returns the key's path.
pub(super) fn apply_variable(
    effective: &mut Table,
    variable: &str,
    text: &str,
) -> Result<String, ConfigError> {
    let refused = |message: &str| ConfigError {
        problems: vec![Problem {
            key: variable.to_owned(),
            source: "environment".to_owned(),
            message: message.to_owned(),
        }],
    };
    let names: Vec<String> = variable[ENV_PREFIX.len()..]
        .split("__")
        .map(str::to_lowercase)
        .collect();
    let Some(((last, sections), first)) = names.split_last().zip(names.first()) else {
        return Err(refused("must name a key"));
    };
    if names.iter().any(String::is_empty) {
        return Err(refused("must look like STAGEDOOR__SECTION__KEY"));
    }
    let mut path = if sections.is_empty() {
        String::new()
    } else {
        first.clone()
    };
    let mut slot: &mut Value = if let Some(section) = sections.first() {
        effective
            .entry(section.clone())
            .or_insert_with(|| Value::Table(Table::new()))
    } else {
        let value = parse_variable(text, effective.get(last));
        effective.insert(last.clone(), value);
        return Ok(last.clone());
    };
    for name in sections.iter().skip(1) {
        append(&mut path, name);
        slot = child(slot, name).ok_or_else(|| refused("its section does not exist"))?;
    }
    append(&mut path, last);
    let slot = child(slot, last).ok_or_else(|| refused("its section does not exist"))?;
    *slot = parse_variable(text, Some(slot));
    Ok(path)
}

/// The entry of that name, created when missing, or the list element of that index, which must exist.
fn child<'v>(value: &'v mut Value, name: &str) -> Option<&'v mut Value> {
    match value {
        Value::Table(table) => {
            // Variables are upper case, but a price zone's name may be in any case.
            let key = table
                .keys()
                .find(|key| key.eq_ignore_ascii_case(name))
                .map_or(name, String::as_str)
                .to_owned();
            Some(table.entry(key).or_insert_with(|| Value::Table(Table::new())))
        }
        Value::Array(list) => list.get_mut(name.parse::<usize>().ok()?),
        _ => None,
    }
}

/// Parses a variable's text as a TOML value. Stays a string where the present value is one: a password may be
/// `12345`.
fn parse_variable(text: &str, present: Option<&Value>) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"));
    match (parsed, present) {
        (Some(value @ Value::String(_)), _) => value,
        (Some(_), Some(Value::String(_))) | (None, _) => Value::String(text.to_owned()),
        (Some(value), _) => value,
    }
}
