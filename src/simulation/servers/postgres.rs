//! A PostgreSQL server: its data folder is copied from one that is made once per build folder, because making one takes
//! ten times as long as starting on it.

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

use super::{Folder, LOOK_EVERY, PATIENCE, Process, ServerError, free_port, signal};

const NAME: &str = "PostgreSQL";
const STARTS_MAX: u32 = 40;

/// Signs in whoever comes from this machine, but asks the one role for its password, if a test makes it.
const SIGN_IN: &str = "\
host all guarded 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
";

/// Commits are flushed as in production; the rest is sized for many small servers beside each other.
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

/// A running server; ended and removed when dropped.
pub struct Postgres {
    program: PathBuf,
    port: u16,
    process: Option<Process>,
    folder: Folder,
}

/// Whom the server runs as: it refuses the superuser.
#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Starts a new, empty server and waits until it accepts.
    ///
    /// # Errors
    /// [`ServerError`]: it is not installed, or did not start.
    pub async fn start() -> Result<Self, ServerError> {
        let program = programs().ok_or(ServerError::NotInstalled(NAME))?;
        let user = unprivileged()?;
        let template = template(&program, user)?;
        let folder = Folder::new("postgres")?;
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
        server.bring_up(true).await?;
        Ok(server)
    }

    /// Where a database of it is.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes an empty database and tells where it is.
    ///
    /// # Errors
    /// [`ServerError::Refused`].
    pub async fn create_database(&self, name: &str) -> Result<String, ServerError> {
        let named = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !named {
            return Err(ServerError::Refused {
                server: NAME,
                what: format!("{name} is no name of a database"),
            });
        }
        self.run("postgres", &format!("CREATE DATABASE {name}")).await?;
        Ok(self.url(name))
    }

    /// Runs statements in a database, as its superuser.
    ///
    /// # Errors
    /// [`ServerError::Refused`], with what the server said.
    pub async fn run(&self, database: &str, statements: &str) -> Result<(), ServerError> {
        let refused = |e: sqlx::Error| ServerError::Refused {
            server: NAME,
            what: e.to_string(),
        };
        let mut db = PgConnection::connect(&self.url(database))
            .await
            .map_err(refused)?;
        let ran = sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
            .execute(&mut db)
            .await;
        let _ = db.close().await;
        ran.map(|_| ()).map_err(refused)
    }

    /// What it has logged since it was last started.
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn logged(&self) -> Result<String, ServerError> {
        Ok(fs::read_to_string(self.log())?)
    }

    /// Kills every process of it at once, as a power cut does, less the disk's own memory.
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn kill9(&mut self) -> Result<(), ServerError> {
        let Some(process) = self.process.take() else {
            return Ok(());
        };
        let backends = children(process.pid())?;
        // The first process first: it would answer a backend's death by ending the others in its own way.
        signal("KILL", &[process.pid()])?;
        signal("KILL", &backends)?;
        process.wait();
        await_end(&backends);
        Ok(())
    }

    /// Stops every process of it without ending any: connections stay and nobody answers.
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn freeze(&self) -> Result<(), ServerError> {
        self.signal_all("STOP")
    }

    /// Lets it go on after [`Postgres::freeze`].
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn thaw(&self) -> Result<(), ServerError> {
        self.signal_all("CONT")
    }

    fn signal_all(&self, name: &str) -> Result<(), ServerError> {
        let Some(process) = &self.process else {
            return Ok(());
        };
        // The first process first: it starts no others then.
        signal(name, &[process.pid()])?;
        Ok(signal(name, &children(process.pid())?)?)
    }

    /// Ends it at once, as `pg_ctl -m immediate` does: it recovers when it starts again.
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub fn stop_immediate(&mut self) -> Result<(), ServerError> {
        self.thaw()?;
        let Some(process) = self.process.take() else {
            return Ok(());
        };
        signal("QUIT", &[process.pid()])?;
        process.wait();
        Ok(())
    }

    /// Starts it again on the same data and port, ending it first when it runs.
    ///
    /// # Errors
    /// [`ServerError::DidNotStart`].
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.stop_immediate()?;
        self.bring_up(false).await
    }

    /// After a kill the first starts may be refused: backends that have not gone yet hold the folder.
    async fn bring_up(&mut self, may_move: bool) -> Result<(), ServerError> {
        for _ in 0..STARTS_MAX {
            if may_move {
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
            if self.accepts(&mut process).await? {
                self.process = Some(process);
                return Ok(());
            }
            signal("QUIT", &[process.pid()])?;
            process.wait();
            tokio::time::sleep(LOOK_EVERY * 10).await;
        }
        Err(ServerError::DidNotStart {
            server: NAME,
            log: fs::read_to_string(self.log()).unwrap_or_default(),
        })
    }

    /// Whether it came to accept connections; not when it ended instead.
    async fn accepts(&self, process: &mut Process) -> Result<bool, ServerError> {
        let url = self.url("postgres");
        let accepted = tokio::time::timeout(PATIENCE, async {
            loop {
                if process.ended()?.is_some() {
                    return Ok(false);
                }
                if let Ok(db) = PgConnection::connect(&url).await {
                    let _ = db.close().await;
                    return Ok(true);
                }
                tokio::time::sleep(LOOK_EVERY).await;
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
        let _ = self.stop_immediate();
    }
}

/// The folder of the newest installed server's programs.
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

/// The account that the server's package brings, when this process is the superuser's; else none is needed.
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

/// A data folder as `initdb` makes it, kept for the next one to ask.
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
    let kept = built
        .unwrap_or_else(std::env::temp_dir)
        .join(format!("stagedoor-postgres-{version}"));
    if let Ok(made) = fs::symlink_metadata(&kept) {
        // What somebody else has put in a folder for everybody would be run.
        if made.is_dir() && made.uid() == fs::metadata("/proc/self")?.uid() {
            return Ok(kept);
        }
        return Err(ServerError::DidNotStart {
            server: NAME,
            log: format!("{} is not ours", kept.display()),
        });
    }
    let folder = Folder::new("postgres-new")?;
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
    // Another process may make it at the same time: whoever comes second keeps the first one's.
    let beside = kept.with_extension(std::process::id().to_string());
    copy(&data, &beside, None)?;
    if fs::rename(&beside, &kept).is_err() {
        fs::remove_dir_all(&beside)?;
    }
    Ok(kept)
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

/// The processes whose parent this is.
fn children(parent: u32) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|it| it.parse::<u32>().ok()) else {
            continue;
        };
        // The fourth field, after the program's name in brackets; a process that has gone meanwhile is no child.
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

/// Waits, as long as is sensible, until killed processes that are not this one's children are gone.
fn await_end(pids: &[u32]) {
    let looks = PATIENCE.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        if pids
            .iter()
            .all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
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
    async fn what_was_committed_outlives_a_kill() {
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
        assert!(rows(&server).await.is_err(), "it is gone");
        assert!(
            !Path::new(&format!("/proc/{backend}")).exists(),
            "and so are its backends"
        );
        server.restart().await.unwrap();
        assert_eq!(rows(&server).await.unwrap(), 2);
        let folder = server.folder.path().to_owned();
        drop(server);
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn a_name_is_not_sql() {
        let server = Postgres::start().await.unwrap();
        let tried = server.create_database("a; DROP DATABASE postgres").await;
        assert!(matches!(tried, Err(ServerError::Refused { .. })));
    }
}
