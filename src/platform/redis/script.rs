//! A script, and a call of it.

use redis::{Arg, Cmd, ToRedisArgs};

/// Checks the epoch and takes it off, so that a script sees only its own keys and arguments; `EPOCH` is what it may know
/// of it. It stands on the script's first line: line numbers in errors stay those of the file.
const GUARD: &str = "local EPOCH=ARGV[#ARGV] \
                     if redis.call('GET',KEYS[#KEYS])~=EPOCH then return redis.error_reply('REBUILDING not this epoch') end \
                     KEYS[#KEYS]=nil ARGV[#ARGV]=nil ";

/// A Lua script that runs in one atomic step, and only while the server's data are complete and of the caller's epoch.
pub struct Script {
    name: &'static str,
    source: String,
    sha: String,
}

impl Script {
    /// `source` is the script's file; `name` is for errors.
    #[must_use]
    pub fn new(name: &'static str, source: &str) -> Self {
        Self::unguarded(name, &format!("{GUARD}{source}"))
    }

    /// One that runs in whatever state the data are: for rebuilding them.
    #[must_use]
    pub fn unguarded(name: &'static str, source: &str) -> Self {
        Self {
            name,
            source: source.to_owned(),
            sha: redis::Script::new(source).get_hash().to_owned(),
        }
    }

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

/// Keys and arguments of one call.
#[derive(Clone, Default)]
pub struct Call {
    keys: Cmd,
    args: Cmd,
}

impl Call {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.keys.arg(key.as_ref());
        self
    }

    /// The other's arguments behind its own.
    #[must_use]
    pub fn args_of(mut self, other: &Self) -> Self {
        simple(&other.args).for_each(|arg| {
            self.args.arg(arg);
        });
        self
    }

    #[must_use]
    pub fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.args.arg(arg);
        self
    }

    /// Of the script, under this epoch if it is guarded by one.
    pub(super) fn of(&self, script: &Script, guard: Option<(&str, u64)>) -> Cmd {
        let mut cmd = Cmd::with_capacity(
            8 + self.keys.args_iter().len() + self.args.args_iter().len(),
            1_024,
        );
        cmd.arg("EVALSHA")
            .arg(&script.sha)
            .arg(self.keys.args_iter().len() + usize::from(guard.is_some()));
        simple(&self.keys)
            .chain(guard.iter().map(|it| it.0.as_bytes()))
            .chain(simple(&self.args))
            .for_each(|arg| {
                cmd.arg(arg);
            });
        if let Some((_, epoch)) = guard {
            cmd.arg(epoch);
        }
        cmd
    }
}

fn simple(cmd: &Cmd) -> impl Iterator<Item = &[u8]> {
    cmd.args_iter().filter_map(|arg| {
        if let Arg::Simple(bytes) = arg {
            Some(bytes)
        } else {
            None
        }
    })
}
