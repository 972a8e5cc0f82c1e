//! Files to spare for a listener that must accept when the process has used up its limit of open files.

use std::{fs::File, io};

/// Linux's codes of a limit of open files: the system's and the process's.
const OUT_OF_FILES: [i32; 2] = [23, 24];

/// Open files that can be closed to accept as many connections.
pub(super) struct SpareFiles {
    files: Vec<File>,
    wanted: usize,
}

impl SpareFiles {
    pub(super) fn open(wanted: usize) -> Self {
        let mut spare = Self {
            files: Vec::new(),
            wanted,
        };
        spare.refill();
        spare
    }

    pub(super) fn refill(&mut self) {
        while self.files.len() < self.wanted {
            let Ok(file) = File::open("/dev/null") else {
                return;
            };
            self.files.push(file);
        }
    }

    /// Returns false when there is none left.
    pub(super) fn give_up_one(&mut self) -> bool {
        self.files.pop().is_some()
    }
}

pub(super) fn is_out_of_files(e: &io::Error) -> bool {
    e.raw_os_error().is_some_and(|code| OUT_OF_FILES.contains(&code))
}
