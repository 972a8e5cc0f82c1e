//! Processes that a measurement starts from its own binary: a house, a floor, a gateway. Each ends with its owner.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use stagedoor::kernel::{Entropy, OsEntropy};

use crate::wire::{Ask, Wire};

/// A folder that goes with its owner, unless it is to be kept.
pub struct Folder {
    pub path: PathBuf,
    keep: bool,
}

impl Folder {
    pub fn fresh() -> anyhow::Result<Self> {
        let path =
            std::env::temp_dir().join(format!("stagedoor-loadtest-{:016x}", OsEntropy.below(u64::MAX)));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, keep: false })
    }

    /// One that stays.
    pub fn kept(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            keep: true,
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A child of this process, running another command of the same binary.
pub struct Process {
    child: Child,
    name: &'static str,
}

impl Process {
    /// Starts `loadtest ARGS`, on these cores only where they are named.
    ///
    /// The child holds our end of its standard input open, and ends when that closes: even when we are killed.
    pub fn start(name: &'static str, args: &[&str], cores: Option<&str>) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot find this binary")?;
        let mut command = match cores {
            Some(cores) => {
                let mut pinned = Command::new("taskset");
                pinned.args(["-c", cores]).arg(own);
                pinned
            }
            None => Command::new(own),
        };
        let child = command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(format!("{} ended: {status}", self.name)),
            Err(e) => Some(format!("{}: {e}", self.name)),
        }
    }

    /// Waits until `GET path` is answered there, but not with 503.
    pub async fn until_ready(&mut self, wire: &Wire, path: &str) -> anyhow::Result<()> {
        for _ in 0..2_400 {
            let ask = Ask {
                method: "GET",
                path,
                headers: &[],
                body: None,
            };
            if wire.ask(&ask).await.is_ok_and(|answer| answer.status != 503) {
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

/// Ends this process when its standard input closes: its owner is gone.
pub fn end_with_owner() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
}

/// Memory that a process has in use and CPU time that it has used, as Linux says (proc(5)).
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub rss_kib: u64,
    pub cpu: Duration,
}

impl Usage {
    /// `None` when the process is gone, or this is no Linux.
    pub fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let rss_kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?
            .split_whitespace()
            .next()?
            .parse()
            .ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        // utime and stime, in hundredths of a second.
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Self {
            rss_kib,
            cpu: Duration::from_millis(ticks * 10),
        })
    }
}

/// A port that nobody listens on at this moment.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// What the figures were measured on, in one line.
pub fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|rest| rest.split_once(':'))
        .map_or("unknown CPU", |it| it.1.trim());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = memory
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let build = if cfg!(debug_assertions) {
        "debug build"
    } else {
        "release build"
    };
    format!(
        "{model}, {cores} cores, {} GiB, Linux {}, {build}",
        kib >> 20,
        kernel.trim()
    )
}
