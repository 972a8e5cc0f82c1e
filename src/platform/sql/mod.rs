//! SQL databases: opening them so that a commit that was acknowledged is on disk, and running transactions on
//! PostgreSQL.

mod database;
mod database_ref;
mod errors;
mod layout;
mod migrations;
mod postgres;
mod server_time;
mod sqlite;
mod sqlite_writer;

pub use self::{
    database::{Database, TransactionError},
    database_ref::DatabaseRef,
    errors::OpenError,
    migrations::migrator,
    postgres::{check_server, is_transient, open_postgres},
    server_time::ServerTime,
    sqlite::open_sqlite,
    sqlite_writer::{SqliteWriter, WriterConnection, WriterTransaction},
};
