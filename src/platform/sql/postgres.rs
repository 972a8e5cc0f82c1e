//! Opens PostgreSQL databases. Each component keeps its tables in a schema of its own, so that several can
//! share one database.

#[cfg(test)]
mod tests;

use std::{future::Future, str::FromStr, time::Duration};

use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::{Migrate, MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::platform::sql::{
    database_ref::DatabaseRef,
    errors::OpenError,
    layout::{self, Applied},
};

const VERSION_MIN: u32 = 13;
/// Where the migrator records the migrations that it has applied.
const MIGRATIONS_TABLE: &str = "_sqlx_migrations";
/// Time limit of connecting, and of waiting for a free connection of the pool.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit of opening as a whole: other nodes may be migrating, or a migration may have many rows to move.
const PREPARE_TIMEOUT: Duration = Duration::from_mins(2);
/// Parameters that a URL may set; anything else is a typing error that the driver would only log.
const PARAMETERS: [&str; 5] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "options"];

impl FromStr for DatabaseRef {
    type Err = OpenError;

    fn from_str(url: &str) -> Result<Self, OpenError> {
        parse(url).map(|(_, database)| database)
    }
}

/// Opens a component's schema of a database: checks that the server commits durably, creates the schema
/// `stagedoor_COMPONENT` when it is missing, and migrates its tables to this version. Nodes that start
/// together wait for each other.
///
/// The pool connects lazily, and reconnects after the server was down. Each statement, and each wait for a
/// lock, has a time limit on the server's side too.
///
/// # Errors
/// [`OpenError`]: what is wrong and how to fix it.
pub async fn open_postgres(
    url: &str,
    component: &'static str,
    migrations: &Migrator,
    connections: u32,
) -> Result<PgPool, OpenError> {
    let (options, database) = parse(url)?;
    let schema = format!("stagedoor_{component}");
    let options = options
        .application_name("stagedoor")
        .options([("search_path", schema.as_str())]);
    let mut db = connect(&migration_options(&options), &database).await?;
    let setup = SchemaSetup {
        database: &database,
        schema: &schema,
    };
    let prepared = match tokio::time::timeout(PREPARE_TIMEOUT, setup.prepare(&mut db, migrations)).await {
        Ok(prepared) => prepared,
        Err(_) => Err(setup.failed(&format!("not done within {PREPARE_TIMEOUT:?}"))),
    };
    // Ends the session, and with it the migration lock, however far the preparation came.
    drop(db);
    prepared?;
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        // Each use begins with a ping, which detects within this time that the server does not respond.
        .acquire_timeout(CONNECT_TIMEOUT)
        .after_connect(|db, _| {
            Box::pin(async move {
                check_durability(db)
                    .await?
                    .map_or(Ok(()), |unsafe_server| Err(refusal(unsafe_server)))
            })
        })
        .connect_lazy_with(serving_options(&options)))
}

/// Checks that a server can be reached and keeps what it acknowledges. Changes nothing.
///
/// # Errors
/// [`OpenError`]: what is wrong and how to fix it.
pub async fn check_server(url: &str) -> Result<(), OpenError> {
    let (options, database) = parse(url)?;
    let mut db = connect(
        &serving_options(&options.application_name("stagedoor preflight")),
        &database,
    )
    .await?;
    let unreachable = |e: sqlx::Error| OpenError::Unreachable {
        database: database.clone(),
        what: e.to_string(),
    };
    match check_durability(&mut db).await.map_err(unreachable)? {
        None => Ok(()),
        Some(unfit) => Err(unreachable(refusal(unfit))),
    }
}

/// Whether a retry may help: the server or the network failed, or two transactions conflicted.
///
/// Says nothing about whether the transaction was committed: that is unknown when the connection broke during
/// COMMIT.
#[must_use]
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Tls(_) | sqlx::Error::BeginFailed => {
            true
        }
        // Serialization failure, deadlock, lock timeout, a primary that became a standby, too many
        // connections; class 08 is connection errors, 57P0x a server that shuts down or starts up.
        sqlx::Error::Database(e) => e.code().is_some_and(|code| {
            matches!(&*code, "40001" | "40P01" | "55P03" | "25006" | "53300")
                || code.starts_with("08")
                || code.starts_with("57P0")
        }),
        _ => false,
    }
}

pub(super) fn parse(url: &str) -> Result<(PgConnectOptions, DatabaseRef), OpenError> {
    let wrong = |what: &str| OpenError::Url { what: what.into() };
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"));
    let rest = rest
        .filter(|rest| !rest.contains('#'))
        .ok_or_else(|| wrong("it does not begin with postgres://, or holds a bare #"))?;
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    for (name, _) in query
        .split('&')
        .filter(|parameter| !parameter.is_empty())
        .map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
    {
        if !PARAMETERS.contains(&name) {
            return Err(wrong(
                "it has a parameter other than sslmode, sslrootcert, sslcert, sslkey, options",
            ));
        }
    }
    // An unescaped '/', '@', '?' or '#' of a password would move its rest into another part, such as the
    // displayed name.
    let has_name = address
        .split_once('/')
        .is_some_and(|(_, name)| !name.is_empty() && !name.contains(['/', '@', ':']));
    if !has_name {
        return Err(wrong("it does not end with one database's name"));
    }
    let options = PgConnectOptions::from_str(url).map_err(|e| wrong(&e.to_string()))?;
    let host = options.get_socket().map_or_else(
        || format!("{}:{}", options.get_host(), options.get_port()),
        |socket| socket.display().to_string(),
    );
    let database = DatabaseRef::new(&host, options.get_database().unwrap_or_default());
    Ok((options, database))
}

/// Options of serving sessions, which must never hang: not in a statement, for a lock, between statements, or
/// on a dead peer.
pub(super) fn serving_options(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().options([
        ("statement_timeout", "3s"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("tcp_keepalives_idle", "30"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
    ])
}

/// The session that migrates waits for other nodes and moves rows; [`PREPARE_WITHIN`] bounds it as a whole.
fn migration_options(options: &PgConnectOptions) -> PgConnectOptions {
    let within = format!("{}s", PREPARE_TIMEOUT.as_secs());
    options.clone().options([
        ("statement_timeout", &within),
        ("lock_timeout", &within),
        ("client_min_messages", &"warning".into()),
    ])
}

async fn connect(options: &PgConnectOptions, database: &DatabaseRef) -> Result<PgConnection, OpenError> {
    let database = || database.clone();
    let error = match tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await {
        Ok(Ok(db)) => return Ok(db),
        Ok(Err(error)) => error,
        Err(_) => {
            return Err(OpenError::Unreachable {
                database: database(),
                what: format!("no response within {CONNECT_TIMEOUT:?}"),
            });
        }
    };
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .map(std::borrow::Cow::into_owned)
        .unwrap_or_default();
    let what = message_of(&error);
    Err(match code.as_str() {
        "28P01" | "28000" => OpenError::SignIn {
            database: database(),
            what,
        },
        "3D000" => OpenError::NoDatabase { database: database() },
        "42501" => OpenError::NoPermission {
            database: database(),
            schema: "public".into(),
            what,
        },
        _ => OpenError::Unreachable {
            database: database(),
            what,
        },
    })
}

/// The server's or the network's message, without the driver's wrapping.
fn message_of(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(e) => e.message().to_owned(),
        sqlx::Error::Io(e) => e.to_string(),
        other => other.to_string(),
    }
}

/// Why a server cannot be relied on to keep what it acknowledges.
#[derive(Clone, Copy)]
enum UnsafeServer {
    ReadOnly,
    NotDurable(&'static str),
}

async fn check_durability(db: &mut PgConnection) -> Result<Option<UnsafeServer>, sqlx::Error> {
    let (standby, commit, fsync): (bool, String, String) = sqlx::query_as(
        "SELECT pg_is_in_recovery(), current_setting('synchronous_commit'), current_setting('fsync')",
    )
    .fetch_one(db)
    .await?;
    Ok(if standby {
        Some(UnsafeServer::ReadOnly)
    } else if commit == "off" {
        Some(UnsafeServer::NotDurable("synchronous_commit"))
    } else if fsync == "off" {
        Some(UnsafeServer::NotDurable("fsync"))
    } else {
        None
    })
}

/// Later connections are refused too, if the setting is turned off while the service runs.
fn refusal(unfit: UnsafeServer) -> sqlx::Error {
    sqlx::Error::Protocol(match unfit {
        UnsafeServer::ReadOnly => "the server is read-only".into(),
        UnsafeServer::NotDurable(setting) => {
            format!("{setting} is off: acknowledged orders would be lost in a crash")
        }
    })
}

/// One component's schema being created and migrated.
struct SchemaSetup<'a> {
    database: &'a DatabaseRef,
    schema: &'a str,
}

impl SchemaSetup<'_> {
    async fn prepare(&self, db: &mut PgConnection, migrations: &Migrator) -> Result<(), OpenError> {
        self.check_server(db).await?;
        // The migrator takes the same lock, which is reentrant within a session. CREATE SCHEMA IF NOT EXISTS
        // alone would fail for one of two nodes that start together.
        db.lock().await.map_err(|e| self.migration(migrations, e))?;
        self.create_schema_if_missing(db).await?;
        self.check_layout(db, migrations).await?;
        migrations
            .run(db)
            .await
            .map_err(|e| self.migration(migrations, e))
    }

    async fn check_server(&self, db: &mut PgConnection) -> Result<(), OpenError> {
        let database = self.database.clone();
        // Since version 10 the number is major * 10000 + minor.
        let found = db.server_version_num().unwrap_or(0) / 10_000;
        if found < VERSION_MIN {
            return Err(OpenError::TooOld {
                database,
                found,
                needed: VERSION_MIN,
            });
        }
        match self.map_error(check_durability(db)).await? {
            Some(UnsafeServer::ReadOnly) => Err(OpenError::ReadOnly { database }),
            Some(UnsafeServer::NotDurable(setting)) => Err(OpenError::NotDurable { database, setting }),
            None => Ok(()),
        }
    }

    async fn create_schema_if_missing(&self, db: &mut PgConnection) -> Result<(), OpenError> {
        let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)");
        let exists: bool = self
            .map_error(query.bind(self.schema).fetch_one(&mut *db))
            .await?;
        if !exists {
            let create = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {}", self.schema));
            self.map_error(sqlx::raw_sql(create).execute(&mut *db)).await?;
        }
        Ok(())
    }

    /// Refuses a schema with tables of another program, or of an older layout of this one.
    async fn check_layout(&self, db: &mut PgConnection, migrations: &Migrator) -> Result<(), OpenError> {
        let query = sqlx::query_scalar(
            "SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY relname",
        );
        let tables: Vec<String> = self
            .map_error(query.bind(self.schema).fetch_all(&mut *db))
            .await?;
        if tables.is_empty() {
            return Ok(());
        }
        if !tables.iter().any(|table| table == MIGRATIONS_TABLE) {
            return Err(OpenError::ForeignTables {
                database: self.database.clone(),
                schema: self.schema.to_owned(),
                tables: some_of(&tables),
            });
        }
        let query = sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations");
        let applied: Applied = self.map_error(query.fetch_all(&mut *db)).await?;
        if layout::is_older(&applied, migrations) {
            return Err(self.older_layout());
        }
        Ok(())
    }

    async fn map_error<T>(
        &self,
        query: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, OpenError> {
        query.await.map_err(|e| self.refused(&e))
    }

    fn refused(&self, error: &sqlx::Error) -> OpenError {
        match error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .as_deref()
        {
            Some("42501") => OpenError::NoPermission {
                database: self.database.clone(),
                schema: self.schema.to_owned(),
                what: message_of(error),
            },
            _ => self.failed(&message_of(error)),
        }
    }

    fn older_layout(&self) -> OpenError {
        OpenError::OlderLayout {
            database: format!("schema {} of {}", self.schema, self.database),
        }
    }

    fn failed(&self, what: &str) -> OpenError {
        OpenError::Prepare {
            database: self.database.clone(),
            schema: self.schema.to_owned(),
            what: what.to_owned(),
        }
    }

    fn migration(&self, migrations: &Migrator, error: MigrateError) -> OpenError {
        let (database, schema) = (self.database.clone(), self.schema.to_owned());
        let newest = migrations
            .iter()
            .map(|migration| migration.version)
            .max()
            .unwrap_or(0);
        match error {
            MigrateError::Dirty(version) => OpenError::HalfApplied {
                database,
                schema,
                version,
            },
            MigrateError::VersionMissing(version) if version > newest => OpenError::Newer {
                database,
                schema,
                version,
            },
            MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) => self.older_layout(),
            MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => self.refused(&e),
            other => self.failed(&other.to_string()),
        }
    }
}

fn some_of(tables: &[String]) -> String {
    const SHOWN_MAX: usize = 5;
    let shown = tables
        .iter()
        .take(SHOWN_MAX)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    if tables.len() > SHOWN_MAX {
        format!("{shown}, ...")
    } else {
        shown
    }
}
