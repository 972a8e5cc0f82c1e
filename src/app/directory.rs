//! The data directory: private, and served by those processes only that may share it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::Roles;
use crate::{
    kernel::Entropy,
    ops::config::Settings,
    platform::{keys::write_private, signing::base64url},
};

/// The books name customers and orders: only the house's own user reads them.
pub(super) fn create(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make the data directory {}", dir.display()))
}

/// One process at a time makes what is missing in a directory; the others wait and find it. Ends when dropped.
pub(super) async fn setup_lock(dir: &Path) -> anyhow::Result<fs::File> {
    let lock = lock_file(&dir.join("lock.setup"))?;
    let waiting = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock));
    waiting
        .await?
        .with_context(|| format!("cannot lock {}", dir.display()))
}

/// Takes the directory for this process, until it ends, whatever way it ends.
///
/// With the memory engine a role is served once: two waiting rooms would each believe in a queue of their own. Nodes that
/// share their engine may share a directory too, each under its own name.
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

/// Takes what this file stands for until the process ends; `false` when another process has it.
pub(super) fn claim_file(file: &Path) -> anyhow::Result<bool> {
    let lock = lock_file(file)?;
    let is_ours = lock.try_lock().is_ok();
    std::mem::forget(lock);
    Ok(is_ours)
}

/// A secret of 256 bits in a file of its own, made once.
pub(super) fn secret_file(file: &Path, entropy: &dyn Entropy) -> anyhow::Result<String> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
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
    fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(file)
        .with_context(|| format!("cannot make {}", file.display()))
}
