//! The `stagedoor` binary. All code is in the library, so that nothing is compiled twice.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use stagedoor::cli;

// The default allocator fragments under many short-lived buffers of different threads; mimalloc keeps
// resident memory flat through a rush.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Unlike `eprintln`, this does not panic when standard error is a file on a full disk.
            let _ = writeln!(std::io::stderr(), "stagedoor: {e:#}");
            ExitCode::FAILURE
        }
    }
}
