//! A script, and a call of it.

use redis::{Cmd, ToRedisArgs};

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
        Self { name, source: source.to_owned(), sha: redis::Script::new(source).get_hash().to_owned() }
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

    pub(super) fn sha(&self) -> &str {
        &self.sha
    }
}

/// Keys and arguments of one call.
#[derive(Clone, Debug, Default)]
pub struct Call {
    pub(super) keys: Vec<Vec<u8>>,
    pub(super) args: Vec<Vec<u8>>,
}

impl Call {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.keys.push(key.as_ref().to_vec());
        self
    }

    /// The other's arguments behind its own.
    #[must_use]
    pub fn args_of(mut self, other: Self) -> Self {
        self.args.extend(other.args);
        self
    }

    #[must_use]
    pub fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.args.extend(arg.to_redis_args());
        self
    }
}
