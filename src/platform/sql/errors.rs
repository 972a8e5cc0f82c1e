//! Why a database cannot be opened.

use sqlx::migrate::MigrateError;

use crate::platform::sql::database_ref::DatabaseRef;

/// Why a database cannot be opened, and how to fix it. Holds no password.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The SQLite file cannot be opened or read.
    #[error("cannot open the database {file}: {source}")]
    Open {
        /// Path of the file.
        file: String,
        /// The driver's error.
        source: sqlx::Error,
    },
    /// A migration of the SQLite file failed.
    #[error("cannot migrate the database {file} to this version's tables: {source}")]
    Migrate {
        /// Path of the file.
        file: String,
        /// The driver's error.
        source: MigrateError,
    },
    /// The tables were created by an older version.
    #[error(
        "{database} was created by an older version of stagedoor, which this version cannot read: start \
        with an empty \
         data directory or database, or run the older version"
    )]
    OlderLayout {
        /// The database.
        database: String,
    },
    /// The URL cannot be parsed.
    #[error(
        "the database's URL cannot be parsed ({what}); it should be \
        postgres://USER:PASSWORD@HOST:PORT/DATABASE, \
         with special characters of the password as %XX"
    )]
    Url {
        /// The server's or driver's message.
        what: String,
    },
    /// No connection, or no reply.
    #[error(
        "no PostgreSQL server responds for {database} ({what}): is it running, and may this machine reach it?"
    )]
    Unreachable {
        /// The database.
        database: DatabaseRef,
        /// The server's or driver's message.
        what: String,
    },
    /// Wrong user or password.
    #[error(
        "the server of {database} refuses the sign-in ({what}): check user and password in the URL, and the \
        server's \
         pg_hba.conf"
    )]
    SignIn {
        /// The database.
        database: DatabaseRef,
        /// The server's or driver's message.
        what: String,
    },
    /// The database does not exist.
    #[error("there is no database {database}: create it (createdb) and give it to the user of the URL")]
    NoDatabase {
        /// The database.
        database: DatabaseRef,
    },
    /// The server is too old.
    #[error("the server of {database} is PostgreSQL {found}; {needed} or newer is needed")]
    TooOld {
        /// The database.
        database: DatabaseRef,
        /// Its major version.
        found: u32,
        /// The lowest major version that is supported.
        needed: u32,
    },
    /// The server is a standby.
    #[error("the server of {database} is read-only (a standby?): give the URL of the primary")]
    ReadOnly {
        /// The database.
        database: DatabaseRef,
    },
    /// The server acknowledges commits before they are on disk.
    #[error(
        "the server of {database} has {setting} off for this user: acknowledged orders would be lost in a \
        crash; \
         set it on"
    )]
    NotDurable {
        /// The database.
        database: DatabaseRef,
        /// The PostgreSQL setting that is off.
        setting: &'static str,
    },
    /// The user lacks a permission.
    #[error(
        "the user of the URL lacks permission in {database} ({what}): GRANT CREATE ON DATABASE, or make it \
        the owner \
         of schema {schema}"
    )]
    NoPermission {
        /// The database.
        database: DatabaseRef,
        /// The component's schema.
        schema: String,
        /// The server's or driver's message.
        what: String,
    },
    /// The schema holds tables of another program.
    #[error(
        "schema {schema} of {database} holds tables that are not of this program ({tables}): use a database \
        of its \
         own, or move them"
    )]
    ForeignTables {
        /// The database.
        database: DatabaseRef,
        /// The component's schema.
        schema: String,
        /// Some of these tables.
        tables: String,
    },
    /// A migration was interrupted.
    #[error(
        "migration {version} of schema {schema} in {database} was only half applied: restore the backup, or \
        finish it \
         by hand and set success in _sqlx_migrations"
    )]
    HalfApplied {
        /// The database.
        database: DatabaseRef,
        /// The component's schema.
        schema: String,
        /// The version that was found.
        version: i64,
    },
    /// The tables were migrated by a newer version.
    #[error(
        "schema {schema} of {database} was migrated to version {version} by a newer version of stagedoor: \
        run that \
         one, or restore the backup"
    )]
    Newer {
        /// The database.
        database: DatabaseRef,
        /// The component's schema.
        schema: String,
        /// The version that was found.
        version: i64,
    },
    /// Creating or migrating the schema failed otherwise.
    #[error("cannot migrate schema {schema} of {database} to this version's tables: {what}")]
    Prepare {
        /// The database.
        database: DatabaseRef,
        /// The component's schema.
        schema: String,
        /// The server's or driver's message.
        what: String,
    },
}
