//! Real servers for tests, benches and rehearsals: each in a temporary folder, on a free port of this machine, ended by
//! its process id, and gone with its owner, however the owner ends.

mod nginx;
mod postgres;
mod redis;

use std::{
    fs, io,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

pub use self::nginx::Nginx;
pub use self::postgres::Postgres;
pub use self::redis::{Door, RedisCluster, RedisSentinel, RedisSentinels, RedisServer};

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{0} is not installed here")]
    NotInstalled(&'static str),
    #[error("{server} did not start: {log}")]
    DidNotStart { server: &'static str, log: String },
    #[error("{server} refused a command: {what}")]
    Refused { server: &'static str, what: String },
    #[error("a server's process or folder: {0}")]
    Io(#[from] io::Error),
}

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> io::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        loop {
            let n = MADE.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("stagedoor-{name}-{}-{n}", std::process::id()));
            match fs::create_dir(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self(path)),
            }
        }
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port that nobody listens on at this moment; somebody may before it is used, so starting is tried again on another.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Sends a signal by name. A process that has ended already has nothing against it.
fn signal(name: &str, pids: &[u32]) -> io::Result<()> {
    if pids.is_empty() {
        return Ok(());
    }
    let pids = pids.iter().map(u32::to_string);
    Command::new("kill")
        .arg(format!("-{name}"))
        .args(pids)
        .stderr(Stdio::null())
        .status()
        .map(|_| ())
}

/// A server's process, and beside it a shell that ends it and removes its folder should this process die first.
///
/// The shell waits on a pipe of which only this process holds the other end: it closes even when this process is killed.
struct Process {
    child: Child,
    watch: Child,
}

const WATCH: &str = r#"read -r _
kill -"$1" "$2" 2>/dev/null
n=0
while [ $n -lt 100 ] && kill -0 "$2" 2>/dev/null; do sleep 0.1; n=$((n + 1)); done
rm -rf "$3""#;

impl Process {
    /// Starts `command`, to be ended by the signal of this name.
    fn start(command: &mut Command, end_by: &str, folder: &Path) -> io::Result<Self> {
        let mut child = command.process_group(0).stdin(Stdio::null()).spawn()?;
        let watch = Command::new("sh")
            .args(["-c", WATCH, "watch", end_by])
            .arg(child.id().to_string())
            .arg(folder)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match watch {
            Ok(watch) => Ok(Self { child, watch }),
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(e)
            }
        }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until it has ended, which somebody has asked it to; kills it when it does not.
    fn wait(mut self) {
        let looks = PATIENCE.as_millis() / LOOK_EVERY.as_millis();
        let ended = (0..looks).any(|_| {
            let ended = !matches!(self.child.try_wait(), Ok(None));
            if !ended {
                std::thread::sleep(LOOK_EVERY);
            }
            ended
        });
        if !ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        // Not before: until here it stands in for this process.
        let _ = self.watch.kill();
        let _ = self.watch.wait();
    }
}
