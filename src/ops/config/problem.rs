//! Problems of a configuration, with key, source and remedy.

use std::fmt;

/// One problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key's full path, for instance `sales[0].closes_at`; empty when the whole file is unreadable.
    pub key: String,
    /// Where the key was set: `FILE:LINE:COLUMN`, a variable's name, or `the defaults`.
    pub source: String,
    /// What would be right. Never quotes a value, which may be secret.
    pub message: String,
}

/// All problems of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// At least one, in the order of the reference.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used:")?;
        for problem in &self.problems {
            let Problem { key, source, message } = problem;
            if key.is_empty() {
                write!(f, "\n  {source}: {message}")?;
            } else {
                write!(f, "\n  {key} ({source}): {message}")?;
            }
        }
        Ok(())
    }
}
