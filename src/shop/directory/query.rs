//! The configured queries, whose parameters have names, for a database that numbers or counts them.

use std::fmt;

use crate::shop::directory::port::Wanted;

/// What a query is asked for, and so which parameters it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    /// A login: `:login`, as the customer typed it without surrounding whitespace, and `:login_lower`, the
    /// same in lower case.
    ByLogin,
    /// The shop's key of a customer, `:id`.
    ByKey,
    /// Nothing: some customers.
    Sample,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    Login,
    LoginLower,
    Id,
}

impl QueryKind {
    fn parameter(self, name: &str) -> Option<Parameter> {
        match (self, name) {
            (Self::ByLogin, "login") => Some(Parameter::Login),
            (Self::ByLogin, "login_lower") => Some(Parameter::LoginLower),
            (Self::ByKey, "id") => Some(Parameter::Id),
            _ => None,
        }
    }

    fn names(self) -> &'static str {
        match self {
            Self::ByLogin => ":login or :login_lower",
            Self::ByKey => ":id",
            Self::Sample => "none",
        }
    }
}

/// How a database writes parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placeholders {
    /// `?`, in the order of the text.
    Counted,
    /// `$1`, `$2`.
    Numbered,
}

/// A query that finds customers.
#[derive(Clone, Debug)]
pub(crate) struct CustomerQuery {
    sql: String,
    kind: QueryKind,
    parameters: Vec<Parameter>,
}

/// Why a text is no query of customers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// It does not mention what it is asked for.
    WithoutParameter(QueryKind),
    /// A parameter that it cannot have.
    UnknownParameter(QueryKind, String),
}

impl std::error::Error for QueryError {}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WithoutParameter(kind) => write!(f, "must have the parameter {}", kind.names()),
            Self::UnknownParameter(kind, name) => {
                write!(
                    f,
                    "has the unknown parameter :{name}; it must be {}",
                    kind.names()
                )
            }
        }
    }
}

/// Checks the parameters of a configured query.
///
/// # Errors
/// [`QueryError`].
pub fn check_customer_query(text: &str, kind: QueryKind) -> Result<(), QueryError> {
    CustomerQuery::parse(text, kind, Placeholders::Counted).map(|_| ())
}

impl CustomerQuery {
    /// Reads a configured query. Quoted texts and PostgreSQL's `::` are left alone.
    ///
    /// # Errors
    /// [`QueryError`].
    pub(crate) fn parse(text: &str, kind: QueryKind, placeholders: Placeholders) -> Result<Self, QueryError> {
        let mut query = Self {
            sql: String::with_capacity(text.len()),
            kind,
            parameters: Vec::new(),
        };
        let mut rest = text;
        while let Some(at) = rest.find([':', '\'', '"', '`']) {
            let (before, from) = rest.split_at(at);
            query.sql.push_str(before);
            if let Some(name) = parameter_name(from) {
                query.add_parameter(name, placeholders)?;
                rest = &from[1 + name.len()..];
            } else {
                let (kept, after) = from.split_at(kept_bytes(from));
                query.sql.push_str(kept);
                rest = after;
            }
        }
        query.sql.push_str(rest);
        if query.parameters.is_empty() && kind != QueryKind::Sample {
            return Err(QueryError::WithoutParameter(kind));
        }
        Ok(query)
    }

    fn add_parameter(&mut self, name: &str, placeholders: Placeholders) -> Result<(), QueryError> {
        let unknown = || QueryError::UnknownParameter(self.kind, name.to_owned());
        self.parameters
            .push(self.kind.parameter(name).ok_or_else(unknown)?);
        match placeholders {
            Placeholders::Counted => self.sql.push('?'),
            Placeholders::Numbered => {
                self.sql.push('$');
                self.sql.push_str(&self.parameters.len().to_string());
            }
        }
        Ok(())
    }

    pub(crate) fn kind(&self) -> QueryKind {
        self.kind
    }

    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// What it would be asked for, to explain its plan.
    pub(crate) fn example(&self) -> Wanted {
        match self.kind {
            QueryKind::ByLogin => Wanted::login("customer@example.invalid"),
            QueryKind::ByKey | QueryKind::Sample => Wanted::Key("0".to_owned()),
        }
    }

    /// The values of its parameters, in their order.
    pub(crate) fn values<'w>(&'w self, wanted: &'w Wanted) -> impl Iterator<Item = &'w str> {
        self.parameters
            .iter()
            .map(move |parameter| match (parameter, wanted) {
                (Parameter::Login, Wanted::Login(login)) => login.as_typed(),
                (Parameter::LoginLower, Wanted::Login(login)) => login.lower_case(),
                (Parameter::Id, Wanted::Key(key)) => key,
                // Of another kind: it finds nothing.
                _ => "",
            })
    }
}

/// The name of the parameter that `text` begins with, if it begins with one.
fn parameter_name(text: &str) -> Option<&str> {
    let name = text.strip_prefix(':')?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = &name[..name.find(|c| !is_part(c)).unwrap_or(name.len())];
    (!name.is_empty()).then_some(name)
}

/// How many bytes at the start of `text`, which begins with a quote or a colon, are no parameter.
fn kept_bytes(text: &str) -> usize {
    let first = &text[..1];
    if first == ":" {
        return if text.starts_with("::") { 2 } else { 1 };
    }
    text[1..].find(first).map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_written_as_the_database_wants_them() {
        let text = "SELECT id::text AS id, ':login' AS name FROM users WHERE email IN (:login, :login_lower)";
        let numbered = CustomerQuery::parse(text, QueryKind::ByLogin, Placeholders::Numbered).unwrap();
        assert_eq!(
            numbered.sql(),
            "SELECT id::text AS id, ':login' AS name FROM users WHERE email IN ($1, $2)"
        );
        let counted = CustomerQuery::parse(text, QueryKind::ByLogin, Placeholders::Counted).unwrap();
        assert!(counted.sql().ends_with("IN (?, ?)"));
        let login = Wanted::login("  Kim@Example.com ");
        let values: Vec<_> = counted.values(&login).collect();
        assert_eq!(values, ["Kim@Example.com", "kim@example.com"]);
    }

    #[test]
    fn a_query_without_its_parameter_or_with_an_unknown_one_is_refused() {
        use QueryKind::{ByKey, ByLogin};
        let unknown = |kind, name: &str| QueryError::UnknownParameter(kind, name.to_owned());
        for (text, kind, error) in [
            ("SELECT 1", ByLogin, QueryError::WithoutParameter(ByLogin)),
            ("SELECT ':login'", ByLogin, QueryError::WithoutParameter(ByLogin)),
            (
                "SELECT a FROM b WHERE c = :email",
                ByLogin,
                unknown(ByLogin, "email"),
            ),
            ("SELECT a FROM b WHERE c = :login", ByKey, unknown(ByKey, "login")),
        ] {
            let parsed = CustomerQuery::parse(text, kind, Placeholders::Counted);
            assert_eq!(parsed.err(), Some(error), "{text}");
        }
    }
}
