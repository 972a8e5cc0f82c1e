//! The configuration: built-in defaults, then a file, then the environment; anything unknown or impossible is refused
//! with its key, where it was written, and what is right.

mod checks;
mod sales;
mod sections;
mod storage;

use std::{collections::BTreeMap, fmt, fs, path::Path};

use serde_path_to_error::Segment;
use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

pub use self::storage::{
    DatabaseSettings, BoxOfficeSettings, DatabaseLocation, StoreKind, StoreSettings, OwnRedisSettings, RedisSettings,
    WaitingRoomSettings,
};
pub use sales::{DrawSettings, PerformanceSettings, QueueOrder, SaleSettings, SignIn};
pub use sections::{
    CheckoutSettings, DataSettings, DatabaseUrl, GatewayKind, GatewaySettings, HandoffSettings, KeysSettings,
    LimitSettings, LogFormat, LogSettings, ProofOfWorkSettings, Secret, ServerSettings, Settings,
    ShopSettings,
};

/// The reference: every key with its meaning, and the default of each.
pub const REFERENCE: &str = include_str!("../../config/stagedoor.toml");

const ENV_PREFIX: &str = "STAGEDOOR__";

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key's full path, for instance `sales[0].closes_at`; empty when a whole file is unreadable.
    pub key: String,
    /// `FILE:LINE:COLUMN`, a variable's name, or `the defaults`.
    pub source: String,
    /// What is right. Never a value that may be secret.
    pub message: String,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        for problem in &self.problems {
            let Problem { key, source, message } = problem;
            if key.is_empty() {
                write!(f, "\n  {source}: {message}")?
            } else {
                write!(f, "\n  {key} ({source}): {message}")?
            }
        }
        Ok(())
    }
}

/// The defaults, overridden by `file`, overridden by variables `STAGEDOOR__SECTION__KEY` (parsed as TOML values, else
/// taken as text; `STAGEDOOR__SALES__0__ACTIVE_VISITS_MAX` reaches into a list).
///
/// # Errors
/// [`ConfigError`] with every impossible combination, or the first unknown key or wrong type.
pub fn load(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Settings, ConfigError> {
    let (name, text) = match file {
        None => (String::new(), String::new()),
        Some(path) => (path.display().to_string(), read(path)?),
    };
    let spans = DeTable::parse(&text).map_err(|e| in_file(&name, &text, &e))?;
    let given: Table = toml::from_str(&text).map_err(|e| in_file(&name, &text, &e))?;
    let mut origin = KeyOrigins {
        file: &name,
        text: &text,
        spans: &spans,
        variables: BTreeMap::new(),
    };
    let mut effective: Table = toml::from_str(REFERENCE).expect("a test reads the built-in defaults");
    // An empty list, so that a variable cannot reach into a sale that is not there.
    effective.insert("sales".to_owned(), Value::Array(Vec::new()));
    merge(&mut effective, given);
    for (variable, value) in env
        .filter(|(v, _)| v.starts_with(ENV_PREFIX))
        .collect::<BTreeMap<_, _>>()
    {
        let key = apply_variable(&mut effective, &variable, &value)?;
        origin.variables.insert(key, variable);
    }
    let mut effective = Value::Table(effective);
    datetimes_to_strings(&mut effective);
    let settings: Settings = serde_path_to_error::deserialize(effective).map_err(|e| {
        let key = key_path(e.path());
        let message = e.into_inner().message().to_owned();
        ConfigError {
            problems: vec![Problem {
                source: origin.source_of(&key),
                key,
                message,
            }],
        }
    })?;
    let problems: Vec<Problem> = checks::find_problems(&settings)
        .into_iter()
        .map(|(key, message)| Problem {
            source: origin.source_of(&key),
            key,
            message,
        })
        .collect();
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(ConfigError { problems })
    }
}

/// What is in force, as TOML, without secrets.
#[must_use]
pub fn show(settings: &Settings) -> String {
    toml::to_string_pretty(settings).expect("settings are tables of plain values")
}

impl Settings {
    /// The same checks as [`load`] makes, for settings that were changed in code.
    ///
    /// # Errors
    /// [`ConfigError`] with every impossible combination.
    pub fn check(&self) -> Result<(), ConfigError> {
        let problems: Vec<Problem> = checks::find_problems(self)
            .into_iter()
            .map(|(key, message)| Problem {
                key,
                source: "set by the program".to_owned(),
                message,
            })
            .collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError { problems })
        }
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|e| ConfigError {
        problems: vec![Problem {
            key: String::new(),
            source: path.display().to_string(),
            message: format!("cannot be read: {e}"),
        }],
    })
}

fn in_file(name: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let place = error
        .span()
        .map_or_else(|| name.to_owned(), |span| place(name, text, span.start));
    // The error's own display quotes the line, which may hold a secret.
    ConfigError {
        problems: vec![Problem {
            key: String::new(),
            source: place,
            message: error.message().to_owned(),
        }],
    }
}

fn place(name: &str, text: &str, at: usize) -> String {
    let before = &text[..at.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("{name}:{line}:{column}")
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Sets what the variable names and gives the key's path.
fn apply_variable(effective: &mut Table, variable: &str, text: &str) -> Result<String, ConfigError> {
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

/// The entry of that name (made when missing), or of that number (which must exist).
fn child<'v>(value: &'v mut Value, name: &str) -> Option<&'v mut Value> {
    match value {
        Value::Table(table) => {
            // Variables have no case; a price zone's name has.
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

fn append(path: &mut String, name: &str) {
    if name.bytes().all(|b| b.is_ascii_digit()) {
        path.push('[');
        path.push_str(name);
        path.push(']');
    } else {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
    }
}

/// A password such as `12345` stays a text where a text stands now.
fn parse_variable(text: &str, now: Option<&Value>) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .filter(|t| t.len() == 1)
        .and_then(|mut t| t.remove("value"));
    match (parsed, now) {
        (Some(value @ Value::String(_)), _) => value,
        (Some(_), Some(Value::String(_))) | (None, _) => Value::String(text.to_owned()),
        (Some(value), _) => value,
    }
}

/// TOML's own dates become RFC 3339 texts, so that both ways of writing a time are understood.
fn datetimes_to_strings(value: &mut Value) {
    match value {
        Value::Datetime(at) => *value = Value::String(at.to_string()),
        Value::Array(list) => list.iter_mut().for_each(datetimes_to_strings),
        Value::Table(table) => table.iter_mut().for_each(|(_, v)| datetimes_to_strings(v)),
        _ => {}
    }
}

fn key_path(path: &serde_path_to_error::Path) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => append(&mut text, &index.to_string()),
            Segment::Map { key } => append(&mut text, key),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    text
}

/// Where each key was written.
struct KeyOrigins<'t> {
    file: &'t str,
    text: &'t str,
    spans: &'t Spanned<DeTable<'t>>,
    /// Key -> the variable that set it.
    variables: BTreeMap<String, String>,
}

impl KeyOrigins<'_> {
    /// The variable that set the key or a section around it, else its place in the file, else a variable inside it, else
    /// the place of the nearest section around it.
    fn source_of(&self, key: &str) -> String {
        let is_inside = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let folded = key.to_lowercase();
        if let Some((_, variable)) = self
            .variables
            .iter()
            .rev()
            .find(|(set, _)| is_inside(&folded, set))
        {
            return variable.clone();
        }
        let names: Vec<&str> = key.split(['.', '[']).map(|n| n.trim_end_matches(']')).collect();
        if let Some(at) = self.position(&names) {
            return place(self.file, self.text, at);
        }
        if let Some((_, variable)) = self.variables.iter().find(|(set, _)| is_inside(set, &folded)) {
            return variable.clone();
        }
        (1..names.len())
            .rev()
            .find_map(|n| self.position(&names[..n]))
            .map_or_else(|| "the defaults".to_owned(), |at| place(self.file, self.text, at))
    }

    fn position(&self, names: &[&str]) -> Option<usize> {
        let (first, rest) = names.split_first()?;
        let (key, mut value) = self.spans.get_ref().get_key_value(*first)?;
        let mut at = key.span().start;
        for name in rest {
            match value.get_ref() {
                DeValue::Table(table) => {
                    let (key, inner) = table.get_key_value(*name)?;
                    at = key.span().start;
                    value = inner;
                }
                DeValue::Array(list) => {
                    value = list.get(name.parse::<usize>().ok()?)?;
                    at = value.span().start;
                }
                _ => return None,
            }
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests;
