//! The data directory: creates it, locks it against other processes, and keeps secrets in it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::{
    app::{created_files, roles::Roles},
    kernel::Entropy,
    ops::config::Settings,
    platform::{
        private_file::{open_private, write_private},
        signing::base64url,
    },
};

/// Creates the data directory, readable by its owner only, because its databases hold personal data.
pub(super) fn create(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    created.with_context(|| format!("cannot create the data directory {}", dir.display()))
}

/// Locks the directory's setup: one process at a time creates missing files, the others wait and then use
/// them. Released when dropped.
pub(super) async fn setup_lock(dir: &Path) -> anyhow::Result<fs::File> {
    let lock = lock_file(&dir.join("lock.setup"))?;
    let locking = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock));
    locking
        .await?
        .with_context(|| format!("cannot lock {}", dir.display()))
}

/// Locks the directory for this process until it ends, by whatever cause.
///
/// With the memory store each role may run once: two waiting rooms would have two queues. Nodes that share a
/// Redis store may also share a directory, each under its own node name.
pub(super) fn claim(settings: &Settings, roles: Roles) -> anyhow::Result<()> {
    let dir = &settings.data.dir;
    let node = settings.node_name();
    let mut claims: Vec<(PathBuf, bool)> = roles
        .names()
        .map(|role| (dir.join(format!("lock.{role}")), settings.shares_state()))
        .collect();
    if settings.shares_state() {
        claims.push((dir.join(format!("lock.node.{node}")), false));
    }
    for (file, is_shared) in claims {
        let lock = lock_file(&file)?;
        let taken = if is_shared {
            lock.try_lock_shared()
        } else {
            lock.try_lock()
        };
        if taken.is_err() {
            bail!(
                "another process serves the data directory {}{}",
                dir.display(),
                if is_shared { " alone" } else { "" }
            );
        }
        std::mem::forget(lock);
    }
    Ok(())
}

/// Locks a file until the process ends; `false` when another process holds the lock.
pub(super) fn claim_file(file: &Path) -> anyhow::Result<bool> {
    let lock = lock_file(file)?;
    let is_locked = lock.try_lock().is_ok();
    std::mem::forget(lock);
    Ok(is_locked)
}

/// Reads a secret of 256 bits from its file; creates it on the first start.
pub(super) fn secret_file(file: &Path, entropy: &dyn Entropy) -> anyhow::Result<String> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            if file.parent().is_some_and(created_files::is_recorded) {
                bail!(
                    "{} is missing, and a new one would contradict the others: restore it, or use an empty \
                    directory",
                    file.display()
                );
            }
            let mut bytes = [0; 32];
            entropy.fill(&mut bytes);
            let text = base64url(&bytes);
            write_private(file, text.as_bytes())
                .with_context(|| format!("cannot write {}", file.display()))?;
            Ok(text)
        }
        Err(e) => Err(e).with_context(|| format!("cannot read {}", file.display())),
    }
}

fn lock_file(file: &Path) -> anyhow::Result<fs::File> {
    open_private(file).with_context(|| format!("cannot create {}", file.display()))
}
