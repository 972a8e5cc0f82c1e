//! Child processes in temporary folders, stopped and removed together with their owner.

use std::{
    fs::{self, File},
    io,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tempfile::TempDir;

/// How long a server may take to start or to stop.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The interval between two checks whether a server has started or stopped.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A fresh temporary folder named `stagedoor-{name}-…`; it is removed on drop.
///
/// # Errors
/// The system's temporary directory is not writable.
pub fn temp_folder(name: &str) -> io::Result<TempDir> {
    tempfile::Builder::new()
        .prefix(&format!("stagedoor-{name}-"))
        .tempdir()
}

/// The ports that [`free_port`] hands out: below those that Linux gives to outgoing connections and to
/// listeners on port 0 (`net.ipv4.ip_local_port_range`, from 32768), so that no such socket takes a port
/// between its choice and its use.
const PORTS: std::ops::Range<u16> = 16_000..32_000;

/// The locked files of the ports that this process has taken; the system unlocks them when it ends.
static TAKEN: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 on which nothing listens. No other caller gets it while this process lives.
///
/// # Errors
/// No port is free, or the system's temporary directory is not writable.
pub fn free_port() -> io::Result<u16> {
    let folder = std::env::temp_dir().join("stagedoor-ports");
    fs::create_dir_all(&folder)?;
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Processes begin at different ports, so that a search is short.
    let first = process::id().wrapping_mul(61) % u32::from(PORTS.end - PORTS.start);
    let start = PORTS.start + u16::try_from(first).unwrap_or(0);
    for port in (start..PORTS.end).chain(PORTS.start..start) {
        let file = File::create(folder.join(port.to_string()))?;
        if file.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            taken.push(file);
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free"))
}

/// Sends a signal by name. A process that has ended already is not an error.
pub(crate) fn signal(name: &str, pids: &[u32]) -> io::Result<()> {
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

/// A server's process, and a watchdog shell that stops the server and removes its folder if this process dies
/// first.
///
/// The watchdog reads from a pipe whose only writer is this process. The pipe closes even when this process
/// is killed with SIGKILL, so no server outlives a crashed test run.
pub(crate) struct Process {
    child: Child,
    watchdog: Child,
}

/// `$1` is the stop signal, `$2` the server's process id, `$3` its folder.
const WATCHDOG: &str = r#"read -r _
kill -"$1" "$2" 2>/dev/null
n=0
while [ $n -lt 100 ] && kill -0 "$2" 2>/dev/null; do sleep 0.1; n=$((n + 1)); done
rm -rf "$3""#;

impl Process {
    /// Starts `command`; `stop_signal` is the signal that stops it.
    pub(crate) fn start(command: &mut Command, stop_signal: &str, folder: &Path) -> io::Result<Self> {
        // A process group of its own keeps a Ctrl-C in the terminal from stopping the server before the tests
        // end.
        let mut child = command.process_group(0).stdin(Stdio::null()).spawn()?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog", stop_signal])
            .arg(child.id().to_string())
            .arg(folder)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match watchdog {
            Ok(watchdog) => Ok(Self { child, watchdog }),
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(e)
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, once the process has ended.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits until a process that was signalled has ended; kills it after [`START_TIMEOUT`].
    pub(crate) fn wait(mut self) {
        let polls = START_TIMEOUT.as_millis() / POLL_INTERVAL.as_millis();
        let ended = (0..polls).any(|_| {
            let ended = !matches!(self.child.try_wait(), Ok(None));
            if !ended {
                std::thread::sleep(POLL_INTERVAL);
            }
            ended
        });
        if !ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        // The watchdog must outlive the server: until here it covers the death of this process.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
    }
}
