//! The shop's customer directory: the port, and its implementation by SQL.

mod port;
mod sql;

pub use self::port::{Customer, CustomerDirectory, DirectoryError};
pub(crate) use self::{port::Unavailable, sql::SqlDirectory};
