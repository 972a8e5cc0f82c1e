//! PostgreSQL: each component keeps its tables in a schema of its own, so that several may share a database.

#[cfg(test)]
mod tests;

use std::{fmt, future::Future, str::FromStr, time::Duration};

use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::{Migrate, MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::OpenError;

const VERSION_MIN: u32 = 13;
/// Where the migrator notes what it has applied.
const MIGRATIONS_TABLE: &str = "_sqlx_migrations";
/// For one connection to come about, and for waiting until the pool has one free.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// For everything at the start: other nodes may be migrating, or a migration has much to move.
const PREPARE_WITHIN: Duration = Duration::from_mins(2);
/// What a URL may set beside the address; anything else is a slip that the driver would only log.
const PARAMETERS: [&str; 5] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "options"];

/// Where a database is: host, port and name, and nothing else of its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(String);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Place {
    type Err = OpenError;

    fn from_str(url: &str) -> Result<Self, OpenError> {
        parse(url).map(|(_, place)| place)
    }
}

/// Opens a component's part of a database: checks that the server keeps what it acknowledges, makes the schema
/// `stagedoor_COMPONENT` when it is missing, and brings its tables to this version. Nodes that start together wait for
/// each other.
///
/// The pool opens connections when they are needed, and again after the server was away. Each statement, and each wait
/// for a lock, has a deadline on the server's side too.
///
/// # Errors
/// [`OpenError`]: what is wrong and what to do about it.
pub async fn open_postgres(
    url: &str,
    component: &'static str,
    migrations: &Migrator,
    connections: u32,
) -> Result<PgPool, OpenError> {
    let (options, place) = parse(url)?;
    let schema = format!("stagedoor_{component}");
    let options = options
        .application_name("stagedoor")
        .options([("search_path", schema.as_str())]);
    let mut db = connect(&preparing(&options), &place).await?;
    let opening = Opening {
        place: &place,
        schema: &schema,
    };
    let prepared = match tokio::time::timeout(PREPARE_WITHIN, opening.prepare(&mut db, migrations)).await {
        Ok(prepared) => prepared,
        Err(_) => Err(opening.failed(&format!("not done within {PREPARE_WITHIN:?}"))),
    };
    // Ends the session, and with it the migrations' lock however far this came.
    drop(db);
    prepared?;
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        // Each use begins with a ping: it is what finds out within this time that the server does not answer.
        .acquire_timeout(CONNECT_WITHIN)
        .after_connect(|db, _| {
            Box::pin(async move { check_keeps(db).await?.map_or(Ok(()), |it| Err(refusal(it))) })
        })
        .connect_lazy_with(serving(&options)))
}

/// Whether trying again may help: the server or the way to it was away, or two transactions were in each other's way.
///
/// It does not tell whether the transaction was committed: when the connection broke during COMMIT, nobody knows.
#[must_use]
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Tls(_) | sqlx::Error::BeginFailed => {
            true
        }
        // Serialisation failure, deadlock, a wait for a lock given up, a primary that became a standby, too many
        // connections; class 08 is the connection's, 57P0x the server's going down or coming up.
        sqlx::Error::Database(e) => e.code().is_some_and(|code| {
            matches!(&*code, "40001" | "40P01" | "55P03" | "25006" | "53300")
                || code.starts_with("08")
                || code.starts_with("57P0")
        }),
        _ => false,
    }
}

fn parse(url: &str) -> Result<(PgConnectOptions, Place), OpenError> {
    let wrong = |what: &str| OpenError::Url { what: what.into() };
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"));
    let rest = rest
        .filter(|it| !it.contains('#'))
        .ok_or_else(|| wrong("it does not begin with postgres://, or holds a bare #"))?;
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    for (name, _) in query
        .split('&')
        .filter(|it| !it.is_empty())
        .map(|it| it.split_once('=').unwrap_or((it, "")))
    {
        if !PARAMETERS.contains(&name) {
            return Err(wrong(
                "it has a parameter other than sslmode, sslrootcert, sslcert, sslkey, options",
            ));
        }
    }
    // A password's own '/', '@', '?' or '#' would move what follows into another part, for instance into the name shown.
    let has_name = address
        .split_once('/')
        .is_some_and(|(_, name)| !name.is_empty() && !name.contains(['/', '@', ':']));
    if !has_name {
        return Err(wrong("it does not end with one database's name"));
    }
    let options = PgConnectOptions::from_str(url).map_err(|e| wrong(&e.to_string()))?;
    let host = options.get_socket().map_or_else(
        || format!("{}:{}", options.get_host(), options.get_port()),
        |it| it.display().to_string(),
    );
    let place = Place(format!("{host}/{}", options.get_database().unwrap_or_default()));
    Ok((options, place))
}

/// A serving session may not hang: not in a statement, not for a lock, not between statements, not on a dead peer.
fn serving(options: &PgConnectOptions) -> PgConnectOptions {
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
fn preparing(options: &PgConnectOptions) -> PgConnectOptions {
    let within = format!("{}s", PREPARE_WITHIN.as_secs());
    options.clone().options([
        ("statement_timeout", &within),
        ("lock_timeout", &within),
        ("client_min_messages", &"warning".into()),
    ])
}

async fn connect(options: &PgConnectOptions, place: &Place) -> Result<PgConnection, OpenError> {
    let place = || place.clone();
    let error = match tokio::time::timeout(CONNECT_WITHIN, PgConnection::connect_with(options)).await {
        Ok(Ok(db)) => return Ok(db),
        Ok(Err(error)) => error,
        Err(_) => {
            return Err(OpenError::Unreachable {
                place: place(),
                what: format!("no answer within {CONNECT_WITHIN:?}"),
            });
        }
    };
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .map(std::borrow::Cow::into_owned)
        .unwrap_or_default();
    let what = said(&error);
    Err(match code.as_str() {
        "28P01" | "28000" => OpenError::SignIn { place: place(), what },
        "3D000" => OpenError::NoDatabase { place: place() },
        "42501" => OpenError::NoPermission {
            place: place(),
            schema: "public".into(),
            what,
        },
        _ => OpenError::Unreachable { place: place(), what },
    })
}

/// What the server or the way to it says, without the driver's frame around it.
fn said(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(e) => e.message().to_owned(),
        sqlx::Error::Io(e) => e.to_string(),
        other => other.to_string(),
    }
}

/// Why a server must not be trusted with what it acknowledges.
#[derive(Clone, Copy)]
enum Unfit {
    ReadOnly,
    Forgets(&'static str),
}

async fn check_keeps(db: &mut PgConnection) -> Result<Option<Unfit>, sqlx::Error> {
    let (standby, commit, fsync): (bool, String, String) = sqlx::query_as(
        "SELECT pg_is_in_recovery(), current_setting('synchronous_commit'), current_setting('fsync')",
    )
    .fetch_one(db)
    .await?;
    Ok(if standby {
        Some(Unfit::ReadOnly)
    } else if commit == "off" {
        Some(Unfit::Forgets("synchronous_commit"))
    } else if fsync == "off" {
        Some(Unfit::Forgets("fsync"))
    } else {
        None
    })
}

/// Later connections are refused too, should somebody turn it off while the house is open.
fn refusal(unfit: Unfit) -> sqlx::Error {
    sqlx::Error::Protocol(match unfit {
        Unfit::ReadOnly => "the server only reads".into(),
        Unfit::Forgets(setting) => format!("{setting} is off: acknowledged orders would be lost in a crash"),
    })
}

/// One component's schema being made ready.
struct Opening<'a> {
    place: &'a Place,
    schema: &'a str,
}

impl Opening<'_> {
    async fn prepare(&self, db: &mut PgConnection, migrations: &Migrator) -> Result<(), OpenError> {
        // Two digits of minor version since 10.
        let found = db.server_version_num().unwrap_or(0) / 10_000;
        if found < VERSION_MIN {
            return Err(OpenError::TooOld {
                place: self.place.clone(),
                found,
                needed: VERSION_MIN,
            });
        }
        match self.answered(check_keeps(db)).await? {
            Some(Unfit::ReadOnly) => {
                return Err(OpenError::ReadOnly {
                    place: self.place.clone(),
                });
            }
            Some(Unfit::Forgets(setting)) => {
                return Err(OpenError::NotDurable {
                    place: self.place.clone(),
                    setting,
                });
            }
            None => {}
        }
        // The migrator takes the same lock, which counts for a session: "create if not exists" alone lets two nodes
        // that start together collide.
        db.lock().await.map_err(|e| self.migration(migrations, e))?;
        let exists: bool = self
            .answered(
                sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)")
                    .bind(self.schema)
                    .fetch_one(&mut *db),
            )
            .await?;
        if !exists {
            let create = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {}", self.schema));
            self.answered(sqlx::raw_sql(create).execute(&mut *db)).await?;
        }
        let tables: Vec<String> = self
            .answered(
                sqlx::query_scalar(
                    "SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY relname",
                )
                .bind(self.schema)
                .fetch_all(&mut *db),
            )
            .await?;
        if !tables.is_empty() && !tables.iter().any(|it| it == MIGRATIONS_TABLE) {
            let (place, schema) = (self.place.clone(), self.schema.to_owned());
            return Err(OpenError::ForeignTables {
                place,
                schema,
                tables: some_of(&tables),
            });
        }
        migrations
            .run(db)
            .await
            .map_err(|e| self.migration(migrations, e))
    }

    async fn answered<T>(&self, query: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, OpenError> {
        query.await.map_err(|e| self.refused(&e))
    }

    fn refused(&self, error: &sqlx::Error) -> OpenError {
        match error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code)
            .as_deref()
        {
            Some("42501") => OpenError::NoPermission {
                place: self.place.clone(),
                schema: self.schema.to_owned(),
                what: said(error),
            },
            _ => self.failed(&said(error)),
        }
    }

    fn failed(&self, what: &str) -> OpenError {
        OpenError::Prepare {
            place: self.place.clone(),
            schema: self.schema.to_owned(),
            what: what.to_owned(),
        }
    }

    fn migration(&self, migrations: &Migrator, error: MigrateError) -> OpenError {
        let (place, schema) = (self.place.clone(), self.schema.to_owned());
        let newest = migrations.iter().map(|it| it.version).max().unwrap_or(0);
        match error {
            MigrateError::Dirty(version) => OpenError::HalfApplied {
                place,
                schema,
                version,
            },
            MigrateError::VersionMissing(version) if version > newest => OpenError::Newer {
                place,
                schema,
                version,
            },
            MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version) => {
                OpenError::Altered {
                    place,
                    schema,
                    version,
                }
            }
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
