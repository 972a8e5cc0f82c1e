//! Running the binary and reading what it writes.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;
use stagedoor::kernel::{Entropy, OsEntropy};

/// An output folder that is removed on drop.
pub(crate) struct Out(pub(crate) PathBuf);

impl Out {
    pub(crate) fn new() -> Self {
        let name = format!("stagedoor-loadtest-test-{:016x}", OsEntropy.below(u64::MAX));
        Self(std::env::temp_dir().join(name))
    }

    pub(crate) fn result(&self) -> Value {
        self.json("result.json")
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.0.join(name)).unwrap()).unwrap()
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `loadtest ARGS --out OUT`.
pub(crate) fn loadtest(args: &[&str], out: &Out) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(args).arg("--out").arg(&out.0);
    command
}

/// Standard output and standard error.
pub(crate) fn printed(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A run of a few seconds.
pub(crate) const SMALL_RUN: [&str; 17] = [
    "run",
    "--fans",
    "300",
    "--within",
    "4",
    "--seats",
    "120",
    "--active-visits-max",
    "80",
    "--admission-rate",
    "6000",
    "--hold-ttl",
    "10",
    "--pace",
    "0.02",
    "--open-in",
    "3",
];
