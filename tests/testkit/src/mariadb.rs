//! A MariaDB server, with an empty data folder of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sqlx::{Connection, MySqlConnection};
use tempfile::TempDir;

use crate::{
    error::ServerError,
    process::{POLL_INTERVAL, Process, START_TIMEOUT, free_port, signal, temp_folder},
};

const NAME: &str = "MariaDB";
/// The superuser that `mariadb-install-db` makes: the account that runs it, without a password.
const SUPERUSER: &str = "root";
/// Without it the server refuses to run as root; another account ignores it.
const RUN_AS_ROOT: &str = "--user=root";

/// A running MariaDB server; stopped and removed when dropped.
pub struct MariaDb {
    port: u16,
    process: Option<Process>,
    _folder: TempDir,
}

impl MariaDb {
    /// Starts a new, empty server and waits until it accepts connections.
    ///
    /// # Errors
    /// [`ServerError::NotInstalled`], [`ServerError::DidNotStart`].
    pub async fn start() -> Result<Self, ServerError> {
        let server = program("mariadbd").ok_or(ServerError::NotInstalled(NAME))?;
        let install = program("mariadb-install-db").ok_or(ServerError::NotInstalled(NAME))?;
        let folder = temp_folder("mariadb")?;
        let data = folder.path().join("data");
        let installed = Command::new(install)
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ])
            .arg(RUN_AS_ROOT)
            .arg(format!("--datadir={}", data.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !installed.success() {
            return Err(ServerError::DidNotStart {
                server: NAME,
                log: "mariadb-install-db failed".to_owned(),
            });
        }
        let port = free_port()?;
        let log = folder.path().join("log");
        let mut command = Command::new(server);
        command
            .args([
                "--no-defaults",
                RUN_AS_ROOT,
                "--bind-address=127.0.0.1",
                "--skip-log-bin",
            ])
            .args([
                "--innodb-buffer-pool-size=32M",
                "--innodb-flush-log-at-trx-commit=2",
            ])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", folder.path().join("socket").display()))
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?);
        let process = Process::start(&mut command, "TERM", folder.path())?;
        let mut this = Self {
            port,
            process: Some(process),
            _folder: folder,
        };
        this.wait_until_ready(&log).await?;
        Ok(this)
    }

    /// The URL of one of its databases for an account without a password, or the superuser.
    #[must_use]
    pub fn url(&self, user: &str, database: &str) -> String {
        format!("mysql://{user}@127.0.0.1:{}/{database}", self.port)
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
        let mut db = MySqlConnection::connect(&self.url(SUPERUSER, database))
            .await
            .map_err(rejected)?;
        let ran = sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
            .execute(&mut db)
            .await;
        let _ = db.close().await;
        ran.map(|_| ()).map_err(rejected)
    }

    async fn wait_until_ready(&mut self, log: &Path) -> Result<(), ServerError> {
        let polls = START_TIMEOUT.as_millis() / POLL_INTERVAL.as_millis();
        for _ in 0..polls {
            if let Ok(db) = MySqlConnection::connect(&self.url(SUPERUSER, "mysql")).await {
                let _ = db.close().await;
                return Ok(());
            }
            let has_ended = self
                .process
                .as_mut()
                .is_none_or(|process| !matches!(process.try_wait(), Ok(None)));
            if has_ended {
                break;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Err(ServerError::DidNotStart {
            server: NAME,
            log: fs::read_to_string(log).unwrap_or_default(),
        })
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            let _ = signal("TERM", &[process.pid()]);
            process.wait();
        }
    }
}

/// Servers lie outside an ordinary account's path.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/bin".into()])
        .map(|folder| folder.join(name))
        .find(|program| program.exists())
}
