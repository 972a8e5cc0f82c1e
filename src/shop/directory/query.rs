//! The configured query, whose parameters have names, for a database that numbers or counts them.

use std::fmt;

use crate::shop::directory::login::Login;

/// A form of the login that a query can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoginForm {
    /// `:login`: as the customer typed it, without surrounding whitespace.
    AsTyped,
    /// `:login_lower`: the same in lower case.
    LowerCase,
}

/// How a database writes parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placeholders {
    /// `?`, in the order of the text.
    Counted,
    /// `$1`, `$2`.
    Numbered,
}

/// A query that finds customers by their login.
#[derive(Clone, Debug)]
pub(crate) struct CustomerQuery {
    sql: String,
    parameters: Vec<LoginForm>,
}

/// Why a text is no query of customers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// It does not mention the login.
    WithoutLogin,
    /// A parameter that there is not.
    UnknownParameter(String),
}

impl std::error::Error for QueryError {}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WithoutLogin => f.write_str("must have the parameter :login or :login_lower"),
            Self::UnknownParameter(name) => {
                write!(
                    f,
                    "has the unknown parameter :{name}; there are :login and :login_lower"
                )
            }
        }
    }
}

/// Checks the parameters of a query that finds customers.
///
/// # Errors
/// [`QueryError`].
pub fn check_customer_query(text: &str) -> Result<(), QueryError> {
    CustomerQuery::parse(text, Placeholders::Counted).map(|_| ())
}

impl CustomerQuery {
    /// Reads a configured query. Quoted texts and PostgreSQL's `::` are left alone.
    ///
    /// # Errors
    /// [`QueryError`].
    pub(crate) fn parse(text: &str, placeholders: Placeholders) -> Result<Self, QueryError> {
        let mut query = Self {
            sql: String::with_capacity(text.len()),
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
        if query.parameters.is_empty() {
            return Err(QueryError::WithoutLogin);
        }
        Ok(query)
    }

    fn add_parameter(&mut self, name: &str, placeholders: Placeholders) -> Result<(), QueryError> {
        self.parameters.push(match name {
            "login" => LoginForm::AsTyped,
            "login_lower" => LoginForm::LowerCase,
            unknown => return Err(QueryError::UnknownParameter(unknown.to_owned())),
        });
        match placeholders {
            Placeholders::Counted => self.sql.push('?'),
            Placeholders::Numbered => {
                self.sql.push('$');
                self.sql.push_str(&self.parameters.len().to_string());
            }
        }
        Ok(())
    }

    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// The values of its parameters, in their order.
    pub(crate) fn values<'l>(&'l self, login: &'l Login) -> impl Iterator<Item = &'l str> {
        self.parameters.iter().map(|form| match form {
            LoginForm::AsTyped => login.as_typed(),
            LoginForm::LowerCase => login.lower_case(),
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
        let numbered = CustomerQuery::parse(text, Placeholders::Numbered).unwrap();
        assert_eq!(
            numbered.sql(),
            "SELECT id::text AS id, ':login' AS name FROM users WHERE email IN ($1, $2)"
        );
        let counted = CustomerQuery::parse(text, Placeholders::Counted).unwrap();
        assert!(counted.sql().ends_with("IN (?, ?)"));
        let login = Login::new("  Kim@Example.com ");
        let values: Vec<_> = counted.values(&login).collect();
        assert_eq!(values, ["Kim@Example.com", "kim@example.com"]);
    }

    #[test]
    fn a_query_without_the_login_or_with_an_unknown_parameter_is_refused() {
        for (text, error) in [
            ("SELECT 1", QueryError::WithoutLogin),
            ("SELECT ':login'", QueryError::WithoutLogin),
            (
                "SELECT a FROM b WHERE c = :email",
                QueryError::UnknownParameter("email".into()),
            ),
        ] {
            assert_eq!(
                CustomerQuery::parse(text, Placeholders::Counted).err(),
                Some(error),
                "{text}"
            );
        }
    }
}
