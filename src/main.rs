//! The `stagedoor` binary. Its commands are in `cli/`, one file a command.

mod cli;

use std::process::ExitCode;

use clap::Parser;

// The default allocator fragments under many short-lived buffers of different threads; mimalloc keeps
// resident memory flat through a rush.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("stagedoor: {e:#}");
            ExitCode::FAILURE
        }
    }
}
