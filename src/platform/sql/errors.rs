//! Why a database cannot be opened.

use sqlx::migrate::MigrateError;

use crate::platform::sql::database_ref::DatabaseRef;

/// Why a database cannot be opened, and how to fix it. Holds no password.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it is")]
pub enum OpenError {
    #[error("cannot open the database {file}: {source}")]
    Open { file: String, source: sqlx::Error },
    #[error("cannot migrate the database {file} to this version's tables: {source}")]
    Migrate { file: String, source: MigrateError },
    #[error(
        "{database} was created by an older version of stagedoor, which this version cannot read: start with an empty \
         data directory or database, or run the older version"
    )]
    OlderLayout { database: String },
    #[error(
        "the database's URL cannot be parsed ({what}); it should be postgres://USER:PASSWORD@HOST:PORT/DATABASE, \
         with special characters of the password as %XX"
    )]
    Url { what: String },
    #[error(
        "no PostgreSQL server responds for {database} ({what}): is it running, and may this machine reach it?"
    )]
    Unreachable { database: DatabaseRef, what: String },
    #[error(
        "the server of {database} refuses the sign-in ({what}): check user and password in the URL, and the server's \
         pg_hba.conf"
    )]
    SignIn { database: DatabaseRef, what: String },
    #[error("there is no database {database}: create it (createdb) and give it to the user of the URL")]
    NoDatabase { database: DatabaseRef },
    #[error("the server of {database} is PostgreSQL {found}; {needed} or newer is needed")]
    TooOld {
        database: DatabaseRef,
        found: u32,
        needed: u32,
    },
    #[error("the server of {database} is read-only (a standby?): give the URL of the primary")]
    ReadOnly { database: DatabaseRef },
    #[error(
        "the server of {database} has {setting} off for this user: acknowledged orders would be lost in a crash; \
         set it on"
    )]
    NotDurable {
        database: DatabaseRef,
        setting: &'static str,
    },
    #[error(
        "the user of the URL lacks permission in {database} ({what}): GRANT CREATE ON DATABASE, or make it the owner \
         of schema {schema}"
    )]
    NoPermission {
        database: DatabaseRef,
        schema: String,
        what: String,
    },
    #[error(
        "schema {schema} of {database} holds tables that are not of this program ({tables}): use a database of its \
         own, or move them"
    )]
    ForeignTables {
        database: DatabaseRef,
        schema: String,
        tables: String,
    },
    #[error(
        "migration {version} of schema {schema} in {database} was only half applied: restore the backup, or finish it \
         by hand and set success in _sqlx_migrations"
    )]
    HalfApplied {
        database: DatabaseRef,
        schema: String,
        version: i64,
    },
    #[error(
        "schema {schema} of {database} was migrated to version {version} by a newer version of stagedoor: run that \
         one, or restore the backup"
    )]
    Newer {
        database: DatabaseRef,
        schema: String,
        version: i64,
    },
    #[error("cannot migrate schema {schema} of {database} to this version's tables: {what}")]
    Prepare {
        database: DatabaseRef,
        schema: String,
        what: String,
    },
}
