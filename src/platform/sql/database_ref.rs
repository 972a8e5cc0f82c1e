//! Names a PostgreSQL database in logs and errors.

use std::fmt;

/// Where a database is: host, port and name, without the credentials of its URL. Parsed from a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseRef(String);

impl DatabaseRef {
    pub(super) fn new(host: &str, name: &str) -> Self {
        Self(format!("{host}/{name}"))
    }
}

impl fmt::Display for DatabaseRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
