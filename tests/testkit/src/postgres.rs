//! A PostgreSQL server. Its data folder is copied from a template that `initdb` makes once per build folder,
//! because `initdb` takes ten times as long as a start.

use std::{
    fs, io,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::{
    error::ServerError,
    process::{POLL_INTERVAL, Process, START_TIMEOUT, free_port, signal, temp_folder},
};

const NAME: &str = "PostgreSQL";
const STARTS_MAX: u32 = 40;

/// `pg_hba.conf`: local connections need no password, except for the role `guarded`, which some tests create.
const SIGN_IN: &str = "\
host all guarded 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
";

/// Commits are flushed as in production; memory and WAL are sized for many small servers on one machine.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = on
synchronous_commit = on
max_connections = 100
shared_buffers = 32MB
wal_level = minimal
max_wal_senders = 0
max_wal_size = 512MB
";

/// A running PostgreSQL server; stopped and removed when dropped.
pub struct Postgres {
    program: PathBuf,
    port: u16,
    process: Option<Process>,
    folder: TempDir,
}

/// The account that the server runs as: PostgreSQL refuses to run as root.
#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Starts a new, empty server and waits until it accepts connections.
    ///
    /// # Errors
    /// [`ServerError::NotInstalled`], [`ServerError::DidNotStart`].
    pub async fn start() -> Result<Self, ServerError> {
        let program = programs().ok_or(ServerError::NotInstalled(NAME))?;
        let user = unprivileged()?;
        let template = template(&program, user)?;
        let folder = temp_folder("postgres")?;
        copy(&template, &folder.path().join("data"), user)?;
        if let Some(user) = user {
            chown(folder.path(), Some(user.uid), Some(user.gid))?;
        }
        let mut server = Self {
            program,
            port: 0,
            process: None,
            folder,
        };
        server.start_process(true).await?;
        Ok(server)
    }

    /// The URL of one of its databases.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The port that the server listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Creates an empty database and returns its URL. The name is a lower-case identifier.
    ///
    /// # Errors
    /// [`ServerError::Rejected`].
    pub async fn create_database(&self, name: &str) -> Result<String, ServerError> {
        let is_identifier = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_identifier {
            return Err(ServerError::Rejected {
                server: NAME,
                reason: format!("{name} is not a database name"),
            });
        }
        self.run("postgres", &format!("CREATE DATABASE {name}")).await?;
        Ok(self.url(name))
    }

    /// Runs SQL statements in a database as the superuser.
    ///
    /// # Errors
    /// [`ServerError::Rejected`], with the server's error text.
    pub async fn run(&self, database: &str, statements: &str) -> Result<(), ServerError> {
        let rejected = |e: sqlx::Error| ServerError::Rejected {
            server: NAME,
            reason: e.to_string(),
        };
        let mut db = PgConnection::connect(&self.url(database))
            .await
            .map_err(rejected)?;
        let ran = sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
            .execute(&mut db)
            .await;
        let _ = db.close().await;
        ran.map(|_| ()).map_err(rejected)
    }

    /// The log since the last start.
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn log_text(&self) -> Result<String, ServerError> {
        Ok(fs::read_to_string(self.log())?)
    }

    /// Kills every process of the server, as a crash does. Unlike a power cut, it keeps the kernel's write
    /// cache.
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn kill9(&mut self) -> Result<(), ServerError> {
        let Some(process) = self.process.take() else {
            return Ok(());
        };
        let backends = children(process.pid())?;
        // The postmaster first: it would react to a killed backend with an orderly restart.
        signal("KILL", &[process.pid()])?;
        signal("KILL", &backends)?;
        process.wait();
        await_end(&backends);
        Ok(())
    }

    /// Suspends every process of the server: connections stay open and nothing is answered.
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn pause(&self) -> Result<(), ServerError> {
        self.signal_all("STOP")
    }

    /// Continues after [`Postgres::pause`].
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn resume(&self) -> Result<(), ServerError> {
        self.signal_all("CONT")
    }

    fn signal_all(&self, name: &str) -> Result<(), ServerError> {
        let Some(process) = &self.process else {
            return Ok(());
        };
        // The postmaster first: suspended, it starts no further backends.
        signal(name, &[process.pid()])?;
        Ok(signal(name, &children(process.pid())?)?)
    }

    /// Stops the server as `pg_ctl -m immediate` does: it runs crash recovery at the next start.
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn stop_immediately(&mut self) -> Result<(), ServerError> {
        self.resume()?;
        let Some(process) = self.process.take() else {
            return Ok(());
        };
        signal("QUIT", &[process.pid()])?;
        process.wait();
        Ok(())
    }

    /// Starts the server again on the same data and port; stops it first when it runs.
    ///
    /// # Errors
    /// [`ServerError::DidNotStart`].
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.stop_immediately()?;
        self.start_process(false).await
    }

    /// Retries, because backends of a killed server hold the data folder until they have ended.
    async fn start_process(&mut self, any_port: bool) -> Result<(), ServerError> {
        for _ in 0..STARTS_MAX {
            if any_port {
                self.port = free_port()?;
            }
            let log = fs::File::create(self.log())?;
            let mut command = Command::new(self.program.join("postgres"));
            command
                .arg("-D")
                .arg(self.folder.path().join("data"))
                .arg("-p")
                .arg(self.port.to_string());
            command
                .current_dir(self.folder.path())
                .stdout(log.try_clone()?)
                .stderr(log);
            if let Some(user) = unprivileged()? {
                command.uid(user.uid).gid(user.gid);
            }
            let mut process = Process::start(&mut command, "QUIT", self.folder.path())?;
            if self.accepts_connections(&mut process).await? {
                self.process = Some(process);
                return Ok(());
            }
            signal("QUIT", &[process.pid()])?;
            process.wait();
            tokio::time::sleep(POLL_INTERVAL * 10).await;
        }
        Err(ServerError::DidNotStart {
            server: NAME,
            log: fs::read_to_string(self.log()).unwrap_or_default(),
        })
    }

    /// Whether the process accepts connections within the timeout; `false` when it ended instead.
    async fn accepts_connections(&self, process: &mut Process) -> Result<bool, ServerError> {
        let url = self.url("postgres");
        let accepted = tokio::time::timeout(START_TIMEOUT, async {
            loop {
                if process.try_wait()?.is_some() {
                    return Ok(false);
                }
                if let Ok(db) = PgConnection::connect(&url).await {
                    let _ = db.close().await;
                    return Ok(true);
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        });
        accepted.await.unwrap_or(Ok(false))
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.stop_immediately();
    }
}

/// The program folder of the newest installed server.
fn programs() -> Option<PathBuf> {
    let has_server = |folder: &PathBuf| folder.join("postgres").is_file() && folder.join("initdb").is_file();
    let version = |folder: &PathBuf| folder.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    let packaged = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|it| it.path().join("bin"));
    let newest = packaged.filter(has_server).max_by_key(version);
    newest.or_else(|| std::env::split_paths(&std::env::var_os("PATH")?).find(has_server))
}

/// The package's own account when this process runs as root; else none is needed.
fn unprivileged() -> Result<Option<User>, ServerError> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd")?;
    let fields = accounts
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|it| it.first() == Some(&"postgres"));
    let number = |at: usize| {
        fields
            .as_ref()
            .and_then(|it| it.get(at))
            .and_then(|it| it.parse().ok())
    };
    match (number(2), number(3)) {
        (Some(uid), Some(gid)) => Ok(Some(User { uid, gid })),
        _ => Err(ServerError::NotInstalled("the account postgres")),
    }
}

/// A data folder as `initdb` makes it, kept in the build folder for the next call.
fn template(programs: &Path, user: Option<User>) -> Result<PathBuf, ServerError> {
    let version = programs
        .parent()
        .and_then(Path::file_name)
        .map_or_else(|| "any".into(), |it| it.to_string_lossy().into_owned());
    let exe = std::env::current_exe()?;
    let built = exe
        .ancestors()
        .find(|it| it.file_name().is_some_and(|name| name == "target"))
        .map(Path::to_owned);
    let template = built
        .unwrap_or_else(std::env::temp_dir)
        .join(format!("stagedoor-postgres-{version}"));
    if let Ok(made) = fs::symlink_metadata(&template) {
        // A template that another account put into a shared folder could carry code to run.
        if made.is_dir() && made.uid() == fs::metadata("/proc/self")?.uid() {
            return Ok(template);
        }
        return Err(ServerError::DidNotStart {
            server: NAME,
            log: format!("{} belongs to another account", template.display()),
        });
    }
    let folder = temp_folder("postgres-new")?;
    let mut command = Command::new(programs.join("initdb"));
    command.args([
        "--no-sync",
        "--no-locale",
        "--encoding=UTF8",
        "--wal-segsize=4",
        "--username=postgres",
        "--auth=trust",
        "-D",
    ]);
    command
        .arg(folder.path().join("data"))
        .current_dir(folder.path())
        .stdin(Stdio::null());
    if let Some(user) = user {
        chown(folder.path(), Some(user.uid), Some(user.gid))?;
        command.uid(user.uid).gid(user.gid);
    }
    let made = command.output()?;
    if !made.status.success() {
        return Err(ServerError::DidNotStart {
            server: NAME,
            log: String::from_utf8_lossy(&made.stderr).into_owned(),
        });
    }
    let data = folder.path().join("data");
    fs::write(data.join("pg_hba.conf"), SIGN_IN)?;
    fs::write(data.join("postgresql.auto.conf"), SETTINGS)?;
    // Another process may make the template at the same time; the loser of the rename keeps the winner's.
    let staging = template.with_extension(std::process::id().to_string());
    copy(&data, &staging, None)?;
    if fs::rename(&staging, &template).is_err() {
        fs::remove_dir_all(&staging)?;
    }
    Ok(template)
}

fn copy(from: &Path, to: &Path, owner: Option<User>) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target, owner)?;
        } else {
            fs::copy(entry.path(), &target)?;
            if let Some(User { uid, gid }) = owner {
                chown(&target, Some(uid), Some(gid))?;
            }
        }
    }
    owner.map_or(Ok(()), |User { uid, gid }| chown(to, Some(uid), Some(gid)))
}

/// The process ids of the direct children of `parent`.
fn children(parent: u32) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|it| it.parse::<u32>().ok()) else {
            continue;
        };
        // The fourth field, after the program's name in brackets (proc(5)). A process may end between the two
        // reads.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let of = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if of == Some(parent) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Waits, up to [`START_TIMEOUT`], until killed processes that are not our own children are gone.
fn await_end(pids: &[u32]) {
    let polls = START_TIMEOUT.as_millis() / POLL_INTERVAL.as_millis();
    for _ in 0..polls {
        if pids
            .iter()
            .all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        {
            return;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn rows(server: &Postgres) -> Result<i64, sqlx::Error> {
        let mut db = PgConnection::connect(&server.url("tried")).await?;
        sqlx::query_scalar("SELECT COUNT(*) FROM t")
            .fetch_one(&mut db)
            .await
    }

    #[tokio::test]
    async fn committed_rows_survive_sigkill() {
        let mut server = Postgres::start().await.unwrap();
        server.create_database("tried").await.unwrap();
        server
            .run("tried", "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)")
            .await
            .unwrap();
        let mut open = PgConnection::connect(&server.url("tried")).await.unwrap();
        let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut open)
            .await
            .unwrap();
        server.kill9().unwrap();
        assert!(rows(&server).await.is_err(), "the server is down");
        assert!(
            !Path::new(&format!("/proc/{backend}")).exists(),
            "its backends are down"
        );
        server.restart().await.unwrap();
        assert_eq!(rows(&server).await.unwrap(), 2);
        let folder = server.folder.path().to_owned();
        drop(server);
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn a_database_name_cannot_carry_sql() {
        let server = Postgres::start().await.unwrap();
        let tried = server.create_database("a; DROP DATABASE postgres").await;
        assert!(matches!(tried, Err(ServerError::Rejected { .. })));
    }
}
