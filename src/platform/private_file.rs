//! Files that hold secrets or personal data: only their owner may read them.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Permissions of a private file.
const MODE: u32 = 0o600;

/// Opens a file for writing and creates it if it is missing, readable by its owner only. An existing file
/// keeps its content and its permissions, which its owner may have chosen.
///
/// # Errors
/// The file system's error.
pub fn open_private(file: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(file)
}

/// Writes a file that only its owner can read, atomically: by a temporary file beside it, flushed and
/// renamed.
///
/// # Errors
/// The file system's error.
pub fn write_private(file: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = file.with_extension("new");
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(&unfinished)?;
    out.write_all(content)?;
    out.sync_all()?;
    fs::rename(&unfinished, file)
}
