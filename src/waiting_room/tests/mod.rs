//! The room as a whole.

mod backpressure;
mod call_notices;
mod closing;
mod command_values;
mod commands;
mod draw;
mod lagging_store;
mod milestones;
mod nodes;
mod room;
mod simulation;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    kernel::{Entropy, OsEntropy, SaleId},
    platform::shutdown::Lifecycle,
    waiting_room::journal::sqlite::SqliteJournal,
};

/// Opens a journal in a file.
pub(super) async fn open_journal(file: &Path, sale: &SaleId) -> Arc<SqliteJournal> {
    let lifecycle = Lifecycle::new();
    let journal = SqliteJournal::open(file, sale.clone(), &lifecycle).await;
    Arc::new(journal.unwrap())
}

/// A folder that goes with the test.
pub(super) struct TempDir(PathBuf);

impl TempDir {
    pub(super) fn new() -> Self {
        let mut name = [0; 8];
        OsEntropy.fill(&mut name);
        let dir = std::env::temp_dir().join(format!("stagedoor-{:016x}", u64::from_le_bytes(name)));
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
