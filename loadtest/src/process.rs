//! Child processes of a measurement, their memory and CPU time, and the machine's description.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use tempfile::TempDir;
pub use testkit::process::free_port;

use crate::http1::{Http1Client, HttpRequest};

/// The data folder of a server: temporary, or kept after the run.
pub struct DataFolder {
    /// Where the folder is.
    pub path: PathBuf,
    _temporary: Option<TempDir>,
}

impl DataFolder {
    /// A folder that is removed on drop.
    ///
    /// # Errors
    /// The temporary directory is not writable.
    pub fn temporary() -> anyhow::Result<Self> {
        let folder = testkit::process::temp_folder("loadtest").context("cannot make a temporary folder")?;
        Ok(Self {
            path: folder.path().to_owned(),
            _temporary: Some(folder),
        })
    }

    /// A folder that stays; it is made if it does not exist.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn kept(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            _temporary: None,
        })
    }
}

/// This build of `loadtest`.
///
/// # Errors
/// The system does not say where it is.
pub fn own_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find this binary")
}

/// A child process that runs another command of this binary. It is killed on drop.
pub struct Process {
    child: Child,
    name: &'static str,
}

impl Process {
    /// Starts `loadtest ARGS`, on the named CPU cores only where `cores` names some.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start(name: &'static str, args: &[&str], cores: Option<&str>) -> anyhow::Result<Self> {
        Self::start_program(&own_program()?, name, args, cores)
    }

    /// Starts `PROGRAM ARGS`, where the program is a build of `loadtest`.
    ///
    /// The child watches its standard input, whose other end this process holds, and ends when it closes. So
    /// it ends with its owner even when the owner is killed (see [`exit_with_owner`]).
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start_program(
        program: &Path,
        name: &'static str,
        args: &[&str],
        cores: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut command = match cores {
            Some(cores) => {
                let mut pinned = Command::new("taskset");
                pinned.args(["-c", cores]).arg(program);
                pinned
            }
            None => Command::new(program),
        };
        let child = command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it has.
    pub fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("{} ended: {status}", self.name)),
            Err(e) => Some(format!("{}: {e}", self.name)),
        }
    }

    /// Waits until `GET path` is answered with another status than 503.
    ///
    /// # Errors
    /// The process ended, or is not ready after two minutes.
    pub async fn wait_until_ready(&mut self, client: &Http1Client, path: &str) -> anyhow::Result<()> {
        for _ in 0..2_400 {
            if client
                .send(&HttpRequest::get(path))
                .await
                .is_ok_and(|reply| reply.status != 503)
            {
                return Ok(());
            }
            if let Some(how) = self.ended() {
                bail!(how);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{} does not become ready", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends this process when its standard input closes, which is when its owner is gone.
pub fn exit_with_owner() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
}

/// Memory and CPU time of a process, from Linux's `/proc` (proc(5)).
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Resident memory.
    pub rss_kib: u64,
    /// CPU time since the process started.
    pub cpu: Duration,
}

impl Usage {
    /// `None` when the process is gone, or this is not Linux.
    pub fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        // utime and stime, in hundredths of a second.
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Self {
            rss_kib: kib_field(&status, "VmRSS:")?,
            cpu: Duration::from_millis(ticks * 10),
        })
    }
}

/// The value of a field such as `VmRSS:  1234 kB`.
pub fn kib_field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// The machine and the build that figures are measured on, in one line.
pub fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|rest| rest.split_once(':'))
        .map_or("unknown CPU", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let gib = kib_field(&memory, "MemTotal:").unwrap_or(0) >> 20;
    let build = if cfg!(debug_assertions) {
        "debug build"
    } else {
        "release build"
    };
    format!(
        "{model}, {cores} cores, {gib} GiB, Linux {}, {build}",
        kernel.trim()
    )
}
