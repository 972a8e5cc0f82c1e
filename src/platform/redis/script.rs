//! Lua scripts guarded by an epoch, and calls of them.

use redis::{Arg, Cmd, ToRedisArgs};

/// Prepended to each guarded script. Compares the epoch (last argument) with the ready key (last key) and
/// removes both, so that the script sees only its own keys and arguments, and the epoch as `EPOCH`. It adds
/// no line break: line numbers in error messages stay those of the script's file.
const GUARD: &str = "local EPOCH=ARGV[#ARGV] \
                     if redis.call('GET',KEYS[#KEYS])~=EPOCH then \
                     return redis.error_reply('REBUILDING not this epoch') end \
                     KEYS[#KEYS]=nil ARGV[#ARGV]=nil ";

/// A Lua script that runs atomically, and only while the server's data are complete and of the caller's
/// epoch.
pub struct Script {
    name: &'static str,
    source: String,
    sha: String,
}

impl Script {
    /// A guarded script. `source` is the content of the script's file; `name` is for error messages and
    /// metrics.
    #[must_use]
    pub fn new(name: &'static str, source: &str) -> Self {
        Self::unguarded(name, &format!("{GUARD}{source}"))
    }

    /// A script that runs whatever the state of the data: for rebuilding them.
    #[must_use]
    pub fn unguarded(name: &'static str, source: &str) -> Self {
        Self {
            name,
            source: source.to_owned(),
            sha: redis::Script::new(source).get_hash().to_owned(),
        }
    }

    /// For error messages and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn load(&self) -> Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("LOAD").arg(&self.source);
        cmd
    }
}

/// The keys and arguments of one call.
#[derive(Clone, Default)]
pub struct Call {
    keys: Cmd,
    args: Cmd,
}

impl Call {
    /// A call without keys and arguments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a key.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.keys.arg(key.as_ref());
        self
    }

    /// Appends the arguments of another call.
    #[must_use]
    pub fn append_args(mut self, other: &Self) -> Self {
        simple_args(&other.args).for_each(|arg| {
            self.args.arg(arg);
        });
        self
    }

    /// Appends an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.args.arg(arg);
        self
    }

    /// The `EVALSHA` command; `guard` is the ready key and the epoch of a guarded script.
    pub(super) fn to_command(&self, script: &Script, guard: Option<(&str, u64)>) -> Cmd {
        let mut cmd = Cmd::with_capacity(
            8 + self.keys.args_iter().len() + self.args.args_iter().len(),
            1_024,
        );
        cmd.arg("EVALSHA")
            .arg(&script.sha)
            .arg(self.keys.args_iter().len() + usize::from(guard.is_some()));
        simple_args(&self.keys)
            .chain(guard.iter().map(|(ready_key, _)| ready_key.as_bytes()))
            .chain(simple_args(&self.args))
            .for_each(|arg| {
                cmd.arg(arg);
            });
        if let Some((_, epoch)) = guard {
            cmd.arg(epoch);
        }
        cmd
    }
}

fn simple_args(cmd: &Cmd) -> impl Iterator<Item = &[u8]> {
    cmd.args_iter().filter_map(|arg| {
        if let Arg::Simple(bytes) = arg {
            Some(bytes)
        } else {
            None
        }
    })
}
