//! The shop's customer directory: the port, and its implementation by SQL.

mod database;
mod login;
mod mysql;
mod port;
mod postgres;
mod query;
mod record;
mod sql;
mod sqlite;

pub use self::{
    database::DatabaseKind,
    login::Login,
    port::{Customer, CustomerDirectory, DirectoryError, Search, Wanted},
    query::{QueryError, QueryKind, check_customer_query},
    sql::{DirectoryOpenError, QueryFinding},
};
pub(crate) use self::{
    port::Unavailable,
    record::Record,
    sql::{DirectoryConfig, SqlDirectory},
};
