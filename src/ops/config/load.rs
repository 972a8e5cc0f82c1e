//! Loads a configuration from its layers: defaults, file, environment.

use std::{collections::BTreeMap, path::Path};

use toml::{Table, Value, de::DeTable};

use crate::{
    ops::config::{
        checks,
        environment::{ENV_PREFIX, apply_variable},
        origins::{KeyOrigins, key_path, position_text},
        problem::{ConfigError, Problem},
        sections::Settings,
        suggestion::with_nearest_key,
    },
    platform::text_file::read_text,
};

/// The reference: every key with its meaning and default.
pub const REFERENCE: &str = include_str!("../../../config/stagedoor.toml");

/// Loads a configuration: the defaults, overridden by `file`, overridden by variables
/// `STAGEDOOR__SECTION__KEY`. A variable is parsed as a TOML value, else taken as text;
/// `STAGEDOOR__SALES__0__ACTIVE_VISITS_MAX` sets a key of a list entry.
///
/// # Errors
/// [`ConfigError`] with the first unknown key or wrong type, else with every invalid combination.
pub fn load(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Settings, ConfigError> {
    let (name, text) = match file {
        None => (String::new(), String::new()),
        Some(path) => (path.display().to_string(), read(path)?),
    };
    let spans = DeTable::parse(&text).map_err(|e| in_file(&name, &text, &e))?;
    let from_file: Table = toml::from_str(&text).map_err(|e| in_file(&name, &text, &e))?;
    let mut origins = KeyOrigins {
        file: &name,
        text: &text,
        spans: &spans,
        variables: BTreeMap::new(),
    };
    let mut effective: Table = toml::from_str(REFERENCE).expect("a test parses the built-in defaults");
    // An empty list, so that a variable cannot create a sale.
    effective.insert("sales".to_owned(), Value::Array(Vec::new()));
    merge(&mut effective, from_file);
    for (variable, value) in env
        .filter(|(variable, _)| variable.starts_with(ENV_PREFIX))
        .collect::<BTreeMap<_, _>>()
    {
        let key = apply_variable(&mut effective, &variable, &value)?;
        origins.variables.insert(key, variable);
    }
    let mut effective = Value::Table(effective);
    datetimes_to_strings(&mut effective);
    let settings: Settings = serde_path_to_error::deserialize(effective).map_err(|e| {
        let key = key_path(e.path());
        let message = with_nearest_key(e.into_inner().message());
        ConfigError {
            problems: vec![Problem {
                source: origins.source_of(&key),
                key,
                message,
            }],
        }
    })?;
    let problems: Vec<Problem> = checks::find_problems(&settings)
        .into_iter()
        .map(|(key, message)| Problem {
            source: origins.source_of(&key),
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

/// The settings as TOML, with secrets masked.
#[must_use]
pub fn show(settings: &Settings) -> String {
    toml::to_string_pretty(settings).expect("settings are tables of plain values")
}

impl Settings {
    /// Performs the checks of [`load`] on settings that were changed in code.
    ///
    /// # Errors
    /// [`ConfigError`] with every invalid combination.
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
    read_text(path).map_err(|e| ConfigError {
        problems: vec![Problem {
            key: String::new(),
            source: path.display().to_string(),
            message: format!("cannot be read: {e}"),
        }],
    })
}

fn in_file(name: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let source = error
        .span()
        .map_or_else(|| name.to_owned(), |span| position_text(name, text, span.start));
    // Only the message: the error's display quotes the line, which may hold a secret.
    ConfigError {
        problems: vec![Problem {
            key: String::new(),
            source,
            message: error.message().to_owned(),
        }],
    }
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

/// Converts TOML dates to RFC 3339 strings, so that times can be written in both ways.
fn datetimes_to_strings(value: &mut Value) {
    match value {
        Value::Datetime(datetime) => *value = Value::String(datetime.to_string()),
        Value::Array(list) => list.iter_mut().for_each(datetimes_to_strings),
        Value::Table(table) => table
            .iter_mut()
            .for_each(|(_, value)| datetimes_to_strings(value)),
        _ => {}
    }
}
