//! What an installation has created is never created anew.
//!
//! A file that is missing beside the others was lost, and an empty one in its place would contradict them:
//! with new keys no sold ticket is genuine, with a new ledger every sold seat is free. So the data directory
//! records the files it was given, and a process does not start while one of them is missing.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::{
    ops::config::{DatabaseLocation, Settings},
    platform::private_file::write_private,
};

const RECORD_FILE: &str = "created.json";
const KEYS_FILE: &str = "keys.json";

/// The key file.
pub(super) fn keys_file(settings: &Settings) -> PathBuf {
    settings.data.dir.join(KEYS_FILE)
}

/// Whether the data directory has been set up completely before.
pub(super) fn is_recorded(data: &Path) -> bool {
    data.join(RECORD_FILE).exists()
}

/// Checks that every file that was created is there.
///
/// # Errors
/// The files that are missing or empty.
pub(super) fn check(settings: &Settings) -> anyhow::Result<()> {
    let data = &settings.data.dir;
    let files = files_of(settings);
    let exists = |file: &PathBuf| fs::metadata(file).is_ok_and(|file| file.len() > 0);
    let mut created = read_record(data)?;
    // The keys are created first of all, whether or not the record is there.
    if files.iter().any(exists) {
        created.insert(name_of(data, &files[0]));
    }
    let missing: Vec<String> = files
        .iter()
        .filter(|file| created.contains(&name_of(data, file)) && !exists(file))
        .map(|file| file.display().to_string())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "missing or empty: {}. This installation has created it before, and a new one would contradict \
        what was sold: restore the backup. To begin anew, use an empty data directory",
        missing.join(", ")
    )
}

/// Records the files that exist now.
pub(super) fn record(settings: &Settings) -> anyhow::Result<()> {
    let data = &settings.data.dir;
    let known = read_record(data)?;
    let mut created = known.clone();
    let existing = files_of(settings).into_iter().filter(|file| file.exists());
    created.extend(existing.map(|file| name_of(data, &file)));
    if created == known {
        return Ok(());
    }
    let file = data.join(RECORD_FILE);
    write_private(&file, &serde_json::to_vec_pretty(&created)?)
        .with_context(|| format!("cannot write {}", file.display()))
}

/// The files that a service with these settings keeps; the first is the one that is created first.
fn files_of(settings: &Settings) -> Vec<PathBuf> {
    let data = &settings.data.dir;
    let mut files = Vec::new();
    if let DatabaseLocation::Sqlite(journal) = settings.journal_database() {
        files.extend([keys_file(settings), journal, data.join("sessions.db")]);
    }
    if let DatabaseLocation::Sqlite(ledger) = settings.ledger_database() {
        files.push(ledger);
    }
    if settings.gateway.url.is_empty() {
        files.push(data.join("gateway.db"));
    }
    files
}

/// How the record names a file: below the directory, if it is there, so that the directory can be moved.
fn name_of(data: &Path, file: &Path) -> String {
    file.strip_prefix(data).unwrap_or(file).display().to_string()
}

fn read_record(data: &Path) -> anyhow::Result<BTreeSet<String>> {
    let file = data.join(RECORD_FILE);
    match fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{} is damaged", file.display())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", file.display())),
    }
}
