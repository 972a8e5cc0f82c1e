//! A row of the customer query, whatever the database calls the types of its columns.

use std::cmp::Ordering;

use sqlx::{ColumnIndex, Database, Decode, Row, Type};

use crate::shop::directory::{
    login::{Login, any_case},
    port::{Customer, Wanted},
};

/// Columns that the query must return. It may also return `login`.
pub(crate) const COLUMNS: [&str; 4] = ["id", "name", "password_hash", "active"];
/// The stored login, by which rows are compared with what was typed.
pub(crate) const LOGIN: &str = "login";

/// A value of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Text(String),
    Number(i64),
    Flag(bool),
}

/// One row. `login` is the stored login, if the query returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    id: Cell,
    name: Cell,
    password_hash: Cell,
    active: Cell,
    login: Option<String>,
}

/// Why rows are no customer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the column {0} of a customer is empty or of a type that it cannot have")]
    Column(&'static str),
    /// Which of them signs in is not known.
    #[error("{0} customers have one login, and none of them exactly as it was typed")]
    SeveralCustomers(usize),
    #[error("the query found {0} customers and returns no column `login` to choose by")]
    WithoutLogin(usize),
    #[error("{0} customers have one key")]
    SameKey(usize),
}

/// The one customer that was asked for.
///
/// # Errors
/// [`RecordError`]; where `needs_login`, also for a single row that does not say its login.
pub(crate) fn choose(
    mut records: Vec<Record>,
    wanted: &Wanted,
    needs_login: bool,
) -> Result<Option<Customer>, RecordError> {
    if let Wanted::Login(login) = wanted {
        if needs_login && records.iter().any(|record| record.login.is_none()) {
            return Err(RecordError::WithoutLogin(records.len()));
        }
        records = with_login(records, login)?;
    }
    // A query over name and address finds one customer by both.
    records.dedup_by(|one, other| one.id == other.id);
    if records.len() > 1 {
        return Err(RecordError::SameKey(records.len()));
    }
    records.pop().map(Record::into_customer).transpose()
}

/// The customer who signs in: the only one, or among several the one whose stored login is exactly what was
/// typed. Rows of another login are ignored: some collations take letters with and without accents for the
/// same.
fn with_login(mut records: Vec<Record>, login: &Login) -> Result<Vec<Record>, RecordError> {
    let is_same = |record: &Record| match &record.login {
        Some(stored) => any_case(stored, login.as_typed()) == Ordering::Equal,
        None => true,
    };
    records.retain(is_same);
    let found = records.len();
    if found > 1 && records.iter().any(|record| record.id != records[0].id) {
        if records.iter().any(|record| record.login.is_none()) {
            return Err(RecordError::WithoutLogin(found));
        }
        records.retain(|record| record.login.as_deref().map(str::trim) == Some(login.as_typed()));
        if records.len() != 1 {
            return Err(RecordError::SeveralCustomers(found));
        }
    }
    Ok(records)
}

impl Record {
    /// The stored login, as the shop has it.
    pub(crate) fn stored_login(&self) -> Option<&str> {
        self.login.as_deref()
    }

    /// Reads a row of a database whose driver knows the types.
    pub(crate) fn from_row<R>(row: &R) -> Result<Self, sqlx::Error>
    where
        R: Row,
        for<'c> &'c str: ColumnIndex<R>,
        for<'r> i64: Value<'r, R::Database>,
        for<'r> u64: Value<'r, R::Database>,
        for<'r> bool: Value<'r, R::Database>,
        for<'r> String: Value<'r, R::Database>,
        for<'r> Vec<u8>: Value<'r, R::Database>,
    {
        Self::from_columns(|column| cell(row, column))
    }

    /// Reads the columns one by one. `None` is a column that the query does not return.
    pub(crate) fn from_columns(
        mut read: impl FnMut(&str) -> Result<Option<Cell>, sqlx::Error>,
    ) -> Result<Self, sqlx::Error> {
        let mut demanded =
            |column: &str| read(column)?.ok_or_else(|| sqlx::Error::ColumnNotFound(column.to_owned()));
        let [id, name, password_hash, active] = COLUMNS;
        let (id, name) = (demanded(id)?, demanded(name)?);
        let (password_hash, active) = (demanded(password_hash)?, demanded(active)?);
        let login = match read(LOGIN)? {
            Some(Cell::Text(login)) => Some(login),
            Some(Cell::Number(number)) => Some(number.to_string()),
            // A row without a login belongs to no login.
            Some(Cell::Null | Cell::Flag(_)) => Some(String::new()),
            None => None,
        };
        Ok(Self {
            id,
            name,
            password_hash,
            active,
            login,
        })
    }

    pub(crate) fn into_customer(self) -> Result<Customer, RecordError> {
        let text = |cell, column| match cell {
            Cell::Text(text) => Ok(text),
            Cell::Null => Ok(String::new()),
            _ => Err(RecordError::Column(column)),
        };
        let key = match self.id {
            Cell::Text(text) if !text.is_empty() => text,
            Cell::Number(number) => number.to_string(),
            _ => return Err(RecordError::Column("id")),
        };
        let active = match self.active {
            Cell::Flag(active) => active,
            Cell::Number(number) => number != 0,
            // An account of which the shop does not say that it is active is not.
            Cell::Null => false,
            Cell::Text(_) => return Err(RecordError::Column("active")),
        };
        Ok(Customer {
            key,
            name: text(self.name, "name")?,
            password_hash: text(self.password_hash, "password_hash")?,
            active,
        })
    }
}

/// A type that a driver can read.
pub(crate) trait Value<'r, D: Database>: Decode<'r, D> + Type<D> {}
impl<'r, D: Database, T: Decode<'r, D> + Type<D>> Value<'r, D> for T {}

/// The value of a column, tried as one type after the other.
fn cell<R>(row: &R, column: &str) -> Result<Option<Cell>, sqlx::Error>
where
    R: Row,
    for<'c> &'c str: ColumnIndex<R>,
    for<'r> i64: Value<'r, R::Database>,
    for<'r> u64: Value<'r, R::Database>,
    for<'r> bool: Value<'r, R::Database>,
    for<'r> String: Value<'r, R::Database>,
    for<'r> Vec<u8>: Value<'r, R::Database>,
{
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_or(Cell::Null, Cell::Text);
    let number =
        |number: u64| i64::try_from(number).map_or_else(|_| Cell::Text(number.to_string()), Cell::Number);
    let tried = row
        .try_get::<Option<i64>, _>(column)
        .map(|value| value.map(Cell::Number))
        .or_else(|e| unless_missing(e, || Ok(row.try_get::<Option<u64>, _>(column)?.map(number))))
        .or_else(|e| unless_missing(e, || Ok(row.try_get::<Option<bool>, _>(column)?.map(Cell::Flag))))
        .or_else(|e| {
            unless_missing(e, || {
                Ok(row.try_get::<Option<String>, _>(column)?.map(Cell::Text))
            })
        })
        .or_else(|e| unless_missing(e, || Ok(row.try_get::<Option<Vec<u8>>, _>(column)?.map(text))));
    match tried {
        Ok(value) => Ok(Some(value.unwrap_or(Cell::Null))),
        Err(sqlx::Error::ColumnNotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tries the next type, but not for a column that is not there.
fn unless_missing(
    error: sqlx::Error,
    next: impl FnOnce() -> Result<Option<Cell>, sqlx::Error>,
) -> Result<Option<Cell>, sqlx::Error> {
    match error {
        missing @ sqlx::Error::ColumnNotFound(_) => Err(missing),
        _ => next(),
    }
}
